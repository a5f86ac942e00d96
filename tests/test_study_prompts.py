"""What the model is told and shown of a study: headers, several pictures, series; and pictures of two patients."""

from __future__ import annotations

import hashlib
import json

import pytest
from dicoms import made, written

from medgemma_app import Generation, InputError, Options, findings
from medgemma_app.demo import draw_phantom
from medgemma_app.inputs.header import ImageHeader
from medgemma_app.inputs.images import Scan, Series
from medgemma_app.reports import findings_task


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ({}, None),
        ({"Modality": None, "StudyDate": "20200101"}, None),
        ({"Modality": "CR", "BodyPartExamined": "CHEST", "ViewPosition": "PA"}, "modality CR, body part CHEST, view PA"),
        ({"PatientSex": "F", "PatientAge": "058Y", "StudyDate": "20200101"}, "female, 58 years"),
        ({"PatientSex": "O", "PatientAge": "001M", "Laterality": "L"}, "laterality L, 1 month"),
    ],
)
def test_the_model_is_told_how_the_picture_was_taken_and_nothing_that_names_anybody(header, told):
    assert ImageHeader.from_dict(header).describe() == told


def shot(**header):
    return Scan(draw_phantom(0)[0], {}, header=ImageHeader(**header))


@pytest.mark.parametrize(
    ("prior", "views", "told"),
    [
        (None, [shot(view="LL")], "image 1: modality DX, view PA; image 2: view LL; female, 58 years"),
        (shot(modality="CR", age="057Y"), [], "image 1: modality CR; image 2: modality DX, view PA; female, 58 years"),
        (shot(), [shot(laterality="L")], "image 2: modality DX, view PA; image 3: laterality L; female, 58 years"),
    ],
)
def test_the_model_is_told_of_each_of_several_pictures_how_it_was_taken(demo, prior, views, told):
    current = shot(modality="DX", view="PA", sex="F", age="058Y")
    assert f"From the image files: {told}\n" in findings_task(current, prior=prior, views=views).prompt.parts[-1]


def test_views_of_both_sides_are_not_judged_by_the_side_of_the_first(demo):
    task = findings_task(shot(laterality="L"), views=[shot(laterality="R")])
    said = Generation(
        text="FINDINGS: A mass lies in the right breast.\nIMPRESSION: Right breast mass.", thought=None, token_ids=(1,),
        finish_reason="stop", prompt_tokens=1, seconds=1.0, peak_memory_bytes=1,
    )  # fmt: skip
    assert "wrong-side" not in [issue.code for issue in task.report(demo, said, task.options).validation.issues]


@pytest.fixture
def series():
    return Series(tuple(draw_phantom(seed)[0] for seed in range(6)), {"name": "ct"}, ("odd spacing",), ImageHeader(modality="CT"))


def test_a_series_is_read_slice_by_slice(demo, series):
    prompt = findings_task(series).prompt
    assert prompt.images == series.images
    assert "modality CT" in prompt.parts[0]
    report = findings(demo, series, options=Options(max_tokens=5))
    assert report.to_dict()["prompt"]["file"] == "findings_series.md"
    assert report.warnings == ("odd spacing",)


@pytest.mark.parametrize("role", ["prior", "views"])
def test_a_picture_of_another_patient_is_refused_and_the_id_is_written_nowhere(demo, tmp_path, role):
    mine, old, other = (written(tmp_path, made(PatientID=identity), f"{k}.dcm") for k, identity in enumerate(["MRN1 ", "MRN1", "MRN2"]))
    with pytest.raises(InputError, match="is of a different patient than the scan") as caught:
        findings(demo, mine, **{role: other if role == "prior" else [other]})
    report = findings(demo, mine, options=Options(max_tokens=2), **{role: old if role == "prior" else [old]})
    digest = hashlib.sha256(b"MRN1").hexdigest()
    assert not any(secret in text for text in (str(caught.value), repr(report), json.dumps(report.to_dict())) for secret in ("MRN", digest))


@pytest.mark.parametrize("role", ["prior", "views"])
def test_one_id_of_two_issuers_is_of_two_patients(demo, tmp_path, role):
    mine, other = (written(tmp_path, made(IssuerOfPatientID=issuer), f"{issuer}.dcm") for issuer in "AB")
    with pytest.raises(InputError, match="is of a different patient than the scan"):
        findings(demo, mine, **{role: other if role == "prior" else [other]})


def test_a_series_takes_no_prior(demo, series, scan):
    with pytest.raises(InputError, match="cannot be combined"):
        findings(demo, series, prior=scan)
