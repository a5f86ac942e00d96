"""Cuts a text into sections by the headings that models and clinicians write, which ``data/headings.txt`` lists.

A heading is at the start of a line, alone or before a colon or dash, and may be numbered, bold or a Markdown title; after the end
of a sentence it may also be within a line. Only the best-ranked name of a section in the text opens it: "P: 72" among the vital
signs is not the plan if there is a heading PLAN, and "Medications" under PLAN is not the history if there is a heading SUBJECTIVE.

Sections that the caller names are known by their names and by the synonyms in ``data/synonyms.txt``. Any other heading in capitals ends
the section before it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import islice, pairwise
from typing import NamedTuple, TypeAlias, get_args

from medgemma_app.prompts import ReportKind
from medgemma_app.validate.lists import entries, lines

Headings: TypeAlias = ReportKind | tuple[str, ...]  # the usual headings of a kind of report, or the names that the caller gives
OTHER = "other"
LONGEST_HEADING = 60
_AFTER_ALL = 3
SHORTEST_BEGINNING = 8  # words of a section without a heading
BARE_THOUGHT = re.compile(r"\s*(?:<unused94>)?thought[ \t]*\n")


class Name(NamedTuple):
    """The sections that a heading opens, and its rank; see ``data/headings.txt``."""

    keys: tuple[str, ...]
    rank: int


class _Heading(NamedTuple):
    """A heading in the text: where its line begins, its words and name, where its body begins, and how it looks."""

    line: int
    written: str
    name: Name
    body: int
    marked: bool  # an item of a list
    stands_out: bool = True  # in capitals, a Markdown title, or in bold and alone on its line


class Section(NamedTuple):
    """A heading and the text under it, ``body``, from ``start`` to ``end``; a combined heading has several keys."""

    keys: tuple[str, ...]
    heading: str
    body: str
    rank: int
    start: int
    end: int


class Sections(NamedTuple):
    """A text cut at its headings; the preamble and the sections together contain every word of it."""

    preamble: str
    sections: tuple[Section, ...]

    def texts(self) -> dict[str, str]:
        """The text of each section; repeated sections are joined by a blank line, and a substitute ("ALLERGIES") keeps its heading."""
        found: dict[str, list[str]] = {}
        for section in self.sections:
            for key in section.keys:
                found.setdefault(key, []).append(f"{section.heading}\n{section.body}".strip() if section.rank == 2 else section.body)
        return {key: "\n\n".join(filter(None, texts)) for key, texts in found.items() if key != OTHER}

    def spans(self, key: str) -> list[tuple[int, int]]:
        """The spans of the texts under the headings of a section, without the headings."""
        return [(section.start, section.end) for section in self.sections if key in section.keys]

    def with_beginning(self, text: str, key: str) -> Sections:
        """Adds the preamble as the section ``key``, if there is no such section and the preamble is more than "Here is the note:"."""
        fewest = 1 if key == "findings" and not self.sections else SHORTEST_BEGINNING
        is_note = key == "findings" or any(OTHER not in section.keys for section in self.sections)
        if self.spans(key) or not is_note or self.preamble.count(" ") < fewest or BARE_THOUGHT.match(text):
            return self
        start = text.find(self.preamble)
        return Sections("", (Section((key,), "", self.preamble, 0, start, start + len(self.preamble)), *self.sections))


_LINE = re.compile(r"[^\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+")
_LEAD = re.compile(r"[\s>#*_\[【\ufeff\u200b]{0,20}(?:(?:\d{1,2}|[IVX]{1,4})[.)]\s{1,4})?(?:[-•+]\s{1,8}(?=\*\*|__))?[*_]{0,3}")
_ITEM = re.compile(r"\s*(?:[-*•+]\s|\d{1,2}[.)]\s)")
_SEPARATOR = re.compile(r"[:：】]|\s[-–—]+|[-–—]+(?=\s|$)|—")
_TITLE = re.compile(r"[ \t>#*_]{0,8}(?P<heading>[^\W\d_]{2,}(?: [^:.\n]{1,40}?)?)(?:\*\*|__)?[ \t]*(?:[:：](?:\*\*|__)?|$)")
_BOLD_END = re.compile(r"\*\*|__")
_TO_BODY = re.compile(r"(?:\*\*|__|\*)?[\s:]*")
_PULSE = re.compile(r"\d{2,3}\s{0,3}(?:$|[,;]|bpm|beats|/min|\.$)", re.MULTILINE)
# Within a line: after the end of a sentence, or in capitals after any word; followed by a colon.
_WITHIN = re.compile(
    r"(?<=[.!?;:,)*\]\"][ \t])(?=[ \t]{0,3}(?:#{1,4} [A-Z]|(?:\d{1,2}[.)][ \t])?(?:\*\*|__)?"
    r"(?:[A-Z][A-Za-z]{2,20}(?: (?:[A-Za-z]{2,20}|&)){0,4}|[SOAP]|A/P)(?:\*\*|__)?(?:[ \t]\([A-Z]\))?(?:\*\*|__)?:))"
    r"|(?<=[^A-Z][ \t])(?=[A-Z]{3,15}(?: (?:[A-Z]{2,15}|&)){0,5}:)"
)
_FENCE = re.compile(r"\s*(?:(?:`{3,}\w*|-{3,}|\*{3,}|_{3,})[ \t]*(?:\n\s*|\Z))*")
_FENCE_END = re.compile(r"(?:\n\s*(?:`{3,}|-{3,}|\*{3,}|#{1,6})[ \t]*)+$")


@cache
def names(kind: str | tuple[str, ...]) -> Mapping[str, Name]:
    """The headings of a kind of report, the adjectives that may precede them ("before"), or the headings that the caller names."""
    if isinstance(kind, tuple):
        return _own_names(kind)
    keys = {name: key.split()[1:] for key, listed in entries("headings").items() if key.startswith(kind) for name in listed}
    return {name: Name(tuple(sections), int(rank)) for name, (*sections, rank) in keys.items()}


def _own_names(sections: tuple[str, ...]) -> dict[str, Name]:
    """The sections by their names, neighbours also by both names together, "heart and mediastinum" by each half, and all by synonyms."""
    known = {_spelled(key): Name((key,), 0) for key in sections}
    known = {_spelled(f"{a} and {b}"): Name((a, b), 0) for a, b in pairwise(sections)} | known
    halves = {half: Name((key,), 2) for key in sections for half in _spelled(key).split(" and ")}
    known = halves | known
    for line in lines("synonyms"):
        group = line.split(", ")
        if first := next((known[name] for name in group if name in known), None):
            known = dict.fromkeys(group, Name(first.keys, 2)) | known
    return known


def parse_findings(text: str) -> dict[str, str]:
    """The ``findings`` and ``impression`` of a report, if it has headings for them."""
    return parse(text, "findings").texts()


def parse_soap(text: str) -> dict[str, str]:
    """The ``subjective``, ``objective``, ``assessment`` and ``plan`` of a note, if it has headings for them."""
    return parse(text, "soap").texts()


def parse(text: str, kind: Headings) -> Sections:
    """Cut a text at its headings; the text before the first heading is the preamble."""
    own = isinstance(kind, tuple)
    opened = list(_opened(list(_headings(text, kind)), own=own))
    ends = [one.line for one in opened[1:]] + [len(text)] * bool(opened)
    sections = []
    for one, end in zip(opened, ends, strict=True):
        (start, end), rank = _trimmed(text, one.body, end), one.name.rank
        if own and rank == 2 and start < end:  # a substitute stays in the text of the section, as it is written
            (start, end), rank = _trimmed(text, one.line, end), 0
        is_title = not own and start == end and rank == 2 and one is not opened[-1]  # "Chest X-Ray Interpretation" above it all
        keys = (OTHER,) if is_title else one.name.keys
        sections.append(Section(keys, one.written, text[start:end], rank, start, end))
    return Sections(text[: opened[0].line if opened else None].strip(), tuple(sections))


def from_mapping(sections: Mapping[str, str], kind: Headings) -> tuple[str, Sections]:
    """The text made of the given sections, and its sections; a key that is not the name of a section becomes "other"."""
    text, found = "", []
    for key, written in sections.items():
        body = written.strip()
        start = len(text) + len(key) + 2
        text += f"{key}:\n{body}\n\n"
        found.append(Section((_name(key, kind) or Name((OTHER,), 0)).keys, key, body, 0, start, start + len(body)))
    return (text.strip() if any(one.body for one in found) else ""), Sections("", tuple(found))


def _headings(text: str, kind: Headings) -> Iterator[_Heading]:
    """Everything in the text that looks like a heading, in order."""
    latest, divided, ends_sections = None, False, isinstance(kind, tuple) and not text.isupper()
    for line in _LINE.finditer(text):
        first = _heading(text, line.start(), line.end(), kind)
        if first is None and ends_sections and (title := _unlisted(text, *line.span())):
            # Right after a heading it begins a part of that section ("PHYSICAL EXAM", "VITAL SIGNS: ..."), and so do those that follow.
            # A single word is usually a part of the body under "physical exam"; above all sections it is a heading of its own.
            divided = divided or (latest is not None and not text[latest.body : title.line].strip())
            first = title if not divided and (latest is None or " " in title.written) else None
        elif first:
            latest, divided = first, False
        if first:
            yield first
        for within in _WITHIN.finditer(text, first.body if first else line.start(), line.end()):
            if found := _heading(text, within.start(), line.end(), kind):
                yield found._replace(marked=found.marked or _ITEM.fullmatch(text, line.start(), within.start()) is not None)


def _heading(text: str, line: int, stop: int, kind: Headings) -> _Heading | None:
    """The heading that begins at ``line``, in a line that ends at ``stop``, or None if there is only prose."""
    lead = _LEAD.match(text, line, stop)
    start = lead.end() if lead else line
    for end, after in _ends(text, start, stop, is_title="#" in text[line:start]):
        written = text[start:end].strip(" \t*_:[]/")
        name, body = _name(written, kind) if written else None, _TO_BODY.match(text, after)
        marked = text[line:start].strip() != "" or end < stop or "*" in text[start:end]
        # "P: 72" is a pulse, and "plan" alone may be the end of a wrapped line; many scripts have no capitals.
        is_pulse = name == Name(("plan",), 1) and body and _PULSE.match(text, body.end(), body.end() + 12)
        if name and body and not is_pulse and (marked or not written[:1].islower()):
            stands_out = written.isupper() or "#" in text[line:start] or (end == stop and "**" in text[line:start])
            return _Heading(line, written, name, max(after, body.end()), _ITEM.match(text, line) is not None, stands_out)
    return None


def _unlisted(text: str, line: int, stop: int) -> _Heading | None:
    """A heading in capitals that is not in the list."""
    found = _TITLE.match(text, line, stop)
    if not found or not found["heading"].isupper():
        return None
    return _Heading(line, found["heading"], Name((OTHER,), 0), found.end(), True)


def _ends(text: str, start: int, stop: int, *, is_title: bool) -> Iterator[tuple[int, int]]:
    """The places where a heading that begins at ``start`` may end, each with the place where the text after it begins."""
    if stop - start <= LONGEST_HEADING:
        yield stop, stop
    for mark in (_SEPARATOR, _BOLD_END):
        found = mark.search(text, start, min(stop, start + LONGEST_HEADING + 8))
        if found:
            yield found.start(), found.end()
    if is_title:  # "### Physical Exam The lungs are clear.": the longest name that the line begins with
        spaces = [found.start() for found in islice(re.compile(" ").finditer(text, start, stop), 6)]
        yield from ((space, space) for space in reversed(spaces))


def _name(heading: str, kind: Headings) -> Name | None:
    """The entry for a heading as written, without the adjectives before it, or for its first word."""
    known, words = names(kind), _spelled(re.sub(r"\([^()]{0,30}\)|[*_#.:\[\]]", "", heading)).split()
    while words and " ".join(words) not in known and words[0] in names("before"):
        del words[0]
    return known.get(" ".join(words)) or known.get(f"{words[0]}*") if words else None


def _spelled(heading: str) -> str:
    """A heading in the spelling of the list."""
    spaced = re.sub(r"[-\s]", " ", re.sub(r"[&/+]", " and ", unicodedata.normalize("NFC", heading)))
    return " ".join(spaced.casefold().split())


def is_heading(written: str) -> bool:
    """Whether the words are the name of a section, such as "[Physical Exam]"."""
    return any(_name(written, kind) for kind in get_args(ReportKind))


def _opened(found: Sequence[_Heading], *, own: bool) -> Iterator[_Heading]:
    """The headings that open a section; ``own`` says whether the caller named the sections."""
    best: dict[str, int] = {}
    for one in found:
        best |= {key: min(one.name.rank, best.get(key, one.name.rank)) for key in one.name.keys if one.name.rank < _AFTER_ALL}
    last = max((one.line for one in found if OTHER not in one.name.keys and _is_best(one.name, best)), default=-1)
    seen: set[str] = set()
    current: tuple[str, ...] = ()
    for one in found:
        if one.name.rank == _AFTER_ALL:
            opens = bool(seen) and one.line > last and not one.marked
        else:
            part = own and one.name.rank == 2 and one.name.keys == current  # "MEDIASTINUM" under "HEART"
            opens = not part and not _is_item(one, seen, own=own) and (_is_best(one.name, best) or (own and one.stands_out))
        if opens:
            current = one.name.keys
            seen.update(one.name.keys if OTHER not in one.name.keys else ())
            yield one


def _is_item(one: _Heading, seen: set[str], *, own: bool) -> bool:
    """Whether the name of an earlier section is an item of the plan: "1. Imaging: CT", "Medications: continue"."""
    if not any(key.endswith("plan") for key in seen) or any(key.endswith(("assessment", "plan")) for key in one.name.keys):
        return False
    again, substitute = not seen.isdisjoint(one.name.keys), one.name.rank == 2
    return (substitute and (one.marked or again)) or (own and (again or substitute) and (one.marked or not one.stands_out))


def _is_best(name: Name, best: Mapping[str, int]) -> bool:
    return any(best.get(key) == name.rank for key in name.keys)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """A span without the spaces, rules and code fences around it."""
    opening = _FENCE.match(text, start, end)
    start = opening.end() if opening else start
    end = start + len(text[start:end].rstrip())
    closing = _FENCE_END.search(text, max(start, end - 80), end)
    end = closing.start() if closing else end
    return start, start + len(text[start:end].rstrip())
