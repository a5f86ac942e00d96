"""The arguments of a command -> the studies they name, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from medgemma_app.errors import InputError
from medgemma_app.inputs.files import shown_name
from medgemma_app.inputs.images import looks_like_dicom

PICTURES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"}


def find_studies(names: Sequence[str]) -> list[str]:
    """Files are studies. A folder is one study where it holds DICOM; else its pictures are one each, its folders likewise.

    Raises InputError for a folder that holds neither.
    """
    return _once(names, _pictures)


def find_notes(names: Sequence[str]) -> list[str]:
    """Files are the notes of one visit each, and so is every JSON file of a folder. "-" is standard input."""
    return _once(names, lambda folder: [str(file) for file in _visible(folder) if file.suffix.lower() == ".json"])


def _once(names: Sequence[str], inside: Callable[[Path], list[str]]) -> list[str]:
    """What is named twice is one study; folders are looked into."""
    found: list[str] = []
    for name in names:
        if name == "-" or not Path(name).is_dir():
            found.append(name)
        elif not (held := inside(Path(name))):
            raise InputError(f"the folder {shown_name(name)} holds nothing to read; give files, or a folder that holds them")
        else:
            found += held
    return list(dict.fromkeys(found))


def _pictures(folder: Path) -> list[str]:
    files = [file for file in _visible(folder) if file.is_file()]
    if any(_is_dicom(file) for file in files):
        return [str(folder)]
    pictures = [str(file) for file in files if file.suffix.lower() in PICTURES]
    return pictures + [name for below in _visible(folder) if below.is_dir() for name in _pictures(below)]


def _is_dicom(file: Path) -> bool:
    with file.open("rb") as opened:
        return looks_like_dicom(opened)


def _visible(folder: Path) -> Iterable[Path]:
    try:
        return sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    except OSError as error:
        raise InputError(f"the folder {shown_name(folder)} cannot be read: {error.strerror}") from error
