"""Stored DICOM values -> the picture a viewer shows (PS3.3 C.11): modality, window or table, polarity, padding, shutter.

All of it works on a table of every value that a pixel may have, not on the pixels: 65,536 entries instead of 20 million.
The transforms are pydicom's own; they get the header's values only after those were checked, since real headers break them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from medgemma_app.errors import InputError, OptionError
from medgemma_app.inputs.dicom import bits_of, for_frame, header_warnings, numbers, several_numbers
from medgemma_app.inputs.header import ImageHeader
from medgemma_app.inputs.levels import apply_table, is_blank, thumbnail, to_levels
from medgemma_app.inputs.pixels import Pixels, decode_frame
from medgemma_app.inputs.raster import choose_frame
from medgemma_app.inputs.transforms import (
    apply_voi,
    as_index,
    has_too_many_values,
    is_padding,
    modality_values,
    palette,
    percentiles,
    pydicom_table,
    read_table,
    square_pixels,
    stored_values,
    value_range,
    visible_part,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image
    from pydicom import Dataset

    Values = NDArray[np.float64]
    Levels = NDArray[Any]  # 0 to 255

# Red, green and blue of CT, in Hounsfield units: the windows of Google's own CT examples for MedGemma 1.5.
CT_WINDOWS = ((-1024, 1024), (-135, 215), (0, 80))
PERCENTILES = "percentiles 0.1 and 99.9"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
MOST_WINDOWS = 10  # of a header that are tried
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

    def levels(self, stored: Pixels, values: Values) -> Sequence[Levels]:
        elements = {"WindowCenter": self.center, "WindowWidth": self.width, "VOILUTFunction": self.function}
        # Of 8 unsigned bits, so that what comes back is 0 to 255.
        return [apply_voi(values, PhotometricInterpretation="MONOCHROME2", BitsStored=8, PixelRepresentation=0, **elements)]


@dataclass(frozen=True)
class Table:
    """A look-up table of the header, in place of a window."""

    entries: NDArray[np.uint16]
    first: int
    source: str = field(default="header", init=False)

    def facts(self) -> dict[str, Any]:
        return {"from": "VOI LUT"}

    def levels(self, stored: Pixels, values: Values) -> Sequence[Levels]:
        import numpy as np

        index = np.clip(np.rint(values), self.first, self.first + len(self.entries) - 1).astype(np.int32)
        top = (1 << int(self.entries.max()).bit_length()) - 1  # what the header says of the bits is wrong too often; viewers do the same
        return [apply_voi(index, VOILUTSequence=[pydicom_table(self.entries, self.first)]) * (255 / max(1, top))]


@dataclass(frozen=True)
class Range:
    """From the value that is black to the one that is white, of the modality values or (for MR, as Google does it) of the stored ones."""

    low: float
    high: float
    source: str
    of_stored: bool = False

    def facts(self) -> dict[str, Any]:
        return {"from": self.source, "low": self.low, "high": self.high}

    def levels(self, stored: Pixels, values: Values) -> Sequence[Levels]:
        return [to_levels(stored if self.of_stored else values, self.low, self.high)]


@dataclass(frozen=True)
class Hounsfield:
    """Three windows as red, green and blue."""

    source: str = "Hounsfield windows as RGB"

    def facts(self) -> dict[str, Any]:
        return {"from": self.source, "ranges": [list(pair) for pair in CT_WINDOWS]}

    def levels(self, stored: Pixels, values: Values) -> Sequence[Levels]:
        return [to_levels(values, low, high) for low, high in CT_WINDOWS]


View: TypeAlias = Window | Table | Range | Hounsfield


def decode_dicom(
    header: Dataset, name: str, *, frame: int | None = None, window: str | None = None
) -> tuple[Image, dict[str, Any], tuple[str, ...]]:
    """The picture as L or RGB, its facts, and what deserves a warning; ``frame`` counts from 1, ``window`` is "C/W". Raises InputError."""
    chosen = None if window is None else parse_window(window)
    frames = int(header.get("NumberOfFrames") or 1)
    number = choose_frame(frame, frames, name)
    flat = for_frame(header, number - 1)
    pixels, doubts = decode_frame(header, name, number - 1)
    picture, view, more = show(pixels, flat, name, chosen)
    if frames > 1 and isinstance(view, Range) and view.of_stored:
        every = ((decode_frame(header, name, index)[0], for_frame(header, index)) for index in range(frames))
        view = of_acquisition(view, every, name)
        picture = render(pixels, flat, view)
    facts = ImageHeader.from_dict(flat)
    found = {
        "format": "DICOM",
        "transfer_syntax": header.file_meta.TransferSyntaxUID.name,
        "width": int(header.Columns),
        "height": int(header.Rows),
        "mode": facts.photometric_interpretation,
        "bit_depth": bits_of(header),
        "header": facts.to_dict(),
        "frame": number,
        "frames": frames,
        "window": view and view.facts(),
        "patient": header.patient,
    }
    return picture, found, (*header_warnings(flat, name), *doubts, *more)


def parse_window(text: str) -> Window:
    """ "C/W" -> Window. Raises OptionError."""
    found = re.fullmatch(f"{_NUMBER}/{_NUMBER}", text)
    if not found or float(found[2]) <= 0:
        raise OptionError("a window is centre/width, two numbers and a width above 0, as in 40/400")
    function = "LINEAR" if float(found[2]) >= 1 else "LINEAR_EXACT"
    return Window(float(found[1]), float(found[2]), function, source="option")


def show(pixels: Pixels, header: Dataset, name: str, window: Window | None = None) -> tuple[Image, View | None, tuple[str, ...]]:
    """The picture, how it is shown (None for colour), and what deserves a warning. Raises InputError."""
    view, doubts = choose_view(pixels, header, name, window)
    picture = render(pixels, header, view)
    if view is None or isinstance(view, Range) or not is_blank(thumbnail(picture)):
        return picture, view, doubts
    shown = f"window {view.center:g}/{view.width:g}" if isinstance(view, Window) else "look-up table"
    if window:
        low, high = value_range(pixels, header, name)
        raise InputError(
            f"{name} shows nothing in the {shown}; its values lie between {low:g} and {high:g}: choose another --window, or leave it out"
        )
    useless = f"{name} shows nothing in the {'Hounsfield windows' if isinstance(view, Hounsfield) else shown + ' of its header'}"
    for other in _header_windows(header)[:MOST_WINDOWS]:
        if not is_blank(thumbnail(picture := render(pixels, header, other))):
            used = f"{useless}; it is shown in another window of its header, {other.center:g}/{other.width:g}, --window C/W chooses others"
            return picture, other, (*doubts, used)
    spread = Range(*percentiles(pixels, header, name), PERCENTILES)
    useless += "; it is shown by percentiles of its values, --window C/W chooses others"
    return render(pixels, header, spread), spread, (*doubts, useless)


def of_acquisition(view: Range, every: Iterable[tuple[Pixels, Dataset]], name: str) -> Range:
    """From the smallest to the largest stored value of all the pictures of an acquisition, given with their headers."""
    ranges = [value_range(pixels, header, name, stored=True) for pixels, header in every]
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    return replace(view, low=low, high=high, source=f"{view.source} of the series")


def choose_view(pixels: Pixels, header: Dataset, name: str, window: Window | None) -> tuple[View | None, tuple[str, ...]]:
    """How the picture is shown (None for colour), before it is known whether it shows anything so, and warnings. Raises InputError."""
    if is_colour(pixels, header):
        if window:
            raise InputError(f"{name} is a colour picture, which has no window; leave the window out")
        return None, ()
    # A localizer is a projection, and is shown like a radiograph.
    modality = None if "LOCALIZER" in (header.get("ImageType") or ()) else ImageHeader.from_dict(header).modality
    doubts = _contradictions(header, name)
    if window:
        return window, doubts
    if modality == "CT" and is_hounsfield(header):
        marked = (f"{name} is marked as inverse (MONOCHROME1); high Hounsfield values are shown bright all the same",) * is_inverse(header)
        return Hounsfield(), (*doubts, *marked)
    if modality == "CT":
        doubts += (f"{name} is CT whose header does not say that its values are Hounsfield units; it is shown in grey, by its own window",)
    if modality == "MR":
        return Range(*value_range(pixels, header, name, stored=True), "minimum and maximum", of_stored=True), doubts
    if table := read_table(header, "VOILUTSequence"):
        bits, used = numbers(header.VOILUTSequence[0], "LUTDescriptor")[2], int(table[0].max()).bit_length()
        wrong = f"{name} has a look-up table that claims {bits:g} bits and uses {used}; it is scaled to those that it uses"
        return Table(*table), (*doubts, *(wrong,) * (bits > used > 0))
    if windows := _header_windows(header):
        return windows[0], doubts
    spread = _full_range(pixels, header, name)
    useless = f"{name} has a window that cannot be applied; it is shown by the {spread.source} of its values, --window C/W chooses others"
    return spread, (*doubts, *(useless,) * (header.get("WindowWidth") is not None))


def _header_windows(header: Dataset) -> list[Window]:
    """The windows that can be applied."""
    function = str(header.get("VOILUTFunction") or "LINEAR").strip().upper()
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        return []
    slope = numbers(header, "RescaleSlope")
    if function == "LINEAR" and ((slope and slope[0] % 1) or "PixelData" not in header):
        function = "LINEAR_EXACT"  # LINEAR is made for whole numbers: it takes 1 off the width
    centers, widths = (several_numbers(header, keyword) for keyword in ("WindowCenter", "WindowWidth"))
    smallest = 1 if function == "LINEAR" else 0
    pairs = ((center, width) for center, width in zip(centers, widths, strict=False) if center is not None and width)
    return [Window(center, width, function) for center, width in pairs if width >= smallest]


def _full_range(pixels: Pixels, header: Dataset, name: str) -> Range:
    full = (1 << bits_of(header)) - 1
    rescaled = numbers(header, "RescaleSlope") not in ([], [1.0]) or numbers(header, "RescaleIntercept") not in ([], [0.0])
    if pixels.dtype.kind == "u" and full <= 255 and not rescaled and not header.get("ModalityLUTSequence"):
        return Range(0, full, "full range")  # 8-bit pictures are shown as they are, as from any other file
    return Range(*percentiles(pixels, header, name), PERCENTILES)


def is_hounsfield(header: Dataset) -> bool:
    """True where the header makes the values of a CT Hounsfield units (PS3.3 C.8.2.1 and C.11.1)."""
    if not (numbers(header, "RescaleSlope") and numbers(header, "RescaleIntercept")) or header.get("ModalityLUTSequence"):
        return False
    kind, said = str(header.get("RescaleType") or "").strip().upper(), header.get("ImageType") or "ORIGINAL"
    if kind:
        return kind == "HU"
    captured = str(header.get("SOPClassUID") or "").startswith(SECONDARY_CAPTURE)
    return (said if isinstance(said, str) else said[0]) == "ORIGINAL" and not captured


def is_colour(pixels: Pixels, header: Dataset) -> bool:
    return pixels.ndim == 3 or header.PhotometricInterpretation == "PALETTE COLOR"


def _contradictions(header: Dataset, name: str) -> tuple[str, ...]:
    polarity, shape = header.get("PhotometricInterpretation"), str(header.get("PresentationLUTShape") or "").strip().upper()
    if (polarity, shape) in (("MONOCHROME2", "INVERSE"), ("MONOCHROME1", "IDENTITY")):
        return (f"{name} says {polarity} and also presentation {shape}, which contradict each other; low values are shown bright",)
    return ()


def render(pixels: Pixels, header: Dataset, view: View | None) -> Image:
    """Stored pixels -> the picture a viewer shows: L, or RGB for colour and for Hounsfield windows."""
    import numpy as np
    from PIL import Image

    visible = visible_part(header, (pixels.shape[0], pixels.shape[1]))
    if view is None:
        shown = _colour(pixels, header)
    else:
        source = pixels if has_too_many_values(pixels) else stored_values(pixels.dtype)
        bands = [np.rint(band).astype(np.uint8) for band in view.levels(source, modality_values(source, header))]
        if is_inverse(header) and not isinstance(view, Hounsfield):
            bands = [255 - band for band in bands]
        if (padding := is_padding(source, header)) is not None:
            bands = [np.where(padding, np.uint8(0), band) for band in bands]
        if source is not pixels:
            bands = [apply_table(as_index(pixels), band, pixels.shape) for band in bands]
        shown = bands[0] if len(bands) == 1 else np.stack(bands, axis=2)
    if visible is not None:
        shown[~visible] = 0
    return square_pixels(Image.fromarray(shown), header)


def is_inverse(header: Dataset) -> bool:
    """True where low values are bright."""
    shape = str(header.get("PresentationLUTShape") or "").strip().upper()
    return bool(header.PhotometricInterpretation == "MONOCHROME1" or shape == "INVERSE")


def _colour(pixels: Pixels, header: Dataset) -> Levels:
    """RGB of 8 bits; pydicom has turned YBR into RGB already."""
    import numpy as np

    if header.PhotometricInterpretation == "PALETTE COLOR":
        table, first = palette(header)
        return table[np.clip(pixels.astype(np.int64) - first, 0, len(table) - 1)]
    return (pixels >> max(0, int(header.BitsStored) - 8)).astype(np.uint8)[..., :3]
