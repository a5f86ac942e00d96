"""Pictures that no report can be written from, and pictures that deserve a warning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medgemma_app.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

SMALLEST_SIDE = 64
MOST_PIXELS = 89_478_485  # beyond this Pillow warns of a decompression bomb
LARGEST_SIDE = 12_000  # the padded square of such a picture takes 0.6 GB
# A picture is blank when, averaged over blocks of a 256th of its shorter side, fewer than 4 blocks differ from the
# middle one by more than 8 of 255 levels. Averaging removes noise and dead pixels; a small drawing stays.
BLOCKS = 256
LEVELS = 8
FEWEST_BLOCKS = 4
DOUBTFUL_WHITE, MOST_WHITE = 0.25, 0.9  # of the picture: beyond these it gives a warning, or is refused
# How much neighbouring blocks differ, as a share of what unrelated ones would: less than half in real pictures, a tenth in radiographs.
NOISE = 0.8
COLOUR_LEVELS = 24
MOST_COLOUR = 0.2


def refuse_size(width: int, height: int, name: str) -> None:
    """Raises InputError for a picture too small to show anything or too large to hold; call it before decoding."""
    if min(width, height) < SMALLEST_SIDE:
        raise InputError(f"{name} is {width} x {height} pixels; at least {SMALLEST_SIDE} a side are needed")
    if width * height > MOST_PIXELS:
        raise InputError(f"{name} has more pixels than can be used; export it smaller, or the part that matters")
    if max(width, height) > LARGEST_SIDE:
        raise InputError(f"{name} is {width} x {height} pixels; at most {LARGEST_SIDE} a side can be used: export it smaller")


def thumbnail(picture: Image) -> Image:
    """The averages over blocks of a 256th of the shorter side, which the tests below look at."""
    return picture.reduce(max(1, min(picture.size) // BLOCKS))


def is_blank(small: Image) -> bool:
    """True for the thumbnail (L or RGB) of one flat field, noise and dead pixels apart."""
    return all(_is_flat(band.histogram()) for band in small.split())


def is_saturated(small: Image) -> bool:
    """True for the thumbnail of a picture that is next to all white: exported in the wrong range, most often."""
    return _white(small) > MOST_WHITE


def _white(small: Image) -> float:
    return small.convert("L").histogram()[255] / (small.width * small.height)


def is_noise(small: Image) -> bool:
    """True for the thumbnail of a nearly constant picture whose noise was stretched: no block resembles its neighbours."""
    import numpy as np

    levels = np.asarray(small.convert("L"), np.float64)
    return bool(min(np.diff(levels, axis=axis).var() for axis in (0, 1)) > NOISE * 2 * levels.var())


def warn_doubtful(small: Image, name: str) -> tuple[str, ...]:
    """What a reader should know from the thumbnail: burnt-out pictures, and colour where a radiograph is expected."""
    found = []
    if _white(small) > DOUBTFUL_WHITE:
        found.append(f"{name} is saturated: more than {DOUBTFUL_WHITE:.0%} of it is pure white")
    if _is_colourful(small):
        found.append(f"{name} is a colour picture, and a radiograph is expected")
    return tuple(found)


def _is_flat(histogram: list[int]) -> bool:
    half = sum(histogram) / 2
    middle = next(level for level in range(256) if sum(histogram[: level + 1]) >= half)
    near = sum(histogram[max(0, middle - LEVELS) : middle + LEVELS + 1])
    return sum(histogram) - near < FEWEST_BLOCKS


def _is_colourful(small: Image) -> bool:
    from PIL import ImageChops

    if small.mode != "RGB":
        return False
    red, green, blue = small.split()
    highest = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    lowest = ImageChops.darker(ImageChops.darker(red, green), blue)
    spread = ImageChops.subtract(highest, lowest).histogram()
    return sum(spread[COLOUR_LEVELS:]) > MOST_COLOUR * sum(spread)
