"""Grey values of more than 8 bits -> 8 bits, linear between two percentiles.

The darkest and the brightest 0.1% of the pixels may be clipped, so that a burnt-in marker or a dead pixel does not
decide the contrast of the whole picture; in between the order of the values is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medgemma_app.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

CLIPPED = 0.001


def scale_grey(picture: Image, name: str) -> tuple[Image, dict[str, Any]]:
    """A picture of mode I;16, I or F -> mode L, and the two values that became black and white. Raises InputError."""
    import numpy as np
    from PIL import Image

    values = np.asarray(picture)
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise InputError(f"{name} holds no finite values; export it again")
    low, high = limits(finite)
    if low == high:
        raise InputError(f"{name} is blank: every pixel has the same value; give another picture")
    grey = scale_between(values, low, high)
    return Image.fromarray(grey), {"low": low, "high": high}


def limits(values: NDArray[Any]) -> tuple[float, float]:
    """The values at 0.1% and 99.9%; the smallest and the largest where those two are the same."""
    import numpy as np

    low, high = np.percentile(values, [100 * CLIPPED, 100 - 100 * CLIPPED])
    if low == high:
        low, high = values.min(), values.max()
    return float(low), float(high)


def scale_between(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """``low`` -> 0, ``high`` -> 255, linear and rounded in between; not-a-number becomes black."""
    import numpy as np

    scaled: NDArray[np.float32] = (values.astype(np.float32) - low) * (255.0 / (high - low))
    grey: NDArray[np.uint8] = np.nan_to_num(np.rint(scaled), nan=0.0).clip(0, 255).astype(np.uint8)
    return grey
