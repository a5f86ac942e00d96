"""A DICOM file of any encoding is read, or refused in one line; nothing in its header names anybody."""

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
from dicoms import STORED, made, shown, written
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
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

from medgemma_app.errors import InputError
from medgemma_app.inputs import dicom, pixels
from medgemma_app.inputs.images import load_image, read_image


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
    with pytest.raises(InputError, match=r"scan\.dcm is damaged, or is not a DICOM file"):
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


def test_one_frame_of_several_must_be_chosen(tmp_path: Path) -> None:
    frames = np.stack([STORED, STORED[::-1]])
    path = written(tmp_path, made(NumberOfFrames=2, PixelData=frames.tobytes()))
    with pytest.raises(InputError, match="holds 2 pictures; choose one with --frame 1 to --frame 2"):
        load_image(path)
    assert (shown(path, frame=2) == shown(written(tmp_path, made(STORED[::-1]), "second.dcm"))).all()
    assert read_image(path, frame=2).facts["frame"] == 2


def test_frames_of_a_compressed_file_are_told_apart(tmp_path: Path) -> None:
    path = file_of("examples_ybr_color.dcm")
    with pytest.raises(InputError, match="holds 30 pictures"):
        load_image(path)
    assert (shown(path, frame=1) != shown(path, frame=30)).any()


def test_a_video_is_refused_by_name(tmp_path: Path) -> None:
    for syntax, message in ((MPEG2MPML, "is a video"), (HEVCMP51, "is a video"), (UID("1.2.840.10008.1.2.4.94"), "cannot be read .JPIP")):
        path = written(tmp_path, made(STORED, syntax, NumberOfFrames=9, PixelData=encapsulate([b"video"])))
        with pytest.raises(InputError, match=message):
            load_image(path, frame=None if "video" in message else 1)


def broken_value(ds: FileDataset) -> bytes:
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue().replace(b"Doe^Jane", b"\xff\xfe^Jane").replace(b"2000", b"Jane")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[: len(data) // 2], "is damaged, or is not a DICOM file"),
        (lambda data: data[:450], "is damaged, or is not a DICOM file"),
        (lambda data: data[:132], "holds no picture|is damaged, or is not a DICOM file"),
        (lambda _: b"words in a file with the wrong name", "is not a picture that can be read"),
        (lambda _: b"\0" * 500, "is not a picture that can be read"),
    ],
    ids=["half", "header only", "preamble only", "words", "zeros"],
)
def test_a_damaged_file_is_named_as_damaged(tmp_path: Path, damage: Callable[[bytes], bytes], message: str) -> None:
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


def test_a_report_object_is_refused_as_holding_no_picture(tmp_path: Path) -> None:
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


def test_a_dataset_in_memory_is_shown_as_its_file_and_left_as_it_was(tmp_path: Path) -> None:
    ds = made(WindowCenter=2000, WindowWidth=1500)
    before = copy.deepcopy(ds)
    expected = shown(written(tmp_path, ds))
    bare = Dataset()
    bare.update(ds)
    for dataset in (ds, bare, pydicom.dcmread(tmp_path / "scan.dcm")):
        assert (np.asarray(read_image(dataset, pad=False).image.convert("L")) == expected).all()
    assert ds == before
