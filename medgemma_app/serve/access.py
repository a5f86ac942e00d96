"""Where the server listens and who may ask it: settled before a request's body is read."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from medgemma_app.errors import InputError, OptionError
from medgemma_app.remote.endpoint import KEY_VARIABLE, check_key, read_key

if TYPE_CHECKING:
    from starlette.datastructures import Headers
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = {"127.0.0.1", "localhost", "::1"}


@dataclass(frozen=True, kw_only=True)
class BindAddress:
    """Where to listen. Raises OptionError where others could reach a server that asks for no key."""

    host: str
    port: int
    key: str | None

    def __post_init__(self) -> None:
        if self.key is not None:
            check_key(self.key, "--api-key")
        if not self.loopback and self.key is None:
            raise OptionError(
                f"--host {self.host} lets other machines ask; set {KEY_VARIABLE} to a key that they must send, or give --api-key-file"
            )

    @property
    def loopback(self) -> bool:
        return self.host in LOOPBACK

    def listen(self) -> socket.socket:
        """An open port, before a model is loaded for it."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        # With its protocol named, asyncio sets TCP_NODELAY on every connection: without it an answer waits 40 ms for the client's ACK.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((self.host, self.port))
            listening.listen(128)
            return listening
        except (OSError, OverflowError) as error:
            listening.close()
            reason = error.strerror if isinstance(error, OSError) else "no such port"
            raise InputError(f"cannot listen on {self.host} port {self.port}: {reason}; choose another --port or --host") from error

    def url(self, port: int) -> str:
        """Of the ``port`` that is really listened on."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{port}"


def chosen_key(given: str | None, file: Path | None) -> str | None:
    """The key on the command line or in ``file``, else that of the environment; None without one. Raises InputError, OptionError."""
    if given is None:
        return read_key(file)
    if file is not None:
        raise OptionError("--api-key and --api-key-file both name a key; give one of them")
    return given


AT_END = "medgemma_app.at_end"  # where a request's scope keeps what is to be called when it has ended, however it did
OPEN = {"/health", "/ready", "/"}  # and what the page is made of, below /page/
LOADING_SECONDS = 5


@dataclass
class Guard:
    """Lets a request through to ``app``, or refuses it.

    ``loopback`` says that only this machine is listened to: then a Host or an Origin of another name is a web page that has made
    the browser call here (DNS rebinding). ``key`` None asks for none.
    """

    app: ASGIApp
    ready: Callable[[], bool]
    key: str | None
    loopback: bool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from starlette.datastructures import Headers

        from medgemma_app.serve.responses import LAST, STOPPED, Refused, refusal
        from medgemma_app.serve.transfer import drained

        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            self._check(scope["path"], Headers(scope=scope))
        except Refused as refused:
            await drained(receive)
            await refusal(refused)(scope, receive, send)
            return
        scope[AT_END], begun = [], False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except asyncio.CancelledError:  # by uvicorn, which has waited for what runs long enough
            if not begun:
                await refusal(Refused(503, STOPPED, headers=LAST))(scope, receive, send)
        finally:
            for end in scope[AT_END]:
                end()

    def _check(self, path: str, headers: Headers) -> None:
        from medgemma_app.serve.responses import Refused

        if not self._same_place(headers):
            raise Refused(403, "this server answers programs on its own machine, by the name 127.0.0.1 or localhost")
        if path in OPEN or path.startswith("/page/"):
            return
        if self.key is not None and not self._has_key(headers):
            raise Refused(401, "the key is missing or wrong; send it as Authorization: Bearer KEY", headers={"WWW-Authenticate": "Bearer"})
        if not self.ready():
            raise Refused(503, "the model is still being loaded; ask again", retry_after=LOADING_SECONDS)

    def _same_place(self, headers: Headers) -> bool:
        """True unless a browser was led here by a page from elsewhere."""
        host, origin = _name(f"//{headers.get('host', '')}"), headers.get("origin")
        if self.loopback:
            return host in LOOPBACK and (origin is None or _name(origin) in LOOPBACK)
        return origin is None or _name(origin) == host

    def _has_key(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        same = secrets.compare_digest(given.strip().encode(), (self.key or "").encode())
        return scheme.lower() == "bearer" and same


def _name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
