"""What is read as notes, and what certainly is not: empty forms, settings, credentials, error messages, and records within text."""

import json
from pathlib import Path
from typing import Any

import pytest
from resources import write

from medgemma_app.errors import InputError
from medgemma_app.inputs.notes import load_notes

NOTHING, TOKEN, ERROR = "nothing to write a note from", "holds a key or a token, not notes", "looks like an error message from a server"
FHIR = {"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "Condition", "code": {"text": "Asthma"}}}]}
FHIR_XML = '<Bundle xmlns="http://hl7.org/fhir"><entry/></Bundle>'
HL7 = "MSH|^~\\&|LAB|B|C|D|20240506||ORU^R01|1|P|2.5\rPID|1||1^^^H^MR||DOE^JANE\rOBX|1|NM|Hb^Hemoglobin||13.5|g/dL|||||F\r"
CDA = '<ClinicalDocument xmlns="urn:hl7-org:v3"><recordTarget/></ClinicalDocument>'


@pytest.mark.parametrize(
    "content",
    [
        {"chief_complaint": "Cough for 3 days", "vitals": {"bp": "120/80", "hr": 72}},
        {"vitals": {"bp": "120/80", "hr": 72}},
        {"bp": "120/80", "hr": 72},
        {"chief_complaint": "cough"},
        {"text": "Chest pain."},
        {"note": "Asthma attack"},
        "Husten und Fieber",
        {"medications": ["aspirin"]},
        {"medications": [{"name": "aspirin"}]},  # the name of a drug is not that of a person
        "HIV positive",
        "MI",
        "Hb 6.2, transfuse",
        "T 39.5",
        "K: 5.1 Na: 140",
        [{"date": "2024-01-02", "name": "Blood Pressure", "value": "120/80"}],
        "Thoraxschmerz",
        "Кашель.",
        "咳嗽",
        {"Puls": 72},
        {"diabetes": True},
        {"Beschwerde": "Husten", "error": "typing error in the first version"},
        {"message": "Pt came in with cough for 3 days, no fever, lungs clear. Plan: rest, fluids, recheck in a week."},
        {"message": "feels better", "bp": "120/80"},
        {"renal failure": "stage 3", "details": "on dialysis"},
        "Vitamin-B12-Mangel",
        "L5-Bandscheibenvorfall",
        "Password: forgets it often\nMMSE: 22/30",
        "Token: finds words slowly, naming intact",
        "Not found any masses",
        b"RR = 120/80\nPuls = 72\n",
        "Husten/Schnupfen/Heiserkeit/Kopfschmerzen/Fieber",
        "buy milk and call the plumber tomorrow",  # what words mean is not judged
        'Labs by phone, since the FHIR server answered {"resourceType": "OperationOutcome"} and the HL7 feed sent no MSH or PID.',
        {"text": "Alpha-MSH 12 pg/mL. The <ClinicalDocument> of the referral could not be opened."},
        ["Doctor: " + "Any cough? " * 500, "Patient: " + "Yes, for three days. " * 500],
    ],
    ids=str,
)
def test_whatever_says_something_is_notes_in_any_language(tmp_path: Path, content: Any) -> None:
    assert load_notes(write(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"chief_complaint": "N/A", "plan": "none", "vitals": {}}, NOTHING),
        (b"Chief complaint:\nHistory of present illness:\nMedications and allergies:\nPlan:\n", NOTHING),
        (b"38.5\xc2\xb0C 5mg 120/80 06.05.2024 12.300/\xc2\xb5l", NOTHING),
        (b"/etc/passwd", NOTHING),
        (b"API_KEY=abc\nDB_HOST=example.org or another host\n", NOTHING),
        (b"[server]\nhost = example.org\n; and others\nretries = 5 times or more\n", NOTHING),
        ({"access_token": "eyJhbGciOiJIUzI1NiJ9", "token_type": "Bearer", "expires_in": 3600}, NOTHING),
        ({"token": "abc", "secret": "def", "Authorization": "Bearer ghi"}, NOTHING),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n", TOKEN),
        (b"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0In0\n", TOKEN),
        (b"AKIAIOSFODNN7EXAMPLE\n", TOKEN),
        (b"hf_abcdefghijkl1234567890\n", TOKEN),
        (b"password: hunter2", TOKEN),
        (b"username: bob\nclient_secret = hunter2\n\nAPI key: 12\n", TOKEN),
        (b"passwd=abc123", TOKEN),
        (b"Authorization: Bearer abc", TOKEN),
        ({"error": "unauthorized", "message": "Your session has expired, please log in again"}, ERROR),
        ({"errorType": "Timeout", "errorMessage": "Task timed out"}, ERROR),
        ({"errors": [{"message": "Cannot query field"}], "data": None}, ERROR),
        ({"status": "FAILED", "failureReason": "bad audio"}, ERROR),
        ({"code": "not-found", "diagnostics": "Resource Patient/1 is not known to this server"}, ERROR),
        ({"title": "Bad Request", "status": 400}, ERROR),
        ({"success": False, "message": "The record is locked. " * 9}, ERROR),
        ({"detail": "Authentication credentials were not provided for this record"}, ERROR),
        ({"Message": "An error has occurred."}, ERROR),
        (b"Error: connection refused by the remote host", ERROR),
        (b"Forbidden", ERROR),
        (b"503 Service Temporarily Unavailable", ERROR),
    ],
    ids=str,
)
def test_forms_without_content_credentials_and_error_messages_are_not_notes(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_notes(write(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ({"statusCode": 200, "body": json.dumps(FHIR)}, "a FHIR record"),
        ({"Records": [{"body": json.dumps({"Message": json.dumps({"id": "1", "resourceType": "Condition"}, indent=1)})}]}, "a FHIR record"),
        (json.dumps(json.dumps(FHIR)).encode(), "a FHIR record"),
        (b"```json\n" + json.dumps(FHIR, indent=2).encode() + b"\n```\n", "a FHIR record"),
        (b"Here is the record:\n" + json.dumps(FHIR).encode(), "a FHIR record"),
        (b'date,record\n2024-05-06,"' + json.dumps(FHIR).replace('"', '""').encode() + b'"\n', "a FHIR record"),
        (str(FHIR).encode(), "a FHIR record"),  # as Python prints it
        ([FHIR_XML], "a FHIR record"),
        ({"messages": [HL7, HL7]}, "an HL7 message"),
        ([HL7, HL7], "an HL7 message"),
        ([FHIR, {"raw": HL7}], "an HL7 message"),
        (("Lab results as received:\n" + (HL7 + HL7).replace("\r", "\n")).encode(), "an HL7 message"),
        ("Forwarded:\n> " + HL7.replace("\r", "\n> "), "an HL7 message"),
        ({"documents": [{"content": CDA}, {"content": CDA}]}, "a C-CDA document"),
        (("Document of the visit:\n" + CDA).encode(), "a C-CDA document"),
    ],
    ids=str,
)
def test_a_record_within_text_is_refused_with_what_it_is_and_the_way_on(tmp_path: Path, content: Any, what: str) -> None:
    with pytest.raises(InputError, match=f"holds {what} within text or a JSON string; give that record as a file of its own"):
        load_notes(write(tmp_path, content))
