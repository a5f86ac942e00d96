"""Text -> issues. Pure functions: no model, no mlx, no file."""

from medgemma_app.validate.common import FinishReason, Issue, Severity, Validation
from medgemma_app.validate.findings import validate_findings
from medgemma_app.validate.sections import parse_findings, parse_soap
from medgemma_app.validate.soap import validate_soap

__all__ = [
    "FinishReason",
    "Issue",
    "Severity",
    "Validation",
    "parse_findings",
    "parse_soap",
    "validate_findings",
    "validate_soap",
]
