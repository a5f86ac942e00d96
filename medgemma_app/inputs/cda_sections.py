"""Sections of C-CDA documents: their narrative, marked as their coded entries say, or what the entries name if there is no narrative."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TypeAlias
from xml.etree.ElementTree import Element

from medgemma_app.inputs.json_notes import rank_of
from medgemma_app.inputs.lines import NOT_DONE, NOT_TAKEN, ON_HOLD, REFUTED, SAFE_LABEL, STOPPED, Line

Acts: TypeAlias = Sequence[tuple[Element, str, str]]  # elements of entries, each with its mark and that of its parent

DENIES = re.compile(r"(?i)\b(no|not|none|never|nil|denie[sd]|refuse[sd]|declined|without|unknown|nkd?a)\b")
_DENIALS = frozenset((NOT_TAKEN, REFUTED, NOT_DONE))
# Where an entry says which piece of the narrative is about it.
_DRUG = "consumable/manufacturedProduct/manufacturedMaterial/code/originalText/reference"
_NARRATIVES = ("text/reference", "code/originalText/reference", "value/originalText/reference", _DRUG)
_FAMILY_HISTORY = "10157-6"  # LOINC
_BLOCKS = frozenset(("paragraph", "table", "thead", "tbody", "tfoot", "list", "caption", "footnote", "text"))
_LINES = _BLOCKS | {"item", "tr", "br"}
# Why an entry, and the narrative about it, is left out.
_TAKEN_BACK, _OF_ANOTHER = "entry withdrawn", "entry about somebody other than the patient"
_SEVERAL = "line that names entries that stand and entries that do not"
_LEFT_OUT = (_TAKEN_BACK, _OF_ANOTHER, _SEVERAL)
_QUALIFIED = frozenset(("encounter", "observation", "procedure", "substanceAdministration", "supply"))
_ACTS = _QUALIFIED | {"act", "organizer"}
# Where an act says what it is about, the most particular last.
_NAMES = ("code", "value", "participant/participantRole/playingEntity/code", "*/manufacturedProduct/manufacturedMaterial/code")
_LONGEST_NAME = 8  # words by which a name is looked for in the narrative
_WORD = re.compile(r"\w+")
_NOTHING = Element("nothing")


class Narrative:
    """Puts sections into lines, and remembers what it leaves out."""

    def __init__(self, root: Element) -> None:
        self.left_out: Counter[str] = Counter()
        self._label = ""  # of the section that is being read: "section Allergies"
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
        title = " ".join(text_of(section.find("title")).split()) or element_at(section, "code").get("displayName") or ""
        self._label = f"section {title}" if SAFE_LABEL.fullmatch(title) else "section"
        if id(section) in self._of_others:
            self.left_out[f"{self._label} about somebody other than the patient"] += 1
            return
        acts = [one for entry in section.findall("entry") for one in self._acts(entry)]
        text = element_at(section, "text")
        if text_of(text).strip():
            lines = self._marked_by_name(acts, text)
        else:
            lines = list(self._named(acts))
            self.left_out[f"{self._label} with entries but no text"] += bool(acts) and not lines
        title, rank = title or "Section", rank_of(title.lower())
        if plain := "\n".join(line for mark, line in lines if not mark):
            yield Line(f"{title}: {plain}", title, rank)
        yield from (Line(f"{mark}{title}: {line}", title, rank) for mark, line in lines if mark)

    def _named(self, acts: Acts) -> Iterator[tuple[str, str]]:
        """What each act of a section without a narrative is about, with its mark."""
        for act, mark, outer in acts:
            if mark in _LEFT_OUT:
                self.left_out[f"{self._label}: {mark}"] += mark != outer
            elif act.tag in _ACTS and act.get("nullFlavor") is None and (said := ": ".join(dict.fromkeys(_names(act)))):
                yield _not_denied_twice(mark, said), said

    def _marked_by_name(self, acts: Acts, text: Element) -> list[tuple[str, str]]:
        """The lines of a narrative. A marked entry that refers to no piece of it marks the lines that name its acts.

        Nothing if no line names one of them, unless the entry is denied and the narrative denies something itself.
        """
        lines, pieces = list(self._lines(text)), {one.get("ID") for one in text.iter()}
        unplaced = [
            act
            for act, mark, outer in acts
            if mark not in ("", outer) and pieces.isdisjoint((one.get("value") or "").lstrip("#") for one in act.iter("reference"))
        ]
        if not unplaced:
            return lines
        marks = {id(act): mark for act, mark, _ in acts}
        known: dict[str, set[str]] = {}  # what entries are about -> their marks
        for one in (one for entry, _, _ in acts if entry.tag == "entry" for one in _main_acts(entry)):
            known.setdefault(_subject(one), set()).add(marks[id(one)])
        sure = {name: min(some) for name, some in known.items() if name and len(some) == 1}
        named = [{name for name in _phrases(line) if name in sure} for _, line in lines]
        found = set().union(*named)
        for act in unplaced:
            about = {_subject(one) for one in _main_acts(act) if marks[id(one)] == marks[id(act)]}
            if _not_denied_twice(marks[id(act)], text_of(text)) and not about <= found:
                self.left_out[
                    f"{self._label} with an entry that is denied, stopped, withdrawn or about somebody else, and not named in its text"
                ] += 1
                return []
        by_name = ({sure[name] for name in names} for names in named)
        return [one for (mark, line), some in zip(lines, by_name, strict=True) for one in self._marked(line, {mark} if mark else some)]

    def _marked(self, line: str, marks: set[str]) -> Iterator[tuple[str, str]]:
        """A line with its mark; nothing if it is left out, also because it has several."""
        mark = min(marks, default="") if len(marks) < 2 else _SEVERAL
        if mark in _LEFT_OUT:
            self.left_out[f"{self._label}: {mark}"] += 1
        else:
            yield _not_denied_twice(mark, line), line

    def _lines(self, element: Element) -> Iterator[tuple[str, str]]:
        """The lines of a piece of narrative with their marks: one line per block, with bars between the cells of a row."""
        mark, tags = self._marks.get(element.get("ID") or "", ""), {one.tag for one in element}
        has_blocks = bool(tags & {"list", "paragraph", "table"})
        if not mark and element.tag in ("tr", "item", "paragraph") and not has_blocks:
            within = {self._marks[name] for one in element.iter() if (name := one.get("ID") or "") in self._marks}
            mark = min(within, default="")  # marks in capitals come before reasons to leave it out
        if mark in _LEFT_OUT or _is_struck(element):
            self.left_out[f"{self._label}: {mark}"] += mark in _LEFT_OUT
            return
        mark = _not_denied_twice(mark, text_of(element))
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


def _not_denied_twice(mark: str, text: str) -> str:
    """A mark; "" for one that denies what the text already denies, such as "No known allergies"."""
    return "" if mark in _DENIALS and DENIES.search(text) else mark


def _main_acts(element: Element) -> list[Element]:
    """The acts of an entry without those that hold them, give their reason or only qualify them, such as the severity of an allergy."""
    held = (inner for inner in element if element.tag not in _QUALIFIED and inner.get("typeCode") != "RSON")
    return [act for inner in held for act in _main_acts(inner)] or [element] * (element.tag in _ACTS)


def _names(act: Element) -> list[str]:
    """What an act is about: its code, its value with the unit, and its substance or drug."""
    coded = [one for path in _NAMES for one in act.findall(path)]
    amounts = (" ".join(filter(None, (one.get("value"), one.get("unit")))) for one in coded)
    return [said for one, amount in zip(coded, amounts, strict=True) if (said := _display(one) or amount or " ".join(text_of(one).split()))]


def _display(coded: Element) -> str:
    """The name of a code, or that of its translation."""
    return next(filter(None, (one.get("displayName") for one in coded.iter())), "")


def _subject(act: Element) -> str:
    """The last name of an act, as one of ``_phrases``."""
    names = list(filter(None, (_display(one) for path in _NAMES for one in act.findall(path))))
    return " ".join(_WORD.findall(names[-1].lower())[:_LONGEST_NAME]) if names else ""


def _phrases(line: str) -> Iterator[str]:
    """All runs of up to ``_LONGEST_NAME`` words in a line."""
    words = _WORD.findall(line.lower())
    return (" ".join(words[at:end]) for at in range(len(words)) for end in range(at + 1, min(len(words), at + _LONGEST_NAME) + 1))


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
