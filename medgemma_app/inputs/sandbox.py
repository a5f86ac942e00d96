"""Reads an input in a process of its own, with limited time and memory, which can be ended at any moment.

A file of a few kilobytes can keep a decoder busy for an hour or make it allocate gigabytes, and no thread can be stopped inside C code.
"""

from __future__ import annotations

import importlib
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, TypeVar

from medgemma_app.errors import InputError, MedGemmaError

T = TypeVar("T")
START_SECONDS = 60
KEPT_BYTES = 64 << 20  # a process that has grown by more than this is replaced, so that its memory goes back


class TooMuch(InputError):
    """Reading the input takes more time or memory than is allowed."""


class Ended(Exception):
    """The process was ended from elsewhere."""


class Sandbox:
    """One process, for one input at a time. It starts with the first call, or with ``start``, and imports ``modules`` first.

    ``memory`` limits the further bytes that it may take, if the operating system can (Linux can; macOS cannot).
    """

    def __init__(self, memory: int, modules: tuple[str, ...] = ()) -> None:
        self._memory, self._modules = memory, modules
        self._changing = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None

    def start(self) -> None:
        """Starts the process, unless it is running. ``call`` also does this."""
        with self._changing:
            if self._process is None or self._process.poll() is not None:
                self._end()
                self._start()

    def _start(self) -> None:
        self._pipe, theirs = Pipe()
        code = f"from medgemma_app.inputs.sandbox import work; work({theirs.fileno()}, {self._memory}, {self._modules!r})"
        paths = os.pathsep.join(path for path in sys.path if path) or os.curdir
        nowhere = subprocess.DEVNULL
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=nowhere, stdout=nowhere, stderr=nowhere, pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": paths}, start_new_session=True,
        )  # fmt: skip
        theirs.close()

    def call(self, function: Callable[..., T], raw: bytes | bytearray, *arguments: Any, seconds: float, last_try: bool = True) -> T:
        """What ``function(raw, *arguments)`` returns or raises in the process. Raises TooMuch, and Ended after ``end``.

        Unless this is the ``last_try``, a decoder's error counts as TooMuch, since it may have been caused by a lack of memory.
        """
        self.start()
        if (pipe := self._pipe) is None:
            raise Ended
        try:
            if not pipe.poll(START_SECONDS):
                raise EOFError
            pipe.recv_bytes()  # it is ready
            pipe.send((function, arguments, last_try))
            pipe.send_bytes(raw)
            if not pipe.poll(seconds):
                self.end()
                raise TooMuch(f"reading the input takes more than {seconds:g} s; export it again in a simpler form")
            value, error, has_grown = pipe.recv()
        except (EOFError, OSError):
            if self._pipe is not pipe:
                raise Ended from None
            self.end()
            raise _out_of_memory() from None  # nothing else ends the process
        if has_grown:
            self.end()
        if error is not None:
            raise error
        result: T = value
        return result

    def end(self) -> None:
        """Ends the process, and with Ended the call that waits for it."""
        with self._changing:
            self._end()

    def _end(self) -> None:
        process, self._process, self._pipe = self._process, None, None
        if process is not None:
            process.kill()
            process.wait()


def _out_of_memory() -> TooMuch:
    return TooMuch("reading the input takes more memory than is allowed; export it smaller")


def work(descriptor: int, memory: int, modules: tuple[str, ...]) -> None:
    """The main loop of the process, which ends with its parent."""
    for module in modules:
        importlib.import_module(module)
    _bound(memory)
    before = _resident()
    # Without memory for the input itself, the process ends, since what is left in the pipe must never be taken for a message.
    with Connection(descriptor) as pipe, suppress(EOFError, OSError, MemoryError):
        while True:
            pipe.send_bytes(b"")  # ready
            function, arguments, last_try = pipe.recv()
            value, error = _attempt(function, [pipe.recv_bytes()], arguments, last_try)
            pipe.send((value, error, _resident() - before > KEPT_BYTES))


def _attempt(function: Callable[..., Any], raw: list[bytes], arguments: tuple[Any, ...], last_try: bool) -> tuple[Any, Exception | None]:
    """The value or the error of one call. ``raw`` is handed over in a list, so that the function can release it."""
    try:
        return function(raw.pop(), *arguments), None
    except MemoryError:
        return None, _out_of_memory()
    except MedGemmaError as error:
        cause = error.__cause__
        is_short = isinstance(cause, MemoryError) or not (last_try or cause is None)
        return None, _out_of_memory() if is_short else error
    except Exception as error:  # noqa: BLE001 - its message may quote the input
        return None, RuntimeError(f"reading failed ({type(error).__name__})")


def _bound(memory: int) -> None:
    with suppress(OSError, ValueError):
        limit = _statm(5) + memory
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _resident() -> int:
    """Bytes in memory now; on macOS, the most there ever were."""
    try:
        return _statm(1)
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _statm(field: int) -> int:
    return int(Path("/proc/self/statm").read_text().split()[field]) * resource.getpagesize()
