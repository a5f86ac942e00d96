"""C-CDA documents (XML) -> the lines of notes; and the text of attachments that records carry."""

from __future__ import annotations

import base64
import binascii
import re
from collections import Counter
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from medgemma_app.errors import InputError
from medgemma_app.inputs.demographics import SEXES, Demographics
from medgemma_app.inputs.documents import html_text, parse_xml, read_document
from medgemma_app.inputs.files import decode_text, document_kind
from medgemma_app.inputs.json_notes import rank_of, text_is_clinical
from medgemma_app.inputs.lines import Line, Reading, counted
from medgemma_app.inputs.patients import SeveralPatients, is_called, no_such_patient

_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w.:+-]+)", re.IGNORECASE)
_IS_HTML = re.compile(r"\s*(<\?xml[^>]*>\s*)?<(!doctype html|html|head|body|div|p)\b", re.IGNORECASE)
_IS_CDA = re.compile(r"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*|<\?[^>]*>\s*)*<(\w+:)?ClinicalDocument\b", re.DOTALL)
_DENIES = re.compile(r"(?i)\b(no|not|none|never|nil|denie[sd]|refuse[sd]|declined|without|unknown)\b")
# Where an entry says which piece of the narrative is about it.
_DRUG = "consumable/manufacturedProduct/manufacturedMaterial/code/originalText/reference"
_NARRATIVES = ("text/reference", "code/originalText/reference", "value/originalText/reference", _DRUG)
_ACTS = frozenset(("act", "encounter", "observation", "organizer", "procedure", "substanceAdministration", "supply"))
_BLOCKS = frozenset(("paragraph", "table", "thead", "tbody", "tfoot", "list", "caption", "footnote", "text"))


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
    return Reading([Line(text)], "text", text_is_clinical(text))


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
    sex = (_at(targets[0], "patient/administrativeGenderCode").get("displayName") if targets else "") or about.sex
    told = "; ".join(filter(None, [sex, about.born and f"birth date: {about.born}"]))
    head = [f"Patient: {told}"] if told else []
    title, day = _said(root.find("title")), iso_day((_at(root, "effectiveTime")).get("value") or "")
    visit = _at(root, "componentOf/encompassingEncounter/effectiveTime")
    visited = iso_day(visit.get("value") or _at(visit, "low").get("value") or "")
    head += [f"Document: {title}{f'; date: {day}' if day else ''}"] if title else []
    head += [f"Encounter: {visited}"] if visited else []
    narrative = _Narrative(root)
    lines = [line for section in root.iter("section") for line in narrative.section(section)]
    for text in root.iterfind(".//nonXMLBody/text"):
        body = _body(text)
        if any(about.differ(other) for other in (body.patients if body else ())):
            raise SeveralPatients(name, 2, can_choose=False)
        lines += body.lines if body else ()
        narrative.left_out += Counter(body.left_out if body else ["body that is not text"])
    clinical = text_is_clinical("\n".join(line.text.partition(": ")[2] or line.text for line in lines))
    return Reading([*map(Line, head), *lines], "C-CDA", clinical, counted(narrative.left_out), patients=[about])


def _body(text: Element) -> Reading | None:
    """The text that a document has in place of sections; None where it cannot be read."""
    if text.get("representation") == "B64":
        return read_embedded("".join(text.itertext()), text.get("mediaType") or "")
    said = _said(text)
    return _as_reading(said) if said else None


def _demographics(role: Element) -> Demographics:
    person = _at(role, "patient")
    ids = ((one.get("root") or "", one.get("extension") or "") for one in role.findall("id"))
    names = (" ".join(map(_said, (*name.findall("given"), *name.findall("family")))) or _said(name) for name in person.findall("name"))
    return Demographics(
        frozenset((issuer if number else "", number or issuer) for issuer, number in ids if issuer or number),
        tuple(names),
        iso_day(_at(person, "birthTime").get("value") or ""),
        SEXES.get(_at(person, "administrativeGenderCode").get("code") or "", ""),
    )


def _mark(act: Element, outer: str | None) -> str | None:
    """How what an act says begins: as its status has it, or as that of the act it belongs to; "" where it is taken back."""
    status = _at(act, "statusCode").get("code")
    if status in ("nullified", "cancelled", "obsolete") or outer == "":
        return ""
    if act.get("negationInd") == "true":
        return {"substanceAdministration": "NOT TAKEN: ", "observation": "REFUTED: "}.get(act.tag, "NOT DONE: ")
    return "STOPPED: " if status == "aborted" else outer


class _Narrative:
    """The text of sections, told by what their entries say of it: taken back, not done, stopped."""

    def __init__(self, root: Element) -> None:
        self.left_out: Counter[str] = Counter()
        self._marks: dict[str, str] = {}  # id of a piece of narrative -> how it begins, "" for what is taken back
        self.left_out["text that is struck through"] = sum(map(_is_struck, root.iter()))
        for entry in root.iter("entry"):
            self._note_marks(entry, None)

    def _note_marks(self, act: Element, mark: str | None) -> None:
        """The marks of an act and of those that it consists of; the reason for it is an act of its own."""
        mark = None if act.get("typeCode") == "RSON" else _mark(act, mark)
        if mark is not None:
            names = (one.get("value") for path in _NARRATIVES for one in act.findall(path))
            self._marks |= {name.lstrip("#"): mark for name in names if name}
        for inner in act:
            self._note_marks(inner, mark)

    def section(self, section: Element) -> Iterator[Line]:
        """The lines of one section: its title with its first line, and a line each for those that begin with a mark."""
        title = _said(section.find("title")) or _at(section, "code").get("displayName") or "Section"
        text = section.find("text")
        said = [line.strip() for line in self._lines(text)] if text is not None else []
        if not _said(text).strip():
            said = [line for entry in section.findall("entry") for line in self._coded(entry)]
            said = [*(line for line in said if "\0" in line), "; ".join(line for line in said if "\0" not in line)]
        plain = [line for line in said if line and "\0" not in line]
        rank = rank_of(title.lower())
        if plain:
            yield Line(f"{title}: " + "\n".join(plain), title, rank)
        for line in said:
            if "\0" in line:
                mark, _, rest = line.partition("\0")
                yield Line(f"{mark}{title}: {rest}", title, rank)

    def _coded(self, entry: Element) -> Iterator[str]:
        """What a coded entry says, for a section without a narrative: a line for the acts of each mark."""
        told: dict[str, dict[str, None]] = {}

        def walk(element: Element, outer: str | None) -> None:
            is_unknown = element.get("nullFlavor") is not None and element.find("code") is not None
            mark = "" if is_unknown else _mark(element, outer)
            if mark == "":
                self.left_out["entry taken back"] += 1
                return
            if element.tag in _ACTS and (said := _act_text(element)):
                told.setdefault(mark or "", {})[said] = None
            for inner in element:
                walk(inner, mark)

        walk(entry, None)
        for mark, names in told.items():
            said = "; ".join(names)
            yield f"{mark}\0{said}" if mark and not _DENIES.search(said) else said

    def _lines(self, element: Element) -> Iterator[str]:
        """A block a line, the cells of a row apart by bars."""
        mark = self._marks.get(element.get("ID") or "")
        if mark is None and element.tag in ("tr", "item", "paragraph"):
            marks = {self._marks[one.get("ID") or ""] for one in element.iter() if one.get("ID") in self._marks}
            mark = max(marks, default=None)  # of several the one that does not leave out the others
        if mark and _DENIES.search(_said(element)):
            mark = None  # "No known allergies" must not be denied once more
        if mark == "" or _is_struck(element):
            self.left_out["entry taken back"] += mark == ""
            return
        if element.tag == "tr":
            said = " | ".join(cell for one in element if (cell := " ".join(_said(one).split())))
        elif element.tag in _BLOCKS and any(True for one in element if one.tag in (*_BLOCKS, "item", "tr", "br", "content")):
            lines = list(self._mixed(element))
            yield from (f"{mark}\0{line}" for line in lines) if mark else lines
            return
        elif element.tag == "item" and any(one.tag in ("list", "paragraph", "table") for one in element):
            yield from self._mixed(element)
            return
        else:
            said = " ".join(_said(element).split())
        if said:
            yield f"{mark}\0{said}" if mark else said

    def _mixed(self, element: Element) -> Iterator[str]:
        """Text and elements within a block: text runs on until a block or a line break."""
        run = element.text or ""
        for inner in element:
            is_block = inner.tag in (*_BLOCKS, "item", "tr")
            if inner.tag == "br" or is_block or (inner.get("ID") or "") in self._marks or _is_struck(inner):
                yield from [" ".join(run.split())] if run.strip() else []
                run = ""
                yield from self._lines(inner) if inner.tag != "br" else ()
            else:
                run += _said(inner)
            run += inner.tail or ""
        yield from [" ".join(run.split())] if run.strip() else []


_NOBODY = Element("nothing")


def _at(element: Element, path: str) -> Element:
    found = element.find(path)
    return _NOBODY if found is None else found


def _is_struck(element: Element) -> bool:
    return element.get("revised") == "delete" or "strikethrough" in (element.get("styleCode") or "").lower()


def _said(element: Element | None) -> str:
    """The text of an element, its blocks and lines apart, without what is struck through."""
    if element is None or _is_struck(element):
        return ""
    apart = " " if element.tag in (*_BLOCKS, "br", "item", "tr", "td", "th") else ""
    inner = "".join(_said(one) + (one.tail or "") for one in element)
    return f"{apart}{element.text or ''}{inner}{apart}".strip("\n")


def _act_text(act: Element) -> str:
    """What an act is called, then its value, dose and reference range with their units."""
    names: dict[str, None] = {}
    amounts: list[str] = []
    for one in _own_elements(act):
        if one.tag in ("code", "value") and (name := one.get("displayName")):
            names[name] = None
        elif one.tag in ("value", "doseQuantity", "rateQuantity"):
            amounts.append(_quantity(one))
        elif one.tag == "referenceRange" and (said := _quantity(_at(one, "observationRange/value"))):
            amounts.append(f"reference range {said}")
    return ": ".join(filter(None, ("; ".join(names), "; ".join(filter(None, amounts)))))


def _own_elements(act: Element) -> Iterator[Element]:
    """The known elements of an act without those of the acts within it."""
    for inner in act:
        if inner.tag not in _ACTS and inner.get("nullFlavor") is None:
            yield inner
            if inner.tag != "referenceRange":
                yield from _own_elements(inner)


def _quantity(element: Element) -> str:
    """A value or a range with its unit, or a value in words."""
    low, high = _at(element, "low"), _at(element, "high")
    bounds = (f"{word} {one.get('value')}" for word, one in (("from", low), ("up to", high)) if one.get("value"))
    number = element.get("value") or " ".join(bounds)
    unit = next((one.get("unit") for one in (element, low, high) if one.get("unit")), None)
    return " ".join(filter(None, (number, unit if number else None))) or " ".join(_said(element).split())


def iso_day(written: str) -> str:
    """An HL7 date as ISO writes it: 202405061030 is 2024-05-06."""
    found = re.match(r"(\d{4})(\d\d)?(\d\d)?", written)
    return "-".join(part for part in found.groups() if part) if found else ""
