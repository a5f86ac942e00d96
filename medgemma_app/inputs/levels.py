"""Scales grey values of more than 8 bits to 8 bits, linearly between two percentiles; and tests for blank or doubtful pictures.

At most the darkest and the brightest 0.1% of the pixels are clipped, so that a burnt-in marker or a dead pixel does
not decide the contrast of the whole picture; in between the order of the values is kept. Pixels are processed in strips
that fit the processor's cache, so that only the input and the output have the picture's full size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from medgemma_app.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    Values = NDArray[Any]
    Grey = NDArray[np.uint8]

CLIPPED = 0.001  # of the pixels, at either end
# How a picture is shown, in the words of its facts.
PERCENTILES, CT_IN_COLOUR = "percentiles 0.1 and 99.9", "Hounsfield windows as RGB"
WINDOWED = ("header", "option", "VOI LUT")  # another window can be chosen
MOST_CLIPPED = 0.004  # when the percentiles come from a sample of the rows
FEWEST_LEVELS = 16  # of more than 8 bits: stretching fewer would show noise as if it were a picture
SMALLEST_SPREAD = 0.01  # of the largest value, for the same reason
STRIP = 64
SAMPLE, SAMPLE_STEP = 8, 128  # rows: 8 of every 128 are counted first where a picture has more than a million pixels
LARGE = 1_000_000
SMALLEST_SIDE = 64
MOST_PIXELS = 89_478_485  # beyond this Pillow warns of a decompression bomb
LARGEST_SIDE = 12_000
# A picture is blank when, averaged over blocks of a 256th of its shorter side, fewer than 4 blocks differ from the
# middle one by more than 8 of 255 levels. Averaging removes noise and dead pixels; a small drawing stays.
BLOCKS = 256
LEVELS = 8
FEWEST_BLOCKS = 4
MOST_WHITE = 0.25  # of the picture: more gives a warning
# How much neighbouring blocks differ, as a share of what unrelated ones would: less than half in real pictures, a tenth in radiographs.
NOISE = 0.8
COLOUR_LEVELS = 24
MOST_COLOUR = 0.2


def strips(source: Image | Values, rows: int = STRIP, step: int = STRIP) -> Iterator[tuple[int, Values]]:
    """The first row and the pixels of a strip of ``rows`` every ``step`` rows."""
    import numpy as np

    if isinstance(source, np.ndarray):
        yield from ((top, source[top : top + rows]) for top in range(0, len(source), step))
        return
    for top in range(0, source.height, step):
        yield top, np.asarray(source.crop((0, top, source.width, min(top + rows, source.height))))


def counts(source: Image | Values, rows: int = STRIP, step: int = STRIP, *, size: int = 1 << 16) -> NDArray[np.int64]:
    """How often each of the values from 0 to ``size`` - 1 occurs."""
    import numpy as np

    total = np.zeros(size, np.int64)
    for _, strip in strips(source, rows, step):
        total += np.bincount(strip.ravel(), minlength=size)
    return total


def limits(values: Values, weights: NDArray[np.int64]) -> tuple[float, float]:
    """The values with 0.1% of the weight below and above them; smallest and largest where those two are the same."""
    import numpy as np

    used = np.flatnonzero(weights)
    used = used[np.argsort(values[used], kind="stable")]
    reached = np.cumsum(weights[used])
    allowed = CLIPPED * reached[-1]
    low = values[used[np.searchsorted(reached, allowed, "right")]]
    high = values[used[np.searchsorted(reached, reached[-1] - allowed, "left")]]
    if low == high:
        low, high = values[used[0]], values[used[-1]]
    return float(low), float(high)


def to_levels(values: Values, low: float, high: float) -> Grey:
    """Maps ``low`` to 0 and ``high`` to 255, linear and rounded in between and clipped outside; NaN becomes black."""
    import numpy as np

    scaled = (values.astype(np.float64) - low) / (high - low) * 255
    grey: Grey = np.rint(np.nan_to_num(scaled, nan=0.0).clip(0, 255)).astype(np.uint8)
    return grey


def apply_table(source: Image | Values, table: Grey, shape: tuple[int, int]) -> Grey:
    """Every pixel, an unsigned number, replaced by its entry in ``table``; ``shape`` is rows, columns."""
    import numpy as np

    grey = np.empty(shape, np.uint8)
    for top, strip in strips(source):
        np.take(table, strip, out=grey[top : top + len(strip)], mode="clip")
    return grey


def scale_16bit(source: Image | Values, shape: tuple[int, int], name: str) -> tuple[Grey, float, float]:
    """Scales unsigned 16-bit pixels to 8 bits; also returns the values that became black and white. Raises InputError if it is blank.

    For a large picture, a sixteenth of the rows is counted first, and all rows only if that clips too much: counting takes longest.
    """
    import numpy as np

    values, pixels, low, high = np.arange(1 << 16), shape[0] * shape[1], 0.0, 0.0
    if pixels > LARGE:
        low, high = limits(values, counts(source, SAMPLE, SAMPLE_STEP))
    if is_flat(low, high) or _clipped(source, low, high) > MOST_CLIPPED * pixels:
        low, high = limits(values, counts(source))
        refuse_flat(low, high, name)
    return apply_table(source, to_levels(values, low, high), shape), low, high


def _clipped(source: Image | Values, low: float, high: float) -> int:
    """The number of pixels below ``low`` or the number above ``high``, whichever is larger."""
    import numpy as np

    below = above = 0
    for _, strip in strips(source):
        below += int(np.count_nonzero(strip < np.uint16(low)))
        above += int(np.count_nonzero(strip > np.uint16(high)))
    return max(below, above)


def scale_numbers(values: Values, name: str) -> tuple[Grey, float, float]:
    """Scales floats or 32-bit integers to 8 bits, like ``scale_16bit``; infinities are clipped. Raises InputError."""
    import numpy as np

    finite = values[np.isfinite(values)]
    if not finite.size:
        raise InputError(f"{name} holds no numbers that could be shown; export it again")
    clipped = int(CLIPPED * (finite.size - 1))
    ordered = np.partition(finite, [clipped, finite.size - 1 - clipped])
    low, high = float(ordered[clipped]), float(ordered[-1 - clipped])
    if low == high:
        low, high = float(finite.min()), float(finite.max())
    refuse_flat(low, high, name, fewest=0 if values.dtype.kind == "f" else FEWEST_LEVELS)
    grey = np.empty(values.shape, np.uint8)
    for top, strip in strips(values):
        grey[top : top + len(strip)] = to_levels(strip, low, high)
    return grey, low, high


def refuse_flat(low: float, high: float, name: str, *, fewest: int = FEWEST_LEVELS) -> None:
    """Raises InputError if the two values hardly differ; see ``is_flat``."""
    if is_flat(low, high, fewest=fewest):
        raise InputError(f"{name} is blank or nearly so; give a picture that shows something")


def is_flat(low: float, high: float, *, fewest: int = FEWEST_LEVELS) -> bool:
    """True when two values differ by less than ``fewest``, by less than 1% of the larger, or not at all."""
    return high - low < max(fewest, SMALLEST_SPREAD * max(abs(low), abs(high))) or high == low


def refuse_size(width: int, height: int, name: str) -> None:
    """Raises InputError for a picture too small to show anything or too large to hold; call it before decoding."""
    if min(width, height) < SMALLEST_SIDE:
        raise InputError(f"{name} is {width} x {height} pixels; at least {SMALLEST_SIDE} per side are needed")
    if width * height > MOST_PIXELS:
        raise InputError(f"{name} has more pixels than can be used; export it smaller, or the part that matters")
    if max(width, height) > LARGEST_SIDE:
        raise InputError(f"{name} is {width} x {height} pixels; at most {LARGEST_SIDE} per side can be used: export it smaller")


def thumbnail(picture: Image) -> Image:
    """The averages over blocks of a 256th of the shorter side, for the checks below."""
    return picture.reduce(max(1, min(picture.size) // BLOCKS))


def is_blank(small: Image) -> bool:
    """True for the thumbnail (L or RGB) of one flat field; noise and dead pixels do not count."""
    for band in small.split():
        histogram = band.histogram()
        middle = next(level for level in range(256) if 2 * sum(histogram[: level + 1]) >= sum(histogram))
        near = sum(histogram[max(0, middle - LEVELS) : middle + LEVELS + 1])
        if sum(histogram) - near >= FEWEST_BLOCKS:
            return False
    return True


def is_noise(small: Image) -> bool:
    """True for the thumbnail of a nearly constant picture whose noise was stretched: no block resembles its neighbours."""
    import numpy as np

    levels = np.asarray(small.convert("L"), np.float64)
    return bool(min(np.diff(levels, axis=axis).var() for axis in (0, 1)) > NOISE * 2 * levels.var())


def warn_doubtful(small: Image, name: str, window: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Warnings from the thumbnail: too much white, and colour where a radiograph is expected. ``window`` is how it is shown.

    Black gives no warning: a hand, a small breast or a finger leaves more than 90% of its detector black.
    """
    shown_by, found = (window or {}).get("from"), []
    if shown_by == CT_IN_COLOUR:
        return ()
    if small.convert("L").histogram()[255] > MOST_WHITE * small.width * small.height:
        advice = "export it with its full range of grey values, bright on black"
        if shown_by in WINDOWED:
            advice = "--window C/W sets another window"
        found.append(f"{name} is saturated or inverted: more than {MOST_WHITE:.0%} of it is pure white; {advice}")
    if _is_colourful(small):
        found.append(f"{name} is a colour picture, but a radiograph is expected")
    return tuple(found)


def _is_colourful(small: Image) -> bool:
    from PIL import ImageChops

    if small.mode != "RGB":
        return False
    red, green, blue = small.split()
    highest = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    lowest = ImageChops.darker(ImageChops.darker(red, green), blue)
    spread = ImageChops.subtract(highest, lowest).histogram()
    return sum(spread[COLOUR_LEVELS:]) > MOST_COLOUR * sum(spread)
