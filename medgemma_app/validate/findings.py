"""Checks on a radiology report."""

from __future__ import annotations

from medgemma_app.validate.common import (
    Check,
    FinishReason,
    Report,
    Validation,
    duplicate_section,
    empty_section,
    missing_section,
    run,
    section_order,
    special_token,
)
from medgemma_app.validate.ending import truncated
from medgemma_app.validate.loops import repetition
from medgemma_app.validate.refusals import refusal
from medgemma_app.validate.sections import FINDINGS_NAMES, parse
from medgemma_app.validate.wording import foreign_script, gibberish

REQUIRED = ("findings", "impression")
CHECKS: tuple[Check, ...] = (
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


def validate_findings(
    text: str,
    *,
    has_prior: bool = False,
    finish_reason: FinishReason = "stop",
    indication: str | None = None,
    has_thought: bool = False,
) -> Validation:
    """What is wrong with a report of findings and impression; never raises, whatever the text."""
    report = Report(
        text=text,
        parsed=parse(text, FINDINGS_NAMES),
        required=REQUIRED,
        finish_reason=finish_reason,
        has_thought=has_thought,
        has_prior=has_prior,
        indication=indication,
    )
    return run(report, CHECKS)
