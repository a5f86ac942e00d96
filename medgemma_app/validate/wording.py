"""Answers that are no report: refusals, and text that is no language."""

from __future__ import annotations

import re
from collections.abc import Iterator

from medgemma_app.validate.common import Issue, Report, excerpt, says_something, without_tokens
from medgemma_app.validate.sections import OTHER

# A refusal speaks of the speaker: a patient who "is unable to walk" and "pneumonia cannot be excluded" do not match.
_I = r"(?:I|we)(?:['’]m| am|['’]re| are)?"
_CANNOT = rf"\b{_I} (?:cannot|can ?not|can['’]t|could not|do not|don['’]t|not able to|unable to|not qualified to|not)"
_NOW = r"(?:directly |actually |currently )?"
_PICTURE = r"(?:image|picture|photo|file|attachment|x-?ray|radiograph|scan|notes?|document)s?"
_REPORT = r"(?:diagnos\w+|interpretation|report|assessment|soap|note|opinion|analysis|recommendations?|findings)"
_WORK = rf"(?:{_REPORT}|medical|clinical|advice|that|this|it)"
_GIVE = r"(?:provide|give|offer|make|generate|write|create|produce|complete|interpret|analy[sz]e|diagnose|describe|process|do)"
_GIVEN = r"(?:provided|attached|uploaded|included|shared)"
_MACHINE = r"(?:AI\b|artificial intelligence|(?:large )?language model|virtual assistant|text-based)"
_REFUSALS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"{_CANNOT} {_NOW}(?:see|view|access|open|read|receive|have access to)\b[^.!?]{{0,40}}\b{_PICTURE}\b",
        rf"{_CANNOT} {_NOW}{_GIVE}\b[^.!?]{{0,60}}\b(?:{_WORK}|{_PICTURE})\b",
        rf"{_CANNOT} (?:able to )?(?:assist|help|comply|fulfill?|answer|respond)\b",
        rf"{_CANNOT} (?:have (?:the ability to|enough information|sufficient information))\b",
        rf"{_CANNOT} an? (?:licensed )?(?:doctor|physician|radiologist)\b",
        rf"\bnot possible for me to {_GIVE}\b",
        rf"\b(?:as|I am|I['’]m) (?:only |just )?an? (?:\w{{1,20}} )?{_MACHINE}",
        r"\bI(?:['’]m| am) (?:designed|programmed) to\b",
        r"^\W*(?:I['’]m |I am |We are )?(?:very |so )?sorry,? (?:but )?(?:I|we|this|that|there)\b",
        r"^\W*(?:I|we) apologi[sz]e\b",
        r"\b(?:I|we) (?:must|have to) (?:respectfully )?decline\b",
        rf"\b(?:there (?:is|was)|I see|I have) no {_PICTURE} (?:provided|attached|included|uploaded|visible|here|in)\b",
        rf"\bno {_PICTURE} (?:(?:is|was|were|are|has been|have been) )?{_GIVEN}\b",
        rf"\b{_PICTURE} (?:you \w{{1,20}} )?(?:was|were|is|are) (?:not|missing)\b[^.!?]{{0,20}}\b{_GIVEN}\b",
        rf"\bplease (?:provide|upload|attach|share) (?:(?:me|us) )?(?:with )?(?:the|an?|your|some|more) (?:\w{{1,20}} ){{0,2}}{_PICTURE}\b",
    )
)
_SENTENCE = re.compile(r"(?<=[.!?])\s|\n")
_FIRST_SENTENCES = 2
_EARLY = 200
_WORD = re.compile(r"[^\W\d_]+")
_LATIN_OR_GREEK = re.compile(r"[a-z\u00aa-\u03ff\u1d00-\u1fff\u2c60-\u2c7f\ua720-\ua7ff\ufb00-\ufb06\uff21-\uff5a]", re.IGNORECASE)
# The longest word in a medical dictionary, pneumonoultramicroscopicsilicovolcanoconiosis, has 45 letters.
LONGEST_WORD = 60
_FOREIGN_SHARE = 0.2
_LETTER_SHARE = 0.5


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
    sentences = [sentence.strip() for sentence in _SENTENCE.split(part) if says_something(sentence)]
    refused = [sentence for sentence in sentences if declines(sentence)]
    opens = first and any(sentence in refused for sentence in sentences[:_FIRST_SENTENCES])
    return refused[0] if refused and (opens or 2 * sum(map(len, refused)) >= sum(map(len, sentences))) else ""


def declines(sentence: str) -> bool:
    """Whether the speaker says, early in the sentence, that they cannot or will not do the task."""
    return any(pattern.search(sentence, 0, _EARLY) for pattern in _REFUSALS)


def gibberish(report: Report) -> Iterator[Issue]:
    """The text is no language: no words, mostly symbols, endless words, or alphabets mixed within words or throughout."""
    text = without_tokens(report.text)
    reason, sample = _nonsense(text, _WORD.findall(text))
    if reason:
        yield Issue("gibberish", "error", f"the text is not readable: {reason}; discard it", excerpt(sample))


def _nonsense(text: str, words: list[str]) -> tuple[str, str]:
    """(what is wrong, a sample of it), both empty for readable text."""
    marks, letters = len(re.sub(r"\s+", "", text)), len(re.sub(r"[\W_]+", "", text))
    foreign = _foreign(words)
    rules = (
        ("it has no words", "" if any(len(word) > 1 for word in words) else text),
        ("most of it is symbols", text if letters < _LETTER_SHARE * marks else ""),
        ("a word never ends", next((word for word in words if len(word) > LONGEST_WORD), "")),
        ("a word mixes alphabets", next((word for word in words if _mixed(word)), "")),
        ("it mixes languages", foreign[0] if foreign and _FOREIGN_SHARE <= len(foreign) / len(words) <= 1 - _FOREIGN_SHARE else ""),
    )
    return next(((reason, sample) for reason, sample in rules if sample), ("", ""))


def foreign_script(report: Report) -> Iterator[Issue]:
    """A word in another alphabet amid Latin text: a name perhaps, or a model that drifts into another language."""
    words = _WORD.findall(without_tokens(report.text))
    foreign = _foreign(words)
    if foreign and len(foreign) < _FOREIGN_SHARE * len(words):
        yield Issue("foreign-script", "warning", "a word is written in another alphabet; check it", excerpt(foreign[0]))


def _foreign(words: list[str]) -> list[str]:
    return [word for word in words if not word.isascii() and not _LATIN_OR_GREEK.search(word) and word.isalpha() and len(word) > 1]


def _mixed(word: str) -> bool:
    """Letters of two alphabets in one word; Greek ones are spared, as in TNFα or µg."""
    return not word.isascii() and 0 < len(_LATIN_OR_GREEK.findall(word)) < sum(map(str.isalpha, word))
