"""The entry points of the text checks, and the checks of a radiology report against its study."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from medgemma_app.errors import expect
from medgemma_app.inputs.header import ImageHeader
from medgemma_app.model.generation import FinishReason
from medgemma_app.prompts import ReportKind
from medgemma_app.validate import medications, patient, values
from medgemma_app.validate.answers import refusal, unfilled_template, unhelpful
from medgemma_app.validate.core import Check, Issue, Text, Validation, run, sentence_spans
from medgemma_app.validate.form import empty_section, gibberish, missing_section, section_order, special_token, stopped, truncated
from medgemma_app.validate.lists import finder
from medgemma_app.validate.loops import repetition
from medgemma_app.validate.sections import Sections, from_mapping, parse
from medgemma_app.validate.terms import Source, read_source

FINDINGS = ("findings", "impression")
SOAP = ("subjective", "objective", "assessment", "plan")


def validate_answer(text: str, *, finish_reason: FinishReason = "stop", has_thought: bool = False, structured: bool = False) -> Validation:
    """Check the form of an answer: no text, a loop, a cut, a control token, a refusal. Never raises on any text.

    A ``structured`` answer was generated with a schema, which decides what it may say, so that only the cut is checked.
    """
    expect(text, str, "the answer must be a string")
    checks = (stopped,) if structured else (special_token, unhelpful, repetition, truncated)
    return run(Text(text, Sections("", ()), (), finish_reason, has_thought), checks, ())


def validate_findings(
    text: str,
    *,
    has_prior: bool = False,
    finish_reason: FinishReason = "stop",
    indication: str | None = None,
    has_thought: bool = False,
    header: ImageHeader | None = None,
    sections: Sequence[str] = FINDINGS,
    optional: Sequence[str] = (),
    prompt: str = "",
) -> Validation:
    """Check a report of findings and impression; never raises on any text.

    ``header`` describes the image; None if nothing is known about it. ``sections`` are the sections of the report in order, and it may
    lack the ``optional`` ones. ``prompt`` is the text that asked for the report, whose lines must not come back in it.
    """
    expect(text, str, "the report must be a text")
    expect(indication, (str, type(None)), "indication must be a text")
    expect(header, (ImageHeader, type(None)), "header must be an ImageHeader, as Scan.header is")
    report = replace(
        _text(text, "findings", sections, optional),
        finish_reason=finish_reason,
        has_thought=has_thought,
        has_prior=has_prior,
        source=_told(header, indication),
        header=header,
        prompt=prompt,
    )
    return run(report, _FORM, _CONTENT)


def validate_soap(
    text_or_sections: str | Mapping[str, str],
    *,
    source: str | Sequence[str] | None = None,
    finish_reason: FinishReason = "stop",
    has_thought: bool = False,
    sections: Sequence[str] = SOAP,
    optional: Sequence[str] = (),
    prompt: str = "",
) -> Validation:
    """Check a SOAP note, given as a whole or as its sections; never raises on any text.

    ``source`` is the text that the note was written from, or several of them. ``sections`` are the sections of the note in order, and
    it may lack the ``optional`` ones. ``prompt`` is the text that asked for the note, whose lines must not come back in it.
    """
    expect(text_or_sections, (str, Mapping), "the note must be a text, or a mapping of its sections")
    expect(source, (str, Sequence, type(None)), "source must be a text, or several of them")
    joined = source if source is None or isinstance(source, str) else "\n\n".join(source)
    note = _text(text_or_sections, "soap", sections, optional)
    note = replace(note, finish_reason=finish_reason, has_thought=has_thought, source=joined, prompt=prompt)
    return run(note, _FORM, _AGAINST_SOURCE)


def _text(given: str | Mapping[str, str], kind: ReportKind, sections: Sequence[str], optional: Sequence[str]) -> Text:
    """The text cut at its headings, and the sections to check: the required ones, and the optional ones that it has.

    The usual sections are known by many headings, others only by their own names and by synonyms. Raises TypeError for sections that
    are not a list of names.
    """
    if isinstance(sections, str) or not sections or not all(isinstance(key, str) for key in sections):
        raise TypeError("sections must be a list of headings, such as ('history', 'plan')")
    own = not set(sections) <= set(FINDINGS if kind == "findings" else SOAP)
    headings = tuple(sections) if own else kind
    text, parsed = (given, parse(given, headings)) if isinstance(given, str) else from_mapping(given, headings)
    parsed = parsed if own else parsed.with_beginning(text, sections[0])
    required = tuple(key for key in sections if key not in optional or parsed.spans(key))
    return Text(text, parsed, required, own=own)


def _told(header: ImageHeader | None, indication: str | None) -> str | None:
    """The header and the indication in words, with labels for sex and age."""
    known = (header and header.describe()) or ""
    labelled = re.sub(r"\b[0-9]{1,3} years?\b", r"age: \g<0>", re.sub(r"\b(?:fe)?male\b", r"sex: \g<0>", known))
    return "\n".join(filter(None, (labelled, indication))) or None


def _sentences(report: Text) -> Iterator[tuple[tuple[int, int], str]]:
    """The span and the text of each sentence in the sections."""
    for start, end in dict.fromkeys(span for key in report.required for span in report.sections.spans(key)):
        yield from ((span, report.text[slice(*span)]) for span in sentence_spans(report.text, start, end))


def invented_prior(report: Text) -> Iterator[Issue]:
    """A report compares with an earlier study only if one was given; models learn such comparisons from real reports."""
    for span, sentence in _sentences(report) if not report.has_prior else ():
        if finder("priors", "study", "change").search(sentence) and not finder("priors", "asks").search(sentence):
            message = "the report compares with an earlier study, but none was given; remove the comparison"
            yield report.issue("invented-prior", "warning", message, span)
            return


_SIZE = re.compile(
    r"\b[0-9]{1,4}(?:\.[0-9]{1,3})?(?:[ -]?(?:x|×|by|to|-)[ -]?[0-9]{1,4}(?:\.[0-9]{1,3})?){0,2}"
    r"[ -]?(?:mm|cm|millimet(?:er|re)s?|centimet(?:er|re)s?)\b",
    re.IGNORECASE,
)


def unscaled_measurement(report: Text) -> Iterator[Issue]:
    """An image without pixel spacing cannot be measured (DICOM PS3.3 C.7.6.3: Pixel Spacing, Imager Pixel Spacing)."""
    if report.header is not None and not report.header.pixel_spacing:
        found = next((size for span, _ in _sentences(report) if (size := _SIZE.search(report.text, *span))), None)
        if found:
            message = "a size is given, but the image has no scale for measurements; remove the size"
            yield report.issue("unscaled-measurement", "warning", message, found.span())


_SIDES = {"L": ("left", "right"), "R": ("right", "left")}


def wrong_side(report: Text) -> Iterator[Issue]:
    """An image of one side (DICOM PS3.3 C.7.3.1.1.1, Laterality) is not reported as the other."""
    side, other = _SIDES.get((report.header and report.header.laterality) or "", ("", ""))
    found = re.search(rf"\b{other}\b", report.text, re.IGNORECASE) if side else None
    if found and not re.search(rf"\b(?:{side}|bilateral)", report.text, re.IGNORECASE):
        message = f"the report is about the {other} side, but the header says {side}"
        yield report.issue("wrong-side", "warning", message, found.span(), found=other, expected=side)


# --- which checks are run


def _with_source(check: Callable[[Text, Source], Iterator[Issue]], *, in_english: bool = False) -> Check:
    """The check, run only if there is a source, and with ``in_english`` only if the source is in English."""

    def checked(text: Text) -> Iterator[Issue]:
        source = None if text.source is None else read_source(text.source)
        if source and (source.english or not in_english):
            yield from check(text, source)

    return checked


_FORM: tuple[Check, ...] = (
    special_token, refusal, gibberish, repetition, unfilled_template, truncated, missing_section, empty_section, section_order,
)  # fmt: skip
_PATIENT = tuple(map(_with_source, (patient.wrong_sex, patient.wrong_age)))
_CONTENT: tuple[Check, ...] = (invented_prior, unscaled_measurement, wrong_side, *_PATIENT)
_AGAINST_SOURCE: tuple[Check, ...] = (
    *map(_with_source, (values.invented_value, medications.dose_mismatch)),
    *_PATIENT,
    _with_source(medications.unnamed_medication),
    *(_with_source(check, in_english=True) for check in (patient.unmentioned_exam, patient.unmentioned_denial)),
)
