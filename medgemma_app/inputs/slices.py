"""DICOM files -> the slices in them, grouped into series and sorted by position. Headers only: no pixel is decoded here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from medgemma_app.errors import InputError
from medgemma_app.inputs.dicom import ExtraMissing, NoPicture, for_frame, guarded, numbers, read_header
from medgemma_app.inputs.files import THE_FOLDER, looks_like_dicom, open_input, shown_name
from medgemma_app.inputs.header import ImageHeader, PatientDigests

if TYPE_CHECKING:
    from pydicom import Dataset

MOST_FILES = 20_000
MOST_NAMED = 20
MOST_GROUPS = 100  # of different sizes and orientations in one series
ONE_SERIES = "a folder of DICOM slices"
# Cross-sections by their nature; of other kinds only what has a place in the body is a slice, and these never are.
VOLUMES = frozenset(("CT", "MR", "PT"))
PROJECTIONS = frozenset(("CR", "DX", "DR", "MG", "RG", "RF", "XA", "IO", "PX", "BMD", "DG", "TG"))
TOLERANCE = 0.1  # between direction cosines of parallel slices, 6 degrees: scanners write them with noise
HEADER_OF_A_SLICE = (
    "Modality", "Rows", "Columns", "NumberOfFrames", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    "StudyInstanceUID", "FrameOfReferenceUID", "SeriesInstanceUID", "SOPInstanceUID", "SeriesNumber", "InstanceNumber",
    "ImagePositionPatient", "ImageOrientationPatient", "SliceLocation",
)  # fmt: skip

FileKind: TypeAlias = Literal["slice", "picture", "damaged"] | None


@dataclass(frozen=True)
class Slice:
    """One frame of one file: where it lies in the body, in mm and direction cosines, and its number where that is not said."""

    path: Path
    frame: int
    uid: str  # of the file, or "" where it says none
    series: str
    number: int
    modality: str | None
    size: tuple[int, int]
    place: tuple[float, ...]
    directions: tuple[float, ...]
    location: float | None
    instance: float
    patient: PatientDigests


def kind_of(path: Path) -> tuple[FileKind, str]:
    """Whether a file is a slice or a picture by itself (None: not a DICOM picture of a patient), and its id. Raises ExtraMissing."""
    try:
        found = _read(path)
    except ExtraMissing:
        raise
    except InputError:
        return "damaged", ""
    if found is None:
        return None, ""
    return "slice" if found[1] else "picture", str(found[0].get("SOPInstanceUID") or "")


def find_slices(folder: Path) -> tuple[list[Slice], int]:
    """Every slice directly in the folder, and how many files hold none. Raises InputError."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"{THE_FOLDER} cannot be read: {error.strerror}; give one that you may read") from error
    if len(paths) > MOST_FILES:
        raise InputError(f"{THE_FOLDER} holds more than {MOST_FILES} files; give a folder with one series")
    read = [(path, found) for path in paths if (found := _read(path))]
    slices = [_slices_of(path, header) for path, (header, is_slice) in read if is_slice]
    if read and not slices:
        raise InputError(
            f"{THE_FOLDER} holds pictures that are not slices of a volume; give each by itself, or as a further view with --view"
        )
    if not slices:
        raise InputError(f"{THE_FOLDER} holds no DICOM picture; give {ONE_SERIES}")
    return [one for some in slices for one in some], len(paths) - len(slices)


def frames_of(path: Path) -> list[Slice]:
    """The frames of one file, as the slices that they are said to be. Raises InputError."""
    found = _read(path)
    if found is None:
        raise InputError(f"{shown_name(path)} is not a DICOM picture; give {ONE_SERIES}")
    return _slices_of(path, found[0])


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
        frames = min(int(header.get("NumberOfFrames") or 1), MOST_FILES)  # the number may be a lie
        return [_slice(path, header, frame) for frame in range(frames)]


def _slice(path: Path, header: Any, frame: int) -> Slice:
    flat = for_frame(header, frame)
    place, directions = (tuple(numbers(flat, f"Image{what}Patient")) for what in ("Position", "Orientation"))
    # What an old file of several frames says once cannot hold for each of them.
    once = int(header.get("NumberOfFrames") or 1) > 1 and not header.get("PerFrameFunctionalGroupsSequence")
    said = " ".join(str(header.get(keyword) or "") for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "SeriesNumber"))
    return Slice(
        path=path,
        frame=frame,
        uid=str(header.get("SOPInstanceUID") or ""),
        series=str(header.get("SeriesInstanceUID") or said.strip()),
        number=int((numbers(header, "SeriesNumber") or [0])[0]),
        modality=ImageHeader.from_dict(header).modality,
        size=(int(header.Rows), int(header.Columns)),
        place=place if len(place) == 3 and not once else (),
        directions=directions if len(directions) == 6 else (),
        location=None if once else next(iter(numbers(flat, "SliceLocation")), None),
        instance=(numbers(flat, "InstanceNumber") or [0.0])[0] + frame / 1e6,
        patient=header.patient,
    )


def one_series(found: Sequence[Slice], where: str, chosen: int | str | None) -> tuple[str, list[Slice]]:
    """The name and the slices of the series with that label, or of the only one there is. Raises InputError that names them all."""
    unknown = {one.path for one in found if not one.series}
    if len(unknown) > 1:
        raise InputError(
            f"{where} holds {_pictures(len(unknown))} that do not say which series they belong to; export them again with a series number"
        )
    series = _labelled(found)
    label = next(iter(series)) if chosen is None and len(series) == 1 else str(chosen)
    if label in series:
        modality = series[label][0].modality
        return f"series {label}{f' ({modality})' if modality else ''}", series[label]
    named = [f"{label} ({', '.join(filter(None, (some[0].modality, _pictures(len(some)))))})" for label, some in series.items()]
    more = [f"and {len(named) - MOST_NAMED} more"] if len(named) > MOST_NAMED else []
    raise InputError(f"{where} holds {len(series)} series; choose one with --series: {', '.join(named[:MOST_NAMED] + more)}")


def _labelled(found: Sequence[Slice]) -> dict[str, list[Slice]]:
    """The series by their DICOM numbers; those that share one are told apart as 3.1, 3.2 in the order of their ids."""
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


def _pictures(count: int) -> str:
    return f"{count} picture{'' if count == 1 else 's'}"


def stacked(series: Sequence[Slice], name: str) -> tuple[list[Slice], list[str]]:
    """Those of the size and orientation that most have, each once, sorted by position, and what deserves a warning."""
    first: dict[object, Slice] = {}
    for one in series:  # some anonymisers give every file of a series the same id, so that the place counts too
        first.setdefault((one.uid or one.path, one.frame, one.place, one.location, one.instance), one)
    unique = list(first.values())
    group, doubts = max(_alike(unique), key=len), []
    places, guessed = _positions(group)
    positions = places or [one.instance for one in group]
    stack = [one for _, one in sorted(zip(positions, group, strict=True), key=lambda pair: (pair[0], pair[1].instance))]
    if copies := len(series) - len(unique):
        doubts.append(f"{name}: {_pictures(copies)} left out, as copies of others (the same id and place)")
    if others := len(unique) - len(group):
        doubts.append(f"{name}: {_pictures(others)} of another size or orientation left out")
    if guessed:
        doubts.append(
            f"{name}: the pictures do not give their orientation; they are sorted along the axis on which they are furthest apart"
        )
    if 0 < len({round(position, 2) for position in places}) < len(group):
        doubts.append(f"{name}: several pictures lie at the same position (phases or echoes); give one series at a time")
    return stack, doubts


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

    Where directions are not said, along the axis on which the places vary most, and True; where places are not said either, the
    slices' locations; none where these are not said.
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
