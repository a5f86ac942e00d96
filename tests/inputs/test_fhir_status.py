"""What a FHIR record denies, ends, takes back, replaces or deletes."""

import base64
import re
from typing import Any

import pytest
from resources import SAID, asked, bundle, concept, condition, drug, read

from medgemma_app.errors import InputError


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
def test_what_is_denied_or_ended_is_told_so_at_the_start_of_its_line(resource: dict[str, Any], line: str) -> None:
    assert line in read(bundle(condition(SAID), resource)).text.splitlines()


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
def test_what_the_record_takes_back_is_left_out_and_named(resource: dict[str, Any], named: str) -> None:
    notes = read(bundle(condition(SAID), resource))
    assert SAID in notes.text and "Potassium" not in notes.text
    assert named in notes.facts["left_out"]


@pytest.mark.parametrize(
    ("kind", "request_", "message"),
    [
        ("history", {"method": "GET"}, "is a history of changes, not a record; ask the server for the resources as they are now"),
        ("history", None, "is a history of changes, not a record; ask the server for the resources as they are now"),
        ("transaction", {"method": "DELETE", "url": "Condition/1"},
         "asks a server to delete resources, so it is not a record; fetch the record after the server has done so"),
    ],
)  # fmt: skip
def test_a_bundle_of_changes_is_refused_with_what_it_is_and_the_way_on(kind: str, request_: dict[str, str] | None, message: str) -> None:
    record = {**bundle(condition(SAID), condition("Potassium")), "type": kind}
    record["entry"][1] |= {"request": request_} if request_ else {}
    with pytest.raises(InputError, match=message):
        read(record)
    record = {**record, "type": "transaction"}
    record["entry"][1]["request"] = {"method": "PUT", "url": "Condition/1"}
    assert "Potassium" in read(record).text


@pytest.mark.parametrize(
    ("requests", "told"),
    [
        ([{"status": "revoked"}], ["STOPPED: Medication request: Warfarin; form: tablet; status: revoked"]),
        ([{"doNotPerform": True}], ["DO NOT PERFORM: Medication request: Warfarin; form: tablet; do not perform: yes"]),
        ([{"status": "entered-in-error"}], []),
        ([{"status": "entered-in-error"}, {"status": "active"}], ["Medication request: Warfarin; form: tablet; status: active"]),
        ([{"status": "active"}, {"status": "stopped"}],
         ["Medication request: Warfarin; form: tablet; status: active", "STOPPED: Medication request: Warfarin; status: stopped"]),
        ([], ["Medication: Warfarin; form: tablet"]),
    ],
)  # fmt: skip
def test_a_drug_is_told_in_full_where_it_is_first_referred_to_and_else_by_itself(requests: list[dict[str, Any]], told: list[str]) -> None:
    asking = [asked("Medication/1", **request)["resource"] for request in requests]
    warfarin = drug("Warfarin", form=concept("tablet"))["resource"]
    notes = read(bundle(warfarin, condition(SAID), *asking, dict(warfarin)))
    assert [line for line in notes.text.splitlines() if "Warfarin" in line] == told
    assert ("Medication (only withdrawn resources refer to it)" in notes.facts["left_out"]) == (not told)


def test_the_status_of_the_record_of_a_drug_is_not_told_as_that_of_the_request() -> None:
    request = asked("Medication/1", status="active")["resource"]
    notes = read(bundle(condition(SAID), request, drug("Warfarin", status="inactive")["resource"]))
    assert "Medication request: Warfarin; medication record: inactive; status: active" in notes.text.splitlines()


def test_a_contained_drug_a_listed_drug_and_the_text_of_a_document_stand_as_what_refers_to_them() -> None:
    salt = drug("Sodium salt", "salt")["resource"] | {"resourceType": "Substance"}
    warfarin = drug("Warfarin", ingredient=[{"itemReference": {"reference": "#salt"}}])["resource"]
    inside = asked("#1", warfarin, salt, status="stopped")["resource"]
    heparin = drug("Heparin", "2", ingredient=[{"itemReference": {"reference": "Substance/s"}}])["resource"]
    gelatin = drug("Gelatin", "s")["resource"] | {"resourceType": "Substance"}
    listed = {"resourceType": "List", "entry": [{"deleted": True, "item": {"reference": "Medication/2"}}]}
    binary = {"resourceType": "Binary", "id": "b", "contentType": "text/plain", "data": base64.b64encode(b"Sepsis").decode()}
    document = {"resourceType": "DocumentReference", "status": "entered-in-error", "content": [{"attachment": {"url": "Binary/b"}}]}
    notes = read(bundle(gelatin, heparin, condition(SAID), inside, listed, binary, document))
    assert notes.text.splitlines() == [
        f"Condition: {SAID}",
        "STOPPED: Medication request: Warfarin; ingredient: item reference: Sodium salt; status: stopped",
    ]
    left_out = ["Binary", "Medication", "Substance"]
    assert {f"{kind} (only withdrawn resources refer to it)" for kind in left_out} < set(notes.facts["left_out"])


def test_a_reference_names_neither_what_was_taken_back_nor_what_was_refuted() -> None:
    conditions = [
        condition("Embolism", id="1", verificationStatus="refuted"),
        condition("Sepsis", id="2", verificationStatus="entered-in-error"),
    ]
    named = [{"condition": {"reference": f"Condition/{number}", "display": "Embolism or sepsis"}} for number in (1, 2)]
    visit = {"resourceType": "Encounter", "reasonCode": [concept("Cough")], "diagnosis": named}
    text = read(bundle(visit, *conditions)).text
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
def test_of_several_versions_the_newest_is_told(older: dict[str, Any], newer: dict[str, Any]) -> None:
    old, new = condition("Gout", id="1", meta=older), condition("Arthritis", id="1", meta=newer)
    for versions in ((new, old), (old, new)):
        notes = read(bundle(*versions, new))
        assert notes.text == "Condition: Arthritis"
        assert "Condition (older version or copy), 2 times" in notes.facts["left_out"]


def potassium(value: float, status: str = "final", version: str | None = None) -> dict[str, Any]:
    meta = {"meta": {"versionId": version}} if version else {}
    told = {"code": concept("Potassium"), "valueQuantity": {"value": value}, "status": status}
    return {"resource": {"resourceType": "Observation", "id": "k", **told, **meta}}


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ([potassium(8.9, "final", "1"), potassium(8.9, "entered-in-error", "2")], None),
        ([potassium(8.9, "entered-in-error", "1"), potassium(4.2, "final", "2")], 4.2),
        ([potassium(8.8), potassium(8.9, "entered-in-error")], None),
        ([potassium(8.9), potassium(4.2, "corrected")], 4.2),
        ([potassium(8.9, "final", "3"), potassium(4.2, "amended", "2")], 8.9),
    ],
)
def test_of_the_versions_of_a_resource_the_one_that_stands_now_is_told(entries: list[Any], told: float | None) -> None:
    text = read({"resourceType": "Bundle", "entry": [{"resource": condition(SAID)}, *entries]}).text
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
def test_a_document_that_another_replaces_is_left_out_with_its_attachment(newer: dict[str, Any], is_replaced: bool) -> None:
    binary = {"resourceType": "Binary", "id": "b", "contentType": "text/plain", "data": base64.b64encode(b"Sepsis").decode()}
    older = {"resourceType": "DocumentReference", "id": "1", "content": [{"attachment": {"url": "Binary/b"}}]}
    notes = read(bundle(condition(SAID), older, newer, binary))
    assert ("Sepsis" not in notes.text) == ("DocumentReference (replaced)" in notes.facts["left_out"]) == is_replaced
