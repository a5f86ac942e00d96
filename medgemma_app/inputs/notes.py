"""Turns the notes of a visit in any common format into the text that the model reads.

What is left out is named, and nothing is reworded. The format is recognised by the content of a file, not by its name:
text, subtitles, transcripts, JSON, FHIR, C-CDA, HL7 version 2, RTF, DOCX, PDF.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeAlias

from medgemma_app.errors import InputError
from medgemma_app.inputs.cda import is_cda, read_cda
from medgemma_app.inputs.documents import STRUCK, html_text, parse_xml, read_document, refuse_login_page, without_unseen
from medgemma_app.inputs.fhir import as_bundle, read_fhir
from medgemma_app.inputs.fhir_record import is_fhir
from medgemma_app.inputs.files import decode_text, document_kind, open_input, read_standard_input, refuse_text, refuse_url, shown_name
from medgemma_app.inputs.hl7 import is_hl7, read_hl7
from medgemma_app.inputs.json_notes import by_status, is_settings, parse_notes, read_json_notes, text_says_something
from medgemma_app.inputs.lines import Line, Reading, clean, fit_lines, inside, visits_of, without_times
from medgemma_app.inputs.patient_labels import objects_of_rows, table_rows
from medgemma_app.inputs.patient_values import SAME_PATIENT
from medgemma_app.inputs.patients import doubts_about_the_patient, one_patient
from medgemma_app.inputs.transcripts import looks_like_subtitles, subtitle_turns, turns_text, without_machine_fields

Parsed: TypeAlias = Mapping[str, Any] | list[Any]
LARGEST_BYTES = 10_000_000  # of text
LARGEST_DOCUMENT = 50_000_000  # of a PDF or DOCX, which may hold pictures
ONE_NOTES_FILE = "one file of notes (text, JSON, FHIR, a transcript, DOCX or PDF)"
_JSON = re.compile(r'\s*["{\[]')
# How only JSON begins, unlike a text such as "[doctor] How are you?"
_JSON_OBJECT = re.compile(r'\s*(?:\{\s*["}]|\[\s*[\[{"\]])')
_RESOURCE_TYPE = re.compile(r'"resourceType"\s*:\s*"(\w+)"')
_XML = re.compile(r"\s*<(\?xml|!--|\w+:?\w*[\s>])")
_HTML = re.compile(r"(?i)\s*(<\?xml[^>]*>\s*)?<(!doctype html|html|head|body|div|p|table)\b")
_OTHER_PHRASES = ("page not found", "access denied", "service temporarily unavailable", "gateway time-out")
_HTTP_ERRORS = "|".join([*(status.phrase for status in HTTPStatus if status >= 400), *_OTHER_PHRASES])
_HTTP_ERROR = re.compile(rf"(?i)\s*(HTTP/\d[.\d]* [45]\d\d|[45]\d\d ({_HTTP_ERRORS})\b|({_HTTP_ERRORS})\W*\Z)")
# One word of letters and digits, perhaps with a prefix (hf_, glpat-), or a longer one that may also hold signs.
_KEY_OR_TOKEN = re.compile(r"\s*(-----BEGIN |(?=\S*\d)(?=\S*[A-Za-z])(([A-Za-z]+[_-])?[A-Za-z0-9]{16,}|[A-Za-z0-9_.+/=-]{40,})\s*\Z)")
_CREDENTIAL = re.compile(
    r"(?i)\s*(user ?name|(\w+[ _-])?(passw(or)?d|token|secret|api[ _-]?key)|authorization)\s*[:=]\s*((bearer|basic) )?\S+\s*"
)

# How records look within other text, where quotation marks and line ends may be escaped. Their names alone are not enough.
_RECORDS = {
    "a FHIR record": re.compile(
        r"""resourceType[\\"']+\s*:[\s\\"']*[A-Z]\w+[\s\\n"']*,[\s\\n]*["']|,[\s\\n"']*resourceType[\\"']+\s*:"""
        r"""|xmlns[\s\\"'=]+http://hl7\.org/fhir\b"""
    ),
    "an HL7 message": re.compile(r"\bMSH[^\w\s]\^~"),
    "a C-CDA document": re.compile(r"<(\w{1,20}:)?ClinicalDocument(\s+[\w:]+\s*=|\s*>\s*<)"),
}


@dataclass(frozen=True)
class Notes:
    """The text the model reads, JSON-ready facts about where it came from, and warnings about how it was read."""

    text: str
    facts: Mapping[str, Any]
    warnings: tuple[str, ...] = ()
    lines: tuple[Line, ...] = ()  # of the text, for ``fit``; none for a text that is one piece

    @property
    def doubts(self) -> tuple[str, ...]:
        """The warnings, and a sentence that lists what the text leaves out."""
        left_out = ", ".join(self.facts.get("left_out", ()))
        return (*self.warnings, *([f"not sent to the model: {left_out}"] if left_out else []))

    def fit(self, count: Callable[[str], int], limit: int) -> tuple[str, str]:
        """The part of the text that fits ``limit`` tokens by ``count``, and a sentence on what was left out ("" for nothing).

        The newest visit and its note are kept first, the oldest history goes first. The text is "" where not one word fits.
        """
        return fit_lines(self.lines or (Line(self.text),), count, limit)


class NotesText(str):
    """What ``load_notes`` returns: text of notes, which is never taken for the path of a file."""


def load_notes(source: str | Path | Parsed, *, patient: str | None = None) -> NotesText:
    """The text of a notes file, ``-`` for standard input, or of notes already parsed. Raises InputError; see ``read_notes``."""
    return NotesText(read_notes(source, patient=patient).text)


def read_notes(source: str | Path | Parsed, *, patient: str | None = None, part: int | None = None, any_text: bool = False) -> Notes:
    """The notes in a file, with its facts: name, sha256 of the bytes, format, number of words, and what the text leaves out.

    ``patient`` chooses among the patients of a record, by id, record number or name, or is "same" if the notes are one patient's although
    their labels differ. ``part`` chooses one of the notes of a file that has one on each line, from 1. Raises InputError for a file
    that cannot be read, has nothing to write a note from (unless ``any_text``), holds several patients or parts of which none is
    chosen, or is a saved error message.
    """
    if isinstance(source, NotesText):
        return read_raw_notes(source.encode(errors="replace"), "the notes", patient=patient, any_text=any_text)
    if not isinstance(source, str | Path):
        return read_raw_notes(_written(source), "the notes", patient=patient, any_text=any_text)
    if str(source) == "-":
        return read_raw_notes(read_standard_input(LARGEST_DOCUMENT + 1), "standard input", patient=patient, part=part, any_text=any_text)
    refuse_url(source)
    refuse_text(source)
    with open_input(source, what=ONE_NOTES_FILE) as file:
        raw = file.read(LARGEST_DOCUMENT + 1)
    return read_raw_notes(raw, shown_name(source), patient=patient, part=part, any_text=any_text)


def read_raw_notes(raw: bytes, name: str, *, patient: str | None = None, part: int | None = None, any_text: bool = False) -> Notes:
    """Like ``read_notes``, for the bytes of a file; messages call it ``name``."""
    kind, lines, warnings = document_kind(raw), [], []
    if not kind and len(raw) <= LARGEST_DOCUMENT:
        text, warning = decode_text(raw, name)
        lines, warnings = _visit_lines(text), [warning] if warning else []
    largest = LARGEST_DOCUMENT if lines or kind in ("PDF", "zip") else LARGEST_BYTES
    if len(raw) > largest:
        raise InputError(f"{name} is larger than {largest // 10**6} MB; give the notes of one visit")
    if part is not None and (lines or part != 1):
        if not 0 < part <= len(lines):
            raise InputError(f"{name} has no notes number {part}; they are numbered from 1, one for each line")
        return read_raw_notes(lines[part - 1].encode(errors="replace"), f"{name} line {part}", patient=patient, any_text=any_text)
    if lines:
        ways = "choose one by its number (part=1), or give its path to medgemma soap, which writes a note for each"
        raise InputError(f"{name} holds {len(lines)} notes, one on each line; {ways}")
    if kind:
        kind, text, warnings = read_document(raw, name)
    reading = _read_plain(text, name, patient, kind) if kind else _read_text(text, name, patient)
    if not (reading.says_something or (any_text and text.strip())):
        what = "has nothing to write a note from" if raw.strip() else "is empty"
        raise InputError(f"{name} {what}; give the notes of a visit")
    cleaned = tuple(clean(line) for line in reading.lines)
    text = "\n".join(line.text for line in cleaned)
    facts = {"name": name, "sha256": hashlib.sha256(raw).hexdigest(), "format": reading.format, "words": len(text.split())}
    return Notes(
        text, {**facts, "left_out": list(reading.left_out)}, (*warnings, *(f"{name}: {warning}" for warning in reading.warnings)), cleaned
    )


def count_parts(source: str | Path) -> int:
    """How many notes a file holds: one for each line of JSON Lines, and of FHIR ndjson of a single type or of Bundles; else 1.

    Lines of FHIR resources of different types are one record. A file that cannot be read counts 1: reading it says what is wrong.
    """
    try:
        with open_input(source, what=ONE_NOTES_FILE) as file:
            raw = file.read(LARGEST_DOCUMENT + 1)
        return len(_visit_lines(decode_text(raw, "it")[0])) or 1
    except InputError:
        return 1


def holds_notes(path: str | Path) -> bool:
    """Whether a file begins like notes, and not like a picture, a recording, an archive or settings; False if it is empty."""
    try:
        with open_input(path, what=ONE_NOTES_FILE) as file:
            raw = file.read(4096)
        if not document_kind(raw):
            return not is_settings(decode_text(raw[: raw.rfind(b"\n") + 1] or raw, "it")[0])
        if document_kind(raw) == "zip":
            return b"word/" in raw or b"[Content_Types].xml" in raw
    except InputError:
        return False
    return True


def _json_lines(text: str) -> list[str]:
    """The lines of JSON Lines; none for any other text, such as JSON whose first line alone is not JSON."""
    if not _JSON_OBJECT.match(text):
        return []
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) < 2 or not all(map(_JSON_OBJECT.match, lines[:3])):
        return []
    try:
        json.loads(lines[0])
    except (ValueError, RecursionError):
        return []
    return lines


def _visit_lines(text: str) -> list[str]:
    """The lines of JSON Lines if each is a visit. FHIR resources of different types are one record, unless they are Bundles."""
    lines = _json_lines(text)
    found = [_RESOURCE_TYPE.search(line[:2000]) for line in lines]
    kinds = {match[1] if match else "" for match in found}
    return [] if len(kinds) > 1 and not kinds & {"", "Bundle"} else lines


def _read_text(text: str, name: str, patient: str | None, *, quoted: bool = False) -> Reading:
    """Text of any kind; JSON is not looked for in ``quoted`` text, which is a string of JSON."""
    if not quoted and _JSON.match(text):
        lines = _json_lines(text)
        try:
            record = [parse_notes(line, f"line {number} of {name}") for number, line in enumerate(lines, 1)]
            return _read_value(record or parse_notes(text, name), name, patient)
        except InputError as error:
            if _JSON_OBJECT.match(text) or not isinstance(error.__cause__, json.JSONDecodeError):
                raise
    if is_hl7(text):
        return read_hl7(text, name, _name_or_id(patient))
    if looks_like_subtitles(text):
        return _read_plain(turns_text(subtitle_turns(text)), name, patient, "subtitles")
    if _HTML.match(text):
        refuse_login_page(text, name)
        shown, has_unseen = html_text(text)
        return replace(_read_plain(shown, name, patient, "HTML"), left_out=[STRUCK] * has_unseen)
    if rows := table_rows(text):
        return replace(_read_value(rows, name, patient), format="table")
    return _read_xml(text, name, patient) if _XML.match(text) and text.rstrip().endswith(">") else _read_plain(text.strip(), name, patient)


def _read_value(value: Any, name: str, patient: str | None) -> Reading:
    if isinstance(value, str):
        return _read_text(value, name, patient, quoted=True)
    if not is_fhir(value):
        _refuse_records_in(value, name)
    bundle = as_bundle(value)
    if is_fhir(bundle):
        return read_fhir(bundle, name, _name_or_id(patient))
    value, has_unseen = without_unseen(objects_of_rows(value))
    value, left_out = one_patient(value, name, patient)
    doubts = doubts_about_the_patient(value, name, patient)
    value, marked, taken_back = by_status(value)
    left_out = [*left_out, *taken_back, *[STRUCK] * has_unseen]
    spoken, is_machine = without_machine_fields(value)
    reading = _read_plain(spoken, name, None) if isinstance(spoken, str) else read_json_notes(spoken, name)
    return Reading(
        [*reading.lines, *marked],
        "transcript" if is_machine else reading.format,
        reading.says_something or bool(marked),
        [*left_out, *["times and other machine fields of the transcript"] * is_machine],
        [*reading.warnings, *doubts],
    )


def _read_xml(text: str, name: str, patient: str | None) -> Reading:
    root = parse_xml(re.sub(r"^\s*<\?xml[^>]*\?>", "", text).encode(errors="replace"), name)
    if is_cda(text):
        return read_cda(root, name, _name_or_id(patient))
    if root.tag in ("Bundle", "Patient", "Composition", "DocumentReference", "OperationOutcome"):
        raise InputError(f"{name} is FHIR as XML; ask the server for JSON (_format=json) and give that")
    raise InputError(f"{name} is XML but not a clinical document (C-CDA); give the notes as text, JSON or C-CDA")


def _read_plain(text: str, name: str, patient: str | None, kind: str = "text") -> Reading:
    if (len(text) < 300 and re.match(r"\s*(error|exception|traceback)\b\s*[:(\n]", text, re.IGNORECASE)) or _HTTP_ERROR.match(text):
        raise InputError(f"{name} looks like an error message from a server, not notes; fetch the notes again")
    if _KEY_OR_TOKEN.match(text) or (text.strip() and all(_CREDENTIAL.fullmatch(line) for line in text.splitlines() if line.strip())):
        raise InputError(f"{name} holds a key or a token, not notes; give the notes of a visit")
    _refuse_records_in(text, name)
    text, has_unseen = without_unseen(text)
    one_patient(text, name, patient)
    doubts = doubts_about_the_patient(text, name, patient)
    text = without_times(text)
    lines, warnings = visits_of(text)
    return Reading(lines, kind, text_says_something(text), [STRUCK] * has_unseen, [*warnings, *doubts])


def _refuse_records_in(value: Any, name: str) -> None:
    """Raises InputError for a record within other text: read as words, it would not show whose each part is, or what it withdraws."""
    if isinstance(value, str):
        for what, pattern in _RECORDS.items():
            if pattern.search(value):
                raise InputError(f"{name} holds {what} within text or a JSON string; give that record as a file of its own")
    for inner in inside(value):
        _refuse_records_in(inner, name)


def _name_or_id(patient: str | None) -> str | None:
    """``patient``, or None for ``SAME_PATIENT``, which has no effect on records that state whose they are."""
    return None if patient == SAME_PATIENT else patient


def _written(value: Parsed) -> bytes:
    try:
        return json.dumps(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError("the notes are not a JSON value; give an object, a list of turns, or a file") from error
