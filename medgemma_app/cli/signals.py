"""What Ctrl-C and SIGTERM do. This is imported before everything else, and so imports as little as possible."""

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
    """Makes both signals end the command at once, with one line and exit code 130, except where ``interruptible`` is in use."""
    sys.unraisablehook = _unraisable
    _handle(_leave)
    atexit.register(_handle, signal.SIG_IGN)  # at the end the exit code must not change


class interruptible:
    """Inside this block a signal raises KeyboardInterrupt, so that results can be saved; a second one ends the command at once."""

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
            raise KeyboardInterrupt from None  # a library has turned it into another error

    def _interrupt(self, *_: Any) -> NoReturn:
        self._came = True
        _handle(_leave)
        raise KeyboardInterrupt


class at_once(interruptible):
    """Inside this block a signal ends the command at once, since loading libraries and models cannot be interrupted."""

    def __init__(self) -> None:
        super().__init__()
        self._handler = _leave


def _handle(handler: Any) -> None:
    for number in _NUMBERS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup and background jobs of a shell ignore it
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
    """Ends the command for a signal that arrives while Python frees an object; it would otherwise be printed and lost."""
    if isinstance(what.exc_value, KeyboardInterrupt):
        _leave()
    sys.__unraisablehook__(what)
