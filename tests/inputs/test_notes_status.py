"""What plain JSON takes back, refutes or ends."""

from pathlib import Path
from typing import Any

import pytest
from resources import SAID, write

from medgemma_app.inputs import json_notes, transcripts
from medgemma_app.inputs.notes import load_notes, read_notes


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ({"status": "entered-in-error"}, "entered in error"),
        ({"Status": "Entered in Error"}, "entered in error"),
        ({"verification_status": "entered-in-error"}, "entered in error"),
        ({"status": "cancelled"}, "cancelled"),
        ({"state": "entered_in_error"}, "entered in error"),
        ({"record_status": "ENTERED IN ERROR"}, "entered in error"),
        ({"is_deleted": True}, "deleted"),
        ({"voided": True}, "deleted"),
        ({"retracted": "true"}, "deleted"),
    ],
)
def test_what_plain_json_takes_back_is_left_out_and_named(tmp_path: Path, status: dict[str, Any], reason: str) -> None:
    problems = [{"name": "Sepsis", **status}, {"name": "Gout", "status": "active"}]
    notes = read_notes(write(tmp_path, {"chief_complaint": SAID, "problems": problems, "diagnosis": {"name": "Sepsis", **status}}))
    assert "Sepsis" not in notes.text and "Gout" in notes.text
    assert notes.facts["left_out"] == [f"entry ({reason}), 2 times"]


@pytest.mark.parametrize(
    ("status", "mark"),
    [
        ({"verificationStatus": "refuted"}, "REFUTED"),
        ({"clinical_status": "Ruled out"}, "REFUTED"),
        ({"status": "stopped"}, "STOPPED"),
        ({"state": "DISCONTINUED"}, "STOPPED"),
        ({"status": "not_done"}, "NOT DONE"),
        ({"not_given": True}, "NOT DONE"),
        ({"status": "Not Taking"}, "NOT TAKEN"),
        ({"taking": False}, "NOT TAKEN"),
        ({"taken": "false"}, "NOT TAKEN"),
        ({"discontinued": True}, "STOPPED"),
    ],
)
def test_what_plain_json_refutes_or_ends_stands_on_a_marked_line(tmp_path: Path, status: dict[str, Any], mark: str) -> None:
    drugs = [{"name": "Heparin 5 mg", **status}, {"name": "Ramipril", "status": "active"}]
    text = load_notes(write(tmp_path, {"medications": drugs, "allergies": [{"name": "Latex\nrash", **status}]}))
    lines = text.splitlines()
    assert lines[0] == "Medications: (Name: Ramipril; Status: active)"
    assert [line.split(";")[0] for line in lines[1:]] == [
        f"{mark}: Medications: Name: Heparin 5 mg", f"{mark}: Allergies: Name: Latex rash"
    ]  # fmt: skip


def test_what_held_only_a_marked_entry_leaves_no_empty_label(tmp_path: Path) -> None:
    drugs = [{"drug": {"name": "Heparin", "status": "stopped"}}]
    assert load_notes(write(tmp_path, {"medications": drugs, "note": "Cough"})).splitlines() == [
        "Note: Cough", "STOPPED: Drug: Name: Heparin; Status: stopped"
    ]  # fmt: skip
    more = {"medications": [*drugs, {"drug": "Aspirin"}], "answers": [False, True]}
    assert load_notes(write(tmp_path, more)).splitlines()[:2] == ["Medications: (Drug: Aspirin)", "Answers: false; true"]


@pytest.mark.parametrize(("module", "name", "most"), [(json_notes, "status_mark", 3), (transcripts, "_spoken", 4)])
def test_numbers_are_searched_neither_for_a_status_nor_for_speech(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, most: int
) -> None:
    asked: list[Any] = []
    search = getattr(module, name)
    monkeypatch.setattr(module, name, lambda value: asked.append(value) or search(value))
    load_notes(write(tmp_path, {"note": "Cough", "vitals": {"values": list(range(500))}}))
    assert 0 < len(asked) <= most


def test_a_status_of_the_notes_as_a_whole_marks_nothing(tmp_path: Path) -> None:
    assert load_notes(write(tmp_path, {"status": "stopped", "note": "Cough"})) == "Status: stopped\nNote: Cough"
