"""Checks on a radiology report."""

from __future__ import annotations

import re

from medgemma_app.inputs.header import ImageHeader
from medgemma_app.validate.contradictions import abnormal_and_normal, affirmed_and_denied, great_and_little
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
from medgemma_app.validate.measures import measurement_mismatch, unscaled_measurement
from medgemma_app.validate.overlap import repeated_section
from medgemma_app.validate.priors import invented_prior, missed_comparison
from medgemma_app.validate.refusals import refusal
from medgemma_app.validate.sections import FINDINGS_NAMES, parse
from medgemma_app.validate.sides import contradicting_level, contradicting_side
from medgemma_app.validate.source import PERSON_CHECKS
from medgemma_app.validate.study import wrong_body_part, wrong_laterality, wrong_modality
from medgemma_app.validate.wording import foreign_script, gibberish

REQUIRED = ("findings", "impression")
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
    invented_prior,
    missed_comparison,
    unscaled_measurement,
    measurement_mismatch,
    affirmed_and_denied,
    abnormal_and_normal,
    great_and_little,
    contradicting_side,
    contradicting_level,
    wrong_modality,
    wrong_body_part,
    wrong_laterality,
    *PERSON_CHECKS,
)
_SEX = re.compile(r"\b(?:fe)?male\b", re.IGNORECASE)
_AGE = re.compile(r"\b[0-9]{1,3} years?\b", re.IGNORECASE)


def validate_findings(
    text: str,
    *,
    has_prior: bool = False,
    finish_reason: FinishReason = "stop",
    indication: str | None = None,
    has_thought: bool = False,
    header: ImageHeader | None = None,
) -> Validation:
    """What is wrong with a report of findings and impression; never raises, whatever the text.

    ``header`` is that of the picture, and its pixel spacing says whether there is a scale to measure by; None where nothing is known.
    """
    report = Text(
        text=text,
        sections=parse(text, FINDINGS_NAMES),
        required=REQUIRED,
        finish_reason=finish_reason,
        has_thought=has_thought,
        has_prior=has_prior,
        indication=indication,
        source=_told(header, indication),
        header=header,
    )
    return run(report, FORM, CONTENT)


def _told(header: ImageHeader | None, indication: str | None) -> str | None:
    """What is known of the patient, in words that say which is the sex and which the age."""
    labelled = _AGE.sub(r"age: \g<0>", _SEX.sub(r"sex: \g<0>", (header and header.describe()) or ""))
    return "\n".join(filter(None, (labelled, indication))) or None
