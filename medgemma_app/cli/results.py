"""A JSON-lines file of results that grows by one line a study, survives a crash at any moment, and can be gone on with."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import IO, Any

from medgemma_app.errors import OutputError


class Results:
    """``path``, opened to append. ``done`` names every study that is in it already, with the exit code of its result."""

    def __init__(self, path: Path, *, kind: str, model: str, resume: bool) -> None:
        self._path, self._origin = path, (kind, model)
        self.done: dict[str, int] = {}
        if path.exists() and path.stat().st_size and not resume:
            raise OutputError(f"--output {path.name} has results already; go on with them by --resume, or give another name")
        try:
            self._file: IO[bytes] = path.open("r+b" if path.exists() else "w+b")
        except OSError as error:
            raise OutputError(f"cannot write {path.name}: {error.strerror}") from error
        try:
            self._take_up()
        except OutputError:
            self._file.close()
            raise

    def _take_up(self) -> None:
        """Reads what is there. A last line that a crash has cut is taken back."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OutputError(f"another run is writing {self._path.name}; wait for it, or give another name") from error
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
            study, code, origin = record["study"], record["exit_code"], (record["kind"], record["model"]["id"])
        except (ValueError, TypeError, KeyError) as error:
            raise OutputError(f"line {number} of {self._path.name} is no result of this command; give another name") from error
        if origin != self._origin:
            raise OutputError(f"{self._path.name} holds results of another command or model; give another name")
        self.done[study] = code

    def add(self, record: dict[str, Any]) -> None:
        """One line, on the disk before this returns."""
        line = json.dumps(record, ensure_ascii=False).encode(errors="replace") + b"\n"
        try:
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise OutputError(f"cannot write {self._path.name}: {error.strerror}") from error

    def close(self) -> None:
        self._file.close()
