"""Numbers bound to what they measure: a dose in milligrams, a heart rate, a hemoglobin.

The unit behind a number says most ("40 mg", "98 %", "3 weeks"); the nearest label before it says the rest ("heart rate is
seventy two").
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

from medgemma_app.validate.numbers import (
    FACTORS,
    INITIALS,
    LABS,
    SMALL,
    TENS,
    UNITS,
    VITALS,
    Number,
    Tokens,
    as_number,
    number_part,
    numbers,
    tokenize,
)


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number, its kind ("" where nothing says), its unit as written, and its place in the text, with its unit up to ``reach``."""

    kind: str
    value: float
    unit: str
    start: int
    end: int
    reach: int
    first: int
    last: int
    near: frozenset[str] = frozenset()  # what else it may measure, where speech leaves it open

    @property
    def number(self) -> float:
        """The value in its own unit."""
        return self.value / FACTORS.get(self.unit, 1.0)


_NAMED = {**VITALS, **LABS}
_LABELS = frozenset(_NAMED.values())
_ANALYTES = frozenset(LABS.values())
_LINKS = frozenset("of is was at to and or from on in the a now today about approximately stable elevated low high count level".split())  # noqa: SIM905
_BEFORE_INITIALS = frozenset(["", ",", ";", ":", ".", "-", "•", "|", "*", "/", ")", "\n"])
_PAIR = ("over", "/")
_LEAST_TOLD = 10
_DOSED = frozenset(unit for unit, kind in UNITS.items() if kind == "mass")
_TOLD = frozenset(["blood pressure", "heart rate", "respiratory rate", "oxygen saturation"])
_COLDEST = 90  # degrees Fahrenheit
_AFTER_SEX = frozenset("with w who presents presenting here admitted seen".split())  # noqa: SIM905
_NO_SHARES = {"respiratory rate", "heart rate", "blood pressure", "temperature", "weight", "bmi"}
_PER = ("/", "per")
_CONCENTRATION = {"dl", "deciliter", "deciliters", "l", "liter", "litre", "ml", "milliliter", "mm3", "mcl", "ul", "hour", "hr", "h"}
_OWN_KIND = {
    "rate": "heart rate",
    "breaths": "respiratory rate",
    "pressure": "blood pressure",
    "temperature": "temperature",
    "weight": "weight",
}
# Of the units that several things share, those that a label may narrow down.
_SHARED = {"", "angle", "percent", "concentration", "rate", "breaths", "temperature", "weight", "pressure", "equivalents", "units"}
_FARTHEST_LABEL = 9
_BARS_IN_SPEECH: frozenset[str] = frozenset()
_BARS_IN_WRITING = frozenset("\n•.;")
_LOWEST_PRESSURE = 30
_EQUALS = (":", "=", "is", "of", "was", "°", "*")
_UNITLESS = frozenset(["blood pressure", "bmi", "score", "date", "name"])


@lru_cache(maxsize=4)
def spoken_quantities(text: str) -> tuple[Quantity, ...]:
    """Every reading of every number of a source, with its kind; "" where neither unit nor label says what it is."""
    tokens = tokenize(text)
    found = (_quantity(tokens, number, _BARS_IN_SPEECH) for number in numbers(tokens.texts))
    return tuple(replace(one, near=_near(tokens.texts, one)) if not one.kind or one.kind in _LABELS else one for one in found)


@lru_cache(maxsize=4)
def written_quantities(text: str) -> tuple[Quantity, ...]:
    """The numbers of a note, one reading each, a word only where it is a dose or a vital sign; a label is in the sentence of its number."""
    tokens = tokenize(text)
    found = ((number, _quantity(tokens, number, _BARS_IN_WRITING)) for number in numbers(tokens.texts))
    return tuple(_longest(one for number, one in found if as_number(tokens.texts[number.first]) is not None or _is_told(tokens.texts, one)))


def _is_told(tokens: Sequence[str], one: Quantity) -> bool:
    """Whether a number is a value all in words: "two hundred milligrams", "a pulse of ninety", but not "one 300 mg tablet"."""
    if any(as_number(token) is not None for token in tokens[one.first : one.last]):
        return False
    return one.value >= _LEAST_TOLD and (one.unit in _DOSED or (not one.unit and one.kind in _TOLD))


def _longest(found: Iterable[Quantity]) -> Iterator[Quantity]:
    """Of readings that overlap, the first and longest."""
    end = -1
    for one in found:
        if one.first >= end:
            yield one
            end = one.last


def _quantity(tokens: Tokens, number: Number, bars: Container[str]) -> Quantity:
    unit, after = _unit(tokens.texts, number.last)
    kind = "name" if not unit and _is_name(tokens, number) else _kind(tokens.texts, number, unit, bars)
    if kind in _UNITLESS:
        unit = ""  # "158/92 L arm", "BMI 30 kg/m2"
    value, end = number.value * FACTORS.get(unit, 1.0), tokens.ends[number.last - 1]
    reach = tokens.ends[after] if unit and after - number.last < 2 else end
    return Quantity(kind, value, unit, tokens.starts[number.first], end, reach, number.first, number.last)


def _unit(tokens: Sequence[str], at: int) -> tuple[str, int]:
    """The unit behind a number and where it stands: "40 mg", "40-mg", "40 to 50 mg", "98 / 99 %"."""
    for offset in (0, 1):
        word = _text(tokens, at + offset)
        if word in UNITS and not (offset and _text(tokens, at) != "-") and not _is_label(tokens, at + offset):
            return word, at + offset
    other = number_part(tokens, at + 1) if _text(tokens, at) in ("to", "-", "–", "—", "or", "/") else None
    unit = _text(tokens, other[3]) if other else ""
    return (unit, other[3]) if other and unit in UNITS else ("", at)


def _is_label(tokens: Sequence[str], at: int) -> bool:
    """Whether what could be a unit is the name of the next value: "T 98.1 HR 74", "K 4.1 Mg 1.8"."""
    word, after = tokens[at], _text(tokens, at + 1)
    value = as_number(after)
    return value is not None and (word in VITALS or (word in INITIALS and "." in after))


def _kind(tokens: Sequence[str], number: Number, unit: str, bars: Container[str]) -> str:
    kind, after = UNITS.get(unit, ""), [_text(tokens, number.last + offset) for offset in range(3)]
    if tokens[number.first] in ("once", "twice", "thrice"):
        return "count"
    if (kind == "time" or after[0] in ("m", "f")) and _is_age(tokens, number):
        return "age"
    if not kind and (_is_date(tokens, number) or _is_scale(tokens, number)):
        return "date" if _is_date(tokens, number) else "name"
    if number.value <= _LEAST_TOLD and (
        after[:2] in (["/", "10"], ["over", "ten"]) or (after[:2] == ["out", "of"] and after[2] in ("ten", "10"))
    ):
        return "score"
    if kind == "angle" and after[1] in ("f", "c", "fahrenheit", "celsius"):
        return "temperature"
    if kind == "weight" and after[1] == "/" and after[2] in ("m2", "m²"):
        return "bmi"
    if kind == "length" and "hg" in after[1:]:
        return "blood pressure"
    if kind in ("mass", "units", "concentration", "equivalents") and _is_concentration(tokens, number.last):
        kind = "concentration"
    if kind == "volume" and after[1] in _PER and after[2] in ("min", "minute"):
        label = _label(tokens, number, bars)
        return label if label in _ANALYTES else kind  # through the kidneys, or of oxygen
    if kind not in ("mass", "units") and _in_pair(tokens, number):
        return "blood pressure"
    return _narrowed(kind, _label(tokens, number, bars)) if kind in _SHARED else kind


def _narrowed(kind: str, label: str) -> str:
    """What the unit and the label say together; a unit that fits the label only is as good as the label."""
    if kind in _OWN_KIND:
        return _OWN_KIND[kind]
    if kind in ("equivalents", "units"):
        return label if label in _ANALYTES else kind
    if kind == "angle":
        return "temperature" if label == "temperature" else kind
    if kind == "percent" and label in _NO_SHARES:
        return kind  # "respirations eighteen, ninety nine percent"
    return label or kind


def _is_name(tokens: Tokens, number: Number) -> bool:
    """Whether a number is part of a name, as in B-12 and COVID-19."""
    mark, word = _text(tokens.texts, number.first - 1), _text(tokens.texts, number.first - 2)
    joined = mark == "-" and word.isalpha() and tokens.ends[number.first - 2] == tokens.starts[number.first - 1]
    return joined and word not in SMALL and word not in TENS


def _is_scale(tokens: Sequence[str], number: Number) -> bool:
    """Whether a number belongs to a unit, as in x10^9/L and mL/min/1.73 m²."""
    of_power = "^" in (_text(tokens, number.first - 1), _text(tokens, number.last))
    return of_power or (_text(tokens, number.first - 1) == "/" and _text(tokens, number.last) in ("m", "m2", "m²"))


def _is_age(tokens: Sequence[str], number: Number) -> bool:
    window = [_text(tokens, number.last + offset) for offset in range(4)]
    if window[0] in ("m", "f"):  # "45F with cough", but not "98.6 F, pulse 72"
        return (
            window[1] in _AFTER_SEX
            or window[1:3] in (["c", "/"], ["s", "/"])
            or (window[1] == "," and number.value < _COLDEST)
            or window[1][:2] in ("g0", "g1", "g2", "g3")
        )
    of_age = window[1:3] == ["of", "age"] or (window[0] == "y" and window[1] in ("/", ".", "o") and "o" in window[1:3])
    return of_age or "old" in window or "yo" in window[:2]


def _is_date(tokens: Sequence[str], number: Number) -> bool:
    """Whether a number is part of 03/2021 or 1/12/71."""
    year = 1900 <= number.value < 2100
    around = [(number.last, number.last + 1, number.last + 2), (number.first - 1, number.first - 2, number.first - 3)]
    for mark, other, beyond in around:
        value = as_number(_text(tokens, other)) if _text(tokens, mark) in ("/", "-") else None
        if value is not None and (year or 1900 <= value < 2100 or _text(tokens, beyond) == _text(tokens, mark)):
            return True
    return False


def _is_concentration(tokens: Sequence[str], at: int) -> bool:
    near = [_text(tokens, at + offset) for offset in range(4)]
    return any(per in _PER and under in _CONCENTRATION for per, under in pairwise(near))


def _in_pair(tokens: Sequence[str], number: Number) -> bool:
    """Whether a number is half of a blood pressure: "120/80", "one twenty over eighty"."""
    if number.value < _LOWEST_PRESSURE or number.value != int(min(number.value, 999)):
        return False
    if _text(tokens, number.last) in _PAIR and _pressure_at(tokens, number.last + 1):
        return "/" not in (_text(tokens, number.first - 1), _text(tokens, number.last + 2))  # three are gases of the blood
    return _text(tokens, number.first - 1) in _PAIR and _pressure_at(tokens, number.first - 2) and _text(tokens, number.last) != "/"


def _pressure_at(tokens: Sequence[str], at: int) -> bool:
    word = _text(tokens, at)
    value = as_number(word)
    return (value is not None and _LOWEST_PRESSURE <= value < 400) or (value is None and bool(list(numbers(tokens[max(at, 0) : at + 1]))))


def _label(tokens: Sequence[str], number: Number, bars: Container[str]) -> str:
    """The nearest name of a vital sign or analyte before a number; other numbers may stand between."""
    another = passed = False  # a word by the number that is no such name ("phosphorus 4.4, UACR 410"), a comma before it
    for at in range(number.first - 1, max(-1, number.first - 1 - _FARTHEST_LABEL), -1):
        word = tokens[at]
        if word in bars or word == "ratio" or (word == "," and another and bars):
            return ""
        if passed and word[0].isdigit():
            return ""  # the name is that of another number: "B12 390, 25-OH"
        passed = passed or (word == "," and bool(bars))
        another = another or (word.isalpha() and word not in _LINKS and word not in _NAMED)
        label = _label_at(tokens, at, number)
        if label:
            return label
    return ""


def _label_at(tokens: Sequence[str], at: int, number: Number) -> str:
    word, before = tokens[at], _text(tokens, at - 1)
    if word == "rate" and before in ("heart", "pulse"):
        return "heart rate"
    if word == "count" and before in ("cell", "blood", "white"):
        return "white cells"
    near = at == number.first - 1 or (at == number.first - 2 and tokens[at + 1] in _EQUALS)
    if word in INITIALS and near and (before in _BEFORE_INITIALS or before in UNITS or (before[-1].isdigit() and word not in UNITS)):
        return INITIALS[word] if number.value >= 8 or INITIALS[word] in _ANALYTES else ""
    if (word == "pressure" and before not in ("blood", "arterial")) or (word == "na" and before in ("wan", "gon")):
        return ""
    label = _NAMED.get(word, "")
    return "" if label == "blood pressure" and number.value < _LOWEST_PRESSURE else label  # "a systolic murmur, 3/6"


def _near(tokens: Sequence[str], one: Quantity) -> frozenset[str]:
    around = tokens[max(0, one.first - _FARTHEST_LABEL) : one.last + _FARTHEST_LABEL // 2]
    return frozenset(_NAMED[token] for token in around if token in _NAMED)


def _text(tokens: Sequence[str], at: int) -> str:
    return tokens[at] if 0 <= at < len(tokens) else ""
