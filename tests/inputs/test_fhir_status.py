"""What a FHIR record denies, ends, takes back, replaces or deletes."""

import base64
import re
from pathlib import Path
from typing import Any

import pytest
from resources import SAID, A, asked, bundle, concept, condition, drug, write

from medgemma_app.inputs.notes import load_notes, read_notes


def status(code: str) -> dict[str, Any]:
    return {"coding": [{"code": code}]}


@pytest.mark.parametrize(
    ("resource", "line"),
    [
        (condition("Embolism", verificationStatus=status("refuted")), "REFUTED: Condition: Embolism; verification status: refuted"),
        (condition("Embolism", verificationStatus="refuted"), "REFUTED: Condition: Embolism; verification status: refuted"),
        ({"resourceType": "Procedure", "status": "not-done", "code": concept("Biopsy")}, "NOT DONE: Procedure: Biopsy; status: not-done"),
        ({"resourceType": "Procedure", "notDone": True, "code": concept("Biopsy")}, "NOT DONE: Procedure: Biopsy; not done: yes"),
        ({"resourceType": "Immunization", "notGiven": True, "vaccineCode": concept("MMR")}, "NOT DONE: Immunization: MMR; not given: yes"),
        ({"resourceType": "Procedure", "notPerformed": True, "code": concept("Biopsy")}, "NOT DONE: Procedure: Biopsy; not performed: yes"),
        ({"resourceType": "MedicationStatement", "taken": "n", "medicationCodeableConcept": concept("Aspirin")},
         "NOT TAKEN: Medication statement: Aspirin; taken: n"),
        ({"resourceType": "MedicationStatement", "status": "not-taken", "medicationCodeableConcept": concept("Aspirin")},
         "NOT TAKEN: Medication statement: Aspirin; status: not-taken"),
        ({"resourceType": "MedicationStatement", "adherence": {"code": status("not-taking")},
          "medication": {"concept": concept("Aspirin")}},
         "NOT TAKEN: Medication statement: Aspirin; adherence: not-taking"),
        ({"resourceType": "MedicationRequest", "status": "stopped", "medicationCodeableConcept": concept("Aspirin")},
         "STOPPED: Medication request: Aspirin; status: stopped"),
        ({"resourceType": "MedicationRequest", "doNotPerform": True, "medicationCodeableConcept": concept("Aspirin")},
         "DO NOT PERFORM: Medication request: Aspirin; do not perform: yes"),
        ({"resourceType": "CarePlan", "title": "Back pain", "activity": [{"detail": {"code": concept("Aspirin"), "doNotPerform": True}}]},
         "DO NOT PERFORM: Care plan: Aspirin; do not perform: yes"),
        ({"resourceType": "CarePlan", "title": "Pain", "activity": [{"detail": {"text": "Aspirin", "status": "stopped"}}]},
         "STOPPED: Care plan: Aspirin; status: stopped"),
        ({"resourceType": "Goal", "lifecycleStatus": "rejected", "description": concept("Fast")},
         "NOT DONE: Goal: lifecycle status: rejected; description: Fast"),
        ({"resourceType": "Appointment", "status": "noshow", "description": "Biopsy"},
         "NOT DONE: Appointment: status: noshow; description: Biopsy"),
        (condition("Gout", verificationStatus="refuted", note=[{"text": "no crystals\nin the joint"}]),
         "REFUTED: Condition: Gout; verification status: refuted; note: no crystals in the joint"),
    ],
)  # fmt: skip
def test_what_is_denied_or_ended_is_told_so_at_the_start_of_its_line(tmp_path: Path, resource: dict[str, Any], line: str) -> None:
    assert line in load_notes(write(tmp_path, bundle(condition(SAID), resource))).splitlines()


TAKEN_BACK = [
    ({"resourceType": "Observation", "status": "entered-in-error", "code": concept("Potassium")}, "Observation (entered in error)"),
    ({"resourceType": "Observation", "status": "cancelled", "code": concept("Potassium")}, "Observation (cancelled)"),
    (condition("Potassium", verificationStatus=status("entered-in-error")), "Condition (entered in error)"),
    (condition("Potassium", verificationStatus="entered-in-error"), "Condition (entered in error)"),
    (condition("Potassium", verificationStatus={"coding": [{"display": "Entered in Error"}]}), "Condition (entered in error)"),
    ({"resourceType": "DocumentReference", "status": "superseded", "description": "Potassium"}, "DocumentReference (superseded)"),
    ({"resourceType": "OperationOutcome", "issue": [{"diagnostics": "Potassium"}]}, "OperationOutcome (server message)"),
    (condition("Gout", contained=[condition("Potassium", verificationStatus="entered-in-error")]), "Condition (entered in error)"),
    ({"resourceType": "CarePlan", "title": "x", "activity": [{"detail": {"code": concept("Potassium"), "status": "cancelled"}}]},
     "part of CarePlan (cancelled)"),
    ({"resourceType": "CarePlan", "title": "x", "activity": [{"detail": {"text": "Potassium", "status": "cancelled"}}]},
     "part of CarePlan (cancelled)"),
    ({"resourceType": "List", "title": "x", "entry": [{"deleted": True, "item": {"display": "Potassium"}}]}, "part of List (deleted)"),
    ({"resourceType": "DocumentReference", "docStatus": "deprecated", "description": "Potassium"}, "DocumentReference (superseded)"),
]  # fmt: skip


@pytest.mark.parametrize(("resource", "named"), TAKEN_BACK)
def test_what_the_record_takes_back_is_left_out_and_named(tmp_path: Path, resource: dict[str, Any], named: str) -> None:
    notes = read_notes(write(tmp_path, bundle(condition(SAID), resource)))
    assert SAID in notes.text and "Potassium" not in notes.text
    assert named in notes.facts["left_out"]


@pytest.mark.parametrize(("method", "gone"), [("DELETE", True), ("PUT", False)])
def test_a_resource_that_a_bundle_deletes_is_left_out_and_named(tmp_path: Path, method: str, gone: bool) -> None:
    record = bundle(condition(SAID), condition("Potassium"))
    record["entry"][1]["request"] = {"method": method, "url": "Condition/1"}
    notes = read_notes(write(tmp_path, record))
    assert ("Potassium" not in notes.text, "Condition (deleted)" in notes.facts["left_out"]) == (gone, gone)


@pytest.mark.parametrize(
    ("requests", "mark"),
    [
        ([{"status": "revoked"}], "STOPPED: "),
        ([{"doNotPerform": True}], "DO NOT PERFORM: "),
        ([{"status": "entered-in-error"}], None),
        ([{"status": "entered-in-error"}, {"status": "stopped"}], "STOPPED: "),
        ([{"status": "stopped"}, {"status": "active"}], ""),
        ([], ""),
    ],
)
def test_a_drug_stands_as_what_refers_to_it_does(tmp_path: Path, requests: list[dict[str, Any]], mark: str | None) -> None:
    asking = [asked("Medication/1", **request)["resource"] for request in requests]
    notes = read_notes(write(tmp_path, bundle(condition(SAID), drug("Warfarin")["resource"], *asking)))
    told = [line for line in notes.text.splitlines() if line.endswith("Medication: Warfarin")]
    assert told == ([] if mark is None else [f"{mark}Medication: Warfarin"])
    assert ("Medication (only what is taken back refers to it)" in notes.facts["left_out"]) == (mark is None)


def test_a_contained_drug_a_listed_drug_and_the_text_of_a_document_stand_as_what_refers_to_them(tmp_path: Path) -> None:
    inside = asked("#1", drug("Warfarin")["resource"], status="stopped")["resource"]
    listed = {"resourceType": "List", "entry": [{"deleted": True, "item": {"reference": "Medication/2"}}]}
    binary = {"resourceType": "Binary", "id": "b", "contentType": "text/plain", "data": base64.b64encode(b"Sepsis").decode()}
    document = {"resourceType": "DocumentReference", "status": "entered-in-error", "content": [{"attachment": {"url": "Binary/b"}}]}
    text = load_notes(write(tmp_path, bundle(condition(SAID), inside, listed, drug("Heparin", "2")["resource"], binary, document)))
    assert "STOPPED: Medication: Warfarin" in text.splitlines()
    assert "Heparin" not in text and "Sepsis" not in text


def test_a_reference_names_neither_what_was_taken_back_nor_what_was_refuted(tmp_path: Path) -> None:
    conditions = [
        condition("Embolism", id="1", verificationStatus="refuted"),
        condition("Sepsis", id="2", verificationStatus="entered-in-error"),
    ]
    named = [{"condition": {"reference": f"Condition/{number}", "display": "Embolism or sepsis"}} for number in (1, 2)]
    visit = {"resourceType": "Encounter", "reasonCode": [concept("Cough")], "diagnosis": named}
    text = load_notes(write(tmp_path, bundle(visit, *conditions)))
    assert text.splitlines() == [
        "Encounter: reason code: Cough; diagnosis: condition: condition (refuted)",
        "REFUTED: Condition: Embolism; verification status: refuted",
    ]


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ({"lastUpdated": "2024-01-01"}, {"lastUpdated": "2024-02-01"}),
        ({"lastUpdated": "2024-01-01T23:00:00+05:00"}, {"lastUpdated": "2024-01-01T20:00:00Z"}),
        ({"versionId": "9"}, {"versionId": "10"}),
    ],
)
def test_of_several_versions_the_newest_is_told(tmp_path: Path, older: dict[str, Any], newer: dict[str, Any]) -> None:
    old, new = condition("Gout", id="1", meta=older), condition("Arthritis", id="1", meta=newer)
    for versions in ((new, old), (old, new)):
        notes = read_notes(write(tmp_path, bundle(*versions)))
        assert notes.text == "Condition: Arthritis"
        assert "Condition (older version)" in notes.facts["left_out"]


def potassium(value: float, status: str = "final", version: str | None = None, **more: Any) -> dict[str, Any]:
    meta = {"meta": {"versionId": version}} if version else {}
    told = {"code": concept("Potassium"), "valueQuantity": {"value": value}, "status": status}
    return {"resource": {"resourceType": "Observation", "id": "k", **told, **meta}, **more}


DELETED: dict[str, Any] = {"request": {"method": "DELETE", "url": "Observation/k"}}


AT = {"fullUrl": f"{A}Observation/k"}


@pytest.mark.parametrize(
    ("entries", "kind", "told"),
    [
        ([potassium(8.9, "final", "1"), potassium(8.9, "entered-in-error", "2")], "history", None),
        ([potassium(8.9, "entered-in-error"), potassium(8.8)], "history", None),
        ([potassium(8.8), potassium(8.9, "entered-in-error")], "history", 8.8),
        ([potassium(8.8), potassium(8.9, "entered-in-error")], "collection", None),
        ([potassium(4.2), potassium(8.9)], "history", 4.2),
        ([potassium(8.9), potassium(4.2, "corrected")], "collection", 4.2),
        ([potassium(8.9, "final", "3"), potassium(4.2, "amended", "2")], "collection", 8.9),
        ([DELETED, potassium(8.9, "final", "1")], "history", None),
        ([potassium(4.2), DELETED, potassium(8.9)], "history", 4.2),
        ([potassium(8.9, **AT), DELETED], "collection", None),
        ([{**DELETED, "response": {"etag": 'W/"3"'}}, potassium(4.2, "final", "4"), potassium(8.9, "final", "2")], "history", 4.2),
        ([{"request": {**DELETED["request"], "method": "GET"}}, potassium(8.9)], "history", 8.9),
    ],
)  # fmt: skip
def test_the_history_of_a_resource_tells_what_stands_now(tmp_path: Path, entries: list[Any], kind: str, told: float | None) -> None:
    record = {"resourceType": "Bundle", "type": kind, "entry": [{"resource": condition(SAID)}, *entries]}
    text = load_notes(write(tmp_path, record))
    assert re.findall(r"(?m)^Observation: Potassium: ([\d.]+)", text) == ([str(told)] if told else [])


@pytest.mark.parametrize(
    ("newer", "is_replaced"),
    [
        ({"resourceType": "DocumentReference", "relatesTo": [{"code": "replaces", "target": {"reference": "DocumentReference/1"}}]}, True),
        ({"resourceType": "DocumentReference", "relatesTo": [{"code": status("replaces"), "target": {"reference": "DocumentReference/1"}}]},
         True),
        ({"resourceType": "Composition", "relatesTo": [{"type": "replaces", "resourceReference": {"reference": "DocumentReference/1"}}]},
         True),
        ({"resourceType": "ServiceRequest", "replaces": [{"reference": "DocumentReference/1"}]}, True),
        ({"resourceType": "DocumentReference", "relatesTo": [{"code": "appends", "target": {"reference": "DocumentReference/1"}}]}, False),
        ({"resourceType": "DocumentReference", "status": "entered-in-error",
          "relatesTo": [{"code": "replaces", "target": {"reference": "DocumentReference/1"}}]}, False),
    ],
)  # fmt: skip
def test_a_document_that_another_replaces_is_left_out_with_its_attachment(tmp_path: Path, newer: dict[str, Any], is_replaced: bool) -> None:
    binary = {"resourceType": "Binary", "id": "b", "contentType": "text/plain", "data": base64.b64encode(b"Sepsis").decode()}
    older = {"resourceType": "DocumentReference", "id": "1", "content": [{"attachment": {"url": "Binary/b"}}]}
    notes = read_notes(write(tmp_path, bundle(condition(SAID), older, newer, binary)))
    assert ("Sepsis" not in notes.text) == ("DocumentReference (replaced)" in notes.facts["left_out"]) == is_replaced
