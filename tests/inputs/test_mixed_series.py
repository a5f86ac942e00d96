"""Slices whose headers disagree: those of two patients are refused, and those whose values mean different things."""

from pathlib import Path
from typing import Any

import pytest
from dicoms import SECRETS, a_series
from pydicom import dcmread

from medgemma_app.errors import InputError
from medgemma_app.inputs.series import read_series


def mixed(folder: Path, changes: dict[str, Any]) -> Path:
    """A CT series of six slices, three of which say something else."""
    return changed(a_series(folder, 6), changes, ("000", "002", "004"))


def changed(folder: Path, changes: dict[str, Any], slices: tuple[str, ...]) -> Path:
    """Some of the slices say something else; None deletes an element."""
    for name in slices:
        header = dcmread(folder / name)
        for keyword, value in changes.items():
            if value is None:
                delattr(header, keyword)
            else:
                setattr(header, keyword, value)
        header.save_as(folder / name)
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {"PatientID": "MRN54321"},
        {"PatientBirthDate": "19710203"},
        {"PatientID": "", "PatientName": "Roe^Richard"},
        {"PatientID": None, "PatientBirthDate": "19710203"},
    ],
)
def test_slices_of_two_patients_are_never_one_series(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="slices of several patients") as caught:
        read_series(mixed(tmp_path, changes))
    assert not any(secret in str(caught.value) for secret in ("MRN", "Roe", "1971", *SECRETS.values()))


def test_one_id_of_two_issuers_is_of_two_patients(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="slices of several patients"):
        read_series(changed(mixed(tmp_path, {"IssuerOfPatientID": "A"}), {"IssuerOfPatientID": "B"}, ("001",)))


@pytest.mark.parametrize(
    ("changes", "warnings"),
    [
        ({"IssuerOfPatientID": "A", "PatientBirthDate": "", "PatientName": "Doe^Jane^^"}, 0),
        ({"PatientName": "Doe-Smith^Jane"}, 0),
        ({"PatientID": "", "PatientName": "DOE^JANE"}, 1),
        ({"PatientID": "", "PatientName": "", "PatientBirthDate": ""}, 1),
    ],
)
def test_slices_that_may_be_of_one_patient_are_one_series(tmp_path: Path, changes: dict[str, Any], warnings: int) -> None:
    series = read_series(mixed(tmp_path, changes))
    assert series.warnings == ("series 3 (CT): 3 of 6 pictures have no PatientID; check that all are of the same patient",) * warnings
    assert series.patient is not None and series.patient.patient_id is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"RescaleSlope": None, "RescaleIntercept": None},
        {"RescaleType": "US"},
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PresentationLUTShape": "INVERSE"},
    ],
)
@pytest.mark.parametrize("modality", ["CT", "PT"])
def test_slices_whose_values_mean_different_things_are_refused(tmp_path: Path, modality: str, changes: dict[str, Any]) -> None:
    folder = changed(mixed(tmp_path, changes), {"Modality": modality}, tuple(path.name for path in tmp_path.iterdir()))
    if (modality, "RescaleType" in changes) == ("PT", True):
        assert len(read_series(folder).images) == 6
        return
    with pytest.raises(InputError, match=r"mixes kinds of values \(rescale, units or polarity differ in 00\d and 00\d\)"):
        read_series(folder)


def test_the_values_of_a_rescale_may_differ_from_slice_to_slice(tmp_path: Path) -> None:
    assert len(read_series(mixed(tmp_path, {"RescaleSlope": 1.5})).images) == 6
