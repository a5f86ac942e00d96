"""What a FHIR resource says: whether it has content, what it is called, and which lines of a narrative name it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

from medgemma_app.inputs.cda_sections import DENIES
from medgemma_app.inputs.fhir_record import SUBJECTS, Resource
from medgemma_app.inputs.lines import NOT_DONE, NOT_TAKEN, REFUTED, list_lines

HEADS = ("code", "medicationCodeableConcept", "medicationReference", "medication", "vaccineCode", "type", "class", "title", "name")
_NO_CONTENT = frozenset((*list_lines("fhir_left_out"), *list_lines("fhir_handling"), *SUBJECTS, "resourceType", "contained"))
OFFICE = frozenset((
    "Patient", "Practitioner", "PractitionerRole", "Organization", "Location", "RelatedPerson", "Coverage", "OperationOutcome", "Group",
    "CapabilityStatement", "Questionnaire", "StructureDefinition", "ValueSet", "CodeSystem", "Subscription", "AuditEvent", "Provenance",
    "Device", "Endpoint", "HealthcareService", "Appointment", "Slot", "Schedule", "Account", "Claim", "ExplanationOfBenefit",
    "MessageHeader",
))  # fmt: skip
_OF_A_VISIT = frozenset(("reasonCode", "reasonReference", "reason", "diagnosis", "text", "note", "extension"))
_NAMES_OF_DOCUMENTS = frozenset(("type", "code", "title", "description"))
_DOCUMENTS = frozenset(("DocumentReference", "Composition", "DiagnosticReport", "Media", "ImagingStudy", "List"))
_CODED = frozenset(("code", "reference", "url"))  # when written as text, which tells a reader nothing
# Why a line is left out.
WITHDRAWN = "entry withdrawn"
_SEVERAL = "line that names entries that stand and entries that do not"
LEFT_OUT = (WITHDRAWN, _SEVERAL)
_LONGEST_NAME = 8  # words by which a name is looked for in a narrative
_BEFORE = 5  # words before a name that may deny it: "no history of pulmonary embolism"
_DENIED = frozenset((REFUTED, NOT_DONE, NOT_TAKEN))
_WORD = re.compile(r"[^\W_]+")


def has_content(value: Any) -> bool:
    """Whether the words of an element say more than who was involved, when, and how the record was handled."""
    if isinstance(value, list):
        return any(map(has_content, value))
    if not isinstance(value, Mapping):
        return isinstance(value, str) and re.search(r"(?<!\d)[^\W\d_]|%", value) is not None  # not the T and Z of a time
    kind = value.get("resourceType")
    if kind in OFFICE or "contentType" in value:
        return False
    skipped = _NO_CONTENT | (_NAMES_OF_DOCUMENTS if kind in _DOCUMENTS else frozenset())
    stated = {key: inner for key, inner in value.items() if key not in skipped and not (key in _CODED and isinstance(inner, str))}
    return any(has_content(inner) for key, inner in stated.items() if kind != "Encounter" or key in _OF_A_VISIT)


def head(resource: Resource) -> Mapping[str, Any] | None:
    """The element that says what a resource is about, if it is written in the resource."""
    return next((resource[key] for key in HEADS if isinstance(resource.get(key), Mapping) and "reference" not in resource[key]), None)


def named(concept: Mapping[str, Any] | None) -> str:
    """The text or first display of a concept, without following references: they may run in circles."""
    if concept is None:
        return ""
    if isinstance(concept.get("concept"), Mapping):
        concept = concept["concept"]
    coding = concept.get("coding")
    first = coding[0] if isinstance(coding, list) and coding and isinstance(coding[0], Mapping) else {}
    return next((name for name in (concept.get("text"), first.get("display"), first.get("code")) if isinstance(name, str)), "")


def names_in(value: Any) -> Iterator[str]:
    """Every name in a head: its text, and what the code systems call it, also without SNOMED's "(disorder)"."""
    if isinstance(value, str):
        yield from (value, re.sub(r" \([^()]*\)$", "", value))
    parts = [value.get(key) for key in ("text", "display", "concept", "coding")] if isinstance(value, Mapping) else value
    for part in parts if isinstance(parts, list) else ():
        yield from names_in(part)


def lines_by_name(lines: Sequence[str], entries: Sequence[tuple[str, Sequence[str]]]) -> tuple[list[tuple[str, str]], bool]:
    """The lines of a narrative, each after the mark of the entries that it names; and whether every marked entry is named.

    ``entries`` are pairs of a mark, "" for an entry that stands, and names. A denied entry does not deny once more a line that denies it,
    and need not be named where the narrative denies anything.
    """
    marks: dict[str, set[str]] = {}
    for mark, names in entries:
        for name in map(_key, names):
            marks.setdefault(name, set()).add(mark)
    found: set[str] = set()
    marked = []
    for line in lines:
        of_line: set[str] = set()
        for name, before in _found(line, marks.keys() - {""}):
            found.add(name)
            of_line |= marks[name] - (_DENIED if DENIES.search(before) else set())
        marked.append((min(of_line, default="") if len(of_line) < 2 else _SEVERAL, line))
    exempt = {"", *(_DENIED if any(map(DENIES.search, lines)) else ())}
    return marked, all(mark in exempt or not found.isdisjoint(map(_key, names)) for mark, names in entries)


def _found(line: str, names: Set[str]) -> Iterator[tuple[str, str]]:
    """The names in a line, each with the words before it. "Aspiration pneumonia" is not "pneumonia" too if both are names."""
    words, at = _WORD.findall(line.lower()), 0
    while at < len(words):
        ends = range(min(len(words), at + _LONGEST_NAME), at, -1)
        end = next((end for end in ends if " ".join(words[at:end]) in names), 0)
        if end:
            yield " ".join(words[at:end]), " ".join(words[max(0, at - _BEFORE) : at])
        at = end or at + 1


def _key(name: str) -> str:
    return " ".join(_WORD.findall(name.lower())[:_LONGEST_NAME])
