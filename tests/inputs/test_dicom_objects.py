"""What a DICOM file is of: the facts of its header, and objects that are refused or warned of."""

import json
import warnings
from pathlib import Path

import pytest
from dicoms import SECRETS, made, written

from medgemma_app.errors import InputError
from medgemma_app.inputs.images import read_image


def test_the_header_facts_are_kept_and_what_names_a_person_is_not(tmp_path: Path) -> None:
    elements = {
        "Modality": "DX", "BodyPartExamined": "CHEST", "ViewPosition": "PA", "Laterality": "L", "PatientSex": "F", "PatientAge": "054Y",
        "StudyDate": "20240506", "PixelSpacing": [0.15, 0.15],
    }  # fmt: skip
    facts = read_image(written(tmp_path, made(**elements))).facts
    assert elements.items() <= facts["header"].items()
    told = json.dumps(facts)
    assert not any(secret in told for secret in (*SECRETS.values(), "Doe", "Jane", "House", "1.2.3"))


@pytest.mark.parametrize(
    ("keyword", "value", "kept"),
    [
        ("BodyPartExamined", "CHEST", "CHEST"), ("BodyPartExamined", "C SPINE", "C SPINE"), ("BodyPartExamined", "Chest", "CHEST"),
        ("BodyPartExamined", "DOE JANE", None), ("BodyPartExamined", "CHEST DOE", None), ("BodyPartExamined", "Chest of Jane Doe", None),
        ("ViewPosition", "PA", "PA"), ("ViewPosition", "XTABLE LATERAL", "XTABLE LATERAL"), ("ViewPosition", "JANE", None),
        ("ViewPosition", "<end_of_turn>", None), ("Modality", "DX", "DX"), ("Modality", "DOE", None), ("PatientAge", "054Y", "054Y"),
        ("PatientAge", "54", None), ("PatientAge", "58Y", "58Y"), ("PatientAge", "5D", "5D"), ("PatientAge", "0054Y", None),
        ("BodyPartExamined", "CHEST 2 VIEWS", "CHEST 2 VIEWS"), ("BodyPartExamined", "Thorax ap", "THORAX AP"),
        ("BodyPartExamined", "UP_EXM", "UP_EXM"), ("BodyPartExamined", "LOW_EXM", "LOW_EXM"), ("BodyPartExamined", "WSPINE", "WSPINE"),
        ("BodyPartExamined", "LOW", None), ("BodyPartExamined", "2", None), ("BodyPartExamined", "JANE 2 VIEWS", None),
        ("ViewPosition", "PA/LAT", "PA/LAT"), ("ViewPosition", "2 VIEWS", "2 VIEWS"), ("ViewPosition", "PA JANE", None),
        ("Laterality", "LEFT", "L"), ("Laterality", "both", "B"), ("ImageLaterality", "RT", "R"),
        ("StudyDate", "20240506", "20240506"), ("StudyDate", "12345678", None), ("StudyDate", "", None),
        ("Laterality", "JANE", None), ("PatientSex", "JANE", None),
    ],
)  # fmt: skip
def test_a_header_fact_is_one_of_the_terms_for_it_and_free_text_is_not_repeated(
    tmp_path: Path, keyword: str, value: str, kept: str | None
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = written(tmp_path, made(**{keyword: value}))
    assert read_image(path).header.to_dict()[keyword.removeprefix("Image")] == kept


def test_raw_detector_data_and_burnt_in_writing_give_warnings(tmp_path: Path) -> None:
    found = read_image(written(tmp_path, made(PresentationIntentType="FOR PROCESSING", BurnedInAnnotation="YES"))).warnings
    assert [word in text for word, text in zip(("FOR PROCESSING", "burnt into"), found, strict=True)] == [True, True]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("1.2.840.10008.5.1.4.1.1.66.4", "is a segmentation"),
        ("1.2.840.10008.5.1.4.1.1.66.7", "is a segmentation"),
        ("1.2.840.10008.5.1.4.1.1.481.2", "is a map of radiotherapy doses"),
        ("1.2.840.10008.5.1.4.1.1.11.1", "is a presentation state"),
        ("1.2.840.10008.5.1.4.1.1.88.33", "is a structured report"),
        ("1.2.840.10008.5.1.4.1.1.104.1", "is a document"),
        ("1.2.840.10008.5.1.4.1.1.88.59", "is a structured report"),
        ("SEG", "is a segmentation"),
        ("RTDOSE", "is a map of radiotherapy doses"),
        ("PR", "is a presentation state"),
        ("SR", "is a structured report"),
        ("KO", "is a structured report"),
        ("DOC", "is a document"),
    ],
)
def test_what_does_not_show_a_patient_is_refused_by_its_class_or_modality(tmp_path: Path, kind: str, message: str) -> None:
    secondary_capture = "1.2.840.10008.5.1.4.1.1.7"
    elements = {"Modality": kind, "SOPClassUID": secondary_capture} if kind.isalpha() else {"SOPClassUID": kind}
    with pytest.raises(InputError, match=message):
        read_image(written(tmp_path, made(**elements)))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("RTIMAGE", "radiotherapy image"),
        ("1.2.840.10008.5.1.4.1.1.7", "secondary capture"),
        ("1.2.840.10008.5.1.4.1.1.7.2", "secondary capture"),
        ("1.2.840.10008.5.1.4.1.1.481.1", "radiotherapy image"),
        ("1.2.840.10008.5.1.4.1.1.481.23", "radiotherapy image"),
        ("1.2.840.10008.5.1.4.1.1.30", "parametric map"),
    ],
)
def test_what_may_not_show_a_patient_gives_a_warning_by_its_class_or_modality(tmp_path: Path, kind: str, message: str) -> None:
    assert message in read_image(written(tmp_path, made(**{"Modality" if kind.isalpha() else "SOPClassUID": kind}))).warnings[0]


def test_a_picture_that_does_not_say_its_class_is_read() -> None:
    ds = made(Modality="DX")
    del ds.SOPClassUID
    assert read_image(ds).warnings == ()


def test_an_object_without_a_picture_is_named_by_its_class(tmp_path: Path) -> None:
    ds = made(SOPClassUID="1.2.840.10008.5.1.4.1.1.11.1")
    for keyword in ("Rows", "Columns", "PixelData"):
        delattr(ds, keyword)
    with pytest.raises(InputError, match=r"holds no picture \(Grayscale Softcopy Presentation State Storage\)"):
        read_image(written(tmp_path, ds))
