"""A FHIR resource or Bundle (STU3 to R5) -> one line a resource: the newest visit first, the rest in the order a clinician reads it.

Values stand as written, with their units. What only computers need (ids, code systems, links) and what only an office
needs (addresses, telephones) is left out and named, and so is what the record itself takes back. A record is of one patient.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medgemma_app.errors import InputError
from medgemma_app.inputs.fhir_elements import Teller
from medgemma_app.inputs.fhir_record import Entry, References, Subjects, entries, references, status_mark
from medgemma_app.inputs.lines import Line, Reading

_ORDER = (
    "Patient", "Encounter", "Condition", "FamilyMemberHistory", "Procedure", "MedicationRequest", "MedicationStatement",
    "MedicationAdministration", "Medication", "Immunization", "AllergyIntolerance", "Observation", "DiagnosticReport",
    "ServiceRequest", "CarePlan", "Composition", "DocumentReference", "Communication",
)  # fmt: skip
_OF_A_VISIT = ("Encounter", "Composition", "DocumentReference", "ClinicalImpression", "Communication")
_NOTES_OF_A_VISIT = ("Composition", "DocumentReference", "ClinicalImpression", "Communication")
_STANDING = frozenset((
    "Condition", "FamilyMemberHistory", "MedicationRequest", "MedicationStatement", "Medication", "AllergyIntolerance", "MedicationUsage",
))  # fmt: skip
# Elements that say when something was, the best first.
_DATES = (
    "effectiveDateTime", "effectivePeriod", "effectiveInstant", "actualPeriod", "period", "context", "performedDateTime", "performedPeriod",
    "occurrenceDateTime", "occurrencePeriod", "date", "sent", "issued", "authoredOn", "indexed", "created", "recordedDate", "assertedDate",
    "dateAsserted", "dateWritten",
)  # fmt: skip
_ISO = re.compile(r"\d{4}(-\d\d){0,2}")


def read_fhir(value: Mapping[str, Any], name: str, patient: str | None = None) -> Reading:
    """Raises InputError for a server's error message, SeveralPatients where the resources are not all of one patient."""
    if value["resourceType"] == "OperationOutcome":
        raise InputError(f"{name} is an error message of a server (OperationOutcome), not notes; fetch the record again")
    everything = list(entries(value))
    record, left_out = _standing_as_fact(everything)
    subjects = Subjects(record)
    record, without = subjects.chosen(name, patient)
    teller = Teller(record, status_mark)
    lines = []
    for rank, entry in enumerate(_ranked(record)):
        label = entry.kind if entry.kind != "Entry" else ""
        lines += [Line(line, label, rank) for line in teller.tell(entry, subjects.apart(entry))]
    if value["resourceType"] == "Bundle" and isinstance(value.get("entry"), list):
        teller.left_out |= {f"Bundle.{key}" for key in value if key not in ("resourceType", "entry")}
    named = Counter([*left_out, *without, *teller.taken_back])
    told = [what if times == 1 else f"{what}, {times} times" for what, times in sorted(named.items())]
    return Reading(lines, f"FHIR {value['resourceType']}", teller.clinical_words > 0, [*told, *sorted(teller.left_out)])


def _standing_as_fact(record: Sequence[Entry]) -> tuple[list[Entry], list[str]]:
    """The resources that the record does not take back, each in its newest version; and what was left out."""
    kept: list[Entry] = []
    left_out = []
    newest: dict[str, str] = {}
    for entry in record:
        newest[_identity(entry)] = max(newest.get(_identity(entry), ""), _updated(entry))
    for entry in record:
        taken_back = "message of a server" if entry.kind == "OperationOutcome" else status_mark(entry.resource)[1]
        if _updated(entry) < newest[_identity(entry)]:
            taken_back = "older version"
        if taken_back:
            left_out.append(f"{entry.kind} ({taken_back})")
        else:
            kept.append(entry)
    return kept, left_out


def _identity(entry: Entry) -> str:
    named = entry.resource.get("id") if isinstance(entry.resource.get("id"), str) and entry.resource not in entry.contained else None
    return f"{entry.base}{entry.kind}/{named}" if named else str(id(entry.resource))


def _updated(entry: Entry) -> str:
    """When this version was written; "" for what does not say."""
    meta = entry.resource.get("meta")
    updated = meta.get("lastUpdated") if isinstance(meta, Mapping) else None
    return updated if isinstance(updated, str) else ""


def _ranked(record: list[Entry]) -> list[Entry]:
    """The patient, the newest visit and its notes, what holds at all times, then the rest from new to old.

    A record whose visits have no dates is told in the order a clinician reads it.
    """
    newest = max((_day(entry) for entry in record if entry.kind in _OF_A_VISIT), default="")
    references = References(record)
    visits = {id(entry.resource) for entry in record if entry.kind == "Encounter" and newest and _day(entry) == newest}

    def key(entry: Entry) -> tuple[int, int, int, int]:
        day = _day(entry)
        meant = [one for reference in _encounters(entry.resource) for one in references.meant(reference, entry)]
        of_newest = bool(newest) and (day == newest or any(id(one) in visits for one in meant))
        if entry.kind == "Patient":
            return (0, 0, 0, 0)
        if of_newest:
            order = 1 if entry.kind in _NOTES_OF_A_VISIT else 0 if entry.kind == "Encounter" else 2 + _place(entry.kind)
            return (1, order, 0, 0)
        if not newest or not day or entry.kind in _STANDING:
            return (2, _place(entry.kind), _before(day), 0)
        return (3, _before(day), _place(entry.kind), 0)

    return sorted(record, key=key)


def _place(kind: str) -> int:
    """Binaries come last: what an attachment refers to is told with it."""
    return _ORDER.index(kind) if kind in _ORDER else len(_ORDER) + (kind == "Binary")


def _before(day: str) -> int:
    """A number that is smaller for a later day; 0 for none."""
    return -int(day.replace("-", "").ljust(8, "0")) if day else 0


def _day(entry: Entry) -> str:
    return next((day for key in _DATES if (day := _iso(entry.resource.get(key)))), "")


def _iso(value: Any) -> str:
    if isinstance(value, Mapping):
        return _iso(value.get("start") or value.get("end") or value.get("period"))
    found = _ISO.match(value) if isinstance(value, str) else None
    return found[0] if found else ""


def _encounters(resource: Mapping[str, Any]) -> Iterator[str]:
    """The references to a visit."""
    for key in ("encounter", "context"):
        yield from references(resource.get(key))
