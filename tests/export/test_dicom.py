"""Reports in DICOM: in the study of their picture, and never with another one."""

from __future__ import annotations

import hashlib
import io
from unittest.mock import Mock

import pydicom
import pytest
from dicoms import made, written
from PIL import Image
from records import findings_record, of, saved

from medgemma_app import InputError, export
from medgemma_app.export.dicom import check_scan
from medgemma_app.notices import BLIND_SPOT, NOTICE


@pytest.mark.parametrize("ending", [".dcm", ".sr.dcm"])
def test_a_dicom_report_is_filed_in_the_study_of_its_picture_and_unverified(scan, tmp_path, ending):
    saved(of(scan), tmp_path / f"report{ending}", scan=scan)
    report, picture = pydicom.dcmread(tmp_path / f"report{ending}"), pydicom.dcmread(scan)
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "AccessionNumber"):
        assert report[keyword].value == picture[keyword].value
    assert report.SOPInstanceUID != picture.SOPInstanceUID and report.SeriesInstanceUID != picture.get("SeriesInstanceUID")
    assert report.VerificationFlag == "UNVERIFIED"
    assert "InstitutionName" not in report


def test_a_picture_without_its_preamble_has_reports_too(scan, tmp_path):
    scan.write_bytes(scan.read_bytes()[132:])
    check_scan(scan, "findings")
    saved(of(scan), tmp_path / "report.dcm", scan=scan)
    assert pydicom.dcmread(tmp_path / "report.dcm").PatientID == pydicom.dcmread(scan, force=True).PatientID


def test_a_structured_report_is_partial_by_a_device_and_holds_every_sentence(scan, tmp_path):
    saved(of(scan), tmp_path / "report.sr.dcm", scan=scan)
    report = pydicom.dcmread(tmp_path / "report.sr.dcm")
    assert report.CompletionFlag == "PARTIAL"
    assert report.ContentSequence[0].ConceptCodeSequence[0].CodeMeaning == "Device"
    told = " ".join(str(element.value) for element in report.iterall() if element.keyword == "TextValue")
    assert all(said in told for said in ("The heart is <large> & unchanged.", "Enlarged heart on the left.", NOTICE, BLIND_SPOT))


def test_a_section_that_dicom_has_no_code_for_keeps_its_heading(scan, tmp_path):
    text, sections = "LUNGS:\nThey are clear.\n\nIMPRESSION:\nNormal chest.", {"lungs": "They are clear.", "impression": "Normal chest."}
    saved(of(scan, text=text, sections=sections, issues=[]), tmp_path / "report.sr.dcm", scan=scan)
    told = [str(element.value) for element in pydicom.dcmread(tmp_path / "report.sr.dcm").iterall() if element.keyword == "TextValue"]
    assert {"LUNGS:\nThey are clear.", "Normal chest."} <= set(told)


@pytest.mark.parametrize("ending", [".dcm", ".sr.dcm"])
def test_a_dicom_report_is_never_filed_with_another_picture(scan, tmp_path, ending):
    record = of(scan)
    scan.write_bytes(scan.read_bytes() + b"\0\0")
    for given, message in (
        (scan, "was not written from scan.dcm"),
        (None, "give the file of the picture with --scan"),
        (tmp_path / "no.dcm", "does not exist"),
    ):
        with pytest.raises(InputError, match=message):
            saved(record, tmp_path / f"report{ending}", scan=given)
    with pytest.raises(InputError, match="findings"):
        saved({**of(scan), "kind": "soap"}, tmp_path / f"report{ending}", scan=scan)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scan.dcm"]


@pytest.mark.parametrize("ending", [".dcm", ".sr.dcm"])
def test_a_report_on_a_series_refers_to_the_slices_that_were_used_and_reads_each_once(series, monkeypatch, ending):
    folder, used, record = series
    read = pydicom.dcmread
    with monkeypatch.context() as patched:
        patched.setattr(pydicom, "dcmread", counted := Mock(side_effect=read))
        made = export.render(record, ending, scan=folder)
    assert counted.call_count == len(used)
    report = read(io.BytesIO(made))
    assert "DeviceUID" not in report
    assert (report.PatientID, report.StudyInstanceUID) == ("77", "1.2.3")
    named = [element.value for element in report.iterall() if element.keyword == "ReferencedSOPInstanceUID"]
    assert ending == ".dcm" or sorted(named) == sorted(pydicom.dcmread(path).SOPInstanceUID for path in used)


def test_what_lies_beside_the_slices_does_not_keep_a_report_from_being_filed(series):
    """Neither their index, nor what comes before it and cannot be read."""
    folder, (first, *_), _ = series
    check_scan(folder, "findings")
    whole = first.read_bytes()
    place = whole.index(b"\x20\0\x0d\0UI") + 4
    for name, content in {"0-damaged": whole[:place] + b"YL" + whole[place + 2 :], "1-cut": whole[:140], "2.txt": b"a note"}.items():
        (folder / name).write_bytes(content)
    (folder / "3-dangling").symlink_to(folder / "nowhere")
    check_scan(folder, "findings")
    with pytest.raises(InputError, match="0-damaged is damaged, or is not a DICOM file"):
        check_scan(folder / "0-damaged", "findings")
    for slice_ in (folder / "below").iterdir():
        slice_.unlink()
    with pytest.raises(InputError, match="the folder has no DICOM file with a StudyInstanceUID and a SeriesInstanceUID"):
        check_scan(folder, "findings")


def test_a_report_on_a_series_is_never_filed_with_other_slices(series):
    folder, (first, *_), record = series
    whole = first.read_bytes()
    changed = pydicom.dcmread(first)
    changed.PatientID = "78"
    changed.save_as(first)
    with pytest.raises(InputError, match="was not written from the folder"):
        export.render(record, ".dcm", scan=folder)
    record["input"]["scan"]["files"][first.name] = hashlib.sha256(first.read_bytes()).hexdigest()
    with pytest.raises(InputError, match="differ in PatientID"):
        export.render(record, ".dcm", scan=folder)
    first.write_bytes(whole[:-1])
    with pytest.raises(InputError, match="was not written from the folder"):
        export.render(record, ".dcm", scan=folder)


def test_equal_sections_keep_their_own_codes(scan):
    record = of(scan, text="FINDINGS:\nNormal.\n\nIMPRESSION:\nNormal.", sections={"findings": "Normal.", "impression": "Normal."})
    report = pydicom.dcmread(io.BytesIO(export.render(record, ".sr.dcm", scan=scan)))
    names = [item.ConceptNameCodeSequence[0].CodeMeaning for item in report.ContentSequence if item.ValueType == "CONTAINER"]
    assert names == ["Findings", "Impressions"]


def test_a_picture_that_is_not_in_dicom_gets_no_dicom_report(tmp_path):
    Image.new("L", (64, 64)).save(tmp_path / "scan.png")
    with pytest.raises(InputError, match=r"^scan\.png is not a DICOM file; only a report on a DICOM picture can be written as DICOM$"):
        saved(of(tmp_path / "scan.png"), tmp_path / "report.dcm", scan=tmp_path / "scan.png")
    for record, words in (
        (findings_record(input={"scan": {"name": "scan.png", "format": "PNG"}}), "and scan.png is not a DICOM file"),
        ({**findings_record(), "kind": "soap"}, "only findings reports can be written as DICOM"),
    ):
        with pytest.raises(InputError, match=words):
            saved(record, tmp_path / "report.dcm")


def views(folder, *headers):
    """DICOM files with these headers, and the record of a report on all of them."""
    files = [written(folder, made(**header, InstanceNumber=number), f"{number}.dcm") for number, header in enumerate(headers, 1)]
    facts = [{"name": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()} for file in files]
    return files, findings_record(input={"scan": facts[0], "views": facts[1:]})


def test_a_report_on_several_views_names_them_all_in_their_series(tmp_path):
    study = {"PatientID": "77", "StudyInstanceUID": "1.2.3"}
    files, record = views(tmp_path, *({**study, "SeriesInstanceUID": uid} for uid in ("1.2.3.4", "1.2.3.4", "1.2.3.5")))
    report = pydicom.dcmread(io.BytesIO(export.render(record, ".sr.dcm", scan=files)))
    [evidence] = report.CurrentRequestedProcedureEvidenceSequence
    named = {
        series.SeriesInstanceUID: [one.ReferencedSOPInstanceUID for one in series.ReferencedSOPSequence]
        for series in evidence.ReferencedSeriesSequence
    }
    uids = [pydicom.dcmread(file).SOPInstanceUID for file in files]
    assert named == {"1.2.3.4": uids[:2], "1.2.3.5": uids[2:]}
    assert export.render(record, ".dcm", scan=files)
    with pytest.raises(InputError, match=r"written from 2\.dcm and 3\.dcm too"):
        export.render(record, ".sr.dcm", scan=files[0])


@pytest.mark.parametrize("ending", [".dcm", ".sr.dcm"])
@pytest.mark.parametrize("other", [{"StudyInstanceUID": "1.2.4"}, {"PatientID": "78"}])
def test_a_report_on_views_of_two_studies_or_patients_is_not_filed(tmp_path, ending, other):
    header = {"PatientID": "77", "StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4"}
    files, record = views(tmp_path, header, {**header, **other})
    for refused in (lambda: export.render(record, ending, scan=files), lambda: check_scan(files, "findings")):
        with pytest.raises(InputError, match="differ in PatientID or StudyInstanceUID"):
            refused()


@pytest.mark.parametrize("model", ["Röntgen-Modell", r"C:\models\medgemma", "医" * 40, "a" * 90])
def test_a_model_name_that_dicom_does_not_take_is_made_to_fit(scan, model):
    report = pydicom.dcmread(io.BytesIO(export.render(of(scan, model={"id": model}), ".sr.dcm", scan=scan)))
    name = report.ManufacturerModelName
    assert isinstance(name, str) and name.isascii() and "\\" not in name and 0 < len(name) <= 64
    assert f"medgemma-app with {model}" in [element.value for element in report.iterall() if element.keyword == "TextValue"]
