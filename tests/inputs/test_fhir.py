"""FHIR of any version becomes lines of one patient, without what the record takes back."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
from resources import SAID, A, B, asked, attached, bundle, concept, condition, drug, patient, read

from medgemma_app.errors import InputError
from medgemma_app.inputs.notes import count_parts, read_notes

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


def test_a_fhir_bundle_is_told_in_clinical_order_with_values_and_units() -> None:
    notes = read(BUNDLE)
    assert notes.text.splitlines() == [
        "Patient: gender: female; birth date: 1970-02-03",
        "Encounter: ambulatory; reason code: Cough",
        "Condition: High blood pressure (Essential hypertension); clinical status: active; onset: 2010",
        "Procedure: Appendectomy; performed: 1999 to 1999-02",
        "Medication request: Metformin 500 mg; status: active; dosage instruction: 1 tablet twice daily",
        "Medication statement: Ibuprofen; status: active",
        "Allergy intolerance: Penicillin; reaction: manifestation: rash",
        "Observation: Body temperature: 37.5 Cel; effective: 2024-05-06",
        "Observation: Blood pressure; component: Systolic: 150 mmHg; Diastolic: <95 mmHg",
        "Diagnostic report: Vital signs; result: Body temperature",
        "Document reference: content: attachment: Patient coughs; attachment: application/pdf attachment, not read",
        "Entry: value: note: an entry without a resource",
    ]
    assert notes.facts["format"] == "FHIR Bundle"


def test_what_a_fhir_text_leaves_out_is_named() -> None:
    left_out = read(BUNDLE).facts["left_out"]
    assert left_out == ["Bundle.type", "application/pdf attachment", "code", "id", "system", "telecom"]


def test_a_bare_list_of_resources_is_read_as_a_bundle() -> None:
    resources = [entry["resource"] for entry in BUNDLE["entry"] if "resource" in entry]
    assert read(resources).text == read({**BUNDLE, "entry": BUNDLE["entry"][:-1]}).text


def test_what_stands_beside_resources_in_other_json_is_told() -> None:
    record = {"data": {"record": condition("Gout"), "note": "knee pain"}, "meta": [1], "all": [condition("Asthma"), "hives"]}
    assert read(record).text.splitlines() == [
        "Condition: Gout", "Condition: Asthma", "Entry: value: note: knee pain", "Entry: value: entry: hives",
    ]  # fmt: skip


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
def test_a_fhir_record_of_who_and_when_alone_is_not_a_note(resource: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="nothing to write"):
        read(resource)
    bundle = {
        "resourceType": "Bundle",
        "entry": [{"resource": resource}, {"resource": {"resourceType": "Condition", "code": concept(SAID)}}],
    }
    assert SAID in read(bundle).text


@pytest.mark.parametrize(
    ("resource", "line"),
    [
        ({"code": concept("K"), "valueQuantity": {"value": 6.9, "unit": "mmol/L"}}, "Observation: K: 6.9 mmol/L"),
        ({"code": concept("T"), "valueInteger": 39}, "Observation: T: 39"),
        ({"code": {"coding": [{"code": "4548-4"}]}, "valueQuantity": {"value": 7.2, "unit": "%"}}, "Observation: 4548-4: 7.2 %"),
        ({"resourceType": "MedicationRequest", "medicationCodeableConcept": concept("d0")}, "Medication request: d0"),
    ],
)  # fmt: skip
def test_a_name_of_one_letter_and_a_value_with_a_unit_are_enough_for_a_note(resource: dict[str, Any], line: str) -> None:
    assert read({"resourceType": "Observation", "issued": "2024-05-06T10:00:00Z", **resource}).text.startswith(line)


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
def test_a_generated_narrative_is_left_out_only_where_it_says_nothing_more(narrative: str, told: str, left_out: list[str]) -> None:
    resource = (
        b'{"resourceType": "Observation", "code": {"text": "Oral body temperature in bed"}, '
        b'"valueQuantity": {"value": 37.20, "unit": "Cel"},'
        b' "text": '
    )
    notes = read(resource + json.dumps({"status": "generated", "div": narrative}).encode() + b"}")
    assert notes.text == f"Observation: Oral body temperature in bed: 37.20 Cel{told}"
    assert notes.facts["left_out"] == left_out


def test_fhir_references_in_a_circle_end() -> None:
    circle = [{"resourceType": "MedicationRequest", "id": str(i), "note": [{"text": SAID}],
               "medicationReference": {"reference": f"MedicationRequest/{1 - i}"}} for i in range(2)]  # fmt: skip
    text = read({"resourceType": "Bundle", "entry": [{"resource": one} for one in circle]}).text
    assert text.count(SAID) == 2


def test_a_chain_of_drugs_that_consist_of_each_other_ends() -> None:
    chain = [drug(f"Salt {n}", str(n), ingredient=[{"itemReference": {"reference": f"Medication/{n + 1}"}}]) for n in range(2000)]
    text = read(bundle(condition(SAID), *(one["resource"] for one in chain))).text
    assert all(f"Salt {n}" in text for n in range(2000))


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
def test_a_reference_is_told_by_the_name_of_the_one_resource_it_can_mean(entries: list[dict[str, Any]], told: list[str]) -> None:
    note = {"resource": {"resourceType": "Condition", "code": concept(SAID)}}
    text = read({"resourceType": "Bundle", "entry": [note, *entries]}).text
    assert [line.split(": ")[1] for line in text.splitlines() if line.startswith("Medication request")] == told


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
def test_an_attachment_is_told_as_text_or_named_as_not_read(resource: dict[str, Any], told: str) -> None:
    binary = {"resourceType": "Binary", "id": "b", "contentType": "text/plain", "data": base64.b64encode(b"a note in a binary").decode()}
    note = {"resourceType": "Condition", "code": concept(SAID)}
    text = read([note, binary, resource]).text
    label = "(Document reference: content: attachment|Media: content|Provenance: signature: sig format)"
    assert re.fullmatch(rf"Condition: {SAID}\n{label}: {re.escape(told)}(\nBinary: a note in a binary)?", text)
    assert text.count("a note in a binary") == 1
    assert not any(data in text for data in re.findall(r'"data": "([^"]+)"', json.dumps([binary, resource])))


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
def test_every_version_of_fhir_is_told_in_words(resource: dict[str, Any], line: str) -> None:
    text = read(bundle(resource, drug("Warfarin")["resource"])).text
    assert line in text.splitlines()
    assert "{'" not in text and "['" not in text


def test_the_error_message_of_a_server_is_not_a_note() -> None:
    outcome = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "diagnostics": "Jane Doe is not yours"}]}
    with pytest.raises(InputError, match="an error message from a server") as caught:
        read(outcome)
    assert "Jane" not in str(caught.value)
    with pytest.raises(InputError, match="nothing to write"):
        read(bundle(outcome))


def visit(year: int) -> dict[str, Any]:
    return {
        "resourceType": "Encounter",
        "id": f"e{year}",
        "period": {"start": f"{year}-05-06"},
        "reasonCode": [concept(f"Check of {year}")],
    }


def test_the_newest_visit_and_its_note_stand_first_and_the_oldest_is_left_out_first() -> None:
    note = {**attached(b"Today: chest pain for two hours."), "date": "2024-05-06"}
    pressure = {"resourceType": "Observation", "encounter": {"reference": "Encounter/e2024"}, "code": concept("Pulse"), "valueInteger": 96}
    notes = read(bundle(*map(visit, (2001, 2010, 2024)), condition("Gout", onsetDateTime="1999"), pressure, note))
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
