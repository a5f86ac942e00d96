"""The entry points of the text checks; whether a text has all its sections, and whether a radiology report fits its study."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from medgemma_app.errors import expect
from medgemma_app.inputs.header import SEX_WORDS, ImageHeader
from medgemma_app.model.generation import FinishReason
from medgemma_app.prompts import ReportKind
from medgemma_app.validate.core import LONGEST_TEXT, WORD, Draft, Issue, Validation, excerpt, sentence_spans, without_tokens
from medgemma_app.validate.form import gibberish, no_answer, refusal, special_token, stopped, truncated, unfilled_template, unhelpful
from medgemma_app.validate.lists import finder
from medgemma_app.validate.loops import repetition
from medgemma_app.validate.medications import dose_mismatch, stopped_medication
from medgemma_app.validate.sections import BARE_THOUGHT, OTHER, SHORTEST_BEGINNING, Sections, from_mapping, parse
from medgemma_app.validate.source import Source, invented_value, read_source, unmentioned_exam, wrong_age, wrong_sex

FINDINGS = ("findings", "impression")
SOAP = ("subjective", "objective", "assessment", "plan")
LONGEST_SOURCE = 150_000  # about ten times the length of the notes of a visit

Check: TypeAlias = Callable[[Draft], Iterator[Issue]]
CheckAgainstSource: TypeAlias = Callable[[Draft, Source], Iterator[Issue]]


def validate_answer(text: str, *, finish_reason: FinishReason = "stop", has_thought: bool = False, structured: bool = False) -> Validation:
    """Check the form of an answer: no text, a loop, a cut, a control token, a refusal. Never raises on any text.

    A ``structured`` answer was generated with a schema, which decides what it may say, so that only the cut is checked.
    """
    expect(text, str, "the answer must be a string")
    checks = (stopped,) if structured else (special_token, unhelpful, repetition, truncated)
    return _validation(Draft(text, Sections("", ()), (), finish_reason, has_thought), checks)


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
    expect(text, str, "the report must be a string")
    expect(indication, (str, type(None)), "indication must be a string")
    expect(header, (ImageHeader, type(None)), "header must be an ImageHeader, as Scan.header is")
    report = replace(
        _draft(text, "findings", sections, optional),
        finish_reason=finish_reason,
        has_thought=has_thought,
        has_prior=has_prior,
        source=_known_patient(header, indication),
        header=header,
        prompt=prompt,
    )
    return _validation(report, _FORM, (invented_prior, unscaled_measurement, wrong_side), (wrong_sex, wrong_age))


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
    expect(text_or_sections, (str, Mapping), "the note must be a string, or a mapping of its sections")
    expect(source, (str, Sequence, type(None)), "source must be a string, or a list of strings")
    joined = source if source is None or isinstance(source, str) else "\n\n".join(source)
    note = _draft(text_or_sections, "soap", sections, optional)
    note = replace(note, finish_reason=finish_reason, has_thought=has_thought, source=joined, prompt=prompt)
    against = (invented_value, dose_mismatch, wrong_sex, wrong_age, stopped_medication, unmentioned_exam)
    return _validation(note, _FORM, against=against)


def _draft(given: str | Mapping[str, str], kind: ReportKind, sections: Sequence[str], optional: Sequence[str]) -> Draft:
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
    return Draft(text, parsed, required, own=own)


def _validation(
    draft: Draft, form: Sequence[Check], content: Sequence[Check] = (), against: Sequence[CheckAgainstSource] = ()
) -> Validation:
    """All issues of a draft, in the order of the checks. If there is no answer, that is the only issue.

    The content of a very long text, such as a book or a loop, is not checked, neither by itself nor ``against`` its source.
    """
    fits = len(draft.text) <= LONGEST_TEXT and len(draft.source or "") <= LONGEST_SOURCE
    if issues := list(no_answer(draft)):
        return Validation(tuple(issues), draft.sections.texts())
    issues += (issue for check in (*form, *(content if fits else ())) for issue in check(draft))
    if not fits:
        longest = f"{LONGEST_TEXT:,} and {LONGEST_SOURCE:,} characters"
        message = f"the text or its source is too long, so its content was not checked (the limits are {longest})"
        issues.append(Issue("not-checked", "info", message))
    elif draft.source is not None:
        source = read_source(draft.source)
        issues += (issue for check in against for issue in check(draft, source))
    return Validation(tuple(issues), draft.sections.texts())


def _known_patient(header: ImageHeader | None, indication: str | None) -> str | None:
    """What is known about the patient: the sex and the age from the header, with labels, and the indication."""
    facts = header.describe_patient().split(", ") if header else []
    labelled = [f"{'sex' if fact in SEX_WORDS.values() else 'age'}: {fact}" for fact in facts if fact]
    return "\n".join(filter(None, (*labelled, indication))) or None


# --- the sections of a report

_LABEL = re.compile(r"(?m)^[ \t*_#>-]{0,12}(?:\d{1,2}[.)])?[ \t*_]{0,6}[A-Z][\w /&-]{2,40}:")
_LINE_BEGINS = r"(?im)^[^\w\n]{{0,12}}{}\b[^\n:]{{0,40}}:"
_PARTS = {
    "plan": "(?:plan|(?:medical )?treatment|management|recommendations?)",
    "findings": r"(?:lungs?|heart|pleura\w*|mediastin\w*|bones?|cardiac|liver|brain)",
}


def missing_section(draft: Draft) -> Iterator[Issue]:
    """Flags a required section that has no heading, nor another heading in its place; and text that belongs to no requested section."""
    bare = next((one for one in draft.answers() if not one.heading), None)
    if bare and len(draft.answers()) == 1:
        yield Issue("missing-section", "warning", f"the text has no headings; all of it was read as the {bare.keys[0]} section")
        return
    if bare and len(_LABEL.findall(bare.body)) < 2:
        message = f"the text begins without a heading; the beginning was read as the {bare.keys[0]} section"
        yield draft.issue("missing-section", "warning", message, (bare.start, bare.end))
    if draft.own:
        yield from _in_no_section(draft)
    missing = [key for key in draft.required if not draft.sections.spans(key)]
    # In the usual reports, a plan may be given under each problem ("- Plan: rest."), and findings by region ("Lungs: clear.").
    labels = {key: re.search(_LINE_BEGINS.format(_PARTS.get(key, key)), draft.text) for key in missing if not draft.own}
    if labels.get("findings"):
        yield Issue("missing-section", "warning", "the findings have no heading; write FINDINGS: above them")
    elif 1 < len(missing) == len(draft.required):
        yield Issue("missing-section", "error", f"no section has a heading; {', '.join(missing)} are missing")
    else:
        yield from (Issue("missing-section", "error", f"the {key} section is missing") for key in missing if not labels.get(key))


def _in_no_section(draft: Draft) -> Iterator[Issue]:
    """Flags text that belongs to none of the sections that the caller named."""
    beginning, sections = draft.sections.preamble, draft.sections.sections
    if not sections and not draft.required:
        yield Issue("missing-section", "warning", "the text has none of the requested headings, so it belongs to no section")
    elif draft.answers() and _is_content(beginning):
        start = draft.text.find(beginning)
        message = "the text before the first heading belongs to no section"
        yield draft.issue("missing-section", "warning", message, (start, start + len(beginning)))
    if other := [one for one in sections if OTHER in one.keys and one.body]:
        named = excerpt(", ".join(one.heading for one in other[:10]))
        message = f"the text under these headings belongs to no requested section: {named}"
        yield draft.issue("missing-section", "warning", message, (other[0].start, other[0].end))


def _is_content(preamble: str) -> bool:
    """Whether the text before the first heading is more than a title and "Here is the note:"."""
    lines = [line for line in preamble.splitlines() if not line.rstrip().endswith(":")]
    return not BARE_THOUGHT.match(preamble) and len(WORD.findall(" ".join(lines))) > SHORTEST_BEGINNING


def empty_section(draft: Draft) -> Iterator[Issue]:
    """Flags a section without words; "Not documented." is enough, punctuation or a list number is not."""
    for key in draft.required:
        spans = draft.sections.spans(key)
        bodies = [without_tokens(draft.text[slice(*span)]) for span in spans]
        if spans and not any(WORD.search(body) and not re.fullmatch(r"\W*\d{1,2}[.)]\W*", body) for body in bodies):
            yield draft.issue("empty-section", "error", f"the {key} section has no content", spans[0])


def section_order(draft: Draft) -> Iterator[Issue]:
    """Flags sections in an unusual order."""
    first = list(dict.fromkeys(key for section in draft.answers() for key in section.keys if key in draft.required))
    if first != sorted(first, key=draft.required.index):
        message = f"the sections are in an unusual order: {excerpt(', '.join(first))}"
        yield Issue("section-order", "warning", message)


# --- the study of a report


def _sentences(draft: Draft) -> Iterator[tuple[tuple[int, int], str]]:
    """The span and the text of each sentence in the sections."""
    for start, end in dict.fromkeys(span for key in draft.required for span in draft.sections.spans(key)):
        yield from ((span, draft.text[slice(*span)]) for span in sentence_spans(draft.text, start, end))


def invented_prior(draft: Draft) -> Iterator[Issue]:
    """Flags a comparison with an earlier study if none was given; models learn such comparisons from real reports."""
    for span, sentence in _sentences(draft) if not draft.has_prior else ():
        if finder("priors", "study", "change").search(sentence) and not finder("priors", "asks").search(sentence):
            message = "the report compares with an earlier study, but none was given; remove the comparison"
            yield draft.issue("invented-prior", "warning", message, span)
            return


_SIZE = re.compile(
    r"\b[0-9]{1,4}(?:\.[0-9]{1,3})?(?:[ -]?(?:x|×|by|to|-)[ -]?[0-9]{1,4}(?:\.[0-9]{1,3})?){0,2}"
    r"[ -]?(?:mm|cm|millimet(?:er|re)s?|centimet(?:er|re)s?)\b",
    re.IGNORECASE,
)


def unscaled_measurement(draft: Draft) -> Iterator[Issue]:
    """Flags a size if the image has no pixel spacing to measure it with (DICOM PS3.3 C.7.6.3: Pixel Spacing, Imager Pixel Spacing)."""
    if draft.header is not None and not draft.header.pixel_spacing:
        found = next((size for span, _ in _sentences(draft) if (size := _SIZE.search(draft.text, *span))), None)
        if found:
            message = "the report gives a size, but the image has no pixel spacing to measure with; remove the size"
            yield draft.issue("unscaled-measurement", "warning", message, found.span())


_SIDES = {"L": ("left", "right"), "R": ("right", "left")}


def wrong_side(draft: Draft) -> Iterator[Issue]:
    """Flags a report about the side opposite to the image's (DICOM PS3.3 C.7.3.1.1.1, Laterality)."""
    side, other = _SIDES.get((draft.header and draft.header.laterality) or "", ("", ""))
    found = re.search(rf"\b{other}\b", draft.text, re.IGNORECASE) if side else None
    if found and not re.search(rf"\b(?:{side}|bilateral)", draft.text, re.IGNORECASE):
        message = f"the report is about the {other} side, but the header says {side}"
        yield draft.issue("wrong-side", "warning", message, found.span(), found=other, expected=side)


_FORM = (
    special_token, refusal, gibberish, repetition, unfilled_template, truncated, missing_section, empty_section, section_order,
)  # fmt: skip
