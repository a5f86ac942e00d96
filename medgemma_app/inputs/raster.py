"""Reads what Pillow can open as one upright 8-bit picture, grey (L) or colour (RGB), with the facts about it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from medgemma_app.errors import InputError
from medgemma_app.inputs.files import DAMAGE
from medgemma_app.inputs.levels import PERCENTILES, counts, limits, refuse_size, scale_16bit, scale_numbers, to_levels

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

# Recognised by content. Other formats of Pillow are left out: some start programs (EPS), most hold no pictures of patients.
FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "JPEG2000")
WHITE_IS_ZERO = 0
UNSIGNED, SIGNED = 1, 2
TIFF_PHOTOMETRIC, TIFF_BITS, TIFF_SAMPLES = 262, 258, 339
FEWEST_UPPER = 64  # of the 256 levels of the upper 8 bits: a picture that uses fewer is in the lower bits


class SeveralPictures(InputError):
    """A file that holds several pictures, of which none was chosen."""


class OnePicture(InputError):
    """A file that holds one picture, where another one was asked for."""


def decode_raster(file: BinaryIO, name: str, *, frame: int | None = None) -> tuple[Image, dict[str, Any]]:
    """The picture in ``file`` as upright L or RGB, and its facts; ``frame`` counts from 1. Raises InputError.

    Of 16-bit colour, and of 16-bit grey with alpha, Pillow returns only the upper 8 bits; grey is stretched over all levels.
    """
    from PIL import Image

    with readable(name):
        Image.init()  # else a format whose plugin is not loaded yet is a KeyError
        picture: Any = Image.open(file, formats=FORMATS)
        chosen = _choose_frame(picture, name, frame)
        is_halved = picture.mode[0] not in "IF" and any(";16" in str(tile.args) for tile in picture.tile)
        refuse_size(picture.width, picture.height, name)
        with _quiet_libtiff():
            picture.load()
        flat, facts = flatten(picture, name)
        if is_halved:
            flat, window = _stretch_upper_bits(flat, name)
            facts |= {"bit_depth": 16, "window": window}
    return flat, {"format": picture.format, **chosen, **facts}


def _stretch_upper_bits(picture: Image, name: str) -> tuple[Image, dict[str, Any] | None]:
    """Stretches the upper 8 bits of 16 if all channels are equal. Raises InputError if the lower bits are needed to show the picture."""
    import numpy as np
    from PIL import ImageChops

    channels = picture.split()
    is_grey = not any(ImageChops.difference(channels[0], other).getbbox() for other in channels[1:])
    grey = channels[0] if is_grey else picture.convert("L")
    low, high = limits(np.arange(256), counts(grey, size=256))
    if (high - low if is_grey else high) < FEWEST_UPPER:
        raise InputError(f"{name} uses only the lower bits of 16-bit colour; save it as 16-bit grey or with 8 bits")
    if not is_grey:
        return picture, None
    table = to_levels(np.arange(256), low, high).tolist()
    return grey.point(table), {"from": f"{PERCENTILES} of the upper 8 bits", "low": low, "high": high}


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Turns what Pillow raises into one InputError, and silences its warnings except the one about decompression bombs."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{name} has more pixels than can be used; export it smaller, or the part that matters") from error
    except UnidentifiedImageError as error:
        raise InputError(
            f"{name} is not a picture that can be read; give a PNG, JPEG, TIFF (of 8, 16 or 32 bits), WebP, BMP or DICOM file"
        ) from error
    except DAMAGE as error:
        raise InputError(f"{name} is damaged or cut short and cannot be decoded; export or copy it again") from error


@contextmanager
def _quiet_libtiff() -> Iterator[None]:
    """Silences libtiff, which prints its errors on stderr itself; Pillow cannot stop it."""
    import ctypes

    from PIL import _imaging

    try:
        set_handler = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
    except (OSError, AttributeError):  # Pillow was built in another way
        yield
        return
    set_handler.restype, set_handler.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    before = set_handler(None)
    try:
        yield
    finally:
        set_handler(before)


def _choose_frame(picture: Any, name: str, frame: int | None) -> dict[str, int]:
    frames = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)  # a phone's MPO: the first is the photograph
    number = choose_frame(frame, frames, name)
    if frames > 1:
        picture.seek(number - 1)
    return {"frame": number, "frames": frames}


def choose_frame(frame: int | None, frames: int, name: str) -> int:
    """The number of the frame to show, counted from 1. Raises InputError when there is no such frame, or when none was chosen."""
    if frame is None and frames > 1:
        raise SeveralPictures(f"{name} holds {frames} pictures; choose one with --frame 1 to --frame {frames}")
    if frame is not None and not 1 <= frame <= frames:
        wrong = f"{name} has no frame {frame}; it has {'only frame 1' if frames == 1 else f'1 to {frames}'}"
        raise OnePicture(wrong) if frame > 1 == frames else InputError(wrong)
    return frame or 1


def flatten(picture: Image, name: str) -> tuple[Image, dict[str, Any]]:
    """Converts any Pillow picture to upright 8-bit L or RGB, with transparency on black; and returns facts about the original."""
    from PIL import ExifTags, ImageChops, ImageOps

    # exif_transpose copies what is upright already, and a radiograph is large.
    is_turned = picture.getexif().get(ExifTags.Base.Orientation, 1) != 1
    upright = ImageOps.exif_transpose(picture) if is_turned else picture
    facts: dict[str, Any] = {"width": upright.width, "height": upright.height, "mode": picture.mode, "window": None}
    tags = getattr(picture, "tag_v2", {})
    kind = tags.get(TIFF_SAMPLES, (UNSIGNED,))[0]
    if upright.mode[0] in "IF":
        grey, window = _scaled(upright, name, unsigned=tags.get(TIFF_BITS) == (32,) and kind == UNSIGNED)
        if tags.get(TIFF_PHOTOMETRIC) == WHITE_IS_ZERO:  # Pillow inverts these where they have 8 bits
            grey = ImageChops.invert(grey)
        return grey, {**facts, "bit_depth": 16 if upright.mode.startswith("I;") else 32, "window": window}
    if picture.mode == "L" and kind == SIGNED:  # Pillow reads them as unsigned
        upright = upright.point([(level + 128) % 256 for level in range(256)])
    return _to_8bit(upright), {**facts, "bit_depth": 1 if picture.mode == "1" else 8}


def read_array(array: NDArray[Any], name: str) -> tuple[Image, dict[str, Any]]:
    """A numpy array as L or RGB, and its facts. More than 8 bits of grey are stretched as in a file. Raises InputError."""
    import numpy as np
    from PIL import Image

    values = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if not (values.ndim == 2 and values.dtype.kind in "buif") and not (
        values.ndim == 3 and values.shape[2] in (3, 4) and values.dtype == np.uint8
    ):
        raise InputError(
            f"an array of the shape {list(array.shape)} and the type {array.dtype} is not a picture that can be read; give [rows, columns] "
            "in grey, or [rows, columns, 3] in RGB of 8 bits"
        )
    refuse_size(values.shape[1], values.shape[0], name)
    height, width, bits = *values.shape[:2], 1 if values.dtype == bool else 8 * values.dtype.itemsize
    facts = {"format": "array", "width": width, "height": height, "mode": str(array.dtype), "bit_depth": bits, "window": None}
    if values.dtype in (np.uint8, bool):
        return flatten(Image.fromarray(np.ascontiguousarray(values)), name)[0], facts
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    grey, low, high = scale_16bit(native, values.shape, name) if native.dtype == np.uint16 else scale_numbers(native, name)
    return Image.fromarray(grey), {**facts, "window": {"from": PERCENTILES, "low": low, "high": high}}


def _scaled(picture: Image, name: str, *, unsigned: bool) -> tuple[Image, dict[str, Any]]:
    import numpy as np
    from PIL import Image

    shape = picture.height, picture.width
    if picture.mode == "I;16":
        grey, low, high = scale_16bit(picture, shape, name)
    elif picture.mode.startswith("I;16"):  # in the byte order of another machine
        grey, low, high = scale_16bit(np.asarray(picture).astype(np.uint16), shape, name)
    else:
        values = np.asarray(picture)
        grey, low, high = scale_numbers(values.view(np.uint32) if unsigned else values, name)
    return Image.fromarray(grey), {"from": PERCENTILES, "low": low, "high": high}


def _to_8bit(picture: Image) -> Image:
    from PIL import Image

    profile = picture.info.get("icc_profile")
    if picture.has_transparency_data and picture.mode in ("L", "LA"):
        grey, alpha = picture.convert("LA").split()
        grey, profile = _to_srgb(grey, profile) if profile else grey, None  # a profile for grey does not fit RGB
        picture = Image.composite(grey, Image.new("L", picture.size), alpha)
    elif picture.has_transparency_data:
        black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        picture = Image.alpha_composite(black, picture.convert("RGBA")).convert("RGB")
    elif picture.mode in ("1", "P", "PA", "YCbCr", "HSV"):
        picture = picture.convert("L" if picture.mode == "1" else "RGB")
    if profile:
        picture = _to_srgb(picture, profile)
    return picture if picture.mode in ("L", "RGB") else picture.convert("RGB")


def _to_srgb(picture: Image, profile: bytes) -> Image:
    """Converts colours by the embedded profile to sRGB; a profile that does not fit the picture is ignored."""
    import io

    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return picture
        converted = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        return (converted or picture).convert("L") if picture.mode == "L" else converted or picture
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return picture
