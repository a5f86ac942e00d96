"""The elements of a DICOM file that are read at all, and how.

Only the elements named here are parsed, so that names, ids and dates of birth never enter memory as values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from medgemma_app.inputs import header as image_header
from medgemma_app.inputs.header import ImageHeader

if TYPE_CHECKING:
    from pydicom import Dataset

_PIXELS = (
    "SamplesPerPixel", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit", "PixelAspectRatio", "PixelSpacing", "ImagerPixelSpacing",
    "ModalityLUTSequence", "RescaleIntercept", "RescaleSlope", "VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    "PixelData", "FloatPixelData", "DoubleFloatPixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths",
)  # fmt: skip
_PALETTES = tuple(
    f"{prefix}{colour}PaletteColorLookupTable{part}"
    for colour in ("Red", "Green", "Blue")
    for prefix, part in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
)
PLACE = (
    "StudyInstanceUID", "FrameOfReferenceUID", "SeriesInstanceUID", "SeriesNumber", "InstanceNumber",
    "ImagePositionPatient", "ImageOrientationPatient", "SliceLocation",
)  # fmt: skip
READ = (*image_header.READ, *_PIXELS, *_PALETTES)


def doubts_of(header: Dataset, name: str) -> tuple[str, ...]:
    """What the header says that deserves a warning."""
    facts, found = ImageHeader.from_dict(header), []
    if facts.presentation_intent == "FOR PROCESSING":
        found.append(f"{name} holds raw detector data (FOR PROCESSING); the picture made for viewing reads better")
    if facts.burned_in_annotation == "YES":
        found.append(f"{name} has writing burnt into the picture, which may name a person")
    return tuple(found)


def bits_of(header: Dataset) -> int:
    """Bits stored a pixel; pictures of floats say only how many are allocated (PS3.3 C.7.6.24)."""
    return int(header.get("BitsStored") or header.BitsAllocated)


def numbers(header: Dataset, keyword: str) -> list[float]:
    """The finite numbers of an element with one or several values; none when any of them is no number."""
    found = several_numbers(header, keyword)
    return [] if None in found else [number for number in found if number is not None]


def several_numbers(header: Dataset, keyword: str) -> list[float | None]:
    """The finite numbers of an element, with None in the place of what is none."""
    value = header.get(keyword)
    several = isinstance(value, Sequence) and not isinstance(value, str)
    return [_number(item) for item in (value if several else [] if value in (None, "") else [value])]


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def merged(header: Dataset, frame: int) -> Dataset:
    """The header as it holds for one frame (from 0): an enhanced multi-frame file keeps per-frame values in nested groups."""
    from pydicom import Dataset

    flat = Dataset()
    flat.update(header)
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or []
    groups = [*(header.get("SharedFunctionalGroupsSequence") or [])[:1], *per_frame[frame : frame + 1]]
    for sequence in (element for group in groups for element in group if element.VR == "SQ"):
        for item in (sequence.value or [])[:1]:
            flat.update({element.tag: element for element in item if element.keyword in READ or element.keyword in PLACE})
    return flat
