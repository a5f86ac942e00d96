"""Reports as FHIR Bundles."""

from __future__ import annotations

import uuid

import pytest
from fhir.resources.R4B.bundle import Bundle
from records import CREATED, findings_record, soap_record

from medgemma_app import InputError
from medgemma_app.errors import OptionError
from medgemma_app.export import fhir
from medgemma_app.notices import NOTICE


def test_a_note_of_another_form_has_its_own_title_and_sections_in_fhir():
    sections = {"chief complaint": "Cough.", "plan": "Rest."}
    record = {**soap_record(), "sections": sections, "prompt": {"title": "History and physical"}}
    Bundle.model_validate(found := fhir.bundle(record))
    note = found["entry"][0]["resource"]
    assert (note["type"], note["title"]) == ({"text": "History and physical"}, "History and physical (draft, not verified)")
    assert [(one["title"], "code" in one) for one in note["section"]] == [("Chief complaint", False), ("Plan", True)]


@pytest.mark.parametrize("kind", ["ask", "locate"])
def test_answers_to_questions_are_not_written_as_fhir(kind):
    with pytest.raises(InputError, match="FHIR"):
        fhir.bundle({"kind": kind, "text": "Yes."})


@pytest.mark.parametrize(("record", "kind"), [(findings_record(), "collection"), (soap_record(), "document")])
def test_a_fhir_bundle_is_what_r4_asks_for(record, kind):
    assert Bundle.model_validate(fhir.bundle(record, subject="Patient/7")).type == kind
    report = fhir.bundle(record, subject="Patient/7")["entry"][0]["resource"]
    assert (report["status"], report["subject"]) == ("preliminary", {"reference": "Patient/7"})
    assert "subject" not in fhir.bundle(record)["entry"][0]["resource"]
    assert NOTICE in report["text"]["div"]


def test_a_fhir_bundle_names_the_codes_of_the_sections_and_what_the_checks_found():
    entries = {entry["resource"]["resourceType"]: entry["resource"] for entry in fhir.bundle(soap_record())["entry"]}
    assert [section["code"]["coding"][0]["code"] for section in entries["Composition"]["section"]] == ["61150-9", "18776-5"]
    assert entries["OperationOutcome"]["issue"][0]["details"]["text"] == "the note says 850 mg, the source 500 mg"
    assert len({entry["fullUrl"] for entry in fhir.bundle(soap_record())["entry"]}) == 4


def test_a_fhir_issue_says_where_it_is_and_which_values_differ():
    issue = {"code": "dose-mismatch", "severity": "warning", "message": "x", "start": 3, "end": 9, "source_start": 0, "found": "850 mg"}
    made = fhir.bundle(findings_record(issues=[issue]))
    assert Bundle.model_validate(made)
    outcome = next(entry["resource"] for entry in made["entry"] if entry["resource"]["resourceType"] == "OperationOutcome")
    told = {
        each["url"].removeprefix(fhir.EXTENSION): next(v for k, v in each.items() if k != "url")
        for each in outcome["issue"][0]["extension"]
    }
    assert told == {"start": 3, "end": 9, "source-start": 0, "found": "850 mg"}


def test_an_issue_without_a_message_leaves_the_bundle_valid():
    made = fhir.bundle(findings_record(issues=[{"code": "truncated", "severity": "error", "message": ""}]))
    assert Bundle.model_validate(made)
    assert not any("text" in issue["details"] and not issue["details"]["text"] for issue in made["entry"][2]["resource"]["issue"])


@pytest.mark.parametrize("reference", ["Jane Roe", "patient/7", "Patient/", "Patient/7/8", "http://x", "urn:uuid:7", "Patient/a b", ""])
def test_a_subject_that_is_not_a_fhir_reference_is_refused(reference):
    with pytest.raises(OptionError, match="FHIR reference"):
        fhir.bundle(findings_record(), subject=reference)
    for good in ("Patient/7", "https://example.org/fhir/Patient/7", f"urn:uuid:{uuid.uuid4()}"):
        fhir.check_references("soap", good, None)


def test_a_note_without_headings_has_no_empty_list_of_sections_in_fhir():
    resource = fhir.bundle({"text": "Rest.", "kind": "soap", "sections": {"plan": ""}})["entry"][0]["resource"]
    assert (resource["resourceType"], "section" in resource) == ("Composition", False)


@pytest.mark.parametrize("record", [findings_record(), soap_record()], ids=["findings", "soap"])
def test_the_dates_of_a_fhir_report_are_those_of_its_generation_or_unknown(record):
    for known in (True, False):
        made = fhir.bundle(record if known else {**record, "created": None})
        assert Bundle.model_validate(made)
        report, *_, provenance = (entry["resource"] for entry in made["entry"])
        dates = {
            name: value for one in (report, provenance) for name, value in one.items() if name.strip("_") in ("date", "issued", "recorded")
        }
        assert len(dates) == 2
        assert all((value == CREATED) if known else (value["extension"][0]["valueCode"] == "unknown") for value in dates.values())


def test_an_imaging_study_is_referred_to_only_where_it_is_given_and_only_by_findings():
    made = fhir.bundle(findings_record(), study="ImagingStudy/9")
    assert Bundle.model_validate(made)
    assert made["entry"][0]["resource"]["imagingStudy"] == [{"reference": "ImagingStudy/9"}]
    assert "imagingStudy" not in fhir.bundle(findings_record())["entry"][0]["resource"]
    for record, study, words in ((findings_record(), "CT 9", "FHIR reference"), (soap_record(), "ImagingStudy/9", "findings reports only")):
        with pytest.raises(OptionError, match=words):
            fhir.bundle(record, study=study)
