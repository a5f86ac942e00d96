"""MedGemma on your own machine: drafts of findings reports and SOAP notes, streamed, checked, and equal to the reference implementation's.

Research use only. Outputs are drafts that need independent verification. Not a medical device.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # type checkers treat it like typing's; importing typing would take most of this package's import time
if TYPE_CHECKING:
    from typing import Any

    from medgemma_app.errors import ContextError, InputError, MedGemmaError, ModelError, OptionError, OutputError, PromptError
    from medgemma_app.inputs.header import ImageHeader
    from medgemma_app.inputs.images import Scan, Series, load_image
    from medgemma_app.inputs.notes import Notes, load_notes
    from medgemma_app.model.generation import (
        EndpointError,
        Estimate,
        Generation,
        GenerationCancelled,
        GenerationError,
        Model,
        Options,
        Token,
    )
    from medgemma_app.model.local import MedGemma
    from medgemma_app.prompts import Prompt
    from medgemma_app.questions import Box, LocateReport, ask, locate
    from medgemma_app.remote import connect
    from medgemma_app.reports import FindingsReport, SoapReport, findings, findings_many, soap, soap_many
    from medgemma_app.tasks import Report
    from medgemma_app.validate import Issue, Validation, validate_findings, validate_soap

__all__ = [
    "Box", "ContextError", "EndpointError", "Estimate", "FindingsReport", "Generation", "GenerationCancelled", "GenerationError",
    "ImageHeader", "InputError", "Issue", "LocateReport", "MedGemma", "MedGemmaError", "Model", "ModelError", "Notes", "OptionError",
    "Options", "OutputError", "Prompt", "PromptError", "Report", "Scan", "Series", "SoapReport", "Token", "Validation", "ask",
    "connect", "findings", "findings_many", "load_image", "load_notes", "locate", "soap", "soap_many", "validate_findings",
    "validate_soap",
]  # fmt: skip

_HOMES = {
    "errors": ["ContextError", "InputError", "MedGemmaError", "ModelError", "OptionError", "OutputError", "PromptError"],
    "inputs.header": ["ImageHeader"],
    "inputs.images": ["Scan", "Series", "load_image"],
    "inputs.notes": ["Notes", "load_notes"],
    "model.generation": [
        "EndpointError", "Estimate", "Generation", "GenerationCancelled", "GenerationError", "Model", "Options", "Token",
    ],
    "model.local": ["MedGemma"],
    "prompts": ["Prompt"],
    "questions": ["Box", "LocateReport", "ask", "locate"],
    "remote": ["connect"],
    "reports": ["FindingsReport", "SoapReport", "findings", "findings_many", "soap", "soap_many"],
    "tasks": ["Report"],
    "validate": ["Issue", "Validation", "validate_findings", "validate_soap"],
}  # fmt: skip
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used, since ``medgemma --help`` needs none of them."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__


__version__ = "0.2.0"
