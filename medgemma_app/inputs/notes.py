"""notes.json -> the text the model reads.

Nothing the file says is dropped in silence and nothing is reworded: keys become labels, values stand as written.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeAlias

from medgemma_app.errors import InputError
from medgemma_app.inputs.fhir import as_bundle, fhir_content, fhir_lines
from medgemma_app.inputs.fhir_words import is_fhir
from medgemma_app.inputs.files import open_input, refuse_url, shown_name

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
Parsed: TypeAlias = Mapping[str, Any] | list[Any]
FEWEST_WORDS = 5
MOST_LABELS = 12  # that a message names
LARGEST_BYTES = 10_000_000
DEEPEST = 100
ONE_NOTES_FILE = "one notes file (JSON)"
SPEAKERS, SPEECH = ("speaker", "role"), ("text", "content", "utterance")
# Scripts that write without spaces count by the character.
_UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_]*[^\W\d_][^\W_]*")  # with a letter in it: numbers alone are no note
_PIECE = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")
_CLEAN_LABEL = re.compile(r"[^\W\d_][^\W\d_]*(?:[ _/-][^\W\d_]+){0,7}")
_BETWEEN_WORDS = re.compile(r"[\s_-]+|(?<=[a-z])(?=[A-Z])")
# Half of a surrogate pair cannot be encoded, and control characters cut strings short or drive terminals.
_NO_TEXT = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True)
class Notes:
    """The text the model reads, and JSON-ready facts about where it came from."""

    text: str
    facts: Mapping[str, Any]
    labels: tuple[tuple[int, str], ...] = ()  # of its lines, where they are labelled: where each begins, and what it is called

    def lost(self, end: int) -> str:
        """The labels of what stands after ``end``, and of the line that it cuts: "all of Plan; part of Exam"; "" without labels."""
        starts = [start for start, _ in self.labels]
        first = bisect_left(starts, end)
        whole = [label for _, label in self.labels[first:]]
        following = starts[first] if first < len(starts) else len(self.text)
        cut = [self.labels[first - 1][1]] if first and self.text[end:following].strip() else []
        return "; ".join(f"{what} of {_listed(labels)}" for what, labels in (("all", whole), ("part", cut)) if labels)


def count_words(text: str) -> int:
    """How many words a reader would count, numbers among them."""
    return len(_PIECE.findall(text))


def _listed(labels: list[str]) -> str:
    """Each label once, with how often it stands there; those that may hold more than a label are only counted."""
    counted = Counter(label if _CLEAN_LABEL.fullmatch(label) else "" for label in labels)
    others = counted.pop("", 0)
    named = [label if times == 1 else f"{label} ({times})" for label, times in counted.items()]
    others += sum(counted[label] for label in list(counted)[MOST_LABELS:])
    return ", ".join(named[:MOST_LABELS] + ([f"{others} more"] if others else []))


def load_notes(source: str | Path | Parsed) -> str:
    """The text of a notes file (JSON, UTF-8 or UTF-16), ``-`` for standard input, or of notes already parsed. Raises InputError."""
    return read_notes(source).text


def read_notes(source: str | Path | Parsed) -> Notes:
    """A notes file and its facts: name, sha256 of the bytes, format, words, and what of it the text leaves out.

    Raises InputError for a file that cannot be read, is not JSON, or holds fewer than 5 words.
    """
    return read_raw_notes(*_read(source))


def read_raw_notes(raw: bytes, name: str) -> Notes:
    """As ``read_notes``, for the bytes of a file; ``name`` is what messages call it."""
    if len(raw) > LARGEST_BYTES:
        raise InputError(f"{name} is larger than {LARGEST_BYTES // 10**6} MB; give the notes of one visit")
    value = as_bundle(parse_notes(raw, name))
    left_out: tuple[str, ...] = ()
    if is_fhir(value):
        (lines, left_out), said = fhir_lines(value), fhir_content(value)
    else:
        lines, said = _lines(value), " ".join(_leaves(value))
    text, labels = _joined(lines)
    if len(_WORD.findall(said)) < FEWEST_WORDS:
        raise InputError(f"{name} holds fewer than {FEWEST_WORDS} words; there is nothing to write a note from")
    facts = {"name": name, "sha256": hashlib.sha256(raw).hexdigest(), "format": _format(value), "words": len(text.split())}
    return Notes(text, {**facts, "left_out": list(left_out)}, labels)


def _joined(lines: list[tuple[str, str]]) -> tuple[str, tuple[tuple[int, str], ...]]:
    """Labelled lines as one text that any program can show, and where in it each begins."""
    said = [_NO_TEXT.sub("\N{REPLACEMENT CHARACTER}", line.replace("\r\n", "\n").replace("\r", "\n")) for _, line in lines]
    starts = accumulate((len(line) + 1 for line in said), initial=0)
    return "\n".join(said), tuple((start, label) for start, (label, _) in zip(starts, lines, strict=False) if label)


def _read(source: str | Path | Parsed) -> tuple[bytes, str]:
    if not isinstance(source, str | Path):
        raw, name = _written(source), "the notes"
    elif str(source) == "-":
        raw, name = _standard_input(), "standard input"
    else:
        refuse_url(source)
        name = shown_name(source)
        with open_input(source, what=ONE_NOTES_FILE) as file:
            raw = file.read(LARGEST_BYTES + 1)
    return raw, name


def _written(value: Parsed) -> bytes:
    try:
        return json.dumps(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError("the notes are no JSON value; give an object, a list of turns, or a file") from error


def _standard_input() -> bytes:
    try:
        return sys.stdin.buffer.read(LARGEST_BYTES + 1)
    except (AttributeError, ValueError, OSError) as error:  # closed, or replaced by something that is no file
        raise InputError("standard input cannot be read; give a notes file") from error


def parse_notes(raw: bytes, name: str) -> Any:
    """JSON with every number as the string the file wrote (37.20 must not become 37.2) and no key lost. Raises InputError."""
    encoding = json.detect_encoding(raw)
    try:
        text = raw.decode(encoding)
        value = json.loads(text, parse_float=str, parse_int=str, parse_constant=str, object_pairs_hook=_every_pair)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError(f"{name} is not {encoding.upper().removesuffix('-SIG')} text at line {line}; save it as UTF-8 JSON") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{name} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from error
    except RecursionError as error:
        raise InputError(f"{name} is nested too deeply; give a flat JSON object") from error
    _refuse_deep(value, name)
    return value


def _every_pair(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A key that occurs twice keeps both values, where JSON readers keep the last one only."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        found[key] = [found[key], value] if key in found else value
    return found


def _refuse_deep(value: Any, name: str) -> None:
    level = [value]
    for _ in range(DEEPEST):
        level = [inner for outer in level for inner in _inside(outer)]
    if level:
        raise InputError(f"{name} is nested too deeply; give a flat JSON object")


def _inside(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    return value if isinstance(value, list) else []


def _leaves(value: Any, key: str = "") -> Iterator[str]:
    """The values a note could be written from, without the labels: an empty form must not pass for notes, nor who it is about."""
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


def _format(value: Any) -> str:
    if is_fhir(value):
        return f"FHIR {value['resourceType']}"
    return "dialogue" if _is_dialogue(value) else f"JSON {'object' if isinstance(value, Mapping) else type(value).__name__}"


def notes_text(value: Any) -> str:
    """Parsed JSON -> text: a string as it is, an object as ``Label: value`` lines, a list as one line an entry."""
    return "\n".join(line for _, line in _lines(value))


def _lines(value: Any) -> list[tuple[str, str]]:
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
    said = "\n" + notes_text(value) if _is_dialogue(value) else f" {_inline(value, nested=nested)}"
    return f"{_label(key)}:{said}"


def _is_dialogue(value: Any) -> bool:
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
