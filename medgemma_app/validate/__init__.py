"""Text -> issues. Pure functions: no model, no mlx, no file."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from medgemma_app.validate.core import Issue, Severity, Validation
from medgemma_app.validate.sections import parse_findings, parse_soap

if TYPE_CHECKING:
    from medgemma_app.validate.boxes import validate_boxes
    from medgemma_app.validate.reports import validate_answer, validate_findings, validate_soap

__all__ = [
    "Issue",
    "Severity",
    "Validation",
    "parse_findings",
    "parse_soap",
    "validate_answer",
    "validate_boxes",
    "validate_findings",
    "validate_soap",
]
_HOMES = {"validate_answer": "reports", "validate_boxes": "boxes", "validate_findings": "reports", "validate_soap": "reports"}


def __getattr__(name: str) -> Any:
    """The validators compile some hundred patterns: not before there is a text, since a stream needs only the watch for loops."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
