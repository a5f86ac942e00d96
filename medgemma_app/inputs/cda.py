"""Reads C-CDA documents (XML) as lines of notes, and the text of attachments in records.

A section is represented by its narrative, marked as its coded entries say: denied, stopped, withdrawn.
"""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from medgemma_app.errors import InputError
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
from medgemma_app.inputs.json_notes import rank_of, text_says_something
from medgemma_app.inputs.lines import NOT_DONE, NOT_TAKEN, ON_HOLD, REFUTED, STOPPED, Line, with_counts
from medgemma_app.inputs.patient_values import SeveralPatients, is_called, no_such_patient

_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w.:+-]+)", re.IGNORECASE)
_IS_HTML = re.compile(r"\s*<(\?xml|!doctype html|html|head|body|div|p)\b", re.IGNORECASE)
_IS_CDA = re.compile(r"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*|<\?[^>]*>\s*)*<(\w+:)?ClinicalDocument\b", re.DOTALL)
_DENIES = re.compile(r"(?i)\b(no|not|none|never|nil|denie[sd]|refuse[sd]|declined|without|unknown|nkd?a)\b")
# Where an entry says which piece of the narrative is about it.
_DRUG = "consumable/manufacturedProduct/manufacturedMaterial/code/originalText/reference"
_NARRATIVES = ("text/reference", "code/originalText/reference", "value/originalText/reference", _DRUG)
_FAMILY_HISTORY = "10157-6"  # LOINC
_BLOCKS = frozenset(("paragraph", "table", "thead", "tbody", "tfoot", "list", "caption", "footnote", "text"))
_LINES = _BLOCKS | {"item", "tr", "br"}
# Why an entry, and the narrative about it, is left out.
_TAKEN_BACK, _OF_ANOTHER = "entry withdrawn", "entry about somebody other than the patient"
_LEFT_OUT = (_TAKEN_BACK, _OF_ANOTHER)
_NO_TEXT = "section with entries but no text"
_NOTHING = Element("nothing")


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
    if not lines and narrative.left_out[_NO_TEXT]:
        raise InputError(f"{name} has coded entries but no text; export it with the text of its sections")
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


class Narrative:
    """Puts sections into lines, and remembers what it leaves out."""

    def __init__(self, root: Element) -> None:
        self.left_out: Counter[str] = Counter()
        self.left_out["text that is struck through"] = sum(map(_is_struck, root.iter()))
        family = {
            id(inner) for one in root.iter("section") if element_at(one, "code").get("code") == _FAMILY_HISTORY for inner in one.iter()
        }
        with_subject = [one for one in root.iter() if one.find("subject") is not None and id(one) not in family]
        self._of_others = {id(inner) for one in with_subject for inner in one.iter()}  # sections and acts
        self._marks: dict[str, str] = {}  # id of a piece of narrative -> how its line begins, or why it is left out
        for entry in root.iter("entry"):
            for act, mark, _ in self._acts(entry):
                names = (one.get("value") or "" for path in _NARRATIVES for one in act.findall(path))
                self._marks |= {name.lstrip("#"): mark for name in names if name and mark}

    def _acts(self, element: Element, outer: str = "") -> Iterator[tuple[Element, str, str]]:
        """Yields an element of an entry and those within it, each with its own mark and the mark of its parent."""
        mark = self._mark(element, outer)
        yield element, mark, outer
        for inner in element:
            yield from self._acts(inner, mark)

    def _mark(self, act: Element, outer: str) -> str:
        """The mark of an act, or why it is left out, by its own status or by that of the act it belongs to."""
        if id(act) in self._of_others:
            return _OF_ANOTHER
        if act.get("typeCode") == "RSON":  # the reason for what was not done is an act of its own
            return ""
        status = element_at(act, "statusCode").get("code")
        if status in ("nullified", "cancelled", "obsolete") or outer in _LEFT_OUT:
            return _TAKEN_BACK
        if act.get("negationInd") == "true":
            return {"substanceAdministration": NOT_TAKEN, "observation": REFUTED}.get(act.tag, NOT_DONE)
        return {"aborted": STOPPED, "suspended": ON_HOLD}.get(status or "", outer)

    def section(self, section: Element) -> Iterator[Line]:
        """The lines of one section: the title with the unmarked text, and one line for each marked piece."""
        if id(section) in self._of_others:
            self.left_out["section about somebody other than the patient"] += 1
            return
        title = text_of(section.find("title")) or element_at(section, "code").get("displayName") or "Section"
        text = element_at(section, "text")
        if not text_of(text).strip():
            self.left_out[_NO_TEXT] += section.find("entry") is not None
            return
        if self._is_contradicted(section, text):
            self.left_out[
                "section with an entry that is denied, withdrawn or about somebody else, and does not say which part of the text it means"
            ] += 1
            return
        lines = list(self._lines(text))
        rank = rank_of(title.lower())
        if plain := "\n".join(line for mark, line in lines if not mark):
            yield Line(f"{title}: {plain}", title, rank)
        yield from (Line(f"{mark}{title}: {line}", title, rank) for mark, line in lines if mark)

    def _is_contradicted(self, section: Element, text: Element) -> bool:
        """Whether an entry without a reference to the narrative is denied, stopped or left out, while the narrative denies nothing."""
        pieces = {one.get("ID") for one in text.iter()}
        denied = {NOT_TAKEN, REFUTED, NOT_DONE} if _DENIES.search(text_of(text)) else set()
        for entry in section.findall("entry"):
            for act, mark, outer in self._acts(entry):
                names = ((one.get("value") or "").lstrip("#") for one in act.iter("reference"))
                if mark not in ("", outer, *denied) and pieces.isdisjoint(names):
                    return True
        return False

    def _lines(self, element: Element) -> Iterator[tuple[str, str]]:
        """The lines of a piece of narrative with their marks: one line per block, with bars between the cells of a row."""
        mark, tags = self._marks.get(element.get("ID") or "", ""), {one.tag for one in element}
        has_blocks = bool(tags & {"list", "paragraph", "table"})
        if not mark and element.tag in ("tr", "item", "paragraph") and not has_blocks:
            within = {self._marks[name] for one in element.iter() if (name := one.get("ID") or "") in self._marks}
            mark = min(within, default="")  # marks in capitals come before reasons to leave it out
        if mark in _LEFT_OUT or _is_struck(element):
            self.left_out[mark] += mark in _LEFT_OUT
            return
        if _DENIES.search(text_of(element)):
            mark = ""  # "No known allergies" must not be denied once more
        if (element.tag == "item" and has_blocks) or (element.tag in _BLOCKS and tags & (_LINES | {"content"})):
            yield from ((inner or mark, line) for inner, line in self._mixed(element))
        else:
            cells = (" ".join(text_of(one).split()) for one in (element if element.tag == "tr" else [element]))
            yield from [(mark, said)] if (said := " | ".join(filter(None, cells))) else []

    def _mixed(self, element: Element) -> Iterator[tuple[str, str]]:
        """Text and elements within a block: text runs on until a block or a line break."""
        run = element.text or ""
        for inner in element:
            if inner.tag in _LINES or inner.get("ID") in self._marks or _is_struck(inner):
                yield from [("", " ".join(run.split()))] if run.strip() else []
                run = ""
                yield from self._lines(inner)
            else:
                run += text_of(inner)
            run += inner.tail or ""
        yield from [("", " ".join(run.split()))] if run.strip() else []


def element_at(element: Element, path: str) -> Element:
    """The element at a path, or an empty one."""
    found = element.find(path)
    return _NOTHING if found is None else found


def _is_struck(element: Element) -> bool:
    return element.get("revised") == "delete" or "strikethrough" in (element.get("styleCode") or "").lower()


def text_of(element: Element | None) -> str:
    """The text of an element, with its blocks and lines separated and without struck-through text."""
    if element is None or _is_struck(element):
        return ""
    apart = " " if element.tag in _LINES or element.tag in ("td", "th") else ""
    inner = "".join(text_of(one) + (one.tail or "") for one in element)
    return f"{apart}{element.text or ''}{inner}{apart}".strip("\n")
