"""Answers in which the model declines to do the task.

Refusals have no fixed words, and clinicians cannot, will not and are sorry too. What tells them apart is the sum over their words:
each adds to, or takes from, the odds that a sentence declines. ``tests/tools/refusals.py`` learns these weights from sentences of our own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from medgemma_app.validate.core import Issue, Text, excerpt, says_something
from medgemma_app.validate.sections import OTHER

WORDS_FILE = Path(__file__).with_name("refusal_words.txt")
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|[\[\]?!]")
_STEM = 6
_LEAST = 1.0  # logarithm of the odds
_START = "*"
_UNANSWERED = re.compile(
    r"\W*(?:(?:not|none|no)\W(?:[a-z]+ )?(?:available|provided|documented|discussed|stated|given|applicable|specified|determined)"
    r"|unable to (?:determine|assess|comment)|n\W?a|unknown|tbd)(?: (?:in|from|at|by|on|during|with)\b[^.\n]{0,40})?\W*",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"(?<=[.!?])\s|\n")
_REMARK = re.compile(r"\n\s{0,9}\n|\bdisclaimer\b", re.IGNORECASE)  # what comes below an answer
_FIRST_SENTENCES = 2
_EARLY = 300
_JUDGED = 200  # no section of a report has more sentences


def refusal(report: Text) -> Iterator[Issue]:
    """The model declines: in its first words, or in the main part of a section; or no section has an answer in it."""
    refused = _refusal(report) or _no_section_answered(report)
    if refused:
        message = "the model declined to answer; check that the input is what it should be"
        yield Issue("refusal", "error", message, excerpt(refused))


def _refusal(report: Text) -> str:
    parts = [report.sections.preamble, *(section.body for section in report.sections.sections if OTHER not in section.keys)]
    parts = [part for part in dict.fromkeys(parts) if says_something(part)]
    return next(filter(None, (_refused(part, first=number == 0) for number, part in enumerate(parts))), "")


def _refused(part: str, *, first: bool) -> str:
    """The words that decline: those of a short part all together; of a long one a sentence that opens the text, or half of all."""
    part = part if first else _REMARK.split(part, maxsplit=1)[0] or part
    said = sentences(part)
    if len(part) <= _EARLY and not first:
        return part if declines(part) else ""
    refused = [sentence for sentence in said if declines(sentence)]
    opens = first and any(sentence in refused for sentence in said[:_FIRST_SENTENCES])
    return refused[0] if refused and (opens or 2 * sum(map(len, refused)) >= sum(map(len, said))) else ""


def sentences(part: str) -> list[str]:
    """The sentences and lines of a section that say something."""
    return [sentence.strip() for sentence in _SENTENCE.split(part, maxsplit=_JUDGED)[:_JUDGED] if says_something(sentence)]


def declines(sentence: str) -> bool:
    """Whether the words of a sentence are, all together, those of somebody who does not do the task."""
    weights = _weights()
    return weights[_START] + sum(weights.get(stem, 0.0) for stem in stems(sentence[:_EARLY])) > _LEAST


def stems(text: str) -> set[str]:
    """The beginnings of the words of a text, and the marks that stand for something left out, asked or called."""
    return {word[:_STEM] for word in _WORD.findall(text.casefold().replace("’", "'"))}


@cache
def _weights() -> Mapping[str, float]:
    rows = (line.split() for line in WORDS_FILE.read_text(encoding="utf-8").splitlines())
    return {stem: float(weight) for weight, *found in rows for stem in found}


def _no_section_answered(report: Text) -> str:
    """What stands in the last of several sections, all of which say that there is nothing to say."""
    bodies = [body for key in report.required for body in report.sections.bodies(key)]
    return bodies[-1] if len(bodies) > 1 and all(map(_UNANSWERED.fullmatch, bodies)) else ""
