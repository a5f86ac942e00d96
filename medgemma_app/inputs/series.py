"""Reads DICOM slices as pictures in the order of their position, as MedGemma was shown CT and MR volumes.

The headers of all slices are read first: they say which slices are a series, and where each lies. Only those that are used are decoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgemma_app.errors import InputError, OptionError
from medgemma_app.inputs.dicom import ExtraMissing, NoPicture, for_frame, guarded, numbers, read_header
from medgemma_app.inputs.display import parse_window, show_frames
from medgemma_app.inputs.files import THE_FOLDER, is_folder, list_folder, looks_like_dicom, open_input, refuse_url, sha256_of, shown_name
from medgemma_app.inputs.header import WHAT_DIFFERS, ImageHeader, PatientDigests, are_several
from medgemma_app.inputs.images import Series, as_rgb, squared
from medgemma_app.notices import counted, first_of

if TYPE_CHECKING:
    from pydicom import Dataset

MOST_SLICES = 85
MOST_FILES = 20_000
MOST_GROUPS = 100  # of different sizes and orientations in one series
ONE_SERIES = "a folder of DICOM slices"
# Modalities whose pictures are always slices. Others are slices only if they have a position in the body; PROJECTIONS never are.
VOLUMES = frozenset(("CT", "MR", "PT"))
PROJECTIONS = frozenset(("CR", "DX", "DR", "MG", "RG", "RF", "XA", "IO", "PX", "BMD", "DG", "TG"))
TOLERANCE = 0.1  # between direction cosines of parallel slices, 6 degrees: scanners write them with noise
HEADER_OF_A_SLICE = (
    "Modality", "Rows", "Columns", "NumberOfFrames", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    "StudyInstanceUID", "FrameOfReferenceUID", "SeriesInstanceUID", "SOPInstanceUID", "SeriesNumber", "InstanceNumber",
    "ImagePositionPatient", "ImageOrientationPatient", "SliceLocation",
)  # fmt: skip
IDS_OF_A_SLICE = ("SOPInstanceUID", "SeriesInstanceUID", "InstanceNumber", "ImagePositionPatient", "SliceLocation")


@dataclass(frozen=True)
class Slice:
    """One frame of one file: its position in the body, in mm and direction cosines, and its number in case that is not stated."""

    path: Path
    frame: int
    uid: str  # of the file, or "" if it has none
    series: str
    number: int
    modality: str
    size: tuple[int, int]
    place: tuple[float, ...]
    directions: tuple[float, ...]
    location: float | None
    instance: float
    patient: PatientDigests


def read_series(
    source: str | Path, *, slices: int = MOST_SLICES, pad: bool = True, window: str | None = None, series: int | str | None = None
) -> Series:
    """At most ``slices`` evenly spaced pictures of a series: of a folder, or of one file with several frames. CT is shown in RGB.

    ``window`` is "C/W", and shows CT in grey; ``series`` is the DICOM series number where there are several ("3.2": the second of
    those with number 3). Raises InputError.
    """
    if slices < 1:
        raise OptionError("the number of slices must be at least 1")
    chosen = None if window is None else parse_window(window)
    refuse_url(source)
    path = Path(source)
    found, ignored = _find_slices(path)
    where = THE_FOLDER if is_folder(path) else shown_name(path)
    label, members = _one_series(found, where, series)
    name = label if is_folder(path) else where  # folders are called after patients
    patient, of_patient = _one_patient(members, name)
    stack, more = _stacked(members, name)
    used = evenly(stack, slices)
    frames, of_stack = ([(one.path, one.frame) for one in some] for some in (used, stack))
    shown, facts, warnings = show_frames(frames, of_stack, name, chosen)
    squares = [squared(picture, pad=pad) for picture in shown]
    facts = {"name": name, **facts, **_origin(stack, used), "padding": squares[0][1], "files_ignored": ignored}
    images = tuple(as_rgb(square) for square, _ in squares)
    return Series(images, facts, (*of_patient, *more, *warnings), ImageHeader.from_dict(facts["header"]), patient)


def kind_of(path: Path) -> tuple[str | None, str]:
    """ "slice", "picture" or "damaged" (None: not a DICOM picture of a patient), and the ids that its copies share. Raises ExtraMissing."""
    try:
        found = _read(path)
        if found is None:
            return None, ""
        with guarded(shown_name(path)):
            header, is_slice = found
            # Some anonymisers give every file the same SOPInstanceUID.
            said = [str(header.get(keyword) or "") for keyword in IDS_OF_A_SLICE]
            return "slice" if is_slice else "picture", f"{said} {header.patient}" if said[0] else ""
    except ExtraMissing:
        raise
    except InputError:
        return "damaged", ""


def _find_slices(path: Path) -> tuple[list[Slice], int]:
    """The slices of a file, or of every file directly in a folder, and how many files hold none. Raises InputError."""
    paths, where = (list_folder(path)[0], THE_FOLDER) if is_folder(path) else ([path], shown_name(path))
    if len(paths) > MOST_FILES:
        raise InputError(f"{where} holds more than {MOST_FILES} files; give a folder with one series")
    read = {file: found for file in paths if (found := _read(file))}
    if not read:
        raise InputError(f"{where} holds no DICOM picture; give {ONE_SERIES}")
    slices = [one for file, (header, is_slice) in read.items() if is_slice or file == path for one in _slices_of(file, header)]
    if not slices:
        raise InputError(f"{where} holds pictures that are not slices of a volume; give each on its own, or as a further view with --view")
    return slices, len(paths) - len({one.path for one in slices})


def _read(path: Path) -> tuple[Dataset, bool] | None:
    """The header of a DICOM picture and whether it is a slice. None for other files; a damaged one is an error: no gap must go unseen."""
    name = shown_name(path)
    with open_input(path, what=ONE_SERIES) as file:
        if not looks_like_dicom(file):
            return None
        try:
            with guarded(name):
                header = read_header(file, name, tags=HEADER_OF_A_SLICE, pixels=False)
                modality = ImageHeader.from_dict(header).modality
                has_place = bool(numbers(for_frame(header, 0), "ImagePositionPatient"))
                return header, modality in VOLUMES or (modality not in PROJECTIONS and has_place)
        except NoPicture:
            return None


def _slices_of(path: Path, header: Dataset) -> list[Slice]:
    with guarded(shown_name(path)):
        frames = min(int(header.get("NumberOfFrames") or 1), MOST_FILES)  # the number may be false
        return [_slice(path, header, frame) for frame in range(frames)]


def _slice(path: Path, header: Any, frame: int) -> Slice:
    flat = for_frame(header, frame)
    place, directions = (tuple(numbers(flat, f"Image{what}Patient")) for what in ("Position", "Orientation"))
    # A position that an old multi-frame file states once cannot apply to every frame.
    once = int(header.get("NumberOfFrames") or 1) > 1 and not header.get("PerFrameFunctionalGroupsSequence")
    said = " ".join(str(header.get(keyword) or "") for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "SeriesNumber"))
    return Slice(
        path=path,
        frame=frame,
        uid=str(header.get("SOPInstanceUID") or ""),
        series=str(header.get("SeriesInstanceUID") or said.strip()),
        number=int((numbers(header, "SeriesNumber") or [0])[0]),
        modality=ImageHeader.from_dict(header).modality or "OT",
        size=(int(header.Rows), int(header.Columns)),
        place=place if len(place) == 3 and not once else (),
        directions=directions if len(directions) == 6 else (),
        location=None if once else next(iter(numbers(flat, "SliceLocation")), None),
        instance=(numbers(flat, "InstanceNumber") or [0.0])[0] + frame / 1e6,
        patient=header.patient,
    )


def _one_series(found: Sequence[Slice], where: str, chosen: int | str | None) -> tuple[str, list[Slice]]:
    """The name and the slices of the chosen series, or of the only one. Otherwise raises InputError, which lists them all."""
    unknown = {one.path for one in found if not one.series}
    if len(unknown) > 1:
        raise InputError(
            f"{where} holds {counted(len(unknown), 'picture')} that do not say which series they belong to; export them with series numbers"
        )
    series = _labelled(found)
    label = next(iter(series)) if chosen is None and len(series) == 1 else str(chosen)
    if label in series:
        return f"series {label} ({series[label][0].modality})", series[label]
    named = [f"{label} ({some[0].modality}, {counted(len(some), 'picture')})" for label, some in series.items()]
    raise InputError(f"{where} holds {len(series)} series; choose one with --series: {first_of(named)}")


def _labelled(found: Sequence[Slice]) -> dict[str, list[Slice]]:
    """The series by their DICOM numbers; those that share a number become 3.1, 3.2 in the order of their ids."""
    series: dict[str, list[Slice]] = {}
    for one in found:
        series.setdefault(one.series, []).append(one)
    numbered: dict[int, list[list[Slice]]] = {}
    for _, some in sorted(series.items()):
        numbered.setdefault(some[0].number, []).append(some)
    labels = {}
    for number, several in sorted(numbered.items()):
        for place, some in enumerate(several, 1):
            labels[f"{number}.{place}" if len(several) > 1 else str(number)] = some
    return labels


def _one_patient(slices: Sequence[Slice], name: str) -> tuple[PatientDigests, list[str]]:
    """The patient of the slices, and a warning where only some of them have an id. Raises InputError where there are several patients."""
    patients = [one.patient for one in slices]
    if are_several(patients):
        raise InputError(f"{name} holds slices of several patients (they differ in {WHAT_DIFFERS}); give those of one patient")
    without_id = sum(patient.patient_id is None for patient in patients)
    if not 0 < without_id < len(patients):
        return patients[0], []
    warning = f"{name}: {without_id} of {len(patients)} pictures have no PatientID; check that all are of the same patient"
    return max(patients, key=lambda patient: patient.patient_id or ""), [warning]


def _stacked(series: Sequence[Slice], name: str) -> tuple[list[Slice], list[str]]:
    """The slices of the commonest size and orientation, each once, sorted by position; and warnings."""
    first: dict[object, Slice] = {}
    for one in series:  # some anonymisers give every file of a series the same id, so the position counts too
        first.setdefault((one.uid or one.path, one.frame, one.place, one.location, one.instance), one)
    unique = list(first.values())
    group, warnings = max(_alike(unique), key=len), []
    places, guessed = _positions(group)
    positions = places or [one.instance for one in group]
    stack = [one for _, one in sorted(zip(positions, group, strict=True), key=lambda pair: (pair[0], pair[1].instance))]
    if copies := len(series) - len(unique):
        warnings.append(f"{name}: {counted(copies, 'picture')} left out as copies of others (same id and position)")
    if others := len(unique) - len(group):
        warnings.append(f"{name}: {counted(others, 'picture')} left out because of another size or orientation")
    if guessed:
        warnings.append(
            f"{name}: the pictures do not state their orientation; they are sorted along the axis on which they are furthest apart"
        )
    if 0 < len({round(position, 2) for position in places}) < len(group):
        warnings.append(f"{name}: several pictures lie at the same position (phases or echoes); give one series at a time")
    return stack, warnings


def _alike(series: Sequence[Slice]) -> list[list[Slice]]:
    groups: list[list[Slice]] = []
    for one in series:
        group = next((group for group in groups if _parallel(group[0], one)), None)
        if group is not None:
            group.append(one)
        elif len(groups) < MOST_GROUPS:  # a hostile folder could make every comparison a new one
            groups.append([one])
    return groups


def _parallel(one: Slice, other: Slice) -> bool:
    same = one.size == other.size and len(one.directions) == len(other.directions)
    return same and all(abs(a - b) <= TOLERANCE for a, b in zip(one.directions, other.directions, strict=True))


def _positions(group: Sequence[Slice]) -> tuple[list[float], bool]:
    """Each slice's distance along the normal of the first, the cross product of its directions (PS3.3 C.7.6.2.1.1).

    Without directions, it is the distance along the axis on which the positions vary most, and True; without positions, the
    SliceLocation of each slice; without these, an empty list.
    """
    if all(one.place and one.directions for one in group):
        (a, b, c), (d, e, f) = group[0].directions[:3], group[0].directions[3:]
        normal = (b * f - c * e, c * d - a * f, a * e - b * d)
        return [sum(place * part for place, part in zip(one.place, normal, strict=True)) for one in group], False
    if all(one.place for one in group):
        places = list(zip(*(one.place for one in group), strict=True))
        return list(max(places, key=lambda places: max(places) - min(places))), len(group) > 1
    locations = [one.location for one in group if one.location is not None]
    return (locations if len(locations) == len(group) else []), False


def evenly(stack: list[Slice], most: int) -> list[Slice]:
    """Those at round(i / most * (total - 1)) for i = 1 to ``most``, as Google's CT notebook takes them; of one alone, the middle."""
    if len(stack) <= most:
        return stack
    if most == 1:
        return [stack[len(stack) // 2]]
    return [stack[round(index / most * (len(stack) - 1))] for index in range(1, most + 1)]


def _origin(stack: list[Slice], used: list[Slice]) -> dict[str, Any]:
    """Which slices of how many, and a digest of every file they came from."""
    digests = {}
    for path in dict.fromkeys(one.path for one in used):
        with open_input(path, what=ONE_SERIES) as file:
            digests[shown_name(path)] = sha256_of(file)
    numbers = {one: number for number, one in enumerate(stack, 1)}
    return {"files": digests, "slices_found": len(stack), "slices_used": [numbers[one] for one in used]}
