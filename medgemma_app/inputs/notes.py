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
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeAlias

from medgemma_app.errors import InputError
from medgemma_app.inputs.fhir import as_bundle, fhir_content, fhir_lines
from medgemma_app.inputs.fhir_words import is_fhir
from medgemma_app.inputs.files import open_input, refuse_url, shown_name
from medgemma_app.inputs.notes_text import clinical_words, is_dialogue, labelled_lines

Parsed: TypeAlias = Mapping[str, Any] | list[Any]
FEWEST_WORDS = 5
MOST_LABELS = 12  # that a message names
LARGEST_BYTES = 10_000_000
DEEPEST = 100
ONE_NOTES_FILE = "one notes file (JSON)"
_CLEAN_LABEL = re.compile(r"[^\W\d_][^\W\d_]*(?:[ _/-][^\W\d_]+){0,7}")
# Half of a surrogate pair cannot be encoded, and control characters cut strings short or drive terminals.
NO_TEXT = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]")


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
        lines, said = labelled_lines(value), value
    text, labels = _joined(lines)
    if clinical_words(said) < FEWEST_WORDS:
        raise InputError(f"{name} holds fewer than {FEWEST_WORDS} words; there is nothing to write a note from")
    facts = {"name": name, "sha256": hashlib.sha256(raw).hexdigest(), "format": _format(value), "words": len(text.split())}
    return Notes(text, {**facts, "left_out": list(left_out)}, labels)


def _joined(lines: list[tuple[str, str]]) -> tuple[str, tuple[tuple[int, str], ...]]:
    """Labelled lines as one text that any program can show, and where in it each begins."""
    said = [NO_TEXT.sub("\N{REPLACEMENT CHARACTER}", line.replace("\r\n", "\n").replace("\r", "\n")) for _, line in lines]
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


def _format(value: Any) -> str:
    if is_fhir(value):
        return f"FHIR {value['resourceType']}"
    return "dialogue" if is_dialogue(value) else f"JSON {'object' if isinstance(value, Mapping) else type(value).__name__}"
