"""Values that no source has word for word: limits, totals, conversions, and what follows from a height, a weight or a count."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from medgemma_app.validate.quantities import Quantity

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
    r"\b(?:by|gain(?:ed|ing|s)?|lo(?:st|ss)|los(?:es|ing)|(?:gain|loss) of|total of)\s+(?:about |approximately |~)?$", re.IGNORECASE
)
_IN_OTHER_WORDS = re.compile(r"^[^.;\n]{0,12}(?:/ ?$|[=≈~]|\b(?:about|roughly|approximately|approx\.?|i\.e\.)\s?$)")
_COUNTED = (0.5, 1.5, 2, 3, 4)
_DOSES = ("mass", "volume", "units")
_CONVERTED_APART = {"weight", "temperature"}  # these are computed
_FARTHEST_COUNT = 6  # tokens between "two" and "500 mg" in "take two of the"
_EARLIER = 4
_PIECES = frozenset("tablet tablets tab tabs pill pills capsule capsules cap caps puff puffs drop drops spray sprays".split())  # noqa: SIM905
_NEARBY = 40  # tokens
_SENTENCE = 60
_LEAST_DOSE = 50  # of what no unit says, "two of the 200s"
_PER_THOUSAND = ("white cells", "platelets")
_FEET = re.compile(r"\b([3-7]) ?(?:['’′]|-?(?:feet|foot|ft)\b\.?) ?(?:(1[01]|[0-9])(?![0-9]))?", re.IGNORECASE)
_METRIC = re.compile(r"\b(1[0-9]{2}(?:\.[0-9])?) ?cm\b|\b([12]\.[0-9]{1,2}) ?(?:m|meters?|metres?)\b", re.IGNORECASE)
_OF_HEIGHT = re.compile(r"\b(?:height|ht|tall)\b", re.IGNORECASE)
_SAME_HEIGHT, _SAME_BMI = 1.0, 0.35  # inches; kg/m2, for what was rounded on the way
_TALLEST = (36, 90)


def is_limit(text: str, one: Quantity) -> bool:
    """Whether a value is one to reach or to stay below, which nobody measured: "goal BP <130/80"."""
    before, after = text[max(0, one.start - 90) : one.start], text[one.end : one.end + 25]
    is_bound = _LIMIT.search(before) is not None and _HELD_AGAINST.search(before) is None
    return is_bound or _OR_MORE.match(after) is not None or _A_RATE.match(after) is not None


def is_total(text: str, one: Quantity) -> bool:
    """Whether a dose is that of a whole day."""
    return one.kind in _DOSES and _A_DAY.match(text[one.end : one.end + 15]) is not None


def is_in_brackets(text: str, one: Quantity) -> bool:
    """Whether a bracket opens before a dose, as before what several doses come to."""
    return one.kind in _DOSES and text[one.start - 1 : one.start] == "("


def is_daily(total: Quantity, dose: Quantity) -> bool:
    """Whether a total follows from a dose that stands before it in the note, taken once to four times."""
    return (
        dose.kind == total.kind
        and 0 <= total.start - dose.end <= _SENTENCE
        and total.value in [dose.value * times for times in (1, 2, 3, 4)]
    )


def is_difference(text: str, one: Quantity) -> bool:
    """Whether a value says by how much another one has changed."""
    return _CHANGE.search(text[max(0, one.start - 25) : one.start]) is not None


def is_conversion(text: str, one: Quantity | None, other: Quantity | None) -> bool:
    """Whether a value and its neighbour say the same in two units, or are the parts of a combined dose.

    They do where the second stands in brackets behind the first, or after "about" or a slash.
    """
    if one is None or other is None or one.kind == other.kind in _CONVERTED_APART:
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


def thousands(one: Quantity) -> tuple[float, ...]:
    """The other ways to count blood cells: 11.4 and 11,400."""
    return (one.value * 1000, one.value / 1000) if one.kind in _PER_THOUSAND else ()


def heights(text: str, found: Sequence[Quantity] = ()) -> set[float]:
    """Heights in inches: of a text in digits, and of the quantities of a source as they are spoken ("five foot four", "five four")."""
    written = {12.0 * int(one[1]) + int(one[2] or 0) for one in _FEET.finditer(text)}
    written |= {float(one[1] or 100 * float(one[2])) / 2.54 for one in _METRIC.finditer(text)}
    for one, two in pairwise(found):
        if one.value in (4, 5, 6) and one.unit in ("", "foot", "feet", "ft") and two.value < 12 and two.first - one.last <= 2:
            written.add(12 * one.value + two.value)
    written |= {one.value / 2.54 for one in found if one.kind in ("height", "length") and 120 <= one.value <= 215}
    return {height for height in written if _TALLEST[0] <= height <= _TALLEST[1]}


def stated_heights(text: str) -> Iterator[tuple[int, int, float]]:
    """(start, end, inches) of the heights that a note calls so."""
    for pattern in (_FEET, _METRIC):
        for one in pattern.finditer(text):
            if _OF_HEIGHT.search(text[max(0, one.start() - 12) : one.end() + 6]):
                yield *one.span(), min(heights(one.group()), default=0.0)


def is_same_height(one: float, heard: set[float]) -> bool:
    """Whether one of the heights, as it was heard, is this one when rounded."""
    return any(abs(one - other) <= _SAME_HEIGHT for other in heard)


def is_bmi_of(bmi: float, heard: set[float], pounds: Sequence[float]) -> bool:
    """Whether a body mass index follows from one of the heights and one of the weights."""
    return any(abs(bmi - 703.07 * weight / height**2) <= _SAME_BMI for height in heard for weight in pounds)
