"""Opens a path that the user gave, or says in one clear line what is wrong with it; recognises its kind; and decodes plain text."""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import sys
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from medgemma_app.errors import InputError

THE_FOLDER = "the folder"  # in messages, instead of its name, which may be a patient's
LARGEST_FILE = 2_000_000_000
PICTURE_STARTS = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"GIF8", b"\0\0\0\x0cjP  ")  # of files, as Pillow reads them
SAVE_AS_TEXT = "save it as text, as DOCX, or as a PDF with text"
_TRANSCRIBE = "transcribe it first, and give the transcript"
# The first bytes of files without text, what they are, and what to do instead.
_BINARY = (
    (PICTURE_STARTS, "a picture", "medgemma findings reads pictures; for a photographed or scanned page, run OCR and give its text"),
    ((b"\xd0\xcf\x11\xe0",), "a document of an old Office version", SAVE_AS_TEXT),
    ((b"ID3", b"\xff\xfb", b"OggS", b"fLaC", b"\x1aE\xdf\xa3"), "a recording", _TRANSCRIBE),
    ((b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!", b"BZh"), "a compressed file", "unpack it, and give the notes in it"),
    ((b"SQLite format 3",), "a database", "export the notes as JSON or text"),
)
# What decoders raise on damaged files. They share no base class, and may be raised late, when a value is first accessed.
DAMAGE = (
    OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, MemoryError,
    AssertionError, struct.error, zlib.error,
)  # fmt: skip
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:(//|\w+/)")


def shown_name(source: str | Path) -> str:
    """The name alone, without its folder, on one line: folders are named after people, and control characters control terminals."""
    name = Path(source).name or str(source)
    return "".join(character if character.isprintable() else "?" for character in name)[:200]


def refuse_url(source: str | Path) -> None:
    """Raises InputError for a web address: nothing is fetched."""
    if isinstance(source, str) and _URL.match(source):
        raise InputError("that is a web address, and nothing is fetched from the web; download the file and give its path")


def is_folder(path: str | Path) -> bool:
    """Whether a path is a folder; False if it cannot be checked, such as a name that is too long."""
    try:
        return Path(path).is_dir()
    except OSError:
        return False


def list_folder(folder: Path) -> tuple[list[Path], list[Path]]:
    """The visible files and the visible folders in a folder, sorted by name. Raises InputError if it cannot be read."""
    try:
        visible = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        return [path for path in visible if path.is_file()], [path for path in visible if path.is_dir()]
    except OSError as error:
        raise InputError(f"{THE_FOLDER} cannot be read: {error.strerror}; give one that you may read") from error


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
        raise InputError(f"a folder was given; give {what}")
    if not path.is_file():
        raise InputError(f"{name} is a pipe or a device; give {what}")
    size = path.stat().st_size
    if size == 0:
        raise InputError(f"{name} is empty; give {what}")
    if size > LARGEST_FILE:
        raise InputError(f"{name} is larger than {LARGEST_FILE // 10**9} GB; give {what} that is smaller")


def looks_like_dicom(file: BinaryIO) -> bool:
    """True for a DICOM file with or without its preamble; leaves the file at its start."""
    head = file.read(132)
    file.seek(0)
    # Without a preamble a file begins with the group (2 or 8) and the element of its first value, in either byte order.
    bare = re.match(rb"[\x02\x08]\x00.\x00|\x00[\x02\x08]\x00", head, re.DOTALL)
    return head[128:] == b"DICM" or bare is not None


def sha256_of(file: BinaryIO) -> str:
    """The SHA-256 of a file's bytes; rewinds the file."""
    file.seek(0)
    digest = hashlib.file_digest(cast(Any, file), "sha256").hexdigest()
    file.seek(0)
    return digest


def digests_in(facts: Mapping[str, Any]) -> dict[str, str]:
    """Maps the SHA-256 of each file that a record's scan or series was read from to its name."""
    files = facts.get("files") or {facts.get("name"): facts.get("sha256")}
    return {digest: name for name, digest in files.items()}


def by_digest(sources: Iterable[str | Path], names: Collection[object]) -> dict[str, Path]:
    """Files by the SHA-256 of their bytes: ``sources``, and for folders the files below them that have one of ``names``.

    Raises InputError for one that cannot be read.
    """
    found: dict[str, Path] = {}
    for source in map(Path, sources):
        below = sorted(path for path in source.rglob("*") if path.is_file() and shown_name(path) in names) if source.is_dir() else [source]
        for path in below:
            with open_input(path, what="the picture that the report is about") as file:
                found.setdefault(sha256_of(file), path)
    return found


def decode_text(raw: bytes, name: str, charset: str = "") -> tuple[str, str]:
    """The text in ``raw``, and a warning where its encoding had to be guessed. Raises InputError for what is not text."""
    refuse_binary(raw, name)
    encoding, warning = charset or json.detect_encoding(raw), ""
    try:
        text = raw.decode("utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding)
    except (UnicodeDecodeError, LookupError) as error:
        text, warning = _western(raw), f"{name} is not UTF-8; it was read as Windows-1252: check its accented letters"
        if encoding.startswith("utf-16") or encoding.startswith("utf-32") or not text:
            line = raw.count(b"\n", 0, getattr(error, "start", 0)) + 1
            raise InputError(f"{name} is not {encoding.upper().removesuffix('-SIG')} text at line {line}; save it as UTF-8 text") from error
    sample = text[:4000]
    if "\0" in sample or len(re.findall(r"[\x01-\x08\x0e-\x1a\x7f]", sample)) * 20 > len(sample):
        raise InputError(f"{name} is not text; give notes as text, JSON, DOCX or PDF")
    return text, warning


def _western(raw: bytes) -> str:
    """The bytes read as Windows-1252; "" if too few of them are letters."""
    try:
        text = raw.decode("cp1252")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    high = [sign for sign in text if sign > "\x7f"]
    likely = [sign for sign in high if sign.isalpha() or sign in "°µ²³±½¼¾·–—‘’“”„…€£§«»´¿¡º®•×÷\xa0"]
    return text if len(likely) * 10 >= len(high) * 9 and len(high) * 3 <= len(text) else ""


def refuse_binary(raw: bytes, name: str) -> None:
    """Raises InputError, which says what to do instead, for kinds of files that hold no text."""
    begins = next(((what, way) for starts, what, way in _BINARY if raw.startswith(starts)), None)
    if raw[128:132] == b"DICM":
        begins = ("DICOM", "medgemma findings reads DICOM pictures")
    elif raw[:4] == b"RIFF" or raw[4:8] == b"ftyp":
        begins = ("a picture", "medgemma findings reads pictures") if raw[8:12] == b"WEBP" else ("a recording", _TRANSCRIBE)
    if begins:
        raise InputError(f"{name} is {begins[0]}, not notes; {begins[1]}")


def document_kind(raw: bytes) -> str:
    """ "PDF", "RTF", "zip" for documents that are not plain text, else ""."""
    if b"%PDF-" in raw[:1024]:
        return "PDF"
    if raw.lstrip()[:6].startswith(b"{\\rtf"):
        return "RTF"
    return "zip" if raw[:4] == b"PK\x03\x04" else ""


def refuse_text(source: str | Path) -> None:
    """Raises InputError for text in place of a path. The message does not repeat it, since it may be a patient's notes."""
    text = str(source)
    is_short = len(text) < 1000 and not re.search(r"[\0\n]", text)
    if not is_short or (not os.path.lexists(text) and re.search(r"\s", text) and not re.search(r"\.[A-Za-z0-9]{1,6}\Z", text)):
        raise InputError("the notes are not the path of a file; if this is the text itself, pass it as text=, or on standard input with -")


def read_standard_input(most: int, what: str = "a notes file") -> bytes:
    """The bytes on standard input, at most ``most``; ``what`` is wanted. Raises InputError where it cannot be read."""
    try:
        return sys.stdin.buffer.read(most)
    except (AttributeError, ValueError, OSError) as error:  # closed, or replaced by something other than a file
        raise InputError(f"standard input cannot be read; give {what}") from error
