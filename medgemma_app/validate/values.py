"""Doses, vital signs and lab values of a note: whether its source gives them, or they follow from what it gives."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Literal, TypeAlias

from medgemma_app.validate.core import Issue, Text
from medgemma_app.validate.numbers import LABS, VITALS, with_points
from medgemma_app.validate.quantities import Quantity, spoken_quantities, written_quantities
from medgemma_app.validate.terms import affirmed, is_dialogue, mentions

_LABS = frozenset(LABS.values())
_DOSES = frozenset(["mass", "volume", "units", "equivalents"])
_VITALS = frozenset(VITALS.values()) - {"height"}
_CHECKED = _DOSES | _VITALS | _LABS | {"concentration", "percent", "score"}
# A source may give a number alone ("forty of lasix"), or with a unit that several things share; and a lab value without one.
_VAGUE = {"percent", "concentration", "angle"}
_MEASURED_BY_MASS = {"mass", "concentration", "units", "equivalents"}
_LIPIDS = {"cholesterol", "ldl", "hdl"}  # "the good cholesterol"
_CONVERTED = {"weight": 1.0, "temperature": 0.15}  # how far off a value may be after a change of units
_FEVERISH = (95, 107)  # what is a temperature though nothing says so, in degrees Fahrenheit
_KNOWN_DOSES = re.compile(r"\b(?:baby|low[- ]dose) aspirin\b", re.IGNORECASE)  # what the words mean in the United States
_COMPARED, _MOST_OTHERS = 50, 200
_ROUNDED = 0.06
MOST_ISSUES = 20

_RANGE = r"(?:[0-9]{1,3}(?:\.[0-9]{1,2})? ?%? ?(?:/|-|–|to) ?)?"
_LIMIT = re.compile(
    r"(?:[<>≤≥]=?|\b(?:goals?|targets?|therapeutic|ranges?|keep|maintain|titrated?|max(?:imum)?|minimum|limit(?:ed to)?|up to|at least"
    r"|above|below|(?:greater|less|more|higher|lower) than|under|exceed(?:s|ing)?|ref(?:erence)?|threshold|restriction|lose|losing"
    r"|(?:call|return|notify|go|come|seek)\b[^.;\n]{0,40}\b(?:if|for|when)\b)\b)"
    rf"(?:[^.;\n0-9]|a1c|o2|b12){{0,40}}{_RANGE}$",
    re.IGNORECASE,
)
_HELD_AGAINST = re.compile(r"\b(?:above|below|at|near|over|under|out of) (?:the )?(?:goal|target|range)\b[^.;\n]{0,40}$", re.IGNORECASE)
_OR_MORE = re.compile(r"^ ?(?:%|mg/dl|[a-z]{1,5})? ?(?:or|and) (?:above|below|more|less|higher|lower|greater|over|under)\b", re.IGNORECASE)
_A_RATE = re.compile(r"^ ?(?:lbs?|pounds?|kg) (?:in|over|within) (?:a|one|[0-9]) ?(?:day|week)", re.IGNORECASE)
_A_DAY = re.compile(r"^ ?(?:mg|mcg|g|units?|ml)?,? ?(?:/|per |a |in |total)", re.IGNORECASE)
_CHANGE = re.compile(
    r"(?:\+|\b(?:by|up|down|(?:drop|rise|increase|decrease|gain|loss|total) of|gain(?:ed|ing|s)?|lo(?:st|ss)|los(?:es|ing)))\s+"
    r"(?:about |approximately |~)?$",
    re.IGNORECASE,
)
_IN_OTHER_WORDS = re.compile(r"^[^.;\n]{0,12}(?:/ ?$|[=≈~]|\b(?:about|roughly|approximately|approx\.?|i\.e\.)\s?$)")
_COUNTED = (0.5, 1.5, 2, 3, 4)
_PIECES = frozenset("tablet tablets tab tabs pill pills capsule capsules cap caps puff puffs drop drops spray sprays".split())  # noqa: SIM905
_FARTHEST_COUNT, _EARLIER, _NEARBY = 6, 4, 40  # tokens: between "two" and "500 mg" in "take two of the"; numbers; tokens
_SENTENCE = 60
_LEAST_DOSE = 50  # of what no unit says, "two of the 200s"
_PER_THOUSAND = ("white cells", "platelets")
_FEET = re.compile(r"\b([3-7]) ?(?:['’′]|-?(?:feet|foot|ft)\b\.?) ?(?:(1[01]|[0-9])(?![0-9]))?", re.IGNORECASE)
_METRIC = re.compile(r"\b(1[0-9]{2}(?:\.[0-9])?) ?cm\b|\b([12]\.[0-9]{1,2}) ?(?:m|meters?|metres?)\b", re.IGNORECASE)
_OF_HEIGHT = re.compile(r"\b(?:height|ht|tall)\b", re.IGNORECASE)
_SAME_HEIGHT, _SAME_BMI = 1.0, 0.35  # inches; kg/m2, for what was rounded on the way
_TALLEST = (36, 90)
_Verdict: TypeAlias = Literal["error", "info"]


def invented_value(text: Text) -> Iterator[Issue]:
    """A dose, vital sign or lab value is in the source as a value of the same thing, however it is written or spoken there.

    An error where the source has no such number, or another value of the same thing; where it has the number as something else,
    and where the note gives it as a limit, a total or a conversion, a remark.
    """
    if text.source is None:
        return
    said = said_in(affirmed(text.source))
    seen: set[tuple[str, float]] = set()
    end = -1
    written = written_quantities(text.text)
    for before, one, after in zip((None, *written), written, (*written[1:], None), strict=False):
        if one.kind not in _CHECKED or (one.kind, one.value) in seen or said.has(one) or said.gives_difference(text.text, one):
            continue
        if is_sum(text.text, one) and any(_is_daily(one, other) for other in written):
            continue
        seen.add((one.kind, one.value))
        if one.start < end:
            continue  # the second number of a blood pressure
        derived = _is_limit(text.text, one) or _is_total(text.text, one) or _is_difference(text.text, one)
        derived = derived or _is_conversion(text.text, before, one) or _is_conversion(text.text, one, after) or said.counts_out(one)
        severity: _Verdict = "info" if derived else said.verdict(one)
        start, end = _pair(text.text, before, one, after)
        yield said.issue(text, severity, one, (start, end))
        if len(seen) >= MOST_ISSUES:
            return


def _pair(text: str, before: Quantity | None, one: Quantity, after: Quantity | None) -> tuple[int, int]:
    """The place of a value, and of both numbers of a blood pressure."""
    start, end = one.start, one.reach
    if one.kind == "blood pressure":
        if before and before.kind == one.kind and text[before.end : start].strip() == "/":
            start = before.start
        if after and after.kind == one.kind and text[one.end : after.start].strip() == "/":
            end = after.reach
    return start, end


class Said:
    """What a source says, by value."""

    def __init__(self, source: str) -> None:
        self.source, self.is_dialogue = source, is_dialogue(source)
        self.found = found = spoken_quantities(known_doses(source))
        self._kinds = {one.kind for one in found}
        self._at: dict[float, list[Quantity]] = {}
        for one in (*found, *multiples(found)):
            self._at.setdefault(round(one.value, 3), []).append(one)
        unlabelled = (one for one in found if one.kind in _CONVERTED or (not one.kind and _FEVERISH[0] <= one.value <= _FEVERISH[1]))
        self._others = list(unlabelled)[:_MOST_OTHERS]

    @cached_property
    def _heights(self) -> set[float]:
        return heights(self.source, self.found)

    @cached_property
    def _counted(self) -> set[tuple[str, float]]:
        return {(one.kind, round(one.value, 3)) for one in multiples(self.found, nearby=True)}

    def has(self, one: Quantity) -> bool:
        """Whether the source gives this value of the same thing, in this unit or another, or the number without saying of what."""
        if one.kind == "bmi" and self._gives_bmi(one.value):
            return True
        return (
            any(self._alike(one, other) for other in self._at.get(round(one.value, 3), ())[:_COMPARED])
            or any(not other.unit and self._alike(one, other) for other in self._at.get(round(one.number, 3), ())[:_COMPARED])
            or any(_converted(one, other) for other in self._others)
            or any(other.kind in (one.kind, "") for value in _thousands(one) for other in self._at.get(round(value, 3), ())[:_COMPARED])
        )

    def _alike(self, one: Quantity, other: Quantity) -> bool:
        """Whether a number of the source stands for the same thing; in speech a number may be that of any label near it."""
        return _alike(one, other) or (one.kind in other.near and (self.is_dialogue or not other.kind))

    def _gives_bmi(self, bmi: float) -> bool:
        """Whether a body mass index follows from one of the heights and one of the weights."""
        pounds = [other.value for other in self._others if other.kind == "weight"]
        return any(abs(bmi - 703.07 * weight / height**2) <= _SAME_BMI for height in self._heights for weight in pounds)

    def verdict(self, one: Quantity) -> _Verdict:
        """An error where the number is nowhere, or the source has another value of the same thing, or has it of other things only."""
        same = (*self._at.get(round(one.value, 3), ()), *self._at.get(round(one.number, 3), ()))[:_COMPARED]
        if not same or one.kind in self._kinds & _VITALS:
            return "error"
        return "info" if self.is_dialogue or not all(other.kind for other in same) else "error"

    def gives_difference(self, text: str, one: Quantity) -> bool:
        """Whether a value is a change, and that between two of the same thing."""
        same = sorted({other.value for other in self.found if other.kind == one.kind})[:_COMPARED] if _is_difference(text, one) else ()
        return any(abs(abs(first - second) - one.value) < _ROUNDED for first in same for second in same)

    def counts_out(self, one: Quantity) -> bool:
        """Whether a dose is a multiple of one that the source gives, by a count that is said near it."""
        return (one.kind, round(one.value, 3)) in self._counted

    def issue(self, text: Text, severity: _Verdict, one: Quantity, span: tuple[int, int]) -> Issue:
        """An issue that names the value, and what the source gives instead where that is plain."""
        value, thing = text.text[slice(*span)], _thing(text.text, one)
        others = [other for other in self.found if other.kind == one.kind and one.kind not in _DOSES | {"percent", "concentration"}]
        other = others[0] if others else None
        expected = self.source[other.start : other.reach] if other else None
        if other and other.kind == "blood pressure" and (pair := re.compile(r"\W{0,3}(?:over|/)\W{0,3}").match(self.source, other.end)):
            second = next((two for two in others if two.start == pair.end()), other)
            other = replace(other, reach=max(second.reach, other.reach))
            expected = self.source[other.start : other.reach]
        told = f"the source {expected}" if expected else "which the source does not give"
        if severity == "info" and not expected:
            told = "which the source does not give for it"
        place = (other.start, other.reach) if other else None
        return text.issue(
            "invented-value",
            severity,
            f"the note says {thing} {value}, {told}",
            span,
            source_span=place,
            found=f"{thing} {value}",
            expected=expected,
        )


def _thing(text: str, one: Quantity) -> str:
    """What a value is of, in words."""
    if one.kind not in _DOSES | {"concentration", "percent"}:
        return {"score": "a score of"}.get(one.kind, one.kind)
    drug = next((drug.name for drug in reversed(mentions(text)) if 0 <= one.start - drug.end <= _SENTENCE // 2), "")
    return drug or ("a dose of" if one.kind in _DOSES else "a value of")


@lru_cache(maxsize=2)
def said_in(source: str) -> Said:
    """The values of a source; several checks ask for the same one."""
    return Said(source)


def known_doses(source: str) -> str:
    """The source with the dose of a baby aspirin in digits, in the place of its name."""
    return _KNOWN_DOSES.sub(lambda found: "asa 81 mg".ljust(len(found[0])), source)


def invented_height(text: Text) -> Iterator[Issue]:
    """The height of the patient is the one the source gives."""
    stated = list(_stated_heights(text.text)) if text.source else []
    heard = heights(text.source or "", said_in(affirmed(text.source or "")).found) if stated else set()
    for start, end, inches in stated:
        if heard and not any(abs(inches - other) <= _SAME_HEIGHT for other in heard):
            expected = f"{min(heard):.0f} inches" if len(heard) == 1 else None
            told = f"the source {expected}" if expected else "the source another one"
            found = f"height {text.text[start:end].strip()}"
            yield text.issue("invented-value", "error", f"the note says {found}, {told}", (start, end), found=found, expected=expected)
            return


def _alike(one: Quantity, other: Quantity) -> bool:
    if one.kind == other.kind or not other.kind or other.kind in _VAGUE:
        return True
    both = {one.kind, other.kind}
    if both <= _LIPIDS:
        return True
    by_mass = one.kind in _MEASURED_BY_MASS and (other.kind in _MEASURED_BY_MASS or (other.kind in _LABS and not other.unit))
    return by_mass or (one.kind == "percent" and other.kind in _LABS | _VITALS) or both <= {"percent", "oxygen saturation"}


def _converted(one: Quantity, other: Quantity) -> bool:
    """Whether the same is measured on another scale, kilograms or degrees Celsius, with the same result."""
    scales = one.unit != other.unit or (one.kind == "temperature" and (one.value < 50) != (other.value < 50))
    same = one.kind == other.kind or (one.kind == "temperature" and not other.kind)
    return same and scales and abs(_canonical(one) - _canonical(other)) <= _CONVERTED[one.kind]


def _canonical(one: Quantity) -> float:
    """Temperatures in Fahrenheit, whatever the unit; weights are in pounds already."""
    celsius = one.kind == "temperature" and one.value < 50
    return one.value * 1.8 + 32 if celsius else one.value


def _is_limit(text: str, one: Quantity) -> bool:
    """Whether a value is one to reach or to stay below, which nobody measured: "goal BP <130/80"."""
    before, after = text[max(0, one.start - 90) : one.start], text[one.end : one.end + 25]
    is_bound = _LIMIT.search(before) is not None and _HELD_AGAINST.search(before) is None
    return is_bound or _OR_MORE.match(after) is not None or _A_RATE.match(after) is not None


def is_sum(text: str, one: Quantity) -> bool:
    """Whether a dose is what several doses come to: "(1,300 mg/day)"."""
    return _is_total(text, one) or _is_in_brackets(text, one)


def _is_total(text: str, one: Quantity) -> bool:
    """Whether a dose is that of a whole day."""
    return one.kind in _DOSES and _A_DAY.match(text[one.end : one.end + 15]) is not None


def _is_in_brackets(text: str, one: Quantity) -> bool:
    """Whether a bracket opens before a dose, as before what several doses come to."""
    return one.kind in _DOSES and text[one.start - 1 : one.start] == "("


def _is_daily(total: Quantity, dose: Quantity) -> bool:
    """Whether a total follows from a dose that stands before it in the note, taken once to four times."""
    is_after = dose.kind == total.kind and 0 <= total.start - dose.end <= _SENTENCE
    return is_after and total.value in [dose.value * times for times in (1, 2, 3, 4)]


def _is_difference(text: str, one: Quantity) -> bool:
    """Whether a value says by how much another one has changed."""
    return _CHANGE.search(text[max(0, one.start - 25) : one.start]) is not None


def _is_conversion(text: str, one: Quantity | None, other: Quantity | None) -> bool:
    """Whether a value and its neighbour, in brackets, after "about" or a slash, say the same in two units, or are the parts of one dose."""
    if one is None or other is None or one.kind == other.kind in _CONVERTED:
        return False
    between = text[one.end : other.start]
    in_brackets = "(" in between and ")" not in between and len(between) < 2 * _FARTHEST_COUNT
    same = in_brackets or _IN_OTHER_WORDS.search(between) is not None
    return (same and other.unit not in ("", one.unit)) or (one.kind == other.kind == "mass" and between.strip() in ("/", "-"))


def multiples(found: Sequence[Quantity], *, nearby: bool = False) -> Iterator[Quantity]:
    """Doses counted out: "two five hundred milligram tablets", "half of the fifty"; ``nearby`` tablets and halves may be some way off."""
    earlier, later = (4 * _EARLIER, 4 * _EARLIER) if nearby else (_EARLIER, 0)
    for at, one in enumerate(found):
        if one.kind in _DOSES or (nearby and not one.kind and (one.value >= _LEAST_DOSE or one.value % 1)):
            for count in found[max(0, at - earlier) : at + later]:
                apart = one.first - count.last if count.first < one.first else count.first - one.last
                if count.value in _COUNTED and 0 <= apart <= _reach(count, nearby=nearby):
                    yield replace(one, kind=one.kind or "mass", value=one.value * count.value)


def _reach(count: Quantity, *, nearby: bool) -> int:
    """How many tokens there may be between a count and what it counts, -1 where it counts something else."""
    if nearby and (count.unit in _PIECES or (not count.kind and count.value < 1)):
        return _NEARBY
    return _FARTHEST_COUNT if not count.kind or (count.kind == "count" and not nearby) else -1


def _thousands(one: Quantity) -> tuple[float, ...]:
    """The other ways to count blood cells: 11.4 and 11,400."""
    return (one.value * 1000, one.value / 1000) if one.kind in _PER_THOUSAND else ()


def heights(text: str, found: Sequence[Quantity] = ()) -> set[float]:
    """Heights in inches: of a text in digits, and of the quantities of a source as they are spoken ("five foot four", "five four")."""
    text = with_points(text)
    written = {12.0 * int(one[1]) + int(one[2] or 0) for one in _FEET.finditer(text)}
    written |= {float(one[1] or 100 * float(one[2])) / 2.54 for one in _METRIC.finditer(text)}
    for one, two in pairwise(found):
        if one.value in (4, 5, 6) and one.unit in ("", "foot", "feet", "ft") and two.value < 12 and two.first - one.last <= 2:
            written.add(12 * one.value + two.value)
    written |= {one.value / 2.54 for one in found if one.kind in ("height", "length") and 120 <= one.value <= 215}
    return {height for height in written if _TALLEST[0] <= height <= _TALLEST[1]}


def _stated_heights(text: str) -> Iterator[tuple[int, int, float]]:
    """(start, end, inches) of the heights that a note calls so."""
    for pattern in (_FEET, _METRIC):
        for one in pattern.finditer(text):
            if _OF_HEIGHT.search(text[max(0, one.start() - 12) : one.end() + 6]):
                yield *one.span(), min(heights(one.group()), default=0.0)
