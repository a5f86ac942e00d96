"""From the first import to the exit code of ``medgemma serve``."""

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
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from medgemma_app.errors import MedGemmaError
from medgemma_app.notices import DEMO_NOTICE, NOTICE, say
from medgemma_app.serve.access import BindAddress
from medgemma_app.serve.app import build
from medgemma_app.serve.engine import Engine
from medgemma_app.serve.limits import Readers
from medgemma_app.serve.responses import version

MOST_CONNECTIONS, HEADER_SECONDS = 256, 10
TOLD_SECONDS = 60  # between two lines about too many connections
LAST_WORDS = 5  # seconds for saying to clients that their answers are ended
INTERRUPTED = 128 + signal.SIGINT


def serve(model: str, *, revision: str | None, adapter: str | None, address: BindAddress, grace: float, memory: int, progress: bool) -> int:
    """Serves ``model`` until it is told to stop, and for ``grace`` seconds more what then runs; gives the exit code.

    ``memory`` are the bytes that requests may take, see ``limits``. Raises ModelError when the model cannot be loaded.
    """
    readers = Readers(memory)
    with address.listen() as listening, plain_logs():
        say(NOTICE)
        if model == "demo":
            say(DEMO_NOTICE)
        if not address.loopback:
            say(f"other machines can reach {address.host}, unencrypted: put a proxy that speaks TLS before it")
        say(f"loading {model}; listening on {address.url(listening.getsockname()[1])}")
        allow_descriptors()
        engine = Engine(model, revision=revision, adapter=adapter, progress=progress)
        server = Server(engine, readers, address, grace)
        threading.Thread(target=server.announce, args=(model,), daemon=True).start()
        server.run(sockets=[listening])
    if not engine.ended(LAST_WORDS):
        os._exit(server.code)  # it is deep in a pass over a prompt, and a process that leaves under a running thread of mlx aborts
    if server.failure is not None and server.signal is None:
        raise server.failure
    return server.code


def allow_descriptors() -> None:
    """As many open files as the connections need, where the limit can be raised; macOS starts with 256."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_CONNECTIONS + 256
    if soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


class Server(uvicorn.Server):
    """Stops at the first signal, giving what runs time to finish; at the second, at once."""

    def __init__(self, engine: Engine, readers: Readers, address: BindAddress, grace: float) -> None:
        config: dict[str, Any] = {"log_config": None, "access_log": False, "server_header": False, "lifespan": "on", "ws": "none"}
        config["http"] = Connection
        config["headers"] = [("Server", f"medgemma-app/{version()}")]
        # What has not finished is ended after the grace, with an error that says so; uvicorn itself cuts what then still hangs.
        super().__init__(
            uvicorn.Config(
                build(engine, readers, key=address.key, loopback=address.loopback),
                **config,
                timeout_graceful_shutdown=int(grace) + LAST_WORDS,
            )
        )
        self._engine, self._readers, self._grace = engine, readers, grace
        self.signal: int | None = None
        self.failure: MedGemmaError | None = None

    def announce(self, model: str) -> None:
        """Waits for the model; a server without one stops."""
        try:
            self._engine.wait_until_ready()
        except MedGemmaError as error:
            self.failure = error
        finally:
            self.should_exit = self.should_exit or not self._engine.is_ready
        if self.failure is None:
            # mlx-vlm's chat endpoint collects garbage after every answer. Over all that its libraries have loaded this takes 0.2 s
            # here, in which nothing decodes; what is there by now is not looked at again.
            gc.freeze()
            say(f"ready: {model}")

    @property
    def code(self) -> int:
        """The exit code."""
        if self.signal is not None:
            return INTERRUPTED if self.signal == signal.SIGINT else 0
        return 0 if self._engine.is_ready else 1

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Unlike uvicorn's own, does not raise the signal again at the end: the exit code is ours."""
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
    """Closes connections on which no request arrives, and those beyond what the process can hold."""

    _waiting: asyncio.TimerHandle | None = None
    _told = -math.inf

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            self._tell(self.loop.time())
            transport.close()
        self._watch()

    @classmethod
    def _tell(cls, now: float) -> None:
        if now - Connection._told > TOLD_SECONDS:
            Connection._told = now
            say(f"medgemma: {MOST_CONNECTIONS} connections are open; further ones are closed")

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forget()

    def _watch(self) -> None:
        """A request's line and headers may take so long, however often a byte of them comes."""
        if self.conn.their_state is not h11.IDLE:
            self._forget()
        elif self._waiting is None:
            self._waiting = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def _forget(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None


class PlainHandler(logging.Handler):
    """One line a record: what its author wrote, and never what was put into it, which may be words of a patient."""

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0] if record.exc_info else None
        if kind is not None and issubclass(kind, MedGemmaError):
            return  # the client is told, or the user, where it arrives
        said = re.sub(r"%\S", "...", str(record.msg).partition("\n")[0])
        say(f"medgemma: {said}{f' ({kind.__name__})' if kind else ''}")


@contextmanager
def plain_logs() -> Iterator[None]:
    """Errors of uvicorn and mlx-vlm on stderr, and nothing else of theirs."""
    handler = PlainHandler(logging.ERROR)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
