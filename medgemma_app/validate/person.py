"""Sex and age of the patient: whether a report says the same as its source.

The forms are those of American notes ("45F", "63 y/o M"), of usual words in English, German, French and Spanish, and of DICOM's
PatientSex and PatientAge (PS3.3 C.7.1.1, C.7.2.2).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from medgemma_app.validate.core import Issue, Severity, Text
from medgemma_app.validate.lists import finder
from medgemma_app.validate.quantities import spoken_quantities
from medgemma_app.validate.terms import Source

_NOUN = r"(?:male|female|man|woman|gentleman|lady|boy|girl)\b"
_AGED = re.compile(rf"\bold\b[ ,-]{{1,3}}(?:[\w-]{{1,20}} ){{0,4}}?{_NOUN}", re.IGNORECASE)  # "50-year-old right-handed white female"
_STATED = re.compile(  # "Sex: F", "24 y/o F", "45 M", "Whitfield (F, 44)"
    rf"(?i:\b(?:sex|gender)\b\W{{1,4}}(?:male|female|man|woman|m|f)\b"
    rf"|\b[0-9]{{1,3}} ?(?:yo|y/o|y\.o\.|years?,?) (?:[\w-]{{1,20}} ){{0,2}}?{_NOUN}|\b[0-9]{{1,3}} ?(?:yo|y/o|/) ?[mf]\b)"
    r"|(?<![0-9./°] )(?<![0-9./°])(?<!T )(?<!T: )(?<!emp )\b[0-9]{1,2} ?[MF]\b(?! ?[0-9])|\([MF](?=, ?[0-9]{1,2}\b)"
    r"|(?i:\b(?:mr|mrs|herr|frau)\b(?= ?\.? ?[a-z])|\bms(?=\. ?[a-z])"  # "miss" is a verb, and MS a disease
    r"|\A\W*(?:[\w:,.-]+\W+){0,12}?(?:mujer|hombre|varón|niña|niño|femme|homme|fille|garçon|patientin|patiente)\b)"
)
_LAST_WORD = re.compile(r"[^\W\d_]+$")
_PRONOUN = re.compile(r"\b(?:he|him|his|himself|she|hers?|herself)\b", re.IGNORECASE)
_AGE_UNIT = r"(?P<unit>years?|yrs?|months?|mos?|weeks?|wks?|days?)"
_AGE = re.compile(
    rf"(?<![\w.,/°])(?<!T )(?<!T: )(?<!emp )(?:(?i:(?P<old>[0-9]{{1,3}})[- ]?(?:{_AGE_UNIT}[- ](?:old|of age)|y/?o|y\. ?o)\b)"
    r"|(?<![0-9./°] )(?P<letter>[0-9]{1,3}) ?[MF]\b(?! ?[0-9]))|\([MF], ?(?P<bracket>[0-9]{1,3})\b"
    r"|(?i:\b(?:age|aged|alter|edad|âge)\W{1,4}(?P<labelled>[0-9]{1,3}) ?(?P<unit2>yo|months?|mo|weeks?|days?|)\b"
    r"|\b(?:pt|patient|you['’]?re|you are)\.? (?P<told>[0-9]{1,3})(?=[,.;?]| and)"
    r"|\A\W*(?:[\w:,.-]+\W+){0,12}?(?P<begins>[0-9]{1,3}) ?(?:J\.|Jahre|-?jährig\w*|años|ans\b|a,))"
)
_ANOTHER_TIME = re.compile(r"\b(?:when|at|since|until|around|from|was|my)\b[^.\n]{0,20}$", re.IGNORECASE)
_MONTHS = {"y": 12.0, "m": 1.0, "w": 0.25, "d": 0.03}


class Known(NamedTuple):
    """What a text says of the patient, and where; an age is in months."""

    value: float | str
    start: int
    end: int


def wrong_sex(text: Text, source: Source) -> Iterator[Issue]:
    """The note calls the patient by the sex the source states: an error for a statement, a warning for a pronoun."""
    known = _sex(source.raw)
    written = _sex(text.text) if known else None
    differs = written is not None and known is not None and written.value != known.value
    found = written if differs else known and _stray(text.text, str(known.value))
    if found and known:
        message = f"the note speaks of a {found.value} patient, the source of a {known.value} one"
        span, place, severity = (found.start, found.end), (known.start, known.end), _SEVERITY[differs]
        yield text.issue("wrong-sex", severity, message, span, source_span=place, found=str(found.value), expected=str(known.value))


_SEVERITY: dict[bool, Severity] = {True: "error", False: "warning"}


def _sex(text: str) -> Known | None:
    """The sex that a text states, if all its statements agree."""
    pattern = _AGED if _AGED.search(text) else _STATED
    stated = [Known(_sex_of(found[0]), *found.span()) for found in pattern.finditer(text)]
    return stated[0] if len({one.value for one in stated}) == 1 else None


def _sex_of(written: str) -> str:
    last = _LAST_WORD.search(written)
    found = finder("cues", "female", "male").fullmatch(last[0]) if last else None
    return (found and found.lastgroup) or ""


def _stray(text: str, sex: str) -> Known | None:
    """The first pronoun of the other sex, where nobody else is spoken of, as the one who brings a child may be."""
    if finder("cues", "caregivers").search(text):
        return None
    for one in _PRONOUN.finditer(text):
        before = text[max(0, one.start() - 400) : one.start()]
        nearby = ".".join(before.split(".")[-2:])
        if _sex_of(one[0]) != sex and not finder("cues", "kin", "others").search(nearby) and not finder("cues", "providers").search(before):
            return Known(_sex_of(one[0]), *one.span())
    return None


def wrong_age(text: Text, source: Source) -> Iterator[Issue]:
    """Where the source states an age, that of the patient in the note is one of its numbers."""
    written, stated = next(_ages(text.text), None), next(_ages(source.raw), None)
    said = spoken_quantities(source.raw) if written else ()
    of_age = (one for one in said if re.match(r"[\s-]{1,2}(?:years?|months?)[\s-](?:old|of age)\b", source.raw[one.end : one.end + 20]))
    spoken = [Known(12 * one.value, one.start, one.reach) for one in of_age if _of_patient(source.raw, one.start, one.end)]
    stated = stated or next(iter(spoken), None)
    bare = [12 * one.value for one in said if one.kind in ("", "time")] if source.spoken else []
    given = {*bare, *(float(one.value) for one in (*spoken, *_ages(source.raw)))}
    if written and stated and not any(0 <= float(written.value) - age < (1 if age % 12 else 12) for age in given):
        found, expected = _years(written), _years(stated)
        message = f"the note says the patient is {found} old, the source {expected}"
        span, place = (written.start, written.end), (stated.start, stated.end)
        yield text.issue("wrong-age", "error", message, span, source_span=place, found=found, expected=expected)


def _years(age: Known) -> str:
    months = float(age.value)
    return f"{months:g} months" if months < 24 and months % 12 else f"{months / 12:g} years"


def _ages(text: str) -> Iterator[Known]:
    """The ages of the patient in digits."""
    for found in _AGE.finditer(text):
        years = int(next(filter(None, (found[group] for group in ("old", "letter", "bracket", "labelled", "told", "begins")))))
        unit = (found["unit"] or found["unit2"] or "y").lower()[0]
        if years <= 120 and _of_patient(text, found.start(), found.end()):
            yield Known(years * _MONTHS[unit], *found.span())


def _of_patient(text: str, start: int, end: int) -> bool:
    """Whether an age is that of today, without a relative beside it."""
    before, behind = text[max(0, start - 30) : start], text[end : end + 30]
    relative = finder("cues", "kin")
    return not (relative.search(before) or _ANOTHER_TIME.search(before) or relative.match(re.sub(r"^\W*(?:\w+ )?", "", behind)))
