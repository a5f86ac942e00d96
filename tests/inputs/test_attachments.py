"""Documents and messages within records: read as what they are, and never of another patient than the record's."""

import base64

import pytest
from resources import bundle, read

from medgemma_app.errors import InputError

SMITH = {"number": "111", "given": "Ann", "family": "Smith", "sex": "F", "born": "19900101"}
JONES = {"number": "222", "given": "Bob", "family": "Jones", "sex": "M", "born": "19500101"}
ANN = {
    "resourceType": "Patient", "id": "a", "gender": "female", "birthDate": "1990-01-01",
    "identifier": [{"system": "urn:oid:1.2", "value": "111"}], "name": [{"given": ["Ann"], "family": "Smith"}],
}  # fmt: skip
COUGH = {"resourceType": "Condition", "code": {"text": "Cough"}, "subject": {"reference": "Patient/a"}}


def document(person, said="Chronic hepatitis", root="1.2", body=""):
    who = '<id root="{root}" extension="{number}"/><patient><name><given>{given}</given><family>{family}</family></name>'
    who += '<administrativeGenderCode code="{sex}"/><birthTime value="{born}"/></patient>'
    target = f"<recordTarget><patientRole>{who.format(root=root, **person)}</patientRole></recordTarget>"
    sections = f"<structuredBody><section><title>Problems</title><text>{said}</text></section></structuredBody>"
    return f"<ClinicalDocument>{target}<component>{body or sections}</component></ClinicalDocument>"


def message(person, *segments):
    head = "MSH|^~\\&|LAB|H|EHR|H|20240506||ORU^R01|1|P|2.5\rPID|1||{number}^^^1.2||{family}^{given}||{born}|{sex}\r"
    return head.format(**person) + "".join(f"{one}\r" for one in segments)


def encoded(text):
    return base64.b64encode(text.encode()).decode()


def attached(text, kind="application/xml", **more):
    return {"resourceType": "DocumentReference", "content": [{"attachment": {"contentType": kind, "data": encoded(text)}}], **more}


LETTER = "{}\nChronic hepatitis, cough for three days."
GLUCOSE = "OBX|1|NM|1^Glucose||182|mg/dL|||||F"
ED = "OBX|2|ED|1^Letter||^TEXT^XML^Base64^{}||||||F"
RESULT = (message(JONES, GLUCOSE), "x-application/hl7-v2+er7")


@pytest.mark.parametrize(
    "record",
    [
        bundle(ANN, COUGH, attached(document(JONES))),
        bundle(ANN, COUGH, attached(document({**SMITH, "number": "222"}))),
        bundle(ANN, COUGH, attached(*RESULT)),
        bundle(ANN, COUGH, attached(LETTER.format("MRN: 222"), "text/plain")),
        bundle(ANN, COUGH, attached(LETTER.format("Name: Bob Jones"), "text/plain")),
        bundle(ANN, COUGH, attached(LETTER.format("Patient: Smith, B."), "text/plain")),
        bundle({**ANN, "name": [{"text": "Jane A. Smith"}]}, COUGH, attached(LETTER.format("Patient: Ann Smith"), "text/plain")),
        bundle(ANN, COUGH, attached(LETTER.format("<p>DOB: 1 February 1950</p>"), "text/html")),
        message(SMITH, GLUCOSE, ED.format(encoded(LETTER.format("MRN: 222"))).replace("XML", "plain")),
        message(SMITH, GLUCOSE, ED.format(encoded(document(JONES)))),
        message(SMITH, GLUCOSE, ED.format(document({**SMITH, "sex": "M"})).replace("Base64", "A")),
    ],
    ids=[
        "FHIR with C-CDA",
        "one issuer, two ids",
        "FHIR with HL7",
        "a number",
        "a name",
        "another initial",
        "a middle initial",
        "a birth date",
        "a number in HL7",
        "HL7 with C-CDA",
        "HL7 with C-CDA as it is",
    ],
)
def test_an_attachment_of_another_patient_is_refused_or_left_out_where_one_is_chosen(record):
    with pytest.raises(InputError, match="2 patients; give one file for each, or choose one with --patient ID"):
        read(record)
    notes = read(record, patient="111")
    assert "Cough" in notes.text or "Glucose: 182" in notes.text
    assert "hepatitis" not in notes.text and notes.text.count("Glucose") < 2
    assert any("attachment of another patient" in what for what in notes.facts["left_out"])


def test_words_in_capitals_without_a_label_are_no_names_in_a_record():
    said = "PT, OT (twice a week)\nCT CHEST, ABDOMEN 2024-05-06\nPatient: Smith, A."
    assert "PT, OT" in read(bundle(ANN, COUGH, attached(said, "text/plain"))).text
    assert "PT, OT" in read(document(SMITH, said=said.replace("\n", "<br/>"))).text


@pytest.mark.parametrize("called", [None, "111"])
@pytest.mark.parametrize("said", ["MRN: 222", "Patient name: Bob Jones", "DOB: 1950-02-01", "MRN: 111\nHIV positive\nMRN: 222"])
def test_a_text_within_a_record_that_names_another_patient_is_refused(said, called):
    text = "OBX|2|TX|1^Letter||{}||||||F".format(said.replace("\n", "\\.br\\"))
    for record in (
        bundle(ANN, {**COUGH, "note": [{"text": said}]}),
        message(SMITH, GLUCOSE, text),
        document(SMITH, said=said.replace("\n", "<br/>")),
    ):
        with pytest.raises(InputError, match=r"2 patients; give one file for each$"):
            read(record, patient=called)


@pytest.mark.parametrize("called", [None, "111"])
@pytest.mark.parametrize(
    "record",
    [
        bundle(attached(document(SMITH)), attached(document(JONES))),
        bundle(attached(LETTER.format("MRN: 111"), "text/plain"), attached(LETTER.format("MRN: 222"), "text/plain")),
        bundle(attached(document(SMITH)), attached(LETTER.format("MRN: 222"), "text/plain")),
        bundle(attached(document({**SMITH, "born": ""})), attached(document({**SMITH, "number": "5", "born": ""}, root="7"))),
        document(SMITH, body=f'<nonXMLBody><text representation="B64">{encoded(document(JONES))}</text></nonXMLBody>'),
    ],
    ids=["two attachments", "two letters", "a document and a letter", "ids of two issuers and one name", "a document in a document"],
)
def test_attachments_of_two_patients_are_refused_where_nothing_says_whose_the_record_is(record, called):
    with pytest.raises(InputError):
        read(record, patient=called)


@pytest.mark.parametrize(
    ("record", "told"),
    [
        (bundle(ANN, COUGH, attached(document(SMITH))), "Problems: Chronic hepatitis"),
        (bundle(ANN, COUGH, attached(document({**SMITH, "number": "5"}, root="7"))), "Problems: Chronic hepatitis"),
        (bundle(ANN, COUGH, attached(document({**SMITH, "given": "Ann Mary", "born": "1990"}))), "Problems: Chronic hepatitis"),
        (bundle(ANN, COUGH, attached(LETTER.format("MRN: 0111  Name: SMITH, Ann  DOB: 01/01/90"), "text/plain")), LETTER[3:]),
        (bundle(ANN, COUGH, attached(LETTER.format("MRN: 5  Patient name: Ann Smith"), "text/plain")), LETTER[3:]),
        (bundle(ANN, COUGH, attached(LETTER.format("Patient: Smith, A."), "text/plain")), LETTER[3:]),
        (bundle(attached(LETTER.format("MRN: 111"), "text/plain"), attached(LETTER.format("SSN: 222"), "text/plain")), LETTER[3:]),
        (bundle(COUGH, attached(*RESULT)), "Observation: Glucose: 182 mg/dL"),
        (bundle(ANN, COUGH, attached(message(SMITH, GLUCOSE, ED.format(encoded(RESULT[0]))), "")), "Observation: Glucose: 182 mg/dL"),
        (message(SMITH, GLUCOSE, ED.format(encoded(document(SMITH)))), "Problems: Chronic hepatitis"),
    ],
    ids=["the same id", "an id of another issuer", "a second name and a year", "a letter", "a letter of elsewhere", "an initial",
         "registers that cannot be compared", "HL7 in FHIR", "HL7 in HL7 in FHIR", "C-CDA in HL7"],
)  # fmt: skip
def test_an_attachment_of_the_same_patient_is_read_as_what_it_is(record, told):
    text = read(record).text
    assert told in text.splitlines() and "MSH|" not in text and "<" not in text
