"""A report that contradicts itself: affirmed here and denied there, abnormal and called normal, left and right.

Only what is exact: a denial with a word that the affirming sentence lacks ("no iliac aneurysm") denies something else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain, islice
from typing import Literal, NamedTuple, TypeAlias, cast

from medgemma_app.validate.core import Issue, Text, excerpt, sentence_spans
from medgemma_app.validate.lists import finder

Polarity: TypeAlias = Literal["affirmed", "denied", "doubtful", "aside"]
MOST_COMPARED = 100
_WORD = re.compile(r"[^\W_]+")
_ITEM = re.compile(r"[,:;]")
_NEXT = re.compile(r"[,:;]|\b(?:or|and|nor)\b")
_WHERE = re.compile(r"\b(?:left|right|otherwise)\b|^[^:]{1,40}(?=:)")  # a denial under "Right lung:" is one of the right


class _Mention(NamedTuple):
    thing: str
    polarity: Polarity
    narrowed: set[str]  # what the other sentence must say too to speak of the same: "large", "iliac"
    sentence: str
    span: tuple[int, int]


def contradiction(report: Text) -> Iterator[Issue]:
    """What is affirmed and denied, or abnormal and called normal: the first such thing."""
    found, concluded = ([*_mentions(report, key)] for key in ("findings", "impression"))
    for one, sentence, message in islice(chain(_denied(found + concluded), _called_normal(report, found, concluded)), 1):
        yield report.issue("contradiction", "warning", f"{message}: {excerpt(sentence)}", one.span)


def _mentions(report: Text, key: str) -> Iterator[_Mention]:
    """What a section names, and what it denies by saying that a whole part is sound: a large heart by "normal heart size"."""
    for span in (span for part in report.sections.spans(key) for span in sentence_spans(report.text, *part)):
        sentence = report.text[slice(*span)]
        if not _has("unsure", sentence):
            yield from (_mention(sentence, span, found) for found in islice(finder("things").finditer(sentence), MOST_COMPARED))
            sound = finder("sound").finditer(sentence) if not _has("partly", sentence) else ()
            yield from (_Mention(found.lastgroup or "", "denied", set(), sentence, span) for found in sound)


def _mention(sentence: str, span: tuple[int, int], found: re.Match[str]) -> _Mention:
    thing, state = (found.lastgroup or "").replace("_", " "), polarity(scopes(sentence), found.start())
    before, after = _ITEM.split(sentence[: found.start()][-60:])[-1], _NEXT.split(sentence[found.end() :][:60])[0]
    item = f"{before} {after}".lower()
    if sentence[found.end() : found.end() + 4].lstrip("*_ ").startswith(":"):
        state = "aside"  # the label of what follows
    if state == "denied":
        said = f"{finder('things').sub(' ', item)} {' '.join(_WHERE.findall(sentence.lower()))}"
        narrowed = {word for word in _WORD.findall(said) if not finder("wording", "neutral").fullmatch(word)}
    else:
        narrowed = {organ.group() for organ in finder("wording", "organ").finditer(item)}
    return _Mention(thing, state, narrowed, sentence, span)


def _denied(mentions: list[_Mention]) -> Iterator[tuple[_Mention, str, str]]:
    """What a report denies altogether it does not affirm elsewhere: no effusion, and a small left effusion."""
    denied = [one for one in mentions if one.polarity == "denied" and not _has("unnamed", one.thing)][:MOST_COMPARED]
    for one in [one for one in mentions if one.polarity == "affirmed"][:MOST_COMPARED]:
        for no in (no for no in denied if no.thing == one.thing and no.span != one.span):
            if all(map(one.sentence.lower().__contains__, no.narrowed)) and all(map(no.sentence.lower().__contains__, one.narrowed)):
                yield one, no.sentence, f"{one.thing} is affirmed here and denied elsewhere"


def _called_normal(report: Text, found: list[_Mention], concluded: list[_Mention]) -> Iterator[tuple[_Mention, str, str]]:
    """An impression that calls the study normal, or free of anything acute, goes with findings that are."""
    spans = (one for span in report.sections.spans("impression")[:1] for one in sentence_spans(report.text, *span))
    said = next((report.text[slice(*one)] for one in spans), "")
    verdict = finder("wording", "normal study", "nothing acute").match(said.lstrip("-*_#•. 0123456789)"))
    if not verdict or _has("partly", said) or any(one.polarity not in ("denied", "aside") for one in concluded):
        return
    for one in found:
        wrong = _has("grave", one.thing) or (verdict.lastgroup == "normal_study" and not _has("harmless", one.thing))
        if wrong and one.polarity == "affirmed" and not _has("old", one.sentence):
            yield one, said, f"the findings name {one.thing}, but the impression says that nothing is wrong"


def _has(key: str, text: str) -> bool:
    return finder("wording", key).search(text) is not None


# --- what a sentence denies or leaves in doubt; the words that say so are in data/negation.txt

# What denies the whole sentence from behind.
_LATER = re.compile(
    r"(?:is|are|was|were|has been|have been|had) (?:\w+ )?(?:absent|negative|denied|excluded|resolved|ruled out|not|unlikely|less likely)\b"
    r"|:[*_ ]{1,4}(?:no|none|negative|absent|denies|denied)\b",
    re.IGNORECASE,
)


class Scope(NamedTuple):
    """A stretch of a sentence that is denied or in doubt."""

    start: int
    end: int
    polarity: Polarity


@lru_cache(maxsize=1024)
def scopes(sentence: str) -> Sequence[Scope]:
    """The denied and doubtful stretches of a sentence, in its order; a doubt inside a denial changes nothing."""
    if _LATER.search(sentence):
        return (Scope(0, len(sentence), "denied"),)
    found = [Scope(0, len(sentence), "affirmed")]
    for cue in finder("negation").finditer(sentence):
        kind, before = cast(Polarity, cue.lastgroup), found[-1]
        if before.polarity == "affirmed" or kind == "affirmed" or (before.polarity == "doubtful" and kind != "doubtful"):
            found[-1:] = [before._replace(end=cue.start()), Scope(cue.end(), len(sentence), kind)]
    return found


def polarity(stretches: Sequence[Scope], at: int) -> Polarity:
    """Whether a place in a sentence is affirmed, denied or doubtful, or said of something else."""
    return next((scope.polarity for scope in stretches if scope.start <= at < scope.end), "affirmed")


# --- sides (how such errors come about in dictated reports: Luetmer et al. 2013)

_SIDE = re.compile(
    r"(?<!to the )\b(?:(?P<left>left|lll|lul)|(?P<right>right|rll|rul|rml)|(?P<both>bilateral\w*|both|bibasilar|biapical|bibasal))\b"
    r"(?!(?:[- ]sided)? (?:heart|atri\w+|ventric\w+|main\w*|aort\w+|arch|paratracheal|side of the heart))",
    re.IGNORECASE,
)
_OPPOSITE = {"left": "right", "right": "left"}
_NORMAL = re.compile(r"\b(?:normal|clear|unremarkable|intact|spared|expanded|free)\b", re.IGNORECASE)


def contradicting_side(report: Text) -> Iterator[Issue]:
    """A thing on one side in the impression is on that side in the findings too, which speak of nothing else on the first side."""
    findings = report.sections.spans("findings")
    placed = [(thing, sides) for _, things, sides in _placed(report, findings) for thing in things or {""}]
    every: set[str] = set().union(*(sides for _, sides in placed))
    for span, things, sides in _placed(report, [part for part in report.sections.spans("impression") if part not in findings]):
        opposite = _OPPOSITE.get(next(iter(sides))) if len(sides) == 1 else None
        if opposite and every == {opposite} and any(thing in things for thing, _ in placed):
            yield report.issue("contradicting-side", "warning", f"the findings say {opposite}", span, expected=opposite)
            return


def _placed(report: Text, parts: list[tuple[int, int]]) -> Iterator[tuple[tuple[int, int], set[str], frozenset[str]]]:
    """(span, things, sides) of each sentence that gives a side to something that is not normal."""
    for span in (span for part in parts for span in sentence_spans(report.text, *part)):
        sentence = report.text[slice(*span)]
        sides, stretches = frozenset(found.lastgroup or "" for found in _SIDE.finditer(sentence)), scopes(sentence)
        found = [one for one in finder("placed").finditer(sentence) if polarity(stretches, one.start()) != "denied"] if sides else []
        if sides and (found or not _NORMAL.search(sentence)):
            yield span, {one.lastgroup or "" for one in found}, sides
