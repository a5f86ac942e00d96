"""The sections of a C-CDA document: their narrative, as its coded entries have it, or the entries where there is no narrative."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from medgemma_app.inputs.json_notes import rank_of
from medgemma_app.inputs.lines import NOT_DONE, NOT_TAKEN, ON_HOLD, REFUTED, STOPPED, Line

_DENIES = re.compile(r"(?i)\b(no|not|none|never|nil|denie[sd]|refuse[sd]|declined|without|unknown|nkd?a)\b")
# Where an entry says which piece of the narrative is about it.
_DRUG = "consumable/manufacturedProduct/manufacturedMaterial/code/originalText/reference"
_NARRATIVES = ("text/reference", "code/originalText/reference", "value/originalText/reference", _DRUG)
_FAMILY_HISTORY = "10157-6"  # LOINC
_ACTS = frozenset(("act", "encounter", "observation", "organizer", "procedure", "substanceAdministration", "supply"))
_BLOCKS = frozenset(("paragraph", "table", "thead", "tbody", "tfoot", "list", "caption", "footnote", "text"))


def _mark(act: Element, outer: str | None) -> str | None:
    """How what an act says begins: as its status has it, or as that of the act it belongs to; "" where it is taken back."""
    status = element_at(act, "statusCode").get("code")
    if status in ("nullified", "cancelled", "obsolete") or outer == "":
        return ""
    if act.get("negationInd") == "true":
        return {"substanceAdministration": NOT_TAKEN, "observation": REFUTED}.get(act.tag, NOT_DONE)
    return {"aborted": STOPPED, "suspended": ON_HOLD}.get(status or "", outer)


def _marked_acts(act: Element, outer: str | None) -> Iterator[tuple[str, set[str]]]:
    """The mark of each act that has one of its own, and the pieces of narrative that it, or an act within it, refers to."""
    mark = None if act.get("typeCode") == "RSON" else _mark(act, outer)
    if mark is not None and mark != outer:
        yield mark, {(one.get("value") or "").lstrip("#") for one in act.iter("reference")}
    for inner in act:
        yield from _marked_acts(inner, mark)


class Narrative:
    """The text of sections, told by what their entries say of it: taken back, not done, stopped."""

    def __init__(self, root: Element) -> None:
        self.left_out: Counter[str] = Counter()
        self._marks: dict[str, str] = {}  # id of a piece of narrative -> how it begins, "" for what is taken back
        self.left_out["text that is struck through"] = sum(map(_is_struck, root.iter()))
        self._of_others = {id(inner) for one in root.iter("section") if _is_of_another(one) for inner in one.iter("section")}
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
        if id(section) in self._of_others:
            self.left_out["section about somebody other than the patient"] += 1
            return
        title = text_of(section.find("title")) or element_at(section, "code").get("displayName") or "Section"
        text = section.find("text")
        is_contradicted = text is not None and bool(text_of(text).strip()) and _is_contradicted(section, text)
        self.left_out["narrative of a section whose entries deny or take back what it tells"] += is_contradicted
        said = [line.strip() for line in self._lines(text)] if text is not None and not is_contradicted else []
        if is_contradicted or not text_of(text).strip():
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
        if mark and _DENIES.search(text_of(element)):
            mark = None  # "No known allergies" must not be denied once more
        if mark == "" or _is_struck(element):
            self.left_out["entry taken back"] += mark == ""
            return
        if element.tag == "tr":
            said = " | ".join(cell for one in element if (cell := " ".join(text_of(one).split())))
        elif element.tag in _BLOCKS and any(True for one in element if one.tag in (*_BLOCKS, "item", "tr", "br", "content")):
            yield from (f"{mark}\0{line}" if mark and "\0" not in line else line for line in self._mixed(element))
            return
        elif element.tag == "item" and any(one.tag in ("list", "paragraph", "table") for one in element):
            yield from self._mixed(element)
            return
        else:
            said = " ".join(text_of(element).split())
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
                run += text_of(inner)
            run += inner.tail or ""
        yield from [" ".join(run.split())] if run.strip() else []


_NOBODY = Element("nothing")


def _is_of_another(section: Element) -> bool:
    """Whether a section names a subject of its own, such as a newborn; in a family history that is a relative by design."""
    return section.find("subject") is not None and element_at(section, "code").get("code") != _FAMILY_HISTORY


def _is_contradicted(section: Element, text: Element) -> bool:
    """Whether an entry is denied, stopped or taken back, and neither it nor the narrative itself says so of a piece of the narrative."""
    pieces = {one.get("ID") for one in text.iter()}
    denied = {NOT_TAKEN, REFUTED, NOT_DONE} if _DENIES.search(text_of(text)) else set()
    marked = (one for entry in section.findall("entry") for one in _marked_acts(entry, None))
    return any(mark not in denied and not pieces & names for mark, names in marked)


def element_at(element: Element, path: str) -> Element:
    found = element.find(path)
    return _NOBODY if found is None else found


def _is_struck(element: Element) -> bool:
    return element.get("revised") == "delete" or "strikethrough" in (element.get("styleCode") or "").lower()


def text_of(element: Element | None) -> str:
    """The text of an element, its blocks and lines apart, without what is struck through."""
    if element is None or _is_struck(element):
        return ""
    apart = " " if element.tag in (*_BLOCKS, "br", "item", "tr", "td", "th") else ""
    inner = "".join(text_of(one) + (one.tail or "") for one in element)
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
        elif one.tag == "referenceRange" and (said := _quantity(element_at(one, "observationRange/value"))):
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
    low, high = element_at(element, "low"), element_at(element, "high")
    bounds = (f"{word} {one.get('value')}" for word, one in (("from", low), ("up to", high)) if one.get("value"))
    number = element.get("value") or " ".join(bounds)
    unit = next((one.get("unit") for one in (element, low, high) if one.get("unit")), None)
    return " ".join(filter(None, (number, unit if number else None))) or " ".join(text_of(element).split())
