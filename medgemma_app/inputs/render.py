"""Stored DICOM pixels -> the picture a viewer shows, by tables of what every stored value looks like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from medgemma_app.errors import InputError
from medgemma_app.inputs import elements as headers
from medgemma_app.inputs import voi
from medgemma_app.inputs.gates import LARGEST_SIDE
from medgemma_app.inputs.scaling import FEWEST_LEVELS, apply_table, counts, limits, number_limits, refuse_flat, scale_numbers, to_levels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image
    from pydicom import Dataset

Pixels: TypeAlias = "NDArray[Any]"


def render(pixels: Pixels, header: Dataset, name: str, view: voi.View | None = None) -> tuple[Image, dict[str, Any] | None]:
    """Stored pixels -> the picture a viewer shows, and the facts of the window it is shown in."""
    import numpy as np
    from PIL import Image

    if pixels.ndim == 3 or header.PhotometricInterpretation == "PALETTE COLOR":
        return Image.fromarray(_colour(pixels, header)), None
    grey, shown = _grey(pixels, header, name, view)
    if header.PhotometricInterpretation == "MONOCHROME1":
        np.subtract(255, grey, out=grey)
    return Image.fromarray(grey), shown


def _colour(pixels: Pixels, header: Dataset) -> NDArray[np.uint8]:
    """RGB of 8 bits; pydicom has turned YBR into RGB already."""
    import numpy as np
    from pydicom.pixels import apply_color_lut

    bits = int(header.BitsStored)
    if header.PhotometricInterpretation == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, header)
        bits = 8 * pixels.dtype.itemsize
    return (pixels >> max(0, bits - 8)).astype(np.uint8)[..., :3]


def _grey(pixels: Pixels, header: Dataset, name: str, view: voi.View | None) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    if _too_many_values(pixels):
        return _grey_numbers(pixels, header, name, view)
    values = voi.modality_values(stored_values(pixels.dtype), header)
    table, shown = _display_table(values, as_index(pixels), header, name, view)
    return apply_table(as_index(pixels), table, pixels.shape), shown


def _too_many_values(pixels: Pixels) -> bool:
    """True for floats and 32-bit integers, as radiotherapy doses and parameter maps use them: no table can hold them."""
    return pixels.dtype.kind == "f" or pixels.dtype.itemsize > 2


def stored_values(dtype: np.dtype[Any]) -> Pixels:
    """The value of every bit pattern a pixel of ``dtype`` (8 or 16 bits, signed or not) may have."""
    import numpy as np

    return np.arange(1 << 8 * dtype.itemsize).astype(f"u{dtype.itemsize}").view(dtype)


def as_index(pixels: Pixels) -> Pixels:
    """The pixels' bit patterns, as positions in a table of stored_values."""
    return pixels.view(f"u{pixels.dtype.itemsize}")


def _grey_numbers(pixels: Pixels, header: Dataset, name: str, view: voi.View | None) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    values = voi.modality_values(pixels, header)
    chosen = view or voi.header_view(header)
    if chosen is not None:
        return to_levels(voi.viewed(values, chosen), 0, 1), chosen.facts()
    grey, low, high = scale_numbers(values, name)
    return grey, _spread_facts(low, high)


def _display_table(
    values: NDArray[np.float64], index: Pixels, header: Dataset, name: str, view: voi.View | None
) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """The grey level of every stored value: as asked for, by the header's table or window, or by the percentiles."""
    import numpy as np

    chosen = view or voi.header_view(header)
    if chosen is not None:
        return to_levels(voi.viewed(values, chosen), 0, 1), chosen.facts()
    full = (1 << int(header.BitsStored)) - 1
    if full <= 255 and np.array_equal(values, np.arange(256)):  # 8-bit pictures are shown as they are, as from any other file
        return to_levels(values, 0, full), {"from": "full range", "low": 0, "high": full}
    low, high = _spread(values, index, header, name)
    return to_levels(values, low, high), _spread_facts(low, high)


def shown_range(pixels: Pixels, header: Dataset, name: str) -> voi.Window:
    """The percentiles of one slice as a window, to show its whole series in."""
    if _too_many_values(pixels):
        low, high = number_limits(voi.modality_values(pixels, header), name)
    else:
        low, high = _spread(voi.modality_values(stored_values(pixels.dtype), header), as_index(pixels), header, name)
    return voi.Window((low + high) / 2, high - low, "LINEAR_EXACT", "percentiles 0.1 and 99.9 of the middle slice")


def _spread(values: NDArray[np.float64], index: Pixels, header: Dataset, name: str) -> tuple[float, float]:
    """The percentiles of what is no padding."""
    import numpy as np

    weights = counts(index)
    stored = stored_values(np.dtype(f"{'i' if header.PixelRepresentation else 'u'}{index.dtype.itemsize}"))
    padding = headers.numbers(header, "PixelPaddingValue") + headers.numbers(header, "PixelPaddingRangeLimit")
    if padding:
        weights[: len(stored)][(stored >= min(padding)) & (stored <= max(padding))] = 0
    used = stored[np.flatnonzero(weights)]
    if not used.size or int(used.max()) - int(used.min()) < FEWEST_LEVELS:
        raise InputError(f"{name} is blank or nearly so; give a picture that shows something")
    low, high = limits(values, weights)
    refuse_flat(low, high, name, fewest=0)
    return low, high


def _spread_facts(low: float, high: float) -> dict[str, Any]:
    return {"from": "percentiles 0.1 and 99.9", "low": low, "high": high}


def square_pixels(picture: Image, header: Dataset) -> Image:
    """Enlarged along the coarser direction where pixels are not square, as a viewer does; absurd ratios are left alone."""
    from PIL import Image

    ratio = headers.numbers(header, "PixelSpacing") or headers.numbers(header, "PixelAspectRatio")
    if len(ratio) != 2 or min(ratio) <= 0 or not 1.01 < max(ratio) / min(ratio) <= 4:
        return picture
    down, across = (side / min(ratio) for side in ratio)
    width, height = round(picture.width * across), round(picture.height * down)
    return picture if max(width, height) > LARGEST_SIDE else picture.resize((width, height), Image.Resampling.BILINEAR)
