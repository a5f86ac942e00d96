"""A DICOM file becomes the picture a viewer shows, judged by pydicom's own functions, and facts that name nobody."""

import base64
import copy
import io
import json
import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicoms import COLUMNS, ROWS, SECRETS, STORED, lut, made, written
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array
from pydicom.uid import (
    HEVCMP51,
    MPEG2MPML,
    UID,
    BasicTextSRStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from medgemma_app.errors import InputError, OptionError
from medgemma_app.inputs import dicom, pixels
from medgemma_app.inputs.images import load_image, read_image


def shown(path: Path, **options: Any) -> np.ndarray:
    return np.asarray(load_image(path, pad=False, **options).convert("L")).astype(int)


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
    assert scan.warnings == ("scan.dcm has a window that cannot be applied; percentiles of its values are shown instead",)
    assert (shown(path).min(), shown(path).max()) == (0, 255)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_white_picture_is_refused_but_not_in_a_window_of_its_own(tmp_path: Path, dtype: Any) -> None:
    white = np.full((ROWS, COLUMNS), np.iinfo(dtype).max, dtype)
    white[:5] = np.linspace(0, np.iinfo(dtype).max, 5 * COLUMNS).reshape(5, COLUMNS)
    with pytest.raises(InputError, match=r"scan\.dcm is saturated"):
        load_image(written(tmp_path, made(white, BitsStored=8 * white.itemsize)))
    window = {"WindowCenter": np.iinfo(dtype).max // 2, "WindowWidth": np.iinfo(dtype).max}
    assert "is saturated" in read_image(written(tmp_path, made(white, BitsStored=8 * white.itemsize, **window))).warnings[0]


@pytest.mark.parametrize("spread", [5, 60])
def test_a_nearly_constant_picture_is_refused(tmp_path: Path, spread: float) -> None:
    pixels = np.random.default_rng(0).normal(2000, spread, STORED.shape).astype(np.uint16)
    with pytest.raises(InputError, match="is blank or nearly so"):
        load_image(written(tmp_path, made(pixels)))


def test_padding_values_do_not_decide_the_contrast(tmp_path: Path) -> None:
    pixels = STORED.astype(np.int16)
    pixels[:, :10] = -2000
    window = read_image(written(tmp_path, made(pixels, PixelPaddingValue=-2000))).facts["window"]
    assert window["low"] >= 0


def test_bits_above_the_stored_ones_are_not_part_of_the_picture(tmp_path: Path) -> None:
    overlaid = written(tmp_path, made(STORED | np.uint16(0xF000)), "overlaid.dcm")
    assert (shown(overlaid) == shown(written(tmp_path, made()))).all()


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_every_uncompressed_encoding_shows_the_same_picture(tmp_path: Path, syntax: UID) -> None:
    pixels = STORED.astype(np.int16) - 2000
    assert (shown(written(tmp_path, made(pixels, syntax), "scan")) == shown(written(tmp_path, made(pixels)))).all()


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize("pixels", [STORED, np.stack([STORED // 16] * 3, axis=2).astype(np.uint8)], ids=["grey", "colour"])
def test_lossless_compression_changes_nothing(tmp_path: Path, syntax: UID, pixels: np.ndarray) -> None:
    colour = {"PhotometricInterpretation": "RGB"} if pixels.ndim == 3 else {}
    plain = written(tmp_path, made(pixels, **colour), "plain.dcm")
    packed = made(pixels, **colour)
    packed.compress(syntax)
    assert (shown(written(tmp_path, packed)) == shown(plain)).all()


@pytest.mark.parametrize("name", ["SC_rgb_jls_lossy_line.dcm", "SC_rgb_jpeg_gdcm.dcm", "MR_small_jp2klossless.dcm"])
def test_a_frame_that_claims_another_size_than_the_header_is_not_decoded(tmp_path: Path, name: str) -> None:
    ds = pydicom.dcmread(file_of(name))
    ds.Rows *= 2
    with pytest.raises(InputError, match=r"scan\.dcm is a damaged DICOM file"):
        load_image(written(tmp_path, ds))


def test_jpeg_in_ycbcr_has_the_colours_of_the_jpeg(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    picture = Image.merge("RGB", [Image.linear_gradient("L").resize((96, 80)).rotate(turn) for turn in (0, 90, 180)])
    picture.save(buffer, "JPEG", quality=95, subsampling=0)
    ds = made(np.asarray(picture), JPEGBaseline8Bit, PhotometricInterpretation="YBR_FULL_422", PixelData=encapsulate([buffer.getvalue()]))
    difference = np.asarray(load_image(written(tmp_path, ds), pad=False)).astype(int) - np.asarray(Image.open(buffer))
    assert np.abs(difference).max() <= 3


def test_uncompressed_ycbcr_is_shown_as_rgb(tmp_path: Path) -> None:
    picture = Image.merge("RGB", [Image.linear_gradient("L").resize((96, 80)).rotate(turn) for turn in (0, 90, 180)])
    path = written(tmp_path, made(np.asarray(picture.convert("YCbCr")), PhotometricInterpretation="YBR_FULL"))
    assert np.abs(np.asarray(load_image(path, pad=False)).astype(int) - np.asarray(picture)).max() <= 3


@pytest.mark.parametrize(
    ("packed", "plain"),
    [
        ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"),
        ("MR_small_jp2klossless.dcm", "MR_small.dcm"),
        ("MR_small_RLE.dcm", "MR_small.dcm"),
        ("MR_small_bigendian.dcm", "MR_small.dcm"),
        ("SC_rgb_jpeg_gdcm.dcm", "SC_rgb_rle.dcm"),
        ("image_dfl.dcm", None),
        ("GDCMJ2K_TextGBR.dcm", None),
        ("JPGExtended.dcm", None),
    ],
)
def test_files_of_other_makers_are_read(packed: str, plain: str | None) -> None:
    picture = shown(file_of(packed))
    assert picture.std() > 5
    assert plain is None or (picture == shown(file_of(plain))).all()


def file_of(name: str) -> Path:
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str), f"{name} comes with pydicom"
    return Path(path)


# 64 x 64 pixels of 16 bits, value 16 x + y, encoded once by OpenJPH: no encoder comes with pydicom.
HTJ2K = (
    "/0//UQApQAAAAABAAAAAQAAAAAAAAAAAAAAAQAAAAEAAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB/1wAEyCIkJCQkJCQkJCQkJCQiIiI"
    "/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAN0AAf+TwAArAP9/tf9t9kf2AoG0AMAAE8AAEwBIkPwCAnQAovgAA1QAwAAVMAAFQCIiIiKqcYJ1"
    "ABAA/sHJ7LUAwAAV8AAFYBAIBAKBQCDnynp6cQJ4AAgAAP79knv2Sey4AMAAFswAAV6GYRiGYRiGYRiGYRj5/wp6enp6enpwgn0AAgD+/3hn79/v3+/f7LwA"
    "wAAulgABaoDu7u7u7u7u7u7u7u7u7u7u/r/8p6enp6enp6enp6enp6enwnUBAAAAAP9/2wOuuuuuuuuuuuuuupEB/9k="
)


def test_high_throughput_jpeg_2000_is_read(tmp_path: Path) -> None:
    rows, columns = np.mgrid[0:64, 0:64]
    plain = made((16 * columns + rows).astype(np.uint16))
    packed = made((16 * columns + rows).astype(np.uint16), HTJ2KLossless, PixelData=encapsulate([base64.b64decode(HTJ2K)]), BitsStored=16)
    assert (shown(written(tmp_path, packed)) == shown(written(tmp_path, plain, "plain.dcm"))).all()


def test_reading_a_compressed_frame_leaves_the_number_of_frames_alone(tmp_path: Path) -> None:
    frames = np.stack([STORED, STORED[::-1], STORED[:, ::-1]])
    ds = made(NumberOfFrames=3, PixelData=frames.tobytes())
    ds.compress(JPEG2000Lossless, generate_instance_uid=False)
    facts = read_image(written(tmp_path, ds), frame=2).facts
    assert (facts["frame"], facts["frames"]) == (2, 3)


def test_a_palette_gives_its_colours(tmp_path: Path) -> None:
    elements: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, top in (("Red", 255), ("Green", 128), ("Blue", 0)):
        elements[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 8]
        elements[f"{colour}PaletteColorLookupTableData"] = (np.arange(256) * top // 255).astype(np.uint8).tobytes()
    pixels = (STORED // 16).astype(np.uint8)
    image = np.asarray(load_image(written(tmp_path, made(pixels, **elements)), pad=False))
    assert (image[..., 0] == pixels).all()
    assert (image[..., 1] == pixels.astype(int) * 128 // 255).all()
    assert not image[..., 2].any()


def test_a_window_for_a_colour_picture_is_refused(tmp_path: Path) -> None:
    ds = made(np.stack([STORED // 16] * 3, axis=2).astype(np.uint8), PhotometricInterpretation="RGB")
    with pytest.raises(InputError, match="is a colour picture, which has no window"):
        load_image(written(tmp_path, ds), window="40/400")


def test_one_frame_of_several_must_be_chosen(tmp_path: Path) -> None:
    frames = np.stack([STORED, STORED[::-1]])
    path = written(tmp_path, made(NumberOfFrames=2, PixelData=frames.tobytes()))
    with pytest.raises(InputError, match="holds 2 pictures; choose one with --frame 1 to --frame 2"):
        load_image(path)
    assert (shown(path, frame=2) == shown(written(tmp_path, made(STORED[::-1]), "second.dcm"))).all()
    assert read_image(path, frame=2).facts["frame"] == 2


def test_frames_of_a_compressed_film_are_told_apart(tmp_path: Path) -> None:
    path = file_of("examples_ybr_color.dcm")
    with pytest.raises(InputError, match="holds 30 pictures"):
        load_image(path)
    assert (shown(path, frame=1) != shown(path, frame=30)).any()


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


def test_a_film_is_said_to_be_one(tmp_path: Path) -> None:
    for syntax, message in ((MPEG2MPML, "is a film"), (HEVCMP51, "is a film"), (UID("1.2.840.10008.1.2.4.94"), "cannot be read .JPIP")):
        path = written(tmp_path, made(STORED, syntax, NumberOfFrames=9, PixelData=encapsulate([b"film"])))
        with pytest.raises(InputError, match=message):
            load_image(path, frame=None if "film" in message else 1)


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


def broken_value(ds: FileDataset) -> bytes:
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue().replace(b"Doe^Jane", b"\xff\xfe^Jane").replace(b"2000", b"Jane")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[: len(data) // 2], "is a damaged DICOM file"),
        (lambda data: data[:450], "is a damaged DICOM file"),
        (lambda data: data[:132], "holds no picture|is a damaged DICOM file"),
        (lambda _: b"words in a file with the wrong name", "is not a picture that can be read"),
        (lambda _: b"\0" * 500, "is not a picture that can be read"),
    ],
    ids=["half", "header only", "preamble only", "words", "zeros"],
)
def test_a_damaged_file_is_said_to_be_one(tmp_path: Path, damage: Callable[[bytes], bytes], message: str) -> None:
    path = written(tmp_path, made())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=message) as caught:
        load_image(path)
    assert str(caught.value).startswith("scan.dcm ")


def test_neither_errors_nor_logs_quote_the_header(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "scan.dcm"
    path.write_bytes(broken_value(made(WindowCenter=2000, WindowWidth=2000, BodyPartExamined="CHEST")))
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            said = json.dumps(read_image(path).facts)
        except InputError as error:
            said = str(error) + str(error.__cause__)
    assert "Jane" not in said + caplog.text
    assert not logging.getLogger("pydicom").disabled


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_file_without_preamble_or_meta_is_read(tmp_path: Path, syntax: UID) -> None:
    ds = made(STORED, syntax)
    raw = DicomBytesIO()
    raw.is_implicit_VR, raw.is_little_endian = syntax.is_implicit_VR, syntax.is_little_endian
    write_dataset(raw, Dataset({element.tag: element for element in ds}))
    (tmp_path / "bare").write_bytes(raw.getvalue())
    assert (shown(tmp_path / "bare") == shown(written(tmp_path, made()))).all()


def test_a_picture_under_the_name_of_another_kind_is_read(tmp_path: Path) -> None:
    Image.fromarray((STORED // 16).astype(np.uint8)).save(tmp_path / "scan.dcm", "PNG")
    assert read_image(tmp_path / "scan.dcm").facts["format"] == "PNG"
    written(tmp_path, made(), "scan.png")
    assert read_image(tmp_path / "scan.png").facts["format"] == "DICOM"


def test_a_report_object_is_said_to_hold_no_picture(tmp_path: Path) -> None:
    ds = made()
    for keyword in ("Rows", "Columns", "PixelData"):
        delattr(ds, keyword)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = BasicTextSRStorage
    with pytest.raises(InputError, match=r"scan\.dcm holds no picture"):
        load_image(written(tmp_path, ds))


def test_without_the_extra_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, made())
    for name in [name for name in sys.modules if name.split(".")[0] == "pydicom"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    monkeypatch.setitem(sys.modules, "pydicom.errors", None)
    with pytest.raises(InputError, match=r"scan\.dcm is a DICOM file, and reading it needs: pip install 'medgemma-app\[dicom\]'"):
        load_image(path)


def test_without_a_decoder_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ds = made()
    ds.compress(JPEG2000Lossless)
    monkeypatch.setattr(pixels, "PLUGINS", ())
    with pytest.raises(InputError, match=r"is compressed as JPEG 2000.*needs: pip install"):
        load_image(written(tmp_path, ds))


def test_a_decoder_for_every_compression_comes_with_the_extra() -> None:
    from pydicom.pixels import get_decoder
    from pydicom.uid import JPEGExtended12Bit, JPEGLosslessSV1, JPEGLSLossless

    for syntax in (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, HTJ2KLossless, RLELossless):
        assert set(pixels.PLUGINS) & set(get_decoder(syntax).available_plugins), syntax.name


def test_a_deflated_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom, "LARGEST_INFLATED", 10_000)
    with pytest.raises(InputError, match="unpacks to more than a gigabyte"):
        load_image(written(tmp_path, made(STORED, DeflatedExplicitVRLittleEndian)))


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
    assert any("does not make its values Hounsfield units" in warning for warning in scan.warnings) != hounsfield


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


@pytest.mark.parametrize(
    ("sop_class", "message"),
    [
        ("1.2.840.10008.5.1.4.1.1.66.4", "is a segmentation"),
        ("1.2.840.10008.5.1.4.1.1.481.2", "is a map of radiotherapy doses"),
    ],
)
def test_what_shows_no_patient_is_refused_by_its_class(tmp_path: Path, sop_class: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_image(written(tmp_path, made(SOPClassUID=sop_class)))


@pytest.mark.parametrize(
    ("sop_class", "message"),
    [
        ("1.2.840.10008.5.1.4.1.1.7", "secondary capture"),
        ("1.2.840.10008.5.1.4.1.1.7.2", "secondary capture"),
        ("1.2.840.10008.5.1.4.1.1.481.1", "radiotherapy image"),
        ("1.2.840.10008.5.1.4.1.1.30", "parametric map"),
    ],
)
def test_what_may_show_no_patient_gives_a_warning_by_its_class(tmp_path: Path, sop_class: str, message: str) -> None:
    assert message in read_image(written(tmp_path, made(SOPClassUID=sop_class))).warnings[0]


def test_an_object_without_a_picture_is_named_by_its_class(tmp_path: Path) -> None:
    ds = made(SOPClassUID="1.2.840.10008.5.1.4.1.1.11.1")
    for keyword in ("Rows", "Columns", "PixelData"):
        delattr(ds, keyword)
    with pytest.raises(InputError, match=r"holds no picture \(Grayscale Softcopy Presentation State Storage\)"):
        read_image(written(tmp_path, ds))


def test_a_dataset_in_memory_is_shown_as_its_file_and_left_as_it_was(tmp_path: Path) -> None:
    ds = made(WindowCenter=2000, WindowWidth=1500)
    before = copy.deepcopy(ds)
    expected = shown(written(tmp_path, ds))
    bare = Dataset()
    bare.update(ds)
    for dataset in (ds, bare, pydicom.dcmread(tmp_path / "scan.dcm")):
        assert (np.asarray(read_image(dataset, pad=False).image.convert("L")) == expected).all()
    assert ds == before
