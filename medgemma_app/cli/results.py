"""A JSON-lines file of results that grows by one line per study, survives a crash at any time, and can be continued."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import IO, Any

from medgemma_app.cli.output import json_line
from medgemma_app.errors import OutputError
from medgemma_app.export import reason


@dataclass(frozen=True)
class Done:
    """A study that is already in the file: the exit code of its result, and the hash of its inputs."""

    exit_code: int
    content: str | None


class Results:
    """The file ``path``, open for appending. ``run`` holds the options; a file made with other options is refused.

    ``fresh`` empties the file first. ``done`` maps the ``study_id`` of each study in the file to its result.
    """

    def __init__(self, path: Path, run: Mapping[str, Any], *, fresh: bool = False) -> None:
        self._path, self._run = Path(os.path.realpath(path)), json.loads(json.dumps(run))
        self.done: dict[str, Done] = {}
        try:
            self._file: IO[bytes] = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        except OSError as error:
            raise OutputError(f"cannot write {path.name}: {reason(error)}") from error
        try:
            self._lock(self._file)
            if fresh:
                self._file.truncate(0)
            self._read()
        except OutputError:
            self._file.close()
            raise

    def _lock(self, file: IO[bytes]) -> None:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file.fileno()), self._path.stat()):  # otherwise another run has just replaced the file
                return
        raise OutputError(f"another run is writing {self._path.name}; wait for it, or choose another name")

    def _read(self) -> None:
        """Reads the results in the file. A last line that a crash has cut is removed."""
        whole = 0
        for number, line in enumerate(self._file, 1):
            if not line.endswith(b"\n"):
                break
            self._note(number, line)
            whole += len(line)
        self._file.seek(whole)
        self._file.truncate()

    def _note(self, number: int, line: bytes) -> None:
        try:
            record = json.loads(line)
            study, run, done = record["study_id"], dict(record["run"]), Done(record["exit_code"], record["content"])
        except (ValueError, TypeError, KeyError) as error:
            raise OutputError(f"line {number} of {self._path.name} is not a result of this command; choose another name") from error
        changed = [name for name in self._run | run if self._run.get(name) != run.get(name)]
        if changed:
            others = {"kind": "by another command", "model": "with another model", "pad": "with another value for --no-pad"}
            how = others.get(changed[0], f"with another value for --{changed[0].replace('_', '-')}")
            raise OutputError(f"{self._path.name} was made {how}; use the same options, choose another name, or start again with --force")
        self.done[study] = done

    def drop(self, studies: Container[str]) -> None:
        """Removes the lines of ``studies``, which will be written again."""
        self._file.seek(0)
        kept = [line for line in self._file if json.loads(line)["study_id"] not in studies]
        temporary = self._path.with_name(f".{secrets.token_hex(8)}.part")
        try:
            with open(temporary, "x+b") as file:
                temporary.chmod(stat.S_IMODE(os.fstat(self._file.fileno()).st_mode))
                file.writelines(kept)
                file.flush()
                os.fsync(file.fileno())
                fcntl.flock(file, fcntl.LOCK_EX)
                os.replace(temporary, self._path)
                self._file.close()
                self._file = os.fdopen(os.dup(file.fileno()), "r+b")  # the duplicate keeps the lock
        except OSError as error:
            raise OutputError(f"cannot write {self._path.name}: {reason(error)}") from error
        finally:
            temporary.unlink(missing_ok=True)
        self._file.seek(0, os.SEEK_END)
        self.done = {study: done for study, done in self.done.items() if study not in studies}

    def add(self, record: Mapping[str, Any]) -> None:
        """Appends one line, which is on the disk when this returns."""
        try:
            self._file.write(json_line({**record, "run": self._run}).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise OutputError(f"cannot write {self._path.name}: {reason(error)}") from error

    def close(self) -> None:
        with suppress(OSError):  # a full disk has been reported already
            self._file.close()


def content_hash(path: str, part: int | None, others: Sequence[str] = ()) -> str | None:
    """SHA-256 of a study's inputs: a file or one line of it, or the files of a folder, and ``others``; None if they cannot be read."""
    try:
        digests = [_line_hashes(path, Path(path).stat().st_mtime_ns)[part - 1]] if part else _hashes(path)
        return hashlib.sha256("".join(chain(digests, *map(_hashes, others))).encode()).hexdigest()
    except (OSError, ValueError, IndexError):
        return None


def _hashes(path: str) -> list[str]:
    """Of a file, or of the files of a folder."""
    names = sorted(entry.path for entry in os.scandir(path) if entry.is_file()) if Path(path).is_dir() else [path]
    return [_file_hash(name) for name in names]


def _file_hash(path: str) -> str:
    if not Path(path).is_file():  # reading a pipe would empty it
        raise OSError
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def _line_hashes(path: str, _changed: int) -> list[str]:
    with open(path, "rb") as file:
        return [hashlib.sha256(line).hexdigest() for line in file if line.strip()]
