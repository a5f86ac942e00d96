"""Pictures that no report can be written from, and pictures that deserve a warning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medgemma_app.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

SMALLEST_SIDE = 64
# A picture is blank when, averaged over blocks of a 256th of its shorter side, fewer than 4 blocks differ from the
# middle one by more than 8 of 255 levels. Averaging removes noise and dead pixels; a small drawing stays.
BLOCKS = 256
LEVELS = 8
FEWEST_BLOCKS = 4
MOST_WHITE = 0.25
COLOUR_LEVELS = 24
MOST_COLOUR = 0.2


def refuse_unusable(picture: Image, name: str) -> None:
    """Raises InputError for a picture (L or RGB) that is too small or shows nothing."""
    if min(picture.size) < SMALLEST_SIDE:
        raise InputError(f"{name} is {picture.width} x {picture.height} pixels; at least {SMALLEST_SIDE} a side are needed")
    small = _reduced(picture)
    if all(_is_flat(band.histogram()) for band in small.split()):
        raise InputError(f"{name} is blank or nearly so; give a picture that shows something")


def warn_doubtful(picture: Image, name: str) -> tuple[str, ...]:
    """What a reader should know: burnt-out pictures, and colour where a radiograph is expected."""
    found = []
    grey = picture.convert("L")
    if grey.histogram()[255] > MOST_WHITE * grey.width * grey.height:
        found.append(f"{name} is saturated: more than {MOST_WHITE:.0%} of it is pure white")
    if _is_colourful(_reduced(picture)):
        found.append(f"{name} is a colour picture; a radiograph is expected")
    return tuple(found)


def _reduced(picture: Image) -> Image:
    return picture.reduce(max(1, min(picture.size) // BLOCKS))


def _is_flat(histogram: list[int]) -> bool:
    half, seen, middle = sum(histogram) / 2, 0, 0
    for middle, count in enumerate(histogram):
        seen += count
        if seen >= half:
            break
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
