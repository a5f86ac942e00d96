"""What Ctrl-C and SIGTERM do. Imported before everything else, so that it imports next to nothing itself."""

from __future__ import annotations

import atexit
import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

CANCELLED = 130
_NUMBERS = (signal.SIGINT, signal.SIGTERM)


def prepare_signals() -> None:
    """From here on both end the command at once, with a line and a documented exit code, unless there is something to save."""
    sys.unraisablehook = _unraisable
    _handle(_leave)
    atexit.register(_handle, signal.SIG_IGN)  # when all is done, the exit code is settled


class interruptible:
    """While there is something to save, a signal raises KeyboardInterrupt; a second one ends the command at once."""

    def __init__(self) -> None:
        self._handler: Any = self._interrupt
        self._came = False

    def __enter__(self) -> None:
        self._before = {number: signal.getsignal(number) for number in _NUMBERS}
        _handle(self._handler)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: Any) -> None:
        for number, handler in self._before.items():
            _set(number, handler)
        if self._came and isinstance(error, Exception) and not hasattr(error, "exit_code"):
            raise KeyboardInterrupt from None  # what a library has made of it

    def _interrupt(self, *_: Any) -> NoReturn:
        self._came = True
        _handle(_leave)
        raise KeyboardInterrupt


class at_once(interruptible):
    """While libraries are imported and a model is loaded, a signal ends the command: they cannot be interrupted in the middle."""

    def __init__(self) -> None:
        super().__init__()
        self._handler = _leave


def _handle(handler: Any) -> None:
    for number in _NUMBERS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup and background jobs of a script have it
            _set(number, handler)


def _set(number: int, handler: Any) -> None:
    try:
        signal.signal(number, handler)
    except ValueError:  # only the main thread may
        return


def _leave(*_: Any) -> NoReturn:
    try:
        os.write(2, b"medgemma: cancelled\n")
    finally:
        os._exit(CANCELLED)


def _unraisable(what: Any) -> None:
    """A signal that arrives while Python frees an object would be printed and lost: it ends the command instead."""
    if isinstance(what.exc_value, KeyboardInterrupt):
        _leave()
    sys.__unraisablehook__(what)
