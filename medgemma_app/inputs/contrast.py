"""How the values of a DICOM file become grey: by a window, a table or a value range (PS3.3 C.11); or in colour, for CT.

Everything here works on a table of the possible pixel values, not on the pixels: 65,536 entries instead of 20 million.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from medgemma_app.errors import InputError
from medgemma_app.inputs.dicom import class_of, is_inverse, numbers, several_numbers
from medgemma_app.inputs.header import ImageHeader
from medgemma_app.inputs.levels import CT_IN_COLOUR, FEWEST_LEVELS, PERCENTILES, apply_table, counts, limits, refuse_flat, to_levels
from medgemma_app.inputs.pixels import Pixels, StoredFrame, bits_of, is_padding

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom import Dataset

    Values = NDArray[Any]

# Red, green and blue of CT, in Hounsfield units: the windows of Google's own CT examples for MedGemma 1.5.
CT_WINDOWS = ((-1024, 1024), (-135, 215), (0, 80))
NEARLY_ALL = 0.99  # of the pixels, at one end of a window: a burnt-in marker is what is left


@dataclass(frozen=True)
class VoiWindow:
    """Centre and width in modality units (HU for CT); ``function`` as DICOM names it."""

    center: float
    width: float
    function: str = "LINEAR"
    source: str = "header"

    def __str__(self) -> str:
        return f"window {self.center:g}/{self.width:g}"

    def facts(self) -> dict[str, Any]:
        return {"from": self.source, "center": self.center, "width": self.width, "function": self.function}

    def levels(self, stored: Values, values: Values) -> Sequence[Values]:
        import numpy as np
        from pydicom import Dataset
        from pydicom.pixels import apply_windowing

        header = Dataset()
        # Declared as 8 unsigned bits, so that pydicom returns 0 to 255.
        header.PhotometricInterpretation, header.BitsStored, header.PixelRepresentation = "MONOCHROME2", 8, 0
        header.WindowCenter, header.WindowWidth, header.VOILUTFunction = self.center, self.width, self.function
        with np.errstate(over="ignore"):  # in the exponential of a sigmoid
            return [np.asarray(apply_windowing(values, header), np.float64)]


@dataclass(frozen=True)
class LookUpTable:
    """A look-up table from the header: ``entries`` for the values from ``first`` on, and their number of bits as the header states it."""

    entries: Values
    first: int
    bits: int
    source: str = field(default="header", init=False)

    def __str__(self) -> str:
        return "look-up table"

    def apply(self, values: Values) -> Values:
        import numpy as np

        index = np.clip(np.rint(values), self.first, self.first + len(self.entries) - 1) - self.first
        return self.entries[index.astype(np.int64)]

    def used_bits(self) -> int:
        return int(self.entries.max()).bit_length()

    def facts(self) -> dict[str, Any]:
        return {"from": "VOI LUT"}

    def levels(self, stored: Values, values: Values) -> Sequence[Values]:
        # The header's number of bits is wrong too often. Viewers do the same.
        return [self.apply(values) * (255 / max(1, (1 << self.used_bits()) - 1))]


@dataclass(frozen=True)
class ValueRange:
    """The values shown as black and as white: modality values or, for MR, stored values, as Google's code uses them."""

    low: float
    high: float
    source: str
    of_stored: bool = False

    def facts(self) -> dict[str, Any]:
        return {"from": self.source, "low": self.low, "high": self.high}

    def levels(self, stored: Values, values: Values) -> Sequence[Values]:
        return [to_levels(stored if self.of_stored else values, self.low, self.high)]


@dataclass(frozen=True)
class HounsfieldWindows:
    """Three windows as red, green and blue."""

    source: str = CT_IN_COLOUR

    def __str__(self) -> str:
        return "Hounsfield windows"

    def facts(self) -> dict[str, Any]:
        return {"from": self.source, "ranges": [list(pair) for pair in CT_WINDOWS]}

    def levels(self, stored: Values, values: Values) -> Sequence[Values]:
        return [to_levels(values, low, high) for low, high in CT_WINDOWS]


Contrast: TypeAlias = VoiWindow | LookUpTable | ValueRange | HounsfieldWindows


def choose_contrast(frame: StoredFrame, window: VoiWindow | None) -> tuple[Contrast | None, tuple[str, ...]]:
    """The contrast that ``window`` or the header asks for (None for colour), and warnings. Raises InputError.

    The contrast may show nothing of the picture, which ``show`` checks.
    """
    header, name = frame.header, frame.name
    if frame.is_colour():
        if window:
            raise InputError(f"{name} is a colour picture, which has no window; leave the window out")
        return None, ()
    # A localizer is a projection, and is shown like a radiograph.
    modality = None if "LOCALIZER" in (header.get("ImageType") or ()) else ImageHeader.from_dict(header).modality
    if window:
        return window, ()
    if modality == "CT" and _is_hounsfield(header):
        marked = f"{name} is marked as inverse (MONOCHROME1); high Hounsfield values are shown bright nevertheless"
        return HounsfieldWindows(), (marked,) * is_inverse(header)
    unscaled = f"{name} is CT, but its header does not say that its values are Hounsfield units; it is shown in grey, with its own window"
    warnings = (unscaled,) * (modality == "CT")
    if modality == "MR":
        return ValueRange(*value_range(frame, of_stored=True), "minimum and maximum", of_stored=True), warnings
    if table := _read_table(header, "VOILUTSequence"):
        used = table.used_bits()
        wrong = f"{name} has a look-up table that claims {table.bits} bits but uses {used}; it is scaled to the bits in use"
        return table, (*warnings, *(wrong,) * (table.bits > used > 0))
    if header_window := _header_window(header):
        return header_window, warnings
    spread = _full_range(frame)
    useless = (
        f"{name} has a window that cannot be applied; it is shown by the {spread.source} of its values; --window C/W sets another window"
    )
    return spread, (*warnings, *(useless,) * (header.get("WindowWidth") is not None))


def _header_window(header: Dataset) -> VoiWindow | None:
    """The first window of the header that can be applied."""
    function = str(header.get("VOILUTFunction") or "LINEAR").strip().upper()
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        return None
    slope = numbers(header, "RescaleSlope")
    if function == "LINEAR" and ((slope and slope[0] % 1) or "PixelData" not in header):
        function = "LINEAR_EXACT"  # LINEAR is meant for whole numbers: it takes 1 off the width
    smallest = 1 if function == "LINEAR" else 0
    centers, widths = (several_numbers(header, keyword) for keyword in ("WindowCenter", "WindowWidth"))
    for center, width in zip(centers, widths, strict=False):
        if center is not None and width and width >= smallest:
            return VoiWindow(center, width, function)
    return None


def _read_table(header: Dataset, keyword: str) -> LookUpTable | None:
    """The look-up table of a header; None where it has none."""
    import numpy as np

    item = next(iter(header.get(keyword) or []), None)
    if item is None or not item.get("LUTDescriptor") or item.get("LUTData") is None:
        return None
    count, first, bits = (int(number) for number in item.LUTDescriptor)
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
    return LookUpTable(entries, first, bits)


def _has_negative_values(header: Dataset) -> bool:
    lowest = -(1 << int(header.get("BitsStored") or 16) - 1) if header.get("PixelRepresentation") else 0
    slope, intercept = numbers(header, "RescaleSlope") or [1.0], numbers(header, "RescaleIntercept") or [0.0]
    return lowest * slope[0] + intercept[0] < 0


def _full_range(frame: StoredFrame) -> ValueRange:
    header, full = frame.header, (1 << bits_of(frame.header)) - 1
    rescaled = numbers(header, "RescaleSlope") not in ([], [1.0]) or numbers(header, "RescaleIntercept") not in ([], [0.0])
    if frame.pixels.dtype.kind == "u" and full <= 255 and not rescaled and not header.get("ModalityLUTSequence"):
        return ValueRange(0, full, "full range")  # 8-bit pictures are shown as they are, as from any other file
    return ValueRange(*percentiles(frame), PERCENTILES)


def meaning_of(header: Dataset, contrast: Contrast | None) -> tuple[bool, ...]:
    """The facts of a header that decide what its stored values mean. They must be equal in all slices that share a contrast."""
    rescaled = bool(header.get("ModalityLUTSequence") or numbers(header, "RescaleSlope"))
    return rescaled, is_inverse(header), isinstance(contrast, HounsfieldWindows) and _is_hounsfield(header)


def _is_hounsfield(header: Dataset) -> bool:
    """True where the header makes the values of a CT Hounsfield units (PS3.3 C.8.2.1 and C.11.1)."""
    if not (numbers(header, "RescaleSlope") and numbers(header, "RescaleIntercept")) or header.get("ModalityLUTSequence"):
        return False
    kind, said = str(header.get("RescaleType") or "").strip().upper(), header.get("ImageType") or "ORIGINAL"
    if kind:
        return kind == "HU"
    return (said if isinstance(said, str) else said[0]) == "ORIGINAL" and "Secondary Capture" not in class_of(header).name


def _tabled(pixels: Pixels) -> tuple[Values, Values]:
    """The possible values of a pixel (for more than 16 bits or floats, the values that occur), and each pixel's index among them."""
    import numpy as np

    if pixels.dtype.kind != "f" and pixels.dtype.itemsize <= 2:
        unsigned = f"u{pixels.dtype.itemsize}"
        return np.arange(1 << 8 * pixels.dtype.itemsize).astype(unsigned).view(pixels.dtype), pixels.view(unsigned)
    values, places = np.unique(pixels, return_inverse=True)
    return values, places.reshape(pixels.shape)


def _modality_values(stored: Values, header: Dataset) -> Values:
    """Converts stored values to modality values (HU for CT) by the header's table, or its slope and intercept."""
    import numpy as np

    if table := _read_table(header, "ModalityLUTSequence"):
        return table.apply(stored).astype(np.float64)
    slope, intercept = numbers(header, "RescaleSlope"), numbers(header, "RescaleIntercept")
    rescaled = stored.astype(np.float64)
    return rescaled * slope[0] + intercept[0] if slope and intercept and slope[0] else rescaled


def _weighted(frame: StoredFrame) -> tuple[Values, Values]:
    """The possible values of a pixel, and how many visible pixels have each: finite ones, neither padding nor behind a shutter.

    Raises InputError when there is none.
    """
    import numpy as np

    (stored, places), visible = _tabled(frame.pixels), frame.visible()
    weights = counts(places if visible is None else places[visible][None], size=len(stored))
    weights[is_padding(stored, frame.header) | ~np.isfinite(stored)] = 0
    if not weights.any():
        raise InputError(f"{frame.name} holds no values that could be shown; export it again")
    return stored, weights


def value_range(frame: StoredFrame, *, of_stored: bool = False) -> tuple[float, float]:
    """The smallest and the largest value among the visible pixels. Raises InputError when there are none."""
    stored, weights = _weighted(frame)
    values = (stored if of_stored else _modality_values(stored, frame.header))[weights > 0]
    return float(values.min()), float(values.max())


def shows_almost_nothing(frame: StoredFrame, contrast: Contrast) -> bool:
    """True for a window or table of the header that leaves nearly all of the visible pixels black, or nearly all white."""
    import numpy as np

    if not isinstance(contrast, VoiWindow | LookUpTable) or contrast.source != "header":
        return False
    stored, weights = _weighted(frame)
    [band] = contrast.levels(stored, _modality_values(stored, frame.header))
    shares = (weights[np.rint(band) == end].sum() / weights.sum() for end in (0, 255))
    return bool(max(shares) >= NEARLY_ALL)


def percentiles(frame: StoredFrame) -> tuple[float, float]:
    """The values below and above which 0.1% of the pixels lie. Raises InputError when they hardly differ."""
    stored, weights = _weighted(frame)
    used = stored[weights > 0]
    low, high = limits(_modality_values(stored, frame.header), weights)
    if used.dtype.kind != "f" and int(used.max()) - int(used.min()) < FEWEST_LEVELS:
        low = high
    refuse_flat(low, high, frame.name, fewest=0)
    return low, high


def grey_levels(frame: StoredFrame, contrast: Contrast) -> Values:
    """Levels of 8 bits, [rows, columns], or [rows, columns, 3] in Hounsfield windows; padding is black."""
    import numpy as np

    header, (stored, places) = frame.header, _tabled(frame.pixels)
    bands = [np.rint(band).astype(np.uint8) for band in contrast.levels(stored, _modality_values(stored, header))]
    if is_inverse(header) and not isinstance(contrast, HounsfieldWindows):
        bands = [255 - band for band in bands]
    padding = is_padding(stored, header)
    shown = [apply_table(places, np.where(padding, np.uint8(0), band), frame.pixels.shape) for band in bands]
    return shown[0] if len(shown) == 1 else np.stack(shown, axis=2)
