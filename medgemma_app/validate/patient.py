"""What a note says of the patient, against its source: sex, age, denied symptoms and normal examinations.

Sex and age are read from American shorthand ("45F", "63 y/o M"), common words in English, German, French and Spanish, and the words
in which a DICOM header is described (PatientSex and PatientAge, PS3.3 C.7.1.1 and C.7.2.2).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from medgemma_app.validate.core import Issue, Text, sentence_spans
from medgemma_app.validate.lists import entries, finder
from medgemma_app.validate.quantities import spoken_quantities
from medgemma_app.validate.terms import Source

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
_MONTHS = {"y": 12.0, "m": 1.0, "w": 0.25, "d": 0.03}


class Known(NamedTuple):
    """A sex, or an age in months, and its place in the text."""

    value: float | str
    start: int
    end: int


def wrong_sex(text: Text, source: Source) -> Iterator[Issue]:
    """The note states the same sex as the source, if both state one."""
    known, written = _sex(source.raw), _sex(text.text)
    if known and written and written.value != known.value:
        message = f"the note is about a {written.value} patient, the source about a {known.value} one"
        span, place = (written.start, written.end), (known.start, known.end)
        yield text.issue("wrong-sex", "error", message, span, source_span=place, found=str(written.value), expected=str(known.value))


def _sex(text: str) -> Known | None:
    """The sex that a text states, if all its statements agree."""
    pattern = _AGED if _AGED.search(text) else _STATED
    stated = [Known(_sex_of(found[0]), *found.span()) for found in pattern.finditer(text)]
    return stated[0] if len({one.value for one in stated}) == 1 else None


def _sex_of(written: str) -> str:
    last = _LAST_WORD.search(written)
    found = finder("cues", "female", "male").fullmatch(last[0]) if last else None
    return (found and found.lastgroup) or ""


def wrong_age(text: Text, source: Source) -> Iterator[Issue]:
    """The age of the patient in the note is one of the ages in the source, if it gives any."""
    written, stated = next(_ages(text.text), None), next(_ages(source.raw), None)
    said = spoken_quantities(source.raw) if written else ()
    of_age = ((one, re.match(r"[\s-]{1,2}(year|month)s?[\s-](?:old|of age)\b", source.raw[one.end : one.end + 20])) for one in said)
    spoken = [
        Known(one.value * (12 if unit[1].lower() == "year" else 1), one.start, one.reach)
        for one, unit in of_age
        if unit and _of_patient(source.raw, one.start, one.end)
    ]
    stated = stated or next(iter(spoken), None)
    given = {float(one.value) for one in (*spoken, *_ages(source.raw))}
    if written and stated and not any(0 <= float(written.value) - age < (1 if age % 12 else 12) for age in given):
        found, expected = _years(written), _years(stated)
        message = f"the note says the patient is {found} old, the source {expected}"
        span, place = (written.start, written.end), (stated.start, stated.end)
        yield text.issue("wrong-age", "error", message, span, source_span=place, found=found, expected=expected)


def _years(age: Known) -> str:
    months = float(age.value)
    return f"{months:g} months" if months < 24 and months % 12 else f"{months / 12:g} years"


def _ages(text: str) -> Iterator[Known]:
    """The ages of the patient that a text gives in digits."""
    for found in _AGE.finditer(text):
        years = int(next(filter(None, (found[group] for group in ("old", "letter", "labelled", "begins")))))
        unit = (found["unit"] or found["unit2"] or "y").lower()[0]
        if years <= 120 and _of_patient(text, found.start(), found.end()):
            yield Known(years * _MONTHS[unit], *found.span())


def _of_patient(text: str, start: int, end: int) -> bool:
    """Whether an age is the patient's present one: no relative and no other time is named beside it."""
    before, behind = text[max(0, start - 30) : start], text[end : end + 30]
    relative = finder("cues", "kin")
    return not (relative.search(before) or _ANOTHER_TIME.search(before) or relative.match(re.sub(r"^\W*(?:\w+ )?", "", behind)))


# --- denied symptoms and normal examinations

_COMMON = frozenset("the and are was were normal clear full soft warm dry present equal non".split())  # noqa: SIM905
_DENIAL = re.compile(r"\b(?:den(?:y|ies|ied|ying)|negative for|no|without)\b", re.IGNORECASE)


def _keys(name: str) -> list[str]:
    """The keys of a list without those that end with "heard", which list other words of a source for the same thing."""
    return [key for key in entries(name) if key.islower() and not key.endswith(" heard")]


def unmentioned_denial(text: Text, source: Source) -> Iterator[Issue]:
    """The source mentions each symptom that the note denies; one warning lists those that it does not."""
    first: dict[str, tuple[int, int]] = {}
    for start, end in sentence_spans(text.text):
        denial = _DENIAL.search(text.text, start, end)
        for found in finder("symptoms", *_keys("symptoms")).finditer(text.text, denial.end(), end) if denial else ():
            first.setdefault((found.lastgroup or "").replace("_", " "), found.span())
    silent = [span for key, span in first.items() if not finder("symptoms", key, f"{key} heard").search(source.raw)]
    if silent:
        names, span = ", ".join(text.text[slice(*one)].lower() for one in silent), silent[0]
        message = f"the note denies symptoms that the source does not mention: {names}"
        yield text.issue("unmentioned-denial", "warning", message, span, found=names)


def unmentioned_exam(text: Text, source: Source) -> Iterator[Issue]:
    """The source mentions each part of the body whose examination the note calls normal."""
    plain, spoken = re.sub(r"[^\w\n.;]", " ", text.text), " " + " ".join(re.findall(r"\w+", source.raw.lower()))
    for key in _keys("exams"):
        found = finder("exams", key).search(plain)
        own = [word for word in re.findall("[a-z]{3,}", found[0].lower()) if word not in _COMMON] if found else []
        if found and not finder("exams", f"{key} heard").search(source.raw) and not any(f" {word}" in spoken for word in own):
            message = f"the source does not mention this examination: {' '.join(found[0].lower().split())}"
            yield text.issue("unmentioned-exam", "warning", message, found.span(), found=text.text[slice(*found.span())])
