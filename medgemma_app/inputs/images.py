"""A picture file -> the upright, full-range, square RGB picture the model may see.

Pillow and numpy are imported inside functions: the command line must start without them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from medgemma_app.errors import InputError
from medgemma_app.inputs.files import open_input, refuse_url, shown_name
from medgemma_app.inputs.header import ImageHeader

if TYPE_CHECKING:
    from PIL.Image import Image

    Decoded = tuple[Image, dict[str, Any], tuple[str, ...]]  # as 8-bit L or RGB, its facts, and what deserves a warning

ONE_PICTURE = "one picture file (PNG, JPEG, TIFF, WebP, BMP or DICOM)"


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


def load_image(source: str | Path | Image, *, pad: bool = True, frame: int | None = None, window: str | None = None) -> Image:
    """The RGB picture in ``source``: upright, full range, padded with black to a centred square. Raises InputError."""
    return read_image(source, pad=pad, frame=frame, window=window).image


def read_image(source: str | Path | Image, *, pad: bool = True, frame: int | None = None, window: str | None = None) -> Scan:
    """The picture in ``source`` and the facts a report needs to be traced to it.

    ``frame`` counts from 1; ``window`` is "C/W" in the units of a DICOM file. Raises InputError.
    """
    if not isinstance(source, str | Path):
        return _shown(lambda: (*_from_picture(source, window), ()), "the picture", pad)
    refuse_url(source)
    name = shown_name(source)
    with open_input(source, what=ONE_PICTURE) as file:
        return read_open_image(file, name, pad=pad, frame=frame, window=window)


def read_open_image(file: BinaryIO, name: str, *, pad: bool = True, frame: int | None = None, window: str | None = None) -> Scan:
    """As ``read_image``, for a file that is open already or in memory; ``name`` is what messages call it."""
    digest = sha256_of(file)
    scan = _shown(lambda: _decode(file, name, frame, window), name, pad)
    return replace(scan, facts={"name": name, "sha256": digest, **scan.facts})


def read_other(source: str | Path, *, pad: bool = True, frame: int | None = None, window: str | None = None) -> Scan:
    """A further view or a prior: ``frame`` holds for it where the file has several, ``window`` where it is DICOM. Raises InputError."""
    from medgemma_app.inputs.raster import OnePicture

    refuse_url(source)
    with open_input(source, what=ONE_PICTURE) as file:
        window = window if looks_like_dicom(file) else None
    try:
        return read_image(source, pad=pad, frame=frame, window=window)
    except OnePicture:
        return read_image(source, pad=pad, window=window)


def _shown(decode: Callable[[], Decoded], name: str, pad: bool) -> Scan:
    """The scan of what ``decode`` returns. Each step lets go of the picture before it: a radiograph is large."""
    from medgemma_app.inputs.gates import is_blank, is_noise, is_saturated, thumbnail, warn_doubtful

    picture, facts, doubts = decode()
    small = thumbnail(picture)
    window = (facts["window"] or {}).get("from", "")
    stretched = "percentiles" in window
    if is_blank(small) or (stretched and is_noise(small)):
        raise InputError(f"{name} is blank or nearly so; give a picture that shows something")
    by_choice = window in ("header", "option", "VOI LUT")  # it may show little on purpose, and another can be chosen
    if not by_choice and is_saturated(small):
        raise InputError(f"{name} is saturated, next to all of it is white; export it with its full range of grey values")
    picture, padding = squared(picture, pad=pad)
    header = ImageHeader.from_dict(facts.get("header") or {})
    return Scan(as_rgb(picture), {**facts, "padding": padding}, (*doubts, *warn_doubtful(small, name)), header)


def _decode(file: BinaryIO, name: str, frame: int | None, window: str | None) -> Decoded:
    """Told by content, never by name: the picture as 8-bit L or RGB, its facts, and what deserves a warning."""
    if looks_like_dicom(file):
        from medgemma_app.inputs.dicom import decode_dicom

        return decode_dicom(file, name, frame=frame, window=window)
    from medgemma_app.inputs.raster import decode_raster, is_halved

    _refuse_window(window, name)
    picture, facts = decode_raster(file, name, frame=frame)
    advice = "; save it as 16-bit grey to show them all" if facts["window"] else ""
    doubts = (f"{name} has 16 bits a channel, of which the upper 8 are read{advice}",)
    return picture, facts, doubts if is_halved(facts) else ()


def _from_picture(picture: Image, window: str | None) -> tuple[Image, dict[str, Any]]:
    from medgemma_app.inputs.gates import refuse_size
    from medgemma_app.inputs.raster import flatten, readable

    _refuse_window(window, "the picture")
    refuse_size(*picture.size, "the picture")
    with readable("the picture"):
        return flatten(picture, "the picture")


def _refuse_window(window: str | None, name: str) -> None:
    if window is not None:
        raise InputError(f"{name} is not a DICOM file, and a window needs one; leave the window out")


def looks_like_dicom(file: BinaryIO) -> bool:
    """True for a DICOM file with its preamble, and for one that lost it; leaves the file at its start."""
    head = file.read(132)
    file.seek(0)
    # Without a preamble a file begins with the group (2 or 8) and the element of its first value, in either byte order.
    bare = re.match(rb"[\x02\x08]\x00.\x00|\x00[\x02\x08]\x00", head, re.DOTALL)
    return head[128:] == b"DICM" or bare is not None


def sha256_of(file: BinaryIO) -> str:
    """The digest of a file's bytes; leaves the file at its start."""
    import hashlib

    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    file.seek(0)
    return digest.hexdigest()


def squared(picture: Image, *, pad: bool) -> tuple[Image, dict[str, int] | None]:
    """L or RGB in the middle of a black square of its longer side, and the widths of the four borders in pixels."""
    if not pad:
        return picture, None
    side = max(picture.size)
    left, top = (side - picture.width) // 2, (side - picture.height) // 2
    borders = {"left": left, "top": top, "right": side - picture.width - left, "bottom": side - picture.height - top}
    # What a crop takes from outside the picture is black.
    return picture.crop((-left, -top, side - left, side - top)) if any(borders.values()) else picture, borders


def as_rgb(picture: Image) -> Image:
    """L or RGB as RGB."""
    from PIL import Image

    return Image.merge("RGB", (picture,) * 3) if picture.mode == "L" else picture
