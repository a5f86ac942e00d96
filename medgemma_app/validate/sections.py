"""Text -> sections, by the headings models and clinicians really write.

A heading stands at the start of a line, alone or before a colon or dash, and may be numbered, bold or a Markdown title.
Names come in ranks. A section is opened by its best-ranked name in the text only, so that "P: 72" among the vital signs
is no plan where PLAN stands, and "Medications" under PLAN is no history where SUBJECTIVE stands:

rank 0  the name itself: FINDINGS, SUBJECTIVE, ASSESSMENT AND PLAN
rank 1  its letter: S, O, A, P, A/P
rank 2  what stands in its place: HISTORY OF PRESENT ILLNESS for the subjective, CONCLUSION for the impression
rank 3  what comes before the report, as INDICATION does; inside a section it is part of it
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeAlias

OTHER = "other"
LONGEST_HEADING = 60


@dataclass(frozen=True, slots=True)
class Name:
    """What a heading opens, and how directly it says so."""

    keys: tuple[str, ...]
    rank: int


Names: TypeAlias = Mapping[str, Name]


@dataclass(frozen=True, slots=True)
class Section:
    """One heading with the text under it; a combined heading has several keys."""

    keys: tuple[str, ...]
    heading: str
    body: str
    rank: int = 0

    @property
    def text(self) -> str:
        """The body; a stand-in keeps its heading, because "ALLERGIES" is part of what it says."""
        return f"{self.heading}\n{self.body}".strip() if self.rank == 2 else self.body


@dataclass(frozen=True, slots=True)
class Parsed:
    """A text cut at its headings: joined again, preamble and sections hold every word of it."""

    preamble: str
    sections: tuple[Section, ...]

    def texts(self) -> dict[str, str]:
        """Key -> text, repeated sections joined by a blank line."""
        found: dict[str, list[str]] = {}
        for section in self.sections:
            for key in section.keys:
                found.setdefault(key, []).append(section.text)
        return {key: "\n\n".join(filter(None, texts)) for key, texts in found.items() if key != OTHER}

    def bodies(self, key: str) -> list[str]:
        """The texts under the headings of one section, headings left out."""
        return [section.body for section in self.sections if key in section.keys]


def _names(*rows: tuple[str, int, str]) -> Names:
    names: dict[str, Name] = {}
    for keys, rank, spellings in rows:
        name = Name(tuple(keys.split()), rank)
        names.update({spelling.strip(): name for spelling in spellings.split(",")})
    return MappingProxyType(names)


FINDINGS_NAMES = _names(
    ("findings", 0, "findings, finding"),
    ("impression", 0, "impression, impressions, final impression, overall impression, impression and recommendations"),
    ("findings impression", 0, "findings and impression, findings and impressions"),
    ("findings", 2, "radiographic findings, radiological findings, imaging findings, x ray findings, chest x ray findings"),
    ("findings", 2, "key findings, observations, description, report"),
    # ESR and RSNA templates name the last section Impression or Conclusion; the others are seen in European reports.
    ("impression", 2, "conclusion, conclusions, summary, opinion, interpretation, radiographic impression, diagnostic impression"),
    (OTHER, 3, "indication, clinical indication, clinical history, clinical information, history, reason for exam"),
    (OTHER, 3, "comparison, comparisons, technique, exam, examination, procedure, view, views"),
    (OTHER, 0, "disclaimer, important disclaimer"),
)
SOAP_NAMES = _names(
    ("subjective", 0, "subjective, subjective data, subjective findings, s subjective"),
    ("objective", 0, "objective, objective data, objective findings, o objective"),
    ("assessment", 0, "assessment, assessments, a assessment"),
    ("plan", 0, "plan, plans, treatment plan, p plan, plan of care, care plan"),
    ("assessment plan", 0, "assessment and plan, assessment and plans, diagnosis and plan, assessment and treatment plan"),
    ("assessment plan", 0, "impression and plan, assessment and recommendations, impression and recommendations"),
    ("subjective", 1, "s"),
    ("objective", 1, "o"),
    ("assessment", 1, "a"),
    ("plan", 1, "p"),
    ("assessment plan", 1, "a and p"),
    ("subjective", 2, "chief complaint, chief complaints, cc, complaint, presenting complaint, reason for visit"),
    ("subjective", 2, "history of present illness, history of presenting illness, history of presenting complaint, hpi"),
    ("subjective", 2, "history, interval history, patient history, medical history, past medical history, pmh, past history"),
    ("subjective", 2, "history of the present illness, surgical history, past surgical history, psh, family history, social history"),
    ("subjective", 2, "medications, current medications, home medications, meds, allergies, review of systems, ros"),
    ("objective", 2, "vitals, vital signs, vitals reviewed, physical exam, physical examination, exam, examination, pe"),
    ("objective", 2, "results, labs, laboratory, lab results, laboratory results, imaging, diagnostics, diagnostic results"),
    ("objective", 2, "laboratory data, laboratory studies, imaging studies, diagnostic studies, on examination, o and e, investigations"),
    ("assessment", 2, "impression, impressions, clinical impression, diagnosis, diagnoses, differential diagnosis"),
    ("assessment", 2, "final diagnosis, discharge diagnosis, medical decision making"),
    ("plan", 2, "instructions, patient instructions, recommendations, recommendation, follow up, treatment, disposition, next steps"),
    (OTHER, 0, "disclaimer, important disclaimer"),
)

_LEAD = re.compile(r"[\s>#\ufeff\u200b]{0,20}(?:(?:\d{1,2}|[IVX]{1,4})[.)]\s{1,4}|[-*•+]\s{1,8}(?=\*\*|__))?")
_SEPARATOR = re.compile(r"[:：]|\s[-–—]+|[-–—]+(?=\s|$)|—")
_BOLD = re.compile(r"(\*\*|__)([^*_]{1,60})\1")
_CAPITALS = re.compile(r"([A-Z][A-Z &/]{3,50}) (?=[A-Z][a-z]|\d{1,2}[.)]\s)")
_AFTER = re.compile(r"(?:\*\*|__|\*)?[\s:]*")
_PULSE = re.compile(r"\d{2,3}\s{0,3}(?:$|[,;]|bpm|beats|/min|\.$)")
_TREATMENT = re.compile(r"(?im)^[^\w\n]{0,12}(?:medical )?(?:treatment|plan|management|recommendations?)(?: plan)?[*_]{0,3}:")
_INLINE = re.compile(
    r"(?<=[a-z)X][.!?;][ \t])(?=(?:\*\*)?(?:FINDINGS|IMPRESSION|SUBJECTIVE|OBJECTIVE|ASSESSMENT|PLAN)(?: (?:AND|&) PLAN)?(?:\*\*)?:)"
)


def parse_findings(text: str) -> dict[str, str]:
    """The ``findings`` and ``impression`` of a report, as far as it has them."""
    return parse(text, FINDINGS_NAMES).texts()


def parse_soap(text: str) -> dict[str, str]:
    """The ``subjective``, ``objective``, ``assessment`` and ``plan`` of a note, as far as it has them."""
    return parse(text, SOAP_NAMES).texts()


def parse(text: str, names: Names) -> Parsed:
    """Cut a text at its headings; what stands before the first is the preamble."""
    lines = _INLINE.sub("\n", text).splitlines()
    headings = {line: _heading(line, names) for line in set(lines)}
    best = _best_ranks(found[1] for found in headings.values() if found)
    preamble: list[str] = []
    sections: list[tuple[str, Name, list[str]]] = []
    for line in lines:
        found = headings[line]
        if found and _opens(found[1], best, inside=any(OTHER not in name.keys for _, name, _ in sections[-1:])):
            sections.append((found[0], found[1], [found[2]]))
        else:
            (sections[-1][2] if sections else preamble).append(line)
    return Parsed(_block(preamble), _with_plans(Section(name.keys, head, _block(body), name.rank) for head, name, body in sections))


def _with_plans(sections: Iterable[Section]) -> tuple[Section, ...]:
    """An assessment that says of each problem how it is treated is the plan too, where there is no other."""
    found = tuple(sections)
    if any("plan" in section.keys for section in found):
        return found
    return tuple(
        replace(one, keys=("assessment", "plan")) if one.keys == ("assessment",) and _TREATMENT.search(one.body) else one for one in found
    )


def from_mapping(sections: Mapping[str, str], names: Names) -> Parsed:
    """Sections that come apart already; a key that names no known section is kept as another one."""
    other = Name((OTHER,), 0)
    return Parsed("", tuple(Section(names.get(fold(key), other).keys, key, text.strip()) for key, text in sections.items()))


def fold(heading: str) -> str:
    """A heading as the tables spell it: lower case, no marks, no bracketed remark, "&" and "/" as "and"."""
    bare = re.sub(r"\([^()]{0,30}\)|[*_#.]", "", heading)
    return " ".join(re.sub(r"[-\s]", " ", re.sub(r"[&/+]", " and ", bare)).casefold().split())


def _heading(line: str, names: Names) -> tuple[str, Name, str] | None:
    """(heading as written, what it opens, text after it on the line), or None for a line of prose."""
    lead = _LEAD.match(line)
    start = lead.end() if lead else 0
    for end, after in _ends(line, start):
        head, rest = line[start:end], _AFTER.sub("", line[after:], count=1)
        name = names.get(fold(head))
        if name and not _reads_on(head, name, rest, marked=line[:start].strip() != "" or end < len(line)):
            return head.strip(" *_"), name, rest
    return None


def _ends(line: str, start: int) -> Iterator[tuple[int, int]]:
    """Where a heading that begins at ``start`` may end, and where the text after it begins."""
    if len(line) - start <= LONGEST_HEADING:
        yield len(line), len(line)
    separator = _SEPARATOR.search(line, start, start + LONGEST_HEADING + 8)
    if separator:
        yield separator.start(), separator.end()
    bold = _BOLD.match(line, start)
    if bold:
        yield bold.end(), bold.end()
    capitals = _CAPITALS.match(line, start)
    if capitals:
        yield capitals.end(1), capitals.end()


def _reads_on(head: str, name: Name, rest: str, *, marked: bool) -> bool:
    """Whether what looks like a heading is prose after all: "P: 72" is a pulse, a bare "plan" a word of a wrapped line."""
    if name.rank == 1:
        return not (marked or "*" in head) or (name.keys == ("plan",) and _PULSE.match(rest) is not None)
    return not marked and not head.strip(" *_")[:1].isupper()


def _best_ranks(names: Iterable[Name]) -> dict[str, int]:
    best: dict[str, int] = {}
    for name in names:
        for key in name.keys:
            best[key] = min(name.rank, best.get(key, name.rank))
    return best


def _opens(name: Name, best: Mapping[str, int], *, inside: bool) -> bool:
    return not inside if name.rank == 3 else any(best[key] == name.rank for key in name.keys)


def _block(lines: list[str]) -> str:
    return "\n".join(lines).strip()
