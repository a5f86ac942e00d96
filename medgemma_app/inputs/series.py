"""A folder of DICOM slices -> pictures in the order of their position, as MedGemma was shown CT and MR volumes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgemma_app.errors import InputError, OptionError
from medgemma_app.inputs import header as headers
from medgemma_app.inputs import voi
from medgemma_app.inputs.dicom import NoPicture, decode_pixels, guarded, read_header
from medgemma_app.inputs.files import open_input, refuse_url, shown_name
from medgemma_app.inputs.gates import is_blank, thumbnail
from medgemma_app.inputs.images import as_rgb, looks_like_dicom, sha256_of, squared
from medgemma_app.inputs.render import as_index, render, shown_range, square_pixels, stored_values
from medgemma_app.inputs.scaling import apply_table, to_levels

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_SLICES = 85
MOST_FILES = 20_000
# Red, green and blue of a CT slice, in Hounsfield units: the windows of Google's own CT examples for MedGemma 1.5.
CT_WINDOWS = ((-1024, 1024), (-135, 215), (0, 80))
CT_FACTS = {"from": "Hounsfield windows as RGB", "ranges": [list(pair) for pair in CT_WINDOWS]}
ONE_SLICE = "a folder of DICOM slices"
_HEADER = ("Modality", "Rows", "Columns", "NumberOfFrames", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")


@dataclass(frozen=True)
class Series:
    """The slices as the model sees them (RGB), JSON-ready facts about where they came from, and what deserves a warning."""

    images: tuple[Image, ...]
    facts: Mapping[str, Any]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Slice:
    """One frame of one file: ``position`` in mm along the stack's normal, or its number where there is no position."""

    path: Path
    frame: int
    series: str
    number: int | None
    kind: tuple[Any, ...]
    position: float
    instance: float


def read_series(
    folder: str | Path, *, slices: int = MOST_SLICES, pad: bool = True, window: str | None = None, series: int | None = None
) -> Series:
    """At most ``slices`` evenly spaced pictures of the series in ``folder``, CT as three Hounsfield windows in RGB.

    ``window`` is "C/W" for other modalities; ``series`` is the DICOM series number where the folder holds several.
    Raises InputError.
    """
    if slices < 1:
        raise OptionError("the number of slices must be at least 1")
    chosen = None if window is None else voi.parse_window(window)
    found, ignored = _find(_folder(folder))
    stack, doubts = _stack(found, shown_name(folder), series)
    used = _evenly(stack, slices)
    shown, facts = _middle(used[len(used) // 2], chosen)
    images, padding = _pictures(used, shown, pad)
    facts = {**facts, **_origin(stack, used), "window": shown.facts() if shown else CT_FACTS, "padding": padding}
    return Series(images, {"name": shown_name(folder), **facts, "files_ignored": ignored}, doubts)


def _folder(source: str | Path) -> Path:
    refuse_url(source)
    name = shown_name(source)
    try:
        if not Path(source).is_dir():
            raise InputError(f"{name} is not a folder; give {ONE_SLICE}")
    except (OSError, ValueError) as error:
        raise InputError(f"{name} cannot be opened; give {ONE_SLICE}") from error
    return Path(source)


def _find(folder: Path) -> tuple[list[Slice], int]:
    """Every slice directly in the folder, and how many files hold none."""
    name = shown_name(folder)
    try:
        paths = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror}") from error
    if len(paths) > MOST_FILES:
        raise InputError(f"{name} holds more than {MOST_FILES} files; give a folder with one series")
    slices = [_slices_of(path) for path in paths]
    found = [one for some in slices for one in some]
    if not found:
        raise InputError(f"{name} holds no DICOM picture; give {ONE_SLICE}")
    return found, sum(not some for some in slices)


def _slices_of(path: Path) -> list[Slice]:
    """The slices in one file, none when it is no DICOM picture. A damaged one is an error: a gap must not go unseen."""
    name = shown_name(path)
    with open_input(path, what=ONE_SLICE) as file:
        if not looks_like_dicom(file):
            return []
        try:
            with guarded(name):
                header = read_header(file, name, tags=(*_HEADER, *headers.PLACE), pixels=False)
                frames = min(int(header.get("NumberOfFrames") or 1), MOST_FILES)  # the number may be a lie
                return [_place(path, header, frame) for frame in range(frames)]
        except NoPicture:
            return []


def _place(path: Path, header: Any, frame: int) -> Slice:
    flat = headers.merged(header, frame)
    where, turned = headers.numbers(flat, "ImagePositionPatient"), headers.numbers(flat, "ImageOrientationPatient")
    instance = (headers.numbers(flat, "InstanceNumber") or [0.0])[0] + frame / 1e6
    placed = len(where) == 3 and len(turned) == 6
    along = _along(where, turned) if placed else (headers.numbers(flat, "SliceLocation") or [instance])[0]
    kind = (int(header.Rows), int(header.Columns), *(round(cosine, 1) for cosine in turned))
    number = headers.numbers(header, "SeriesNumber")
    return Slice(path, frame, str(header.get("SeriesInstanceUID")), int(number[0]) if number else None, kind, along, instance)


def _along(where: Sequence[float], turned: Sequence[float]) -> float:
    """The slice's distance along its normal: the cross product of its row and column directions (PS3.3 C.7.6.2.1.1)."""
    (a, b, c), (d, e, f) = turned[:3], turned[3:]
    normal = (b * f - c * e, c * d - a * f, a * e - b * d)
    return sum(place * part for place, part in zip(where, normal, strict=True))


def _stack(found: list[Slice], name: str, series: int | None) -> tuple[list[Slice], tuple[str, ...]]:
    """The slices of one series, of the size and orientation most of them have, sorted by position."""
    wanted = [one for one in found if series is None or one.number == series]
    ids = Counter(one.series for one in wanted)
    if len(ids) != 1:
        numbers = sorted({str(one.number) for one in found})
        raise InputError(f"{name} holds {len({one.series for one in found})} series; choose one by its number: {', '.join(numbers)}")
    kind = Counter(one.kind for one in wanted).most_common(1)[0][0]
    stack = sorted((one for one in wanted if one.kind == kind), key=lambda one: (one.position, one.instance))
    doubts = []
    if len(stack) < len(wanted):
        doubts.append(f"{name}: {len(wanted) - len(stack)} pictures of another size or orientation were left out")
    if len({round(one.position, 2) for one in stack}) < len(stack):
        doubts.append(f"{name}: several pictures lie at the same position (phases or echoes); give one series at a time")
    return stack, tuple(doubts)


def _evenly(stack: list[Slice], most: int) -> list[Slice]:
    if len(stack) <= most:
        return stack
    if most == 1:
        return [stack[len(stack) // 2]]
    return [stack[round(index * (len(stack) - 1) / (most - 1))] for index in range(most)]


def _middle(one: Slice, window: voi.Window | None) -> tuple[voi.Window | None, dict[str, Any]]:
    """What the middle slice decides for all: the window they are shown in (None for CT, which has its three), and the facts."""
    name = shown_name(one.path)
    with open_input(one.path, what=ONE_SLICE) as file, guarded(name):
        header = read_header(file, name)
        flat = headers.merged(header, one.frame)
        size = {"width": int(flat.Columns), "height": int(flat.Rows), "bit_depth": int(flat.BitsStored)}
        facts: dict[str, Any] = {"format": "DICOM series", **size, "header": headers.facts_of(flat)}
        if window is None and facts["header"]["Modality"] == "CT":
            return None, facts
        return window or voi.header_window(flat) or shown_range(decode_pixels(header, name, one.frame), flat, name), facts


def _pictures(used: list[Slice], window: voi.Window | None, pad: bool) -> tuple[tuple[Image, ...], dict[str, int] | None]:
    drawn = [picture for path, group in groupby(used, lambda one: one.path) for picture in _draw(path, list(group), window)]
    if all(is_blank(thumbnail(picture)) for picture in drawn):
        raise InputError(f"{shown_name(used[0].path.parent)} is blank or nearly so in every slice; give a series that shows something")
    shown = [squared(picture, pad=pad) for picture in drawn]
    return tuple(as_rgb(picture) for picture, _ in shown), shown[0][1]


def _draw(path: Path, frames: list[Slice], window: voi.Window | None) -> list[Image]:
    """The slices of one file, which is read once."""
    name = shown_name(path)
    with open_input(path, what=ONE_SLICE) as file, guarded(name):
        header = read_header(file, name)
        return [_shown(decode_pixels(header, name, one.frame), headers.merged(header, one.frame), name, window) for one in frames]


def _shown(pixels: Any, header: Any, name: str, window: voi.Window | None) -> Image:
    picture = _hounsfield(pixels, header, name) if window is None else render(pixels, header, name, window)[0]
    return square_pixels(picture, header)


def _hounsfield(pixels: Any, header: Any, name: str) -> Image:
    from PIL import Image

    if pixels.ndim != 2 or pixels.dtype.kind == "f" or pixels.dtype.itemsize > 2:
        raise InputError(f"{name} is no CT slice of 8 or 16 bits; choose the series with the original slices")
    values = voi.modality_values(stored_values(pixels.dtype), header)
    tables = (to_levels(values, low, high) for low, high in CT_WINDOWS)
    return Image.merge("RGB", [Image.fromarray(apply_table(as_index(pixels), table, pixels.shape)) for table in tables])


def _origin(stack: list[Slice], used: list[Slice]) -> dict[str, Any]:
    """Which slices of how many, and a digest of every file they came from."""
    digests = {}
    for path in dict.fromkeys(one.path for one in used):
        with open_input(path, what=ONE_SLICE) as file:
            digests[shown_name(path)] = sha256_of(file)
    numbers = {one: number for number, one in enumerate(stack, 1)}
    return {"files": digests, "slices_found": len(stack), "slices_used": [numbers[one] for one in used]}
