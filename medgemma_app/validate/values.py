"""Whether the doses, vital signs and lab values of a note are in its source, or follow from it."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator

from medgemma_app.validate.core import Issue, Severity, Text
from medgemma_app.validate.quantities import DOSES, NAMED, Quantity, spoken_quantities, written_quantities
from medgemma_app.validate.terms import Mention, Source, factor, mentions

_CHECKED = DOSES | frozenset(NAMED.values()) - {"height"}
MOST_ISSUES = 20
# "half a tablet of the fifty", "two 500 mg tablets": the dose may be a fraction or a multiple of a number in the source.
_COUNTED = re.compile(r"(?i)(?:½|\b(?:half|two|three|four|[2-4]))\b[^.\n]{0,40}\b(?:tablets?|tabs?|pills?|capsules?|caps)\b")
_PARTS = (2, 1 / 2, 1 / 3, 1 / 4)
_DIRECTLY = re.compile(r"(?i)[ \t:(-]*(?:(?:tablets?|tabs?|capsules?|caps?|po|oral|iv|at|to|dose)[ \t:(-]*)?")  # from drug to dose
_TO_DRUG, _HOTTEST = 30, 50  # characters; degrees Celsius
# Words before a value that is not in the source because nobody measured or gave it: a limit, goal, total, change or conversion.
_DERIVED_BEFORE = re.compile(
    r"(?:[<>≤≥]=?|\b(?:goals?|targets?|therapeutic|ranges?|keep|maintain|titrated?|max(?:imum)?|minimum|limit(?:ed to)?|up to|at least"
    r"|above|below|(?:greater|less|more|higher|lower) than|under|exceed(?:s|ing)?|ref(?:erence)?|threshold|restriction|lose|losing"
    r"|(?:call|return|notify|go|come|seek)\b[^.;\n]{0,40}\b(?:if|for|when)\b)\b)(?:[^.;\n0-9]|a1c|o2|b12){0,40}"
    r"(?:[0-9]{1,3}(?:\.[0-9]{1,2})? ?%? ?(?:/|-|–|to) ?)?$"
    r"|(?:\+|\b(?:by|up|down|(?:drop|rise|increase|decrease|total) of|gain(?: of|ed|ing|s)?|lo(?:ss(?: of)?|st|ses|sing))) ?(?:about |~)?$"
    r"|[0-9][^()\n]{0,20}\((?:about |~|= ?|bmi )?$|[=≈~] ?$|\b(?:about|roughly|approximately|from|last|previously) $|(?:^|[\s(])[+−–-]$",
    re.IGNORECASE,
)
_A_DAY = re.compile(r" ?(?:mg|mcg|g|units?|ml)?,? ?(?:/|per |a |in |total)", re.IGNORECASE)
_TWICE = re.compile(r" ?(?:mg)? ?[/-] ?$")  # the second part of a combined dose: "875/125 mg"
_PAIR = re.compile(r"[0-9]{2,3} ?(?:/|over) ?[0-9]{2,3}")


def invented_value(text: Text, source: Source) -> Iterator[Issue]:
    """Each dose, vital sign and lab value of the note is a number of the source, in digits or in words.

    Limits, totals, changes and conversions in the note need not be in the source.
    """
    said = Said(source)
    seen: set[tuple[str, float]] = set()
    pair_end = 0
    for one in written_quantities(text.text):
        # Number words of other languages are not read, so there only what the source names in digits is checked.
        unread = not source.english and one.kind not in said.named
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
    """Whether a value is a limit, a total, a change, or a conversion of the value before it."""
    before, behind = text[max(0, one.start - 90) : one.start], text[one.end : one.end + 25]
    dose = one.kind in DOSES and (_A_DAY.match(behind) is not None or _TWICE.search(before) is not None)
    return dose or _DERIVED_BEFORE.search(before) is not None


def _whole_pair(text: str, one: Quantity) -> tuple[int, int]:
    """The place of a value; for a blood pressure, the place of both numbers."""
    pair = _PAIR.search(text, max(0, one.start - 6), one.end + 6) if one.kind == "blood pressure" else None
    return pair.span() if pair else (one.start, one.reach)


class Said:
    """The numbers of a source."""

    def __init__(self, read: Source) -> None:
        self._source = source = read.told
        self._is_dialogue = read.spoken
        found = spoken_quantities(source)
        self._values = {round(said, 3) for one in found for said in (one.value, one.number)}
        self._is_counted = _COUNTED.search(source) is not None
        labelled = [one for one in written_quantities(source) if one.kind in NAMED.values()]
        self.named = {one.kind: _whole_pair(source, one) for one in reversed(labelled)}
        self._is_weighed = "weight" in self.named or any(one.kind == "weight" for one in found)

    def has(self, one: Quantity) -> bool:
        """Whether the number of a value is in the source, or the value follows from one that is."""
        times = _PARTS if self._is_counted and one.kind in DOSES else ()
        if not self._values.isdisjoint(round(value, 3) for value in (one.value, one.number, *(one.value * part for part in times))):
            return True
        near = (abs(value - other) <= off for value, off in _on_other_scales(one) for other in self._values)
        return (one.kind == "bmi" and self._is_weighed) or any(near)

    def issue(self, text: Text, one: Quantity, span: tuple[int, int]) -> Issue:
        """An issue that names the value, and the one in the source if it is certain which that is."""
        drug = next((drug for drug in reversed(mentions(text.text)) if 0 <= one.start - drug.end <= _TO_DRUG), None)
        name = one.kind if one.kind in NAMED.values() else drug.name if drug else "a dose of"
        found = f"{name} {text.text[slice(*span)]}"
        dose = self._only_dose(drug, one) if drug and one.kind in DOSES else None
        place = None if self._is_dialogue else self.named.get(one.kind, dose)
        expected = self._source[slice(*place)] if place else None
        message = f"the note says {found}, {f'the source {expected}' if expected else 'which the source does not give'}"
        severity: Severity = "error" if one.kind in NAMED.values() else "warning"  # a dose may be a total, or so many tablets
        return text.issue("invented-value", severity, message, span, source_span=place, found=found, expected=expected)

    def _only_dose(self, drug: Mention, other: Quantity) -> tuple[int, int] | None:
        """The place of the dose that the source gives this drug, if that is one dose, in the unit of the ``other``."""
        ends = [one.end for one in mentions(self._source) if one.drugs & drug.drugs]
        written = (one for one in written_quantities(self._source) if one.kind in DOSES)
        before = ((one, bisect_right(ends, one.start)) for one in written)
        doses = [one for one, count in before if count and _DIRECTLY.fullmatch(self._source, ends[count - 1], one.start)]
        is_sure = len({one.value for one in doses}) == 1 and doses[0].unit == other.unit
        return (doses[0].start, doses[0].reach) if is_sure else None


def _on_other_scales(one: Quantity) -> Iterator[tuple[float, float]]:
    """The value in other units, each with its tolerance."""
    if one.kind == "temperature":
        yield (one.number * 1.8 + 32 if one.number < _HOTTEST else (one.number - 32) / 1.8), 0.15
    elif one.kind == "weight":
        yield (one.value, 1.0) if one.value != one.number else (one.value / factor("kg"), 0.5)
    elif one.kind in ("white cells", "platelets"):
        yield from ((one.number * 1000, 0.0), (one.number / 1000, 0.0))
    elif one.kind == "blood pressure":
        yield one.number / 10, 0.0  # in centimetres of mercury
