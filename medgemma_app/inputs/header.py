"""What a DICOM header may tell: the elements that are read at all, and the facts that leave this package.

Only the elements named here are parsed, so that names, ids and dates of birth never enter memory as values. A fact is
kept only when it is a term that DICOM or practice has for it, or a number: free text in a coded field could name a patient.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from medgemma_app.inputs.terms import BODY_PARTS, MODALITIES, SIDES, VIEWS

if TYPE_CHECKING:
    from pydicom import Dataset


def _one_of(words: str) -> re.Pattern[str]:
    return re.compile("|".join(words.split()))


def _made_of(words: str) -> re.Pattern[str]:
    one = "|".join(words.split())
    return re.compile(rf"(?=.{{1,32}}\Z)(?:{one})(?:[ _/-]+(?:{one})){{0,5}}")


# keyword -> the form of a value that is safe to show (DICOM PS3.5, value representations CS, AS, DA)
FACTS = {
    "Modality": _one_of(MODALITIES),
    "BodyPartExamined": _made_of(f"{BODY_PARTS} {VIEWS}"),
    "ViewPosition": _made_of(VIEWS),
    "Laterality": _one_of(" ".join(SIDES)),
    "ImageLaterality": _one_of(" ".join(SIDES)),
    "PatientSex": _one_of("M F O"),
    "PatientAge": re.compile(r"\d{1,3}[DWMY]"),
    "StudyDate": re.compile(r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"),
    "PhotometricInterpretation": re.compile(r"MONOCHROME[12]|PALETTE COLOR|RGB|YBR_(?:FULL|FULL_422|PARTIAL_42[02]|ICT|RCT)"),
    "BurnedInAnnotation": _one_of("YES NO"),
    "PresentationIntentType": re.compile(r"FOR PRESENTATION|FOR PROCESSING"),
}
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
READ = (*FACTS, *_PIXELS, *_PALETTES)


def facts_of(header: Dataset) -> dict[str, Any]:
    """The safe facts of a header, None where it is silent or says something of another form; lengths in mm."""
    facts: dict[str, Any] = {keyword: _coded(header, keyword, form) for keyword, form in FACTS.items()}
    facts |= {keyword: SIDES.get(facts[keyword]) for keyword in ("Laterality", "ImageLaterality")}
    spacing = numbers(header, "PixelSpacing") or numbers(header, "ImagerPixelSpacing")
    return {**facts, "PixelSpacing": spacing if len(spacing) == 2 and min(spacing) > 0 else None}


def doubts_of(header: Dataset, name: str) -> tuple[str, ...]:
    """What the header says that deserves a warning."""
    facts, found = facts_of(header), []
    if facts["PresentationIntentType"] == "FOR PROCESSING":
        found.append(f"{name} holds raw detector data (FOR PROCESSING); the picture made for viewing reads better")
    if facts["BurnedInAnnotation"] == "YES":
        found.append(f"{name} has writing burnt into the picture, which may name a person")
    return tuple(found)


def _coded(header: Dataset, keyword: str, form: re.Pattern[str]) -> str | None:
    value = str(header.get(keyword) or "").strip().upper()
    return value if form.fullmatch(value) else None


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
