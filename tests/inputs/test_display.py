"""A DICOM picture is shown as a viewer shows it, judged by pydicom's own functions; CT and MR as Google shows them to the model."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicoms import COLUMNS, ROWS, STORED, lut, made, shown, written
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array

from medgemma_app.errors import InputError, OptionError
from medgemma_app.inputs.images import load_image, read_image

CURVE = (np.linspace(0, 1, 4096) ** 2 * 65535).astype(np.uint16)


TRANSFORMS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "a window": {"WindowCenter": 2000, "WindowWidth": 1500},
    "the first of several windows": {"WindowCenter": [1000, 3000], "WindowWidth": [800, 20]},
    "an exact window": {"WindowCenter": 2000, "WindowWidth": 1500, "VOILUTFunction": "LINEAR_EXACT"},
    "a sigmoid": {"WindowCenter": 2000, "WindowWidth": 1500, "VOILUTFunction": "SIGMOID"},
    "a narrow window": {"WindowCenter": 2000, "WindowWidth": 1},
    "rescaling and a window": {"RescaleSlope": 2, "RescaleIntercept": -1024, "WindowCenter": 40, "WindowWidth": 400},
    "a modality table": {"ModalityLUTSequence": [lut(0, 16, CURVE)], "WindowCenter": 32768, "WindowWidth": 65536},
    "a value-of-interest table": {"VOILUTSequence": [lut(100, 16, CURVE[:3000])]},
    "a table goes before a window": {"VOILUTSequence": [lut(0, 12, CURVE // 16)], "WindowCenter": 10, "WindowWidth": 10},
}


@pytest.mark.parametrize("elements", [pytest.param(value, id=key) for key, value in TRANSFORMS.items() if value])
def test_the_picture_is_what_pydicom_computes(tmp_path: Path, elements: dict[str, Any]) -> None:
    path = written(tmp_path, made(**elements))
    ds = pydicom.dcmread(path)
    values = apply_voi_lut(apply_modality_lut(pixel_array(ds), ds).astype(int), ds).astype(float)
    expected = (values - values.min()) / (values.max() - values.min()) * 255
    if "VOILUTSequence" not in elements and elements.get("VOILUTFunction") == "SIGMOID":
        expected = values / (2**12 - 1) * 255
    if "VOILUTSequence" in elements:
        expected = values / (2 ** elements["VOILUTSequence"][0].LUTDescriptor[2] - 1) * 255
    assert np.abs(shown(path) - expected).max() <= 1


@pytest.mark.parametrize("elements", [pytest.param(value, id=key) for key, value in TRANSFORMS.items()])
@pytest.mark.parametrize(
    "pixels", [STORED, (STORED // 16).astype(np.uint8), STORED.astype(np.int16) - 2000], ids=["12 bit", "8 bit", "signed"]
)
def test_opposite_photometric_interpretations_of_the_same_pixels_are_exact_negatives(
    tmp_path: Path, pixels: np.ndarray, elements: dict[str, Any]
) -> None:
    if pixels.dtype == np.uint8:
        elements = {key: value for key, value in elements.items() if not key.startswith(("Window", "VOI"))}
    two, one = (written(tmp_path, made(pixels, PhotometricInterpretation=f"MONOCHROME{n}", **elements), f"{n}.dcm") for n in (2, 1))
    assert (shown(one) == 255 - shown(two)).all()


def test_bright_means_high_values_for_monochrome2_and_low_ones_for_monochrome1(tmp_path: Path) -> None:
    assert shown(written(tmp_path, made()))[-1, -1] == 255
    assert shown(written(tmp_path, made(PhotometricInterpretation="MONOCHROME1")))[-1, -1] == 0


def test_padding_around_a_monochrome1_picture_is_black(tmp_path: Path) -> None:
    image = load_image(written(tmp_path, made(PhotometricInterpretation="MONOCHROME1")))
    assert image.size == (COLUMNS, COLUMNS)
    assert image.crop((0, 0, COLUMNS, 8)).getextrema() == ((0, 0),) * 3


def test_a_window_can_be_chosen_and_is_told(tmp_path: Path) -> None:
    path = written(
        tmp_path, made(RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=40, WindowWidth=80, VOILUTSequence=[lut(0, 16, CURVE)])
    )
    assert read_image(path).facts["window"] == {"from": "VOI LUT"}
    scan = read_image(path, pad=False, window="-600/1500")
    expected = np.clip((STORED.astype(float) - 1024 + 600.5) / 1499 + 0.5, 0, 1) * 255
    assert np.abs(np.asarray(scan.image.convert("L")) - expected).max() <= 1
    assert scan.facts["window"] == {"from": "option", "center": -600.0, "width": 1500.0, "function": "LINEAR"}


@pytest.mark.parametrize("window", ["", "40", "40/", "a/b", "40/0", "40/-3", "40/400/1", "nan/1", "1e9/1"])
def test_a_misspelt_window_is_an_option_error(tmp_path: Path, window: str) -> None:
    with pytest.raises(OptionError, match="centre/width"):
        load_image(written(tmp_path, made()), window=window)


@pytest.mark.parametrize("elements", [{"WindowCenter": 0, "WindowWidth": 0}, {"WindowCenter": "", "WindowWidth": 300}, {"WindowWidth": 5}])
def test_a_window_that_cannot_be_applied_gives_way_to_the_percentiles(tmp_path: Path, elements: dict[str, Any]) -> None:
    path = written(tmp_path, made(**elements))
    scan = read_image(path)
    assert "percentiles" in scan.facts["window"]["from"]
    assert scan.warnings == (
        "scan.dcm has a window that cannot be applied; it is shown by the percentiles 0.1 and 99.9 of its values; "
        "--window C/W sets another window",
    )
    assert (shown(path).min(), shown(path).max()) == (0, 255)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_white_picture_gives_a_warning_with_and_without_a_window(tmp_path: Path, dtype: Any) -> None:
    white = np.full((ROWS, COLUMNS), np.iinfo(dtype).max, dtype)
    white[:5] = np.linspace(0, np.iinfo(dtype).max, 5 * COLUMNS).reshape(5, COLUMNS)
    window = {"WindowCenter": np.iinfo(dtype).max // 2, "WindowWidth": np.iinfo(dtype).max}
    for elements, advice in ({}, "export it with its full range"), (window, "--window C/W"):
        (warning,) = read_image(written(tmp_path, made(white, BitsStored=8 * white.itemsize, **elements))).warnings
        assert "is saturated" in warning and advice in warning


@pytest.mark.parametrize("spread", [5, 60])
def test_a_nearly_constant_picture_is_refused(tmp_path: Path, spread: float) -> None:
    pixels = np.random.default_rng(0).normal(2000, spread, STORED.shape).astype(np.uint16)
    with pytest.raises(InputError, match="is blank or nearly so"):
        load_image(written(tmp_path, made(pixels)))


def test_a_window_for_a_colour_picture_is_refused(tmp_path: Path) -> None:
    ds = made(np.stack([STORED // 16] * 3, axis=2).astype(np.uint8), PhotometricInterpretation="RGB")
    with pytest.raises(InputError, match="is a colour picture, which has no window"):
        load_image(written(tmp_path, ds), window="40/400")


def test_a_frame_follows_its_own_window(tmp_path: Path) -> None:
    def groups(**values: Any) -> Dataset:
        inner, outer = Dataset(), Dataset()
        for keyword, value in values.items():
            setattr(inner, keyword, value)
        outer.FrameVOILUTSequence = [inner]
        return outer

    frames = np.stack([STORED, STORED])
    windows = [groups(WindowCenter=1000, WindowWidth=500), groups(WindowCenter=3000, WindowWidth=500)]
    path = written(tmp_path, made(NumberOfFrames=2, PixelData=frames.tobytes(), PerFrameFunctionalGroupsSequence=windows))
    assert read_image(path, frame=2).facts["window"]["center"] == 3000
    assert read_image(path, frame=1).facts["window"]["center"] == 1000


def test_float_pixels_are_shown(tmp_path: Path) -> None:
    ds = made(FloatPixelData=(STORED / 4096).astype("<f4").tobytes())
    ds.BitsAllocated, ds.PhotometricInterpretation = 32, "MONOCHROME2"
    picture = shown(written(tmp_path, ds)).ravel()
    assert (np.diff(picture) >= 0).all()
    assert (picture.min(), picture.max()) == (0, 255)


def test_float_pixels_say_nothing_of_the_bits_stored(tmp_path: Path) -> None:
    ds = made(FloatPixelData=(STORED / 4096).astype("<f4").tobytes())
    ds.BitsAllocated = 32
    for keyword in ("BitsStored", "HighBit", "PixelRepresentation"):
        delattr(ds, keyword)
    scan = read_image(written(tmp_path, ds), pad=False)
    assert (scan.facts["bit_depth"], scan.image.getextrema()) == (32, ((0, 255),) * 3)


@pytest.mark.parametrize(
    ("centers", "widths", "used"), [(["", 2048], ["", 1500], 2048), ([5, 2048], [0, 1500], 2048), (["", ""], ["", ""], None)]
)
def test_the_first_window_that_can_be_applied_is_the_first(tmp_path: Path, centers: Any, widths: Any, used: float | None) -> None:
    path = written(tmp_path, made(WindowCenter=centers, WindowWidth=widths))
    assert read_image(path).facts["window"].get("center") == used


def test_a_table_for_negative_values_begins_below_zero_however_that_is_stored(tmp_path: Path) -> None:
    rescaled = {"RescaleSlope": 1, "RescaleIntercept": -1024}
    unsigned, signed = lut(64512, 16, CURVE), lut(0, 16, CURVE)
    signed["LUTDescriptor"].VR = "SS"
    signed.LUTDescriptor = [4096, -1024, 16]
    one, other = (written(tmp_path, made(VOILUTSequence=[table], **rescaled), f"{k}.dcm") for k, table in enumerate((unsigned, signed)))
    assert (shown(one) == shown(other)).all()
    assert np.abs(shown(one) - CURVE[STORED] / 65535 * 255).max() <= 1


def test_pixels_that_are_not_square_are_made_square(tmp_path: Path) -> None:
    scan = read_image(written(tmp_path, made(PixelSpacing=[2, 1])), pad=False)
    assert scan.image.size == (COLUMNS, 2 * ROWS)
    assert (scan.facts["width"], scan.facts["height"]) == (COLUMNS, ROWS)


CT = {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": -1024}


CT_CLASS, CAPTURE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.7"


@pytest.mark.parametrize(
    ("elements", "hounsfield"),
    [
        (CT, True),
        ({**CT, "RescaleType": "HU", "ImageType": ["DERIVED", "PRIMARY"]}, True),
        ({**CT, "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"]}, True),
        ({**CT, "ImageType": ["DERIVED", "SECONDARY"]}, False),
        ({**CT, "RescaleType": "US"}, False),
        ({**CT, "SOPClassUID": CAPTURE}, False),
        ({"Modality": "CT"}, False),
        ({"Modality": "CT", "RescaleSlope": 1}, False),
    ],
)
def test_ct_is_shown_in_hounsfield_windows_only_where_its_values_are_hounsfield_units(
    tmp_path: Path, elements: dict[str, Any], hounsfield: bool
) -> None:
    scan = read_image(written(tmp_path, made(**{"SOPClassUID": CT_CLASS, "WindowCenter": 40, "WindowWidth": 4000, **elements})), pad=False)
    assert (scan.facts["window"]["from"] == "Hounsfield windows as RGB") == hounsfield
    assert any("does not say that its values are Hounsfield units" in warning for warning in scan.warnings) != hounsfield


def test_a_single_ct_slice_has_the_colours_of_google_s_ct_notebook(tmp_path: Path) -> None:
    image = np.asarray(read_image(written(tmp_path, made(**CT)), pad=False).image)
    hounsfield = STORED.astype(np.float32) - 1024
    for channel, (low, high) in enumerate(((-1024, 1024), (-135, 215), (0, 80))):
        expected = np.round((np.clip(hounsfield, low, high) - low) / np.float32(high - low) * np.float32(255))
        assert (image[..., channel] == expected).all()
    # Some of them by value: -1000, -100, 40 and 300 HU.
    golden = {24: (3, 0, 0), 924: (115, 26, 0), 1064: (132, 128, 128), 1324: (165, 255, 255)}
    for stored, colour in golden.items():
        at = np.argwhere(stored == STORED)
        assert not len(at) or tuple(image[tuple(at[0])]) == colour


def test_a_chosen_window_shows_ct_in_grey(tmp_path: Path) -> None:
    assert read_image(written(tmp_path, made(**CT)), window="40/400").facts["window"]["from"] == "option"
