"""What is read as notes, and what certainly is not: empty forms, settings, credentials and error messages of servers."""

from pathlib import Path
from typing import Any

import pytest
from resources import write

from medgemma_app.errors import InputError
from medgemma_app.inputs.notes import load_notes

NOTHING, TOKEN, ERROR = "nothing to write a note from", "holds a key or a token, not notes", "looks like an error message from a server"


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
