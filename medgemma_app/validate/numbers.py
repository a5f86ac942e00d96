"""The numbers of a text, in digits or in words.

A transcript has "one twenty eight over eighty eight", "ninety seven . seven" and "zero point four" where a note has 128/88, 97.7
and 0.4. If spoken words can be read as several numbers, all readings are kept, because the note may follow any of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

_TOKEN = re.compile(
    r"[xX](?=[0-9])|(?<=[0-9])[dwhmy](?=[0-9])"
    r"|[0-9]{1,3}(?:,[0-9]{3})+(?!,?[0-9])(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?|\.[0-9]+|[^\W\d_][^\W_]*|[^\w\s]|\n",
    re.IGNORECASE,
)
_WORDS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
SMALL = {word: value for value, word in enumerate(_WORDS.split())} | {"oh": 0, "o": 0}
TENS = {word: value for value, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), start=2)}  # noqa: SIM905
TENS |= {f"{word[:-1]}ies": value for word, value in TENS.items()} | {"teens": 1}  # "in the sixties", "one teens"
_SCALES = {"hundred": 100, "hundreds": 100, "thousand": 1000}
_PARTS = {"half": 0.5, "quarter": 0.25, "½": 0.5, "¼": 0.25, "¾": 0.75}
_ALONE = {**_PARTS, "once": 1, "twice": 2, "thrice": 3, "couple": 2, "few": 3, "dozen": 12}
_POINTS = (".", "point")
_OPENERS = frozenset([*SMALL, *TENS, *_ALONE, *_SCALES, *_POINTS, "a"])
MOST_PARTS = 3  # spoken numbers have few parts ("one oh five"); longer sequences are lists
_HYPHEN = re.compile(r"(?<=[^\W\d_])-(?=[^\W\d_])")  # "ninety-eight", "two-hundred"
_ALIKE = str.maketrans("º˚’", "°°'")
_POWER = re.compile(r"[×x*] ?10 ?[⁰¹²³⁴-⁹^]+[0-9]*")  # part of a unit: "17.4 × 10⁹/L"
# Outside English, 0,9 is less than one and 1.000 is a thousand. Numbers with few decimals are clear, and decide how to read the rest.
_SHORT_COMMA = re.compile(r"(?<![\w.,])(0|[0-9]+(?=,[0-9]{1,2}(?![0-9]))),([0-9]{1,3})(?![0-9]|[.,][0-9])")
_SHORT_POINT = re.compile(r"(?<![\w.,])(?:0|[0-9]+(?=\.[0-9]{1,2}(?![0-9])))\.[0-9]{1,3}(?![0-9]|[.,][0-9])")
_THREE_DIGITS = re.compile(r"(?<![\w.,])([0-9]{1,3})([.,])([0-9]{3})(?![0-9]|[.,][0-9])")

# Thousands apart by a thin space or an apostrophe; by a space only before 000, because "2 500 mg tablets" may be two of them.
_THOUSANDS = re.compile(r"(?<![\w.,])[1-9][0-9]{0,2}(?:(?:[\u2009\u202f'][0-9]{3}){1,3}|(?:[ \u00a0][0-9]{3}){0,3}[ \u00a0]000)(?![0-9])")
_BETWEEN_THOUSANDS = re.compile(r"[^0-9]")

# Thousands and decimals as most of Europe writes them, 1.234,5; and thousands apart by a space in a count of cells, 12 300/mm3.
_POINT_THEN_COMMA = re.compile(r"(?<![\w.,])[1-9][0-9]{0,2}(?:\.[0-9]{3})+,[0-9]{1,3}(?![0-9]|[.,][0-9])")
_SWAPPED = str.maketrans(".,", ",.")
_CELL_COUNT = re.compile(r"(?<![\w.,])(?<![0-9] )([1-9][0-9]{0,2})[ \u00a0]([0-9]{3})(?= ?/ ?(?:mm[3³]|[uµμ]l)\b)", re.IGNORECASE)


class Tokens(NamedTuple):
    """Numbers in digits, words in lower case, punctuation and line ends, with their places in the text."""

    texts: Sequence[str]
    starts: Sequence[int]
    ends: Sequence[int]


class Number(NamedTuple):
    """One reading of a number, from ``tokens[first:last]``."""

    value: float
    first: int
    last: int


_Part: TypeAlias = tuple[float, str, int, int]  # value, digits, first token, last token


def tokenize(text: str) -> Tokens:
    """The tokens of a text."""
    plain = _POWER.sub(lambda one: " " * len(one[0]), text if text.isascii() else text.translate(_ALIKE))
    swapped = _POINT_THEN_COMMA.sub(lambda one: one[0].translate(_SWAPPED), _CELL_COUNT.sub(r"\1,\2", plain))
    grouped = _THOUSANDS.sub(lambda one: _BETWEEN_THOUSANDS.sub(",", one[0]), _with_points(swapped))
    found = list(_TOKEN.finditer(_HYPHEN.sub(" ", grouped)))
    return Tokens([one[0].lower() for one in found], [one.start() for one in found], [one.end() for one in found])


def _with_points(text: str) -> str:
    """The text with decimal points in place of decimal commas, and of the same length."""
    pointed, count = _SHORT_COMMA.subn(r"\1.\2", text)
    if count <= len(_SHORT_POINT.findall(text)):
        return pointed
    return _THREE_DIGITS.sub(lambda one: one[0] if one[1] == "0" else f"{one[1]}{',' if one[2] == '.' else '.'}{one[3]}", pointed)


def numbers(tokens: Sequence[str]) -> list[Number]:
    """Every reading of every number, the longest one at each place first."""
    found: list[Number] = []
    at = 0
    while at < len(tokens):
        row = list(_row(tokens, at)) if tokens[at] in _OPENERS or tokens[at][0] in "0123456789." else []
        found.extend(reading for index in range(len(row)) for reading in _readings(tokens, row, index))
        if not row and tokens[at] in _ALONE:
            found.append(Number(_ALONE[tokens[at]], at, at + 1))
        end = row[-1][3] if row else at + 1
        pairs = ((SMALL.get(tokens[one], 0), TENS.get(at_token(tokens, one + 1), 0), one) for one in range(at, end - 1))
        # the range "one fifty one sixty"
        found.extend(Number(100.0 * small + 10 * ten, one, one + 2) for small, ten, one in pairs if ten and 0 < small < 10)
        at = end
    return found


def as_number(token: str) -> float | None:
    """The value of a token in digits, or None."""
    return float(token.replace(",", "")) if token.isascii() and token[-1:].isdigit() and not token[0].isalpha() else None


def at_token(tokens: Sequence[str], at: int) -> str:
    """The token at a position, or "" outside the text."""
    return tokens[at] if 0 <= at < len(tokens) else ""


def _row(tokens: Sequence[str], at: int) -> Iterator[_Part]:
    """Consecutive numbers with at most a decimal point between them."""
    while part := number_part(tokens, at):
        yield part
        at = part[3] + (at_token(tokens, part[3]) in _POINTS)


def number_part(tokens: Sequence[str], at: int) -> _Part | None:
    """A number in digits, or as many words as make one number: "two hundred and six", "eighty one"."""
    word = at_token(tokens, at)
    if (value := as_number(word)) is not None:
        return value, word.replace(",", ""), at, at + 1
    bare = word in _SCALES or (word == "a" and at_token(tokens, at + 1) in _SCALES)  # "a hundred", "hundred"
    total, end = (1, at + (word == "a")) if bare else _below_hundred(tokens, at)
    if end == at and word not in _SCALES:
        return None
    while (scale := _SCALES.get(at_token(tokens, end))) and total < scale * scale:
        begun = end + 1 + (at_token(tokens, end + 1) == "and")
        rest, last = _below_hundred(tokens, begun)
        if at_token(tokens, last) == "hundred" and scale == _SCALES["hundred"]:
            return float(total * scale), str(total * scale), at, end + 1  # said twice: "six hundred six hundred"
        if at_token(tokens, last) == "hundred" and rest:
            more, last = _below_hundred(tokens, last + 1)
            rest = 100 * rest + more  # "eleven thousand four hundred"
        total, end = total * scale + rest, last if last > begun else end + 1
    return float(total), str(total), at, end


def _below_hundred(tokens: Sequence[str], at: int) -> tuple[int, int]:
    """The value and the end of "eighty", "eighty one" or "seven"; the end is ``at`` if there is no number."""
    word = at_token(tokens, at)
    if word not in TENS:
        return SMALL.get(word, 0), at + (word in SMALL)
    unit = 0 if word.endswith("ies") else SMALL.get(at_token(tokens, at + 1), 0)
    return (10 * TENS[word] + unit, at + 2) if 0 < unit < 10 else (10 * TENS[word], at + 1)


def _readings(tokens: Sequence[str], row: Sequence[_Part], index: int) -> Iterator[Number]:
    """The possible readings of a sequence of numbers from one of them on: alone, joined with the next ones, or with decimals."""
    value, digits, first, last = row[index]
    spoken = _spoken(tokens, first) or at_token(tokens, first) == "a"
    behind = [at_token(tokens, last + offset) for offset in range(3)]
    if behind[0] == "and" and behind[1] in ("a", "one") and behind[2] in _PARTS:
        yield Number(value + _PARTS[behind[2]], first, last + 3)
    if behind[0] in _PARTS:
        yield Number(value + _PARTS[behind[0]], first, last + 1)
    if at_token(tokens, first - 1) in _POINTS and _spoken(tokens, first):  # "four", "oh four", "one two five" after a point
        decimals = ""
        for _, more, _, end in row[index : index + MOST_PARTS]:
            decimals += more if more.isdigit() else ""
            yield Number(float(f"0.{decimals or 0}"), first - 1, end)
    if spoken and digits.isdigit() and index + 1 < len(row) and row[index + 1][1] in "123456789" and row[index + 1][2] == last:
        yield Number(float(f"{digits}.{row[index + 1][1]}"), first, row[index + 1][3])  # a temperature: "ninety nine one"
    for _, more, start, end in row[index + 1 : index + 1 + MOST_PARTS]:
        pointed = at_token(tokens, start - 1) in _POINTS and "." not in digits
        if not (pointed or spoken) or not more.isdigit() or len(digits) > 6:
            break
        scale = _SCALES.get(at_token(tokens, end - 1), 1) if pointed else 1  # "twelve point four thousand"
        digits += f".{int(more) // scale}" if pointed else more
        yield Number(float(digits) * scale, first, end)
    if at_token(tokens, first - 1) != "point":
        yield Number(value, first, last)
    if spoken and value > 100 and 0 < value % 100 < 10:
        yield Number(value - value % 100, first, last - 1 - (at_token(tokens, last - 2) == "and"))  # "three hundred three times a day"


def _spoken(tokens: Sequence[str], at: int) -> bool:
    word = at_token(tokens, at)
    return word in SMALL or word in TENS or word in _SCALES
