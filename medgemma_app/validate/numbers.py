"""The numbers of a text, written in digits or spoken.

A transcript says "one twenty eight over eighty eight", "ninety seven . seven" and "zero point four"; a note says 128/88, 97.7
and 0.4. Where speech can be read in several ways, every reading is kept, because a note may have understood any of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from medgemma_app.validate.terms import DATA

_TOKEN = re.compile(
    r"[xX](?=[0-9])|(?<=[0-9])[dwhmy](?=[0-9])|[0-9]{1,3}(?:,[0-9]{3})+(?![0-9,])(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?|\.[0-9]+|[^\W\d_][^\W_]*|[^\w\s]|\n"
)
_WORDS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
SMALL = {word: value for value, word in enumerate(_WORDS.split())} | {"oh": 0, "o": 0}
TENS = {word: value for value, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), start=2)}  # noqa: SIM905
TENS |= {f"{word[:-1]}ies": value for word, value in TENS.items()} | {"teens": 1}  # "in the sixties", "one teens"
_SCALES = {"hundred": 100, "hundreds": 100, "thousand": 1000}
_PARTS = {"half": 0.5, "quarter": 0.25, "½": 0.5, "¼": 0.25, "¾": 0.75}
_MANY = {"once": 1, "twice": 2, "thrice": 3, "couple": 2, "few": 3, "dozen": 12}
_DIGITS = frozenset("123456789")
_POINTS = (".", "point")
_OPENERS = frozenset([*SMALL, *TENS, *_PARTS, *_MANY, *_SCALES, *_POINTS, "a"])
# Spoken numbers have few parts ("one oh five", "nineteen ninety eight"); longer rows are lists.
MOST_PARTS = 3
_RESUMED = 6  # tokens until a number that broke off goes on
_LETTERS = {"one": "1", "twelve": "12"}  # "a one c", "b twelve"
_MOST_LETTERS = 4
_ALIKE = str.maketrans("º˚’", "°°'")
# In most languages but English, 0,9 is less than one and 1.000 is a thousand. The short ones are clear, and say how to read the rest.
_SHORT_COMMA = re.compile(r"(?<![\w.,])(0|[0-9]+(?=,[0-9]{1,2}(?![0-9]))),([0-9]{1,3})(?![0-9]|[.,][0-9])")
_SHORT_POINT = re.compile(r"(?<![\w.,])(?:0|[0-9]+(?=\.[0-9]{1,2}(?![0-9])))\.[0-9]{1,3}(?![0-9]|[.,][0-9])")
_THREE_DIGITS = re.compile(r"(?<![\w.,])([0-9]{1,3})([.,])([0-9]{3})(?![0-9]|[.,][0-9])")


def _units() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {"unit": {}, "factor": {}, "vital": {}, "lab": {}, "initial": {}}
    for line in (DATA / "units.txt").read_text(encoding="utf-8").splitlines():
        sort, _, rest = line.partition(" ")
        kind, _, spellings = rest.partition(":")
        found.get(sort, {}).update(dict.fromkeys(spellings.split(), kind))
    return found


UNITS, _FACTORS, VITALS, LABS, INITIALS = _units().values()
FACTORS = {unit: float(factor) for unit, factor in _FACTORS.items()}


class Tokens(NamedTuple):
    """Numbers in digits, words in lower case, marks and line ends, and their places in the text; no token spans other white space.

    Three lists rather than a list of tokens: a dialogue has thousands, and the reading of numbers looks at the texts alone.
    """

    texts: Sequence[str]
    starts: Sequence[int]
    ends: Sequence[int]


@dataclass(frozen=True, slots=True)
class Number:
    """One reading of a number, and the tokens it is read from: ``tokens[first:last]``."""

    value: float
    first: int
    last: int


_Part: TypeAlias = tuple[float, str, int, int]  # value, digits, first token, last token


def tokenize(text: str) -> Tokens:
    """The tokens of a text."""
    found = list(_TOKEN.finditer(with_points(text if text.isascii() else text.translate(_ALIKE))))
    texts, starts, ends = [one[0].lower() for one in found], [one.start() for one in found], [one.end() for one in found]
    for at in [at for at, token in enumerate(texts) if len(token) == 1 and token.isalpha()]:
        name, last = _spelled(texts, at)
        if name:  # the other letters are passed over
            texts[at:last] = [name, *[""] * (last - at - 1)]
    kept = [at for at, token in enumerate(texts) if token]
    return Tokens([texts[at] for at in kept], [starts[at] for at in kept], [ends[at] for at in kept])


def with_points(text: str) -> str:
    """A text of the same length with points for decimal commas."""
    pointed, count = _SHORT_COMMA.subn(r"\1.\2", text)
    if count <= len(_SHORT_POINT.findall(text)):
        return pointed
    return _THREE_DIGITS.sub(lambda one: one[0] if one[1] == "0" else f"{one[1]}{',' if one[2] == '.' else '.'}{one[3]}", pointed)


def _spelled(texts: Sequence[str], at: int) -> tuple[str, int]:
    """(name, after its last letter) of a vital sign or an analyte that is spelled: "l d l", "a one c"."""
    for last in range(min(at + _MOST_LETTERS, len(texts)), at + 1, -1):
        letters = texts[at:last]
        name = "".join(_LETTERS.get(letter, letter) for letter in letters)
        if (name in VITALS or name in LABS) and all(len(letter) == 1 or letter in (*_LETTERS, "12") for letter in letters):
            return name, last
    return "", at


def numbers(tokens: Sequence[str]) -> list[Number]:
    """Every reading of every number, the longest reading of a place first."""
    found: list[Number] = []
    at = 0
    while at < len(tokens):
        if tokens[at] not in _OPENERS and tokens[at][0] not in "0123456789.":
            at += 1
            continue
        row = list(_row(tokens, at))
        found.extend(reading for index in range(len(row)) for reading in _readings(tokens, row, index))
        found.extend(_single(tokens, at) if not row else ())
        at = row[-1][3] if row else at + 1
    return found


def as_number(token: str) -> float | None:
    """The value of a token in digits."""
    return float(token.replace(",", "")) if token.isascii() and token[-1:].isdigit() and not token[0].isalpha() else None


def _single(tokens: Sequence[str], at: int) -> Iterator[Number]:
    word = tokens[at]
    if word in _PARTS or word in _MANY:
        yield Number(_PARTS.get(word, _MANY.get(word, 0)), at, at + 1)


def _row(tokens: Sequence[str], at: int) -> Iterator[_Part]:
    """Number after number with nothing between them but a hyphen, a point or an "and"."""
    while part := number_part(tokens, at):
        yield part
        at = part[3] + (_text(tokens, part[3]) in _POINTS or (_text(tokens, part[3]) == "-" and _spoken(tokens, part[3] - 1)))


def number_part(tokens: Sequence[str], at: int) -> _Part | None:
    """A number in digits, or in words as far as they make one number: "two hundred and six", "eighty one"."""
    value = as_number(_text(tokens, at))
    if value is not None:
        return value, tokens[at].replace(",", ""), at, at + 1
    total, end = (1, at + (_text(tokens, at) == "a")) if _is_bare_scale(tokens, at) else _below_hundred(tokens, at)
    if end == at and _text(tokens, at) not in _SCALES:
        return None
    while (scale := _SCALES.get(_text(tokens, end))) and total < scale * scale:
        rest, last = _below_hundred(tokens, end + 1 + (_text(tokens, end + 1) == "and"))
        if scale == _SCALES["hundred"] and _text(tokens, last) == "hundred":
            return float(total * scale), str(total * scale), at, end + 1  # said twice: "six hundred six hundred"
        if scale == _SCALES["thousand"] and rest and _text(tokens, last) == "hundred":
            more, after = _below_hundred(tokens, last + 1)
            rest, last = 100 * rest + more, after  # "eleven thousand four hundred"
        joined = last > end + 1 + (_text(tokens, end + 1) == "and")
        total, end = total * scale + rest, last if joined else end + 1
    return float(total), str(total), at, end


def _is_bare_scale(tokens: Sequence[str], at: int) -> bool:
    """Whether "a hundred", or "hundred" after another word, stands for one hundred."""
    return _text(tokens, at) in ("hundred", "thousand") or (_text(tokens, at) == "a" and _text(tokens, at + 1) in _SCALES)


def _below_hundred(tokens: Sequence[str], at: int) -> tuple[int, int]:
    """(value, where it ends) of "eighty", "eighty one" or "seven"; ends where it starts when there is none."""
    word = _text(tokens, at)
    if word in SMALL:
        return SMALL[word], at + 1
    if word not in TENS:
        return 0, at
    after = at + 1 + (_text(tokens, at + 1) == "-")
    unit = 0 if word.endswith("ies") else SMALL.get(_text(tokens, after), 0)
    return (10 * TENS[word] + unit, after + 1) if 0 < unit < 10 else (10 * TENS[word], at + 1)


def _readings(tokens: Sequence[str], row: Sequence[_Part], index: int) -> Iterator[Number]:
    """What a row of parts may say from one of them on: itself, joined with the next ones, or with decimals."""
    value, digits, first, last = row[index]
    spoken = _spoken(tokens, first) or _text(tokens, first) == "a"
    if _text(tokens, last) == "and" and _text(tokens, last + 1) in ("a", "one") and _text(tokens, last + 2) in _PARTS:
        yield Number(value + _PARTS[tokens[last + 2]], first, last + 3)
    if _text(tokens, last) in _PARTS:
        yield Number(value + _PARTS[tokens[last]], first, last + 1)
    if _text(tokens, first - 1) in _POINTS and _spoken(tokens, first):
        yield from _decimals(row[index : index + MOST_PARTS], first - 1)
    if spoken and digits.isdigit() and index + 1 < len(row) and row[index + 1][1] in _DIGITS and row[index + 1][2] == last:
        yield Number(float(f"{digits}.{row[index + 1][1]}"), first, row[index + 1][3])  # "ninety nine one", of a temperature
    for _, more, start, end in row[index + 1 : index + 1 + MOST_PARTS]:
        pointed = _text(tokens, start - 1) in _POINTS and "." not in digits
        if not (pointed or spoken) or not more.isdigit() or len(digits) > 6:
            break
        scale = _SCALES.get(_text(tokens, end - 1), 1) if pointed else 1  # "twelve point four thousand"
        whole = digits
        digits += f".{int(more) // scale}" if pointed else more
        yield Number(float(digits) * scale, first, end)
        if not pointed and end - start > 1 and UNITS.get(_text(tokens, end)) in ("count", "time"):
            yield Number(float(whole + more[:-1] + "0"), first, end - 1)  # "seven fifty, two doses"
    yield Number(value, first, last)
    if spoken and value >= 100 and not value % 100 and _text(tokens, last) == ",":
        resumed = filter(None, (number_part(tokens, at) for at in range(last + 1, last + _RESUMED)))
        yield from (Number(value + part[0], first, part[3]) for part in resumed if part[0] < 100)  # "three hundred , twenty, uh, 25"
    if spoken and value > 100 and 0 < value % 100 < 10:
        yield Number(value - value % 100, first, last - 1 - (_text(tokens, last - 2) == "and"))  # "three hundred three times a day"
    if _text(tokens, last) in ("to", "or") and _text(tokens, last + 2) in _SCALES and value < 10:
        yield Number(value * _SCALES[tokens[last + 2]], first, last)  # "three to four hundred"


def _decimals(row: Sequence[_Part], start: int) -> Iterator[Number]:
    """What follows a point: "four", "oh four", "one two five"."""
    digits = ""
    for _, more, _, last in row:
        if not more.isdigit():
            break
        digits += more
        yield Number(float(f"0.{digits}"), start, last)


def _spoken(tokens: Sequence[str], at: int) -> bool:
    return _text(tokens, at) in SMALL or _text(tokens, at) in TENS or _text(tokens, at) in _SCALES


def _text(tokens: Sequence[str], at: int) -> str:
    return tokens[at] if 0 <= at < len(tokens) else ""
