"""Reads a picture in any form as the upright, full-range, square RGB picture that the model may see.

Pillow, numpy and pydicom are imported inside functions: the command line must start without them.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

from medgemma_app.errors import InputError
from medgemma_app.inputs.files import looks_like_dicom, open_input, refuse_url, sha256_of, shown_name
from medgemma_app.inputs.header import ImageHeader, PatientDigests
from medgemma_app.inputs.levels import STRIP, is_blank, is_noise, refuse_size, thumbnail, warn_doubtful

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image
    from pydicom import Dataset

    Decoded = tuple[Image, dict[str, Any], tuple[str, ...]]  # as 8-bit L or RGB, its facts, and warnings
    Source: TypeAlias = str | Path | Image | bytes | BinaryIO | NDArray[Any] | Dataset
    Picture: TypeAlias = "Source | Scan"

ONE_PICTURE = "one picture file (PNG, JPEG, TIFF, WebP, BMP or DICOM)"
MODEL_SIDE = 896  # of the square that MedGemma sees
EXACT_STEP = 7  # 896 = 7 x 128
# The mean difference of two pictures as a share of their mean grey: a radiograph as JPEG at half its size differs by at most 0.015,
# a drawn chest that is taken again by 0.047 or more, and different radiographs by 0.12 or more.
SAME_PICTURE = 0.02


@dataclass(frozen=True)
class Scan:
    """A picture as the model sees it (RGB), JSON-ready facts about where it came from, warnings, and its header."""

    image: Image
    facts: Mapping[str, Any]
    warnings: tuple[str, ...] = ()
    header: ImageHeader = field(default_factory=ImageHeader)
    patient: PatientDigests | None = field(default=None, repr=False)  # to tell patients apart
    instance: str | None = field(default=None, repr=False)  # SOPInstanceUID, to recognise the same picture


@dataclass(frozen=True)
class Series:
    """The slices as the model sees them (RGB), facts and warnings as for a scan, and the header of the middle one."""

    images: tuple[Image, ...]
    facts: Mapping[str, Any]
    warnings: tuple[str, ...] = ()
    header: ImageHeader = field(default_factory=ImageHeader)
    patient: PatientDigests | None = field(default=None, repr=False)  # to tell patients apart


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
    """Like ``read_image``, for a file that is already open or in memory; messages call it ``name``."""
    scan = _shown(lambda: _decode(file, name, frame, window), name, pad)
    return replace(scan, facts={"name": name, "sha256": sha256_of(file), **scan.facts})


def _in_memory(source: Any) -> BinaryIO:
    try:
        content = source.read() if hasattr(source, "read") else bytes(source)
    except (OSError, ValueError) as error:  # closed, or open for writing
        raise InputError(f"{_name_of(source)} cannot be read; open the file again, for reading bytes") from error
    if not isinstance(content, bytes):
        raise InputError('a picture file must be open for reading bytes, as open(path, "rb") does')
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
    """Reads a further view or a prior. ``frame`` applies only to several frames, ``window`` only to DICOM. Raises InputError."""
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
    """True for scans of one DICOM object (SOPInstanceUID and frame), or that look the same at 64 x 64 pixels in grey.

    So small, a picture stays the same when it is saved as JPEG or at another size; one that is taken again does not.
    """
    from PIL import Image, ImageChops, ImageStat

    if one.instance and (one.instance, one.facts.get("frame")) == (other.instance, other.facts.get("frame")):
        return True
    small = [scan.image.convert("L").resize((64, 64), Image.Resampling.BOX) for scan in (one, other)]
    difference, *levels = (ImageStat.Stat(picture).mean[0] for picture in (ImageChops.difference(*small), *small))
    return difference < SAME_PICTURE * max(levels)


def _shown(decode: Callable[[], Decoded], name: str, pad: bool) -> Scan:
    """Makes a scan of what ``decode`` returns. Each step releases the picture before it, since a radiograph is large."""
    picture, facts, warnings = decode()
    small = thumbnail(picture)
    is_stretched = (facts["window"] or {}).get("from", "").startswith(("percentiles", "minimum"))
    if is_blank(small) or (is_stretched and is_noise(small)):
        raise InputError(f"{name} is blank or nearly so; give a picture that shows something")
    warnings = (*warnings, *warn_doubtful(small, name, facts["window"]))
    if picture.size != (facts["width"], facts["height"]):  # its pixels were not square
        facts["shown"] = {"width": picture.width, "height": picture.height}
    picture, padding = squared(picture, pad=pad)
    header = ImageHeader.from_dict(facts.get("header") or {})
    patient, instance = (facts.pop(key, None) for key in ("patient", "instance"))  # they could identify a patient, so no record holds them
    return Scan(as_rgb(picture), {**facts, "padding": padding}, warnings, header, patient, instance)


def _decode(file: BinaryIO, name: str, frame: int | None, window: str | None) -> Decoded:
    """Decodes the picture to 8-bit L or RGB, with its facts and warnings. The format is recognised by content, never by name."""
    if looks_like_dicom(file):
        from medgemma_app.inputs.dicom import guarded, read_header
        from medgemma_app.inputs.display import decode_dicom

        with guarded(name):
            return decode_dicom(read_header(file, name), name, frame=frame, window=window)
    from medgemma_app.inputs.raster import decode_raster

    _refuse_window(window, name)
    picture, facts = decode_raster(file, name, frame=frame)
    halved = f"{name} has 16 bits per channel, of which the upper 8 are read; if it is grey, save it as 16-bit grey"
    return picture, facts, (halved,) if facts["bit_depth"] == 16 and facts["mode"][0] not in "IF" else ()


def _refuse_window(window: str | None, name: str) -> None:
    if window is not None:
        raise InputError(f"{name} is not a DICOM file, and a window needs one; leave the window out")


def squared(picture: Image, *, pad: bool) -> tuple[Image, dict[str, int] | None]:
    """L or RGB in the middle of a black square, and the widths of the four borders in pixels of the picture.

    A square larger than the model's is scaled to it, with exactly the pixels of the model's own processor, but it is never held itself:
    the square around a long thin picture can be a hundred times as large as the picture.
    """
    from PIL import Image

    if not pad:
        return picture, None
    side = max(picture.size)
    left, top = (side - picture.width) // 2, (side - picture.height) // 2
    borders = {"left": left, "top": top, "right": side - picture.width - left, "bottom": side - picture.height - top}
    if side <= MODEL_SIDE:  # a crop is black outside the picture
        return picture.crop((-left, -top, side - left, side - top)), borders
    turn = Image.Transpose.TRANSPOSE
    narrow, x = _scaled_across(picture, left, side)  # across first, then down, since Pillow rounds in between
    small, y = _scaled_across(narrow.transpose(turn), top, side)
    square = Image.new(picture.mode, (MODEL_SIDE, MODEL_SIDE))
    square.paste(small.transpose(turn), (x, y))
    return square, borders


def _scaled_across(picture: Image, left: int, side: int) -> tuple[Image, int]:
    """The part of the model's square that the picture covers, and its first column. Its rows keep their number.

    The picture lies ``left`` pixels from the edge of a square of ``side`` pixels.
    """
    from PIL import Image

    scale = side / MODEL_SIDE
    # Two columns more on either side, and whole steps: Pillow's 32-bit floats hold their places in the padded picture exactly.
    first = max(0, math.floor(left / scale) - 2) // EXACT_STEP * EXACT_STEP
    last = math.ceil(min(MODEL_SIDE, math.ceil((left + picture.width) / scale) + 2) / EXACT_STEP) * EXACT_STEP
    near, far = max(0, math.floor((first - 1) * scale)), min(side, math.ceil((last + 1) * scale))
    scaled = Image.new(picture.mode, (last - first, picture.height))
    for row in range(0, picture.height, STRIP):
        rows = min(STRIP, picture.height - row)
        strip = picture.crop((near - left, row, far - left, row + rows))
        box = (first * scale - near, 0, last * scale - near, rows)
        scaled.paste(strip.resize((last - first, rows), Image.Resampling.BILINEAR, box=box), (0, row))
    return scaled, first


def as_rgb(picture: Image) -> Image:
    """L or RGB as RGB."""
    from PIL import Image

    return Image.merge("RGB", (picture,) * 3) if picture.mode == "L" else picture


def png(image: Image, *, compress_level: int = 6) -> bytes:
    """The content of a PNG file; a grey picture is stored with one channel, which takes a third of the space."""
    channels = image.split()
    grey = image.mode == "RGB" and channels[0] == channels[1] == channels[2]
    (channels[0] if grey else image).save(file := io.BytesIO(), "PNG", compress_level=compress_level)
    return file.getvalue()


def png_url(image: Image, *, compress_level: int = 6) -> str:
    """The picture as a data URL."""
    return "data:image/png;base64," + base64.b64encode(png(image, compress_level=compress_level)).decode("ascii")
