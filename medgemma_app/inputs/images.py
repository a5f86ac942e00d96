"""A picture in any form a user has -> the upright, full-range, square RGB picture the model may see.

Pillow, numpy and pydicom are imported inside functions: the command line must start without them.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

from medgemma_app.errors import InputError
from medgemma_app.inputs.files import looks_like_dicom, open_input, refuse_url, sha256_of, shown_name
from medgemma_app.inputs.header import ImageHeader
from medgemma_app.inputs.image_checks import refuse_size

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image
    from pydicom import Dataset

    Decoded = tuple[Image, dict[str, Any], tuple[str, ...]]  # as 8-bit L or RGB, its facts, and what deserves a warning
    Source: TypeAlias = str | Path | Image | bytes | BinaryIO | NDArray[Any] | Dataset
    Picture: TypeAlias = "Source | Scan"

ONE_PICTURE = "one picture file (PNG, JPEG, TIFF, WebP, BMP or DICOM)"
MODEL_SIDE = 896  # of the square that MedGemma sees
EXACT_STEP = 7  # 896 = 7 x 128
CT_IN_COLOUR = "Hounsfield windows as RGB"


@dataclass(frozen=True)
class Scan:
    """A picture as the model sees it (RGB), JSON-ready facts about where it came from, what deserves a warning, and its header."""

    image: Image
    facts: Mapping[str, Any]
    warnings: tuple[str, ...] = ()
    header: ImageHeader = field(default_factory=ImageHeader)


@dataclass(frozen=True)
class Series:
    """The slices as the model sees them (RGB), facts and warnings as for a scan, and the header of the middle one."""

    images: tuple[Image, ...]
    facts: Mapping[str, Any]
    warnings: tuple[str, ...] = ()
    header: ImageHeader = field(default_factory=ImageHeader)


def load_image(source: Source, *, pad: bool = True, frame: int | None = None, window: str | None = None) -> Image:
    """The RGB picture in ``source``: upright, full range, in the middle of a black square of at most 896 pixels. Raises InputError."""
    return read_image(source, pad=pad, frame=frame, window=window).image


def read_image(source: Source, *, pad: bool = True, frame: int | None = None, window: str | None = None) -> Scan:
    """The picture in ``source`` and the facts a report needs to be traced to it.

    ``source`` is a path, a PIL image, a numpy array, a pydicom Dataset, bytes or an open file. ``frame`` counts from 1;
    ``window`` is "C/W" in the units of a DICOM file. Without ``pad`` the picture keeps its shape and size. Raises InputError.
    """
    if isinstance(source, str | Path):
        refuse_url(source)
        with open_input(source, what=ONE_PICTURE) as file:
            return read_open_image(file, shown_name(source), pad=pad, frame=frame, window=window)
    if isinstance(source, bytes | bytearray | memoryview) or hasattr(source, "read"):
        return read_open_image(_in_memory(source), _name_of(source), pad=pad, frame=frame, window=window)
    return _shown(lambda: _decode_object(source, frame, window), "the picture", pad)


def read_open_image(file: BinaryIO, name: str, *, pad: bool = True, frame: int | None = None, window: str | None = None) -> Scan:
    """As ``read_image``, for a file that is open already or in memory; ``name`` is what messages call it."""
    scan = _shown(lambda: _decode(file, name, frame, window), name, pad)
    return replace(scan, facts={"name": name, "sha256": sha256_of(file), **scan.facts})


def _in_memory(source: Any) -> BinaryIO:
    content = source.read() if hasattr(source, "read") else bytes(source)
    if not isinstance(content, bytes):
        raise InputError('an open picture file must be opened for reading bytes, as open(path, "rb") does')
    if not content:
        raise InputError(f"{_name_of(source)} is empty; give {ONE_PICTURE}")
    return io.BytesIO(content)


def _name_of(source: Any) -> str:
    name = getattr(source, "name", None)
    return shown_name(name) if isinstance(name, str) else "the picture"


def _decode_object(source: Any, frame: int | None, window: str | None) -> Decoded:
    library, name = type(source).__module__.partition(".")[0], "the picture"
    if library == "pydicom" and hasattr(source, "get_item"):
        from medgemma_app.inputs.dicom import guarded, header_of
        from medgemma_app.inputs.display import decode_dicom

        with guarded(name):
            return decode_dicom(header_of(source, name), name, frame=frame, window=window)
    _refuse_window(window, name)
    if library == "numpy":
        from medgemma_app.inputs.raster import read_array

        return *read_array(source, name), ()
    if hasattr(source, "convert") and hasattr(source, "getexif"):
        from medgemma_app.inputs.raster import flatten, readable

        refuse_size(source.width, source.height, name)
        with readable(name):
            return *flatten(source, name), ()
    raise InputError(
        "a picture is given as a path, a PIL image, a numpy array, a pydicom Dataset, bytes or an open file; "
        f"this is of the type {type(source).__name__}"
    )


def read_other(source: Picture, *, pad: bool = True, frame: int | None = None, window: str | None = None) -> Scan:
    """A further view or a prior: ``frame`` holds for it where the file has several, ``window`` where it is DICOM. Raises InputError."""
    from medgemma_app.inputs.raster import OnePicture

    if isinstance(source, Scan):
        return source
    if isinstance(source, str | Path):
        refuse_url(source)
        with open_input(source, what=ONE_PICTURE) as file:
            window = window if looks_like_dicom(file) else None
    try:
        return read_image(source, pad=pad, frame=frame, window=window)
    except OnePicture:
        return read_image(source, pad=pad, window=window)


def is_same_picture(one: Scan, other: Scan) -> bool:
    """True for two scans of the same file, or that show the same pixels: a prior that is the scan itself tells nothing."""
    digests = one.facts.get("sha256"), other.facts.get("sha256")
    if None not in digests and digests[0] == digests[1] and one.facts.get("frame") == other.facts.get("frame"):
        return True
    return one.image.size == other.image.size and one.image.tobytes() == other.image.tobytes()


def _shown(decode: Callable[[], Decoded], name: str, pad: bool) -> Scan:
    """The scan of what ``decode`` returns. Each step lets go of the picture before it: a radiograph is large."""
    from medgemma_app.inputs.image_checks import is_blank, is_noise, is_saturated, thumbnail, warn_doubtful

    picture, facts, doubts = decode()
    small = thumbnail(picture)
    window = (facts["window"] or {}).get("from", "")
    if is_blank(small) or (window.startswith(("percentiles", "minimum")) and is_noise(small)):
        raise InputError(f"{name} is blank or nearly so; give a picture that shows something")
    by_choice = window in ("header", "option", "VOI LUT", CT_IN_COLOUR)  # it may show little on purpose, and another can be chosen
    if not by_choice and is_saturated(small):
        raise InputError(f"{name} is saturated, next to all of it is white; export it with its full range of grey values")
    if window != CT_IN_COLOUR:
        doubts = (*doubts, *warn_doubtful(small, name))
    picture, padding = squared(picture, pad=pad)
    header = ImageHeader.from_dict(facts.get("header") or {})
    return Scan(as_rgb(picture), {**facts, "padding": padding}, doubts, header)


def _decode(file: BinaryIO, name: str, frame: int | None, window: str | None) -> Decoded:
    """Told by content, never by name: the picture as 8-bit L or RGB, its facts, and what deserves a warning."""
    if looks_like_dicom(file):
        from medgemma_app.inputs.dicom import guarded, read_header
        from medgemma_app.inputs.display import decode_dicom

        with guarded(name):
            return decode_dicom(read_header(file, name), name, frame=frame, window=window)
    from medgemma_app.inputs.raster import decode_raster, is_halved

    _refuse_window(window, name)
    picture, facts = decode_raster(file, name, frame=frame)
    advice = "; save it as 16-bit grey to show them all" if facts["window"] else ""
    doubts = (f"{name} has 16 bits a channel, of which the upper 8 are read{advice}",)
    return picture, facts, doubts if is_halved(facts) else ()


def _refuse_window(window: str | None, name: str) -> None:
    if window is not None:
        raise InputError(f"{name} is not a DICOM file, and a window needs one; leave the window out")


def squared(picture: Image, *, pad: bool) -> tuple[Image, dict[str, int] | None]:
    """L or RGB in the middle of a black square, and the widths of the four borders in pixels of the picture.

    What is larger than the model's square is scaled to it, just as the model's processor would scale the padded picture,
    but without ever making that: the square around a long thin picture takes a hundred times its memory.
    """
    from PIL import Image

    if not pad:
        return picture, None
    side = max(picture.size)
    left, top = (side - picture.width) // 2, (side - picture.height) // 2
    borders = {"left": left, "top": top, "right": side - picture.width - left, "bottom": side - picture.height - top}
    if side <= MODEL_SIDE:  # what a crop takes from outside the picture is black
        return picture.crop((-left, -top, side - left, side - top)) if any(borders.values()) else picture, borders
    (first, last), (start, end) = (_shown_strip(offset, length, side) for offset, length in ((left, picture.width), (top, picture.height)))
    scale = side / MODEL_SIDE
    # The strip of the padded picture from which these pixels of the small square are averaged, and a border more.
    near = [max(0, math.floor((edge - 1) * scale)) for edge in (first, start)]
    far = [min(side, math.ceil((edge + 1) * scale)) for edge in (last, end)]
    strip = picture.crop((near[0] - left, near[1] - top, far[0] - left, far[1] - top))
    # Across, then down, as Pillow does with a square; for a strip it may choose the other order, and round otherwise.
    across = (first * scale - near[0], 0, last * scale - near[0], strip.height)
    strip = strip.resize((last - first, strip.height), Image.Resampling.BILINEAR, box=across)
    down = (0, start * scale - near[1], strip.width, end * scale - near[1])
    square = Image.new(picture.mode, (MODEL_SIDE, MODEL_SIDE))
    square.paste(strip.resize((strip.width, end - start), Image.Resampling.BILINEAR, box=down), (first, start))
    return square, borders


def _shown_strip(offset: int, length: int, side: int) -> tuple[int, int]:
    """The first pixel of the model's square, and the one after the last, to which a picture of that length at that place adds.

    In steps of 7, so that their places in the padded picture are numbers that Pillow's 32-bit floats hold exactly.
    """
    scale = side / MODEL_SIDE
    first, last = max(0, math.floor(offset / scale) - 2), min(MODEL_SIDE, math.ceil((offset + length) / scale) + 2)
    return first // EXACT_STEP * EXACT_STEP, -(-last // EXACT_STEP) * EXACT_STEP


def as_rgb(picture: Image) -> Image:
    """L or RGB as RGB."""
    from PIL import Image

    return Image.merge("RGB", (picture,) * 3) if picture.mode == "L" else picture
