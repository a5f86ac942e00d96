"""What a DICOM header says of its pixels -> transforms of values, and the parts that are not to be seen.

Real headers break pydicom's functions, so these get tables and numbers that were checked and put right first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medgemma_app.errors import InputError
from medgemma_app.inputs.dicom import numbers
from medgemma_app.inputs.header import ImageHeader
from medgemma_app.inputs.levels import FEWEST_LEVELS, LARGEST_SIDE, counts, limits, number_limits, refuse_flat
from medgemma_app.inputs.pixels import Pixels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image
    from pydicom import Dataset

    Values = NDArray[Any]
    Entries = tuple[NDArray[np.uint16], int]  # of a look-up table, and the value that the first one is for

NO_MODALITY_TABLE = ("XA", "RF")  # theirs is for measuring, not for viewing (PS3.3 C.8.7.1.1.2)
MOST_CORNERS = 2000


def has_too_many_values(pixels: Pixels) -> bool:
    """True for floats and 32-bit integers, as parameter maps use them: no table can hold them."""
    return pixels.dtype.kind == "f" or pixels.dtype.itemsize > 2


def stored_values(dtype: np.dtype[Any]) -> Pixels:
    """The value of every bit pattern a pixel of ``dtype`` (8 or 16 bits, signed or not) may have."""
    import numpy as np

    return np.arange(1 << 8 * dtype.itemsize).astype(f"u{dtype.itemsize}").view(dtype)


def as_index(pixels: Pixels) -> Pixels:
    """The pixels' bit patterns, as positions in a table of stored_values."""
    return pixels.view(f"u{pixels.dtype.itemsize}")


def modality_values(stored: Pixels, header: Dataset) -> Values:
    """Stored values -> modality values (HU for CT) by the header's table, or its slope and intercept."""
    import numpy as np
    from pydicom import Dataset
    from pydicom.pixels import apply_modality_lut

    use, entries = Dataset(), None
    if ImageHeader.from_dict(header).modality not in NO_MODALITY_TABLE and stored.dtype.kind != "f":
        entries = read_table(header, "ModalityLUTSequence")
    slope, intercept = numbers(header, "RescaleSlope"), numbers(header, "RescaleIntercept")
    if entries:
        table, first = entries
        use.ModalityLUTSequence = [pydicom_table(table, first)]
        stored = np.clip(stored.astype(np.int64), first, first + len(table) - 1)
    elif slope and intercept and slope[0]:
        use.RescaleSlope, use.RescaleIntercept = slope[0], intercept[0]
    return np.asarray(apply_modality_lut(stored, use), np.float64)


def read_table(header: Dataset, keyword: str) -> Entries | None:
    """The entries of a header's look-up table, and the value that the first one is for; None where it has none."""
    import numpy as np

    item = next(iter(header.get(keyword) or []), None)
    if item is None or not item.get("LUTDescriptor") or item.get("LUTData") is None:
        return None
    count, first = (int(number) for number in item.LUTDescriptor[:2])
    count = count or 1 << 16
    if first >= 1 << 15 and _has_negative_values(header):  # stored as an unsigned number
        first -= 1 << 16
    data = item.LUTData
    if isinstance(data, bytes):  # 16-bit words, or bytes of 8 bits each
        order = "<" if header.original_encoding[1] is not False else ">"
        data = np.frombuffer(data[: len(data) // 2 * 2], f"{order}u2") if len(data) >= 2 * count else np.frombuffer(data, np.uint8)
    entries = np.atleast_1d(np.asarray(data, np.int64))[:count].clip(0, 65535)
    if not entries.size:
        raise ValueError("empty look-up table")
    return entries.astype(np.uint16), first


def _has_negative_values(header: Dataset) -> bool:
    lowest = -(1 << int(header.get("BitsStored") or 16) - 1) if header.get("PixelRepresentation") else 0
    slope, intercept = numbers(header, "RescaleSlope") or [1.0], numbers(header, "RescaleIntercept") or [0.0]
    return lowest * slope[0] + intercept[0] < 0


def pydicom_table(entries: NDArray[np.uint16], first: int) -> Dataset:
    """A look-up table as pydicom can apply it."""
    from pydicom import DataElement, Dataset

    item = Dataset()
    item.add(DataElement(0x00283002, "SS", [len(entries) % (1 << 16), first, 16], already_converted=True))
    item.add(DataElement(0x00283006, "US", entries, already_converted=True))
    return item


def apply_voi(values: Values, **elements: Any) -> Values:
    """pydicom's window or table."""
    import numpy as np
    from pydicom import Dataset, pixels

    header = Dataset()
    for keyword, value in elements.items():
        setattr(header, keyword, value)
    with np.errstate(over="ignore"):  # in the exponential of a sigmoid
        return np.asarray((pixels.apply_voi if "VOILUTSequence" in header else pixels.apply_windowing)(values, header), np.float64)


def palette(header: Dataset) -> tuple[NDArray[np.uint8], int]:
    """The colours [entries, 3] of a palette, and the value that the first one is for."""
    import numpy as np

    order = "<" if header.original_encoding[1] is not False else ">"
    count, first, bits = (int(number) for number in header.RedPaletteColorLookupTableDescriptor[:3])
    count, columns = count or 1 << 16, []
    for colour in ("Red", "Green", "Blue"):
        data = header.get(f"{colour}PaletteColorLookupTableData")
        if data:
            columns.append(np.frombuffer(data, f"{order}u2" if len(data) >= 2 * count else np.uint8)[:count])
        else:
            segments = header[f"Segmented{colour}PaletteColorLookupTableData"].value
            columns.append(_without_segments(np.frombuffer(segments, f"{order}u{max(8, bits) // 8}").tolist(), count))
    table = np.stack([np.resize(column, count) for column in columns], axis=1).astype(np.uint16)
    return (table if table.max() <= 255 else table >> 8).astype(np.uint8), first


def _without_segments(words: list[int], count: int) -> Values:
    """The entries of a segmented palette (PS3.3 C.7.9.2): pieces that are given, pieces of a straight line, and pieces that come again."""
    import numpy as np

    entries: list[int] = []

    def add_segment(place: int) -> int:
        kind, length = words[place : place + 2]
        if kind == 0:
            entries.extend(words[place + 2 : place + 2 + length])
            return place + 2 + length
        if kind != 1:
            raise ValueError("an unknown segment")
        entries.extend(np.rint(np.linspace(entries[-1] if entries else 0, words[place + 2], length + 1)[1:]).astype(int).tolist())
        return place + 3

    place = 0
    while place + 1 < len(words) and len(entries) < count:
        if words[place] != 2:
            place = add_segment(place)
            continue
        again = (words[place + 2] + (words[place + 3] << 16)) // 2
        for _ in range(words[place + 1] if len(entries) < count else 0):
            again = add_segment(again)
            if len(entries) >= count:
                break
        place += 4
    return np.array(entries[:count])


def is_padding(source: Pixels, header: Dataset) -> NDArray[np.bool_] | None:
    """Which of the values are padding (PS3.3 C.7.5.1.1.2); None when none of them is. Signed ones may be written unsigned."""
    import numpy as np

    kind = {"f4": "Float", "f8": "DoubleFloat"}.get(source.dtype.str[1:], "")
    said = numbers(header, f"{kind}PixelPaddingValue") + numbers(header, "PixelPaddingRangeLimit")
    if not said:
        return None
    if source.dtype.kind != "f":
        bits = 8 * source.dtype.itemsize
        wrapped = np.array([int(number) % (1 << bits) for number in said], np.uint64)
        said = wrapped.astype(f"u{source.dtype.itemsize}").view(source.dtype).tolist()
    return np.asarray((source >= min(said)) & (source <= max(said)))


def visible_part(header: Dataset, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
    """The pixels that no display shutter hides (PS3.3 C.7.6.11); None where there is none, or one that would hide everything."""
    import numpy as np
    from PIL import Image, ImageDraw

    shapes = header.get("ShutterShape") or ()
    visible, drawn = np.ones(shape, bool), False
    rows, columns = np.ogrid[1 : shape[0] + 1, 1 : shape[1] + 1]
    for kind in (shapes,) if isinstance(shapes, str) else shapes:
        edges = [numbers(header, f"Shutter{side}Edge") for side in ("LeftVertical", "RightVertical", "UpperHorizontal", "LowerHorizontal")]
        center, radius = numbers(header, "CenterOfCircularShutter"), numbers(header, "RadiusOfCircularShutter")
        corners = numbers(header, "VerticesOfThePolygonalShutter")
        if kind == "RECTANGULAR" and all(edges):
            left, right, top, bottom = (edge[0] for edge in edges)
            part = (columns >= left) & (columns <= right) & (rows >= top) & (rows <= bottom)
        elif kind == "CIRCULAR" and len(center) == 2 and radius:
            part = (rows - center[0]) ** 2 + (columns - center[1]) ** 2 <= radius[0] ** 2
        elif kind == "POLYGONAL" and 6 <= len(corners) <= MOST_CORNERS and len(corners) % 2 == 0:
            mask = Image.new("1", (shape[1], shape[0]))
            ImageDraw.Draw(mask).polygon([(across - 1, down - 1) for down, across in zip(corners[::2], corners[1::2], strict=True)], fill=1)
            part = np.asarray(mask)
        else:
            continue
        visible, drawn = visible & part, True
    return visible if drawn and visible.any() and not visible.all() else None


def used_values(pixels: Pixels, header: Dataset) -> Pixels:
    """The stored values of what is to be seen, in one dimension."""
    import numpy as np

    visible, padding = visible_part(header, (pixels.shape[0], pixels.shape[1])), is_padding(pixels, header)
    keep = np.ones(pixels.shape, bool) if visible is None else visible
    return np.asarray(pixels[keep if padding is None else keep & ~padding])


def weights_of(pixels: Pixels, header: Dataset) -> NDArray[np.int64]:
    """How many pixels that are to be seen have each of the ``stored_values``; for pixels of 8 or 16 bits."""
    visible, index = visible_part(header, (pixels.shape[0], pixels.shape[1])), as_index(pixels)
    stored = stored_values(pixels.dtype)
    weights = counts(index if visible is None else index[visible][None])[: len(stored)]
    if (padding := is_padding(stored, header)) is not None:
        weights[padding] = 0
    return weights


def value_range(pixels: Pixels, header: Dataset, name: str, *, stored: bool = False) -> tuple[float, float]:
    """The smallest and the largest value of what is not padding, and not behind a shutter. Raises InputError when there is none."""
    import numpy as np

    if has_too_many_values(pixels):
        used = used_values(pixels, header)
        values = used if stored else modality_values(used, header)
        values = values[np.isfinite(values)]
    else:
        source = stored_values(pixels.dtype)
        values = (source if stored else modality_values(source, header))[np.flatnonzero(weights_of(pixels, header))]
    if not values.size:
        raise InputError(f"{name} holds no values that could be shown; export it again")
    return float(values.min()), float(values.max())


def percentiles(pixels: Pixels, header: Dataset, name: str) -> tuple[float, float]:
    """The value that 0.1% of the pixels lie below, and the one that 0.1% lie above. Raises InputError for next to no difference."""
    import numpy as np

    if has_too_many_values(pixels):
        return number_limits(modality_values(used_values(pixels, header), header), name)
    weights, stored = weights_of(pixels, header), stored_values(pixels.dtype)
    used = stored[np.flatnonzero(weights)]
    if not used.size or int(used.max()) - int(used.min()) < FEWEST_LEVELS:
        raise InputError(f"{name} is blank or nearly so; give a picture that shows something")
    low, high = limits(modality_values(stored, header), weights)
    refuse_flat(low, high, name, fewest=0)
    return low, high


def square_pixels(picture: Image, header: Dataset) -> Image:
    """Enlarged along the coarser direction where pixels are not square, as a viewer does; absurd ratios are left alone."""
    from PIL import Image

    ratio = numbers(header, "PixelSpacing") or numbers(header, "PixelAspectRatio")
    if len(ratio) != 2 or min(ratio) <= 0 or not 1.01 < max(ratio) / min(ratio) <= 4:
        return picture
    down, across = (side / min(ratio) for side in ratio)
    width, height = round(picture.width * across), round(picture.height * down)
    return picture if max(width, height) > LARGEST_SIDE else picture.resize((width, height), Image.Resampling.BILINEAR)
