"""Doses, vital signs and lab values of a note: whether its source gives them, or they follow from what it gives."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache

from medgemma_app.validate.core import Issue, Severity, Text
from medgemma_app.validate.quantities import Quantity, spoken_quantities, written_quantities
from medgemma_app.validate.terms import LABS, VITALS, Source, is_dialogue, mentions

_LABS, _VITALS = frozenset(LABS.values()), frozenset(VITALS.values()) - {"height", "bmi"}
DOSES = frozenset(["mass", "volume", "units", "equivalents"])
_CHECKED = DOSES | _VITALS | _LABS | {"bmi", "concentration", "percent", "score"}
_VAGUE = {"", "percent", "concentration", "angle"}  # a source may give a number alone, or with a unit that several things share
_BY_MASS = {"mass", "concentration", "units", "equivalents"}
_LIPIDS = {"cholesterol", "ldl", "hdl"}  # "the good cholesterol"
_CONVERTED = {"weight": 1.0, "temperature": 0.15}  # how far off a value may be after a change of units
_FEVERISH = (95, 107)  # what is a temperature though nothing says so, in degrees Fahrenheit
_KNOWN_DOSES = re.compile(r"\b(?:baby|low[- ]dose) aspirin\b", re.IGNORECASE)  # what the words mean in the United States
_COMPARED, _MOST_OTHERS, MOST_ISSUES = 50, 200, 20
_COUNTED = (0.5, 1.5, 2, 3, 4)
_PIECES = frozenset("tablet tablets tab tabs pill pills capsule capsules cap caps puff puffs drop drops spray sprays".split())  # noqa: SIM905
_EARLIER, _NEARBY, _FARTHEST_COUNT = 16, 40, 6  # numbers; tokens to "half a tablet"; tokens between "two" and "500 mg"
_TO_DRUG, _LEAST_DOSE = 30, 50
# What nobody measured or gave: a limit, a goal, a total, a change, or the same again in brackets, as before a number...
_DERIVED_BEFORE = re.compile(
    r"(?:[<>≤≥]=?|\b(?:goals?|targets?|therapeutic|ranges?|keep|maintain|titrated?|max(?:imum)?|minimum|limit(?:ed to)?|up to|at least"
    r"|above|below|(?:greater|less|more|higher|lower) than|under|exceed(?:s|ing)?|ref(?:erence)?|threshold|restriction|lose|losing"
    r"|(?:call|return|notify|go|come|seek)\b[^.;\n]{0,40}\b(?:if|for|when)\b)\b)(?:[^.;\n0-9]|a1c|o2|b12){0,40}"
    r"(?:[0-9]{1,3}(?:\.[0-9]{1,2})? ?%? ?(?:/|-|–|to) ?)?$"
    r"|(?:\+|\b(?:by|up|down|(?:drop|rise|increase|decrease|total) of|gain(?:ed|ing|s)?|lost|loss(?: of)?|los(?:es|ing))) ?(?:about |~)?$"
    r"|[0-9][^()\n]{0,20}\((?:about |~|= ?|bmi )?$|[=≈~] ?$|\b(?:about|roughly|approximately|from|last|previously) $|(?:^|[\s(])[+−–-]$",
    re.IGNORECASE,
)
_HELD_AGAINST = re.compile(r"\b(?:above|below|at|near|over|under|out of) (?:the )?(?:goal|target|range)\b[^.;\n]{0,40}$", re.IGNORECASE)
# ...and as behind it.
_DERIVED_BEHIND = re.compile(
    r" ?(?:%|mg/dl|[a-z]{1,5})? ?(?:or|and) (?:above|below|more|less|higher|lower|greater|over|under)\b"
    r"| ?(?:lbs?|pounds?|kg) (?:in|over|within) (?:a|one|[0-9]) ?(?:day|week)",
    re.IGNORECASE,
)
_A_DAY = re.compile(r" ?(?:mg|mcg|g|units?|ml)?,? ?(?:/|per |a |in |total)", re.IGNORECASE)
_TWICE = re.compile(r" ?(?:mg)? ?[/-] ?$")  # the parts of one dose: "875/125 mg"


def invented_value(text: Text, source: Source) -> Iterator[Issue]:
    """A dose, vital sign or lab value is in the source as a value of the same thing, however it is written or spoken there.

    An error where the source has no such number, or another value of the same thing; a remark where it has the number as something
    else. What a note gives as a limit, a total, a change or a conversion, its source need not give.
    """
    said = said_in(source.told)
    seen: set[tuple[str, float]] = set()
    pair_end = 0
    for one in written_quantities(text.text):
        if one.kind not in _CHECKED or (one.kind, one.value) in seen or said.has(one) or is_derived(text.text, one):
            continue
        seen.add((one.kind, one.value))
        start, end = _whole_pair(text.text, one)
        if start >= pair_end:
            pair_end = end
            yield said.issue(text, said.severity(one), one, (start, end))
        if len(seen) >= MOST_ISSUES:
            return


def is_derived(text: str, one: Quantity) -> bool:
    """Whether a value is a limit, a total, a change, or says another one again."""
    before, behind = text[max(0, one.start - 90) : one.start], text[one.end : one.end + 25]
    bound = _DERIVED_BEFORE.search(before) is not None and _HELD_AGAINST.search(before) is None
    dose = one.kind in DOSES and (_A_DAY.match(behind) is not None or _TWICE.search(before) is not None)
    return bound or dose or _DERIVED_BEHIND.match(behind) is not None


def _whole_pair(text: str, one: Quantity) -> tuple[int, int]:
    """The place of a value; of both numbers where it is half of a blood pressure."""
    if one.kind != "blood pressure":
        return one.start, one.reach
    before, behind = re.search(r"[0-9]{2,3} ?/ ?$", text[: one.start][-6:]), re.match(r" ?/ ?[0-9]{2,3}", text[one.end : one.end + 6])
    return one.start - (len(before[0]) if before else 0), one.end + len(behind[0]) if behind else one.reach


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

    def has(self, one: Quantity) -> bool:
        """Whether the source gives this value of the same thing, in this unit or another, or the number without saying of what."""
        if one.kind == "bmi" and "weight" in self._kinds and "bmi" not in self._kinds:
            return True  # computed
        return (
            any(self._alike(one, other) for other in self._of(one.value))
            or any(not other.unit and self._alike(one, other) for other in self._of(one.number))
            or any(_converted(one, other) for other in self._others)
            or any(other.kind in (one.kind, "") for value in _thousands(one) for other in self._of(value))
        )

    def _of(self, value: float) -> Sequence[Quantity]:
        return self._at.get(round(value, 3), ())[:_COMPARED]

    def _alike(self, one: Quantity, other: Quantity) -> bool:
        """Whether a number of the source stands for the same thing; in speech a number may be that of any label near it."""
        both = {one.kind, other.kind}
        by_mass = one.kind in _BY_MASS and (other.kind in _BY_MASS or (other.kind in _LABS and not other.unit))
        shares = (one.kind == "percent" and other.kind in _LABS | _VITALS) or both <= {"percent", "oxygen saturation"}
        return (
            len(both) == 1 or other.kind in _VAGUE or both <= _LIPIDS or by_mass or shares or (self.is_dialogue and one.kind in other.near)
        )

    def severity(self, one: Quantity) -> Severity:
        """An error where the number is nowhere, or where the source has another value of the same thing."""
        known = self._kinds & _VITALS if self.is_dialogue else self._kinds
        return "error" if one.kind in known or not (self._of(one.value) or self._of(one.number)) else "info"

    def issue(self, text: Text, severity: Severity, one: Quantity, span: tuple[int, int]) -> Issue:
        """An issue that names the value, and what the source gives instead where that is plain."""
        found = f"{_thing(text.text, one)} {text.text[slice(*span)]}"
        plain = one.kind not in DOSES | {"percent", "concentration"}
        other = next((other for other in self.found if plain and other.kind == one.kind), None)
        place = (other.start, other.reach) if other else None
        if other and (pair := re.compile(r"[0-9]* ?(?:over|/) ?(?:[0-9]{2,3}|[a-z]+(?: [a-z]+)?)").match(self.source, other.end)):
            place = (other.start, pair.end()) if one.kind == "blood pressure" else place
        expected = self.source[slice(*place)] if place else None
        told = f"the source {expected}" if expected else "which the source does not give"
        return text.issue(
            "invented-value", severity, f"the note says {found}, {told}", span, source_span=place, found=found, expected=expected
        )


def _thing(text: str, one: Quantity) -> str:
    """What a value is of, in words."""
    if one.kind not in DOSES | {"concentration", "percent", "score"}:
        return one.kind
    drug = next((drug.name for drug in reversed(mentions(text)) if 0 <= one.start - drug.end <= _TO_DRUG), "")
    return drug or ("a dose of" if one.kind in DOSES else "a value of")


@lru_cache(maxsize=2)
def said_in(source: str) -> Said:
    """The values of a source; several checks ask for the same one."""
    return Said(source)


def known_doses(source: str) -> str:
    """The source with the dose of a baby aspirin in digits, in the place of its name."""
    return _KNOWN_DOSES.sub(lambda found: "asa 81 mg".ljust(len(found[0])), source)


def _converted(one: Quantity, other: Quantity) -> bool:
    """Whether the same is measured on another scale, kilograms or degrees Celsius, with the same result."""
    scales = one.unit != other.unit or (one.kind == "temperature" and (one.value < 50) != (other.value < 50))
    same = one.kind == other.kind or (one.kind == "temperature" and not other.kind)
    return same and scales and abs(_canonical(one) - _canonical(other)) <= _CONVERTED[one.kind]


def _canonical(one: Quantity) -> float:
    """Temperatures in Fahrenheit, whatever the unit; weights are in pounds already."""
    return one.value * 1.8 + 32 if one.kind == "temperature" and one.value < 50 else one.value


def _thousands(one: Quantity) -> tuple[float, ...]:
    """The other ways to count blood cells: 11.4 and 11,400."""
    return (one.value * 1000, one.value / 1000) if one.kind in ("white cells", "platelets") else ()


def multiples(found: Sequence[Quantity]) -> Iterator[Quantity]:
    """Doses counted out: "two five hundred milligram tablets", "half a tablet of the fifty"."""
    for at, one in enumerate(found):
        if one.kind in DOSES or (not one.kind and (one.value >= _LEAST_DOSE or one.value % 1)):
            for count in found[max(0, at - _EARLIER) : at + _EARLIER]:
                apart = one.first - count.last if count.first < one.first else count.first - one.last
                of_pieces = count.unit in _PIECES or (not count.kind and count.value < 1)
                is_before = not count.kind and count.first < one.first and one.kind in DOSES
                if count.value in _COUNTED and 0 <= apart <= (_NEARBY if of_pieces else _FARTHEST_COUNT if is_before else -1):
                    yield replace(one, kind=one.kind or "mass", value=one.value * count.value)
