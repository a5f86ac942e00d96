"""Who may ask, from where, and how many at a time: looked at before a request's body is."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from medgemma_app.serve.bodies import drained
from medgemma_app.serve.faults import Refused, refusal
from medgemma_app.serve.place import LOOPBACK

AT_END = "medgemma_app.at_end"  # where a request's scope keeps what is to be called when it has ended, however it did
OPEN = {"/health", "/ready"}
LOADING_SECONDS, BUSY_SECONDS = 5, 2


@dataclass
class Guard:
    """Lets a request through to ``app``, or refuses it.

    ``loopback`` says that only this machine is listened to: then a Host or an Origin of another name is a web page that has made
    the browser call here (DNS rebinding). ``key`` None asks for none; ``most`` are the requests to hold, running and waiting.
    """

    app: ASGIApp
    ready: Callable[[], bool]
    key: str | None
    loopback: bool
    most: int
    held: int = field(default=0, init=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            self._check(scope["method"], scope["path"], Headers(scope=scope))
        except Refused as refused:
            await drained(receive)
            await refusal(refused)(scope, receive, send)
            return
        posts = scope["method"] == "POST"
        self.held += posts
        scope[AT_END] = []
        try:
            await self.app(scope, receive, send)
        finally:
            self.held -= posts
            for end in scope[AT_END]:
                end()

    def _check(self, method: str, path: str, headers: Headers) -> None:
        if not self._same_place(headers):
            raise Refused(403, "this server answers programs on its own machine, by the name 127.0.0.1 or localhost")
        if path in OPEN:
            return
        if self.key is not None and not self._has_key(headers):
            raise Refused(401, "the key is missing or wrong; send it as Authorization: Bearer KEY", headers={"WWW-Authenticate": "Bearer"})
        if not self.ready():
            raise Refused(503, "the model is still being loaded; ask again", retry_after=LOADING_SECONDS)
        if method == "POST" and self.held >= self.most:
            raise Refused(503, f"{self.most} requests are running or waiting already; ask again", retry_after=BUSY_SECONDS)

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
