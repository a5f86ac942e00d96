"""What Pillow can open -> one upright 8-bit picture, grey (L) or colour (RGB), and the facts about it."""

from __future__ import annotations

import struct
import warnings
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO

from medgemma_app.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

# Told by content. Not every format Pillow knows: some start other programs (EPS), some are no pictures of patients.
FORMATS = ("PNG", "JPEG", "MPO", "TIFF", "WEBP", "BMP", "GIF", "JPEG2000")
# What Pillow's decoders raise on damaged files, found by feeding them some: they have no base class of their own.
DECODER_ERRORS = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, OverflowError, struct.error, zlib.error, EOFError)
LARGEST_SIDE = 14_000


def decode_raster(file: BinaryIO, name: str, *, frame: int | None = None) -> tuple[Image, dict[str, Any]]:
    """The picture in ``file`` as upright L or RGB, and its facts; ``frame`` counts from 1. Raises InputError."""
    from PIL import Image, UnidentifiedImageError

    bomb = (Image.DecompressionBombError, Image.DecompressionBombWarning)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            Image.init()  # else a format whose plugin is not loaded yet is a KeyError
            picture = Image.open(file, formats=FORMATS)
            frames = _choose_frame(picture, name, frame)
            _refuse_size(picture, name)
            picture.load()
            flat, facts = flatten(picture, name)
    except bomb as error:
        raise InputError(f"{name} has more than {Image.MAX_IMAGE_PIXELS} pixels; give a smaller picture") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{name} is not a picture that can be read; give a PNG, JPEG, TIFF, WebP, BMP or DICOM file") from error
    except (*DECODER_ERRORS, MemoryError) as error:
        raise InputError(f"{name} is damaged or cut short and cannot be decoded; export or copy it again") from error
    return flat, {"format": picture.format, **facts, **frames}


def _choose_frame(picture: Any, name: str, frame: int | None) -> dict[str, int]:
    frames = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)  # a phone's MPO: the first is the photograph
    if frame is None and frames > 1:
        raise InputError(f"{name} holds {frames} pictures; choose one with --frame 1 to {frames}")
    if frame is not None and not 1 <= frame <= frames:
        raise InputError(f"{name} has no frame {frame}; it has 1 to {frames}")
    if frame is not None and frames > 1:
        picture.seek(frame - 1)
    return {"frame": frame or 1, "frames": frames}


def _refuse_size(picture: Image, name: str) -> None:
    if max(picture.size) > LARGEST_SIDE:
        raise InputError(f"{name} is {picture.width} x {picture.height} pixels; at most {LARGEST_SIDE} a side can be used")


def flatten(picture: Image, name: str) -> tuple[Image, dict[str, Any]]:
    """Any Pillow picture -> upright L or RGB of 8 bits, transparency on black, and facts about what it was."""
    from PIL import ImageOps

    from medgemma_app.inputs.scaling import scale_grey

    upright = ImageOps.exif_transpose(picture)
    facts: dict[str, Any] = {"width": upright.width, "height": upright.height, "mode": picture.mode, "window": None}
    if upright.mode[0] in "IF":
        grey, window = scale_grey(upright, name)
        return grey, {**facts, "bit_depth": 32 if picture.mode in "IF" else 16, "window": window}
    return _to_rgb(upright), {**facts, "bit_depth": 1 if picture.mode == "1" else 8}


def _to_rgb(picture: Image) -> Image:
    from PIL import Image

    if picture.has_transparency_data:
        black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, picture.convert("RGBA")).convert("RGB")
    return picture.convert("L" if picture.mode in ("1", "L") else "RGB")
