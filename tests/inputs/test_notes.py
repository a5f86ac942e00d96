"""Notes in any of their forms become text that says everything they say, or one clear line about what is wrong."""

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from resources import SAID, write

from medgemma_app.errors import InputError
from medgemma_app.inputs import notes as reader
from medgemma_app.inputs.notes import count_parts, load_notes, read_notes


@pytest.mark.parametrize(
    ("content", "text"),
    [
        pytest.param(SAID, SAID, id="a string"),
        pytest.param({"plan": "rest", "age": 41, "complaint": SAID}, f"Age: 41\nComplaint: {SAID}\nPlan: rest", id="clinical order"),
        pytest.param({"zodiac": SAID, "chief_complaint": "cough"}, f"Chief complaint: cough\nZodiac: {SAID}", id="unknown keys are kept"),
        pytest.param({"transcript": SAID, "vitalSigns": "pulse 80", "PastMedicalHistory": "none", "chief-complaint": "cough", "HPI": "dry"},
                     f"Chief complaint: cough\nHPI: dry\nPast medical history: none\nVital signs: pulse 80\nTranscript: {SAID}",
                     id="keys in other spellings"),
        pytest.param({"results": {"pH": "7.31", "pO2_mmHg": "80"}, "text": SAID}, f"Results: pH: 7.31; pO2 mmHg: 80\nText: {SAID}",
                     id="names of measurements"),
        pytest.param({"exam": {"heart": "regular", "lungs": SAID}}, f"Exam: Heart: regular; Lungs: {SAID}", id="an object in an object"),
        pytest.param({"medications": ["aspirin 81 mg", SAID]}, f"Medications: aspirin 81 mg; {SAID}", id="a list"),
        pytest.param(
            {"medications": [{"name": "aspirin", "dose": "81 mg"}, {"name": "metformin", "dose": "500 mg twice a day"}]},
            "Medications: (Name: aspirin; Dose: 81 mg); (Name: metformin; Dose: 500 mg twice a day)",
            id="objects in a list stay apart",
        ),
        pytest.param([{"speaker": "Doctor", "text": "How are you?"}, {"speaker": "Patient", "text": SAID}],
                     f"Doctor: How are you?\nPatient: {SAID}", id="turns"),
        pytest.param({"dialogue": [{"speaker": "Patient", "text": SAID}]}, f"Dialogue:\nPatient: {SAID}", id="turns in an object"),
        pytest.param([{"role": "patient", "content": SAID, "time": "00:12"}], f"patient: {SAID}", id="turns with a time"),
        pytest.param(["one two three", "four five"], "one two three\nfour five", id="a list of lines"),
        pytest.param({"text": SAID, "smoker": False, "children": None}, f"Smoker: false\nChildren: \nText: {SAID}", id="false and null"),
        pytest.param({"transcript": SAID, "text": "x", "pregnancy status": "pregnant", "plan": "rest"},
                     f"Plan: rest\nPregnancy status: pregnant\nTranscript: {SAID}\nText: x", id="long texts stand last"),
    ],
)  # fmt: skip
def test_every_form_of_notes_becomes_labelled_text(tmp_path: Path, content: Any, text: str) -> None:
    assert load_notes(write(tmp_path, content)) == text


@pytest.mark.parametrize("number", ["37.20", "1e3", "-0", "98.60000000000000001", "123456789012345678901234567890"])
def test_numbers_reach_the_model_as_the_file_wrote_them(tmp_path: Path, number: str) -> None:
    path = write(tmp_path, f'{{"text": "{SAID}", "value": {number}}}'.encode())
    assert load_notes(path).startswith(f"Value: {number}\n")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_unicode_of_every_width_is_read(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path, json.dumps({"text": "fièvre à 38 °C depuis trois jours, 咳嗽"}, ensure_ascii=False).encode(encoding))
    assert load_notes(path) == "Text: fièvre à 38 °C depuis trois jours, 咳嗽"


def test_a_key_that_occurs_twice_keeps_both_values(tmp_path: Path) -> None:
    path = write(tmp_path, b'{"note": "cough for three days", "note": "no fever", "note": "no pain"}')
    text = load_notes(path)
    assert all(said in text for said in ("cough for three days", "no fever", "no pain"))


def test_what_cannot_be_text_becomes_a_replacement_character(tmp_path: Path) -> None:
    text = load_notes(write(tmp_path, b'{"text": "cough \\ud800 for \\u0000 three \\u001b[31m days, no fever\\r\\nnow"}'))
    assert text == "Text: cough \ufffd for \ufffd three \ufffd[31m days, no fever\nnow"


def test_a_script_without_spaces_has_words(tmp_path: Path) -> None:
    assert load_notes(write(tmp_path, "患者咳嗽三天")) == "患者咳嗽三天"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": "b",}', "not JSON.*line 1, column"),
        (b'{"a": 1,\n // no\n "b": 2}', "not JSON.*line 2, column 2"),
        (b'{"a": "one two three four five six"} x', "not JSON.*line 1, column"),
        (b'{"a": "\x83\x41\x83\x8c\x83\x8b\x83\x4d\x81\x5b"}', "not UTF-8 text at line 1"),
        (b"", "is empty"),
        (b" ", "is empty"),
        (b'{"complaint": "", "history": "", "medications": "", "plan": "", "exam": ""}', "nothing to write"),
        (b'{"name": "Jane Mary Doe", "mrn": "AB 12 CD", "dob": "3 May 1980", "address": "12 Long Lane Old Town"}', "nothing to write"),
        (b'{"patient": {"name": "Jane Mary Anne Doe", "firstName": "Jane", "phone": "five five five"}}', "nothing to write"),
        (b'[{"speaker": "Doctor One", "text": ""}, {"speaker": "Patient Two Three Four", "text": ""}]', "nothing to write"),
        (b"[1, 2, 3, 4, 5, 1e6, NaN, true, true, false]", "nothing to write"),
        (b'"1 2 3 4 5 6/7"', "nothing to write"),
        (b"[]", "nothing to write"),
        (b"null", "nothing to write"),
        (b"12345", "nothing to write"),
        (b'"... --- ... --- ... --- ..."', "nothing to write"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[" * 101 + b'"one two three four five"' + b"]" * 101, "nested too deeply"),
        (b'"' + b"cough " * 2_000_000 + b'"', "larger than 10 MB"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_that_names_the_file(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_notes(write(tmp_path, content))
    assert str(caught.value).startswith("notes.json ")
    assert "\n" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_missing_files_folders_and_addresses_are_refused(tmp_path: Path) -> None:
    for source, message in (
        (tmp_path / "none.json", "does not exist"),
        (tmp_path, "a folder was given"),
        ("https://x.org/n.json", "nothing is fetched"),
    ):
        with pytest.raises(InputError, match=message):
            load_notes(source)


def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(json.dumps(SAID).encode())))
    notes = read_notes("-")
    assert (notes.text, notes.facts["name"]) == (SAID, "standard input")


def test_a_missing_standard_input_is_an_input_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InputError, match="standard input cannot be read"):
        read_notes("-")


# What each is about, and by what name or id one of the two patients can be chosen.
OF_TWO = [
    ([{"patient": "A", "note": "Cough"}, {"patient": "B", "note": "Knee pain"}], "B"),
    ([{"mrn": "1", "note": "Cough"}, {"mrn": "2", "note": "Knee pain"}], "2"),
    ([{"patient": "52-year-old man", "note": "Cough"}, {"patient": "71-year-old man", "note": "Knee pain"}], None),
    ([{"patient": "52-year-old man", "note": "Cough"}, {"patient": "52 yo woman", "note": "Knee pain"}], None),
    ([{"patient": {"id": "1", "name": "Jane"}, "note": "Cough"}, {"patient": {"id": "2", "name": "Jane"}, "note": "Knee pain"}], "2"),
    ({"visits": [{"patient_name": "Jane Doe", "note": "Cough"}, {"patient_name": "John Doe", "note": "Knee pain"}]}, "John Doe"),
    ({"patients": [{"name": "Jane", "note": "Cough"}, {"name": "Bob", "note": "Knee pain"}]}, "bob"),
    ({"patients": {"1": {"name": "Jane", "note": "Cough"}, "2": {"name": "Bob", "note": "Knee pain"}}}, "Bob"),
    ([{"patient": {"first_name": "Jane"}, "note": "Cough"}, {"patient": {"first_name": "Bob"}, "note": "Knee pain"}], "bob"),
    ([{"patient": "A", "start": 0, "text": "Cough"}, {"patient": "B", "start": 1, "text": "Knee pain"}], "B"),
    ({"patient_1": {"name": "Jane", "note": "Cough"}, "patient_2": {"name": "Bob", "note": "Knee pain"}}, "Bob"),
    ([{"sex": "female", "note": "Cough"}, {"sex": "M", "note": "Knee pain"}], None),
    ([{"dob": "1970-01-01", "note": "Cough"}, {"dob": "1980-01-01", "note": "Knee pain"}], None),
    ([{"name": "Jane Doe", "age": 45, "note": "Cough"}, {"name": "John Roe", "age": 54, "note": "Knee pain"}], "Roe, John"),
    ("MRN: 123\nCough\n\nMRN: 456\nKnee pain", None),
]  # fmt: skip


@pytest.mark.parametrize(("content", "called"), OF_TWO, ids=str)
def test_the_visits_of_two_patients_are_never_one_record_and_the_way_on_works(tmp_path: Path, content: Any, called: str | None) -> None:
    path = write(tmp_path, content)
    with pytest.raises(InputError, match=r"notes.json holds the notes of 2 patients \(.* differ\); give one file for each") as caught:
        load_notes(path)
    assert ("choose one with --patient ID" in str(caught.value)) == (called is not None)
    if called is not None:
        text = load_notes(path, patient=called)
        assert "Knee pain" in text and "Cough" not in text


@pytest.mark.parametrize(
    "content",
    [
        [{"patient": "Doe, Jane", "note": "Cough"}, {"patient": "jane a. doe", "note": "Knee pain"}],
        [{"mrn": "1", "name": "x", "note": "Cough"}, {"mrn": "1", "note": "Knee pain"}, {"note": "Headache"}],
        [{"doctor": "How are you?", "patient": "I have a cough"}, {"doctor": "Fever?", "patient": "Yes"}],
        {"sex": "F", "family_history": [{"relation": "father", "sex": "M", "condition": "stroke"}], "chief_complaint": "cough"},
        [{"name": "aspirin", "note": "for pain"}, {"name": "insulin", "note": "at night"}][0],
        {"results": [{"name": "Glucose", "date": "2024-05-06", "note": "high"}, {"name": "INR", "date": "2024-05-06"}]},
        {"error": None, "errors": [], "data": {"chief_complaint": "cough"}},
        {"patient": {"name": "Jane"}, "provider": {"name": "Dr House", "id": "9"}, "note": "Cough"},
    ],
    ids=str,
)
def test_one_patient_in_several_spellings_and_other_people_are_one_record(tmp_path: Path, content: Any) -> None:
    assert load_notes(write(tmp_path, content))


def test_one_of_several_patients_is_chosen_and_what_is_left_out_is_counted(tmp_path: Path) -> None:
    path = write(tmp_path, [*OF_TWO[1][0], {"note": "Headache"}])
    notes = read_notes(path, patient="2")
    assert notes.text == "Mrn: 2; Note: Knee pain"
    assert notes.facts["left_out"] == ["2 entries of another patient, or of none"]
    with pytest.raises(InputError, match="names no patient with the given ID"):
        read_notes(path, patient="3")


def test_json_lines_are_notes_of_one_visit_each(tmp_path: Path) -> None:
    path = write(tmp_path, b'{"note": "Cough"}\n\n{"note": "Knee pain"}\n{"note": broken}\n')
    assert count_parts(path) == 3
    assert [read_notes(path, part=part).text for part in (1, 2)] == ["Note: Cough", "Note: Knee pain"]
    assert read_notes(path, part=2).facts["name"] == "notes.json line 2"
    for part, message in (
        (None, "holds 3 notes, one on each line"),
        (3, "line 3 is not JSON"),
        (4, "has no notes number 4"),
        (0, "number 0"),
    ):
        with pytest.raises(InputError, match=message):
            read_notes(path, part=part)


def test_the_limit_on_text_is_for_each_visit_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "LARGEST_BYTES", 30)
    path = write(tmp_path, b'{"note": "Cough"}\n{"note": "Knee pain"}\n{"note": "Cough for a long time"}\n')
    assert read_notes(path, part=2).text == "Note: Knee pain"
    with pytest.raises(InputError, match="line 3 is larger than"):
        read_notes(path, part=3)


def test_a_file_of_one_visit_has_one_part(tmp_path: Path) -> None:
    for content in (SAID, b"Cough.\nFever.\n", b'{\n"note": "Cough"\n}\n', b"\x00\x01"):
        assert count_parts(write(tmp_path, content)) == 1
    assert count_parts(tmp_path / "none.json") == 1
    assert read_notes(write(tmp_path, SAID), part=1).text == SAID


def test_times_that_a_recorder_puts_before_lines_are_left_out(tmp_path: Path) -> None:
    recorded = b"[00:01] Doctor: What hurts?\n[00:04] Patient: My chest.\n"
    assert load_notes(write(tmp_path, recorded)) == "Doctor: What hurts?\nPatient: My chest."
    written = b"(08:30) BP 168/94.\n(09:15) BP 140/80.\n"
    assert load_notes(write(tmp_path, written)) == written.decode().strip()


def test_text_that_was_loaded_is_never_taken_for_a_path(tmp_path: Path) -> None:
    loaded = load_notes(write(tmp_path, {"chief_complaint": "cough"}))
    assert load_notes(loaded) == loaded == "Chief complaint: cough"


def test_text_in_place_of_a_path_is_not_repeated_in_the_error() -> None:
    with pytest.raises(InputError, match="pass it as text=") as caught:
        read_notes("Jane Roe, 45F, cough")
    assert "Jane" not in str(caught.value)


def test_a_patient_who_is_described_may_be_older_at_the_next_visit(tmp_path: Path) -> None:
    visits = [{"patient": "52-year-old man", "note": "Cough"}, {"patient": "53 yo male", "note": "Cough again"}]
    assert "Cough again" in load_notes(write(tmp_path, visits))
