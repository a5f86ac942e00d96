"""The facts of a header have a fixed form: in words, in the JSON record and back."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgemma_app.inputs.header import ImageHeader, describe_all

FULL = ImageHeader(
    modality="DX", body_part="CHEST", view="PA", laterality="L", sex="F", age="058Y", study_date="20240506", pixel_spacing=(0.15, 0.2),
    photometric_interpretation="MONOCHROME1", burned_in_annotation="NO", presentation_intent="FOR PRESENTATION",
)  # fmt: skip
WORDS = "modality DX, body part CHEST, view PA, laterality L, female, 58 years"


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (FULL, WORDS),
        (ImageHeader(), None),
        (ImageHeader(study_date="20200101", sex="O"), None),
        (ImageHeader(sex="M", age="001M"), "male, 1 month"),
        (ImageHeader(age="005D"), "5 days"),
    ],
)
def test_a_header_is_described_without_its_date(header: ImageHeader, words: str | None) -> None:
    assert header.describe() == words


def test_several_pictures_are_described_by_their_places_and_one_patient() -> None:
    lateral = ImageHeader(view="LL", sex="M")
    assert describe_all([ImageHeader(), lateral], patient=FULL) == "image 2: view LL; female, 58 years"


def test_a_header_comes_back_from_its_record() -> None:
    record = json.loads(json.dumps(FULL.to_dict()))
    assert record["PatientAge"] == "058Y" and record["PixelSpacing"] == [0.15, 0.2]
    assert ImageHeader.from_dict(record) == FULL
    assert ImageHeader.from_dict({"ImageLaterality": "right", "ImagerPixelSpacing": ["0.1", "0.1"]}) == ImageHeader(
        laterality="R", pixel_spacing=(0.1, 0.1)
    )


@given(st.dictionaries(st.sampled_from(list(FULL.to_dict())), st.none() | st.text() | st.integers() | st.lists(st.floats()) | st.just({})))
def test_a_record_of_any_values_gives_safe_ones(record: dict[str, object]) -> None:
    header = ImageHeader.from_dict(record)
    assert ImageHeader.from_dict(header.to_dict()) == header
    json.dumps(header.to_dict(), allow_nan=False)


def test_the_header_is_light_to_import() -> None:
    code = "import sys, medgemma_app.inputs.header; sys.exit(any(name in sys.modules for name in ('PIL', 'numpy', 'pydicom')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
