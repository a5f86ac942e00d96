"""A note against its source: vital signs and lab values, the sex and the age of the patient, and normal examinations.

Sex and age are read from American shorthand ("45F", "63 y/o M"), common words in English, German, French and Spanish, and the words
in which a DICOM header is described (PatientSex and PatientAge, PS3.3 C.7.1.1 and C.7.2.2).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from medgemma_app.inputs.lines import MARKED_LINE
from medgemma_app.notices import counted
from medgemma_app.validate.core import Draft, Issue
from medgemma_app.validate.lists import entries, finder
from medgemma_app.validate.quantities import NAMED, Quantity, factor, spoken_quantities, written_quantities

_Span: TypeAlias = tuple[int, int]


class Source(NamedTuple):
    """What a text was written from, as given (``raw``) and without retracted lines (``standing``); whether it is speech, and English."""

    raw: str
    standing: str
    spoken: bool
    english: bool


_SPEAKER = re.compile(r"(?m)^\W{0,2}([^\W\d_][\w. ]{0,24})[\]:)]")
_TALK_SHARE, _MOST_SPEAKERS, _LINES_OF_SPEAKERS = 0.03, 6, 0.5


@lru_cache(maxsize=2)
def read_source(source: str) -> Source:
    """Reads a source. In ``standing``, blanks replace the lines that it retracts. Notes in keywords count as English."""
    words, cues = re.findall(r"[\w']+", source.lower()), entries("cues")
    counts = Counter(words)
    english, foreign, talk = (sum(counts[word] for word in cues[key]) for key in ("english", "foreign", "talk"))
    names = Counter(name.lower() for name in _SPEAKER.findall(source))
    named = 0 < len(names) <= _MOST_SPEAKERS and names.total() >= max(4, _LINES_OF_SPEAKERS * (source.count("\n") + 1))
    standing = MARKED_LINE.sub(lambda found: " " * len(found[0]), source)
    return Source(source, standing, named or talk > _TALK_SHARE * max(1, len(words)), foreign <= english)


# --- vital signs and lab values

_CHECKED = frozenset(NAMED.values()) - {"height"}
_MOST_VALUES, _HOTTEST = 20, 50  # issues; degrees Celsius
# Words before a value that need not be in the source, since it was not measured: a limit, goal, total, change or conversion.
_DERIVED_BEFORE = re.compile(
    r"(?:[<>≤≥]=?|\b(?:goals?|targets?|therapeutic|ranges?|keep|maintain|titrated?|max(?:imum)?|minimum|limit(?:ed to)?|up to|at least"
    r"|above|below|(?:greater|less|more|higher|lower) than|under|exceed(?:s|ing)?|ref(?:erence)?|threshold|restriction|lose|losing"
    r"|(?:call|return|notify|go|come|seek)\b[^.;\n]{0,40}\b(?:if|for|when)\b)\b)(?:[^.;\n0-9]|a1c|o2|b12){0,40}"
    r"(?:[0-9]{1,3}(?:\.[0-9]{1,2})? ?%? ?(?:/|-|–|to) ?)?$"
    r"|(?:\+|\b(?:by|up|down|(?:drop|rise|increase|decrease|total) of|gain(?: of|ed|ing|s)?|lo(?:ss(?: of)?|st|ses|sing))) ?(?:about |~)?$"
    r"|[0-9][^()\n]{0,20}\((?:about |~|= ?|bmi )?$|[=≈~] ?$|\b(?:about|roughly|approximately|from|last|previously) $|(?:^|[\s(])[+−–-]$",
    re.IGNORECASE,
)
_PAIR = re.compile(r"[0-9]{2,3} ?(?:/|over) ?[0-9]{2,3}")


def invented_value(note: Draft, source: Source) -> Iterator[Issue]:
    """Flags each vital sign and lab value of the note whose number is not in the source, in digits or in words.

    Limits, totals, changes and conversions in the note need not be in the source.
    """
    numbers = spoken_quantities(source.standing)
    written = {one.kind: _whole_pair(source.standing, one) for one in reversed(written_quantities(source.standing)) if one.kind in _CHECKED}
    values = {value for one in numbers for value in one.readings}
    is_weighed = "weight" in written or any(one.kind == "weight" for one in numbers)  # so that there may be a BMI
    seen: set[tuple[str, float]] = set()
    pair_end = 0
    for one in written_quantities(note.text):
        # Number words of other languages are not read, so only what such a source gives in digits is checked.
        unread = one.kind not in _CHECKED or (not source.english and one.kind not in written)
        if unread or (one.kind, one.value) in seen or (one.kind == "bmi" and is_weighed):
            continue
        if is_derived(note.text, one) or _is_among(values, one):
            continue
        seen.add((one.kind, one.value))
        start, end = _whole_pair(note.text, one)
        if start >= pair_end:
            pair_end = end
            yield _invented(note, one.kind, (start, end), source, written)
        if len(seen) >= _MOST_VALUES:
            return


def _invented(note: Draft, kind: str, span: _Span, source: Source, written: Mapping[str, _Span]) -> Issue:
    """The issue about a value, with the value that the source gives instead; in a dialogue it is uncertain which one that is."""
    found, place = f"{kind} {note.text[slice(*span)]}", None if source.spoken else written.get(kind)
    expected = source.standing[slice(*place)] if place else None
    message = f"the note says {found}, {f'the source {expected}' if expected else 'which the source does not give'}"
    return note.issue("invented-value", "error", message, span, source_span=place, found=found, expected=expected)


def is_derived(text: str, one: Quantity) -> bool:
    """Whether a value is a limit, a total, a change, or a conversion of the value before it."""
    return _DERIVED_BEFORE.search(text[max(0, one.start - 90) : one.start]) is not None


def _whole_pair(text: str, one: Quantity) -> _Span:
    """The place of a value; for a blood pressure, the place of both numbers."""
    pair = _PAIR.search(text, max(0, one.start - 6), one.end + 6) if one.kind == "blood pressure" else None
    return pair.span() if pair else (one.start, one.reach)


def _is_among(values: set[float], one: Quantity) -> bool:
    """Whether a value is one of these, as written or in another unit."""
    near = (abs(value - other) <= off for value, off in _on_other_scales(one) for other in values)
    return not values.isdisjoint(one.readings) or any(near)


def _on_other_scales(one: Quantity) -> Iterator[tuple[float, float]]:
    """The value in other units, each with its tolerance."""
    if one.kind == "temperature":
        yield (one.number * 1.8 + 32 if one.number < _HOTTEST else (one.number - 32) / 1.8), 0.15
    elif one.kind == "weight":
        yield (one.value, 1.0) if one.value != one.number else (one.value / factor("kg"), 0.5)
    elif one.kind in ("white cells", "platelets"):
        yield from ((one.number * 1000, 0.0), (one.number / 1000, 0.0))
    elif one.kind == "blood pressure":
        yield one.number / 10, 0.0  # in centimetres of mercury


# --- sex and age

_NOUN = r"(?:male|female|man|woman|gentleman|lady|boy|girl)\b"
_AGED = re.compile(rf"\bold\b[ ,-]{{1,3}}(?:[\w-]{{1,20}} ){{0,4}}?{_NOUN}", re.IGNORECASE)  # "50-year-old right-handed white female"
_STATED = re.compile(  # "Sex: F", "24 y/o F", "45 M"
    rf"(?i:\b(?:sex|gender)\b\W{{1,4}}(?:male|female|man|woman|m|f)\b"
    rf"|\b[0-9]{{1,3}} ?(?:yo|y/o|y\.o\.|years?,?) (?:[\w-]{{1,20}} ){{0,2}}?{_NOUN}|\b[0-9]{{1,3}} ?(?:yo|y/o|/) ?[mf]\b)"
    r"|(?<![0-9./°] )(?<![0-9./°])(?<!T )(?<!T: )(?<!emp )\b[0-9]{1,2} ?[MF]\b(?! ?[0-9])"
    r"|(?i:\b(?:mr|mrs|herr|frau)\b(?= ?\.? ?[a-z])|\bms(?=\. ?[a-z]))"  # "miss" is a verb, and MS a disease
)
_LAST_WORD = re.compile(r"[^\W\d_]+$")
_AGE_UNIT = r"(?P<unit>years?|yrs?|months?|mos?|weeks?|wks?|days?)"
_AGE = re.compile(
    rf"(?<![\w.,/°])(?<!T )(?<!T: )(?<!emp )(?:(?i:(?P<old>[0-9]{{1,3}})[- ]?(?:{_AGE_UNIT}[- ](?:old|of age)|y/?o|y\. ?o)\b)"
    r"|(?<![0-9./°] )(?P<letter>[0-9]{1,3}) ?[MF]\b(?! ?[0-9]))"
    r"|(?i:\b(?:age|aged|alter|edad|âge)\W{1,4}(?P<labelled>[0-9]{1,3}) ?(?P<unit2>yo|months?|mo|weeks?|days?|)\b"
    r"|\A\W*(?:[\w:,.-]+\W+){0,12}?(?P<begins>[0-9]{1,3}) ?(?:J\.|Jahre|-?jährig\w*|años|ans\b|a,))"
)
_ANOTHER_TIME = re.compile(r"\b(?:when|at|since|until|around|from|was|my)\b[^.\n]{0,20}$", re.IGNORECASE)
_SPOKEN_AGE = re.compile(r"[\s-]{1,2}(year|month)s?[\s-](?:old|of age)\b")  # after a number in words
_MONTHS = {"year": 12.0, "month": 1.0, "week": 0.25, "day": 0.03}


def wrong_sex(note: Draft, source: Source) -> Iterator[Issue]:
    """Flags a note that states another sex than the source."""
    stated, written = _sex(source.raw), _sex(note.text)
    if stated and written and written[0] != stated[0]:
        (expected, place), (found, span) = stated, written
        message = f"the note is about a {found} patient, the source about a {expected} one"
        yield note.issue("wrong-sex", "error", message, span, source_span=place, found=found, expected=expected)


def _sex(text: str) -> tuple[str, _Span] | None:
    """The sex that a text states, and where, if all its statements agree."""
    pattern = _AGED if _AGED.search(text) else _STATED
    stated = [(_sex_of(found[0]), found.span()) for found in pattern.finditer(text)]
    return stated[0] if len({sex for sex, _ in stated}) == 1 else None


def _sex_of(written: str) -> str:
    last = _LAST_WORD.search(written)
    found = finder("cues", "female", "male").fullmatch(last[0]) if last else None
    return (found and found.lastgroup) or ""


def wrong_age(note: Draft, source: Source) -> Iterator[Issue]:
    """Flags an age of the patient that is none of the ages that the source gives."""
    written = next(_ages(note.text), None)
    stated = [*_ages(source.raw), *_spoken_ages(source.raw)] if written else []
    if written and stated and not any(0 <= written[0] - age < (1 if age % 12 else 12) for age, _ in stated):
        (found, span), (expected, place) = ((_age_in_words(age), span) for age, span in (written, stated[0]))
        message = f"the note says the patient is {found} old, the source {expected}"
        yield note.issue("wrong-age", "error", message, span, source_span=place, found=found, expected=expected)


def _age_in_words(months: float) -> str:
    """An age in the largest unit that gives a whole number: "3 years", "27 months", "6 weeks"."""
    counts = ((round(months / size, 6), unit) for unit, size in _MONTHS.items())
    return next(counted(int(count), unit) for count, unit in counts if count % 1 == 0)


def _ages(text: str) -> Iterator[tuple[float, _Span]]:
    """The ages of the patient that a text gives in digits, in months, and where."""
    units = {unit[0]: size for unit, size in _MONTHS.items()}
    for found in _AGE.finditer(text):
        count = int(next(filter(None, (found[group] for group in ("old", "letter", "labelled", "begins")))))
        unit = (found["unit"] or found["unit2"] or "y").lower()[0]
        if count <= 120 and _of_patient(text, *found.span()):
            yield count * units[unit], found.span()


def _spoken_ages(text: str) -> Iterator[tuple[float, _Span]]:
    """The ages of the patient that a text gives in words, in months, and where."""
    for one in spoken_quantities(text):
        unit = _SPOKEN_AGE.match(text, one.end)
        is_whole = unit is not None and one.value * _MONTHS[unit[1]] % 1 == 0  # "three . eighty one year old" is not 3.81
        if unit and is_whole and _of_patient(text, one.start, one.end):
            yield one.value * _MONTHS[unit[1]], (one.start, one.reach)


def _of_patient(text: str, start: int, end: int) -> bool:
    """Whether an age is the patient's present one: neither a relative nor another time is mentioned beside it."""
    before, behind = text[max(0, start - 30) : start], text[end : end + 30]
    relative = finder("cues", "kin")
    return not (relative.search(before) or _ANOTHER_TIME.search(before) or relative.match(re.sub(r"^\W*(?:\w+ )?", "", behind)))


# --- normal examinations

_COMMON = frozenset("the and are was were normal clear full soft warm dry present equal non".split())  # noqa: SIM905


def unmentioned_exam(note: Draft, source: Source) -> Iterator[Issue]:
    """Flags a normal examination of a part of the body that a source in English does not mention."""
    if not source.english:
        return
    plain, spoken = re.sub(r"[^\w\n.;]", " ", note.text), " " + " ".join(re.findall(r"\w+", source.raw.lower()))
    for key in (key for key in entries("exams") if key.islower() and not key.endswith(" heard")):
        found = finder("exams", key).search(plain)
        own = [word for word in re.findall("[a-z]{3,}", found[0].lower()) if word not in _COMMON] if found else []
        if found and not finder("exams", f"{key} heard").search(source.raw) and not any(f" {word}" in spoken for word in own):
            message = f"the source does not mention this examination: {' '.join(found[0].lower().split())}"
            yield note.issue("unmentioned-exam", "warning", message, found.span(), found=note.text[slice(*found.span())])
