"""The process: signals (Ctrl-C, SIGTERM), the standard streams, and how errors become exit codes. The user never sees a traceback.

``prepare_signals`` runs before everything else, so this file imports as little as possible at its top.
"""

from __future__ import annotations

import atexit
import io
import os
import signal
import sys
from contextlib import contextmanager, suppress

from medgemma_app.errors import InputError, MedGemmaError, OutputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from typing import Any, NoReturn

CANCELLED = 130
CLOSED = "standard output is closed; name a file with --output"
_NUMBERS = (signal.SIGINT, signal.SIGTERM)


def prepare_signals() -> None:
    """Makes both signals end the command at once, with one line and exit code 130, except where ``interruptible`` is in use."""
    sys.unraisablehook = _unraisable
    _handle(_leave)
    atexit.register(_handle, signal.SIG_IGN)  # at the end the exit code must not change


@contextmanager
def interruptible() -> Iterator[None]:
    """Inside this block a signal raises KeyboardInterrupt, so that results can be saved; a second one ends the command at once."""
    came = False

    def interrupt(*_: Any) -> NoReturn:
        nonlocal came
        came = True
        _handle(_leave)
        raise KeyboardInterrupt

    with _handling(interrupt):
        try:
            yield
        except Exception as error:
            if came and not isinstance(error, MedGemmaError):
                raise KeyboardInterrupt from None  # a library has turned it into another error
            raise


def at_once() -> AbstractContextManager[None]:
    """Inside this block a signal ends the command at once, since loading libraries and models cannot be interrupted."""
    return _handling(_leave)


@contextmanager
def _handling(handler: Any) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in _NUMBERS}
    _handle(handler)
    try:
        yield
    finally:
        for number, earlier in before.items():
            _set(number, earlier)


def _handle(handler: Any) -> None:
    for number in _NUMBERS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup and background jobs of a shell ignore it
            _set(number, handler)


def _set(number: int, handler: Any) -> None:
    with suppress(ValueError):  # only the main thread may
        signal.signal(number, handler)


def _leave(*_: Any) -> NoReturn:
    try:
        os.write(2, b"medgemma: cancelled\n")
    finally:
        os._exit(CANCELLED)


def _unraisable(what: Any) -> None:
    """Ends the command for a signal that arrives while Python frees an object; it would otherwise be printed and lost."""
    if isinstance(what.exc_value, KeyboardInterrupt):
        _leave()
    sys.__unraisablehook__(what)


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
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that the final flush does not fail again
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
    from medgemma_app.notices import say

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
    except OSError as error:  # unexpected errors of a path, such as a name of 300 letters
        say(f"medgemma: {error.strerror or type(error).__name__}; check the names of the given files and folders")
        raise SystemExit(InputError.exit_code) from None


def leave(code: int) -> NoReturn:
    """Ends the process. A cancelled command does not wait for its threads."""
    if code == CANCELLED:
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)
