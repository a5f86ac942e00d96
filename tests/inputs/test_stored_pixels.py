"""Where the header and the pixels of a DICOM file disagree, the picture is what viewers show, with a warning where one is due."""

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicoms import COLUMNS, ROWS, STORED, lut, made, placed, written
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRBigEndian, JPEG2000Lossless, RLELossless

from medgemma_app.errors import InputError
from medgemma_app.inputs.images import Scan, read_image
from medgemma_app.inputs.series import read_series

WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}
RIGHT = STORED / 4095 * 255
SIGNED = STORED.astype(np.int16) - 2048


def shown(path: Path, **options: Any) -> tuple[np.ndarray, Scan]:
    scan = read_image(path, pad=False, **options)
    return np.asarray(scan.image.convert("L")).astype(int), scan


def compressed(pixels: np.ndarray, **changed: Any) -> FileDataset:
    """A JPEG 2000 file whose header says something else than its code stream."""
    ds = made(pixels, BitsStored=16, HighBit=15, **WINDOW)
    ds.compress(JPEG2000Lossless, generate_instance_uid=False)
    for keyword, value in changed.items():
        setattr(ds, keyword, value)
    return ds


def bytes_table() -> Dataset:
    table = lut(0, 8, np.arange(4096) // 16)
    table.LUTData = (np.arange(4096) // 16).astype(np.uint8).tobytes()
    return table


HALF_SIGNED = (((STORED.astype(np.int32) - 2048) << 4) & 0xFFFF).astype(np.uint16).view(np.int16)
DISAGREEING: dict[str, tuple[FileDataset, str]] = {
    "a table of 12 bits that says 16": (made(VOILUTSequence=[lut(0, 16, np.arange(4096))]), "claims 16 bits but uses 12"),
    "a table of bytes": (made(VOILUTSequence=[bytes_table()]), ""),
    "12 bits in the upper part of 16": (made(STORED << 4, HighBit=15, **WINDOW), ""),
    "12 signed bits in the upper part": (made(HALF_SIGNED, BitsStored=12, HighBit=15, WindowCenter=0, WindowWidth=4096), ""),
    "12 bits in the lower part that say upper": (made(STORED, HighBit=15, **WINDOW), "they are in the lower bits"),
    "bits beside the picture": (made(STORED | np.uint16(0x8000), **WINDOW), "has bits set besides the 12 of its picture"),
    "signed JPEG 2000 in an unsigned header": (
        compressed(SIGNED, PixelRepresentation=0, WindowCenter=0), "has signed values, but its header says unsigned"
    ),
    "unsigned JPEG 2000 in a signed header": (compressed(STORED, PixelRepresentation=1), "has unsigned values, but its header says signed"),
    "16 bits of JPEG 2000 in a header of 12": (
        compressed(STORED << 4, BitsStored=12, HighBit=11, WindowCenter=32768, WindowWidth=65536), "of 16 bits, but its header says 12"
    ),
    "the modality table of an angiogram": (
        made(Modality="XA", ModalityLUTSequence=[lut(0, 16, np.geomspace(1, 65535, 4096).astype(np.uint16))], **WINDOW), ""
    ),
    "the negative rescale of an angiogram": (made(Modality="XA", RescaleSlope=-1, RescaleIntercept=4095, **WINDOW), ""),
    "the fractional rescale of a fluoroscopy": (made(Modality="RF", RescaleSlope=0.5, RescaleIntercept=9, **WINDOW), ""),
    "an inverse presentation of MONOCHROME2": (made(4095 - STORED, PresentationLUTShape="INVERSE", **WINDOW), "contradict each other"),
    "an inverse presentation of MONOCHROME1": (
        made(4095 - STORED, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE", **WINDOW), ""
    ),
    "a fractional rescale": (made(RescaleSlope=1 / 4095, RescaleIntercept=0, WindowCenter=0.5, WindowWidth=1), ""),
}  # fmt: skip


@pytest.mark.parametrize(("ds", "warning"), [pytest.param(*value, id=key) for key, value in DISAGREEING.items()])
def test_a_picture_is_shown_as_viewers_show_it_whatever_its_header_says(tmp_path: Path, ds: FileDataset, warning: str) -> None:
    picture, scan = shown(written(tmp_path, ds))
    assert np.abs(picture - RIGHT).max() <= 1.01
    assert [warning in said for said in scan.warnings] == [True] * bool(warning)


@pytest.mark.parametrize(
    ("view", "shown_in"),
    [
        ({"WindowCenter": [60000, 2048], "WindowWidth": [100, 4096]}, "window 60000/100"),
        ({"VOILUTSequence": [lut(60000, 16, np.arange(4096))]}, "look-up table"),
        ({"WindowCenter": 4085, "WindowWidth": 10}, "window 4085/10"),  # the brightest 0.4% show
        ({"WindowCenter": 10, "WindowWidth": 10}, "window 10/10"),  # the darkest
        ({"VOILUTSequence": [lut(4085, 16, np.arange(100))]}, "look-up table"),
        ({"WindowCenter": 4085, "WindowWidth": 10, "PhotometricInterpretation": "MONOCHROME1"}, "window 4085/10"),
        ({"WindowCenter": 4075, "WindowWidth": 30, "PixelPaddingValue": 0, "PixelPaddingRangeLimit": 4050}, None),
        ({"WindowCenter": 4000, "WindowWidth": 100}, None),
    ],
)
def test_a_window_or_table_of_the_header_that_shows_almost_nothing_gives_the_percentiles_and_a_warning(
    tmp_path: Path, view: dict[str, Any], shown_in: str | None
) -> None:
    for k in range(3):
        written(tmp_path, made(Modality="PT", **placed(k), **view), f"{k}.dcm")
    for scan, name in ((read_image(tmp_path / "1.dcm"), "1.dcm"), (read_series(tmp_path), "series 0 (PT)")):
        useless = (
            f"{name} shows almost nothing in the {shown_in}; it is shown by percentiles of its values; --window C/W sets another window"
        )
        assert (scan.warnings[-1:] == (useless,)) == bool(shown_in)
        assert scan.facts["window"]["from"].startswith("percentiles 0.1 and 99.9") == bool(shown_in)


def test_a_chosen_window_that_shows_nothing_is_refused_with_the_range_of_the_values(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"shows nothing in the window 60000/100; its values lie between 0 and 4095: choose another"):
        read_image(written(tmp_path, made()), window="60000/100")


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_has_no_part_in_the_contrast(tmp_path: Path, kind: str, signed: bool) -> None:
    pixels, value = (STORED.astype(np.int16), -2000) if signed else (STORED.copy(), 5000)
    pixels[:, :10] = value
    ds = made(pixels, BitsStored=16, HighBit=15, PhotometricInterpretation=kind)
    ds.add_new(0x00280120, "US", value % 65536)  # as many writers have it, whatever the sign
    picture, scan = shown(written(tmp_path, ds))
    assert not picture[:, :10].any()
    assert picture[:, 10:].max() == 255
    assert 0 <= scan.facts["window"]["low"] < scan.facts["window"]["high"] <= 4095


def test_a_range_of_padding_values_is_black(tmp_path: Path) -> None:
    pixels = STORED.copy()
    pixels[:, :10] = 60000 + np.arange(10)
    picture, _ = shown(written(tmp_path, made(pixels, BitsStored=16, HighBit=15, PixelPaddingValue=60000, PixelPaddingRangeLimit=60100)))
    assert not picture[:, :10].any()


rows, columns = np.mgrid[1 : ROWS + 1, 1 : COLUMNS + 1]
RECTANGLE = (columns >= 11) & (columns <= 80) & (rows >= 21) & (rows <= 70)
SHUTTERS: dict[str, tuple[dict[str, Any], np.ndarray]] = {
    "RECTANGULAR": (
        {"ShutterLeftVerticalEdge": 11, "ShutterRightVerticalEdge": 80, "ShutterUpperHorizontalEdge": 21, "ShutterLowerHorizontalEdge": 70},
        RECTANGLE,
    ),
    "CIRCULAR": ({"CenterOfCircularShutter": [40, 50], "RadiusOfCircularShutter": 30}, (columns - 50) ** 2 + (rows - 40) ** 2 <= 30**2),
    "POLYGONAL": ({"VerticesOfThePolygonalShutter": [21, 11, 21, 80, 70, 80, 70, 11]}, RECTANGLE),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHUTTERS)
def test_outside_a_display_shutter_it_is_black_and_the_contrast_is_that_of_the_inside(tmp_path: Path, shape: str) -> None:
    elements, inside = SHUTTERS[shape]
    pixels = np.where(inside, STORED // 2 + 500, 4095).astype(np.uint16)
    picture, scan = shown(written(tmp_path, made(pixels, ShutterShape=shape, **elements)))
    assert not picture[~inside].any()
    assert (picture[inside] > 0).mean() > 0.99
    assert scan.facts["window"]["high"] < 2600


def test_a_shutter_that_would_hide_everything_is_ignored(tmp_path: Path) -> None:
    hidden = {
        "ShutterLeftVerticalEdge": 80,
        "ShutterRightVerticalEdge": 11,
        "ShutterUpperHorizontalEdge": 1,
        "ShutterLowerHorizontalEdge": 2,
    }
    picture, _ = shown(written(tmp_path, made(ShutterShape="RECTANGULAR", **hidden, **WINDOW)))
    assert np.abs(picture - RIGHT).max() <= 1


CURVE = (np.linspace(0, 1, 256) ** 0.5 * 65535).astype(np.uint16)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("entries", ["16 bits", "8 bits", "segments"])
def test_a_palette_has_its_colours_in_every_byte_order_and_form(tmp_path: Path, order: str, entries: str) -> None:
    data = {"16 bits": CURVE, "8 bits": CURVE >> 8, "segments": np.array([0, 1, 0, 1, 127, 32639, 2, 1, 0, 0, 1, 127, 65535])}[entries]
    expected = CURVE >> 8
    if entries == "segments":  # a start, a line to the middle, the start again, and a line from there
        expected = np.concatenate(([0], np.linspace(257, 32639, 127), [0], np.linspace(65535 / 127, 65535, 127))).astype(int) >> 8
    elements: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour in ("Red", "Green", "Blue"):
        elements[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        elements[f"{'Segmented' * (entries == 'segments')}{colour}PaletteColorLookupTableData"] = data.astype(f"{order}u2").tobytes()
    pixels = (STORED // 16).astype(np.uint8)
    ds = made(pixels, ExplicitVRBigEndian, **elements) if order == ">" else made(pixels, **elements)
    ds["PixelData"].VR = "OB"
    picture, _ = shown(written(tmp_path, ds))
    assert np.abs(picture - expected[pixels]).max() <= 1


def test_bytes_in_big_endian_words_are_read_in_the_order_that_gives_a_smooth_picture(tmp_path: Path) -> None:
    smooth = (STORED // 16).astype(np.uint8).T.copy()
    turned = smooth.reshape(-1, 2)[:, ::-1].reshape(smooth.shape)
    pictures = [shown(written(tmp_path, made(pixels, ExplicitVRBigEndian), "x")) for pixels in (turned, smooth)]
    assert (pictures[0][0] == pictures[1][0]).all()
    assert [scan.warnings != () for _, scan in pictures] == [False, True]


@pytest.mark.parametrize(
    ("syntax", "named"),
    [
        ("1.2.840.113619.5.2", "the private transfer syntax 1.2.840.113619.5.2"),
        ("1.2.840.10008.1.2.4.110", "JPEG XL Lossless"),
        ("1.2.840.10008.1.2.4.112", "JPEG XL"),
        ("1.2.840.10008.1.2.4.999", "1.2.840.10008.1.2.4.999"),
    ],
)
def test_a_transfer_syntax_that_cannot_be_read_is_named(tmp_path: Path, syntax: str, named: str) -> None:
    path = written(tmp_path, made())
    old, new = b"UI\x14\x001.2.840.10008.1.2.1\0", syntax.encode() + b"\0" * (len(syntax) % 2)
    content = path.read_bytes().replace(old, b"UI" + struct.pack("<H", len(new)) + new, 1)
    length = struct.unpack("<I", content[140:144])[0] + len(new) - 20
    path.write_bytes(content[:140] + struct.pack("<I", length) + content[144:])
    with pytest.raises(InputError, match=rf"cannot be read \({named}\); export it uncompressed"):
        read_image(path)


def test_meta_information_that_stands_in_the_file_twice_counts_once(tmp_path: Path) -> None:
    ds = made(**WINDOW)
    ds.compress(RLELossless, generate_instance_uid=False)
    path, second, wrong = written(tmp_path, ds), DicomBytesIO(), Dataset()
    second.is_little_endian, second.is_implicit_VR = True, False
    wrong.add_new(0x00020010, "UI", "1.2.840.10008.1.2.1")
    write_dataset(second, wrong)
    content = path.read_bytes()
    begin = content.index(b"\x08\x00\x16\x00UI")
    path.write_bytes(content[:begin] + second.getvalue() + content[begin:])
    assert np.abs(shown(path)[0] - RIGHT).max() <= 1


def test_a_jpeg_scan_that_says_it_ends_at_its_first_coefficient_is_read_to_the_end(tmp_path: Path) -> None:
    plain = Path(str(get_testdata_file("JPGExtended.dcm", download=False)))
    content = plain.read_bytes()
    scan = content.rindex(b"\xff\xda")
    end = scan + 6 + 2 * content[scan + 4]
    (tmp_path / "scan.dcm").write_bytes(content[:end] + b"\0" + content[end + 1 :])
    picture, read = shown(tmp_path / "scan.dcm")
    assert (picture == shown(plain)[0]).all()
    assert "it is read to the end" in read.warnings[-1]


def zeros() -> bytes:
    return bytes(128) + b"DICM" + bytes(8 * 250_000)


def nested(items: bytes) -> bytes:
    """A small picture with these bytes as what it says of its frames."""
    buffer = io.BytesIO()
    made(PerFrameFunctionalGroupsSequence=[Dataset()]).save_as(buffer, enforce_file_format=True)
    content = buffer.getvalue()
    at = content.index(b"\x00\x52\x30\x92SQ")
    length = struct.unpack("<I", content[at + 8 : at + 12])[0]
    return content[: at + 8] + struct.pack("<I", len(items)) + items + content[at + 12 + length :]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(zeros, id="zeros"),
        pytest.param(lambda: nested(b"\xfe\xff\x00\xe0\0\0\0\0" * 250_000), id="empty items"),
        pytest.param(
            lambda: nested(b"\xfe\xff\x00\xe0" + struct.pack("<I", 2_000_000) + b"\x08\0\x16\0UI\0\0" * 250_000), id="empty elements"
        ),
    ],
)
@pytest.mark.slow
def test_no_more_elements_are_read_than_a_picture_has(tmp_path: Path, content: Callable[[], bytes]) -> None:
    (tmp_path / "scan.dcm").write_bytes(content())
    with pytest.raises(InputError, match="is damaged, or is not a DICOM file"):
        read_image(tmp_path / "scan.dcm")
