"""notes.json -> the text the model reads.

Nothing the file says is dropped in silence and nothing is reworded: keys become labels, values stand as written.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from medgemma_app.errors import InputError
from medgemma_app.inputs.fhir import as_bundle, clinical_lines, fhir_text, is_fhir
from medgemma_app.inputs.files import open_input, refuse_url, shown_name

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
Parsed: TypeAlias = Mapping[str, Any] | list[Any]
FEWEST_WORDS = 5
LARGEST_BYTES = 10_000_000
DEEPEST = 100
ONE_NOTES_FILE = "one notes file (JSON)"
SPEAKERS, SPEECH = ("speaker", "role"), ("text", "content", "utterance")
# A word is a run of letters and digits; scripts that write without spaces count by the character.
_WORD = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]|[^\W_]+")
# Half of a surrogate pair cannot be encoded, and control characters cut strings short or drive terminals.
_NO_TEXT = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True)
class Notes:
    """The text the model reads, and JSON-ready facts about where it came from."""

    text: str
    facts: Mapping[str, Any]


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
        text, left_out = fhir_text(value)
        said = clinical_lines(text)
    else:
        text, said = notes_text(value), " ".join(_leaves(value))
    text = _NO_TEXT.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n").replace("\r", "\n"))
    if len(_WORD.findall(said)) < FEWEST_WORDS:
        raise InputError(f"{name} holds fewer than {FEWEST_WORDS} words; there is nothing to write a note from")
    facts = {"name": name, "sha256": hashlib.sha256(raw).hexdigest(), "format": _format(value), "words": len(text.split())}
    return Notes(text, {**facts, "left_out": list(left_out)})


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


def _leaves(value: Any) -> Iterator[str]:
    """Every value, without the labels: an empty form must not pass for notes."""
    if isinstance(value, Mapping | list):
        for inner in _inside(value):
            yield from _leaves(inner)
    else:
        yield _inline(value)


def _format(value: Any) -> str:
    if is_fhir(value):
        return f"FHIR {value['resourceType']}"
    return "dialogue" if _is_dialogue(value) else f"JSON {'object' if isinstance(value, Mapping) else type(value).__name__}"


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


def _line(key: str, value: Any, *, nested: bool = False) -> str:
    label = key.replace("_", " ").strip()
    said = "\n" + notes_text(value) if _is_dialogue(value) else f" {_inline(value, nested=nested)}"
    return f"{label[:1].upper()}{label[1:]}:{said}"


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
