"""The address that the server listens on, who may send requests, and the error responses.

An error response never repeats the text of notes, prompts or messages.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from medgemma_app.errors import ContextError, InputError, MedGemmaError, OptionError
from medgemma_app.model.generation import GenerationError
from medgemma_app.remote.endpoint import KEY_VARIABLE, check_key, is_loopback, read_key

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST_REQUEST = 64_000_000
PATIENCE = 10.0  # seconds


@dataclass(frozen=True, kw_only=True)
class BindAddress:
    """The address to listen on. Raises OptionError where other machines could reach a server that needs no key."""

    host: str
    port: int
    key: str | None

    def __post_init__(self) -> None:
        if self.key is not None:
            check_key(self.key, "--api-key")
        if not self.loopback and self.key is None:
            raise OptionError(
                f"--host {self.host} can be reached from other machines, so a key is needed: set {KEY_VARIABLE}, or give --api-key-file"
            )

    @property
    def loopback(self) -> bool:
        return is_loopback(self.host)

    def listen(self) -> socket.socket:
        """The listening socket, opened before a model is loaded. Raises InputError where the address cannot be used."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        # asyncio sets TCP_NODELAY only where the protocol is named; without it a response can wait 40 ms for the client's ACK.
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
        """The server's URL, given the ``port`` it really listens on."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{port}"


def chosen_key(given: str | None, file: Path | None) -> str | None:
    """The key on the command line or in ``file``, else the one in the environment, else None. Raises InputError, OptionError."""
    if given is None:
        return read_key(file)
    if file is not None:
        raise OptionError("give only one of --api-key and --api-key-file")
    return given


LAST = {"Connection": "close"}
GONE = 499  # what nginx logs when the client has disconnected; nobody receives it
SERVER_STOPPED = "the server stopped before the answer was complete; try again when it is running"
STARLETTE_DETAILS = {"Not Found", "Method Not Allowed"}  # of the router's own errors
ROUTER_ERRORS = {404: "there is no such route; /openapi.json lists them all", 405: "this route takes another method; see /openapi.json"}


class NotReadable(InputError):
    """The body does not match its content type."""


class Refused(HTTPException):
    """A request that is refused with ``status``. ``retry_after`` is in seconds."""

    def __init__(self, status: int, message: str, *, retry_after: int | None = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, message, headers if retry_after is None else {"Retry-After": str(retry_after)})


def error_response(error: HTTPException | MedGemmaError) -> JSONResponse:
    """The response to an error, with a body like that of OpenAI's own errors: one line that says what to do."""
    if isinstance(error, HTTPException):
        status, headers = error.status_code, error.headers
        message = ROUTER_ERRORS.get(status, str(error.detail)) if error.detail in STARLETTE_DETAILS else str(error.detail)
    else:
        status, message, headers = status_of(error), str(error), None
    return JSONResponse(error_body(message, status), status, headers)


def status_of(error: MedGemmaError) -> int:
    """400 for a body that cannot be parsed or a prompt that is too long, 422 for other bad input, 503 for a failed generation, else 500."""
    if isinstance(error, ContextError | NotReadable):
        return 400
    return 422 if isinstance(error, InputError) else 503 if isinstance(error, GenerationError) else 500


def error_body(message: str, status: int) -> dict[str, Any]:
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "code": status}}


async def handle_error(_: Request, error: Exception) -> JSONResponse:
    """The exception handler that FastAPI is given."""
    assert isinstance(error, HTTPException | MedGemmaError)
    return error_response(error)


AT_END = "medgemma_app.at_end"  # key in a request's scope: functions that are called when the request has ended, however it ended
KEYLESS_ROUTES = {"/health", "/ready", "/", "/openapi.json"}  # routes that need no key; the page's files below /page/ need none either
LOADING_SECONDS = 5


async def drained(receive: Receive) -> None:
    """Reads what a refused client is still sending, up to a limit, since closing the connection at once would lose the refusal."""
    size = 0
    try:
        async with asyncio.timeout(PATIENCE):
            while size <= LARGEST_REQUEST:
                message = await receive()
                size += len(message.get("body", b""))
                if not message.get("more_body"):
                    return
    except TimeoutError:
        return


@dataclass
class Guard:
    """Passes a request on to ``app``, or refuses it.

    With ``loopback`` the server can be reached from this machine only. A Host or Origin header that names another machine then
    comes from a web page that made the browser send the request (DNS rebinding). With ``key`` None no key is needed.
    """

    app: ASGIApp
    ready: Callable[[], bool]
    key: str | None
    loopback: bool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            self._check(scope["path"], Headers(scope=scope))
        except Refused as refused:
            await drained(receive)
            await error_response(refused)(scope, receive, send)
            return
        scope[AT_END], begun = [], False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except asyncio.CancelledError:  # by uvicorn, at the end of the grace period
            if not begun:
                await error_response(Refused(503, SERVER_STOPPED, headers=LAST))(scope, receive, send)
        finally:
            for end in scope[AT_END]:
                end()

    def _check(self, path: str, headers: Headers) -> None:
        if not self._is_same_site(headers):
            raise Refused(403, "this server only answers requests from its own machine, sent to 127.0.0.1 or localhost")
        if path in KEYLESS_ROUTES or path.startswith("/page/"):
            return
        if self.key is not None and not self._has_key(headers):
            raise Refused(401, "the key is missing or wrong; send it as Authorization: Bearer KEY", headers={"WWW-Authenticate": "Bearer"})
        if not self.ready():
            raise Refused(503, "the model is still loading; try again", retry_after=LOADING_SECONDS)

    def _is_same_site(self, headers: Headers) -> bool:
        """False if a page of another site made the browser send the request."""
        host, origin = _host_name(f"//{headers.get('host', '')}"), headers.get("origin")
        if self.loopback:
            return is_loopback(host) and (origin is None or is_loopback(_host_name(origin)))
        return origin is None or _host_name(origin) == host

    def _has_key(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        same = secrets.compare_digest(given.strip().encode(), (self.key or "").encode())
        return scheme.lower() == "bearer" and same


def _host_name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
