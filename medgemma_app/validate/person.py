"""Sex and age of the patient: whether a report says the same as its source.

The forms are those of American notes ("45F", "63 y/o M"), of usual words in English, German, French and Spanish, and of DICOM's
PatientSex and PatientAge (PS3.3 C.7.1.1, C.7.2.2).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from medgemma_app.validate.core import Issue, Severity, Text
from medgemma_app.validate.quantities import spoken_quantities
from medgemma_app.validate.terms import WORDS, Source

_SEX = dict.fromkeys(WORDS["female"], "female") | dict.fromkeys(WORDS["male"], "male")
_OTHER = {"female": "male", "male": "female"}
_NOUN = r"(male|female|man|woman|gentleman|lady|boy|girl)\b"
_STATED = (  # "50-year-old right-handed white female", "Sex: F", "24 y/o F", "45 M", "Whitfield (F, 44)"
    re.compile(rf"\bold\b[ ,-]{{1,3}}(?:[\w-]{{1,20}} ){{0,4}}?{_NOUN}", re.IGNORECASE),
    re.compile(r"\b(?:sex|gender)\b\W{1,4}(male|female|man|woman|m|f)\b", re.IGNORECASE),
    re.compile(rf"\b[0-9]{{1,3}} ?(?:yo|y/o|y\.o\.|years?,?) (?:[\w-]{{1,20}} ){{0,2}}?{_NOUN}", re.IGNORECASE),
    re.compile(r"\b[0-9]{1,3} ?(?:yo|y/o|/) ?([mf])\b", re.IGNORECASE),
    re.compile(r"(?<![0-9./°] )(?<![0-9./°])(?<!T )(?<!T: )(?<!emp )\b[0-9]{1,2} ?([MF])\b(?! ?[0-9])|\(([MF]), ?[0-9]{1,2}\b"),
    re.compile(r"\b(mr|mrs|herr|frau)\b ?\.? ?[a-z]|\b(ms)\. ?[a-z]", re.IGNORECASE),  # "miss" is a verb, and MS a disease
    re.compile(r"^\W*(?:[\w:,.-]+\W+){0,12}?(mujer|hombre|varón|niña|niño|femme|homme|fille|garçon|patientin|patiente)\b", re.IGNORECASE),
)
_PRONOUN = re.compile(r"\b(?:he|him|his|himself|she|hers?|herself)\b", re.IGNORECASE)
_FEWEST_PRONOUNS, _SAME_PRONOUN, _FEW_PRONOUNS = 4, 0.9, 2
_KIN, _OTHERS, _CARERS, _PROVIDERS = ("|".join(sorted(WORDS[name])) for name in ("kin", "others", "caregivers", "providers"))
_RELATIVE = re.compile(rf"\b(?:{_KIN}|my)\b", re.IGNORECASE)
_RELATIVE_AFTER = re.compile(rf"\W*(?:years?|yrs?|yo|months?|y/o)?\W*(?:old)?\W*(?:\w+\W+)?(?:{_KIN})\b", re.IGNORECASE)
_CAREGIVER, _PROVIDER = re.compile(rf"\b(?:{_CARERS})\b", re.IGNORECASE), re.compile(rf"\b(?:{_PROVIDERS})\b", re.IGNORECASE)
_SOMEBODY = re.compile(rf"\b(?:{_KIN}|{_OTHERS})s?\b", re.IGNORECASE)
_ANOTHER_TIME = re.compile(r"\b(?:when|at|since|until|around|from|was)\b[^.\n]{0,20}$", re.IGNORECASE)
_AGES = (
    re.compile(
        r"(?<![\w.,/])([0-9]{1,3})[- ]?(years?|yrs?|months?|mos?|weeks?|wks?|days?|y/?o|y\. ?o\.?)\b(?:[- ](?:old|of age))?", re.IGNORECASE
    ),
    re.compile(r"(?<![\w.,/°])(?<![0-9./°] )(?<!T )(?<!T: )(?<!emp )([0-9]{1,3}) ?()(?:yo|y/o)? ?[MF]\b(?! ?[0-9])"),
    re.compile(r"\([MF], ?([0-9]{1,3})()\b"),
    re.compile(r"\b(?:age|aged|alter|edad|âge)\W{1,4}(?P<labelled>[0-9]{1,3}) ?(years?|yo|mo|months?|weeks?|days?|)\b", re.IGNORECASE),
    re.compile(r"\b(?:pt|patient|you['’]?re|you are)\.? ([0-9]{1,3})()(?=[,.;?]| and)", re.IGNORECASE),
    re.compile(r"^\W*(?:[\w:,.-]+\W+){0,12}?([0-9]{1,3}) ?(?:J\.|Jahre|-?jährig\w*|años|ans\b|a,)()", re.IGNORECASE),
)
_IS_AGE = re.compile(r"old|of age|y/?o|y\.", re.IGNORECASE)
_MONTHS = {"y": 12.0, "m": 1.0, "w": 0.25, "d": 0.03}


_SEVERITY: dict[bool, Severity] = {True: "error", False: "warning"}


class Known(NamedTuple):
    """What a text says of the patient, and where."""

    value: float | str
    start: int
    end: int


def wrong_sex(text: Text, source: Source) -> Iterator[Issue]:
    """The note calls the patient by the sex the source states, in a statement, or with its pronouns."""
    known = _sex(source.raw, fewest=0 if source.spoken else _FEW_PRONOUNS)
    written = _sex(text.text, fewest=_FEWEST_PRONOUNS) if known else None
    differs = written is not None and known is not None and written.value != known.value
    found = written if differs else known and _stray(text.text, str(known.value))
    if found and known:
        message = f"the note speaks of a {found.value} patient, the source of a {known.value} one"
        span, place, severity = (found.start, found.end), (known.start, known.end), _SEVERITY[differs]
        yield text.issue("wrong-sex", severity, message, span, source_span=place, found=str(found.value), expected=str(known.value))


def _sex(text: str, *, fewest: int) -> Known | None:
    """The sex a text states, if all its statements agree, or that of at least so many pronouns."""
    for pattern in _STATED:
        found = [Known(_SEX[next(filter(None, match.groups())).lower()], *match.span()) for match in pattern.finditer(text)]
        if found:
            return found[0] if len({one.value for one in found}) == 1 else None
    pronouns = [Known(_SEX[match[0].lower()], *match.span()) for match in _PRONOUN.finditer(text)] if fewest else []
    for sex in _OTHER:
        same = [one for one in pronouns if one.value == sex]
        if len(same) >= fewest and len(same) >= _SAME_PRONOUN * len(pronouns) and same:
            return same[0]
    return None


def _stray(text: str, sex: str) -> Known | None:
    """The first pronoun of the other sex, where nobody else is spoken of, as the one who brings a child may be."""
    if _CAREGIVER.search(text):
        return None
    for one in _PRONOUN.finditer(text):
        before = text[max(0, one.start() - 400) : one.start()]
        if _SEX[one[0].lower()] != sex and not _SOMEBODY.search(".".join(before.split(".")[-2:])) and not _PROVIDER.search(before):
            return Known(_OTHER[sex], *one.span())
    return None


def wrong_age(text: Text, source: Source) -> Iterator[Issue]:
    """The age of the patient is one that the source gives."""
    written = next(iter(sorted(_ages(text.text), key=lambda one: one.start)), None)
    stated = _ages(source.raw) if written else []
    said = spoken_quantities(source.raw) if written else ()
    stated += [
        Known(12 * one.value, one.start, one.reach) for one in said if one.kind == "age" and _of_patient(source.raw, one.start, one.end)
    ]
    bare = {12 * one.value for one in said if one.kind in ("", "time", "age")}
    given = {float(one.value) for one in stated} | bare
    if written and stated and not any(0 <= float(written.value) - age < (1 if age % 12 else 12) for age in given):  # months
        found, expected = _years(written), _years(stated[0])
        message = f"the note says the patient is {found} old, the source {expected}"
        span, place = (written.start, written.end), (stated[0].start, stated[0].end)
        yield text.issue("wrong-age", "error", message, span, source_span=place, found=found, expected=expected)


def _years(age: Known) -> str:
    months = float(age.value)
    return f"{months:g} months" if months < 24 and months % 12 else f"{months / 12:g} years"


def _ages(text: str) -> list[Known]:
    """The ages of the patient in digits, in months."""
    found = (one for pattern in _AGES for one in pattern.finditer(text))
    ages = (one for one in found if not one[2] or "labelled" in one.groupdict() or _IS_AGE.search(one[0]))
    own = (one for one in ages if int(one[1]) <= 120 and _of_patient(text, one.start(1), one.end(1)))
    return [Known(int(one[1]) * _MONTHS.get(one[2][:1].lower() or "y", 12.0), *one.span()) for one in own]


def _of_patient(text: str, start: int, end: int) -> bool:
    """Whether an age is that of today, without a relative beside it."""
    before = text[max(0, start - 30) : start]
    return not (_RELATIVE.search(before) or _ANOTHER_TIME.search(before) or _RELATIVE_AFTER.match(text, end))
