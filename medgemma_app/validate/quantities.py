"""Numbers bound to what they measure: a dose in milligrams, a heart rate, a hemoglobin.

The unit behind a number says most ("40 mg", "98 %", "3 weeks"); the nearest label before it says the rest ("heart rate is
seventy two").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from medgemma_app.validate.numbers import SMALL, TENS, Number, Tokens, as_number, at_token, number_part, numbers, tokenize
from medgemma_app.validate.terms import FACTORS, INITIALS, LABS, UNITS, VITALS, is_dialogue


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
    near: frozenset[str]  # what else it may measure, where speech leaves it open

    @property
    def number(self) -> float:
        """The value in its own unit."""
        return self.value / FACTORS.get(self.unit, 1.0)


_NAMED = {**VITALS, **LABS}
_ANALYTES = frozenset(LABS.values())
_LINKS = frozenset("of is was at to and or from on in the a now today about approximately stable elevated low high count level".split())  # noqa: SIM905
_BEFORE_INITIALS = frozenset(["", ",", ";", ":", ".", "-", "•", "|", "*", "/", ")", "\n"])
_EQUALS = (":", "=", "is", "of", "was", "°", "*")
_LEAST_TOLD, _COLDEST, _LOWEST_PRESSURE, _FARTHEST_LABEL = 10, 90, 30, 9  # a number in words; degrees Fahrenheit; mmHg; tokens
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
_SHARED = {"", "angle", "percent", "concentration", *_OWN_KIND, "equivalents", "units"}
_UNITLESS = frozenset(["blood pressure", "bmi", "score", "date", "name"])  # "158/92 L arm", "BMI 30 kg/m2"
_BARS = frozenset("\n•.;")  # no label is beyond one in writing


@lru_cache(maxsize=4)
def spoken_quantities(text: str) -> tuple[Quantity, ...]:
    """Every reading of every number of a source, with its kind; "" where neither unit nor label says what it is."""
    tokens, bars = tokenize(text), frozenset() if is_dialogue(text) else _BARS | {","}
    return tuple(_quantity(tokens, number, bars) for number in numbers(tokens.texts))


@lru_cache(maxsize=4)
def written_quantities(text: str) -> tuple[Quantity, ...]:
    """The numbers of a note, one reading each, a word only where it is a dose or a vital sign; a label is in the sentence of its number."""
    tokens = tokenize(text)
    found: list[Quantity] = []
    for number in numbers(tokens.texts):
        one = _quantity(tokens, number, _BARS)
        in_digits = any(as_number(token) is not None for token in tokens.texts[one.first : one.last])
        told = one.value >= _LEAST_TOLD and (UNITS.get(one.unit) == "mass" or (not one.unit and one.kind in VITALS.values()))
        written = as_number(tokens.texts[one.first]) is not None or (told and not in_digits)  # but not "one 300 mg tablet"
        if written and (not found or one.first >= found[-1].last):
            found.append(one)
    return tuple(found)


def _quantity(tokens: Tokens, number: Number, bars: frozenset[str]) -> Quantity:
    texts, (value, first, last) = tokens.texts, number
    unit, after = _unit(texts, last)
    kind = _kind(tokens, number, unit, bars)
    if kind in _UNITLESS:
        unit = ""
    end = tokens.ends[last - 1]
    reach = tokens.ends[after] if unit and after - last < 2 else end
    around = texts[max(0, first - _FARTHEST_LABEL) : last + _FARTHEST_LABEL // 2] if not kind or kind in _NAMED.values() else ()
    near = frozenset(_NAMED[token] for token in around if token in _NAMED)
    return Quantity(kind, value * FACTORS.get(unit, 1.0), unit, tokens.starts[first], end, reach, first, last, near)


def _unit(tokens: Sequence[str], at: int) -> tuple[str, int]:
    """The unit behind a number and where it stands: "40 mg", "40-mg", "40 to 50 mg", "98 / 99 %"."""
    mark = at_token(tokens, at)
    for place in (at, at + 1) if mark == "-" else (at,):
        word, after = at_token(tokens, place), at_token(tokens, place + 1)
        is_label = as_number(after) is not None and (
            word in VITALS or (word in INITIALS and "." in after)
        )  # "T 98.1 HR 74", "K 4.1 Mg 1.8"
        if word in UNITS and not is_label:
            return word, place
    other = number_part(tokens, at + 1) if mark in ("to", "-", "–", "—", "or", "/") else None
    unit = at_token(tokens, other[3]) if other else ""
    return (unit, other[3]) if other and unit in UNITS else ("", at)


def _kind(tokens: Tokens, number: Number, unit: str, bars: frozenset[str]) -> str:
    """What a number measures, by its unit, the words behind it, and its label."""
    texts, last = tokens.texts, number.last
    kind, after = UNITS.get(unit, ""), [at_token(texts, last + offset) for offset in range(4)]
    out_of_ten = after[:2] in (["/", "10"], ["over", "ten"]) or (after[:2] == ["out", "of"] and after[2] in ("ten", "10"))
    if texts[number.first] in ("once", "twice", "thrice"):
        return "count"
    attached = after[0] in ("m", "f") and tokens.ends[last - 1] == tokens.starts[last] and number.value % 1 == 0
    if (kind == "time" or after[0] in ("m", "f")) and (_is_age(after, number.value) or (attached and not _label(texts, number, bars))):
        return "age"  # "82F"
    if not kind and (other := _no_value(tokens, number)):
        return other
    if number.value <= _LEAST_TOLD and out_of_ten:
        return "score"
    if kind == "angle" and after[1] in ("f", "c", "fahrenheit", "celsius"):
        return "temperature"
    if kind == "weight" and after[1] == "/" and after[2] in ("m2", "m²"):
        return "bmi"
    if kind in ("mass", "units", "concentration", "equivalents") and any(
        one in _PER and two in _CONCENTRATION for one, two in pairwise(after)
    ):
        kind = "concentration"
    label = _label(texts, number, bars) if kind in _SHARED or kind == "volume" else ""
    if kind not in ("mass", "units") and _in_pair(texts, number):
        return "blood pressure"
    if kind == "volume":  # through the kidneys, or of oxygen
        return label if after[1] in _PER and after[2] in ("min", "minute") and label in _ANALYTES else kind
    return _narrowed(kind, label) if kind in _SHARED else kind


def _narrowed(kind: str, label: str) -> str:
    """What the unit and the label say together; a unit that fits the label only is as good as the label."""
    if kind in _OWN_KIND:
        return _OWN_KIND[kind] if kind != "pressure" or label == _OWN_KIND[kind] else ""  # stockings have a pressure too
    if kind in ("equivalents", "units"):
        return label if label in _ANALYTES else kind
    if kind == "angle" or (kind == "percent" and label in _NO_SHARES):  # "respirations eighteen, ninety nine percent"
        return "temperature" if kind == "angle" and label == "temperature" else kind
    return label or kind


def _no_value(tokens: Tokens, number: Number) -> str:
    """What a number is that measures nothing: part of B-12 and COVID-19, of x10^9/L and 1.73 m², or of 03/2021 and 1/12/71."""
    texts, first, last = tokens.texts, number.first, number.last
    mark, word, behind = at_token(texts, first - 1), at_token(texts, first - 2), at_token(texts, last)
    joined = (
        mark == "-" and word.isalpha() and tokens.ends[first - 2] == tokens.starts[first - 1] and word not in SMALL and word not in TENS
    )
    if joined or "^" in (mark, behind) or (mark == "/" and behind in ("m", "m2", "m²")):
        return "name"
    for one, other, beyond in ((last, last + 1, last + 2), (first - 1, first - 2, first - 3)):
        value = as_number(at_token(texts, other)) if at_token(texts, one) in ("/", "-") else None
        if value is not None and (
            any(1900 <= year < 2100 for year in (number.value, value)) or at_token(texts, beyond) == at_token(texts, one)
        ):
            return "date"
    return ""


def _is_age(after: Sequence[str], value: float) -> bool:
    if after[0] in ("m", "f"):  # "45F with cough", but not "98.6 F, pulse 72"
        short = after[1:3] in (["c", "/"], ["s", "/"]) or after[1][:2] in ("g0", "g1", "g2", "g3")
        return short or after[1] in _AFTER_SEX or (after[1] == "," and value < _COLDEST)
    of_age = after[1:3] == ["of", "age"] or (after[0] == "y" and after[1] in ("/", ".", "o") and "o" in after[1:3])
    return of_age or "old" in after or "yo" in after[:2]


def _in_pair(tokens: Sequence[str], number: Number) -> bool:
    """Whether a number is half of a blood pressure: "120/80", "one twenty over eighty"; three are gases of the blood."""
    before, behind = at_token(tokens, number.first - 1), at_token(tokens, number.last)
    if not _LOWEST_PRESSURE <= number.value <= 999 or number.value % 1:
        return False
    if behind in ("over", "/") and _pressure_at(tokens, number.last + 1):
        return "/" not in (before, at_token(tokens, number.last + 2))
    return before in ("over", "/") and _pressure_at(tokens, number.first - 2) and behind != "/"


def _pressure_at(tokens: Sequence[str], at: int) -> bool:
    value = as_number(at_token(tokens, at))
    return _LOWEST_PRESSURE <= value < 400 if value is not None else bool(numbers(tokens[max(at, 0) : at + 1]))


def _label(tokens: Sequence[str], number: Number, bars: frozenset[str]) -> str:
    """The nearest name of a vital sign or analyte before a number; other numbers may stand between."""
    another = passed = False  # a word by the number that is no such name ("phosphorus 4.4, UACR 410"), a comma before it
    for at in range(number.first - 1, max(-1, number.first - 1 - _FARTHEST_LABEL), -1):
        word = tokens[at]
        if word in bars or word == "ratio" or (word == "," and another and bars) or (passed and word[0].isdigit()):
            return ""  # or the name is that of another number: "B12 390, 25-OH"
        if another and "," in bars:
            return ""  # a name that no list has, as AG in "K 4.1, AG 28"
        passed = passed or (word == "," and bool(bars))
        another = another or (word.isalpha() and word not in _LINKS and word not in _NAMED)
        if label := _label_at(tokens, at, number):
            return label
    return ""


def _label_at(tokens: Sequence[str], at: int, number: Number) -> str:
    word, before = tokens[at], at_token(tokens, at - 1)
    if (word, before) in (("rate", "heart"), ("rate", "pulse")):
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
