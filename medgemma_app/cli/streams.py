"""Standard streams and errors: whatever fails while the command runs, the user sees no traceback."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from medgemma_app.cli.signals import CANCELLED
from medgemma_app.errors import InputError, MedGemmaError, OutputError
from medgemma_app.notices import say

CLOSED = "standard output is closed; name a file with --output"


class Stdout(io.TextIOWrapper):
    """Standard output. A failed write is an OutputError; if the reader has closed the pipe (``| head``), the command ends quietly."""

    is_missing = False  # True if it was closed when the command started

    def write(self, text: str) -> int:
        if self.is_missing:
            raise OutputError(CLOSED)
        with self._failures():
            return super().write(text)

    def flush(self) -> None:
        with self._failures():
            super().flush()

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that flushing the buffer does not fail again
            if isinstance(error, BrokenPipeError):
                raise SystemExit(0) from None
            raise OutputError(f"cannot write to standard output: {error.strerror}; name a file with --output") from None


class Stderr(io.TextIOWrapper):
    """Standard error. A failed write is ignored."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def prepare_streams() -> None:
    """Opens standard streams that are closed, and replaces Python's stdout and stderr by Stdout and Stderr."""
    missing = [number for number in range(3) if not _is_open(number)]
    for _ in missing:
        os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    if 0 in missing:
        sys.stdin = os.fdopen(0, closefd=False)
    out, err = (getattr(stream, "encoding", None) or "utf-8" for stream in (sys.stdout, sys.stderr))
    sys.stdout = Stdout(os.fdopen(1, "wb", closefd=False), out, "replace", line_buffering=os.isatty(1))
    sys.stdout.is_missing = 1 in missing
    sys.stderr = Stderr(os.fdopen(2, "wb", closefd=False), err, "backslashreplace", line_buffering=True)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


@contextmanager
def errors_become_exit_codes() -> Iterator[None]:
    """Turns an error into one line on standard error and the exit code of its class."""
    try:
        yield
    except KeyboardInterrupt:
        say("medgemma: cancelled")
        raise SystemExit(CANCELLED) from None
    except MedGemmaError as error:
        if isinstance(error.__cause__, OutputError):  # standard output failed while the answer was being printed
            error = error.__cause__
        say("medgemma: cancelled" if error.exit_code == CANCELLED else f"medgemma: {error}")
        raise SystemExit(error.exit_code) from None
    except OSError as error:  # what no reader expects of a path, such as a name of 300 letters
        say(f"medgemma: {error.strerror or type(error).__name__}; check the names of the files and folders that were given")
        raise SystemExit(InputError.exit_code) from None


def leave(code: int) -> NoReturn:
    """Ends the process. A cancelled command does not wait for its threads."""
    if code == CANCELLED:
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)
