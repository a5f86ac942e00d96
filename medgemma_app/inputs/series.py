"""DICOM slices -> pictures in the order of their position, as MedGemma was shown CT and MR volumes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgemma_app.errors import InputError, OptionError
from medgemma_app.inputs.dicom import bits_of, for_frame, guarded, header_warnings, numbers, read_header
from medgemma_app.inputs.display import (
    PERCENTILES,
    Hounsfield,
    Range,
    Table,
    View,
    Window,
    choose_view,
    is_colour,
    is_hounsfield,
    is_inverse,
    of_acquisition,
    parse_window,
    render,
    show,
)
from medgemma_app.inputs.files import THE_FOLDER, open_input, refuse_url, sha256_of, shown_name
from medgemma_app.inputs.header import ImageHeader
from medgemma_app.inputs.identity import WHAT_DIFFERS, are_several
from medgemma_app.inputs.images import Series, as_rgb, squared
from medgemma_app.inputs.levels import is_blank, thumbnail, warn_doubtful
from medgemma_app.inputs.pixels import Pixels, decode_frame
from medgemma_app.inputs.slices import ONE_SERIES, Slice, find_slices, frames_of, one_series, stacked, without_copies

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
    path = _checked(source)
    found, ignored = find_slices(path) if path.is_dir() else (frames_of(path), 0)
    where = THE_FOLDER if path.is_dir() else shown_name(path)
    label, chosen_slices = one_series(found, where, None if series is None else str(series))
    name = label if path.is_dir() else where  # folders are called after patients
    patients = [one.patient for one in chosen_slices]
    if are_several(patients):
        raise InputError(f"{name} holds slices of several patients (they differ in {WHAT_DIFFERS}); give those of one patient")
    with_id = sum(patient.patient_id is not None for patient in patients)
    unnamed = (f"{name}: {len(patients) - with_id} of {len(patients)} pictures have no PatientID; check that they are of the same patient",)
    unique, copied = without_copies(chosen_slices, name)
    stack, doubts = stacked(unique, name)
    used = evenly(stack, slices)
    middle = used[len(used) // 2]
    view, facts, more = _middle(middle, name, chosen)
    if isinstance(view, Range) and view.of_stored:
        every = ((pixels, header) for path, group in _by_file(stack) for pixels, header, _ in _decoded(path, group))
        view = of_acquisition(view, every, name)
    drawn = _drawn(used, view, name)
    if isinstance(view, Hounsfield) and _are_blank(drawn):
        view, facts, more = _middle(middle, name, chosen, by_itself=True)
        drawn = _drawn(used, view, name)
    if _are_blank(drawn):
        raise InputError(f"{name} is blank or nearly so in every slice; give a series that shows something")
    if not isinstance(view, Hounsfield):
        more = (*more, *warn_doubtful(thumbnail(drawn[len(drawn) // 2]), name, windowed=isinstance(view, Window | Table)))
    shown = [squared(picture, pad=pad) for picture in drawn]
    images, padding = tuple(as_rgb(picture) for picture, _ in shown), shown[0][1]
    facts = {"name": name, **facts, **_origin(stack, used), "window": view and view.facts(), "padding": padding, "files_ignored": ignored}
    doubts = (*unnamed * (0 < with_id < len(patients)), *copied, *doubts, *more)
    return Series(
        images, facts, doubts, ImageHeader.from_dict(facts["header"]), max(patients, key=lambda patient: patient.patient_id or "")
    )


def _checked(source: str | Path) -> Path:
    refuse_url(source)
    try:
        if not Path(source).exists():
            raise InputError(f"{shown_name(source)} does not exist; check the path")
    except (OSError, ValueError) as error:
        raise InputError(f"{shown_name(source)} cannot be opened; give {ONE_SERIES}") from error
    return Path(source)


def evenly(stack: list[Slice], most: int) -> list[Slice]:
    """Those at round(i / most * (total - 1)) for i = 1 to ``most``, as Google's CT notebook takes them; of one alone, the middle."""
    if len(stack) <= most:
        return stack
    if most == 1:
        return [stack[len(stack) // 2]]
    return [stack[round(index / most * (len(stack) - 1))] for index in range(1, most + 1)]


def _middle(
    one: Slice, name: str, window: Window | None, *, by_itself: bool = False
) -> tuple[View | None, dict[str, Any], tuple[str, ...]]:
    """What the middle slice decides for all: how they are shown (None where they have colours), facts, and warnings.

    Hounsfield windows hold for all slices, also where the middle one shows nothing in them, unless it is looked at ``by_itself``.
    """
    [(pixels, header, doubts)] = _decoded(one.path, [one])
    size = {"width": int(header.Columns), "height": int(header.Rows), "bit_depth": bits_of(header)}
    facts = {"format": "DICOM series", **size, "header": ImageHeader.from_dict(header).to_dict()}
    with guarded(name):
        view, more = choose_view(pixels, header, name, window)
        if by_itself or not isinstance(view, Hounsfield):
            _, view, more = show(pixels, header, name, window)
        if isinstance(view, Range) and view.source == PERCENTILES:
            view = replace(view, source=f"{PERCENTILES} of the middle slice")
        return view, facts, (*header_warnings(header, name), *doubts, *more)


def _by_file(slices: list[Slice]) -> Iterator[tuple[Path, list[Slice]]]:
    for path, group in groupby(slices, lambda one: one.path):
        yield path, list(group)


def _drawn(used: list[Slice], view: View | None, name: str) -> list[Image]:
    """The pictures of the slices. Raises InputError where their headers do not agree on what their values mean."""
    drawn: list[Image] = []
    first: tuple[Path, tuple[bool, ...]] | None = None
    for path, group in _by_file(used):
        for pixels, header, _ in _decoded(path, group):
            if is_colour(pixels, header) != (view is None):
                raise InputError(f"{name} has pictures in colour and in grey; choose a series of one kind")
            first = first or (path, _meaning(header, view))
            if _meaning(header, view) != first[1]:
                both = " and ".join(dict.fromkeys((shown_name(first[0]), shown_name(path))))
                raise InputError(f"{name} mixes kinds of values (rescale, units or polarity differ in {both}); export the series again")
            with guarded(shown_name(path)):
                drawn.append(render(pixels, header, view))
    return drawn


def _meaning(header: Dataset, view: View | None) -> tuple[bool, ...]:
    """What of a header decides what the stored values mean, and must be the same in every slice."""
    rescaled = bool(header.get("ModalityLUTSequence") or numbers(header, "RescaleSlope"))
    return rescaled, is_inverse(header), isinstance(view, Hounsfield) and is_hounsfield(header)


def _are_blank(drawn: list[Image]) -> bool:
    return all(is_blank(thumbnail(picture)) for picture in drawn)


def _decoded(path: Path, frames: list[Slice]) -> Iterator[tuple[Pixels, Dataset, tuple[str, ...]]]:
    """The stored pixels of each of the slices of one file, which is read once, and its header."""
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
