"""Stored DICOM values -> what a viewer shows: modality transform, then value-of-interest transform (PS3.3 C.11).

Both work on a table of every value a pixel may have, not on the pixels: 65,536 entries instead of 20 million.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from medgemma_app.errors import OptionError
from medgemma_app.inputs.elements import numbers, several_numbers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pydicom import Dataset

    Values = NDArray[np.float64]

_NUMBER = r"\s*([-+]?\d+(?:\.\d+)?)\s*"


@dataclass(frozen=True)
class Window:
    """Centre and width in modality units (HU for CT); ``function`` as DICOM names it."""

    center: float
    width: float
    function: str = "LINEAR"
    source: str = "header"

    def facts(self) -> dict[str, Any]:
        return {"from": self.source, "center": self.center, "width": self.width, "function": self.function}


@dataclass(frozen=True)
class Table:
    """A look-up table of the header, in place of a window."""

    item: Dataset

    def facts(self) -> dict[str, Any]:
        return {"from": "VOI LUT"}


View: TypeAlias = Window | Table


def parse_window(text: str) -> Window:
    """ "C/W" -> Window. Raises OptionError."""
    found = re.fullmatch(f"{_NUMBER}/{_NUMBER}", text)
    if not found or float(found[2]) < 1:
        raise OptionError("a window is centre/width, two numbers and a width of at least 1, as in 40/400")
    return Window(float(found[1]), float(found[2]), source="option")


def header_view(header: Dataset) -> View | None:
    """The first of the header's tables, else of its windows; None when it has none, or none that can be applied."""
    table = _item(header, "VOILUTSequence")
    return _header_window(header) if table is None else Table(table)


def _header_window(header: Dataset) -> Window | None:
    """The first window that can be applied."""
    function = str(header.get("VOILUTFunction") or "LINEAR").strip().upper()
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        return None
    centers, widths = (several_numbers(header, keyword) for keyword in ("WindowCenter", "WindowWidth"))
    smallest = 1 if function == "LINEAR" else 0
    pairs = ((center, width) for center, width in zip(centers, widths, strict=False) if center is not None and width)
    return next((Window(center, width, function) for center, width in pairs if width >= smallest), None)


def modality_values(stored: NDArray[Any], header: Dataset) -> Values:
    """Stored values -> modality values (HU for CT) by the header's table or its slope and intercept."""
    import numpy as np

    table = _item(header, "ModalityLUTSequence")
    if table is not None:
        return look_up(stored, table)[0]
    slope, intercept = numbers(header, "RescaleSlope"), numbers(header, "RescaleIntercept")
    values: Values = stored.astype(np.float64)
    return values * slope[0] + intercept[0] if slope and intercept and slope[0] else values


def _item(header: Dataset, keyword: str) -> Dataset | None:
    items = header.get(keyword) or []
    return items[0] if items and items[0].get("LUTDescriptor") and items[0].get("LUTData") is not None else None


def look_up(values: NDArray[Any], item: Dataset) -> tuple[Values, float]:
    """Values through a DICOM look-up table, and the largest value its entries may have (PS3.3 C.11.1.1)."""
    import numpy as np

    entries, first, bits = (int(number) for number in item.LUTDescriptor[:3])
    if first >= 1 << 15 and values.min() < 0:  # of signed values, and stored as an unsigned number
        first -= 1 << 16
    table = _entries(item, entries or 1 << 16)
    index = np.clip(np.rint(values) - first, 0, len(table) - 1).astype(np.int64)
    return table[index], float((1 << max(bits, int(table.max()).bit_length())) - 1)


def _entries(item: Dataset, count: int) -> Values:
    """The entries as numbers: they come as a list, as 16-bit words, or as bytes of 8 bits each."""
    import numpy as np

    data = item.LUTData
    if isinstance(data, bytes):
        order = "<" if item.is_little_endian is not False else ">"
        data = np.frombuffer(data[: len(data) // 2 * 2], f"{order}u2") if len(data) >= 2 * count else np.frombuffer(data, np.uint8)
    table: Values = np.atleast_1d(np.asarray(data, dtype=np.float64))[:count]
    if not table.size:
        raise ValueError("empty look-up table")
    return table


def viewed(values: Values, view: View) -> Values:
    """Modality values -> 0 to 1 as a viewer shows them."""
    if isinstance(view, Window):
        return _windowed(values, view)
    entries, top = look_up(values, view.item)
    return entries / top


def _windowed(values: Values, window: Window) -> Values:
    """As PS3.3 C.11.2.1.2 and C.11.2.1.3 define it."""
    import numpy as np

    if window.function == "SIGMOID":
        shown: Values = 1 / (1 + np.exp(np.clip(-4 * (values - window.center) / window.width, -700, 700)))
        return shown
    linear = window.function == "LINEAR"
    center, width = (window.center - 0.5, window.width - 1) if linear else (window.center, window.width)
    if width == 0:
        return (values > center).astype(np.float64)
    return np.clip((values - center) / width + 0.5, 0, 1)
