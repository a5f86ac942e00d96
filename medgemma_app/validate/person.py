"""Sex and age of the patient: whether a report says the same as its source.

The forms are those of American notes ("45F", "63 y/o M") and of DICOM's PatientSex and PatientAge (PS3.3 C.7.1.1, C.7.2.2).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from medgemma_app.validate.core import Issue, Text, excerpt
from medgemma_app.validate.quantities import Quantity, spoken_quantities, written_quantities

_FEMALE = "female woman lady girl f mrs ms miss she her hers herself"
_SEX = dict.fromkeys(_FEMALE.split(), "female") | dict.fromkeys("male man gentleman boy m mr he him his himself".split(), "male")  # noqa: SIM905
_NOUN = r"(male|female|man|woman|gentleman|lady|boy|girl)\b"
# "50-year-old right-handed white female", "Sex: F", "Gender: female"
_STATED = (  # of a text in lower case
    re.compile(rf"\bold\b[ ,-]{{1,3}}(?:[\w-]{{1,20}} ){{0,4}}?{_NOUN}"),
    re.compile(r"\b(?:sex|gender)\b\W{1,4}(male|female|man|woman|m|f)\b"),
    re.compile(rf"\b[0-9]{{1,3}} ?(?:yo|y/o|y\.o\.|years?,?) (?:[\w-]{{1,20}} ){{0,2}}?{_NOUN}"),
    re.compile(r"\b[0-9]{1,3} ?(?:yo|y/o|/) ?([mf])\b"),
    re.compile(r"(?<![0-9.])[1-9][0-9]?([mf])(?= (?:with|w/|who|presents|presenting|here|c/o|s/p|g[0-9]|admitted|seen)|,)"),
    re.compile(r"\b(mr|mrs)\b ?\.? ?[a-z]|\b(ms)\. ?[a-z]"),  # "miss" is a verb, and MS a disease
)
_PRONOUN = re.compile(r"\b(?:he|him|his|himself|she|hers?|herself)\b", re.IGNORECASE)
_FEWEST_PRONOUNS = 4
_SAME_PRONOUN = 0.9
_BEFORE_AGE = re.compile(r"\b(?:age|aged)\W{1,4}$", re.IGNORECASE)
_RELATIVE = re.compile(
    r"\b(?:son|daughter|child|kids?|mother|father|mom|dad|brother|sister|husband|wife|grand\w+|uncle|aunt|niece|nephew|my)\b", re.IGNORECASE
)
MOST_AGES = 50


def wrong_sex(report: Text) -> Iterator[Issue]:
    """The note calls the patient by the sex the source states; words of kinship and names prove nothing."""
    stated = _stated_sex(report.source or "")
    written = _stated_sex(report.text) or _sex_by_pronouns(report.text)
    if stated and written and stated != written:
        yield Issue("wrong-sex", "error", f"the note speaks of a {written} patient, the source of a {stated} one", "")


def _stated_sex(text: str) -> str | None:
    """The sex a text states, where all its statements agree."""
    lower = text.lower()
    for pattern in _STATED:
        found = {_SEX[match[match.lastindex or 0]] for match in pattern.finditer(lower)}
        if found:
            return found.pop() if len(found) == 1 else None
    return None


def _sex_by_pronouns(text: str) -> str | None:
    counts = Counter(_SEX.get(word.lower(), "") for word in _PRONOUN.findall(text))
    sex, count = counts.most_common(1)[0] if counts else ("", 0)
    return sex if count >= _FEWEST_PRONOUNS and count >= _SAME_PRONOUN * counts.total() else None


def wrong_age(report: Text) -> Iterator[Issue]:
    """The age of the patient is the one the source gives."""
    if report.source is None:
        return
    written = [one for one in written_quantities(report.text) if _is_age(report.text, one) and _of_patient(report.text, one)]
    said = spoken_quantities(report.source) if written else []
    stated = {one.value for one in said if _is_age(report.source, one) and _of_patient(report.source, one)}
    near = {one.value for one in said if one.kind in ("age", "", "time")}
    for one in written[:1]:
        if stated and one.value not in stated | near:
            shown = excerpt(report.text[max(0, one.start - 30) : one.end + 30])
            yield Issue("wrong-age", "error", "the age in the note is not the one in the source", shown)


def _is_age(text: str, one: Quantity) -> bool:
    return one.kind == "age" or _labelled(text, one)


def _labelled(text: str, one: Quantity) -> bool:
    return _BEFORE_AGE.search(text[max(0, one.start - 12) : one.start]) is not None


def _of_patient(text: str, one: Quantity) -> bool:
    """Whether an age is given in years, without a relative beside it."""
    around = text[max(0, one.start - 40) : one.end + 30]
    return one.unit in ("", "year", "years", "yr", "yrs", "yo", "y", "f") and _RELATIVE.search(around) is None
