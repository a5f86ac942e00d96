"""FHIR records of one patient, and of several: refused, or one is chosen."""

from typing import Any

import pytest
from resources import SAID, A, B, asked, bundle, concept, condition, drug, patient, read

from medgemma_app.errors import InputError

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
        pytest.param(bundle(condition("Gout", "Patient/a"), {"resourceType": "Appointment", "description": "Knee pain",
                            "participant": [{"actor": {"reference": "Practitioner/b"}}, {"actor": {"reference": "Patient/b"}}]}),
                     id="a participant"),
        pytest.param(bundle(condition("Gout", "Patient/a"), {"resourceType": "QuestionnaireResponse", "source": {"reference": "Patient/b"},
                            "item": [{"text": "Knee pain"}]}), id="who answers"),
        pytest.param(bundle(patient("a", name=[{"given": ["Ann"], "family": "Smith"}]), condition("Gout", "Patient/a"),
                            condition("Asthma", subject={"display": "Bob Smith"})), id="a Patient and another name"),
        pytest.param(bundle(condition("Gout", subject={"reference": "Patient/a", "display": "Ann Smith"}),
                            condition("Asthma", subject={"display": "Bob Smith"})), id="a reference with a name, and another name"),
    ],
)  # fmt: skip
def test_two_patients_are_never_one_record(record: Any) -> None:
    with pytest.raises(InputError, match="2 patients; give one file for each, or choose one with --patient ID"):
        read(record)


@pytest.mark.parametrize("other", [{"birthDate": "1990"}, {"gender": "male"}])
@pytest.mark.parametrize("called", [None, "a"])
def test_one_id_with_two_birth_dates_or_sexes_is_of_two_patients(other: dict[str, Any], called: str | None) -> None:
    one = patient("a", birthDate="1950-02-03", gender="female")
    record = bundle(one, {**one, **other}, condition("Gout", "Patient/a"))
    with pytest.raises(InputError, match=r"2 patients; give one file for each$"):
        read(record, patient=called)
    assert "Gout" in read(bundle(one, {**one, "birthDate": "1950"}, condition("Gout", "Patient/a"))).text


@pytest.mark.parametrize("called", ["a", "Patient/a", "MRN-77"])
def test_one_patient_is_chosen_with_what_the_record_refers_to_for_them(called: str) -> None:
    notes = read(TWO, patient=called)
    assert notes.text.splitlines() == ["Condition: Diabetes", "Medication request: Metformin"]
    left_out = ["resource of another patient, 2 times", "Condition that names no patient", "Medication that names no patient"]
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
def test_the_way_on_works_for_every_way_to_name_a_patient(one: dict[str, Any], other: dict[str, Any], called: str | None) -> None:
    record = bundle(condition("Gout", **one), condition("Asthma", **other))
    with pytest.raises(InputError, match="2 patients; give one file for each") as caught:
        read(record)
    assert ("--patient" in str(caught.value)) == (called is not None)
    if called:
        text = read(record, patient=called).text
        assert "Gout" in text and "Asthma" not in text


def test_a_patient_the_record_does_not_have_is_refused_without_naming_them() -> None:
    with pytest.raises(InputError, match="names no patient with the given ID") as caught:
        read(TWO, patient="secret")
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
def test_one_patient_in_several_ways_is_one(record: dict[str, Any]) -> None:
    assert SAID in read(record).text


def test_addresses_of_resources_are_no_record_numbers() -> None:
    visits = [f"urn:uuid:{digit * 8}-9695-412c-9446-29c7e3e6e2de" for digit in "12"]
    record = bundle(patient("a", **MRN), *(condition(SAID, "Patient/a", encounter={"reference": visit}) for visit in visits))
    record["entry"] += [{"resource": condition("Gout", "Patient/a", evidence=[{"detail": [{"reference": visit}]}])} for visit in visits]
    record["entry"] += [{"resource": condition("Gout", "Patient/a", text={"div": f"<div>ID: {visit}</div>"})} for visit in visits]
    assert "Gout" in read(record).text


@pytest.mark.parametrize("kind", ["FamilyMemberHistory", "RelatedPerson", "Practitioner"])
def test_the_birth_date_of_somebody_else_makes_no_other_patient(kind: str) -> None:
    other = {"resourceType": kind, "bornDate": "1940", "birthDate": "1940-01-01", "relationship": concept("mother")}
    record = bundle(patient("a", birthDate="1970-01-01"), condition(SAID, "Patient/a"), other)
    assert "1940" in read(record).text


def test_a_subject_who_is_not_the_patient_is_told() -> None:
    apgar = {"resourceType": "Observation", "code": concept("Apgar"), "valueInteger": 9,
             "subject": {"reference": "RelatedPerson/r", "display": "newborn"}}  # fmt: skip
    assert read(bundle(patient("a"), apgar)).text == "Observation: Apgar: 9; subject: newborn"


@pytest.mark.parametrize("role", ["subscriber", "author", "performer"])
def test_a_resource_without_a_subject_is_not_of_the_patient_who_pays_for_it_or_writes_it(role: str) -> None:
    other = {"resourceType": "Coverage", "status": "active", role: {"reference": "Patient/mother"}}
    assert "Gout" in read(bundle(condition("Gout", "Patient/a"), other)).text
