"""MedGemma on your own machine: findings and SOAP drafts, streamed, checked, and exact to the reference.

Research use; outputs are drafts that need independent verification; not a medical device.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medgemma_app.errors import (
        ContextError,
        InputError,
        MedGemmaError,
        ModelError,
        OptionError,
    )
    from medgemma_app.inputs.images import load_image
    from medgemma_app.inputs.notes import load_notes
    from medgemma_app.model.generation import EndpointError, Generation, GenerationCancelled, GenerationError, Model, Options, Token
    from medgemma_app.model.local import MedGemma
    from medgemma_app.prompts import Prompt
    from medgemma_app.remote import connect
    from medgemma_app.reports import FindingsReport, SoapReport, findings, soap
    from medgemma_app.validate import Issue, Validation, validate_findings, validate_soap

__all__ = [
    "ContextError",
    "EndpointError",
    "FindingsReport",
    "Generation",
    "GenerationCancelled",
    "GenerationError",
    "InputError",
    "Issue",
    "MedGemma",
    "MedGemmaError",
    "Model",
    "ModelError",
    "OptionError",
    "Options",
    "Prompt",
    "SoapReport",
    "Token",
    "Validation",
    "connect",
    "findings",
    "load_image",
    "load_notes",
    "soap",
    "validate_findings",
    "validate_soap",
]

_HOMES = {
    "errors": [
        "ContextError",
        "InputError",
        "MedGemmaError",
        "ModelError",
        "OptionError",
    ],
    "inputs.images": ["load_image"],
    "inputs.notes": ["load_notes"],
    "model.local": ["MedGemma"],
    "model.generation": ["EndpointError", "Generation", "GenerationCancelled", "GenerationError", "Model", "Options", "Token"],
    "prompts": ["Prompt"],
    "remote": ["connect"],
    "reports": ["FindingsReport", "SoapReport", "findings", "soap"],
    "validate": ["Issue", "Validation", "validate_findings", "validate_soap"],
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used: ``medgemma --help`` needs none of them."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
