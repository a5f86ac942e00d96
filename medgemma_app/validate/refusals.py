"""Answers in which the model declines to do the task."""

from __future__ import annotations

import re
from collections.abc import Iterator

from medgemma_app.validate.common import Issue, Report, excerpt, says_something
from medgemma_app.validate.sections import OTHER

# A refusal speaks of the speaker: a patient who "is unable to walk" and "pneumonia cannot be excluded" do not match.
_BE = r"(?:['’]m| am|['’]re| are| was)?"
_CANNOT = (
    rf"\b(?:I|we){_BE}(?: \w{{1,12}}){{0,2}} ?(?:cannot|can not|can['’]t|could not|unable|not able|not qualified|not trained|lack the)\b"
)
_WILL_NOT = rf"\b(?:I|we){_BE}(?: \w{{1,12}}){{0,2}} ?(?:wo|would|should|do|ca|have)(?:n['’]t| not)\b|\b(?:I|we) will not\b"
_TOOL_NOT = (
    r"\b(?:this|the) (?:tool|model|system|service|assistant) (?:cannot|can['’]t|does not|is not)|\bmy (?:abilities|capabilities) do not"
)
_NOT = rf"(?:{_CANNOT}|{_WILL_NOT}|{_TOOL_NOT})"
_PICTURE = r"(?:images?|pictures?|photos?|files?|attachments?|x-?rays?|radiographs?|scans?|notes?|documents?)"
_REPORT = r"(?:diagnos[ei]s|interpretations?|reports?|assessment|soap|note|opinion|analysis|advice|findings|reading)"
_MAKE = (
    r"(?:(?:provid|giv|mak|generat|writ|creat|produc|complet|describ|analy[sz]|diagnos)(?:e|ing)"
    r"|(?:offer|interpret|process|do)(?:ing)?)"
)
_SEE = r"(?:see|view|access|open|read|receive)"
_YOURS = r"(?:the|an?|your|some|more) (?:\w{1,20} ){0,2}"
_GIVEN = r"(?:provided|attached|uploaded|included|shared|given)"
_MACHINE = r"(?:AI\b|artificial intelligence|(?:large )?language model|virtual assistant|text-based)"
_REFUSALS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"{_NOT}[^.!?]{{0,30}}\b{_SEE}\b[^.!?]{{0,40}}\b{_PICTURE}\b",
        rf"{_NOT}[^.!?]{{0,30}}\b{_MAKE}\b[^.!?]{{0,60}}\b(?:{_REPORT}|{_PICTURE})\b",
        rf"{_CANNOT}[^.!?]{{0,20}}\b{_MAKE} (?:that|this|it|the information|medical)\b",
        rf"{_CANNOT}[^.!?]{{0,20}}\b(?:assist|help|comply|fulfill?|answer|respond)\b",
        rf"{_NOT}[^.!?]{{0,20}}\b(?:ability to|enough information|sufficient information|feel comfortable)\b",
        r"\bI(?:['’]m| am) not an? (?:licensed |medical |qualified )?(?:doctor|physician|radiologist|clinician|professional)\b",
        rf"\b(?:possible|appropriate|inappropriate) for me to {_MAKE}\b",
        rf"\b(?:as|since|I am|I['’]m|that) (?:I am )?(?:only |just )?an? (?:\w{{1,20}} )?{_MACHINE}",
        r"\bI(?:['’]m| am) (?:designed|programmed) to\b",
        r"\bI (?:can|am) only (?:able to )?(?:provide|process|offer|give|answer)\b",
        r"\b(?:against|violates?) my (?:guidelines|programming|policy|policies)\b",
        r"^\W*(?:unable|not able) to (?:process|fulfill?|complete|comply)\b",
        r"(?:\bnot|n['’]t) possible to (?:write|generate|produce)\b[^.!?]{0,20}\b(?:report|note)\b",
        rf"{_CANNOT}[^.!?]{{0,60}}\bwithout (?:an?|the|your) (?:\w{{1,20}} )?{_PICTURE}\b",
        rf"{_CANNOT} continue (?:with )?this\b",
        rf"\b{_PICTURE} (?:could not|cannot) be (?:loaded|opened|processed|read)\b",
        r"^\W*(?:I['’]m |I am |We are )?(?:very |so |really |truly )?sorry,? (?:but )?(?:I|we|this|that|there)\b",
        r"^\W*(?:I|we) (?:apologi[sz]e|regret)\b",
        r"\b(?:I|we) (?:must|have to) (?:respectfully )?decline\b",
        rf"\b(?:there (?:is|was)|I see|I have) no {_PICTURE} (?:provided|attached|included|uploaded|visible|here|in)\b",
        rf"\bno {_PICTURE} (?:(?:is|was|were|are|has been|have been) )?{_GIVEN}\b(?![^.!?]{{0,20}}\bcompar)",
        rf"\b{_PICTURE} (?:you \w{{1,20}} )?(?:was|were|is|are) (?:not|missing)\b[^.!?]{{0,20}}\b{_GIVEN}\b",
        rf"\b(?:I|you) (?:have|did)(?: not|n['’]t) (?:been )?(?:provide|give|upload|attach)\w{{0,2}}\b[^.!?]{{0,12}}\b{_PICTURE}\b",
        rf"(?:\bnot|n['’]t) (?:appear|seem) to be (?:an? |any )?{_PICTURE} {_GIVEN}\b",
        rf"\b(?:please|could you|can you)(?: please)? (?:provide|upload|attach|share) (?:(?:me|us) )?(?:with )?{_YOURS}{_PICTURE}\b",
        rf"^\W*I (?:need|require) {_YOURS}{_PICTURE}\b",
    )
)
_SENTENCE = re.compile(r"(?<=[.!?])\s|\n")
_FIRST_SENTENCES = 2
_EARLY = 200
_JUDGED = 200  # no section of a report has more sentences


def refusal(report: Report) -> Iterator[Issue]:
    """The model declines: in its first words, or in the main part of a section."""
    parts = [report.parsed.preamble, *(section.body for section in report.parsed.sections if OTHER not in section.keys)]
    parts = [part for part in dict.fromkeys(parts) if says_something(part)]
    for number, part in enumerate(parts):
        refused = _refused(part, first=number == 0)
        if refused:
            message = "the model declined to answer; check that the input is what it should be"
            yield Issue("refusal", "error", message, excerpt(refused))
            return


def _refused(part: str, *, first: bool) -> str:
    """The sentence that declines, if it opens the text or if such sentences are half of the part."""
    sentences = [sentence.strip() for sentence in _SENTENCE.split(part, maxsplit=_JUDGED)[:_JUDGED] if says_something(sentence)]
    refused = [sentence for sentence in sentences if declines(sentence)]
    opens = first and any(sentence in refused for sentence in sentences[:_FIRST_SENTENCES])
    return refused[0] if refused and (opens or 2 * sum(map(len, refused)) >= sum(map(len, sentences))) else ""


def declines(sentence: str) -> bool:
    """Whether the speaker says, early in the sentence, that they cannot or will not do the task."""
    return any(pattern.search(sentence, 0, _EARLY) for pattern in _REFUSALS)
