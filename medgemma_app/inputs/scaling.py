"""Grey values of more than 8 bits -> 8 bits, linear between two percentiles.

At most the darkest and the brightest 0.1% of the pixels are clipped, so that a burnt-in marker or a dead pixel does
not decide the contrast of the whole picture; in between the order of the values is kept. Pixels are walked in strips
that fit the processor's cache, so that nothing of the picture's full size is held besides the input and the output.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from medgemma_app.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    Values = NDArray[Any]
    Grey = NDArray[np.uint8]

CLIPPED = 0.001  # of the pixels, at either end
MOST_CLIPPED = 0.004  # when the percentiles come from a sample of the rows
FEWEST_LEVELS = 16  # of more than 8 bits: stretching fewer would show noise as if it were a picture
SMALLEST_SPREAD = 0.01  # of the largest value, for the same reason
STRIP = 64
SAMPLE, SAMPLE_STEP = 8, 128  # rows: 8 of every 128 are counted first where a picture has more than a million pixels
LARGE = 1_000_000


def strips(source: Image | Values, rows: int = STRIP, step: int = STRIP) -> Iterator[tuple[int, Values]]:
    """The first row and the pixels of a strip of ``rows`` every ``step`` rows."""
    import numpy as np

    if isinstance(source, np.ndarray):
        yield from ((top, source[top : top + rows]) for top in range(0, len(source), step))
        return
    for top in range(0, source.height, step):
        yield top, np.asarray(source.crop((0, top, source.width, min(top + rows, source.height))))


def counts(source: Image | Values, rows: int = STRIP, step: int = STRIP) -> NDArray[np.int64]:
    """How often each value of an unsigned 8 or 16-bit picture occurs, as an array of 65,536."""
    import numpy as np

    total = np.zeros(1 << 16, np.int64)
    for _, strip in strips(source, rows, step):
        total += np.bincount(strip.ravel(), minlength=1 << 16)
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
    """``low`` -> 0, ``high`` -> 255, linear and rounded in between, clipped outside; not-a-number becomes black."""
    import numpy as np

    scaled = (values.astype(np.float64) - low) / (high - low) * 255
    grey: Grey = np.rint(np.nan_to_num(scaled, nan=0.0).clip(0, 255)).astype(np.uint8)
    return grey


def apply_table(source: Image | Values, table: Grey, shape: tuple[int, int]) -> Grey:
    """Every pixel (unsigned, at most 16 bits) replaced by its entry in ``table``; ``shape`` is rows, columns."""
    import numpy as np

    grey = np.empty(shape, np.uint8)
    for top, strip in strips(source):
        np.take(table, strip, out=grey[top : top + len(strip)], mode="clip")
    return grey


def scale_16bit(source: Image | Values, shape: tuple[int, int], name: str) -> tuple[Grey, float, float]:
    """Unsigned 16-bit pixels -> 8 bits, and the two values that became black and white. Raises InputError when it is blank.

    A sixteenth of the rows is counted first, and all where that turns out to clip too much: counting takes longest.
    """
    import numpy as np

    values = np.arange(1 << 16)
    pixels = shape[0] * shape[1]
    if pixels > LARGE:
        low, high = limits(values, counts(source, SAMPLE, SAMPLE_STEP))
        if not is_flat(low, high):
            grey, clipped = _scaled(source, shape, low, high)
            if clipped <= MOST_CLIPPED * pixels:
                return grey, low, high
    low, high = limits(values, counts(source))
    refuse_flat(low, high, name)
    return _scaled(source, shape, low, high)[0], low, high


def _scaled(source: Image | Values, shape: tuple[int, int], low: float, high: float) -> tuple[Grey, int]:
    """The pixels as 8 bits, and how many lie below ``low``, or above ``high``: the larger number."""
    import numpy as np

    table = to_levels(np.arange(1 << 16), low, high)
    grey = np.empty(shape, np.uint8)
    below = above = 0
    for top, strip in strips(source):
        np.take(table, strip, out=grey[top : top + len(strip)], mode="clip")
        below += int(np.count_nonzero(strip < np.uint16(low))) if low else 0
        above += int(np.count_nonzero(strip > np.uint16(high)))
    return grey, max(below, above)


def scale_numbers(values: Values, name: str) -> tuple[Grey, float, float]:
    """Floats or 32-bit integers -> 8 bits, as scale_16bit; infinities are clipped. Raises InputError."""
    import numpy as np

    low, high = number_limits(values, name)
    grey = np.empty(values.shape, np.uint8)
    for top, strip in strips(values):
        grey[top : top + len(strip)] = to_levels(strip, low, high)
    return grey, low, high


def number_limits(values: Values, name: str) -> tuple[float, float]:
    """As limits, for more different values than can be counted. Raises InputError when there are none, or all are the same."""
    import numpy as np

    is_float = values.dtype.kind == "f"
    finite = values[np.isfinite(values)] if is_float else values.ravel()
    if not finite.size:
        raise InputError(f"{name} holds no numbers that could be shown; export it again")
    clipped = int(CLIPPED * (finite.size - 1))
    ordered = np.partition(finite, [clipped, finite.size - 1 - clipped])
    low, high = float(ordered[clipped]), float(ordered[-1 - clipped])
    if low == high:
        low, high = float(finite.min()), float(finite.max())
    refuse_flat(low, high, name, fewest=0 if is_float else FEWEST_LEVELS)
    return low, high


def refuse_flat(low: float, high: float, name: str, *, fewest: int = FEWEST_LEVELS) -> None:
    """Raises InputError when there is next to nothing between the two values; see ``is_flat``."""
    if is_flat(low, high, fewest=fewest):
        raise InputError(f"{name} is blank or nearly so; give a picture that shows something")


def is_flat(low: float, high: float, *, fewest: int = FEWEST_LEVELS) -> bool:
    """True when two values differ by less than ``fewest``, by less than 1% of the larger, or not at all."""
    return high - low < max(fewest, SMALLEST_SPREAD * max(abs(low), abs(high))) or high == low
