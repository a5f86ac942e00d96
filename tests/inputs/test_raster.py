"""Every format and mode that Pillow reads, and every array, becomes upright grey or colour of 8 bits."""

import contextlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import drawing, grey, png_of, ramp, save
from PIL import Image, ImageCms

from medgemma_app.errors import InputError
from medgemma_app.inputs.images import load_image, read_image


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
    height, width, *channels = values.shape
    fields = {256: width, 257: height, 258: 8 * values.itemsize, 259: 1, 262: 2 if channels else 1, 273: 8, 277: 3 if channels else 1,
              278: height, 279: values.nbytes, 339: sample_format}  # fmt: skip
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


def test_a_tiff_of_64_bit_numbers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "scan.tif").write_bytes(tiff_of(ramp(1, np.float64), 3))
    with pytest.raises(InputError, match=r"is not a picture that can be read; give a PNG, JPEG, TIFF \(of 8, 16 or 32 bits\)"):
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


def test_the_photograph_of_a_phone_is_the_first_of_its_pictures(tmp_path: Path) -> None:
    path = save(tmp_path / "scan.mpo", drawing().convert("RGB"), save_all=True, append_images=[drawing(60, 40).convert("RGB")])
    assert read_image(path).facts["frames"] == 1


def png_of_16_bits(values: np.ndarray, channels: int) -> bytes:
    """Grey as RGB, RGBA or grey with alpha; the alpha is opaque."""
    bands = [values] * (channels - 1 + channels % 2) + [np.full_like(values, 65535)] * (1 - channels % 2)
    pixels = np.stack(bands, axis=2).astype(">u2")
    colour = {2: 4, 3: 2, 4: 6}[channels]
    return png_of(*values.shape[::-1], b"".join(b"\0" + row.tobytes() for row in pixels), depth=16, colour=colour)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_grey_in_16_bit_colour_is_stretched_as_far_as_its_upper_bits_go_with_a_warning(tmp_path: Path, channels: int) -> None:
    (tmp_path / "scan.png").write_bytes(png_of_16_bits(ramp(20_000), channels))
    scan = read_image(tmp_path / "scan.png", pad=False)
    assert np.abs(grey(scan.image) - (ramp(20_000) >> 8) / 78 * 255).max() <= 1
    assert scan.facts["bit_depth"] == 16
    assert scan.facts["window"] == {"from": "percentiles 0.1 and 99.9 of the upper 8 bits", "low": 0.0, "high": 78.0}
    assert scan.warnings == ("scan.png has 16 bits per channel, of which the upper 8 are read; if it is grey, save it as 16-bit grey",)
    for narrow in (ramp(4_095), ramp(4_000) + np.uint16(30_000)):
        (tmp_path / "narrow.png").write_bytes(png_of_16_bits(narrow, channels))
        with pytest.raises(InputError, match="uses only the lower bits of 16-bit colour; save it as 16-bit grey or with 8 bits"):
            load_image(tmp_path / "narrow.png")


def test_colours_in_the_lower_bits_of_16_are_refused_as_such(tmp_path: Path) -> None:
    values = np.stack([ramp(4095), ramp(4095)[::-1], ramp(4095)], axis=2)
    (tmp_path / "scan.tif").write_bytes(tiff_of(values, 1))
    with pytest.raises(InputError, match="uses only the lower bits of 16-bit colour"):
        load_image(tmp_path / "scan.tif")


def test_16_bit_colour_in_a_tiff_is_shown_as_in_a_png(tmp_path: Path) -> None:
    values = np.stack([ramp(65535), ramp(65535)[::-1], ramp(65535)], axis=2)
    (tmp_path / "scan.tif").write_bytes(tiff_of(values, 1))
    scan = read_image(tmp_path / "scan.tif", pad=False)
    assert (np.asarray(scan.image) == values >> 8).all()
    assert (scan.facts["bit_depth"], len(scan.warnings)) == (16, 2)


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
