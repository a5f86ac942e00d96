"""Reads a FHIR resource or Bundle (STU3 to R5) as one line per resource: the newest visit first, the rest in a clinician's order.

Values are kept as written, with their units. What only computers need (ids, code systems, links), what only an office needs
(addresses, telephones) and what the record itself withdraws is left out and named. A record is of one patient.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from medgemma_app.errors import InputError
from medgemma_app.inputs.demographics import refuse_other_patients
from medgemma_app.inputs.fhir_content import OFFICE, has_content
from medgemma_app.inputs.fhir_elements import PARTS, ResourceWriter
from medgemma_app.inputs.fhir_record import Entry, References, Subjects, holds_resources, is_fhir, references
from medgemma_app.inputs.lines import Line, Reading, codes, inside, status_mark, with_counts
from medgemma_app.inputs.patient_values import SeveralPatients, objects

_ORDER = (
    "Patient", "Encounter", "Condition", "FamilyMemberHistory", "Procedure", "MedicationRequest", "MedicationStatement",
    "MedicationAdministration", "Medication", "Immunization", "AllergyIntolerance", "Observation", "DiagnosticReport",
    "ServiceRequest", "CarePlan", "Composition", "DocumentReference", "Communication",
)  # fmt: skip
_NOTES_OF_A_VISIT = ("Composition", "DocumentReference", "ClinicalImpression", "Communication")
_STANDING = frozenset((
    "Condition", "FamilyMemberHistory", "MedicationRequest", "MedicationStatement", "Medication", "AllergyIntolerance", "MedicationUsage",
))  # fmt: skip
# Elements that say when something happened, the best first.
_DATES = (
    "effectiveDateTime", "effectivePeriod", "effectiveInstant", "actualPeriod", "period", "context", "performedDateTime", "performedPeriod",
    "occurrenceDateTime", "occurrencePeriod", "date", "sent", "issued", "authoredOn", "indexed", "created", "recordedDate", "assertedDate",
    "dateAsserted", "dateWritten",
)  # fmt: skip
_DEEPEST = 5  # levels of other JSON in which resources are looked for
_UNKNOWN = ("", 0)  # the version of a resource that does not state one
_ISO = re.compile(r"\d{4}(-\d\d){0,2}")


def as_bundle(value: Any) -> Any:
    """Resources inside a list or another kind of object, as a Bundle together with everything beside them.

    A value without a resource is returned unchanged.
    """
    if is_fhir(value) or not _holds_fhir(value):
        return value
    return {"resourceType": "Bundle", "entry": list(_unwrapped(value))}


def _holds_fhir(value: Any, depth: int = 0) -> bool:
    return is_fhir(value) or (depth < _DEEPEST and any(_holds_fhir(inner, depth + 1) for inner in inside(value)))


def _unwrapped(value: Any, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """An entry for each resource in a value, and for everything beside them."""
    if is_fhir(value):
        yield {"resource": value}
        return
    for key, inner in value.items() if isinstance(value, Mapping) else [("entry", one) for one in value]:
        if _holds_fhir(inner, depth + 1):
            yield from _unwrapped(inner, depth + 1)
        else:
            yield {key: inner}


def read_fhir(value: Mapping[str, Any], name: str, patient: str | None = None) -> Reading:
    """The lines of a record of one patient.

    Raises InputError for an error message or a Bundle of changes, SeveralPatients if the resources belong to several patients.
    """
    if value["resourceType"] == "OperationOutcome":
        raise InputError(f"{name} is an error message from a server (OperationOutcome), not notes; fetch the record again")
    everything = _without_replaced(list(_entries(value, name)))
    gone = [one for one in everything if one.taken_back]
    record = _newest_versions(everything)
    kept = {id(one) for one in record}
    left_out = Counter(f"{one.kind} ({one.taken_back or 'older version or copy'})" for one in everything if id(one) not in kept)
    subjects = Subjects(record)
    record, without = subjects.chosen(name, patient)
    known = subjects.demographics(record)
    writer = ResourceWriter(record, gone, known)
    lines = []
    # Drugs and files come last: by then, the resources that refer to them have written them out.
    ranked = sorted(enumerate(_ranked(record)), key=lambda one: one[1].kind in PARTS)
    for rank, entry in ranked:
        label = entry.kind if entry.kind != "Entry" else ""
        lines += [Line(line, label, rank) for line in writer.lines_of(entry, subjects.apart(entry))]
    lines.sort(key=lambda line: line.rank)
    if writer.of_others and (patient is None or not known):
        raise SeveralPatients(name, 2, can_choose=patient is None and subjects.can_choose())
    of_patient = (line for line in lines if line.label not in (*OFFICE, "FamilyMemberHistory"))  # those have other people's birth dates
    refuse_other_patients(of_patient, writer.patients, name)
    if value["resourceType"] == "Bundle" and isinstance(value.get("entry"), list):
        writer.left_out |= {f"Bundle.{key}" for key in value if key not in ("resourceType", "entry")}
    left_out.update([*without, *writer.taken_back])
    says_something = writer.has_attachment or any(has_content(entry.resource) for entry in record)
    return Reading(lines, f"FHIR {value['resourceType']}", says_something, [*with_counts(left_out), *sorted(writer.left_out)])


def _entries(
    value: Mapping[str, Any], name: str, entry: Mapping[str, Any] | None = None, container: Entry | None = None
) -> Iterator[Entry]:
    """Every resource: of a bundle, of bundles in it, and those contained in others."""
    held = {"Bundle": "entry", "Parameters": "parameter"}.get(value["resourceType"])
    if held and isinstance(value.get(held), list):
        for inner in value[held]:
            request = inner.get("request") if isinstance(inner, Mapping) else None
            if value.get("type") == "history":
                raise InputError(f"{name} is a history of changes, not a record; ask the server for the resources as they are now")
            if isinstance(request, Mapping) and request.get("method") == "DELETE":
                raise InputError(
                    f"{name} asks a server to delete resources, so it is not a record; fetch the record after the server has done so"
                )
            if isinstance(inner, Mapping) and is_fhir(inner.get("resource")):
                yield from _entries(inner["resource"], name, inner)
            else:  # an entry without a resource is kept as written
                yield from _entries({"resourceType": "Entry", "value": inner}, name)
        return
    address = (entry or {}).get("fullUrl")
    contained = value["contained"] if holds_resources(value) else ()
    mark, taken_back = status_mark(value)
    outer = Entry(
        value,
        address if isinstance(address, str) else container.address if container else None,
        tuple(key for key in entry or () if key != "resource"),
        container.contained if container else contained,
        container is not None,
        mark,
        "server message" if value["resourceType"] == "OperationOutcome" else taken_back,
    )
    yield outer
    for inner in () if outer.taken_back else contained:
        yield from _entries(inner, name, container=outer)


def _without_replaced(record: Sequence[Entry]) -> list[Entry]:
    """The record, with documents, requests and plans marked as withdrawn if another one replaces them."""
    known = References(record)
    naming = {(name, by.base): by for by in record if not by.taken_back for name in _replaced_by(by.resource)}
    gone = {id(one) for (name, _), by in naming.items() for one in known.meant(name, by) if one is not by.resource}
    return [replace(one, taken_back=one.taken_back or "replaced") if id(one.resource) in gone else one for one in record]


def _replaced_by(resource: Mapping[str, Any]) -> Iterator[str]:
    """The references to what a resource replaces, as R4 and R5 write them."""
    yield from references([resource.get(key) for key in ("replaces", "priorPrescription")])
    for one in objects(resource.get("relatesTo")):
        if "replaces" in codes([one.get("code"), one.get("type")]):
            yield from references([one.get(key) for key in ("target", "targetReference", "resourceReference")])


def _newest_versions(record: Sequence[Entry]) -> list[Entry]:
    """The resources that the record does not withdraw, each in its newest version."""
    versions: dict[str, list[Entry]] = {}
    for entry in record:
        number = entry.resource.get("id")
        is_named = isinstance(number, str) and not entry.is_contained
        versions.setdefault(f"{entry.base}{entry.kind}/{number}" if is_named else str(id(entry)), []).append(entry)
    standing = {id(one) for some in versions.values() for one in _newest(some)}
    return [one for one in record if id(one) in standing]


def _newest(versions: Sequence[Entry]) -> list[Entry]:
    """The newest version of one resource; nothing if that version, or one that does not state its version, is withdrawn."""
    last = max(map(_version, versions))
    newest = [one for one in versions if _version(one) == last or (one.taken_back and _version(one) == _UNKNOWN)]
    corrected = [one for one in newest if one.resource.get("status") in ("corrected", "amended")]
    first, *others = corrected or newest
    return [] if any(one.taken_back for one in newest) else [first, *(one for one in others if one.resource != first.resource)]


def _version(entry: Entry) -> tuple[str, int]:
    """When this version was written, in UTC, and its number; "" and 0 if it does not say."""
    meta = entry.resource.get("meta")
    updated, number = (meta.get("lastUpdated"), str(meta.get("versionId"))) if isinstance(meta, Mapping) else ("", "")
    try:
        moment = datetime.fromisoformat(str(updated))
        updated = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    except (ValueError, OverflowError):  # a year or a month is compared as it is written
        pass
    return updated if isinstance(updated, str) else "", int(number) if re.fullmatch("[0-9]{1,9}", number) else 0


def _ranked(record: list[Entry]) -> list[Entry]:
    """The patient, the newest visit and its notes, what is not tied to a visit, then the rest from new to old.

    A record whose visits have no dates is kept in the order in which a clinician reads it.
    """
    newest = max((_day(entry) for entry in record if entry.kind in ("Encounter", *_NOTES_OF_A_VISIT)), default="")
    known = References(record)
    visits = {id(entry.resource) for entry in record if entry.kind == "Encounter" and newest and _day(entry) == newest}

    def key(entry: Entry) -> tuple[int, int, int]:
        day = _day(entry)
        encounters = references([entry.resource.get("encounter"), entry.resource.get("context")])
        is_of_newest = any(id(one) in visits for reference in encounters for one in known.meant(reference, entry))
        if entry.kind == "Patient":
            return (0, 0, 0)
        if newest and (day == newest or is_of_newest):
            return (1, 1 if entry.kind in _NOTES_OF_A_VISIT else 0 if entry.kind == "Encounter" else 2 + _place(entry.kind), 0)
        if not newest or not day or entry.kind in _STANDING:
            return (2, _place(entry.kind), _before(day))
        return (3, _before(day), _place(entry.kind))

    return sorted(record, key=key)


def _place(kind: str) -> int:
    return _ORDER.index(kind) if kind in _ORDER else len(_ORDER) + (kind == "Binary")


def _before(day: str) -> int:
    """A number that is smaller for a later day; 0 without a day."""
    return -int(day.replace("-", "").ljust(8, "0")) if day else 0


def _day(entry: Entry) -> str:
    return next((day for key in _DATES if (day := _iso(entry.resource.get(key)))), "")


def _iso(value: Any) -> str:
    if isinstance(value, Mapping):
        return _iso(value.get("start") or value.get("end") or value.get("period"))
    found = _ISO.match(value) if isinstance(value, str) else None
    return found[0] if found else ""
