"""A picture file becomes the upright, full-range, square RGB picture the model may see, or one clear line."""

import hashlib
import io
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicoms import made, written
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import drawing, encoded, png_of, ramp, save
from PIL import Image, ImageDraw

from medgemma_app.errors import InputError
from medgemma_app.inputs import levels
from medgemma_app.inputs.images import load_image, read_image, read_other, squared


def test_a_picture_is_padded_to_a_centred_black_square(tmp_path: Path) -> None:
    image = load_image(save(tmp_path / "scan.png", drawing()))
    assert (image.mode, image.size) == ("RGB", (120, 120))
    assert image.crop((0, 0, 120, 20)).getextrema() == ((0, 0),) * 3
    assert image.crop((0, 20, 120, 100)).convert("L").tobytes() == drawing().tobytes()


def test_padding_can_be_left_out(tmp_path: Path) -> None:
    assert load_image(save(tmp_path / "scan.png", drawing()), pad=False).size == (120, 80)


@pytest.mark.parametrize("size", [(1000, 3000), (3001, 1777), (2048, 2048), (897, 900), (64, 2000), (1999, 65)])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_large_picture_has_the_pixels_that_the_model_s_processor_would_make_of_the_padded_one(size: tuple[int, int], mode: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], len(mode)), np.uint8).squeeze()
    left, top = ((max(size) - length) // 2 for length in size)
    borders = {"left": left, "top": top, "right": max(size) - size[0] - left, "bottom": max(size) - size[1] - top}
    padded = np.pad(pixels, [(top, borders["bottom"]), (left, borders["right"])] + [(0, 0)] * (pixels.ndim - 2))
    small, told = squared(Image.fromarray(pixels), pad=True)
    assert small.tobytes() == Image.fromarray(padded).resize((896, 896), Image.Resampling.BILINEAR).tobytes()
    assert told == borders


@pytest.mark.parametrize("size", [(64, 12_000), (12_000, 64)])
def test_a_thin_picture_is_never_held_as_the_square_around_it(monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]) -> None:
    areas, wrap = [], Image.Image._new
    monkeypatch.setattr(Image.Image, "_new", lambda picture, core: areas.append(core.size[0] * core.size[1]) or wrap(picture, core))
    squared(drawing(*size), pad=True)
    assert max(areas) <= 896**2


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


def test_frame_and_window_hold_for_those_views_and_priors_that_they_can_hold_for(tmp_path: Path) -> None:
    single = save(tmp_path / "single.png", drawing())
    several = save(tmp_path / "several.tif", drawing(), save_all=True, append_images=[drawing(100, 80)])
    assert [read_other(path, frame=2, window="40/400").facts["frame"] for path in (single, several)] == [1, 2]
    assert read_other(written(tmp_path, made()), frame=2, window="2000/400").facts["window"]["from"] == "option"
    with pytest.raises(InputError, match="has no frame 0; it has only frame 1"):
        read_other(single, frame=0)


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


@pytest.mark.parametrize(
    ("picture", "warned"),
    [
        pytest.param(drawing(), False, id="as usual"),
        pytest.param(flat_with(200, 0, lambda pen: pen.ellipse((80, 80, 120, 120), fill=120)), False, id="mostly black"),
        pytest.param(flat_with(200, 255, lambda pen: pen.ellipse((20, 20, 120, 120), fill=90)), True, id="burnt out"),
        pytest.param(flat_with(200, 255, lambda pen: pen.ellipse((90, 90, 120, 120), fill=90)), True, id="inverted"),
        pytest.param(Image.fromarray(np.pad(ramp(60_000), 200, constant_values=65535)), True, id="inverted, 16 bit"),
    ],
)
def test_a_picture_that_is_more_than_a_quarter_white_gives_a_warning(tmp_path: Path, picture: Image.Image, warned: bool) -> None:
    warnings = read_image(save(tmp_path / "scan.png", picture)).warnings
    assert warnings == ("scan.png is saturated or inverted: more than 25% of it is pure white; export it with its full range of grey "
                        "values, bright on black",) * warned  # fmt: skip


def test_a_colour_photograph_gives_a_warning(tmp_path: Path) -> None:
    colour = Image.merge("RGB", (drawing(), drawing().rotate(90), drawing().rotate(180)))
    assert read_image(save(tmp_path / "photo.png", colour)).warnings == ("photo.png is a colour picture, but a radiograph is expected",)
    assert not read_image(save(tmp_path / "grey.png", drawing().convert("RGB"))).warnings


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
        (tmp_path / "none.png", "none.png does not exist"), (tmp_path, "a folder"), (tmp_path / "pipe", "pipe is a pipe or a device"),
        ("a\0b.png", "a.b.png"), ("", "a folder"), ("x" * 5000, "cannot read xxx"), (tmp_path / "two\nlines.png", r"two\?lines.png"),
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


def test_a_picture_of_more_than_89_megapixels_is_refused_whatever_its_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Image.MAX_IMAGE_PIXELS == levels.MOST_PIXELS
    monkeypatch.setattr(levels, "MOST_PIXELS", 5000)
    for path in (save(tmp_path / "scan.png", drawing()), written(tmp_path, made())):
        with pytest.raises(InputError, match="has more pixels than can be used"):
            load_image(path)


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


def closed(file):
    file.close()
    return file


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
        (closed(io.BytesIO(b"words")), "open the file again"),
        (None, "of the type NoneType"),
        ([drawing()], "of the type list"),
    ],
)
def test_what_is_not_a_picture_is_refused_with_the_types_that_are(source: Any, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("(path", r"\(path").replace('rb")', r'rb"\)')):
        read_image(source)
