"""Checks on a SOAP note."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from medgemma_app.validate.core import (
    Check,
    FinishReason,
    Text,
    Validation,
    duplicate_section,
    empty_section,
    missing_section,
    run,
    section_order,
    special_token,
)
from medgemma_app.validate.ending import truncated
from medgemma_app.validate.language import other_language
from medgemma_app.validate.loops import repetition
from medgemma_app.validate.overlap import repeated_section
from medgemma_app.validate.refusals import refusal
from medgemma_app.validate.sections import SOAP_NAMES, Parsed, from_mapping, parse
from medgemma_app.validate.source import SOURCE_CHECKS
from medgemma_app.validate.wording import foreign_script, gibberish

REQUIRED = ("subjective", "objective", "assessment", "plan")
FORM: tuple[Check, ...] = (
    special_token,
    refusal,
    gibberish,
    repetition,
    truncated,
    missing_section,
    empty_section,
    section_order,
    duplicate_section,
    foreign_script,
)
CONTENT: tuple[Check, ...] = (
    other_language,
    repeated_section,
    *SOURCE_CHECKS,
)


def validate_soap(
    text_or_sections: str | Mapping[str, str],
    *,
    source: str | Sequence[str] | None = None,
    finish_reason: FinishReason = "stop",
    has_thought: bool = False,
) -> Validation:
    """What is wrong with a SOAP note, given whole or as its sections; never raises, whatever the text.

    ``source`` is the text the note was written from, or several of them.
    """
    joined = source if source is None or isinstance(source, str) else "\n\n".join(source)
    text, sections = _read(text_or_sections)
    report = Text(text=text, sections=sections, required=REQUIRED, finish_reason=finish_reason, has_thought=has_thought, source=joined)
    return run(report, FORM, CONTENT)


def _read(text_or_sections: str | Mapping[str, str]) -> tuple[str, Parsed]:
    if isinstance(text_or_sections, str):
        return text_or_sections, parse(text_or_sections, SOAP_NAMES)
    text = "\n\n".join(f"{heading}:\n{body}" for heading, body in text_or_sections.items() if body.strip())
    return text, from_mapping(text_or_sections, SOAP_NAMES)
