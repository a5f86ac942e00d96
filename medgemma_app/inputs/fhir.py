"""A FHIR resource or Bundle (STU3 to R5) -> one line a resource: the newest visit first, the rest in the order a clinician reads it.

Values are kept as written, with their units. What only computers need (ids, code systems, links), what only an office needs
(addresses, telephones) and what the record itself takes back is left out and named. A record is of one patient.
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
from medgemma_app.inputs.fhir_elements import OFFICE, Teller
from medgemma_app.inputs.fhir_record import ADDRESS, Entry, References, holds_resources, is_fhir, links, references
from medgemma_app.inputs.fhir_subjects import Subjects
from medgemma_app.inputs.lines import Line, Reading, codes, inside, status_mark, with_counts
from medgemma_app.inputs.patient_values import SeveralPatients

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
_PARTS = frozenset(("Medication", "MedicationKnowledge", "Substance", "Binary", "NutritionProduct"))
_DEEPEST_PART = 3  # a request of a drug, of which a substance is a part
_UNKNOWN = ("", 0)  # the version of what says nothing of it
_ISO = re.compile(r"\d{4}(-\d\d){0,2}")


def as_bundle(value: Any) -> Any:
    """Resources that stand in a list or in an object of some other kind, as a Bundle of them; anything else is returned unchanged."""
    if is_fhir(value):
        return value
    found, others = list(_found(value)), {}
    if isinstance(value, Mapping):
        others = {key: inner for key, inner in value.items() if not any(True for _ in _found(inner))}
    elif isinstance(value, list) and not all(any(True for _ in _found(inner)) for inner in value):
        others = {"entries": [inner for inner in value if not any(True for _ in _found(inner))]}
    if not found:
        return value
    return {"resourceType": "Bundle", "entry": [*({"resource": one} for one in found), *([others] if others else [])]}


def _found(value: Any, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    if is_fhir(value):
        yield value
    elif depth < 5:
        for inner in inside(value):
            yield from _found(inner, depth + 1)


def read_fhir(value: Mapping[str, Any], name: str, patient: str | None = None) -> Reading:
    """Raises InputError for a server's error message, SeveralPatients where the resources are not all of one patient."""
    if value["resourceType"] == "OperationOutcome":
        raise InputError(f"{name} is an error message from a server (OperationOutcome), not notes; fetch the record again")
    everything = list(_entries(value))
    record, left_out, taken_back = _standing_as_fact(_as_referred_to(_without_replaced(everything)))
    subjects = Subjects(record)
    record, without = subjects.chosen(name, patient)
    known = subjects.demographics(record)
    teller = Teller(record, taken_back, known)
    lines = []
    for rank, entry in enumerate(_ranked(record)):
        label = entry.kind if entry.kind != "Entry" else ""
        lines += [Line(line, label, rank) for line in teller.tell(entry, subjects.apart(entry))]
    if teller.of_others and (patient is None or not known):
        raise SeveralPatients(name, 2, can_choose=patient is None and subjects.can_choose())
    of_patient = (line for line in lines if line.label not in (*OFFICE, "FamilyMemberHistory"))  # others have birth dates, too
    refuse_other_patients(of_patient, teller.patients, name)
    if value["resourceType"] == "Bundle" and isinstance(value.get("entry"), list):
        teller.left_out |= {f"Bundle.{key}" for key in value if key not in ("resourceType", "entry")}
    named = Counter([*left_out, *without, *teller.taken_back])
    return Reading(lines, f"FHIR {value['resourceType']}", teller.clinical_words > 0, [*with_counts(named), *sorted(teller.left_out)])


def _entries(value: Mapping[str, Any], entry: Mapping[str, Any] | None = None, container: Entry | None = None) -> Iterator[Entry]:
    """Every resource: of a bundle, of bundles in it, and those contained in others."""
    held = {"Bundle": "entry", "Parameters": "parameter"}.get(value["resourceType"])
    if held and isinstance(value.get(held), list):
        for place, inner in enumerate(value[held]):
            resource = (inner.get("resource") or _deleted(inner)) if isinstance(inner, Mapping) else None
            if resource is not None and is_fhir(resource):
                from_end = len(value[held]) - place if value.get("type") == "history" else 0
                yield from (replace(one, place=from_end) for one in _entries(resource, inner))
            else:  # an entry without a resource is told as written
                yield from _entries({"resourceType": "Entry", "value": inner})
        return
    address = (entry or {}).get("fullUrl")
    contained = value["contained"] if holds_resources(value) else ()
    mark, taken_back = status_mark(value)
    if value["resourceType"] == "OperationOutcome":
        taken_back = "server message"
    if container is None and isinstance(request := (entry or {}).get("request"), Mapping) and request.get("method") == "DELETE":
        taken_back = "deleted"
    told = Entry(
        value,
        address if isinstance(address, str) else container.address if container else None,
        tuple(key for key in entry or () if key != "resource"),
        container.contained if container else contained,
        container is not None,
        mark,
        taken_back,
    )
    yield told
    for inner in () if taken_back else contained:
        yield from _entries(inner, container=told)


def _deleted(entry: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """A stand-in for the resource that an entry without one deletes, with the version of the deletion."""
    request, response = (one if isinstance(one := entry.get(key), Mapping) else {} for key in ("request", "response"))
    found = ADDRESS.fullmatch(str(request.get("url"))) if request.get("method") == "DELETE" else None
    if not found:
        return None
    version = re.sub(r"\D", "", str(response.get("etag"))) or found["version"]
    kind, _, number = found["name"].partition("/")
    return {"resourceType": kind, "id": number, "meta": {"lastUpdated": response.get("lastModified"), "versionId": version}}


def _without_replaced(record: Sequence[Entry]) -> list[Entry]:
    """A record in which the documents, requests and plans that others replace are taken back."""
    known = References(record)
    naming = {(name, by.base): by for by in record if not by.taken_back for name in _replaced_by(by.resource)}
    gone = {id(one) for (name, _), by in naming.items() for one in known.meant(name, by) if one is not by.resource}
    return [replace(one, taken_back=one.taken_back or "replaced") if id(one.resource) in gone else one for one in record]


def _replaced_by(resource: Mapping[str, Any]) -> Iterator[str]:
    """The references to what a resource replaces, as R4 and R5 write them."""
    yield from references([resource.get(key) for key in ("replaces", "priorPrescription")])
    related = resource.get("relatesTo")
    for one in related if isinstance(related, list) else ():
        if isinstance(one, Mapping) and "replaces" in codes([one.get("code"), one.get("type")]):
            yield from references([one.get(key) for key in ("target", "targetReference", "resourceReference")])


def _as_referred_to(record: Sequence[Entry]) -> list[Entry]:
    """A record in which drugs and attachments, which state nothing by themselves, stand as what refers to them does.

    Where everything that refers to one is taken back, so is this; where all of it begins with a mark, this one does too.
    """
    found = {id(entry.resource): entry for entry in record}
    parts = [entry for entry in record if entry.kind in _PARTS and not entry.taken_back]
    known = References(record)
    asking: dict[tuple[str, str, int], list[tuple[int, str, str]]] = {}  # a reference -> who makes it, and the status of what does
    meant: dict[int, list[tuple[str, str, int]]] = {}  # a resource -> the references that may mean it
    for entry in record if parts else ():
        for reference, mark, taken_back in links(entry.resource):
            key = reference, entry.base, id(entry.contained) if reference.startswith("#") else 0
            if key not in asking:
                for one in known.meant(reference, entry):
                    meant.setdefault(id(one), []).append(key)
            asking.setdefault(key, []).append((id(entry.resource), mark, taken_back))
    for _ in range(_DEEPEST_PART):
        stands = {
            key: {found[one].mark or mark for one, mark, gone in some if not (gone or found[one].taken_back)}
            for key, some in asking.items()
        }  # fmt: skip
        for part in parts:
            keys = meant.get(id(part.resource), [])
            marks = set[str]().union(*(stands[key] for key in keys))
            if keys and not marks:
                found[id(part.resource)] = replace(part, taken_back="only what is taken back refers to it")
            elif keys and "" not in marks:
                found[id(part.resource)] = replace(part, mark=min(marks))
    return [found[id(entry.resource)] for entry in record]


def _standing_as_fact(record: Sequence[Entry]) -> tuple[list[Entry], list[str], list[Entry]]:
    """The resources that the record does not take back, each in its newest version; what was left out, in words; and those taken back."""
    versions: dict[str, list[Entry]] = {}
    places = {f"{entry.kind}/{entry.resource.get('id')}": _identity(entry) for entry in record if entry.base}
    for entry in record:
        identity = _identity(entry)
        # A deletion may name its resource without the address of the server.
        versions.setdefault(identity if entry.base or not entry.taken_back else places.get(identity, identity), []).append(entry)
    standing = {id(one) for some in versions.values() for one in _newest(some)}
    kept, gone = [one for one in record if id(one) in standing], [one for one in record if one.taken_back]
    left_out = [f"{one.kind} ({one.taken_back or 'older version'})" for one in record if id(one) not in standing]
    return kept, left_out, gone


def _newest(versions: Sequence[Entry]) -> list[Entry]:
    """Of the versions of one resource the newest, and none where that is taken back.

    Versions that do not say when they were written stand as in a history, newest first; elsewhere one that is taken back takes all back.
    """
    is_known = all(_version(one) != _UNKNOWN for one in versions)
    ages = {id(one): (0 if is_known else one.place, *_version(one)) for one in versions}
    unordered = [one for one in versions if one.taken_back and not one.place and _version(one) == _UNKNOWN]
    last = max(ages.values())
    newest = [one for one in versions if ages[id(one)] == last]
    corrected = [one for one in newest if one.resource.get("status") in ("corrected", "amended")]
    return [] if unordered or any(one.taken_back for one in newest) else corrected or newest


def _identity(entry: Entry) -> str:
    named = entry.resource.get("id")
    return f"{entry.base}{entry.kind}/{named}" if isinstance(named, str) and not entry.is_contained else str(id(entry.resource))


def _version(entry: Entry) -> tuple[str, int]:
    """When this version was written, in UTC, and its number; "" and 0 for what does not say."""
    meta = entry.resource.get("meta")
    updated, number = (meta.get("lastUpdated"), str(meta.get("versionId"))) if isinstance(meta, Mapping) else ("", "")
    try:
        moment = datetime.fromisoformat(str(updated))
        updated = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    except (ValueError, OverflowError):  # a year or a month is compared as it is written
        pass
    return updated if isinstance(updated, str) else "", int(number) if re.fullmatch("[0-9]{1,9}", number) else 0


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
