"""Any damage to a DICOM file."""

import io

import pytest
from dicoms import STORED, made
from hypothesis import given, settings
from hypothesis import strategies as st

from medgemma_app.errors import InputError
from medgemma_app.inputs.images import load_image


def valid_bytes() -> bytes:
    buffer = io.BytesIO()
    made(WindowCenter=2000, WindowWidth=1500, RescaleSlope=1, RescaleIntercept=0, PixelSpacing=[1, 1]).save_as(
        buffer, enforce_file_format=True
    )
    return buffer.getvalue()


VALID = valid_bytes()


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(VALID) - STORED.nbytes + 20), st.integers(0, 255)), min_size=1, max_size=6),
    st.integers(0, len(VALID)),
)
def test_any_damage_gives_a_picture_or_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]], end: int
) -> None:
    content = bytearray(VALID)
    for position, value in changes:
        content[position] = value
    path = tmp_path_factory.getbasetemp() / "damaged.dcm"
    path.write_bytes(content if end % 4 else content[:end])
    try:
        image = load_image(path)
    except InputError:
        return
    assert (image.mode, image.width) == ("RGB", image.height)
