"""Finds the studies that the arguments of a command name, and what was left out; and reads one study."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from medgemma_app.errors import InputError
from medgemma_app.inputs.files import (
    PICTURE_STARTS,
    THE_FOLDER,
    is_folder,
    list_folder,
    looks_like_dicom,
    open_input,
    sha256_of,
    shown_name,
)
from medgemma_app.inputs.images import Scan, Series, read_image
from medgemma_app.inputs.raster import OnePicture, SeveralPictures
from medgemma_app.notices import counted, first_of

if TYPE_CHECKING:
    from medgemma_app.inputs.images import Picture

PICTURE_ENDINGS = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"}
DIRECTORY_CLASS = b"1.2.840.10008.1.3.10"


@dataclass(frozen=True)
class StudySource:
    """Where a study is read from: a file, a part of one (a line, from 1), a folder of slices, or "-"."""

    path: str
    part: int | None = None
    number: int = 1  # its place among the studies of the command
    root: str | None = field(default=None, repr=False)  # the folder that was given, where the study was found in one

    @property
    def name(self) -> str:
        """The name that the user sees. A folder appears by its number, since folders are often named after patients."""
        if is_folder(self.path):
            return f"study {self.number}"
        return shown_name(self.path) + (f" line {self.part}" if self.part else "")

    @property
    def key(self) -> str:
        """The study's id when a run is resumed: a digest of its path from the folder that was given, and of its part."""
        if self.path == "-":
            return "-"
        given = Path(self.root or self.path)  # a file in it may be a link to one elsewhere, so that only this is resolved
        below = Path(Path(os.path.realpath(given)).name, Path(self.path).relative_to(given))
        return hashlib.sha256(f"{below}\n{self.part}".encode(errors="surrogateescape")).hexdigest()[:16]


@dataclass(frozen=True)
class StudyList:
    """Studies in order, and sentences that say what was left out and how to get it."""

    studies: list[StudySource]
    left_out: list[str]


def find_studies(names: Sequence[str]) -> StudyList:
    """Files are studies. The DICOM slices of a folder are one study, its other pictures one each; folders in it likewise.

    A DICOMDIR stands for the files that it lists. Beside slices only DICOM pictures count: other files are previews of them, and
    are named as left out; so is a copy of what another file or folder holds. Raises InputError for a folder that holds neither.
    """
    return _collect(names, _pictures_in)


def find_notes(names: Sequence[str]) -> StudyList:
    """Files are the notes of one visit, or of one on each line; so are the files in a folder that hold notes. "-" is standard input."""
    from medgemma_app.inputs.notes import count_parts

    found = _collect(names, _notes_in)
    parts = [(study, count_parts(study.path) if study.path != "-" else 1) for study in found.studies]
    visits = [replace(study, part=part) for study, count in parts for part in (range(1, count + 1) if count > 1 else [None])]
    return StudyList([replace(visit, number=number) for number, visit in enumerate(visits, 1)], found.left_out)


def _notes_in(_folder: Path, files: Sequence[Path], left_out: list[str]) -> dict[str, object]:
    from medgemma_app.inputs.notes import holds_notes

    held: dict[str, object] = {str(file): os.path.realpath(file) for file in files if holds_notes(file)}
    if others := len(files) - len(held):
        left_out.append(f"{counted(others, 'file')} without notes")
    return held


def _collect(names: Sequence[str], inside: Callable[[Path, Sequence[Path], list[str]], dict[str, object]]) -> StudyList:
    """Collects the studies, each once even if several paths or copies of it are given; each folder is searched once.

    ``inside`` maps the paths of the studies in a folder to what a study and its copies have in common.
    """
    found: dict[object, StudySource] = {}
    left_out: list[str] = []
    copies: list[str] = []
    for name in names:
        listed = inside is _pictures_in and _is_directory_file(name)
        is_file = not listed and (name == "-" or not is_folder(name))
        if is_file:
            held = {StudySource(name): _identity(name) if inside is _pictures_in else os.path.realpath(name)}
        else:
            folders, root = (_listed_in(Path(name), left_out), str(Path(name).parent)) if listed else (walk(Path(name), left_out), name)
            several = (inside(folder, files, left_out).items() for folder, files in folders)
            held = {StudySource(path, root=root): identity for some in several for path, identity in some}
        if not held:
            raise InputError(f"{THE_FOLDER} holds nothing to read; give files, or a folder that holds them")
        for study, identity in held.items():
            first = found.setdefault(identity, study)
            if os.path.realpath(first.path) != os.path.realpath(study.path):
                copies.append("a folder of slices" if is_folder(study.path) else study.name)
            elif is_file and first is not study:
                left_out.append(f"{study.name}, which was already given")
    slices = [identity for identity in found if isinstance(identity, frozenset)]
    for part in [some for some in slices if any(some < others for others in slices)]:  # of the slices of another folder
        del found[part]
        copies.append("a folder of slices")
    if copies:
        left_out.append(f"copies of others (same SOPInstanceUID, or same content): {first_of(copies)}; to have one read, give it alone")
    return StudyList([replace(study, number=number) for number, study in enumerate(found.values(), 1)], list(dict.fromkeys(left_out)))


def walk(folder: Path, left_out: list[str]) -> Iterator[tuple[Path, list[Path]]]:
    """A folder and every folder in it, each once whatever links lead to it, with its visible files in the order of their names.

    Raises InputError when it cannot be read itself; one below it is named in ``left_out``.
    """
    waiting, seen = [folder], set[str]()
    while waiting:
        here = waiting.pop()
        if (real := os.path.realpath(here)) in seen:
            continue
        seen.add(real)
        try:
            files, folders = list_folder(here)
        except InputError as error:
            if here == folder:
                raise
            left_out.append(f"a subfolder that cannot be read: {getattr(error.__cause__, 'strerror', 'unknown reason')}")
            continue
        waiting += reversed(folders)
        yield here, files


def _pictures_in(folder: Path, files: Sequence[Path], left_out: list[str]) -> dict[str, object]:
    """The studies of one folder."""
    kinds = {file: _kind(file) for file in files}
    numbers = Counter(kind for kind, _ in kinds.values())
    slices = frozenset(identity for kind, identity in kinds.values() if kind == "slice")
    wanted = {"picture"} if slices else {"picture", "damaged", "raster"}
    if slices and (beside := [shown_name(file) for file, (kind, _) in kinds.items() if kind == "raster"]):
        why = "which are not DICOM, beside a series of slices; give such pictures by their names to have them read"
        left_out.append(f"{first_of(beside)}, {why}")
    if numbers[None]:
        left_out.append(f"{counted(numbers[None], 'file')} without a picture")
    if numbers["other"]:
        left_out.append(f"{counted(numbers['other'], 'DICOM file')} without a picture of a patient (a report, segmentation or plan)")
    held: dict[str, object] = {str(folder): slices} if slices else {}
    return held | {str(file): identity for file, (kind, identity) in kinds.items() if kind in wanted}


def _kind(file: Path) -> tuple[str | None, object]:
    """What a file holds, recognised by its content, and what it and its copies have in common: ids of DICOM, or all bytes."""
    from medgemma_app.inputs.series import kind_of

    try:
        with file.open("rb") as opened:
            dicom, head = looks_like_dicom(opened), opened.read(12)
            if dicom:
                kind, ids = kind_of(file)
                return kind or ("index" if _is_directory_file(str(file)) else "other"), ids or sha256_of(opened)
            if file.suffix.lower() in PICTURE_ENDINGS or head.startswith(PICTURE_STARTS) or head[:4] + head[8:] == b"RIFFWEBP":
                return "raster", sha256_of(opened)
    except OSError:
        return "damaged", os.path.realpath(file)
    return None, os.path.realpath(file)


def _identity(name: str) -> object:
    """What a picture file and its copies have in common; its path if it cannot be read, which is reported when it is its turn."""
    try:
        if Path(name).is_file():
            return _kind(Path(name))[1]
    except (InputError, OSError, ValueError):
        pass
    return os.path.realpath(name)


def _is_directory_file(name: str) -> bool:
    """True for a DICOMDIR, the index of the files of a CD."""
    try:
        if not Path(name).is_file():
            return False
        with Path(name).open("rb") as file:
            return DIRECTORY_CLASS in file.read(1000)
    except (OSError, ValueError):
        return False


def _listed_in(index: Path, left_out: list[str]) -> Iterator[tuple[Path, list[Path]]]:
    """The folders that a DICOMDIR names, and its files in each."""
    from medgemma_app.inputs.dicom import read_directory

    with open_input(index, what="a DICOMDIR") as opened:
        parts = read_directory(opened, shown_name(index))
    folders: dict[Path, list[Path]] = {}
    missing = 0
    for names in parts:
        file = _below(index.parent, names)
        if file is None:
            missing += 1
        else:
            folders.setdefault(file.parent, []).append(file)
    if missing:
        left_out.append(f"{counted(missing, 'file')} listed in {shown_name(index)} but missing")
    yield from folders.items()


def _below(folder: Path, names: Sequence[str]) -> Path | None:
    """The file at that path, in capitals as in the index, or in lower case as some systems show a CD."""
    if any(not name or name in (".", "..") or "/" in name or "\\" in name for name in names):
        return None
    spellings = (folder.joinpath(*names), folder.joinpath(*(name.lower() for name in names)))
    return next((path for path in spellings if path.is_file()), None)


def read_study(
    source: Picture | Series,
    *,
    pad: bool = True,
    frame: int | None = None,
    window: str | None = None,
    slices: int | None = None,
    series: int | str | None = None,
    several_files: bool = False,
) -> Scan | Series:
    """A picture, or slices, read but not yet shown to a model; see ``read_image`` and ``read_series``.

    Slices come from a folder or, with ``slices``, from a DICOM file with several frames. If the study has ``several_files``,
    ``frame`` may be meant for another of them.
    """
    if isinstance(source, Scan | Series):
        return source
    if isinstance(source, str | Path) and _is_directory_file(str(source)):
        source = _only_study_of(str(source))
    if isinstance(source, str | Path) and is_folder(source):
        if frame is not None:
            raise InputError("a folder is read as a series of slices; name one file of it to choose a frame")
        return _slices(source, slices, pad, window, series)
    try:
        scan = read_image(source, pad=pad, frame=frame, window=window)
    except OnePicture:
        if not several_files:
            raise
        scan = read_image(source, pad=pad, window=window)
    except SeveralPictures:
        if slices is None or not isinstance(source, str | Path):
            raise
        return _slices(source, slices, pad, window, None)
    unused = [option for option, value in (("--slices", slices), ("--series", series)) if value is not None]
    warnings = (f"{scan.facts.get('name', 'the picture')} is a single picture, so {' and '.join(unused)} had no effect",) if unused else ()
    return replace(scan, warnings=(*scan.warnings, *warnings))


def _only_study_of(index: str) -> str:
    """The study that a DICOMDIR lists. Raises InputError where there are several."""
    listed = find_studies([index]).studies
    if len(listed) != 1:
        message = (
            f"{shown_name(index)} lists {len(listed)} studies; give one of its files or folders, or run medgemma findings on the DICOMDIR"
        )
        raise InputError(message)
    return listed[0].path


def _slices(source: str | Path, most: int | None, pad: bool, window: str | None, series: int | str | None) -> Series:
    from medgemma_app.inputs.series import MOST_SLICES, read_series  # of no use to an ordinary picture

    return read_series(source, slices=MOST_SLICES if most is None else most, pad=pad, window=window, series=series)
