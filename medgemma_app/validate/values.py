"""Doses, vital signs and lab values of a note: whether the source has them, and whether they can be.

Units and analytes are those of ``units`` (UCUM, ISMP, LOINC); the bounds of a vital sign are wide ones of our own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import pairwise
from typing import Literal, TypeAlias

from medgemma_app.validate.core import Issue, Text, excerpt
from medgemma_app.validate.derived import (
    heights,
    is_bmi_of,
    is_conversion,
    is_daily,
    is_difference,
    is_in_brackets,
    is_limit,
    is_same_height,
    is_total,
    multiples,
    stated_heights,
    thousands,
)
from medgemma_app.validate.quantities import Quantity, spoken_quantities, written_quantities
from medgemma_app.validate.units import LABS

_LABS = set(LABS.values())
_DOSES = {"mass", "volume", "units", "equivalents"}
_VITALS = {"blood pressure", "heart rate", "respiratory rate", "temperature", "oxygen saturation", "weight", "bmi"}
_CHECKED = _DOSES | _VITALS | _LABS | {"concentration", "percent"}
# A source may give a number alone ("forty of lasix"), or with a unit that several things share; and a lab value without one.
_VAGUE = {"", "percent", "concentration", "angle"}
_MEASURED_BY_MASS = {"mass", "concentration", "units", "equivalents"}
_LIPIDS = {"cholesterol", "ldl", "hdl"}  # "the good cholesterol"
_CONVERTED = {"weight": 1.0, "temperature": 0.15}  # how far off a value may be after a change of units
_COMPARED = 50
_ROUNDED = 0.06
_FEVERISH = (95, 107)  # what is a temperature though nothing says so, in degrees Fahrenheit
_KNOWN_DOSES = re.compile(r"\b(?:baby|low[- ]dose) aspirin\b", re.IGNORECASE)  # what the words mean in the United States
_Verdict: TypeAlias = tuple[Literal["error", "warning"], str]
_DERIVED: _Verdict = ("warning", "is not in the source, and may follow from it")
MOST_ISSUES = 20
# Wide enough for infants and for what is seen in resuscitation; outside of it a number is a slip of the pen.
_PLAUSIBLE: Mapping[str, tuple[float, float]] = {
    "heart rate": (20, 260),
    "respiratory rate": (4, 90),
    "oxygen saturation": (40, 100),
    "temperature": (86, 110),
    "blood pressure": (20, 300),
    "a1c": (3, 150),  # percent, or mmol/mol
    "bmi": (8, 100),
}


def invented_value(report: Text) -> Iterator[Issue]:
    """A dose, vital sign or lab value is in the source, however it is written or spoken there.

    An error where the source has no such number, or has another value of the same thing; where it has the number as
    something else only, and where the note gives it as a limit, a total or a conversion, a warning.
    """
    if report.source is None:
        return
    said = _Said(report.source)
    seen: set[tuple[str, float]] = set()
    written = written_quantities(report.text)
    for before, one, after in zip((None, *written), written, (*written[1:], None), strict=False):
        if one.kind not in _CHECKED or (one.kind, one.value) in seen or said.has(one) or said.gives_difference(report.text, one):
            continue
        is_sum = is_total(report.text, one) or is_in_brackets(report.text, one)
        if is_sum and any(is_daily(one, other) for other in written):
            continue
        seen.add((one.kind, one.value))
        shown = excerpt(report.text[max(0, one.start - 30) : one.end + 15])
        derived = is_limit(report.text, one) or is_total(report.text, one) or is_difference(report.text, one)
        derived = derived or is_conversion(report.text, before, one) or is_conversion(report.text, one, after) or said.counts_out(one)
        severity, why = _DERIVED if derived else said.verdict(one)
        yield Issue("invented-value", severity, f"{_name(one)} {why}; compare it with the notes", shown)
        if len(seen) >= MOST_ISSUES:
            return


class _Said:
    """What the source says, by value."""

    def __init__(self, source: str) -> None:
        found = spoken_quantities(with_known_doses(source))
        self._found, self._source, self._kinds = found, source, {one.kind for one in found}
        self._at: dict[float, list[Quantity]] = {}
        for one in (*found, *multiples(found)):
            self._at.setdefault(round(one.value, 3), []).append(one)
        self._others = [one for one in found if one.kind in _CONVERTED or (not one.kind and _FEVERISH[0] <= one.value <= _FEVERISH[1])][
            :200
        ]

    @cached_property
    def _heights(self) -> set[float]:
        return heights(self._source, self._found)

    @cached_property
    def _counted(self) -> set[tuple[str, float]]:
        return {(one.kind, round(one.value, 3)) for one in multiples(self._found, nearby=True)}

    def has(self, one: Quantity) -> bool:
        """Whether the source says this of the same thing, in this unit or another, or says the number without saying of what."""
        if one.kind == "bmi" and is_bmi_of(one.value, self._heights, [other.value for other in self._others if other.kind == "weight"]):
            return True
        return (
            any(_alike(one, other) for other in self._at.get(round(one.value, 3), ())[:50])
            or any(not other.unit and _alike(one, other) for other in self._at.get(round(one.number, 3), ())[:50])
            or any(_converted(one, other) for other in self._others)
            or any(other.kind in (one.kind, "") for value in thousands(one) for other in self._at.get(round(value, 3), ())[:50])
        )

    def verdict(self, one: Quantity) -> _Verdict:
        if round(one.value, 3) not in self._at and round(one.number, 3) not in self._at:
            return "error", "is nowhere in the source"
        if one.kind in self._kinds & _VITALS:
            return "error", "is another one in the source"
        return "warning", "is in the source as something else only"

    def gives_difference(self, text: str, one: Quantity) -> bool:
        """Whether a value is a change, and that between two of the same thing."""
        same = sorted({other.value for other in self._found if other.kind == one.kind})[:_COMPARED] if is_difference(text, one) else ()
        return any(abs(abs(first - second) - one.value) < _ROUNDED for first in same for second in same)

    def counts_out(self, one: Quantity) -> bool:
        """Whether a dose is a multiple of one that the source gives, by a count that is said near it."""
        return (one.kind, round(one.value, 3)) in self._counted


def with_known_doses(source: str) -> str:
    """The source with the dose of a baby aspirin in digits."""
    return _KNOWN_DOSES.sub(r"\g<0> 81 mg", source)


def invented_height(report: Text) -> Iterator[Issue]:
    """The height of the patient is the one the source gives."""
    stated = list(stated_heights(report.text)) if report.source else []
    heard = heights(report.source or "", spoken_quantities(with_known_doses(report.source or ""))) if stated else set()
    for start, end, inches in stated:
        if heard and not is_same_height(inches, heard):
            shown = excerpt(report.text[max(0, start - 30) : end + 15])
            yield Issue("invented-value", "error", "the height in the note is another one in the source; compare it with the notes", shown)
            return


def _alike(one: Quantity, other: Quantity) -> bool:
    if one.kind == other.kind or other.kind in _VAGUE or one.kind in other.near:
        return True
    both = {one.kind, other.kind}
    if both <= _LIPIDS:
        return True
    by_mass = one.kind in _MEASURED_BY_MASS and (other.kind in _MEASURED_BY_MASS or (other.kind in _LABS and not other.unit))
    return by_mass or (one.kind == "percent" and other.kind in _LABS | _VITALS) or both <= {"percent", "oxygen saturation"}


def _converted(one: Quantity, other: Quantity) -> bool:
    """Whether the same is measured on another scale, kilograms or degrees Celsius, with the same result."""
    scales = one.unit != other.unit or (one.kind == "temperature" and (one.value < 50) != (other.value < 50))
    return (
        (one.kind == other.kind or (one.kind == "temperature" and not other.kind))
        and scales
        and abs(_canonical(one) - _canonical(other)) <= _CONVERTED[one.kind]
    )


def _canonical(one: Quantity) -> float:
    """Temperatures in Fahrenheit, whatever the unit; weights are in pounds already."""
    celsius = one.kind == "temperature" and one.value < 50
    return one.value * 1.8 + 32 if celsius else one.value


def _name(one: Quantity) -> str:
    thing = {"mass": "dose", "volume": "dose", "units": "dose", "equivalents": "dose", "concentration": "value"}.get(one.kind, one.kind)
    return f"the {thing} in the note"


def implausible_vital(report: Text) -> Iterator[Issue]:
    """A vital sign is one a living patient can have, and a blood pressure falls between the beats."""
    found = [one for one in written_quantities(report.text) if one.kind in _PLAUSIBLE and not one.unit.startswith(("mmol", "mmhg"))]
    pairs = {two.start for one, two in pairwise(found) if _rises(report.text, one, two)}
    wrong = [one for one in found if one.start in pairs or not _PLAUSIBLE[one.kind][0] <= _canonical(one) <= _PLAUSIBLE[one.kind][1]]
    for one in wrong[:MOST_ISSUES]:
        shown = excerpt(report.text[max(0, one.start - 30) : one.end + 15])
        yield Issue("implausible-vital", "warning", f"the {one.kind} cannot be right; compare it with the notes", shown)


def _rises(text: str, systolic: Quantity, diastolic: Quantity) -> bool:
    between = text[systolic.end : diastolic.start].strip()
    return systolic.kind == diastolic.kind == "blood pressure" and between == "/" and systolic.value < diastolic.value
