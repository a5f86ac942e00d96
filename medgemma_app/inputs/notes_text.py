"""Parsed JSON -> the text of notes: keys become labels, values stand as written; and which of its words are of an illness."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

# Known keys in the order a clinician reads them; every other key follows in the order of the file, and long texts come last.
CLINICAL_ORDER = (
    "demographics", "patient", "patient name", "name", "age", "patient age", "sex", "patient sex", "gender", "dob", "date of birth",
    "date", "visit date", "visit type",
    "chief complaint", "chief complaints", "cc", "complaint", "complaints", "presenting complaint", "reason for visit", "reason",
    "subjective", "history of present illness", "history of presenting illness", "present illness", "hpi", "symptoms", "history",
    "past medical history", "medical history", "pmh", "past surgical history", "surgical history", "psh", "family history", "fh",
    "social history", "sh", "review of systems", "ros",
    "medications", "medication", "current medications", "home medications", "medication list", "meds", "allergies", "allergy",
    "immunizations",
    "objective", "vitals", "vital signs", "exam", "physical exam", "physical examination", "examination", "exam findings",
    "results", "labs", "lab results", "laboratory results", "laboratory", "imaging", "imaging results",
    "assessment", "impression", "diagnosis", "diagnoses", "assessment and plan", "plan",
)  # fmt: skip
LONG_TEXTS = ("dialogue", "dialog", "conversation", "transcript", "turns", "text", "free text", "notes", "note", "comments")
# Keys of who is concerned and how to find them. A name stands for a person only where the keys around it are about one.
IDENTITY = frozenset((
    "patient name", "first name", "last name", "middle name", "given name", "family name", "full name", "surname", "initials",
    "id", "ids", "patient id", "identifier", "identifiers", "mrn", "medical record number", "record number", "ssn",
    "social security number",
    "nhs number", "account number", "accession number", "visit id", "encounter id", "insurance", "insurance id", "insurance number",
    "dob", "date of birth", "birth date", "birthdate", "birthday", "born", "place of birth",
    "address", "street", "city", "state", "zip", "zip code", "postal code", "postcode", "country",
    "phone", "phone number", "telephone", "mobile", "fax", "email", "e mail", "contact", "emergency contact", "next of kin",
))  # fmt: skip
PERSONS = frozenset(("", "patient", "person", "demographics", "subject"))
SPEAKERS, SPEECH = ("speaker", "role"), ("text", "content", "utterance")
# Scripts that write without spaces count by the character.
_UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_]*[^\W\d_][^\W_]*")  # with a letter in it: numbers alone are no note
_PIECE = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")
_BETWEEN_WORDS = re.compile(r"[\s_-]+|(?<=[a-z])(?=[A-Z])")


def notes_text(value: Any) -> str:
    """Parsed JSON -> text: a string as it is, an object as ``Label: value`` lines, a list as one line an entry."""
    return "\n".join(line for _, line in labelled_lines(value))


def labelled_lines(value: Any) -> list[tuple[str, str]]:
    """Each line and its label, "" where it has none."""
    if isinstance(value, Mapping):
        return [(_label(key), _line(key, value[key])) for key in sorted(value, key=_rank)]
    return [("", _turn(item)) for item in value] if isinstance(value, list) else [("", _inline(value))]


def _rank(key: str) -> int:
    name = _words(key)
    if name in LONG_TEXTS:
        return len(CLINICAL_ORDER) + 1 + LONG_TEXTS.index(name)
    return CLINICAL_ORDER.index(name) if name in CLINICAL_ORDER else len(CLINICAL_ORDER)


def _words(key: str) -> str:
    """A key as the words it is made of: chiefComplaint, chief_complaint and CHIEF-COMPLAINT are one."""
    return _BETWEEN_WORDS.sub(" ", key).strip().lower()


def _label(key: str) -> str:
    known = _words(key) in (*CLINICAL_ORDER, *LONG_TEXTS) and not key.isupper()
    label = _words(key) if known else key.replace("_", " ").strip()
    return label.capitalize() if label.islower() else label  # pH and pO2 stay as they are


def _line(key: str, value: Any, *, nested: bool = False) -> str:
    said = "\n" + notes_text(value) if is_dialogue(value) else f" {_inline(value, nested=nested)}"
    return f"{_label(key)}:{said}"


def is_dialogue(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_turn_keys(item) for item in value)


def _turn_keys(item: Any) -> tuple[str, str] | None:
    """The keys of who speaks and of what is said, where an item is a turn of a dialogue."""
    if not isinstance(item, Mapping):
        return None
    who, what = ([key for key in keys if key in item] for keys in (SPEAKERS, SPEECH))
    return (who[0], what[0]) if who and what else None


def _turn(item: Any) -> str:
    keys = _turn_keys(item)
    if not keys:
        return _inline(item)
    more = "; ".join(_line(key, value) for key, value in item.items() if key not in keys)
    return f"{_inline(item[keys[0]])}: {_inline(item[keys[1]])}" + (f" ({more})" if more else "")


def _inline(value: Any, *, nested: bool = False) -> str:
    """A value on one line: lists and objects with semicolons, inside one another in brackets; null as nothing."""
    if isinstance(value, Mapping):
        parts = [_line(key, item, nested=True) for key, item in value.items()]
    elif isinstance(value, list):
        parts = [_inline(item, nested=True) for item in value]
    elif value is None:
        return ""
    else:
        return value.strip() if isinstance(value, str) else json.dumps(value)
    return f"({'; '.join(parts)})" if nested and parts else "; ".join(parts)


def count_words(text: str) -> int:
    """How many words a reader would count, numbers among them."""
    return len(_PIECE.findall(text))


def clinical_words(value: Any) -> int:
    """How many words the values hold: no labels, no numbers, nothing of who it is about. An empty form must not pass for notes."""
    return sum(len(_WORD.findall(said)) for said in _leaves(value))


def _leaves(value: Any, key: str = "") -> Iterator[str]:
    """The values a note could be written from; ``key`` is what the value stands under."""
    if isinstance(value, Mapping):
        speaker = _turn_keys(value)
        for below, inner in value.items():
            if not _names_somebody(_words(below), key) and not (speaker and below == speaker[0]):
                yield from _leaves(inner, _words(below))
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, key)
    elif isinstance(value, str) and not _is_number(value):
        yield value


def _names_somebody(key: str, above: str) -> bool:
    return key in IDENTITY or (key == "name" and above in PERSONS)


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True
