"""notes.json -> the text the model reads.

Nothing the file says is dropped and nothing is reworded: keys become labels, values stand as written.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medgemma_app.errors import InputError

# Known keys in the order a clinician reads them; every other key follows in the order of the file.
CLINICAL_ORDER = (
    "demographics", "patient", "age", "sex", "gender",
    "chief complaint", "complaint", "reason for visit", "history of present illness", "hpi", "history",
    "past medical history", "surgical history", "family history", "social history", "review of systems",
    "medications", "medication", "allergies",
    "vitals", "vital signs", "exam", "physical exam", "examination", "results", "labs", "imaging",
    "assessment", "diagnosis", "plan",
    "dialogue", "transcript", "text", "notes", "note",
)  # fmt: skip
FEWEST_WORDS = 5
LARGEST_BYTES = 10_000_000


@dataclass(frozen=True)
class Notes:
    """The text the model reads, and JSON-ready facts about where it came from."""

    text: str
    facts: Mapping[str, Any]


def load_notes(source: str | Path) -> str:
    """The text of a notes file (JSON, UTF-8); ``-`` reads standard input. Raises InputError."""
    return read_notes(source).text


def read_notes(source: str | Path) -> Notes:
    """A notes file and its facts (name, sha256 of the bytes, words).

    Raises InputError for a file that cannot be read, is not JSON, or holds fewer than 5 words.
    """
    raw, name = _read(source)
    try:
        # Numbers stay the strings the file wrote: 37.20 must not reach the model as 37.2.
        value = json.loads(raw.decode("utf-8-sig"), parse_float=str, parse_int=str)
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is not UTF-8 text; save it as UTF-8 JSON") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{name} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from error
    except RecursionError as error:
        raise InputError(f"{name} is nested too deeply; give a flat JSON object") from error
    text = notes_text(value)
    words = len(text.split())
    if words < FEWEST_WORDS:
        raise InputError(f"{name} holds fewer than {FEWEST_WORDS} words; there is nothing to write a note from")
    return Notes(text, {"name": name, "sha256": hashlib.sha256(raw).hexdigest(), "words": words})


def _read(source: str | Path) -> tuple[bytes, str]:
    if str(source) == "-":
        return sys.stdin.buffer.read(LARGEST_BYTES + 1), "standard input"
    path = Path(source)
    try:
        return path.read_bytes(), path.name
    except IsADirectoryError as error:
        raise InputError(f"{path.name} is a folder; give one notes file") from error
    except OSError as error:
        raise InputError(f"cannot read {path.name}: {error.strerror}") from error


def notes_text(value: Any) -> str:
    """Parsed JSON -> text: a string as it is, an object as ``Label: value`` lines, a list as one line an entry."""
    if isinstance(value, Mapping):
        return "\n".join(_line(key, value[key]) for key in sorted(value, key=_rank))
    if isinstance(value, list):
        return "\n".join(_turn(item) for item in value)
    return _inline(value)


def _rank(key: str) -> int:
    name = key.replace("_", " ").strip().lower()
    return CLINICAL_ORDER.index(name) if name in CLINICAL_ORDER else len(CLINICAL_ORDER)


def _line(key: str, value: Any) -> str:
    label = key.replace("_", " ").strip()
    return f"{label[:1].upper()}{label[1:]}: {_inline(value)}"


def _turn(item: Any) -> str:
    if isinstance(item, Mapping) and set(item) == {"speaker", "text"}:
        return f"{_inline(item['speaker'])}: {_inline(item['text'])}"
    return _inline(item)


def _inline(value: Any) -> str:
    """A value on one line: lists and objects with semicolons, null as nothing, numbers as the file wrote them."""
    if isinstance(value, Mapping):
        return "; ".join(_line(key, item) for key, item in value.items())
    if isinstance(value, list):
        return "; ".join(_inline(item) for item in value)
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else json.dumps(value)
