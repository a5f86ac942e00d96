"""Series with a damaged slice, and folders that hold no series."""

import json
from pathlib import Path

import pytest
from dicoms import a_series
from hypothesis import given, settings
from hypothesis import strategies as st

from medgemma_app.errors import InputError, OptionError
from medgemma_app.inputs.series import read_series


@pytest.mark.parametrize("length", [3000, 500], ids=["in the pixels", "in the header"])
def test_a_damaged_slice_is_an_error_and_no_gap(tmp_path: Path, length: int) -> None:
    a_series(tmp_path)
    (tmp_path / "005").write_bytes((tmp_path / "005").read_bytes()[:length])
    with pytest.raises(InputError, match=r"^005 is damaged, or is not a DICOM file"):
        read_series(tmp_path)


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
