"""A picture file becomes the upright, full-range, square RGB picture the model may see, or one clear line."""

import contextlib
import hashlib
import io
import os
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicoms import made, written
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageDraw

from medgemma_app.errors import InputError
from medgemma_app.inputs import image_checks as gates
from medgemma_app.inputs.images import is_same_picture, load_image, read_image, read_other, squared


def drawing(width: int = 120, height: int = 80) -> Image.Image:
    picture = Image.linear_gradient("L").resize((width, height))
    ImageDraw.Draw(picture).ellipse((10, 10, 50, 40), fill=255)
    return picture


def ramp(top: int, dtype: Any = np.uint16) -> np.ndarray:
    """128 x 128 pixels whose values rise evenly from 0 to ``top``."""
    return np.linspace(0, top, 128 * 128).reshape(128, 128).astype(dtype)


def save(path: Path, picture: Image.Image, **options: Any) -> Path:
    picture.save(path, **options)
    return path


def grey(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L")).astype(int)


def test_a_picture_is_padded_to_a_centred_black_square(tmp_path: Path) -> None:
    image = load_image(save(tmp_path / "scan.png", drawing()))
    assert (image.mode, image.size) == ("RGB", (120, 120))
    assert image.crop((0, 0, 120, 20)).getextrema() == ((0, 0),) * 3
    assert image.crop((0, 20, 120, 100)).convert("L").tobytes() == drawing().tobytes()


def test_padding_can_be_left_out(tmp_path: Path) -> None:
    assert load_image(save(tmp_path / "scan.png", drawing()), pad=False).size == (120, 80)


def test_the_facts_trace_the_picture_to_its_file(tmp_path: Path) -> None:
    path = save(tmp_path / "scan.png", drawing())
    assert read_image(str(path)).facts == {
        "name": "scan.png", "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "format": "PNG", "bit_depth": 8,
        "frame": 1, "frames": 1,
        "width": 120, "height": 80, "mode": "L", "window": None, "padding": {"left": 0, "top": 20, "right": 0, "bottom": 20},
    }  # fmt: skip


def test_an_open_picture_has_facts_without_a_file_and_is_left_as_it_was() -> None:
    picture = drawing()
    scan = read_image(picture, pad=False)
    assert (scan.image.size, picture.mode) == ((120, 80), "L")
    assert "sha256" not in scan.facts
    assert scan.facts["width"] == 120


def test_an_open_picture_that_turns_out_to_be_cut_short_is_an_input_error() -> None:
    with Image.open(io.BytesIO(encoded("PNG")[:900])) as picture, pytest.raises(InputError, match="the picture is damaged or cut short"):
        load_image(picture)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "JPEG2000"])
def test_every_format_is_told_by_its_content_and_not_by_its_name(tmp_path: Path, kind: str) -> None:
    path = save(tmp_path / "scan.txt", drawing(), format=kind)
    scan = read_image(path, pad=False)
    assert scan.facts["format"] == kind
    assert np.abs(grey(scan.image) - grey(drawing())).mean() < 3


def with_alpha() -> Image.Image:
    picture = drawing().convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").rotate(90).resize(picture.size))
    return picture


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        pytest.param(
            drawing().point(lambda level: 255 * (level > 127), "1"), drawing().point(lambda level: 255 * (level > 127)), id="1 bit"
        ),
        pytest.param(drawing().convert("P"), drawing(), id="palette"),
        pytest.param(Image.merge("LA", (drawing(), Image.new("L", (120, 80), 255))), drawing(), id="opaque alpha"),
        pytest.param(
            with_alpha(), Image.alpha_composite(Image.new("RGBA", (120, 80), "black"), with_alpha()).convert("L"), id="alpha on black"
        ),
        pytest.param(Image.merge("RGBA", (drawing(),) * 3 + (drawing(),)), drawing().point(lambda level: level * level // 255), id="alpha"),
        pytest.param(drawing().convert("RGB").convert("CMYK"), drawing(), id="CMYK"),
    ],
)
def test_every_mode_shows_what_a_viewer_shows(tmp_path: Path, picture: Image.Image, expected: Image.Image) -> None:
    path = save(tmp_path / "scan.tif", picture)
    assert np.abs(grey(load_image(path, pad=False)) - grey(expected)).max() <= 2


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_palettes_of_few_bits_are_read(tmp_path: Path, bits: int) -> None:
    few = drawing().quantize(1 << bits)
    assert grey(load_image(save(tmp_path / "scan.png", few, bits=bits), pad=False)).tolist() == grey(few.convert("RGB")).tolist()


@pytest.mark.parametrize("top", [65535, 4095, 1023, 300])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_keeps_its_order_and_clips_next_to_nothing(tmp_path: Path, top: int, suffix: str) -> None:
    path = save(tmp_path / f"scan.{suffix}", Image.fromarray(ramp(top)))
    scan = read_image(path, pad=False)
    shown = grey(scan.image).ravel()
    assert (np.diff(shown) >= 0).all()
    assert (shown.min(), shown.max()) == (0, 255)
    assert max((shown == 0).mean(), (shown == 255).mean()) < 0.005
    assert scan.facts["bit_depth"] == 16


def test_byte_order_does_not_matter(tmp_path: Path) -> None:
    little, big = (save(tmp_path / f"{order}.tif", Image.fromarray(ramp(4095).astype(f"{order}u2"))) for order in "<>")
    with Image.open(big) as picture:
        assert picture.mode == "I;16B"
    assert load_image(little).tobytes() == load_image(big).tobytes()


def test_a_marker_does_not_decide_the_contrast_of_a_16_bit_picture(tmp_path: Path) -> None:
    values = ramp(4095)
    values[0, :10] = 65535
    assert grey(load_image(save(tmp_path / "scan.png", Image.fromarray(values)), pad=False))[64, 64] == pytest.approx(127, abs=2)


def test_a_bright_row_that_a_sample_of_rows_misses_is_not_clipped(tmp_path: Path) -> None:
    values = np.linspace(0, 4095, 1_100_000).reshape(1100, 1000).astype(np.uint16)
    values[[9, 10, 11, 41, 42, 43]] += 20_000  # 0.55% of the pixels, none in the first 8 of every 64 rows
    shown = grey(load_image(save(tmp_path / "scan.png", Image.fromarray(values)), pad=False))
    assert (shown == 255).mean() < 0.005


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_floats_and_32_bit_integers_keep_their_order(tmp_path: Path, dtype: Any) -> None:
    values = ramp(90_000, dtype) - dtype(30_000)
    shown = grey(load_image(save(tmp_path / "scan.tif", Image.fromarray(values)), pad=False)).ravel()
    assert (np.diff(shown) >= 0).all()
    assert max((shown == 0).mean(), (shown == 255).mean()) < 0.005


def tiff_of(values: np.ndarray, sample_format: int) -> bytes:
    """A TIFF written by hand, with numbers of a kind that Pillow cannot write."""
    height, width = values.shape
    fields = {256: width, 257: height, 258: 8 * values.itemsize, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: values.nbytes,
              339: sample_format}  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields.items())
    start = struct.pack("<2sHI", b"II", 42, 8 + values.nbytes)
    return start + values.tobytes() + struct.pack("<H", len(fields)) + entries + bytes(4)


@pytest.mark.parametrize(
    ("values", "sample_format"),
    [
        pytest.param(ramp(4_000_000_000, np.uint32), 1, id="unsigned, 32 bit"),
        pytest.param(ramp(2_000_000_000, np.int32) - np.int32(1_000_000_000), 2, id="signed, 32 bit"),
        pytest.param(ramp(60_000, np.int32).astype(np.int16), 2, id="signed, 16 bit"),
        pytest.param((ramp(255) - 128).astype(np.int8), 2, id="signed, 8 bit"),
    ],
)
def test_whole_numbers_of_every_kind_keep_their_order(tmp_path: Path, values: np.ndarray, sample_format: int) -> None:
    (tmp_path / "scan.tif").write_bytes(tiff_of(values, sample_format))
    shown = grey(load_image(tmp_path / "scan.tif", pad=False)).ravel()[np.argsort(values.ravel(), kind="stable")]
    assert (np.diff(shown) >= 0).all()
    assert (shown.min(), shown.max()) == (0, 255)


def test_a_tiff_of_64_bit_numbers_is_said_to_be_one_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "scan.tif").write_bytes(tiff_of(ramp(1, np.float64), 3))
    with pytest.raises(InputError, match="is a TIFF that is damaged or of a kind that cannot be read; save it with 8, 16 or 32 bits"):
        load_image(tmp_path / "scan.tif")


@pytest.mark.parametrize("compression", ["group4", "group3", "packbits", "tiff_lzw", "tiff_adobe_deflate"])
def test_a_damaged_tiff_leaves_no_lines_of_its_decoder_on_stderr(
    tmp_path: Path, compression: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = save(tmp_path / "scan.tif", drawing(300, 300).convert("1"), compression=compression)
    content = path.read_bytes()
    for place in range(20, 400, 20):
        path.write_bytes(content[:place] + b"\xa5\x00\xff" + content[place + 3 :])
        with contextlib.suppress(InputError):
            load_image(path)
    assert capfd.readouterr().err == ""


def test_infinities_and_not_a_numbers_do_not_spoil_a_float_picture(tmp_path: Path) -> None:
    values = ramp(1, np.float32)
    values[0, 0], values[0, 1], values[0, 2] = np.nan, np.inf, -np.inf
    shown = grey(load_image(save(tmp_path / "scan.tif", Image.fromarray(values)), pad=False))
    assert shown[0, :3].tolist() == [0, 255, 0]
    assert shown[64, 64] == pytest.approx(128, abs=2)


@pytest.mark.parametrize(
    "picture", [drawing(), Image.fromarray(ramp(4095)), Image.fromarray(ramp(1, np.float32))], ids=["8", "16", "float"]
)
def test_a_tiff_whose_zero_is_white_is_the_negative(tmp_path: Path, picture: Image.Image) -> None:
    plain = save(tmp_path / "plain.tif", picture)
    data = bytearray(plain.read_bytes())
    tag = data.index((262).to_bytes(2, "little") + (3).to_bytes(2, "little"))
    data[tag + 8 : tag + 10] = (0).to_bytes(2, "little")
    (tmp_path / "white.tif").write_bytes(data)
    plain_grey, white_grey = (grey(load_image(tmp_path / f"{name}.tif", pad=False)) for name in ("plain", "white"))
    assert (white_grey == 255 - plain_grey).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_a_turned_picture_is_shown_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    stored = {2: [0], 3: [3], 4: [1], 5: [5], 6: [2], 7: [6], 8: [4]}.get(orientation, [])  # Image.Transpose that undoes the turn
    picture = drawing()
    for turn in stored:
        picture = picture.transpose(Image.Transpose(turn))
    exif = Image.Exif()
    exif[0x112] = orientation
    scan = read_image(save(tmp_path / f"scan.{suffix}", picture, exif=exif), pad=False)
    assert scan.image.size == (scan.facts["width"], scan.facts["height"]) == (120, 80)
    assert np.abs(grey(scan.image) - grey(drawing())).mean() < 4


def grey_profile(gamma: float) -> bytes:
    """The smallest ICC profile of a grey scale (ICC.1, 7.2 and 8.3.3): white point and curve."""
    curve = struct.pack(">4sII", b"curv", 0, 1) + struct.pack(">Hxx", round(gamma * 256))
    white = struct.pack(">4sIiii", b"XYZ ", 0, *(round(number * 65536) for number in (0.9642, 1.0, 0.8249)))
    start = 128 + 4 + 2 * 12
    tags = (
        struct.pack(">I", 2)
        + struct.pack(">4sII", b"wtpt", start, len(white))
        + struct.pack(">4sII", b"kTRC", start + len(white), len(curve))
    )
    illuminant = white[8:]
    size = start + len(white) + len(curve)
    head = struct.pack(">I4sI4s4s4s12x4s28x12s48x", size, b"\0" * 4, 0x02400000, b"mntr", b"GRAY", b"XYZ ", b"acsp", illuminant)
    return head + tags + white + curve


def test_a_colour_profile_is_followed_and_a_broken_one_passed_over(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for name, icc in (
        ("srgb.png", profile),
        ("broken.png", b"not a profile"),
        ("lab.png", ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()),
    ):
        path = save(tmp_path / name, drawing().convert("RGB"), icc_profile=icc)
        assert load_image(path, pad=False).tobytes() == drawing().convert("RGB").tobytes()


@pytest.mark.parametrize("kind", ["gif", "tif", "webp", "png"])
def test_one_of_several_pictures_must_be_chosen(tmp_path: Path, kind: str) -> None:
    others = [drawing().rotate(90), drawing().rotate(180)]
    path = save(tmp_path / f"scan.{kind}", drawing(), save_all=True, append_images=others, **({"lossless": True} if kind == "webp" else {}))
    with pytest.raises(InputError, match="holds 3 pictures; choose one with --frame 1 to --frame 3"):
        load_image(path)
    scan = read_image(path, pad=False, frame=3)
    assert np.abs(grey(scan.image) - grey(others[1])).mean() < 2
    assert (scan.facts["frame"], scan.facts["frames"]) == (3, 3)
    for frame in (0, 4, -1):
        with pytest.raises(InputError, match=f"has no frame {frame}; it has 1 to 3"):
            load_image(path, frame=frame)


def test_frame_and_window_hold_for_those_views_and_priors_that_they_can_hold_for(tmp_path: Path) -> None:
    single = save(tmp_path / "single.png", drawing())
    several = save(tmp_path / "several.tif", drawing(), save_all=True, append_images=[drawing(100, 80)])
    assert [read_other(path, frame=2, window="40/400").facts["frame"] for path in (single, several)] == [1, 2]
    assert read_other(written(tmp_path, made()), frame=2, window="2000/400").facts["window"]["from"] == "option"
    with pytest.raises(InputError, match="has no frame 0; it has only frame 1"):
        read_other(single, frame=0)


def test_the_photograph_of_a_phone_is_the_first_of_its_pictures(tmp_path: Path) -> None:
    path = save(tmp_path / "scan.mpo", drawing().convert("RGB"), save_all=True, append_images=[drawing(60, 40).convert("RGB")])
    assert read_image(path).facts["frames"] == 1


def flat_with(side: int, value: int, drawn: Callable[[ImageDraw.ImageDraw], Any]) -> Image.Image:
    picture = Image.new("L", (side, side), value)
    drawn(ImageDraw.Draw(picture))
    return picture


def noisy(side: int, spread: float) -> Image.Image:
    return Image.fromarray((100 + np.random.default_rng(0).normal(0, spread, (side, side))).clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    "picture",
    [
        Image.new("L", (200, 200)),
        Image.new("RGB", (200, 200), "white"),
        Image.new("RGBA", (200, 200), (255, 255, 255, 0)),
        Image.linear_gradient("L").resize((200, 200)).point(lambda level: level // 40),
        flat_with(600, 0, lambda pen: pen.point([(7, 9), (300, 400)], fill=255)),
        noisy(1024, 5),
        Image.fromarray(np.full((128, 128), 30_000, np.uint16)),
        Image.fromarray(np.random.default_rng(0).integers(1000, 1010, (128, 128)).astype(np.uint16)),
        Image.fromarray(np.random.default_rng(0).normal(1000, 60, (128, 128)).astype(np.uint16)),
        Image.fromarray(np.random.default_rng(0).normal(1000, 60, (1200, 1200)).astype(np.uint16)),
        Image.fromarray(ramp(400) + np.uint16(60_000)),
        Image.fromarray(np.full((128, 128), 0.5, np.float32)),
        Image.fromarray(np.random.default_rng(0).normal(0, 1e-6, (128, 128)).astype(np.float32)),
        Image.fromarray(ramp(1, np.float32) / 1000 + 1),
        Image.fromarray(np.full((128, 128), np.nan, np.float32)),
    ],
)
def test_a_picture_that_shows_nothing_is_refused(tmp_path: Path, picture: Image.Image) -> None:
    with pytest.raises(InputError, match=r"^scan\.tif (is blank|holds no numbers)"):
        load_image(save(tmp_path / "scan.tif", picture))


@pytest.mark.parametrize(
    "picture",
    [
        flat_with(200, 0, lambda pen: pen.ellipse((90, 90, 100, 100), fill=255)),
        flat_with(2000, 240, lambda pen: pen.rectangle((1000, 1000, 1020, 1020), fill=0)),
        flat_with(64, 128, lambda pen: pen.line((20, 20, 40, 40), fill=255)),
        Image.linear_gradient("L").resize((200, 200)).point(lambda level: 100 + level // 10),
        Image.fromarray((flat := np.full((512, 512), 1000, np.uint16)) + np.pad(np.full((8, 8), 3000, np.uint16), 252)),
    ],
)
def test_a_small_drawing_on_a_flat_background_is_kept(tmp_path: Path, picture: Image.Image) -> None:
    darkest, brightest = load_image(save(tmp_path / "scan.tif", picture)).convert("L").getextrema()
    assert brightest - darkest > 20


def test_pictures_below_64_and_above_12000_pixels_a_side_are_refused(tmp_path: Path) -> None:
    for size, message in (((63, 200), "63 x 200 pixels; at least 64"), ((12_001, 64), "12001 x 64 pixels; at most 12000")):
        with pytest.raises(InputError, match=message):
            load_image(save(tmp_path / "scan.png", drawing(*size)))
    assert load_image(save(tmp_path / "scan.png", drawing(64, 64))).size == (64, 64)


def test_a_burnt_out_picture_gives_a_warning_or_is_refused_and_a_colour_photograph_gives_a_warning(tmp_path: Path) -> None:
    assert read_image(drawing()).warnings == ()
    burnt = flat_with(200, 255, lambda pen: pen.ellipse((20, 20, 120, 120), fill=90))
    assert "saturated" in read_image(save(tmp_path / "burnt.png", burnt)).warnings[0]
    with pytest.raises(InputError, match=r"white\.png is saturated"):
        load_image(save(tmp_path / "white.png", drawing().point(lambda level: min(255, 20 * level))))
    deep = np.full((200, 200), 65535, np.uint16)
    deep[90:100, 50:150] = np.arange(100) * 600
    with pytest.raises(InputError, match=r"deep\.png is saturated"):
        load_image(save(tmp_path / "deep.png", Image.fromarray(deep)))
    colour = Image.merge("RGB", (drawing(), drawing().rotate(90), drawing().rotate(180)))
    assert read_image(save(tmp_path / "photo.png", colour)).warnings == ("photo.png is a colour picture, and a radiograph is expected",)
    assert not read_image(save(tmp_path / "grey.png", drawing().convert("RGB"))).warnings


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, rows: bytes = b"", *, depth: int = 8, colour: int = 0) -> bytes:
    """A PNG written by hand, so that it can claim a size it does not have."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    drawing(300, 300).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"these are words and no picture", "is not a picture that can be read"),
        (b"%PDF-1.7 ...", "is not a picture that can be read"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not a picture that can be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n", "is not a picture that can be read"),
        (encoded("PNG")[:900], "is damaged or cut short"),
        (encoded("JPEG")[:2000], "is damaged or cut short"),
        (encoded("TIFF")[:2000], "is damaged or cut short|is not a picture"),
        (encoded("WEBP")[:500], "is damaged or cut short|is not a picture"),
        (png_of(100_000, 100_000), "has more pixels than can be used"),
        (png_of(10_000, 10_000), "has more pixels than can be used"),
        (png_of(2_000_000, 40), "at least 64"),
        (png_of(40_000, 2_000), "at most 12000"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_line_that_names_it(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "scan.png").write_bytes(content)
    with warnings.catch_warnings(), pytest.raises(InputError, match=message) as caught:
        warnings.simplefilter("error")
        load_image(tmp_path / "scan.png")
    assert str(caught.value).startswith("scan.png ")
    assert "\n" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    "source", ["http://example.org/scan.png", "https://example.org/scan.png", "file:///scan.png", "s3://bucket/scan.png"]
)
def test_an_address_is_refused_and_not_fetched(source: str) -> None:
    with pytest.raises(InputError, match="nothing is fetched"):
        load_image(source)


def test_missing_files_folders_devices_and_odd_paths_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for source, message in (
        (tmp_path / "none.png", "none.png does not exist"), (tmp_path, "is a folder"), (tmp_path / "pipe", "pipe is a pipe or a device"),
        ("a\0b.png", "a.b.png"), ("", "is a folder"), ("x" * 5000, "cannot read xxx"), (tmp_path / "two\nlines.png", r"two\?lines.png"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            load_image(source)


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    path = save(tmp_path / "scan.png", drawing())
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=r"cannot read scan\.png: Permission denied"):
        load_image(path)


def test_a_window_needs_a_dicom_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a DICOM file, and a window needs one"):
        load_image(save(tmp_path / "scan.png", drawing()), window="40/400")


def png_of_16_bits(values: np.ndarray, channels: int) -> bytes:
    """Grey as RGB, RGBA or grey with alpha; the alpha is opaque."""
    bands = [values] * (channels - 1 + channels % 2) + [np.full_like(values, 65535)] * (1 - channels % 2)
    pixels = np.stack(bands, axis=2).astype(">u2")
    colour = {2: 4, 3: 2, 4: 6}[channels]
    return png_of(*values.shape[::-1], b"".join(b"\0" + row.tobytes() for row in pixels), depth=16, colour=colour)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_grey_in_16_bit_colour_is_stretched_as_far_as_its_upper_bits_go_and_said_to_be(tmp_path: Path, channels: int) -> None:
    (tmp_path / "scan.png").write_bytes(png_of_16_bits(ramp(20_000), channels))
    scan = read_image(tmp_path / "scan.png", pad=False)
    assert (np.diff(grey(scan.image).ravel()) >= 0).all()
    assert (grey(scan.image).min(), grey(scan.image).max()) == (0, 255)
    assert scan.facts["window"] == {"from": "percentiles 0.1 and 99.9 of the upper 8 bits", "low": 0.0, "high": 78.0}
    assert scan.warnings == ("scan.png has 16 bits a channel, of which the upper 8 are read; save it as 16-bit grey to show them all",)
    (tmp_path / "narrow.png").write_bytes(png_of_16_bits(ramp(4_000) + np.uint16(30_000), channels))
    with pytest.raises(InputError, match="uses only the lower part of 16-bit colour"):
        load_image(tmp_path / "narrow.png")


def test_16_bit_colour_is_shown_as_it_is_with_a_warning(tmp_path: Path) -> None:
    values = np.stack([ramp(65535), ramp(65535)[::-1], ramp(65535)], axis=2).astype(">u2")
    (tmp_path / "scan.png").write_bytes(png_of(128, 128, b"".join(b"\0" + row.tobytes() for row in values), depth=16, colour=2))
    scan = read_image(tmp_path / "scan.png", pad=False)
    assert (np.asarray(scan.image) == values >> 8).all()
    assert scan.warnings[0] == "scan.png has 16 bits a channel, of which the upper 8 are read"


@pytest.mark.parametrize(("first", "second"), [(np.uint16, np.uint8), (np.uint8, np.uint16)])
def test_the_bit_depth_is_that_of_the_page_which_is_shown(tmp_path: Path, first: Any, second: Any) -> None:
    pages = [Image.fromarray(ramp(np.iinfo(dtype).max, dtype)) for dtype in (first, second)]
    path = save(tmp_path / "scan.tif", pages[0], save_all=True, append_images=pages[1:])
    assert [read_image(path, frame=k + 1).facts["bit_depth"] for k in (0, 1)] == [8 * np.dtype(dtype).itemsize for dtype in (first, second)]


def test_a_profile_for_grey_holds_with_and_without_alpha(tmp_path: Path) -> None:
    linear = grey_profile(1.0)
    plain = save(tmp_path / "plain.png", drawing(), icc_profile=linear)
    alpha = save(tmp_path / "alpha.png", Image.merge("LA", (drawing(), Image.new("L", (120, 80), 255))), icc_profile=linear)
    assert np.abs(grey(load_image(plain, pad=False)) - grey(drawing())).max() > 20
    assert load_image(alpha).tobytes() == load_image(plain).tobytes()


def test_a_picture_of_more_than_89_megapixels_is_refused_whatever_its_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Image.MAX_IMAGE_PIXELS == gates.MOST_PIXELS
    monkeypatch.setattr(gates, "MOST_PIXELS", 5000)
    for path in (save(tmp_path / "scan.png", drawing()), written(tmp_path, made())):
        with pytest.raises(InputError, match="has more pixels than can be used"):
            load_image(path)


def test_16_bit_colour_that_uses_its_lower_bits_only_is_refused(tmp_path: Path) -> None:
    values = np.repeat(ramp(4095)[..., None], 3, axis=2).astype(">u2")
    (tmp_path / "scan.png").write_bytes(png_of(128, 128, b"".join(b"\0" + row.tobytes() for row in values), depth=16, colour=2))
    with pytest.raises(InputError, match="uses only the lower part of 16-bit colour"):
        load_image(tmp_path / "scan.png")


def test_importing_the_door_loads_neither_pillow_nor_numpy() -> None:
    code = "import sys, medgemma_app.inputs.images; sys.exit(any(name in sys.modules for name in ('PIL', 'numpy', 'pydicom')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "JPEG2000"]), st.data())
def test_any_damage_gives_a_picture_or_an_input_error(tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject) -> None:
    content = bytearray(encoded(kind))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, min(600, len(content) - 1)))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))] if data.draw(st.booleans()) else content)
    try:
        image = load_image(path)
    except InputError:
        return
    assert (image.mode, image.width) == ("RGB", image.height)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_give_a_picture_or_an_input_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes"
    path.write_bytes(content)
    with pytest.raises(InputError):
        load_image(path)


def test_bytes_and_open_files_are_shown_as_their_files(tmp_path: Path) -> None:
    path = save(tmp_path / "scan.png", drawing())
    expected = read_image(path)
    content = path.read_bytes()
    with path.open("rb") as file:
        scans = [read_image(source) for source in (file, content, bytearray(content), io.BytesIO(content))]
    assert all(scan.image.tobytes() == expected.image.tobytes() for scan in scans)
    assert [scan.facts["sha256"] for scan in scans] == [expected.facts["sha256"]] * 4
    assert [scan.facts["name"] for scan in scans] == ["scan.png", *["the picture"] * 3]


@pytest.mark.parametrize(
    "values", [ramp(4095), ramp(4095).astype(">u2"), ramp(4095).astype(np.int16) - 2000, ramp(4095) / 4095, ramp(4095).astype(np.int64)]
)
def test_an_array_of_grey_values_is_shown_as_a_file_of_them(values: np.ndarray) -> None:
    scan = read_image(values, pad=False)
    assert np.abs(grey(scan.image) - np.linspace(0, 255, 128 * 128).reshape(128, 128)).max() <= 2
    assert scan.facts["window"]["from"] == "percentiles 0.1 and 99.9"


def test_an_array_of_8_bits_is_shown_as_it_is() -> None:
    pixels = np.asarray(drawing())
    colours = np.stack([pixels, pixels[::-1], pixels], axis=2)
    assert (np.asarray(read_image(pixels, pad=False).image) == pixels[..., None]).all()
    assert (np.asarray(read_image(colours, pad=False).image) == colours).all()
    assert read_image(pixels).facts["format"] == "array"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((5, 100, 100)), r"an array of the shape \[5, 100, 100\] and the type float64"),
        (np.zeros((100, 100, 3), np.uint16), "RGB of 8 bits"),
        (np.array([["a"]]), "is not a picture that can be read"),
        (np.zeros((100, 100)), "is blank"),
        (b"", "the picture is empty"),
        (b"words", "is not a picture that can be read"),
        (io.StringIO("words"), 'as open(path, "rb") does'),
        (None, "of the type NoneType"),
        ([drawing()], "of the type list"),
    ],
)
def test_what_is_no_picture_is_refused_with_what_one_is(source: Any, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("(path", r"\(path").replace('rb")', r'rb"\)')):
        read_image(source)


@pytest.mark.parametrize("size", [(1000, 3000), (3001, 1777), (2048, 2048), (897, 900), (64, 2000), (1999, 65)])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_large_picture_has_the_pixels_that_the_model_s_processor_would_make_of_the_padded_one(size: tuple[int, int], mode: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], len(mode)), np.uint8)
    picture = Image.fromarray(noise[..., 0] if mode == "L" else noise)
    left, top = ((max(size) - length) // 2 for length in size)
    padded = picture.crop((-left, -top, max(size) - left, max(size) - top))
    small, borders = squared(picture, pad=True)
    assert small.tobytes() == padded.resize((896, 896), Image.Resampling.BILINEAR).tobytes()
    assert borders == {"left": left, "top": top, "right": max(size) - size[0] - left, "bottom": max(size) - size[1] - top}


@pytest.mark.parametrize("size", [(64, 12_000), (12_000, 64)])
def test_a_thin_picture_is_never_held_as_the_square_around_it(monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]) -> None:
    areas, crop = [], Image.Image.crop

    def watched(picture: Image.Image, box: Any) -> Image.Image:
        areas.append((box[2] - box[0]) * (box[3] - box[1]))
        return crop(picture, box)

    monkeypatch.setattr(Image.Image, "crop", watched)
    squared(drawing(*size), pad=True)
    assert max(areas) <= 896**2


def test_a_scan_is_the_same_picture_as_its_copy_and_not_as_another(tmp_path: Path) -> None:
    scan = read_image(save(tmp_path / "scan.png", drawing()))
    assert is_same_picture(scan, read_image(save(tmp_path / "copy.bmp", drawing())))
    assert not is_same_picture(scan, read_image(save(tmp_path / "other.png", drawing().rotate(180))))
