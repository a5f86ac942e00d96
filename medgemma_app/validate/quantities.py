"""Numbers and what they measure: a dose in milligrams, a heart rate, a hemoglobin.

The unit after a number usually tells ("40 mg", "98 %", "3 weeks"); in written text also the nearest label before it ("HR 72").
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from medgemma_app.validate.numbers import Number, Tokens, as_number, at_token, number_part, numbers, tokenize
from medgemma_app.validate.terms import INITIALS, LABS, UNITS, VITALS, factor

NAMED = {**VITALS, **LABS}
DOSES = frozenset(["mass", "volume", "units", "equivalents"])
_LOWEST_PRESSURE, _LEAST_INITIAL, _FARTHEST_LABEL = 30, 8, 9  # mmHg; of "P 72"; tokens
_PER = frozenset(["/", "per"])
_VOLUMES = frozenset("dl deciliter deciliters l liter litre ml milliliter milliliters mm3 mcl ul hour hr h".split())  # noqa: SIM905
_OWN_KIND = {"rate": "heart rate", "breaths": "respiratory rate", "pressure": "blood pressure"}
_LABELLED = {"", "percent", "concentration", "equivalents", "units", "volume", *_OWN_KIND}  # units that several kinds share
_BARS = frozenset("\n•.;,")  # a label is never beyond one of these
# Numbers that are no measurements: dates, COVID-19, C5-6, x10^9/L, 1.73 m², the ten of 7/10, the number of a list item.
_NO_VALUE = re.compile(
    r"\b[0-9]{1,4}([/.-])[0-9]{1,2}\1[0-9]{2,4}\b|\b[0-9]{1,2}/(?:19|20)[0-9]{2}\b|\b(?:19|20)[0-9]{2}-[0-9]{2}\b"
    r"|\b[A-Za-z]+[0-9]?-[0-9]+\b|[x*×] ?10 ?\^ ?[0-9]+|/ ?1\.73|(?:/|\bout of) ?10\b"
    r"|(?m:^[ \t]*[0-9]{1,2}\.(?= ))"
)


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number, its kind ("" if unknown), its value in the kind's first unit in ``data/units.txt``, its unit as written, and its place.

    ``start`` and ``end`` are the place of the number in the text, ``reach`` the end of its unit, ``first`` and ``last`` its tokens.
    """

    kind: str
    value: float
    unit: str
    start: int
    end: int
    reach: int
    first: int
    last: int

    @property
    def number(self) -> float:
        """The value in the unit as written."""
        return self.value / factor(self.unit)


@lru_cache(maxsize=4)
def spoken_quantities(text: str) -> tuple[Quantity, ...]:
    """Every reading of every number of a text, with the kind that its unit gives."""
    tokens = tokenize(text)
    return tuple(_quantity(tokens, number) for number in numbers(tokens.texts))


@lru_cache(maxsize=4)
def written_quantities(text: str) -> tuple[Quantity, ...]:
    """The numbers in digits of a text, one reading each, with the kind that the unit or the label gives."""
    tokens = tokenize(_NO_VALUE.sub(lambda found: " " * len(found[0]), text))
    found: list[Quantity] = []
    for number in numbers(tokens.texts):
        if as_number(tokens.texts[number.first]) is not None and (not found or number.first >= found[-1].last):
            one = _quantity(tokens, number)
            label = _label(tokens.texts, number) if one.kind in _LABELLED else ""
            by_label = label in LABS.values() or (label and one.kind in ("", "percent", "concentration", *_OWN_KIND))
            found.append(replace(one, kind=label if by_label else _OWN_KIND.get(one.kind, one.kind)))
    return tuple(found)


def _quantity(tokens: Tokens, number: Number) -> Quantity:
    texts, (value, first, last) = tokens.texts, number
    unit, at = _unit(texts, last)
    kind, behind = UNITS.get(unit, ""), [at_token(texts, at + offset) for offset in range(1, 4)] if unit else ["", "", ""]
    if kind not in ("mass", "units", "time") and _in_pair(texts, number):
        kind, unit = "blood pressure", ""
    elif kind == "angle" and behind[0] in ("f", "c", "fahrenheit", "celsius"):
        kind = "temperature"
    elif kind == "weight" and behind[0] == "/":
        kind = "bmi"
    elif kind in ("mass", "units", "equivalents") and behind[0] in _PER and behind[1] in _VOLUMES:
        kind = "concentration"
    end = tokens.ends[last - 1]
    return Quantity(kind, value * factor(unit), unit, tokens.starts[first], end, tokens.ends[at] if unit else end, first, last)


def _unit(tokens: Sequence[str], at: int) -> tuple[str, int]:
    """The unit after a number and its position: "40 mg", "40-mg", "40 to 50 mg", "98 / 99 %"."""
    mark = at_token(tokens, at)
    for place in (at, at + 1) if mark == "-" else (at,):
        word, after = at_token(tokens, place), at_token(tokens, place + 1)
        is_label = as_number(after) is not None and (word in VITALS or (word in INITIALS and "." in after))
        if word in UNITS and not is_label:  # "T 98.1 HR 74", "K 4.1 Mg 1.8"
            return word, place
    other = number_part(tokens, at + 1) if mark in ("to", "-", "–", "—", "or", "/") else None
    unit = at_token(tokens, other[3]) if other else ""
    return (unit, other[3]) if other and unit in UNITS else ("", at)


def _in_pair(tokens: Sequence[str], number: Number) -> bool:
    """Whether a number is half of a blood pressure: "120/80", "one twenty over eighty"; three numbers are blood gases."""
    before, behind = at_token(tokens, number.first - 1), at_token(tokens, number.last)
    if not _LOWEST_PRESSURE <= number.value <= 999 or number.value % 1:
        return False
    if behind in ("over", "/") and _is_pressure(tokens, number.last + 1):
        return "/" not in (before, at_token(tokens, number.last + 2))
    return before in ("over", "/") and _is_pressure(tokens, number.first - 2) and behind != "/"


def _is_pressure(tokens: Sequence[str], at: int) -> bool:
    value = as_number(at_token(tokens, at))
    return _LOWEST_PRESSURE <= value < 400 if value is not None else bool(numbers(tokens[max(at, 0) : at + 1]))


def _label(tokens: Sequence[str], number: Number) -> str:
    """The nearest name of a vital sign or analyte before a number in its sentence; other words may come between."""
    for at in range(number.first - 1, max(-1, number.first - 1 - _FARTHEST_LABEL), -1):
        word, before, after = tokens[at], at_token(tokens, at - 1), at_token(tokens, at + 1)
        if word in _BARS:
            return ""
        label = NAMED.get(word) or ("heart rate" if word == "rate" and before in ("heart", "pulse") else "")
        is_next = at == number.first - 1 or (at == number.first - 2 and after in (":", "=", "is", "of", "was"))
        if word in INITIALS and is_next and (before in UNITS or not before.isalpha()) and not (word in UNITS and before[-1:].isdigit()):
            label = INITIALS[word] if number.value >= _LEAST_INITIAL or INITIALS[word] in LABS.values() else ""
        if label:
            return "" if label == "blood pressure" and number.value < _LOWEST_PRESSURE else label  # "a systolic murmur, 3/6"
    return ""
