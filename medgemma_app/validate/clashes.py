"""A note that contradicts itself: what the patient denies in one place and reports in another, what the examination finds and does not.

Negation is ConText's (see ``negation``); the pairs are the usual lines of a normal examination and history (Bates' Guide).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from medgemma_app.validate.core import Issue, Text, excerpt
from medgemma_app.validate.negation import polarity, scopes, sentences
from medgemma_app.validate.symptoms import LEXICON
from medgemma_app.validate.terms import words

_REPORTS = re.compile(
    r"\b(?:reports|endorses?|complains? of|admits(?: to)?|positive for|presents with|describes|here (?:for|with))\b", re.IGNORECASE
)
_DENIES = re.compile(r"\b(?:denies|denied|denying|negative for|no)\b", re.IGNORECASE)
# Symptoms come and go, and are here or there: with one of these words two sentences do not speak of the same.
_ANOTHER_TIME = re.compile(
    r"\b(?:resolved|since|until|past|point|currently|now|after|when|while|during|prior|previous\w*|ago|last|yesterday|today|before|initially"
    r"|occasional\w*|sometimes|improved|times?|if|history|other|else|further|additional|associated|worsening|increased|on exertion|right"
    r"|left|mother|father|brother|sister|wife|husband|daughter|son|week\w*|days?|months?|years?|hours?|morning|night|earlier|at rest)\b",
    re.IGNORECASE,
)
_ALLERGENS = r"penicillin|amoxicillin|sulfa\w*|codeine|morphine|latex|aspirin|iodine|contrast|nsaids?|shellfish|peanuts?|cephalo\w+"
_PAIRS = (
    (
        "allergies",
        r"\bno known (?:drug |medication |food )?allerg\w+|\bnkd?a\b",
        rf"\ballergic to \w+|\ballergy to \w+|\b(?:{_ALLERGENS}) allergy|\ballergies: ?(?:{_ALLERGENS})",
    ),
    (
        "smoking",
        r"\b(?:non-?smoker|never smoker|never smoked|does not smoke|denies (?:any )?(?:smoking|tobacco))",
        r"\bcurrent smoker\b|\b(?:smokes|smoking) (?:[0-9]|half|one|two)|\bsmokes daily",
    ),
    (
        "alcohol",
        r"\b(?:does not|never) drinks?\b|\bno alcohol|\bdenies (?:any )?alcohol",
        r"\bdrinks (?:[0-9]|one|two|three|four|daily|beer|wine)",
    ),
    (
        "breath sounds",
        r"\blungs?(?: are| is|:)? (?:clear|ctab?)\b|clear to auscultation",
        r"\b(?:wheez(?:es|ing)|crackles|rales|rhonchi)\b",
    ),
    ("a murmur", r"\bno (?:heart )?murmurs?", r"\bmurmur\b"),
    ("edema", r"\bno (?:\w+ ){0,2}edema", r"\bpitting edema\b|\b[1-4]\+ (?:\w+ ){0,2}edema"),
    ("the rhythm", r"\bregular rate(?:,? and)? rhythm", r"\birregularly irregular|\birregular rhythm"),
    (
        "fever",
        r"\bafebrile\b|\bno fever",
        r"(?<!a)\bfebrile\b|\bfever of [0-9]|\b(?:presents|here) with (?:a )?fever|\b(?:t|temp\w*):? 10[1-5]\.",
    ),
    (
        "the abdomen",
        r"\babdomen(?: is|:)? (?:soft,? )?(?:and )?non-?tender",
        r"\b(?:severe|moderate|exquisite|marked) tenderness|\brebound|\bguarding",
    ),
    (
        "diabetes",
        r"\bno history of diabetes|\bdenies (?:a history of )?diabetes|\bnot diabetic",
        r"\b(?:type [12] diabetes|diabetes mellitus|t2dm)\b",
    ),
)
# With one of these, a sentence speaks of somebody else or of what was.
_ELSEWHERE = re.compile(
    r"\b(?:resolved|until|previous\w*|prior|former\w*|quit|stopped|ago|last|yesterday|before|initially|occasional\w*|if|family"
    r"|mother|father|brother|sister|wife|husband|daughter|son|exposure|screen\w*|risks?)\b",
    re.IGNORECASE,
)
_CLASHES = tuple((what, re.compile(no, re.IGNORECASE), re.compile(yes, re.IGNORECASE)) for what, no, yes in _PAIRS)


def denied_and_reported(report: Text) -> Iterator[Issue]:
    """A symptom the patient denies is not reported elsewhere, unless of another time or place."""
    denied: dict[str, str] = {}
    reported: dict[str, str] = {}
    for _, sentence in sentences(report.text):
        if not _ANOTHER_TIME.search(sentence):
            denied.update((name, sentence) for name in _named(sentence, _DENIES, "denied"))
            reported.update((name, sentence) for name in _named(sentence, _REPORTS, "affirmed"))
    for name in denied:
        if name in reported:
            message = f"{name} is reported here and denied elsewhere: {excerpt(denied[name])}"
            yield Issue("contradiction", "warning", message, excerpt(reported[name]))
            return


def _named(sentence: str, cue: re.Pattern[str], wanted: str) -> Iterator[str]:
    """The symptoms behind a cue, in the singular."""
    found = cue.search(sentence)
    if found:
        said, starts, _ = words(sentence)
        for name, first, _ in LEXICON.mentions(said):
            if starts[first] >= found.end() and polarity(scopes(sentence), starts[first]) == wanted:
                yield name.removesuffix("s")


def clashing_findings(report: Text) -> Iterator[Issue]:
    """What an examination or a history says is not there is not described elsewhere."""
    for what, no, yes in _CLASHES:
        denial = no.search(report.text)
        found = _affirmed(report.text, yes) if denial else None
        if denial and found:
            message = f"the note contradicts itself about {what}: {excerpt(denial.group())}"
            yield Issue("contradiction", "warning", message, excerpt(found))


def _affirmed(text: str, pattern: re.Pattern[str]) -> str | None:
    """The first sentence that has the pattern and does not deny it."""
    for _, sentence in sentences(text):
        found = pattern.search(sentence)
        if found and not _ELSEWHERE.search(sentence) and polarity(scopes(sentence), found.start()) == "affirmed":
            return sentence
    return None
