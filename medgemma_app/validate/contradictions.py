"""A report that contradicts itself: affirmed here and denied there, abnormal and called normal, small and large, left and right."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from medgemma_app.validate.core import Issue, Text, excerpt, finder, sentence_spans
from medgemma_app.validate.negation import Polarity, polarity, scopes

MOST_COMPARED = 100
# "Of the femur", "on the left": a denial of one place is none of another.
_PLACE_WORD = re.compile(r"\bleft\b|\bright\b|(?<=of the )[a-z]{4,20}\b(?! (?:lung|chest|thorax|abdomen))")
# An impression that begins so calls the study normal, or free of anything acute.
_NORMAL_STUDY = re.compile(
    r"^\W{0,9}(?:[0-9][.)]\W{0,3})?(?:(?:grossly|essentially|completely|entirely) )?"
    r"(?:(?:normal|unremarkable|negative|healthy) (?:[\w-]+ ){0,4}?(?:chest|stud(?:y|ies)|radiographs?|exam|examination|films?|x-?rays?"
    r"|ct|mri|ultrasound|scan|lungs?|head|brain|abdomen)\b|(?:nad|normal|unremarkable)\W{0,3}$|clear lungs|no abnormalit\w+"
    r"|(?:the |both )?lungs (?:are )?(?:clear|normal)\b)",
    re.IGNORECASE,
)
_NOTHING_ACUTE = re.compile(
    r"^\W{0,9}(?:[0-9][.)]\W{0,3})?no (?:evidence of |radiographic evidence of )?(?:an )?(?:acute|active) "
    r"(?:[\w-]+ ){0,2}?(?:disease|process|findings?|abnormalit\w+|patholog\w+)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Mention:
    thing: str
    polarity: Polarity
    partial: bool  # of an old one, or said of the rest only
    narrowed: frozenset[str]  # of a denial: what such a thing would have to be to be denied
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
    """What a section names, each thing once a sentence for every way it is spoken of."""
    for start, end in report.sections.spans(key):
        for span in sentence_spans(report.text, start, end):
            sentence = report.text[slice(*span)]
            if not _has("unsure", sentence):
                yield from dict.fromkeys((*_named(sentence, span), *_sound(sentence, span)))


def _named(sentence: str, span: tuple[int, int]) -> Iterator[_Mention]:
    stretches, old = scopes(sentence), _has("old", sentence)
    for found in islice(finder("things").finditer(sentence), MOST_COMPARED):
        if sentence[found.end() : found.end() + 4].lstrip("*_ ").startswith(":"):
            continue  # the label of what follows
        thing, state = (found.lastgroup or "").replace("_", " "), polarity(stretches, found.start())
        if state != "denied":
            yield _Mention(thing, state, old, frozenset(), sentence, span)
            continue
        before = sentence[max(0, found.start() - 60) : found.start()]
        words = re.search(r"\b(?:\w+\W+){1,3}$", before)
        narrowed = {one.group().lower() for one in finder("wording", "qualifier").finditer(words[0] if words else "")}
        narrowed -= {"focal"} if thing == "consolidation" else set()
        narrowed |= set(_PLACE_WORD.findall(sentence.lower()))
        yield _Mention(thing, state, _has("rest", before), frozenset(narrowed), sentence, span)


def _sound(sentence: str, span: tuple[int, int]) -> Iterator[_Mention]:
    """What is denied by saying that a whole part is sound: infiltrates in clear lungs, fractures of intact bones."""
    if not _has("partly", sentence):
        for found in finder("sound").finditer(sentence):
            yield _Mention(found.lastgroup or "", "denied", False, frozenset(), sentence, span)


def _denied(mentions: list[_Mention]) -> Iterator[_Clash]:
    """What a report denies altogether it does not affirm elsewhere: no effusion, and a small left effusion."""
    denied = [one for one in mentions if one.polarity == "denied" and not one.partial and not _has("unnamed", one.thing)][:MOST_COMPARED]
    for one in [one for one in mentions if one.polarity == "affirmed" and not one.partial][:MOST_COMPARED]:
        for no in denied:
            if one.thing == no.thing and all(word in one.sentence.lower() for word in no.narrowed):
                yield one, no, f"{one.thing} is affirmed here and denied elsewhere"


def _called_normal(report: Text, found: list[_Mention], concluded: list[_Mention]) -> Iterator[_Clash]:
    """An impression that calls the study normal, or free of anything acute, goes with findings that are."""
    text, spans = report.text, report.sections.spans("impression")
    body = text[slice(*spans[0])] if spans else ""
    normal = _NORMAL_STUDY.search(body)
    if not (normal or _NOTHING_ACUTE.search(body)) or any(one.polarity != "denied" for one in concluded):
        return
    said = next((text[slice(*span)] for span in sentence_spans(text, *spans[0])), "")
    verdict = _Mention("", "denied", False, frozenset(), said, spans[0])
    for one in found:
        grave = _has("grave", one.thing) or (one.thing != "atelectasis" and (_has("acute", one.sentence) or "great" in _amounts(one)))
        if one.polarity == "affirmed" and not one.partial and (grave or (normal and not _has("harmless", one.thing))):
            yield one, verdict, f"the findings name {one.thing}, but the impression says that nothing is wrong"


def _sized(found: list[_Mention], concluded: list[_Mention]) -> Iterator[_Clash]:
    """What is small in the findings is not large in the impression, nor the other way round."""
    sizes: dict[str, tuple[set[str], _Mention]] = {}
    for one in found:
        if said := _amounts(one):
            sizes.setdefault(one.thing, (set(), one))[0].update(said)
    for one in concluded:
        amounts, other = sizes.get(one.thing, (set(), one))
        if len(amounts) == 1 == len(_amounts(one)) and amounts != _amounts(one):
            yield one, other, f"{one.thing} has another size in the findings"


def _amounts(one: _Mention) -> set[str]:
    found = finder("wording", "great", "little").finditer(one.sentence) if one.polarity == "affirmed" else ()
    return {amount.lastgroup or "" for amount in found}


def _has(key: str, text: str) -> bool:
    return finder("wording", key).search(text) is not None


# --- sides (how such errors come about in dictated reports: Luetmer et al. 2013)

_SIDE = re.compile(
    r"(?<!to the )\b(?:(?P<left>left|lll|lul)|(?P<right>right|rll|rul|rml)|(?P<both>bilateral\w*|both|bibasilar|biapical|bibasal))\b"
    r"(?!(?:[- ]sided)? (?:heart|atri\w+|ventric\w+|main\w*|aort\w+|arch|paratracheal|side of the heart))",
    re.IGNORECASE,
)
_OPPOSITE = {"left": "right", "right": "left"}
# A side that is said to be normal is no place of what is seen.
_NORMAL = re.compile(r"\b(?:normal|clear|unremarkable|intact|unchanged|spared)\W{0,3}$", re.IGNORECASE)


def contradicting_side(report: Text) -> Iterator[Issue]:
    """A thing on one side in the impression is on that side in the findings too, as far as these give a side."""
    findings = report.sections.spans("findings")
    placed = _placed(report, findings)
    every: set[str] = set().union(*placed.values())
    for part in report.sections.spans("impression"):
        for span in sentence_spans(report.text, *part) if part not in findings else ():
            sentence = report.text[slice(*span)]
            sides, things = _sides(sentence), {found.lastgroup or "" for found in finder("placed").finditer(sentence)}
            opposite = _OPPOSITE.get(next(iter(sides))) if len(sides) == 1 else None
            if not opposite or (not things and _has("advice", sentence)):
                continue
            if any((placed.get(thing) or every) == {opposite} for thing in things or {""}):
                yield report.issue("contradicting-side", "warning", f"the findings say {opposite}", span, expected=opposite)
                return


def _placed(report: Text, parts: list[tuple[int, int]]) -> Mapping[str, set[str]]:
    """Thing -> the sides a text gives it; "" for a sentence that names none of them. What is denied is on no side."""
    placed: dict[str, set[str]] = {}
    for span in (span for part in parts for span in sentence_spans(report.text, *part)):
        sentence = report.text[slice(*span)]
        sides, stretches = _sides(sentence), scopes(sentence)
        found = list(finder("placed").finditer(sentence)) if sides else []
        said = [one.lastgroup or "" for one in found if polarity(stretches, one.start()) != "denied"]
        for thing in said if found else [""] * (_NORMAL.search(sentence) is None):
            placed.setdefault(thing, set()).update(sides)
    return placed


def _sides(text: str) -> frozenset[str]:
    return frozenset(found.lastgroup or "" for found in _SIDE.finditer(text))
