"""A FHIR R4 Bundle or resource -> one line a resource, in the order a clinician reads them.

Values stand as written, with their units. What only computers need (ids, code systems, links) and what only an office
needs (addresses, telephones) is left out, and named to the caller.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

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
    teller = ContentTeller(list(_resources(value)))
    return "\n".join(teller.line(resource) for resource in teller.resources)


def fhir_text(value: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """The text of a Bundle or a resource, and the names of the elements that the text leaves out."""
    teller = Teller(list(_resources(value)))
    if value["resourceType"] == "Bundle" and isinstance(value.get("entry"), list):
        teller.left_out |= {f"Bundle.{key}" for key in value if key not in ("resourceType", "entry")}
    ranked = sorted(teller.resources, key=lambda resource: _rank(resource["resourceType"]))
    return "\n".join(teller.line(resource) for resource in ranked), tuple(sorted(teller.left_out))


def _resources(value: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every resource: of a bundle, of bundles in it, and those contained in others."""
    entries = value.get("entry")
    if value["resourceType"] == "Bundle" and isinstance(entries, list):
        inner = [_resource_in(entry) for entry in entries]
    else:
        yield value
        inner = value["contained"] if holds_resources(value) else []
    for resource in inner:
        yield from _resources(resource)


def _resource_in(entry: Any) -> Mapping[str, Any]:
    """The resource of a bundle's entry; what holds none is told as it is."""
    if isinstance(entry, Mapping) and is_fhir(entry.get("resource")):
        return {**entry["resource"], "fullUrl": entry.get("fullUrl")}
    return {"resourceType": "Entry", "value": entry}


def _rank(kind: str) -> int:
    return ORDER.index(kind) if kind in ORDER else len(ORDER)
