"""A FHIR R4 Bundle or resource -> one line a resource, in the order a clinician reads them.

Values stand as written, with their units. What only computers need (ids, code systems, links) and what only an office
needs (addresses, telephones) is left out, and named to the caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medgemma_app.inputs.fhir_references import Told
from medgemma_app.inputs.fhir_words import ContentTeller, Teller, holds_resources, is_fhir

ORDER = (
    "Patient", "Encounter", "Condition", "FamilyMemberHistory", "Procedure", "MedicationRequest", "MedicationStatement",
    "MedicationAdministration", "Medication", "Immunization", "AllergyIntolerance", "Observation", "DiagnosticReport",
    "ServiceRequest", "CarePlan", "Composition", "DocumentReference", "Communication",
)  # fmt: skip


def as_bundle(value: Any) -> Any:
    """A bare list of resources as the Bundle it would be; anything else as it is."""
    if isinstance(value, list) and value and all(map(is_fhir, value)):
        return {"resourceType": "Bundle", "entry": [{"resource": resource} for resource in value]}
    return value


def fhir_content(value: Mapping[str, Any]) -> str:
    """The values alone of what the resources say of an illness: no labels, no codes, no dates, nothing of who and how."""
    teller = ContentTeller(_resources(value))
    return "\n".join(map(teller.line, _ranked(teller.record)))


def fhir_lines(value: Mapping[str, Any]) -> tuple[list[tuple[str, str]], tuple[str, ...]]:
    """The kind and the text of every resource of a Bundle, or of one resource, and the names of the elements that they leave out."""
    teller = Teller(_resources(value))
    if value["resourceType"] == "Bundle" and isinstance(value.get("entry"), list):
        teller.left_out |= {f"Bundle.{key}" for key in value if key not in ("resourceType", "entry")}
    lines = [(teller.kind(one), teller.line(one)) for one in _ranked(teller.record)]
    return [(kind, line) for kind, line in lines if line], tuple(sorted(teller.left_out))


def _resources(value: Mapping[str, Any], entry: Mapping[str, Any] | None = None, container: Told | None = None) -> list[Told]:
    """Every resource: of a bundle, of bundles in it, and those contained in others."""
    entries = value.get("entry")
    if value["resourceType"] == "Bundle" and isinstance(entries, list):
        return [told for inner in entries for told in _resources(*_entry(inner))]
    address = (entry or {}).get("fullUrl")
    contained = value["contained"] if holds_resources(value) else ()
    told = Told(
        value,
        address if isinstance(address, str) else container.address if container else None,
        tuple(key for key in entry or () if key != "resource"),
        container.contained if container else contained,
    )
    return [told, *(below for inner in contained for below in _resources(inner, container=told))]


def _entry(entry: Any) -> tuple[Mapping[str, Any], Mapping[str, Any] | None]:
    """The resource of a bundle's entry, and the entry; what holds none is told as it is."""
    if isinstance(entry, Mapping) and is_fhir(entry.get("resource")):
        return entry["resource"], entry
    return {"resourceType": "Entry", "value": entry}, None


def _ranked(record: list[Told]) -> list[Told]:
    return sorted(record, key=lambda told: _rank(told.resource["resourceType"]))


def _rank(kind: str) -> int:
    """Binaries come last: what an attachment refers to is told with it."""
    return ORDER.index(kind) if kind in ORDER else len(ORDER) + (kind == "Binary")
