"""The DICOM that export/ writes, judged by dciodvfy (Debian: dicom3tools)."""

from __future__ import annotations

import subprocess

import pytest
from dicoms import a_series, made, written

from medgemma_app import findings

pytestmark = pytest.mark.external


@pytest.mark.parametrize("ending", [".dcm", ".sr.dcm"])
@pytest.mark.parametrize("kind", ["a picture", "a series"])
def test_dciodvfy_finds_no_error(demo, tmp_path, kind, ending):
    header = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4", "PatientSex": "F", "StudyDate": "20260101"}
    (tmp_path / "ct").mkdir()
    scan = written(tmp_path, made(**header, Modality="DX")) if kind == "a picture" else a_series(tmp_path / "ct", 3, **header)
    findings(demo, scan).save(tmp_path / f"report{ending}", scan=scan)
    said = subprocess.run(["dciodvfy", tmp_path / f"report{ending}"], capture_output=True, text=True, check=False).stderr
    assert "EncapsulatedPDF" in said or "BasicTextSR" in said
    assert "Error" not in said
