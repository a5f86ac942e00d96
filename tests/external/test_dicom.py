"""The DICOM that export/ writes, judged by dciodvfy (Debian: dicom3tools)."""

from __future__ import annotations

import subprocess

import pytest
from dicoms import a_series, made, written
from records import saved

from medgemma_app import findings

pytestmark = pytest.mark.external


@pytest.mark.parametrize("ending", [".dcm", ".sr.dcm"])
@pytest.mark.parametrize("kind", ["a picture", "a series"])
def test_dciodvfy_finds_no_error(demo, tmp_path, kind, ending):
    header = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4", "PatientSex": "F", "StudyDate": "20260101"}
    (tmp_path / "ct").mkdir()
    scan = written(tmp_path, made(**header, Modality="DX")) if kind == "a picture" else a_series(tmp_path / "ct", 3, **header)
    view = [written(tmp_path, made(**{**header, "SeriesInstanceUID": "1.2.3.5"}), "view.dcm")] if kind == "a picture" else []
    record = findings(demo, scan, views=view).to_dict()
    for model in ("demo", r"C:\Modelle\Röntgen", "医" * 40):
        record["model"]["id"] = model
        saved(record, tmp_path / f"report{ending}", scan=[scan, *view])
        said = subprocess.run(["dciodvfy", tmp_path / f"report{ending}"], capture_output=True, text=True, check=False).stderr
        assert "EncapsulatedPDF" in said or "BasicTextSR" in said
        assert "Error" not in said
