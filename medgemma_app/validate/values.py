"""Doses, vital signs and lab values of a note: whether its source gives them, or they follow from what it gives."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache

from medgemma_app.validate.core import Issue, Text
from medgemma_app.validate.quantities import DOSES, NAMED, Quantity, spoken_quantities, written_quantities
from medgemma_app.validate.terms import Source, factor, mentions

_CHECKED = DOSES | frozenset(NAMED.values()) - {"height"} | {"concentration", "percent"}
_KNOWN_DOSES = re.compile(r"\b(?:baby|low[- ]dose) aspirin\b", re.IGNORECASE)  # what the words mean in the United States
MOST_ISSUES = 20
# "half a tablet of the fifty", "two 500 mg tablets": then a dose may be a part or a multiple of a number that is given.
_COUNTED = re.compile(r"(?i)(?:½|\b(?:half|two|three|four|[2-4]))\b[^.\n]{0,40}\b(?:tablets?|tabs?|pills?|capsules?|caps)\b")
_PARTS = (2, 1 / 2, 1 / 3, 1 / 4)
_TO_DRUG, _HOTTEST = 30, 50  # characters; degrees Celsius
# What nobody measured or gave: a limit, a goal, a total, a change, or the same again in brackets, as what stands before it shows.
_DERIVED_BEFORE = re.compile(
    r"(?:[<>≤≥]=?|\b(?:goals?|targets?|therapeutic|ranges?|keep|maintain|titrated?|max(?:imum)?|minimum|limit(?:ed to)?|up to|at least"
    r"|above|below|(?:greater|less|more|higher|lower) than|under|exceed(?:s|ing)?|ref(?:erence)?|threshold|restriction|lose|losing"
    r"|(?:call|return|notify|go|come|seek)\b[^.;\n]{0,40}\b(?:if|for|when)\b)\b)(?:[^.;\n0-9]|a1c|o2|b12){0,40}"
    r"(?:[0-9]{1,3}(?:\.[0-9]{1,2})? ?%? ?(?:/|-|–|to) ?)?$"
    r"|(?:\+|\b(?:by|up|down|(?:drop|rise|increase|decrease|total) of|gain(?:ed|ing|s)?|lost|loss(?: of)?|los(?:es|ing))) ?(?:about |~)?$"
    r"|[0-9][^()\n]{0,20}\((?:about |~|= ?|bmi )?$|[=≈~] ?$|\b(?:about|roughly|approximately|from|last|previously) $|(?:^|[\s(])[+−–-]$",
    re.IGNORECASE,
)
_A_DAY = re.compile(r" ?(?:mg|mcg|g|units?|ml)?,? ?(?:/|per |a |in |total)", re.IGNORECASE)
_TWICE = re.compile(r" ?(?:mg)? ?[/-] ?$")  # the parts of one dose: "875/125 mg"
_PAIR_BEFORE, _PAIR_BEHIND = re.compile(r"[0-9]{2,3} ?/ ?$"), re.compile(r" ?(?:/|over) ?[0-9]{2,3}")


def invented_value(text: Text, source: Source) -> Iterator[Issue]:
    """A dose, vital sign or lab value of the note is a number of the source, however it is written or spoken there.

    In a written source it is also no number that stands there by another name only, as 88 of "BP 128/88" for a heart rate. What a
    note gives as a limit, a total, a change or a conversion, its source need not give.
    """
    said = said_in(source)
    seen: set[tuple[str, float]] = set()
    pair_end = 0
    for one in written_quantities(text.text):
        # Numbers in words of other languages are not read, so that there only what the source gives in digits counts.
        unread = source.spoken and not source.english and one.kind not in said.named
        if one.kind not in _CHECKED or (one.kind, one.value) in seen or unread or is_derived(text.text, one) or said.has(one):
            continue
        seen.add((one.kind, one.value))
        start, end = _whole_pair(text.text, one)
        if start >= pair_end:
            pair_end = end
            yield said.issue(text, one, (start, end))
        if len(seen) >= MOST_ISSUES:
            return


def is_derived(text: str, one: Quantity) -> bool:
    """Whether a value is a limit, a total, a change, or says another one again."""
    before, behind = text[max(0, one.start - 90) : one.start], text[one.end : one.end + 25]
    dose = one.kind in DOSES and (_A_DAY.match(behind) is not None or _TWICE.search(before) is not None)
    return dose or _DERIVED_BEFORE.search(before) is not None


def _whole_pair(text: str, one: Quantity) -> tuple[int, int]:
    """The place of a value; of both numbers where it is half of a blood pressure."""
    if one.kind != "blood pressure":
        return one.start, one.reach
    before, behind = _PAIR_BEFORE.search(text, max(0, one.start - 6), one.start), _PAIR_BEHIND.match(text, one.end)
    return before.start() if before else one.start, behind.end() if behind else one.reach


class Said:
    """The numbers of a source."""

    def __init__(self, read: Source) -> None:
        self._source = source = read.told
        self._is_dialogue = read.spoken
        found = spoken_quantities(known_doses(source))
        self._values = {round(said, 3) for one in found for said in (one.value, one.number)}
        self._numbers = Counter(round(one.number, 3) for one in found)
        self._labelled = [one for one in written_quantities(source) if one.kind in NAMED.values()]
        self._kinds: dict[float, list[str]] = {}
        for one in self._labelled:
            self._kinds.setdefault(round(one.number, 3), []).append(one.kind)
        self._is_counted = _COUNTED.search(source) is not None
        self._is_weighed = any(one.kind == "weight" for one in (*found, *self._labelled))
        self.named = {one.kind: _whole_pair(source, one) for one in reversed(self._labelled)}

    def gives(self, one: Quantity) -> bool:
        """Whether this number stands in the source, in this unit or another."""
        return round(one.value, 3) in self._values or round(one.number, 3) in self._values

    def has(self, one: Quantity) -> bool:
        """Whether a value follows from the source, where its number does not stand by the name of something else only."""
        number = round(one.number, 3)
        if not self.gives(one):
            near = (abs(value - other) <= off for value, off in _on_other_scales(one) for other in self._values)
            counted = self._is_counted and one.kind in DOSES and any(round(one.value * times, 3) in self._values for times in _PARTS)
            return (one.kind == "bmi" and self._is_weighed) or counted or any(near)
        kinds = self._kinds.get(number, [])
        elsewhere = kinds and one.kind not in (*kinds, "weight") and self._numbers[number] <= len(kinds)
        return self._is_dialogue or one.kind not in self.named or not elsewhere

    def issue(self, text: Text, one: Quantity, span: tuple[int, int]) -> Issue:
        """An issue that names the value, and what the source gives instead where that is plain."""
        drug = next((drug.name for drug in reversed(mentions(text.text)) if 0 <= one.start - drug.end <= _TO_DRUG), "")
        unnamed = drug or ("a dose of" if one.kind in DOSES else "a value of")
        found = f"{one.kind if one.kind in NAMED.values() else unnamed} {text.text[slice(*span)]}"
        place = None if self._is_dialogue else self.named.get(one.kind)
        expected = self._source[slice(*place)] if place else None
        message = f"the note says {found}, {f'the source {expected}' if expected else 'which the source does not give'}"
        return text.issue("invented-value", "error", message, span, source_span=place, found=found, expected=expected)


@lru_cache(maxsize=2)
def said_in(source: Source) -> Said:
    """The numbers of a source; several checks ask for the same one."""
    return Said(source)


def _on_other_scales(one: Quantity) -> Iterator[tuple[float, float]]:
    """A value in other units, and how far off it may be there."""
    if one.kind == "temperature":
        yield (one.number * 1.8 + 32 if one.number < _HOTTEST else (one.number - 32) / 1.8), 0.15
    elif one.kind == "weight":
        yield (one.value, 1.0) if one.value != one.number else (one.value / factor("kg"), 0.5)
    elif one.kind in ("white cells", "platelets"):
        yield from ((one.number * 1000, 0.0), (one.number / 1000, 0.0))
    elif one.kind == "blood pressure":
        yield one.number / 10, 0.0  # in centimetres of mercury


def known_doses(source: str) -> str:
    """The source with the dose of a baby aspirin in digits, in the place of its name."""
    return _KNOWN_DOSES.sub(lambda found: "asa 81 mg".ljust(len(found[0])), source)
