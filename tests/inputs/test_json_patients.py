"""Two patients are never one record: in plain JSON."""

import json
from typing import Any

import pytest
from resources import read

from medgemma_app.errors import InputError

COUGH, KNEE = "Cough for three days.", "Knee pain after a fall."


@pytest.mark.parametrize(
    ("content", "patient"),
    [
        ({"John Smith": {"note": COUGH}, "Jane Doe": {"note": KNEE}}, "Jane Doe"),
        ({"1234567": {"age": 70, "sex": "M", "note": COUGH}, "7654321": {"age": 30, "sex": "F", "note": KNEE}}, "7654321"),
        ({"patients": {"1": {"note": COUGH}, "2": {"note": KNEE}}}, "2"),
        ({"patient1": {"note": COUGH}, "patient2": {"note": KNEE}}, "patient2"),
        ({"Patient A": COUGH, "Patient B": KNEE}, "B"),
        ([f"MRN: 111\n{COUGH}", f"MRN: 222\n{KNEE}"], "222"),
        ([{"patient_id": "2", "note": KNEE}, {"note": f"MRN: 1\n{COUGH}"}, {"note": f"MRN: 2\n{KNEE}"}], "2"),
        ({"patients": {"a": {"id": "77", "note": COUGH}, "b": {"id": "78", "note": KNEE}}}, "78"),
        ([{"name": "ann lee", "age": 70, "note": COUGH}, {"name": "bob ray", "age": 70, "note": KNEE}], "bob ray"),
        ([{"name": "111", "problem": COUGH}, {"name": "222", "problem": KNEE}], "222"),
        ({"encounters": [{"note": f"Patient Name: Ann Lee\n{COUGH}"}, {"note": f"Patient Name: Bob Ray\n{KNEE}"}]}, "Bob Ray"),
        ({"labs": [{"mrn": "1", "result": COUGH}, {"mrn": "2", "result": KNEE}]}, "2"),
        ([{"id": "1", "age": 70, "note": COUGH}, {"id": "2", "age": 70, "note": KNEE}], "2"),
        (
            {
                "visits": [
                    {"patient": {"name": {"first": "Ann", "last": "Lee"}}, "note": COUGH},
                    {"patient": {"name": [{"given": ["Bob", "A"], "family": "Ray"}]}, "note": KNEE},
                ]
            },
            "Bob Ray",
        ),
        ([{"first": "Ann", "last": "Lee", "note": COUGH}, {"first": "Bob", "last": "Lee", "note": KNEE}], "Bob"),
        (
            [{"patient": {"identifiers": [{"value": "77"}]}, "note": COUGH}, {"patient": {"identifiers": [{"value": "78"}]}, "note": KNEE}],
            "78",
        ),
        ([{"patient": {"identifier": {"value": "77"}}, "note": COUGH}, {"patient": {"identifier": {"value": "78"}}, "note": KNEE}], "78"),
        ({"columns": ["patient_id", "note"], "index": [0, 1], "data": [["1", COUGH], ["2", KNEE]]}, "2"),
        ([["patient_id", "note"], ["1", COUGH], ["2", KNEE]], "2"),
        (
            {
                "data": {
                    "patients": {
                        "edges": [{"node": {"id": "1", "name": "Ann", "note": COUGH}}, {"node": {"id": "2", "name": "Bob", "note": KNEE}}]
                    }
                }
            },
            "2",
        ),
        ([{"patient": {"uuid": "a-1"}, "note": COUGH}, {"patient": {"uuid": "b-2"}, "note": KNEE}], "b-2"),
        ([{"PAT_MRN_ID": "A1", "pat_name": "LEE,ANN", "note": COUGH}, {"PAT_MRN_ID": "B2", "pat_name": "RAY,BOB", "note": KNEE}], "B2"),
        ([{"participant_id": "1", "note": COUGH}, {"participant_id": "2", "note": KNEE}], "2"),
        ([{"subject": {"display": "Ann Lee"}, "note": COUGH}, {"subject": {"display": "Bob Ray"}, "note": KNEE}], "Bob Ray"),
        ([{"resident": "Eva Hall", "patient": "Ann", "note": COUGH}, {"resident": "Eva Hall", "patient": "Bob", "note": KNEE}], "Bob"),
    ],
    ids=str,
)
def test_json_of_two_patients_is_refused_and_one_can_be_chosen(content: Any, patient: str) -> None:
    with pytest.raises(InputError, match=r"2 patients \([a-z ]+ differ\); give one file for each, or choose one with --patient ID, or if"):
        read(content)
    notes = read(content, patient=patient)
    assert KNEE in notes.text and COUGH not in notes.text


@pytest.mark.parametrize(
    "content",
    [
        {"patients": [{"note": COUGH}, {"note": KNEE}]},
        {"cases": [COUGH, KNEE]},
        [{"patient": {"age": 64}, "note": COUGH}, {"patient": {"age": 62}, "note": KNEE}],
    ],
    ids=str,
)
def test_json_of_two_patients_who_have_no_name_or_number_is_refused(content: Any) -> None:
    with pytest.raises(InputError, match=r"2 patients \((ages|entries) differ\); give one file for each, or if they"):
        read(content)


@pytest.mark.parametrize(
    "content",
    [
        {"mrn": "1", "note": f"MRN: 2\n{COUGH}"},
        {"mrn": ["1", "2"], "note": COUGH},
        {"mrn": {"0": "1", "1": "2"}, "note": {"0": COUGH, "1": KNEE}},
        {"patient": "Ann Lee", "notes": [f"Name: Ann Lee\n{COUGH}\n\nName: Bob Ray\n{KNEE}"]},
    ],
    ids=str,
)
def test_an_entry_that_names_two_patients_cannot_be_split(content: Any) -> None:
    for patient in (None, "1", "Ann Lee"):
        with pytest.raises(InputError, match=r"2 patients \((record numbers|names) differ\); give one file for each, or if they"):
            read(content, patient=patient)


@pytest.mark.parametrize(
    ("content", "text", "left_out"),
    [
        (
            {"patients": [{"id": "1", "name": "Ann"}, {"id": "2", "name": "Bob"}], "remark": "HIV positive",
             "observations": [{"patient_ref": "2", "text": "HIV positive"}, {"patient_ref": "1", "text": "Cough"}]},
            "Patients: (Id: 1; Name: Ann)\nObservations: (Patient ref: 1; Text: Cough)",
            3,
        ),
        (
            {"patient": "Ann", "visits": [{"note": "HIV"}, {"patient": "Bob", "note": "HIV"}, {"patient": "Ann", "note": "Cough"}]},
            "Patient: Ann\nVisits: (Patient: Ann; Note: Cough)",
            2,
        ),
        (
            [{"mrn": "1", "name": "Ann", "text": "Cough"}, {"mrn": "2", "name": "Ann", "text": "HIV"}, {"name": "Ann", "text": "HIV"}],
            "Mrn: 1; Name: Ann; Text: Cough",
            2,
        ),
        (
            [{"patient_ref": "1", "text": "Cough"}, {"text": "MRN: 1\nCough"}, {"text": "MRN: 2\nHIV"}, {"pt_id": "2", "text": "HIV"}],
            "Patient ref: 1; Text: Cough\nText: MRN: 1\nCough",
            2,
        ),
        (
            [{"mrn": "1", "sex": "F", "text": "Cough"}, {"mrn": "2", "sex": "M", "text": "HIV"}, {"sex": "F", "text": "HIV"}],
            "Mrn: 1; Sex: F; Text: Cough",
            2,
        ),
        (
            [{"patient": "Ann", "text": "Cough"}, {"patient": "Bob", "text": "HIV"}, {"text": "MRN: 2\nHIV positive"}],
            "Patient: Ann; Text: Cough",
            2,
        ),
    ],
    ids=["by reference", "beside another patient", "of the same name", "by a number in its text", "of the same sex", "not linked"],
)  # fmt: skip
def test_what_is_not_certainly_the_chosen_patients_is_left_out_and_counted(content: Any, text: str, left_out: int) -> None:
    notes = read(content, patient="1" if '"1"' in json.dumps(content) else "Ann")
    assert notes.text == text
    assert notes.facts["left_out"] == [f"{left_out} entries of another patient, or of none"]


@pytest.mark.parametrize(
    "content",
    [
        {"medications": [{"name": "Warfarin", "note": "daily"}, {"name": "Metformin", "note": "daily"}], "note": COUGH},
        [{"name": "Warfarin Sodium", "dose": "5 mg", "note": "daily"}, {"name": "Insulin Glargine", "dose": "10 U", "note": "daily"}],
        {"patient": "Ann Lee", "providers": [{"full_name": "Eva Hall", "id": "1"}, {"full_name": "Paul Miller", "id": "2"}], "note": COUGH},
        {"patient": {"name": "Ann Lee", "dob": "1950-01-01"}, "emergencyContact": {"name": "Bob", "dob": "1940-01-01"}, "note": COUGH},
        {"patient": {"name": {"first": "Ann", "last": "Lee"}}, "contacts": [{"name": {"first": "Bob", "last": "Roe"}}], "note": COUGH},
        {"mrn": "5", "family_history": [{"name": "Eva Lee", "dob": "1930-01-01", "mrn": "6", "note": "Name: Eva Lee"}], "note": COUGH},
        {
            "patient": "Ann Lee",
            "visits": [{"id": "v1", "date": "2024-01-02", "note": COUGH}, {"id": "v2", "date": "2024-02-02", "note": COUGH}],
        },
        [{"id": "n1", "patient": "Ann Lee", "text": COUGH}, {"id": "n2", "patient": "Ann Lee", "text": COUGH}],
        [{"name": "Progress Note", "text": COUGH}, {"name": "Discharge Summary", "text": COUGH}],
        {"data": [{"name": "Serum Sodium", "text": "normal"}, {"name": "Serum Potassium", "text": "normal"}], "note": COUGH},
        [{"subject": "Lab results", "text": COUGH}, {"subject": "Follow-up visit", "text": COUGH}],
        [{"from": "ward", "subject": "Jones Fracture", "text": COUGH}, {"from": "ward", "subject": "Colles Splint", "text": KNEE}],
        {"Hospital Course": {"note": COUGH}, "Discharge Plan": {"note": KNEE}},
        {"patients": [{"name": "Ann Lee", "note": COUGH}]},
        [{"patient": {"age": 64}, "note": COUGH}, {"patient": {"age": "65 years"}, "note": KNEE}],
        {
            "patient": {
                "name": [{"given": ["Ann", "B"], "family": "Lee"}, {"family": "Hall"}],
                "identifiers": [{"value": "77"}, {"value": "5"}],
            },
            "note": COUGH,
        },
        {"2023": {"note": COUGH}, "2024": {"note": KNEE}},
        {"patient": {"nom": "LEE", "prenom": "Ann"}, "interprète": "Mme Eva Hall", "médecins": [{"nom": "Ray", "id": "5"}], "note": COUGH},
        {"patient": {"id": "77", "patient_number": "5", "uuid": "3f"}, "note": COUGH},
        [{"patient_id": "5", "patient_uuid": "3f", "note": COUGH}, {"patient_uuid": "3f", "note": KNEE}],
        [{"name": "aspirin", "note": "for pain"}, {"name": "insulin", "note": "at night"}],
        [{"patient": "I have had a cough for days.", "note": COUGH}, {"patient": "It is better now.", "note": COUGH}],
        [{"id": "v1", "date": "2024-01-02", "note": COUGH}, {"id": "v2", "date": "2024-02-02", "note": COUGH}],
        [{"id": 1, "speaker": "Doctor", "text": "Hello"}, {"id": 2, "speaker": "Ann", "text": COUGH}],
    ],
    ids=str,
)
def test_names_and_numbers_of_others_in_json_are_no_second_patient(content: Any) -> None:
    assert read(content).text
