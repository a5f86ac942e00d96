"""C-CDA documents (XML) -> the lines of notes; and the text of attachments that records carry."""

from __future__ import annotations

import base64
import binascii
import re
from collections import Counter
from collections.abc import Iterable
from xml.etree.ElementTree import Element

from medgemma_app.errors import InputError
from medgemma_app.inputs.cda_sections import Narrative, element_at, text_of
from medgemma_app.inputs.demographics import SEXES, Demographics
from medgemma_app.inputs.documents import html_text, parse_xml, read_document
from medgemma_app.inputs.files import decode_text, document_kind
from medgemma_app.inputs.json_notes import text_is_clinical
from medgemma_app.inputs.lines import Line, Reading, with_counts
from medgemma_app.inputs.patient_labels import labelled
from medgemma_app.inputs.patients import SeveralPatients, is_called, no_such_patient, one_patient

_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w.:+-]+)", re.IGNORECASE)
_IS_HTML = re.compile(r"\s*(<\?xml[^>]*>\s*)?<(!doctype html|html|head|body|div|p)\b", re.IGNORECASE)
_IS_CDA = re.compile(r"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*|<\?[^>]*>\s*)*<(\w+:)?ClinicalDocument\b", re.DOTALL)


def read_attachment(raw: bytes, kind: str = "") -> Reading:
    """What an attachment says, of whom, and what of it was not read; ``kind`` is the content type the record gives it.

    Raises InputError where it holds no text.
    """
    if document_kind(raw):
        _, text, warnings = read_document(raw, "the attachment")
        return _as_reading("\n".join([text, *warnings]))
    charset = _CHARSET.search(kind)
    text, warning = decode_text(raw, "the attachment", charset[1] if charset else "")
    if charset and warning:
        raise InputError("the attachment is not in the character set that it names")
    if not kind and any(not (sign.isprintable() or sign in "\n\r\t") for sign in text):
        raise InputError("the attachment is not text")
    if is_cda(text):
        return read_cda(parse_xml(raw, "the attachment"), "the attachment")
    if re.match(r"\s*[{\[]", text) and "json" in kind.lower():
        raise InputError("the attachment is JSON, which is read as a file only")
    if re.search("html|xml", kind.lower()) or _IS_HTML.match(text) or text.lstrip().startswith("<?xml"):
        text, is_struck = html_text(text)
        return _as_reading(text + "\nthe attachment: not read: text that is struck through" * is_struck)
    if kind.split(";")[0].strip().lower().startswith(("image/", "audio/", "video/")):
        raise InputError("the attachment is not text")
    return _as_reading(text)


def _as_reading(text: str) -> Reading:
    one_patient(text, "the attachment", None)
    return Reading([Line(text)], "text", text_is_clinical(text), patients=[_labelled(text)])


def _labelled(text: str) -> Demographics:
    """What a text says of its patient in labels such as "MRN: 111". Of 05/06/61 either number may be the month."""
    labels = dict(labelled(text))
    year, *days = labels.get("born", "").split("-")
    return Demographics(
        frozenset((kind, number) for kind, number in labels.items() if kind.startswith("id ") and kind != "id label"),
        (labels["name"],) if "name" in labels else (),
        births_of_text=("-".join((year, *days)), "-".join((year, *days[::-1]))) if year else (),
    )


def refuse_other_patients(lines: Iterable[Line], known: Iterable[Demographics], name: str) -> None:
    """Raises SeveralPatients where labels in the text of a record, such as "MRN: 111", are of another patient than the record's."""
    text = "\n".join(line.text for line in lines)
    one_patient(text, name, None)
    if any(_labelled(text).differ(one) for one in known):
        raise SeveralPatients(name, 2, can_choose=False)


def read_embedded(data: str, kind: str, *, is_base64: bool = True) -> Reading | None:
    """An attachment within a text, as ``read_attachment`` reads it; None where it holds no text."""
    try:
        return read_attachment(base64.b64decode(data) if is_base64 else data.encode(errors="replace"), kind)
    except (InputError, binascii.Error, ValueError):
        return None


def is_cda(text: str) -> bool:
    """True for an HL7 clinical document."""
    return bool(_IS_CDA.match(text[:20_000]))


def read_cda(root: Element, name: str, patient: str | None = None) -> Reading:
    """Patient, visit, and the narrative of every section of a C-CDA document. Raises SeveralPatients, InputError."""
    targets = [role for target in root.findall("recordTarget") for role in target.iter("patientRole")]
    if len(targets) > 1:  # the sections are about all of them
        raise SeveralPatients(name, len(targets), can_choose=False)
    about = _demographics(targets[0]) if targets else Demographics()
    if patient is not None and not is_called(patient, about.called()):
        raise no_such_patient(name)
    sex = (element_at(targets[0], "patient/administrativeGenderCode").get("displayName") if targets else "") or about.sex
    told = "; ".join(filter(None, [sex, about.born and f"birth date: {about.born}"]))
    head = [f"Patient: {told}"] if told else []
    title, day = text_of(root.find("title")), iso_day((element_at(root, "effectiveTime")).get("value") or "")
    visit = element_at(root, "componentOf/encompassingEncounter/effectiveTime")
    visited = iso_day(visit.get("value") or element_at(visit, "low").get("value") or "")
    head += [f"Document: {title}{f'; date: {day}' if day else ''}"] if title else []
    head += [f"Encounter: {visited}"] if visited else []
    narrative = Narrative(root)
    lines = [line for section in root.iter("section") for line in narrative.section(section)]
    for text in root.iterfind(".//nonXMLBody/text"):
        body = _body(text)
        if any(about.differ(other) for other in (body.patients if body else ())):
            raise SeveralPatients(name, 2, can_choose=False)
        lines += body.lines if body else ()
        narrative.left_out += Counter(body.left_out if body else ["body that is not text"])
    refuse_other_patients(lines, [about], name)
    clinical = text_is_clinical("\n".join(line.text.partition(": ")[2] or line.text for line in lines))
    return Reading([*map(Line, head), *lines], "C-CDA", clinical, with_counts(narrative.left_out), patients=[about])


def _body(text: Element) -> Reading | None:
    """The text that a document has in place of sections; None where it cannot be read."""
    if text.get("representation") == "B64":
        return read_embedded("".join(text.itertext()), text.get("mediaType") or "")
    said = text_of(text)
    return _as_reading(said) if said else None


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


def iso_day(written: str) -> str:
    """An HL7 date as ISO writes it: 202405061030 is 2024-05-06."""
    found = re.match(r"(\d{4})(\d\d)?(\d\d)?", written)
    return "-".join(part for part in found.groups() if part) if found else ""
