"""Any damage to a DICOM file or to a slice of a series, and folders that hold no series."""

import io
import json
import warnings
from pathlib import Path

import pytest
from dicoms import STORED, a_series, made
from hypothesis import given, settings
from hypothesis import strategies as st

from medgemma_app.errors import InputError, OptionError
from medgemma_app.inputs.images import load_image
from medgemma_app.inputs.series import read_series
from medgemma_app.inputs.studies import find_studies


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
def test_any_damage_to_a_file_gives_a_picture_or_an_input_error(
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


@pytest.mark.parametrize("length", [3000, 500], ids=["in the pixels", "in the header"])
def test_a_damaged_slice_is_an_error_and_no_gap(tmp_path: Path, length: int) -> None:
    a_series(tmp_path)
    (tmp_path / "005").write_bytes((tmp_path / "005").read_bytes()[:length])
    with pytest.raises(InputError, match=r"^005 is damaged, or is not a DICOM file"):
        read_series(tmp_path)


@pytest.mark.parametrize("uid", [b"1.2.840.10008.5.1.4.1.1.1", b"1.2.3."], ids=["class", "instance"])
def test_no_warning_quotes_a_header_that_is_not_as_it_should_be(tmp_path: Path, uid: bytes) -> None:
    for path in a_series(tmp_path, 3).iterdir():
        path.write_bytes(path.read_bytes().replace(uid, uid[:-1] + b"z"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        find_studies([str(tmp_path)])
        assert len(read_series(tmp_path).images) == 3


def test_what_is_not_a_series_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("not a slice")
    for source, message in (
        (tmp_path, "holds no DICOM picture"), (tmp_path / "readme.txt", "holds no DICOM picture"), (tmp_path / "none", "does not exist"),
        ("http://example.org/", "nothing is fetched"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            read_series(source)
    with pytest.raises(OptionError, match="at least 1"):
        read_series(tmp_path, slices=0)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(130, 900), st.integers(0, 255)), min_size=1, max_size=4))
def test_any_damage_to_a_slice_gives_a_series_or_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    folder = a_series(tmp_path_factory.mktemp("series"), 3)
    content = bytearray((folder / "001").read_bytes())
    for position, value in changes:
        content[position] = value
    (folder / "001").write_bytes(content)
    try:
        series = read_series(folder)
    except InputError:
        return
    assert 1 <= len(series.images) <= 3
    json.dumps(series.facts, allow_nan=False)
