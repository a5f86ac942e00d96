"""A picture and a series in DICOM, for the reports about them."""

from __future__ import annotations

import hashlib

import pytest
from dicoms import a_series, made, written
from pydicom.uid import MediaStorageDirectoryStorage
from records import findings_record


@pytest.fixture
def scan(tmp_path):
    header = {"PatientName": "Roe^Jane", "PatientID": "77", "StudyInstanceUID": "1.2.3", "AccessionNumber": "A1"}
    return written(tmp_path, made(**header, SeriesInstanceUID="1.2.3.4", InstitutionName="Elsewhere"))


@pytest.fixture
def series(tmp_path):
    """A folder of four slices and their index, and the record of a report on the first three."""
    (tmp_path / "ct" / "below").mkdir(parents=True)
    index = made(StudyInstanceUID="", SeriesInstanceUID="")
    index.file_meta.MediaStorageSOPClassUID = index.SOPClassUID = MediaStorageDirectoryStorage
    written(tmp_path / "ct", index, "DICOMDIR")
    a_series(tmp_path / "ct" / "below", 4, StudyInstanceUID="1.2.3", PatientID="77")
    used = sorted((tmp_path / "ct" / "below").iterdir())[:3]
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in used}
    return tmp_path / "ct", used, findings_record(input={"scan": {"name": "series 3", "files": digests}})
