"""Reads C-CDA documents (XML) as lines of notes, and the text of attachments in records."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from medgemma_app.errors import InputError
from medgemma_app.inputs.cda_sections import Narrative, element_at, text_of
from medgemma_app.inputs.demographics import (
    SEXES,
    Demographics,
    Record,
    iso_day,
    labelled_demographics,
    refuse_other_patients,
    refuse_several_patients,
)
from medgemma_app.inputs.documents import html_text, parse_xml, read_document
from medgemma_app.inputs.files import decode_text, document_kind
from medgemma_app.inputs.json_notes import text_says_something
from medgemma_app.inputs.lines import Line, with_counts
from medgemma_app.inputs.patient_values import SeveralPatients, is_called, no_such_patient

_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w.:+-]+)", re.IGNORECASE)
_IS_HTML = re.compile(r"\s*<(\?xml|!doctype html|html|head|body|div|p)\b", re.IGNORECASE)
_IS_CDA = re.compile(r"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*|<\?[^>]*>\s*)*<(\w+:)?ClinicalDocument\b", re.DOTALL)


def read_attachment(data: str, kind: str, *, is_base64: bool = True) -> Record | None:
    """The text of an attachment, its patient, and what was left out; None if it is not the text of one patient.

    ``kind`` is the content type that the record gives it, "" for none.
    """
    try:
        return _read_bytes(base64.b64decode(data) if is_base64 else data.encode(errors="replace"), kind.strip().lower())
    except (InputError, ValueError):
        return None


def _read_bytes(raw: bytes, kind: str) -> Record | None:
    name = "the attachment"
    if document_kind(raw):
        _, text, warnings = read_document(raw, name)
        return _as_record("\n".join([text, *warnings]))
    charset = _CHARSET.search(kind)
    text, warning = decode_text(raw, name, charset[1] if charset else "")
    is_binary = not kind and any(not (sign.isprintable() or sign in "\n\r\t") for sign in text)
    is_json = "json" in kind and re.match(r"\s*[{\[]", text)
    if is_binary or is_json or (charset and warning) or kind.startswith(("image/", "audio/", "video/")):
        return None
    if is_cda(text):
        return read_cda(parse_xml(raw, name), name)
    if re.search("html|xml", kind) or _IS_HTML.match(text):
        text, is_struck = html_text(text)
        text += f"\n{name}: not read: text that is struck through" * is_struck
    return _as_record(text)


def _as_record(text: str) -> Record:
    refuse_several_patients(text, "the attachment")
    return Record([Line(text)], "text", text_says_something(text), patients=[labelled_demographics(text)])


def is_cda(text: str) -> bool:
    """True for an HL7 clinical document."""
    return bool(_IS_CDA.match(text[:20_000]))


def read_cda(root: Element, name: str, patient: str | None = None) -> Record:
    """Patient, visit, and the narrative of every section of a C-CDA document. Raises SeveralPatients, InputError."""
    targets = [role for target in root.findall("recordTarget") for role in target.iter("patientRole")]
    if len(targets) > 1:  # nothing says which section is about whom
        raise SeveralPatients(name, len(targets), can_choose=False)
    about = _demographics(targets[0]) if targets else Demographics()
    if patient is not None and not is_called(patient, about.called()):
        raise no_such_patient(name)
    narrative = Narrative(root)
    lines = [line for section in root.iter("section") for line in narrative.section(section)]
    for text in root.iterfind(".//nonXMLBody/text"):
        body = _body(text)
        if body and any(about.differ(other) for other in body.patients):
            raise SeveralPatients(name, 2, can_choose=False)
        lines += body.lines if body else ()
        narrative.left_out.update(body.left_out if body else ["body that is not text"])
    refuse_other_patients(lines, [about], name)
    says_something = text_says_something("\n".join(line.text.partition(": ")[2] or line.text for line in lines))
    return Record([*_head(root, about), *lines], "C-CDA", says_something, with_counts(narrative.left_out), patients=[about])


def _head(root: Element, about: Demographics) -> Iterator[Line]:
    """The patient, the title and the visit of a document."""
    sex = element_at(root, "recordTarget/patientRole/patient/administrativeGenderCode").get("displayName") or about.sex
    if described := "; ".join(filter(None, [sex, about.born and f"birth date: {about.born}"])):
        yield Line(f"Patient: {described}")
    day = iso_day(element_at(root, "effectiveTime").get("value") or "")
    if title := text_of(root.find("title")):
        yield Line(f"Document: {title}{f'; date: {day}' if day else ''}")
    visit = element_at(root, "componentOf/encompassingEncounter/effectiveTime")
    if visited := iso_day(visit.get("value") or element_at(visit, "low").get("value") or ""):
        yield Line(f"Encounter: {visited}")


def _body(text: Element) -> Record | None:
    """The text that a document has instead of sections; None if it cannot be read."""
    if text.get("representation") == "B64":
        return read_attachment("".join(text.itertext()), text.get("mediaType") or "")
    said = text_of(text)
    return _as_record(said) if said else None


def _demographics(role: Element) -> Demographics:
    person = element_at(role, "patient")
    ids = ((one.get("root") or "", one.get("extension") or "") for one in role.findall("id"))
    names = (" ".join(map(text_of, (*name.findall("given"), *name.findall("family")))) or text_of(name) for name in person.findall("name"))
    return Demographics(
        frozenset((issuer if number else "", number or issuer) for issuer, number in ids if issuer or number),
        tuple(names),
        iso_day(element_at(person, "birthTime").get("value") or ""),
        SEXES.get(element_at(person, "administrativeGenderCode").get("code") or "", ""),
    )
