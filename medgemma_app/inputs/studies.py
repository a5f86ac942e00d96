"""The arguments of a command -> the studies they name, in order, and what was left out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from medgemma_app.errors import InputError
from medgemma_app.inputs.files import THE_FOLDER, shown_name
from medgemma_app.inputs.images import looks_like_dicom

PICTURES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"}
BEGINNINGS = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"GIF8", b"\0\0\0\x0cjP  ")


@dataclass(frozen=True)
class StudySource:
    """Where a study is read from: a file, a part of one (a line, from 1), a folder of slices, or "-"."""

    path: str
    part: int | None = None
    number: int = 1  # its place among the studies of the command
    root: str | None = field(default=None, repr=False)  # the folder that was given, where the study was found in one

    @property
    def name(self) -> str:
        """What the user is shown. A folder is called by its number: folders are named after patients."""
        if Path(self.path).is_dir():
            return f"study {self.number}"
        return shown_name(self.path) + (f" line {self.part}" if self.part else "")

    @property
    def key(self) -> str:
        """What tells this study from others when a run is resumed: a digest of its path below the folder that was given, and its part."""
        if self.path == "-":
            return "-"
        path = Path(self.path).resolve()
        below = path.relative_to(Path(self.root).resolve()) if self.root else path.name
        return hashlib.sha256(f"{below}\n{self.part}".encode(errors="surrogateescape")).hexdigest()[:16]


@dataclass(frozen=True)
class StudyList:
    """Studies in order, and sentences that say what was left out and how to get it."""

    studies: list[StudySource]
    left_out: list[str]


def find_studies(names: Sequence[str]) -> StudyList:
    """Files are studies. The DICOM slices of a folder are one study, its other pictures one each; folders in it likewise.

    Beside slices only DICOM pictures count: other files are previews of them. Raises InputError for a folder that holds nothing of it.
    """
    return _once(names, _pictures)


def find_notes(names: Sequence[str]) -> StudyList:
    """Files are the notes of one visit each, and so is every JSON file of a folder. "-" is standard input."""
    return _once(names, lambda folder: [str(file) for file in _visible(folder) if file.suffix.lower() == ".json"])


def _once(names: Sequence[str], inside: Callable[[Path], list[str]]) -> StudyList:
    """What is named twice, by whatever path, is one study; folders are looked into."""
    found: dict[Path, StudySource] = {}
    for name in names:
        if name == "-" or not Path(name).is_dir():
            held, root = [name], None
        elif not (held := inside(Path(name))):
            raise InputError(f"{THE_FOLDER} holds nothing to read; give files, or a folder that holds them")
        else:
            root = name
        for path in held:
            found.setdefault(Path(path).resolve(), StudySource(path, root=root))
    return StudyList([replace(study, number=number) for number, study in enumerate(found.values(), 1)], [])


def _pictures(folder: Path) -> list[str]:
    visible = list(_visible(folder))
    kinds = {file: _kind(file) for file in visible if file.is_file()}
    volume = "slice" in kinds.values()
    wanted = {"picture"} if volume else {"picture", "damaged", "raster"}
    pictures = [str(file) for file, kind in kinds.items() if kind in wanted]
    return [str(folder)] * volume + pictures + [name for below in visible if below.is_dir() for name in _pictures(below)]


def _kind(file: Path) -> str | None:
    from medgemma_app.inputs.slices import kind_of

    try:
        with file.open("rb") as opened:
            dicom, head = looks_like_dicom(opened), opened.read(12)
    except OSError:
        return "damaged"
    if dicom:
        return kind_of(file)
    return "raster" if file.suffix.lower() in PICTURES or _begins_like_a_picture(head) else None


def _begins_like_a_picture(head: bytes) -> bool:
    return head.startswith(BEGINNINGS) or head[:4] + head[8:] == b"RIFFWEBP"


def _visible(folder: Path) -> Iterable[Path]:
    try:
        return sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    except OSError as error:
        raise InputError(f"{THE_FOLDER} cannot be read: {error.strerror}; give one that you may read") from error
