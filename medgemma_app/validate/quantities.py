"""The numbers of a text, in digits or in words, and what they measure: a dose in milligrams, a heart rate, a hemoglobin.

A transcript has "one twenty eight over eighty eight", "ninety seven . seven" and "zero point four" where a note has 128/88, 97.7
and 0.4. If spoken words can be read as several numbers, all readings are kept, because the note may follow any of them. The unit after a
number usually tells what it measures ("40 mg", "98 %", "3 weeks"); in written text also the nearest label before it ("HR 72").
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from medgemma_app.validate.lists import entries

_TOKEN = re.compile(
    r"[xX](?=[0-9])|(?<=[0-9])[dwhmy](?=[0-9])"
    r"|[0-9]{1,3}(?:,[0-9]{3})+(?!,?[0-9])(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?|\.[0-9]+|[^\W\d_][^\W_]*|[^\w\s]|\n",
    re.IGNORECASE,
)
_WORDS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_SMALL = {word: value for value, word in enumerate(_WORDS.split())} | {"oh": 0, "o": 0}
_TENS = {word: value for value, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), start=2)}  # noqa: SIM905
_TENS |= {f"{word[:-1]}ies": value for word, value in _TENS.items()} | {"teens": 1}  # "in the sixties", "one teens"
_SCALES = {"hundred": 100, "hundreds": 100, "thousand": 1000}
_PARTS = {"half": 0.5, "quarter": 0.25, "½": 0.5, "¼": 0.25, "¾": 0.75}
_POINTS = (".", "point")
_NUMBER_WORDS = frozenset([*_SMALL, *_TENS, *_SCALES])
_MOST_PARTS = 3  # spoken numbers have few parts ("one oh five"); longer sequences are lists
_HYPHEN = re.compile(r"(?<=[^\W\d_])-(?=[^\W\d_])")  # "ninety-eight", "two-hundred"
_ALIKE = str.maketrans("º˚’", "°°'")
_POWER = re.compile(r"[×x*] ?10 ?[⁰¹²³⁴-⁹^]+ ?[0-9]*")  # part of a unit: "17.4 × 10⁹/L"
_DECIMAL_COMMA = re.compile(r"(?<![\w.,])(0|[0-9]+(?=,[0-9]{1,2}(?![0-9]))),([0-9]{1,3})(?![0-9]|[.,][0-9])")  # 0,9 outside English
# Thousands separated by a thin space or an apostrophe; by a space only before 000, because "2 500 mg tablets" may be two tablets.
_THOUSANDS = re.compile(r"(?<![\w.,])[1-9][0-9]{0,2}(?:(?:[\u2009\u202f'][0-9]{3}){1,3}|(?:[ \u00a0][0-9]{3}){0,3}[ \u00a0]000)(?![0-9])")
# Thousands and decimals as most of Europe writes them, 1.234,5; and thousands separated by a space
# in a count or a concentration, 12 300/mm3 or 3 450 ng/l.
_POINT_THEN_COMMA = re.compile(r"(?<![\w.,])[1-9][0-9]{0,2}(?:\.[0-9]{3})+,[0-9]{1,3}(?![0-9]|[.,][0-9])")
_SWAPPED = str.maketrans(".,", ",.")
_CONCENTRATION = re.compile(
    r"(?<![\w.,])(?<![0-9] )([1-9][0-9]{0,2})[ \u00a0]([0-9]{3})(?= ?(?:[munpµμ]?(?:g|mol|iu|ui|u)/(?:m|d)?l|/ ?(?:mm[3³]|[uµμ]l))\b)",
    re.IGNORECASE,
)


class _Tokens(NamedTuple):
    """Numbers in digits, words in lower case, punctuation and line ends, with their places in the text."""

    texts: Sequence[str]
    starts: Sequence[int]
    ends: Sequence[int]


class _Number(NamedTuple):
    """One reading of a number, from ``tokens[first:last]``."""

    value: float
    first: int
    last: int


_Part: TypeAlias = tuple[float, str, int, int]  # value, digits, first token, last token


def _tokenize(text: str) -> _Tokens:
    """The tokens of a text."""
    plain = _POWER.sub(lambda one: " " * len(one[0]), text if text.isascii() else text.translate(_ALIKE))
    swapped = _POINT_THEN_COMMA.sub(lambda one: one[0].translate(_SWAPPED), _CONCENTRATION.sub(r"\1,\2", plain))
    pointed = _DECIMAL_COMMA.sub(r"\1.\2", swapped)
    grouped = _THOUSANDS.sub(lambda one: re.sub("[^0-9]", ",", one[0]), pointed)
    found = list(_TOKEN.finditer(_HYPHEN.sub(" ", grouped)))
    return _Tokens([one[0].lower() for one in found], [one.start() for one in found], [one.end() for one in found])


def _numbers(tokens: Sequence[str]) -> list[_Number]:
    """Every reading of every number, the longest one at each place first."""
    found: list[_Number] = []
    at = 0
    while at < len(tokens):
        row = list(_row(tokens, at))
        found.extend(reading for index in range(len(row)) for reading in _readings(tokens, row, index))
        end = row[-1][3] if row else at + 1
        pairs = ((_SMALL.get(tokens[one], 0), _TENS.get(_at(tokens, one + 1), 0), one) for one in range(at, end - 1))
        # the range "one fifty one sixty"
        found.extend(_Number(100.0 * small + 10 * ten, one, one + 2) for small, ten, one in pairs if ten and 0 < small < 10)
        at = end
    return found


def _as_number(token: str) -> float | None:
    """The value of a token in digits, or None."""
    return float(token.replace(",", "")) if token.isascii() and token[-1:].isdigit() and not token[0].isalpha() else None


def _at(tokens: Sequence[str], at: int) -> str:
    """The token at a position, or "" outside the text."""
    return tokens[at] if 0 <= at < len(tokens) else ""


def _row(tokens: Sequence[str], at: int) -> Iterator[_Part]:
    """Consecutive numbers with at most a decimal point between them."""
    while part := _number_part(tokens, at):
        yield part
        at = part[3] + (_at(tokens, part[3]) in _POINTS)


def _number_part(tokens: Sequence[str], at: int) -> _Part | None:
    """A number in digits, or as many words as make one number: "two hundred and six", "eighty one"."""
    word = _at(tokens, at)
    if (value := _as_number(word)) is not None:
        return value, word.replace(",", ""), at, at + 1
    total, end = (1, at) if word in _SCALES else _below_hundred(tokens, at)  # "hundred"
    if end == at and word not in _SCALES:
        return None
    while (scale := _SCALES.get(_at(tokens, end))) and total < scale * scale:
        begun = end + 1 + (_at(tokens, end + 1) == "and")
        rest, last = _below_hundred(tokens, begun)
        if _at(tokens, last) == "hundred" and scale == _SCALES["hundred"]:
            return float(total * scale), str(total * scale), at, end + 1  # said twice: "six hundred six hundred"
        if _at(tokens, last) == "hundred" and rest:
            more, last = _below_hundred(tokens, last + 1)
            rest = 100 * rest + more  # "eleven thousand four hundred"
        total, end = total * scale + rest, last if last > begun else end + 1
    return float(total), str(total), at, end


def _below_hundred(tokens: Sequence[str], at: int) -> tuple[int, int]:
    """The value and the end of "eighty", "eighty one" or "seven"; the end is ``at`` if there is no number."""
    word = _at(tokens, at)
    if word not in _TENS:
        return _SMALL.get(word, 0), at + (word in _SMALL)
    unit = 0 if word.endswith("ies") else _SMALL.get(_at(tokens, at + 1), 0)
    return (10 * _TENS[word] + unit, at + 2) if 0 < unit < 10 else (10 * _TENS[word], at + 1)


def _readings(tokens: Sequence[str], row: Sequence[_Part], index: int) -> Iterator[_Number]:
    """The possible readings of a sequence of numbers from one of them on: alone, joined with the next ones, or with decimals."""
    value, digits, first, last = row[index]
    spoken = tokens[first] in _NUMBER_WORDS
    behind = [_at(tokens, last + offset) for offset in range(3)]
    if behind[0] == "and" and behind[1] in ("a", "one") and behind[2] in _PARTS:
        yield _Number(value + _PARTS[behind[2]], first, last + 3)
    if behind[0] in _PARTS:
        yield _Number(value + _PARTS[behind[0]], first, last + 1)
    if _at(tokens, first - 1) in _POINTS and tokens[first] in _NUMBER_WORDS:  # "four", "oh four", "one two five" after a point
        decimals = ""
        for _, more, _, end in row[index : index + _MOST_PARTS]:
            decimals += more if more.isdigit() else ""
            yield _Number(float(f"0.{decimals or 0}"), first - 1, end)
    if spoken and digits.isdigit() and index + 1 < len(row) and row[index + 1][1] in "123456789" and row[index + 1][2] == last:
        yield _Number(float(f"{digits}.{row[index + 1][1]}"), first, row[index + 1][3])  # a temperature: "ninety nine one"
    for _, more, start, end in row[index + 1 : index + 1 + _MOST_PARTS]:
        pointed = _at(tokens, start - 1) in _POINTS and "." not in digits
        if not (pointed or spoken) or not more.isdigit() or len(digits) > 6:
            break
        digits += f".{more}" if pointed else more
        yield _Number(float(digits), first, end)
    if _at(tokens, first - 1) != "point":
        yield _Number(value, first, last)


# --- what a number measures

UNITS, _FACTORS, VITALS, LABS, INITIALS = (
    {name: kind.partition(" ")[2] for kind, listed in entries("units").items() if kind.startswith(sort) for name in listed}
    for sort in ("unit", "factor", "vital", "lab", "initial")
)
NAMED = VITALS | LABS
DOSES = frozenset(["mass", "volume", "units", "equivalents"])
_LOWEST_PRESSURE, _LEAST_INITIAL, _FARTHEST_LABEL = 30, 8, 9  # mmHg; of "P 72"; tokens
_VOLUMES = frozenset("dl deciliter deciliters l liter litre ml milliliter milliliters mm3 mcl ul hour hr h".split())  # noqa: SIM905
_OWN_KIND = {"rate": "heart rate", "breaths": "respiratory rate", "pressure": "blood pressure"}
_LABELLED = {"", "percent", "concentration", "equivalents", "units", "volume", *_OWN_KIND}  # units that several kinds share
_BARS = frozenset("\n•.;,")  # a label is never beyond one of these
_THREE_DIGITS = re.compile(r"[1-9][0-9]{0,2}[.,][0-9]{3}")  # 1.250 is more than a thousand in German, and 1.25 in English
# Numbers that are no measurements: dates, COVID-19, C5-6, 1.73 m², the ten of 7/10, the number of a list item.
_NO_VALUE = re.compile(
    r"\b[0-9]{1,4}([/.-])[0-9]{1,2}\1[0-9]{2,4}\b|\b[0-9]{1,2}/(?:19|20)[0-9]{2}\b|\b(?:19|20)[0-9]{2}-[0-9]{2}\b"
    r"|\b[A-Za-z]+[0-9]?-[0-9]+\b|/ ?1\.73|(?:/|\bout of) ?10\b|(?m:^[ \t]*[0-9]{1,2}\.(?= ))"
)


def factor(unit: str) -> float:
    """The size of a unit in the first unit of its kind: milligrams, millilitres, pounds."""
    return float(_FACTORS.get(unit, 1))


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number, its kind ("" if unknown), its value in the kind's first unit in ``data/units.txt``, its unit as written, and its place.

    ``start`` and ``end`` are the place of the number in the text, ``reach`` the end of its unit. ``other`` is the value in the usual
    European notation, in which 1.250 means 1250 and 1,250 means 1.25; for any other number it equals the value.
    """

    kind: str
    value: float
    other: float
    unit: str
    start: int
    end: int
    reach: int

    @property
    def number(self) -> float:
        """The value in the unit as written."""
        return self.value / factor(self.unit)

    @property
    def readings(self) -> set[float]:
        """All values that it may have, each in the first unit of its kind and in the unit as written."""
        return {round(value / size, 3) for value in (self.value, self.other) for size in (1.0, factor(self.unit))}


@lru_cache(maxsize=4)
def spoken_quantities(text: str) -> tuple[Quantity, ...]:
    """Every reading of every number of a text, with the kind that its unit gives."""
    tokens = _tokenize(text)
    return tuple(_quantity(tokens, number) for number in _numbers(tokens.texts))


@lru_cache(maxsize=4)
def written_quantities(text: str) -> tuple[Quantity, ...]:
    """The numbers in digits of a text, one reading each, with the kind that the unit or the label gives."""
    tokens = _tokenize(_NO_VALUE.sub(lambda found: " " * len(found[0]), text))
    found: list[Quantity] = []
    last = 0
    for number in _numbers(tokens.texts):
        if _as_number(tokens.texts[number.first]) is not None and number.first >= last:
            last = number.last
            one = _quantity(tokens, number)
            label = _label(tokens.texts, number) if one.kind in _LABELLED else ""
            by_label = label in LABS.values() or (label and one.kind in ("", "percent", "concentration", *_OWN_KIND))
            found.append(replace(one, kind=label if by_label else _OWN_KIND.get(one.kind, one.kind)))
    return tuple(found)


def _quantity(tokens: _Tokens, number: _Number) -> Quantity:
    texts, (value, first, last) = tokens.texts, number
    unit, at = _unit(texts, last)
    kind, behind = UNITS.get(unit, ""), [_at(texts, at + offset) for offset in (1, 2)] if unit else ["", ""]
    if kind not in ("mass", "units", "time") and _in_pair(texts, number):
        kind, unit = "blood pressure", ""
    elif kind == "angle" and behind[0] in ("f", "c", "fahrenheit", "celsius"):
        kind = "temperature"
    elif kind == "weight" and behind[0] == "/":
        kind = "bmi"
    elif kind in ("mass", "units", "equivalents") and behind[0] in ("/", "per") and behind[1] in _VOLUMES:
        kind = "concentration"
    size, end = factor(unit), tokens.ends[last - 1]
    other = value * (1000 if "." in texts[first] else 0.001) if _THREE_DIGITS.fullmatch(texts[first]) else value
    return Quantity(kind, value * size, other * size, unit, tokens.starts[first], end, tokens.ends[at] if unit else end)


def _unit(tokens: Sequence[str], at: int) -> tuple[str, int]:
    """The unit after a number and its position: "40 mg", "40-mg"."""
    for place in (at, at + 1) if _at(tokens, at) == "-" else (at,):
        word, after = _at(tokens, place), _at(tokens, place + 1)
        is_label = _as_number(after) is not None and (word in VITALS or (word in INITIALS and "." in after))
        if word in UNITS and not is_label:  # "T 98.1 HR 74", "K 4.1 Mg 1.8"
            return word, place
    return "", at


def _in_pair(tokens: Sequence[str], number: _Number) -> bool:
    """Whether a number is half of a blood pressure: "120/80", "one twenty over eighty". Three in a row are blood gases."""
    before, behind = _at(tokens, number.first - 1), _at(tokens, number.last)
    if not _LOWEST_PRESSURE <= number.value <= 999 or number.value % 1:
        return False
    if behind in ("over", "/") and _is_pressure(tokens, number.last + 1):
        return "/" not in (before, _at(tokens, number.last + 2))
    return before in ("over", "/") and _is_pressure(tokens, number.first - 2) and behind != "/"


def _is_pressure(tokens: Sequence[str], at: int) -> bool:
    value = _as_number(_at(tokens, at))
    return _LOWEST_PRESSURE <= value < 400 if value is not None else bool(_numbers(tokens[max(at, 0) : at + 1]))


def _label(tokens: Sequence[str], number: _Number) -> str:
    """The nearest name of a vital sign or analyte before a number in its sentence; other words may come between."""
    for at in range(number.first - 1, max(-1, number.first - 1 - _FARTHEST_LABEL), -1):
        word, before, after = tokens[at], _at(tokens, at - 1), _at(tokens, at + 1)
        if word in _BARS:
            return ""
        label = NAMED.get(word) or ("heart rate" if word == "rate" and before in ("heart", "pulse") else "")
        is_next = at == number.first - 1 or (at == number.first - 2 and after in (":", "=", "is", "of", "was"))
        if word in INITIALS and is_next and (before in UNITS or not before.isalpha()) and not (word in UNITS and before[-1:].isdigit()):
            label = INITIALS[word] if number.value >= _LEAST_INITIAL or INITIALS[word] in LABS.values() else ""
        if label:
            return "" if label == "blood pressure" and number.value < _LOWEST_PRESSURE else label  # "a systolic murmur, 3/6"
    return ""
