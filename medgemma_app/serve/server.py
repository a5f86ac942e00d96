"""The process of ``medgemma serve``: start, connections, signals, exit code, logs."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import os
import re
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from medgemma_app import __version__
from medgemma_app.errors import MedGemmaError
from medgemma_app.notices import DEMO_NOTICE, NOTICE, say
from medgemma_app.serve.access import BindAddress
from medgemma_app.serve.app import build
from medgemma_app.serve.engine import Engine
from medgemma_app.serve.limits import Readers

MOST_CONNECTIONS, HEADER_SECONDS = 256, 10
WARNING_SECONDS = 60  # between two warnings about too many connections
CLOSING_SECONDS = 5  # for the error responses to requests that are still running after the grace period
INTERRUPTED = 128 + signal.SIGINT


def serve(model: str, *, revision: str | None, adapter: str | None, address: BindAddress, grace: float, memory: int, progress: bool) -> int:
    """Serves ``model`` until a signal, after which running requests have ``grace`` seconds to finish; returns the exit code.

    ``memory`` is the number of bytes that requests may take, see ``limits``. Raises ModelError when the model cannot be loaded.
    """
    readers = Readers(memory)
    with address.listen() as listening, plain_logs():
        say(NOTICE)
        if model == "demo":
            say(DEMO_NOTICE)
        if not address.loopback:
            say(f"other machines can reach {address.host}, and connections are not encrypted: use a TLS proxy in front of it")
        say(f"loading {model}; listening on {address.url(listening.getsockname()[1])}")
        allow_descriptors()
        engine = Engine(model, revision=revision, adapter=adapter, progress=progress)
        server = Server(engine, readers, address, grace)
        threading.Thread(target=server.announce, args=(model,), daemon=True).start()
        server.run(sockets=[listening])
    if not engine.ended(CLOSING_SECONDS):
        os._exit(server.code)  # mlx is still reading a prompt, and would abort the process at a normal exit
    if server.failure is not None and server.signal is None:
        raise server.failure
    return server.code


def allow_descriptors() -> None:
    """Raises the limit on open files to what the connections need; on macOS it is 256 by default."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_CONNECTIONS + 256
    if soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


class Server(uvicorn.Server):
    """Stops at the first signal, giving running requests time to finish; at the second signal it stops at once."""

    def __init__(self, engine: Engine, readers: Readers, address: BindAddress, grace: float) -> None:
        config = uvicorn.Config(
            build(engine, readers, key=address.key, loopback=address.loopback),
            http=Connection,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            headers=[("Server", f"medgemma-app/{__version__}")],
            # After the grace period unfinished requests get an error response; uvicorn then cuts off whatever still hangs.
            timeout_graceful_shutdown=int(grace) + CLOSING_SECONDS,
        )
        super().__init__(config)
        self._engine, self._readers, self._grace = engine, readers, grace
        self.signal: int | None = None
        self.failure: MedGemmaError | None = None

    def announce(self, model: str) -> None:
        """Waits for the model, and stops the server where it cannot be loaded."""
        try:
            self._engine.wait_until_ready()
        except MedGemmaError as error:
            self.failure = error
        finally:
            self.should_exit = self.should_exit or not self._engine.is_ready
        if self.failure is None:
            gc.freeze()  # else a collection looks at all objects of the libraries: up to 0.7 s in which nothing is answered
            say(f"ready: {model}")

    @property
    def code(self) -> int:
        """The exit code."""
        if self.signal is not None:
            return INTERRUPTED if self.signal == signal.SIGINT else 0
        return 0 if self._engine.is_ready else 1

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Unlike uvicorn's own, does not raise the signal again at the end, since the exit code is decided here."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            os._exit(128 + sig)
        self.signal, self.should_exit = sig, True
        ending = threading.Timer(self._grace, self._end)
        ending.daemon = True
        ending.start()

    def _end(self) -> None:
        self._engine.stop()
        self._readers.stop()


class Connection(H11Protocol):
    """Closes connections on which no request arrives, and those beyond MOST_CONNECTIONS."""

    _waiting: asyncio.TimerHandle | None = None
    _warned = -math.inf

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            if (now := self.loop.time()) - Connection._warned > WARNING_SECONDS:
                Connection._warned = now
                say(f"medgemma: {MOST_CONNECTIONS} connections are open; further ones are closed")
            transport.close()
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forget()

    def _watch(self) -> None:
        """Closes the connection where the request line and headers take longer than HEADER_SECONDS in all."""
        if self.conn.their_state is not h11.IDLE:
            self._forget()
        elif self._waiting is None:
            self._waiting = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def _forget(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None


class PlainHandler(logging.Handler):
    """One line per record: its format string without the arguments, which may hold a patient's data."""

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0] if record.exc_info else None
        if kind is not None and issubclass(kind, MedGemmaError):
            return  # it is reported to the client or the user elsewhere
        template = re.sub(r"%\S", "...", str(record.msg).partition("\n")[0])
        say(f"medgemma: {template}{f' ({kind.__name__})' if kind else ''}")


@contextmanager
def plain_logs() -> Iterator[None]:
    """Shows errors of uvicorn and mlx-vlm on stderr, and none of their other messages."""
    handler = PlainHandler(logging.ERROR)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
