"""FHIR of any version becomes lines of one patient, without what the record takes back."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

from medgemma_app.errors import InputError
from medgemma_app.inputs.notes import count_parts, load_notes, read_notes

SAID = "cough for three days, no fever"


def write(folder: Path, content: Any) -> Path:
    path = folder / "notes.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content, ensure_ascii=False).encode())
    return path


def concept(text: str) -> dict[str, Any]:
    return {"text": text}


BUNDLE: dict[str, Any] = {
    "resourceType": "Bundle",
    "type": "collection",
    "entry": [
        {"resource": {"resourceType": "AllergyIntolerance", "code": concept("Penicillin"),
            "reaction": [{"manifestation": [concept("rash")]}]}},
        {"resource": {"resourceType": "Observation", "id": "t", "code": {"coding": [{"system": "http://loinc.org", "code": "8310-5",
            "display": "Body temperature"}]}, "valueQuantity": {"value": 37.5, "unit": "Cel"}, "effectiveDateTime": "2024-05-06"}},
        {"resource": {"resourceType": "Observation", "code": concept("Blood pressure"), "component": [
            {"code": concept("Systolic"), "valueQuantity": {"value": 150, "unit": "mmHg"}},
            {"code": concept("Diastolic"), "valueQuantity": {"value": 95, "comparator": "<", "unit": "mmHg"}}]}},
        {"resource": {"resourceType": "MedicationRequest", "status": "active", "medicationReference": {"reference": "Medication/m"},
            "dosageInstruction": [{"text": "1 tablet twice daily"}]}},
        {"resource": {"resourceType": "Medication", "id": "m", "code": concept("Metformin 500 mg")}},
        {"resource": {"resourceType": "MedicationStatement", "medicationCodeableConcept": concept("Ibuprofen"), "status": "active"}},
        {"resource": {"resourceType": "Procedure", "code": concept("Appendectomy"),
            "performedPeriod": {"start": "1999", "end": "1999-02"}}},
        {"resource": {"resourceType": "Condition", "clinicalStatus": {"coding": [{"code": "active"}]}, "onsetDateTime": "2010",
            "code": {"text": "High blood pressure", "coding": [{"code": "I10", "display": "Essential hypertension"}]}}},
        {"resource": {"resourceType": "Encounter", "class": {"code": "AMB", "display": "ambulatory"}, "reasonCode": [concept("Cough")]}},
        {"resource": {"resourceType": "DiagnosticReport", "code": concept("Vital signs"), "result": [{"reference": "Observation/t"}]}},
        {"resource": {"resourceType": "DocumentReference", "content": [
            {"attachment": {"contentType": "text/plain", "data": "UGF0aWVudCBjb3VnaHM="}},
            {"attachment": {"contentType": "application/pdf", "data": "JVBERi0="}}]}},
        {"resource": {"resourceType": "Patient", "id": "p", "gender": "female", "birthDate": "1970-02-03", "telecom": [{"value": "555"}]}},
        {"note": "an entry without a resource"},
    ],
}  # fmt: skip


def test_a_fhir_bundle_is_told_in_clinical_order_with_values_and_units(tmp_path: Path) -> None:
    notes = read_notes(write(tmp_path, BUNDLE))
    assert notes.text.splitlines() == [
        "Patient: gender: female; birth date: 1970-02-03",
        "Encounter: ambulatory; reason code: Cough",
        "Condition: High blood pressure (Essential hypertension); clinical status: active; onset: 2010",
        "Procedure: Appendectomy; performed: 1999 to 1999-02",
        "Medication request: Metformin 500 mg; status: active; dosage instruction: 1 tablet twice daily",
        "Medication statement: Ibuprofen; status: active",
        "Medication: Metformin 500 mg",
        "Allergy intolerance: Penicillin; reaction: manifestation: rash",
        "Observation: Body temperature: 37.5 Cel; effective: 2024-05-06",
        "Observation: Blood pressure; component: Systolic: 150 mmHg; Diastolic: <95 mmHg",
        "Diagnostic report: Vital signs; result: Body temperature",
        "Document reference: content: attachment: Patient coughs; attachment: application/pdf attachment, not read",
        "Entry: value: note: an entry without a resource",
    ]
    assert notes.facts["format"] == "FHIR Bundle"


def test_what_a_fhir_text_leaves_out_is_named(tmp_path: Path) -> None:
    left_out = read_notes(write(tmp_path, BUNDLE)).facts["left_out"]
    assert left_out == ["Bundle.type", "application/pdf attachment", "code", "id", "system", "telecom"]


def test_a_bare_list_of_resources_is_read_as_a_bundle(tmp_path: Path) -> None:
    resources = [entry["resource"] for entry in BUNDLE["entry"] if "resource" in entry]
    assert load_notes(write(tmp_path, resources)) == load_notes(write(tmp_path, {**BUNDLE, "entry": BUNDLE["entry"][:-1]}))


HANDLED: dict[str, Any] = {
    "resourceType": "Encounter", "status": "finished", "class": {"code": "AMB", "display": "ambulatory"}, "type": [concept("Check-up")],
    "period": {"start": "2024-05-06T10:00:00+01:00", "end": "2024-05-07"}, "serviceProvider": {"display": "Hospital of the Holy Spirit"},
    "participant": [{"individual": {"display": "Dr Gregory House"}}],
}  # fmt: skip


@pytest.mark.parametrize(
    "resource",
    [
        {"resourceType": "Patient", "gender": "female", "birthDate": "1970-02-03", "name": [{"family": "Doe", "given": ["Jane"]}]},
        HANDLED,
        {"resourceType": "Condition", "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": "I10"}]},
         "clinicalStatus": {"coding": [{"code": "active"}]}, "onsetDateTime": "2010", "recordedDate": "2011-03"},
        {"resourceType": "DiagnosticReport", "status": "final", "result": [{"reference": f"Observation/{n}"} for n in range(5)]},
        {"resourceType": "DocumentReference", "content": [{"attachment": {"contentType": "application/pdf", "data": "JVBERi0="}}]},
    ],
    ids=lambda resource: resource["resourceType"],
)  # fmt: skip
def test_a_fhir_record_of_who_and_when_alone_is_not_a_note(tmp_path: Path, resource: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="nothing clinical"):
        load_notes(write(tmp_path, resource))
    bundle = {
        "resourceType": "Bundle",
        "entry": [{"resource": resource}, {"resource": {"resourceType": "Condition", "code": concept(SAID)}}],
    }
    assert SAID in load_notes(write(tmp_path, bundle))


@pytest.mark.parametrize(
    ("narrative", "told", "left_out"),
    [
        ("<div><b>Oral body temperature in bed</b>: 37.20 Cel</div>", "", []),
        ("<div>shivering <s>and 39.9 Cel</s></div>", "; text: shivering", ["text that is struck through"]),
        (
            "<div><p>Oral body temperature in bed: 37.20 Cel</p><p>shivering &amp; pale</p></div>",
            "; text: Oral body temperature in bed: 37.20 Cel shivering & pale",
            [],
        ),
    ],
)
def test_a_generated_narrative_is_left_out_only_where_it_says_nothing_more(
    tmp_path: Path, narrative: str, told: str, left_out: list[str]
) -> None:
    resource = (
        b'{"resourceType": "Observation", "code": {"text": "Oral body temperature in bed"}, '
        b'"valueQuantity": {"value": 37.20, "unit": "Cel"},'
        b' "text": '
    )
    path = write(tmp_path, resource + json.dumps({"status": "generated", "div": narrative}).encode() + b"}")
    notes = read_notes(path)
    assert notes.text == f"Observation: Oral body temperature in bed: 37.20 Cel{told}"
    assert notes.facts["left_out"] == left_out


def test_fhir_references_in_a_circle_end(tmp_path: Path) -> None:
    circle = [{"resourceType": "MedicationRequest", "id": str(i), "note": [{"text": SAID}],
               "medicationReference": {"reference": f"MedicationRequest/{1 - i}"}} for i in range(2)]  # fmt: skip
    text = load_notes(write(tmp_path, {"resourceType": "Bundle", "entry": [{"resource": one} for one in circle]}))
    assert text.count(SAID) == 2


def asked(reference: str, *contained: dict[str, Any], url: str | None = None, **more: Any) -> dict[str, Any]:
    """An entry that asks for a drug by reference."""
    request = {"resourceType": "MedicationRequest", "medicationReference": {"reference": reference}, "contained": list(contained), **more}
    return {"resource": request} | ({"fullUrl": url} if url else {})


def drug(name: str, number: str = "1", url: str | None = None, **more: Any) -> dict[str, Any]:
    resource = {"resourceType": "Medication", "id": number, "code": concept(name), **more}
    return {"resource": resource} | ({"fullUrl": url} if url else {})


A, B = "https://a.org/fhir/", "https://b.org/fhir/"


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        pytest.param([asked("#med", drug("Warfarin", "med")["resource"]), asked("#med", drug("Methotrexate", "med")["resource"])],
                     ["Warfarin", "Methotrexate"], id="an id after # holds in its own resource"),
        pytest.param([asked("#1"), drug("Warfarin")], ["#1"], id="and means nothing outside it"),
        pytest.param([drug("Warfarin", url=f"{A}Medication/1"), drug("Heparin", url=f"{B}Medication/1"),
                      asked("Medication/1", url=f"{A}MedicationRequest/5"), asked("Medication/1", url=f"{B}MedicationRequest/5")],
                     ["Warfarin", "Heparin"], id="a relative reference is to the same server"),
        pytest.param([drug("Warfarin", url=f"{A}Medication/1"), drug("Heparin", url=f"{B}Medication/1"), asked("Medication/1")],
                     ["Medication/1"], id="two that may be meant are none"),
        pytest.param([drug("Warfarin", "9"), asked("Medication/9/_history/1")], ["Warfarin"], id="a version"),
        pytest.param([drug("Warfarin", "9", meta={"versionId": "1"}), drug("Heparin", "9", meta={"versionId": "2"}),
                      asked("Medication/9/_history/2")], ["Heparin"], id="one of several versions"),
        pytest.param([drug("Warfarin", "9", f"{A}Medication/9"), asked(f"{A}Medication/9")], ["Warfarin"], id="an address"),
        pytest.param([drug("Warfarin", "9"), asked(f"{A}Medication/9")], ["Warfarin"], id="an address of what says none"),
        pytest.param([drug("Warfarin", "9", f"{A}Medication/9"), asked(f"{B}Medication/9")], [f"{B}Medication/9"], id="elsewhere"),
        pytest.param([drug("Warfarin", url="urn:uuid:1-2"), asked("urn:uuid:1-2")], ["Warfarin"], id="a UUID"),
    ],
)  # fmt: skip
def test_a_reference_is_told_by_the_name_of_the_one_resource_it_can_mean(
    tmp_path: Path, entries: list[dict[str, Any]], told: list[str]
) -> None:
    note = {"resource": {"resourceType": "Condition", "code": concept(SAID)}}
    text = load_notes(write(tmp_path, {"resourceType": "Bundle", "entry": [note, *entries]}))
    assert [line.split(": ")[1] for line in text.splitlines() if line.startswith("Medication request")] == told


def attached(content: bytes, kind: str | None = "text/plain", **more: Any) -> dict[str, Any]:
    attachment = {"data": base64.b64encode(content).decode(), **({"contentType": kind} if kind else {}), **more}
    return {"resourceType": "DocumentReference", "content": [{"attachment": attachment}]}


@pytest.mark.parametrize(
    ("resource", "told"),
    [
        (attached("Fieber 38 \xb0C".encode("latin-1"), "text/plain; charset=ISO-8859-1"), "Fieber 38 \xb0C"),
        (attached("Fieber".encode("utf-16"), 'text/plain; charset="utf-16"'), "Fieber"),
        (attached(b"Fieber", "text/plain; charset=no-such"), "text/plain; charset=no-such attachment, not read"),
        (attached(b"<html><style>p {}</style><p>SpO2<90%, HR>100 &amp; K<sup>+</sup> 3.<b>5</b></p></html>", "application/xhtml+xml"),
         "SpO2<90%, HR>100 & K^+ 3.5"),
        (attached(b"<script>alert(1)</script>Hello<!-- <b> --> <![foo[ there <!-- you<a ", "text/html"), "Hello <![foo[ there <!-- you<a"),
        (attached(b"words of no stated kind", None), "words of no stated kind"),
        (attached(b"<p>words</p><p><s>struck</s></p>", "text/html"), "words\nthe attachment: not read: text that is struck through"),
        (attached(rb"{\rtf1 words{\v hidden}}", None), "words\nthe attachment: not read: text that is struck through or hidden"),
        (attached(b"<div>words of <b>HTML</b></div>", None), "words of HTML"),
        (attached(b"%PDF-1.4 \x00\x01" * 9, None, title="scan"), "attachment, not read; title: scan"),
        ({"resourceType": "Media", "content": {"url": "Binary/b"}}, "a note in a binary"),
        ({"resourceType": "Media", "content": {"contentType": "text/plain", "url": "Binary/b", "hash": "x"}}, "a note in a binary"),
        ({"resourceType": "Media", "content": {"contentType": "text/rtf", "url": "Binary/c"}}, "text/rtf; url: Binary/c"),
        ({"resourceType": "Provenance", "signature": [{"sigFormat": "a/b", "data": "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFB"}]}, "a/b"),
    ],
)  # fmt: skip
def test_an_attachment_is_told_as_text_or_named_as_not_read(tmp_path: Path, resource: dict[str, Any], told: str) -> None:
    binary = {"resourceType": "Binary", "id": "b", "contentType": "text/plain", "data": base64.b64encode(b"a note in a binary").decode()}
    note = {"resourceType": "Condition", "code": concept(SAID)}
    text = load_notes(write(tmp_path, [note, binary, resource]))
    label = "(Document reference: content: attachment|Media: content|Provenance: signature: sig format)"
    assert re.fullmatch(rf"Condition: {SAID}\n{label}: {re.escape(told)}(\nBinary: a note in a binary)?", text)
    assert text.count("a note in a binary") == 1
    assert not any(data in text for data in re.findall(r'"data": "([^"]+)"', json.dumps([binary, resource])))


def patient(number: str, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": number, **more}


def condition(name: str, of: str | None = None, **more: Any) -> dict[str, Any]:
    subject = {"subject": {"reference": of}} if of else {}
    return {"resourceType": "Condition", "code": concept(name), **subject, **more}


def bundle(*resources: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Bundle", "entry": [{"resource": resource} for resource in resources]}


MRN = {"identifier": [{"system": "urn:hospital", "value": "MRN-77"}]}
TWO = bundle(
    patient("a", **MRN), patient("b"), condition("Diabetes", "Patient/a"), condition("Asthma", "Patient/b"), condition("Gout"),
    asked("Medication/m", subject={"reference": "Patient/a"})["resource"], drug("Metformin", "m")["resource"],
    drug("Heparin", "h")["resource"],
)  # fmt: skip


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(TWO, id="two Patients"),
        pytest.param([TWO], id="a bundle in a list"),
        pytest.param({"data": {"record": TWO}}, id="within another object"),
        pytest.param(bundle(condition("Diabetes", "Patient/a"), condition("Asthma", "Patient/b")), id="two subjects"),
        pytest.param(bundle(patient("a"), condition("Diabetes", "Patient/a"), condition("Asthma", "Patient/z")), id="one of them missing"),
        pytest.param(bundle(condition("Gout", f"{A}Patient/1"), condition("Asthma", f"{B}Patient/1")), id="one id on two servers"),
        pytest.param([condition("Diabetes", "urn:uuid:1"), condition("Asthma", "urn:uuid:2")], id="two UUIDs"),
        pytest.param(bundle(condition("Gout", subject={"display": "A"}), condition("Asthma", subject={"display": "B"})), id="two names"),
        pytest.param(bundle(condition("Gout", subject={"identifier": MRN["identifier"][0]}),
                            condition("Asthma", subject={"identifier": {"system": "urn:hospital", "value": "8"}})), id="two identifiers"),
        pytest.param(bundle(condition("Gout", "Patient/a"), {"resourceType": "AllergyIntolerance", "code": concept("Penicillin"),
                            "patient": {"reference": "Patient/b"}}), id="subject and patient"),
        pytest.param(bundle(patient("a", name=[{"given": ["Ann"], "family": "Smith"}]), condition("Gout", "Patient/a"),
                            condition("Asthma", subject={"display": "Bob Smith"})), id="a Patient and another name"),
        pytest.param(bundle(condition("Gout", subject={"reference": "Patient/a", "display": "Ann Smith"}),
                            condition("Asthma", subject={"display": "Bob Smith"})), id="a reference with a name, and another name"),
    ],
)  # fmt: skip
def test_two_patients_are_never_one_record(tmp_path: Path, record: Any) -> None:
    with pytest.raises(InputError, match="2 patients; give one file for each, or choose one with --patient ID"):
        load_notes(write(tmp_path, record))


@pytest.mark.parametrize("other", [{"birthDate": "1990"}, {"gender": "male"}])
@pytest.mark.parametrize("called", [None, "a"])
def test_one_id_with_two_birth_dates_or_sexes_is_of_two_patients(tmp_path: Path, other: dict[str, Any], called: str | None) -> None:
    one = patient("a", birthDate="1950-02-03", gender="female")
    path = write(tmp_path, bundle(one, {**one, **other}, condition("Gout", "Patient/a")))
    with pytest.raises(InputError, match=r"2 patients; give one file for each$"):
        read_notes(path, patient=called)
    assert "Gout" in load_notes(write(tmp_path, bundle(one, {**one, "birthDate": "1950"}, condition("Gout", "Patient/a"))))


@pytest.mark.parametrize("called", ["a", "Patient/a", "MRN-77"])
def test_one_patient_is_chosen_with_what_the_record_refers_to_for_them(tmp_path: Path, called: str) -> None:
    notes = read_notes(write(tmp_path, TWO), patient=called)
    assert notes.text.splitlines() == ["Condition: Diabetes", "Medication request: Metformin", "Medication: Metformin"]
    left_out = ["2 resources of other patients", "Condition that names no patient", "Medication that names no patient"]
    assert set(left_out) < set(notes.facts["left_out"])


def whose(subject: dict[str, Any], contained: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"subject": subject, **({"contained": [contained]} if contained else {})}


@pytest.mark.parametrize(
    ("one", "other", "called"),
    [
        (whose({"display": "Jane Doe"}), whose({"display": "John Roe"}), "Doe, Jane"),
        (whose({"reference": "#p"}, patient("p", **MRN)), whose({"reference": "#p"}, patient("p", identifier=[{"value": "8"}])), "mrn-77"),
        (whose({"reference": "#p"}, patient("p", name=[{"given": ["Jane"], "family": "Doe"}])),
         whose({"reference": "#p"}, patient("p", name=[{"text": "John Roe"}])), "jane doe"),
        (whose({"reference": "#p"}, patient("p", gender="male")), whose({"reference": "#p"}, patient("p", gender="female")), None),
    ],
    ids=["names alone", "identifiers of contained patients", "names of contained patients", "nothing to tell them by"],
)  # fmt: skip
def test_the_way_on_works_for_every_way_to_name_a_patient(
    tmp_path: Path, one: dict[str, Any], other: dict[str, Any], called: str | None
) -> None:
    path = write(tmp_path, bundle(condition("Gout", **one), condition("Asthma", **other)))
    with pytest.raises(InputError, match="2 patients; give one file for each") as caught:
        load_notes(path)
    assert ("--patient" in str(caught.value)) == (called is not None)
    if called:
        text = load_notes(path, patient=called)
        assert "Gout" in text and "Asthma" not in text


def test_a_patient_the_record_does_not_have_is_refused_without_naming_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="names no patient with the ID") as caught:
        read_notes(write(tmp_path, TWO), patient="secret")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "record",
    [
        bundle(patient("a"), patient("a"), condition(SAID, "Patient/a")),
        bundle(condition(SAID, "Patient/a"), condition("Gout", f"{A}Patient/a"), condition("Asthma", "Patient/a/_history/3")),
        bundle({"resourceType": "Patient", "gender": "male"}, condition(SAID, "Patient/a")),
        bundle(patient("a", **MRN), patient("b", **MRN), condition(SAID, "Patient/a"), condition("Gout", "Patient/b")),
        bundle(patient("a", link=[{"other": {"reference": "Patient/b"}, "type": "replaces"}]), patient("b"), condition(SAID, "Patient/b")),
        bundle(patient("a"), condition(SAID, "Patient/a"), condition("Gout", subject={"display": "Jane"})),
        bundle(
            patient("a", name=[{"given": ["Ann", "M."], "family": "Smith"}]),
            condition(SAID, "Patient/a"),
            condition("Gout", subject={"display": "Smith, Ann Mary"}),
            condition("Gout", subject={"display": "the patient"}),
        ),
        bundle(condition(SAID, subject={"display": "Ann Smith"}), condition("Gout", subject={"display": "Smith, Ann"})),
    ],
    ids=[
        "the same twice",
        "three ways to name one",
        "a Patient without an id",
        "one identifier",
        "linked",
        "a name alone",
        "her name",
        "names alone",
    ],
)
def test_one_patient_in_several_ways_is_one(tmp_path: Path, record: dict[str, Any]) -> None:
    assert SAID in load_notes(write(tmp_path, record))


@pytest.mark.parametrize("kind", ["FamilyMemberHistory", "RelatedPerson", "Practitioner"])
def test_the_birth_date_of_somebody_else_makes_no_other_patient(tmp_path: Path, kind: str) -> None:
    other = {"resourceType": kind, "bornDate": "1940", "birthDate": "1940-01-01", "relationship": concept("mother")}
    record = bundle(patient("a", birthDate="1970-01-01"), condition(SAID, "Patient/a"), other)
    assert "1940" in load_notes(write(tmp_path, record))


def test_a_subject_who_is_not_the_patient_is_told(tmp_path: Path) -> None:
    apgar = {"resourceType": "Observation", "code": concept("Apgar"), "valueInteger": 9,
             "subject": {"reference": "RelatedPerson/r", "display": "newborn"}}  # fmt: skip
    assert load_notes(write(tmp_path, bundle(patient("a"), apgar))) == "Observation: Apgar: 9; subject: newborn"


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


@pytest.mark.parametrize(
    ("resource", "line"),
    [
        ({"resourceType": "MedicationStatement", "medication": {"reference": {"reference": "Medication/1"}}},
         "Medication statement: Warfarin"),
        ({"resourceType": "MedicationStatement", "medication": {"concept": concept("Aspirin")}}, "Medication statement: Aspirin"),
        ({"resourceType": "Encounter", "class": [{"text": "ambulatory"}], "reason": [{"value": [{"concept": concept("Chest pain")}]}]},
         "Encounter: ambulatory; reason: Chest pain"),
        ({"resourceType": "Encounter", "reason": [concept("Chest pain")], "period": {"start": "2020"}},
         "Encounter: reason: Chest pain; period: from 2020"),
        (condition("Gout", subject={"reference": {"a": 1}}, evidence=[{"reference": ["x"]}]), "Condition: Gout; evidence: x"),
    ],
    ids=["R5 reference", "R5 concept", "R5 visit", "STU3 visit", "a reference without an address"],
)  # fmt: skip
def test_every_version_of_fhir_is_told_in_words(tmp_path: Path, resource: dict[str, Any], line: str) -> None:
    text = load_notes(write(tmp_path, bundle(resource, drug("Warfarin")["resource"])))
    assert line in text.splitlines()
    assert "{'" not in text and "['" not in text


def test_the_error_message_of_a_server_is_not_a_note(tmp_path: Path) -> None:
    outcome = {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "error", "diagnostics": "Jane Doe is not yours"}],
    }
    with pytest.raises(InputError, match="an error message from a server") as caught:
        load_notes(write(tmp_path, outcome))
    assert "Jane" not in str(caught.value)
    with pytest.raises(InputError, match="nothing clinical"):
        load_notes(write(tmp_path, bundle(outcome)))


def visit(year: int) -> dict[str, Any]:
    return {
        "resourceType": "Encounter",
        "id": f"e{year}",
        "period": {"start": f"{year}-05-06"},
        "reasonCode": [concept(f"Check of {year}")],
    }


def test_the_newest_visit_and_its_note_stand_first_and_the_oldest_is_left_out_first(tmp_path: Path) -> None:
    note = {**attached(b"Today: chest pain for two hours."), "date": "2024-05-06"}
    pressure = {"resourceType": "Observation", "encounter": {"reference": "Encounter/e2024"}, "code": concept("Pulse"), "valueInteger": 96}
    notes = read_notes(write(tmp_path, bundle(*map(visit, (2001, 2010, 2024)), condition("Gout", onsetDateTime="1999"), pressure, note)))
    starts = [
        "Encounter: period: from 2024",
        "Document reference: content: ",
        "Observation: Pulse: 96",
        "Condition: Gout",
        "Encounter: period: from 2010",
    ]
    assert all(line.startswith(start) for line, start in zip(notes.text.splitlines(), starts, strict=False))
    kept, sentence = notes.fit(len, len(notes.text) - 10)
    assert "Today: chest pain" in kept and "Check of 2010" in kept and "Check of 2001" not in kept
    assert sentence.startswith("the notes do not fit: ") and "Encounter" in sentence


def test_each_line_of_ndjson_is_a_study_unless_the_lines_are_one_record(tmp_path: Path) -> None:
    path = tmp_path / "bulk.ndjson"
    path.write_text("".join(json.dumps(condition(name)) + "\n" for name in ("Gout", "Asthma")))
    assert count_parts(path) == 2
    assert [read_notes(path, part=part).text for part in (1, 2)] == ["Condition: Gout", "Condition: Asthma"]
    with pytest.raises(InputError, match="holds 2 notes, one on each line"):
        read_notes(path)
    with pytest.raises(InputError, match="has no notes number 3"):
        read_notes(path, part=3)
    path.write_text("".join(json.dumps(one) + "\n" for one in (patient("a"), condition("Gout", "Patient/a"))))
    assert (count_parts(path), read_notes(path).text) == (1, "Condition: Gout")
