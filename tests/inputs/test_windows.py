"""What is shown where a window shows nothing or next to nothing, and where one picture is part of an acquisition."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicoms import COLUMNS, ROWS, STORED, a_series, made, placed, written

from medgemma_app.errors import InputError
from medgemma_app.inputs.images import read_image
from medgemma_app.inputs.series import read_series

CT = {"Modality": "CT", "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], "RescaleSlope": 1, "RescaleIntercept": 5000}
INSTEAD = "it is shown by percentiles of its values; --window C/W sets another window"
COLOURS, PERCENTILES = "Hounsfield windows as RGB", "percentiles 0.1 and 99.9"


@pytest.mark.parametrize(
    ("center", "width", "warning"),
    [
        (3900, 100, None),  # nearly all of it is black, as around a finger
        (150, 50, "is saturated or inverted: more than 25% of it is pure white; --window C/W sets another window"),
        (2048, 4096, None),
        (2800, 2000, None),  # a little less than half of it is black
    ],
)
def test_a_window_that_shows_next_to_nothing_gives_a_warning_that_names_the_option(
    tmp_path: Path, center: int, width: int, warning: str | None
) -> None:
    path = written(tmp_path, made(Modality="PT", WindowCenter=center, WindowWidth=width, **placed(0)))
    for shown, name in ((read_image(path), "scan.dcm"), (read_series(tmp_path), "series 0 (PT)")):
        assert shown.warnings == ((f"{name} {warning}",) if warning else ())
        assert shown.facts["window"]["center"] == center


@pytest.mark.parametrize(("white", "warned"), [(0, False), (1, True), (2, False)])
def test_the_middle_slice_decides_whether_a_series_gets_a_warning_of_its_window(tmp_path: Path, white: int, warned: bool) -> None:
    for k in range(3):
        elements = {"Modality": "PT", "WindowCenter": 2048, "WindowWidth": 4096, "RescaleSlope": 1, "RescaleIntercept": 3800 * (k == white)}
        written(tmp_path, made(**elements, **placed(k)), str(k))
    assert ["is saturated" in warning for warning in read_series(tmp_path).warnings] == [True] * warned


def test_the_colours_of_hounsfield_windows_give_no_warning(tmp_path: Path) -> None:
    assert read_series(a_series(tmp_path, 3, RescaleIntercept=-964)).warnings == ()


def test_ct_that_shows_nothing_in_hounsfield_windows_is_shown_by_percentiles(tmp_path: Path) -> None:
    (folder := tmp_path / "series").mkdir()
    scan = read_image(written(tmp_path, made(**CT)))
    series = read_series(a_series(folder, 3, RescaleIntercept=5000))
    for shown, name, source in ((scan, "scan.dcm", PERCENTILES), (series, "series 3 (CT)", f"{PERCENTILES} of the middle slice")):
        assert shown.facts["window"]["from"] == source
        assert shown.warnings == (f"{name} shows almost nothing in the Hounsfield windows; {INSTEAD}",)
    with pytest.raises(InputError, match="is blank or nearly so"):
        read_image(written(tmp_path, made(np.full((ROWS, COLUMNS), 24, np.uint16), **CT)))


def test_an_empty_slice_in_the_middle_does_not_change_how_a_ct_series_is_shown(tmp_path: Path) -> None:
    middle = placed(-28, "1.2.3.4")
    a_series(tmp_path, 3)
    air = made(np.full((ROWS, COLUMNS), 24, np.int16), **CT | {"RescaleIntercept": -1024, "SeriesNumber": 3} | middle)
    written(tmp_path, air, "001")
    series = read_series(tmp_path)
    assert (series.facts["window"]["from"], series.facts["slices_found"], series.warnings) == (COLOURS, 3, ())


@pytest.mark.parametrize(
    ("modality", "window"),
    [
        ("MR", {"from": "minimum and maximum of the series", "low": 9.0, "high": 3000.0}),
        ("US", {"from": PERCENTILES, "low": 18.0, "high": 1000.0}),
    ],
)
def test_a_frame_of_mr_is_scaled_by_the_whole_acquisition(tmp_path: Path, modality: str, window: dict[str, Any]) -> None:
    part = np.linspace(0, 1, ROWS * COLUMNS).reshape(ROWS, COLUMNS)
    frames = np.stack([low + part * (high - low) for low, high in ((9, 500), (18, 1000), (20, 3000))]).astype(np.uint16)
    frames[1, 0], frames[1, -1] = 18, 1000
    scan = read_image(written(tmp_path, made(NumberOfFrames=3, PixelData=frames.tobytes(), Modality=modality)), frame=2, pad=False)
    assert scan.facts["window"] == window
    expected = np.round((frames[1].astype(float) - window["low"]) / (window["high"] - window["low"]) * 255)
    assert (np.asarray(scan.image)[..., 0] == expected).all()


@pytest.mark.parametrize(
    ("kind", "elements", "source"),
    [
        ("LOCALIZER", {"WindowCenter": 2048, "WindowWidth": 4096}, "header"),
        ("LOCALIZER", {}, PERCENTILES),
        ("AXIAL", {"WindowCenter": 2048, "WindowWidth": 4096}, COLOURS),
    ],
)
def test_a_ct_localizer_is_shown_like_a_radiograph(tmp_path: Path, kind: str, elements: dict[str, Any], source: str) -> None:
    ds = made(STORED, **CT | {"RescaleIntercept": -1024, "ImageType": ["ORIGINAL", "PRIMARY", kind]} | elements)
    scan = read_image(written(tmp_path, ds))
    assert (scan.facts["window"]["from"], scan.warnings) == (source, ())
