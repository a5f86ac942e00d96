"""DICOM slices -> pictures in the order of their position, as MedGemma was shown CT and MR volumes."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from medgemma_app.errors import InputError, OptionError
from medgemma_app.inputs import elements as headers
from medgemma_app.inputs import voi
from medgemma_app.inputs.dicom import decode_pixels, guarded, read_header
from medgemma_app.inputs.files import THE_FOLDER, open_input, refuse_url, shown_name
from medgemma_app.inputs.gates import is_blank, thumbnail
from medgemma_app.inputs.header import ImageHeader
from medgemma_app.inputs.images import Series, as_rgb, sha256_of, squared
from medgemma_app.inputs.render import as_index, render, shown_range, square_pixels, stored_values
from medgemma_app.inputs.scaling import apply_table, to_levels
from medgemma_app.inputs.slices import ONE_SERIES, Slice, find_slices, frames_of, one_series, stacked

if TYPE_CHECKING:
    from PIL.Image import Image

    Shown = voi.View | Literal["Hounsfield"] | None

MOST_SLICES = 85
# Red, green and blue of a CT slice, in Hounsfield units: the windows of Google's own CT examples for MedGemma 1.5.
CT_WINDOWS = ((-1024, 1024), (-135, 215), (0, 80))
CT_FACTS = {"from": "Hounsfield windows as RGB", "ranges": [list(pair) for pair in CT_WINDOWS]}


def read_series(
    source: str | Path, *, slices: int = MOST_SLICES, pad: bool = True, window: str | None = None, series: int | str | None = None
) -> Series:
    """At most ``slices`` evenly spaced pictures of a series, a folder or one file of several frames; CT as three Hounsfield windows in RGB.

    ``window`` is "C/W", and shows CT in grey too; ``series`` is the DICOM series number where there are several ("3.2": the
    second of those with number 3). Raises InputError.
    """
    if slices < 1:
        raise OptionError("the number of slices must be at least 1")
    chosen = None if window is None else voi.parse_window(window)
    path = _checked(source)
    found, ignored = find_slices(path) if path.is_dir() else (frames_of(path), 0)
    where = THE_FOLDER if path.is_dir() else shown_name(path)
    label, chosen_slices = one_series(found, where, None if series is None else str(series))
    name = label if path.is_dir() else where  # folders are called after patients
    stack, doubts = stacked(chosen_slices, name)
    used = _evenly(stack, slices)
    view, facts, more = _middle(used[len(used) // 2], chosen)
    images, padding = _pictures(used, view, pad, name)
    facts = {**facts, **_origin(stack, used), "window": CT_FACTS if view == "Hounsfield" else view and view.facts(), "padding": padding}
    return Series(images, {"name": name, **facts, "files_ignored": ignored}, (*doubts, *more), ImageHeader.from_dict(facts["header"]))


def _checked(source: str | Path) -> Path:
    refuse_url(source)
    try:
        if not Path(source).exists():
            raise InputError(f"{shown_name(source)} does not exist; check the path")
    except (OSError, ValueError) as error:
        raise InputError(f"{shown_name(source)} cannot be opened; give {ONE_SERIES}") from error
    return Path(source)


def _evenly(stack: list[Slice], most: int) -> list[Slice]:
    if len(stack) <= most:
        return stack
    if most == 1:
        return [stack[len(stack) // 2]]
    return [stack[round(index * (len(stack) - 1) / (most - 1))] for index in range(most)]


def _middle(one: Slice, window: voi.Window | None) -> tuple[Shown, dict[str, Any], tuple[str, ...]]:
    """What the middle slice decides for all: how they are shown (None where they have colours), facts, and warnings."""
    name = shown_name(one.path)
    with open_input(one.path, what=ONE_SERIES) as file, guarded(name):
        header = read_header(file, name)
        flat = headers.merged(header, one.frame)
        size = {"width": int(flat.Columns), "height": int(flat.Rows), "bit_depth": headers.bits_of(flat)}
        facts: dict[str, Any] = {"format": "DICOM series", **size, "header": ImageHeader.from_dict(flat).to_dict()}
        if window is None and facts["header"]["Modality"] == "CT":
            inverse = facts["header"]["PhotometricInterpretation"] == "MONOCHROME1"
            marked = (f"{name} is marked MONOCHROME1; Hounsfield values are shown with high ones bright",) * inverse
            return "Hounsfield", facts, (*headers.doubts_of(flat, name), *marked)
        if not str(facts["header"]["PhotometricInterpretation"]).startswith("MONOCHROME"):
            return None, facts, headers.doubts_of(flat, name)
        view = window or voi.header_view(flat) or shown_range(decode_pixels(header, name, one.frame), flat, name)
        return view, facts, headers.doubts_of(flat, name)


def _pictures(used: list[Slice], view: Shown, pad: bool, name: str) -> tuple[tuple[Image, ...], dict[str, int] | None]:
    drawn = [picture for path, group in groupby(used, lambda one: one.path) for picture in _draw(path, list(group), view)]
    if all(is_blank(thumbnail(picture)) for picture in drawn):
        raise InputError(f"{name} is blank or nearly so in every slice; give a series that shows something")
    shown = [squared(picture, pad=pad) for picture in drawn]
    return tuple(as_rgb(picture) for picture, _ in shown), shown[0][1]


def _draw(path: Path, frames: list[Slice], view: Shown) -> list[Image]:
    """The slices of one file, which is read once."""
    name = shown_name(path)
    with open_input(path, what=ONE_SERIES) as file, guarded(name):
        header = read_header(file, name)
        return [_shown(decode_pixels(header, name, one.frame), headers.merged(header, one.frame), name, view) for one in frames]


def _shown(pixels: Any, header: Any, name: str, view: Shown) -> Image:
    picture = _hounsfield(pixels, header, name) if view == "Hounsfield" else render(pixels, header, name, view)[0]
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
        with open_input(path, what=ONE_SERIES) as file:
            digests[shown_name(path)] = sha256_of(file)
    numbers = {one: number for number, one in enumerate(stack, 1)}
    return {"files": digests, "slices_found": len(stack), "slices_used": [numbers[one] for one in used]}
