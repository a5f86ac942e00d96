"""Sides and levels of a report: left here and right there, the fourth disc here and the fifth there.

How such errors come about in dictated reports: Luetmer et al. 2013.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from medgemma_app.validate.contradictions import THINGS
from medgemma_app.validate.core import Issue, Text, excerpt
from medgemma_app.validate.negation import polarity, scopes, sentences

_PLACED: Mapping[str, str] = {
    **{name: THINGS[name] for name in ("pneumothorax", "effusion", "nodule", "fracture")},
    "opacity": r"opacit\w+|densit\w+|consolidations?|infiltrates?|pneumonias?|atelecta\w+|air ?space|scar\w*|fibros\w+",
    "device": r"catheter|picc|port|tube|line|pacemaker|aicd",
    "granuloma": r"granuloma\w*|calcifi\w+",
}
_PLACE = re.compile("|".join(rf"(?P<{name}>\b(?:{words})\b)" for name, words in _PLACED.items()), re.IGNORECASE)
_SIDE = re.compile(
    r"(?<!to the )\b(?:(?P<left>left|lll|lul)|(?P<right>right|rll|rul|rml)|(?P<both>bilateral\w*|both|bibasilar|biapical|bibasal))\b"
    r"(?!(?:[- ]sided)? (?:heart|atri\w+|ventric\w+|main\w*|aort\w+|arch|paratracheal|side of the heart))",
    re.IGNORECASE,
)
_OPPOSITE = {"left": "right", "right": "left"}
# A side that is said to be normal is no place of what is seen.
_NORMAL = re.compile(r"\b(?:normal|clear|unremarkable|intact|unchanged|spared)\W{0,3}$", re.IGNORECASE)
_ADVISES = re.compile(r"\b(?:if|may help|recommend\w*|advised|suggest\w*|consider)\b", re.IGNORECASE)
_LEVEL = re.compile(r"\b([CTL])-?([0-9]{1,2})(?:[-/] ?([CTLS])?([0-9]{1,2}))?\b")


def contradicting_side(report: Text) -> Iterator[Issue]:
    """A thing on one side in the impression is on that side in the findings too, as far as these give a side."""
    texts = report.sections.texts()
    findings, impression = texts.get("findings", ""), texts.get("impression", "")
    if findings == impression:
        return
    placed = _placed(findings)
    every: set[str] = set().union(*placed.values())
    for _, sentence in sentences(impression):
        sides = _sides(sentence)
        if len(sides) != 1 or sides == {"both"} or (_ADVISES.search(sentence) and not _PLACE.search(sentence)):
            continue
        (side,) = sides
        for thing in {found.lastgroup or "" for found in _PLACE.finditer(sentence)} or {""}:
            if (placed.get(thing) or every) == {_OPPOSITE[side]}:
                yield Issue("contradicting-side", "warning", f"the findings say {_OPPOSITE[side]}", excerpt(sentence))
                return


def _placed(text: str) -> Mapping[str, set[str]]:
    """Thing -> the sides a text gives it; "" for a sentence that names none of them. What is denied is on no side."""
    placed: dict[str, set[str]] = {}
    for _, sentence in sentences(text):
        sides, stretches = _sides(sentence), scopes(sentence)
        found = list(_PLACE.finditer(sentence)) if sides else []
        said = [one.lastgroup or "" for one in found if polarity(stretches, one.start()) != "denied"]
        for thing in said if found else [""] * (_NORMAL.search(sentence) is None):
            placed.setdefault(thing, set()).update(sides)
    return placed


def _sides(text: str) -> frozenset[str]:
    return frozenset(found.lastgroup or "" for found in _SIDE.finditer(text))


def contradicting_level(report: Text) -> Iterator[Issue]:
    """The levels of the spine that the impression names are among those of the findings, as far as these name any."""
    texts = report.sections.texts()
    named = {level for level, _ in _levels(texts.get("findings", ""))}
    for level, written in _levels(texts.get("impression", "")) if named else ():
        if level not in named and not any(len(level) != len(other) and {*level} & {*other} for other in named):
            yield Issue("contradicting-side", "warning", "the findings name another level", excerpt(written))
            return


def _levels(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """(vertebrae, as written): ("L4", "L5") for L4/5."""
    for found in _LEVEL.finditer(text):
        if found.group() in ("T1", "T2"):
            continue  # how a picture is weighted
        first, second = f"{found[1]}{found[2]}", found[4] and f"{found[3] or found[1]}{found[4]}"
        yield (first, second) if second else (first,), found.group()
