"""DICOM slices -> pictures in the order of their position, as MedGemma was shown CT and MR volumes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgemma_app.errors import InputError, OptionError
from medgemma_app.inputs.contrast import (
    Contrast,
    HounsfieldWindows,
    LookUpTable,
    ValueRange,
    VoiWindow,
    choose_contrast,
    is_colour,
    meaning_of,
)
from medgemma_app.inputs.dicom import bits_of, for_frame, guarded, header_warnings, read_header
from medgemma_app.inputs.display import draw, of_acquisition, parse_window, show
from medgemma_app.inputs.files import THE_FOLDER, is_folder, open_input, refuse_url, sha256_of, shown_name
from medgemma_app.inputs.header import WHAT_DIFFERS, ImageHeader, PatientDigests, are_several
from medgemma_app.inputs.images import Series, as_rgb, squared
from medgemma_app.inputs.levels import PERCENTILES, is_blank, thumbnail, warn_doubtful
from medgemma_app.inputs.pixels import Pixels, decode_frame
from medgemma_app.inputs.slices import ONE_SERIES, Slice, find_slices, frames_of, one_series, stacked

if TYPE_CHECKING:
    from PIL.Image import Image
    from pydicom import Dataset

MOST_SLICES = 85


def read_series(
    source: str | Path, *, slices: int = MOST_SLICES, pad: bool = True, window: str | None = None, series: int | str | None = None
) -> Series:
    """At most ``slices`` evenly spaced pictures of a series, a folder or one file of several frames; CT as three Hounsfield windows in RGB.

    ``window`` is "C/W", and shows CT in grey too; ``series`` is the DICOM series number where there are several ("3.2": the
    second of those with number 3). Raises InputError.
    """
    if slices < 1:
        raise OptionError("the number of slices must be at least 1")
    chosen = None if window is None else parse_window(window)
    refuse_url(source)
    path = Path(source)
    if is_folder(path):
        found, ignored = find_slices(path)
        name, members = one_series(found, THE_FOLDER, series)
    else:
        found, ignored = frames_of(path), 0
        name, members = shown_name(path), one_series(found, shown_name(path), series)[1]
    patient, doubts = _one_patient(members, name)
    stack, more = stacked(members, name)
    used = evenly(stack, slices)
    shown, contrast, facts, warnings = _shown(stack, used, name, chosen)
    squares = [squared(picture, pad=pad) for picture in shown]
    facts = {"name": name, **facts, **_origin(stack, used), "window": contrast and contrast.facts()}
    facts |= {"padding": squares[0][1], "files_ignored": ignored}
    images = tuple(as_rgb(square) for square, _ in squares)
    return Series(images, facts, (*doubts, *more, *warnings), ImageHeader.from_dict(facts["header"]), patient)


def _one_patient(slices: Sequence[Slice], name: str) -> tuple[PatientDigests, list[str]]:
    """Whose the slices are, and a warning where only some of them have an id. Raises InputError where there are several patients."""
    patients = [one.patient for one in slices]
    if are_several(patients):
        raise InputError(f"{name} holds slices of several patients (they differ in {WHAT_DIFFERS}); give those of one patient")
    without_id = sum(patient.patient_id is None for patient in patients)
    if not 0 < without_id < len(patients):
        return patients[0], []
    doubt = f"{name}: {without_id} of {len(patients)} pictures have no PatientID; check that they are of the same patient"
    return max(patients, key=lambda patient: patient.patient_id or ""), [doubt]


def evenly(stack: list[Slice], most: int) -> list[Slice]:
    """Those at round(i / most * (total - 1)) for i = 1 to ``most``, as Google's CT notebook takes them; of one alone, the middle."""
    if len(stack) <= most:
        return stack
    if most == 1:
        return [stack[len(stack) // 2]]
    return [stack[round(index / most * (len(stack) - 1))] for index in range(1, most + 1)]


def _shown(
    stack: list[Slice], used: list[Slice], name: str, window: VoiWindow | None
) -> tuple[list[Image], Contrast | None, dict[str, Any], tuple[str, ...]]:
    """The pictures of the slices, all in the contrast that the middle one decides (None for colour), facts, and warnings.

    Hounsfield windows hold for all slices, also where the middle one shows nothing in them, unless none shows anything.
    """
    [(pixels, header, doubts)] = _decoded([used[len(used) // 2]])
    drawn: list[Image] = []
    with guarded(name):
        contrast, more = choose_contrast(pixels, header, name, window)
        if isinstance(contrast, HounsfieldWindows):
            drawn = _drawn(used, contrast, name)
        if _are_blank(drawn):
            _, contrast, more = show(pixels, header, name, window)
    if isinstance(contrast, ValueRange) and contrast.source == PERCENTILES:
        contrast = replace(contrast, source=f"{PERCENTILES} of the middle slice")
    if isinstance(contrast, ValueRange) and contrast.of_stored:
        contrast = of_acquisition(contrast, ((pixels, header) for pixels, header, _ in _decoded(stack)), name)
    if not isinstance(contrast, HounsfieldWindows):
        drawn = _drawn(used, contrast, name)
        windowed = isinstance(contrast, VoiWindow | LookUpTable)
        more = (*more, *warn_doubtful(thumbnail(drawn[len(drawn) // 2]), name, windowed=windowed))
    if _are_blank(drawn):
        raise InputError(f"{name} is blank or nearly so in every slice; give a series that shows something")
    size = {"width": int(header.Columns), "height": int(header.Rows), "bit_depth": bits_of(header)}
    facts = {"format": "DICOM series", **size, "header": ImageHeader.from_dict(header).to_dict()}
    return drawn, contrast, facts, (*header_warnings(header, name), *doubts, *more)


def _drawn(used: list[Slice], contrast: Contrast | None, name: str) -> list[Image]:
    """The pictures of the slices. Raises InputError where their headers do not agree on what their values mean."""
    drawn: list[Image] = []
    meaning: tuple[bool, ...] = ()
    for one, (pixels, header, _) in zip(used, _decoded(used), strict=True):
        if is_colour(pixels, header) != (contrast is None):
            raise InputError(f"{name} has pictures in colour and in grey; choose a series of one kind")
        meaning = meaning or meaning_of(header, contrast)
        if meaning_of(header, contrast) != meaning:
            both = " and ".join(dict.fromkeys((shown_name(used[0].path), shown_name(one.path))))
            raise InputError(f"{name} mixes kinds of values (rescale, units or polarity differ in {both}); export the series again")
        with guarded(shown_name(one.path)):
            drawn.append(draw(pixels, header, contrast))
    return drawn


def _are_blank(drawn: list[Image]) -> bool:
    return all(is_blank(thumbnail(picture)) for picture in drawn)


def _decoded(slices: list[Slice]) -> Iterator[tuple[Pixels, Dataset, tuple[str, ...]]]:
    """The stored pixels of each slice, its header, and what deserves a warning; a file of several is read once."""
    for path, frames in groupby(slices, lambda one: one.path):
        name = shown_name(path)
        with open_input(path, what=ONE_SERIES) as file, guarded(name):
            header = read_header(file, name)
            for one in frames:
                pixels, doubts = decode_frame(header, name, one.frame)
                yield pixels, for_frame(header, one.frame), doubts


def _origin(stack: list[Slice], used: list[Slice]) -> dict[str, Any]:
    """Which slices of how many, and a digest of every file they came from."""
    digests = {}
    for path in dict.fromkeys(one.path for one in used):
        with open_input(path, what=ONE_SERIES) as file:
            digests[shown_name(path)] = sha256_of(file)
    numbers = {one: number for number, one in enumerate(stack, 1)}
    return {"files": digests, "slices_found": len(stack), "slices_used": [numbers[one] for one in used]}
