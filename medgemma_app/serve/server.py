"""From the first import to the exit code of ``medgemma serve``."""

from __future__ import annotations

import gc
import logging
import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn

from medgemma_app.errors import MedGemmaError
from medgemma_app.notices import DEMO_NOTICE, NOTICE, say
from medgemma_app.serve.access import BindAddress
from medgemma_app.serve.app import build
from medgemma_app.serve.engine import Engine
from medgemma_app.serve.responses import version

LAST_WORDS = 5  # seconds for saying to clients that their answers are ended
INTERRUPTED = 128 + signal.SIGINT


def serve(model: str, *, revision: str | None, adapter: str | None, place: BindAddress, grace: float, progress: bool) -> int:
    """Serves ``model`` until it is told to stop, and for ``grace`` seconds more what then runs; gives the exit code.

    Raises ModelError when it cannot be loaded.
    """
    with place.listen() as listening, plain_logs():
        say(NOTICE)
        if model == "demo":
            say(DEMO_NOTICE)
        if not place.loopback:
            say(f"other machines can reach {place.host}, unencrypted: put a proxy that speaks TLS before it")
        say(f"loading {model}; listening on {place.url(listening.getsockname()[1])}")
        engine = Engine(model, revision=revision, adapter=adapter, progress=progress)
        server = Server(engine, place, grace)
        threading.Thread(target=server.announce, args=(model,), daemon=True).start()
        server.run(sockets=[listening])
    if not engine.ended(LAST_WORDS):
        os._exit(server.code)  # it is deep in a pass over a prompt, and a process that leaves under a running thread of mlx aborts
    if server.failure is not None and server.signal is None:
        raise server.failure
    return server.code


class Server(uvicorn.Server):
    """Stops at the first signal, giving what runs time to finish; at the second, at once."""

    def __init__(self, engine: Engine, place: BindAddress, grace: float) -> None:
        config: dict[str, Any] = {"log_config": None, "access_log": False, "server_header": False, "lifespan": "on", "ws": "none"}
        config["headers"] = [("Server", f"medgemma-app/{version()}")]
        # What has not finished is ended after the grace, with an error that says so; uvicorn itself cuts what then still hangs.
        super().__init__(
            uvicorn.Config(
                build(engine, key=place.key, loopback=place.loopback), **config, timeout_graceful_shutdown=int(grace) + LAST_WORDS
            )
        )
        self._engine, self._grace = engine, grace
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
        ending = threading.Timer(self._grace, self._engine.stop)
        ending.daemon = True
        ending.start()


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
