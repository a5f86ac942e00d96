"""A path the user gave -> an open file that is safe to read, or one clear line about what is wrong; and what kind of file it is."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from medgemma_app.errors import InputError

THE_FOLDER = "the folder"  # what messages call it: its name may be a patient's
LARGEST_FILE = 2_000_000_000
PICTURE_STARTS = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"GIF8", b"\0\0\0\x0cjP  ")  # of files, as Pillow reads them
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:(//|\w+/)")


def shown_name(source: str | Path) -> str:
    """The name alone, without its folder, on one line: folders are named after people, and control characters control terminals."""
    name = Path(source).name or str(source)
    return "".join(character if character.isprintable() else "?" for character in name)[:200]


def refuse_url(source: str | Path) -> None:
    """Raises InputError for an address: pictures and notes never leave or enter over the network."""
    if isinstance(source, str) and _URL.match(source):
        raise InputError("that is an address, and nothing is fetched: download it yourself and give the file's path")


@contextmanager
def open_input(source: str | Path, *, what: str) -> Iterator[BinaryIO]:
    """``source`` opened for reading; ``what`` names the wanted thing in messages ("one picture").

    Raises InputError when it is missing, a folder, a pipe or device, empty, larger than 2 GB, or unreadable.
    """
    name = shown_name(source)
    try:
        refuse_bad_path(Path(source), name, what)
        file = Path(source).open("rb")  # noqa: SIM115 - closed below, outside this try
    except ValueError as error:  # a NUL or an unencodable character in the path itself
        raise InputError(f"{name} is not a path; give {what}") from error
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror}; give {what} that you may read") from error
    with file:
        yield file


def refuse_bad_path(path: Path, name: str, what: str) -> None:
    """Raises InputError for what is not a regular file of a sensible size, OSError where its size cannot be read."""
    if not path.exists():
        raise InputError(f"{name} does not exist; check the path")
    if path.is_dir():
        raise InputError(f"what was given is a folder; give {what}")
    if not path.is_file():
        raise InputError(f"{name} is a pipe or a device; give {what}")
    size = path.stat().st_size
    if size == 0:
        raise InputError(f"{name} is empty; give {what}")
    if size > LARGEST_FILE:
        raise InputError(f"{name} is larger than {LARGEST_FILE // 10**9} GB; give {what} that is smaller")


def looks_like_dicom(file: BinaryIO) -> bool:
    """True for a DICOM file with its preamble, and for one that lost it; leaves the file at its start."""
    head = file.read(132)
    file.seek(0)
    # Without a preamble a file begins with the group (2 or 8) and the element of its first value, in either byte order.
    bare = re.match(rb"[\x02\x08]\x00.\x00|\x00[\x02\x08]\x00", head, re.DOTALL)
    return head[128:] == b"DICM" or bare is not None


def sha256_of(file: BinaryIO) -> str:
    """The digest of a file's bytes; leaves the file at its start."""
    file.seek(0)
    digest = hashlib.file_digest(cast(Any, file), "sha256").hexdigest()
    file.seek(0)
    return digest
