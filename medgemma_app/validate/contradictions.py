"""A report that contradicts itself: affirmed here and denied there, abnormal and called normal, great and little, left and right.

Only what is exact: a denial with a word that the affirming sentence lacks ("no iliac aneurysm") denies something else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from medgemma_app.validate.core import Issue, Text, excerpt, finder, sentence_spans
from medgemma_app.validate.negation import Polarity, polarity, scopes

MOST_COMPARED = 100
_WORD = re.compile(r"[^\W_]+")
_ITEM = re.compile(r"[,:;]")
_NEXT = re.compile(r"[,:;]|\b(?:or|and|nor)\b")
_WHERE = re.compile(r"\b(?:left|right)\b|^[^:]{1,40}(?=:)")  # a denial under "Right lung:" is one of the right
_THREE_WORDS = re.compile(r"(?:\w+\W+){1,3}$")


@dataclass(frozen=True, slots=True)
class _Mention:
    thing: str
    polarity: Polarity
    partial: bool  # of an old one, or said of the rest only
    narrowed: frozenset[str]  # what the other sentence must say too to speak of the same: "large", "iliac"
    amount: str | None  # "great" or "little"
    sentence: str
    span: tuple[int, int]


_Clash = tuple[_Mention, _Mention, str]


def contradiction(report: Text) -> Iterator[Issue]:
    """The first of three: affirmed and denied, abnormal and called normal, great and little."""
    found, concluded = ([*_mentions(report, key)] for key in ("findings", "impression"))
    for one, other, message in (*_denied(found + concluded), *_called_normal(report, found, concluded), *_sized(found, concluded)):
        yield report.issue("contradiction", "warning", f"{message}: {excerpt(other.sentence)}", one.span)
        return


def _mentions(report: Text, key: str) -> Iterator[_Mention]:
    """What a section names, and what it denies by saying that a whole part is sound: a large heart by "normal heart size"."""
    for span in (span for part in report.sections.spans(key) for span in sentence_spans(report.text, *part)):
        sentence = report.text[slice(*span)]
        if _has("unsure", sentence):
            continue
        yield from _named(sentence, span)
        for found in finder("sound").finditer(sentence) if not _has("partly", sentence) else ():
            yield _Mention(found.lastgroup or "", "denied", False, frozenset(), None, sentence, span)


def _named(sentence: str, span: tuple[int, int]) -> Iterator[_Mention]:
    stretches, old, rest = scopes(sentence), _has("old", sentence), _has("rest", sentence)
    for found in islice(finder("things").finditer(sentence), MOST_COMPARED):
        if sentence[found.end() : found.end() + 4].lstrip("*_ ").startswith(":"):
            continue  # the label of what follows
        state = polarity(stretches, found.start())
        before, after = sentence[max(0, found.start() - 60) : found.start()], sentence[found.end() : found.end() + 60]
        item = f"{_ITEM.split(before)[-1]} {_NEXT.split(after)[0]}".lower()
        if state == "denied":
            said = f"{finder('things').sub(' ', item)} {' '.join(_WHERE.findall(sentence.lower()))}"
            narrowed = {word for word in _WORD.findall(said) if not finder("wording", "neutral").fullmatch(word)}
        else:
            narrowed = {organ.group().lower() for organ in finder("wording", "organ").finditer(item)}
        amounts = _THREE_WORDS.search(_NEXT.split(before)[-1])
        amount = finder("wording", "great", "little").search(amounts.group()) if amounts else None
        thing = (found.lastgroup or "").replace("_", " ")
        yield _Mention(thing, state, rest if state == "denied" else old, frozenset(narrowed), amount and amount.lastgroup, sentence, span)


def _denied(mentions: list[_Mention]) -> Iterator[_Clash]:
    """What a report denies altogether it does not affirm elsewhere: no effusion, and a small left effusion."""
    denied = [one for one in mentions if one.polarity == "denied" and not one.partial and not one.thing.startswith("a")][:MOST_COMPARED]
    for one in [one for one in mentions if one.polarity == "affirmed" and not one.partial][:MOST_COMPARED]:
        for no in denied:
            if one.thing == no.thing and _says(one.sentence, no.narrowed) and _says(no.sentence, one.narrowed - no.narrowed):
                yield one, no, f"{one.thing} is affirmed here and denied elsewhere"


def _says(sentence: str, words: frozenset[str]) -> bool:
    return all(word in sentence.lower() for word in words)


def _called_normal(report: Text, found: list[_Mention], concluded: list[_Mention]) -> Iterator[_Clash]:
    """An impression that calls the study normal, or free of anything acute, goes with findings that are."""
    for span in report.sections.spans("impression")[:1]:
        said = next((report.text[slice(*one)] for one in sentence_spans(report.text, *span)), "")
        begins = finder("wording", "normal study", "nothing acute").match(said.lstrip("-*_#•. 0123456789)"))
        if not begins or _has("partly", said) or any(one.polarity != "denied" for one in concluded):
            return
        verdict = _Mention("", "denied", False, frozenset(), None, said, span)
        for one in found:
            grave = _has("grave", one.thing) or (one.thing != "atelectasis" and (_has("acute", one.sentence) or one.amount == "great"))
            wrong = grave or (begins.lastgroup == "normal_study" and not _has("harmless", one.thing))
            if wrong and one.polarity == "affirmed" and not one.partial:
                yield one, verdict, f"the findings name {one.thing}, but the impression says that nothing is wrong"


def _sized(found: list[_Mention], concluded: list[_Mention]) -> Iterator[_Clash]:
    """What is small in the findings is not large in the impression, nor the other way round."""
    for one in concluded:
        others = [other for other in found if other.thing == one.thing and other.amount and other.polarity == "affirmed"]
        if one.polarity == "affirmed" and one.amount and others and all(other.amount != one.amount for other in others):
            yield one, others[0], f"{one.thing} has another size in the findings"


def _has(key: str, text: str) -> bool:
    return finder("wording", key).search(text) is not None


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
