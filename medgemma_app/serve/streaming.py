"""A report or a chat under way, and what happens to it when the client goes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from medgemma_app.errors import MedGemmaError
from medgemma_app.serve.refusals import GONE, Refused, error_body, status_of
from medgemma_app.serve.responses import STREAM

if TYPE_CHECKING:
    from medgemma_app.model.generation import Token
    from medgemma_app.tasks import Report

    T = TypeVar("T")
    Write = Callable[[Callable[[Token], object] | None], Report]

SEND_SECONDS = 60.0  # for a client to take what it is sent


def wants_stream(request: Request, stream: bool) -> bool:
    """By the body, or by what the client accepts."""
    return stream or STREAM in request.headers.get("accept", "").lower()


async def present(request: Request, work: Awaitable[T], cancel: Callable[[], object] | None = None) -> T:
    """What ``work`` gives; when the client goes, the work is cancelled, by ``cancel`` where it is a thread's, and Refused raised."""
    running, gone = asyncio.ensure_future(work), asyncio.create_task(_gone(request.receive))
    try:
        await asyncio.wait({running, gone}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            return running.result()
        raise Refused(GONE, "the client has gone")
    finally:
        gone.cancel()
        if not running.done():
            (cancel or running.cancel)()
            with suppress(MedGemmaError, Refused, asyncio.CancelledError):
                await running


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Events(StreamingResponse):
    """Server-sent events that end, and call ``cancel``, as soon as the client goes: not at the next thing there is to send."""

    def __init__(self, events: AsyncIterator[Any], cancel: Callable[[], None]) -> None:
        super().__init__(events, media_type=STREAM, headers={"Cache-Control": "no-store"})
        self._cancel = cancel

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def in_time(message: Message) -> None:
            async with asyncio.timeout(SEND_SECONDS):
                await send(message)

        sending, gone = asyncio.create_task(self.stream_response(in_time)), asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._cancel()
            for task in (gone, sending):
                task.cancel()
            with suppress(asyncio.CancelledError, OSError):  # TimeoutError is one
                await sending


def report_response(report: Report) -> Response:
    """A report, valid or not: it says so itself."""
    return Response(_json(report.to_dict()), media_type="application/json")


async def report_events(write: Write, pool: Executor, *, tokens: bool, view: bool = False) -> AsyncIterator[str]:
    """An event for every token as it is generated, and one for the report; or one for the error that came instead.

    With ``view`` a last event has the report as HTML, for the page.
    """
    loop = asyncio.get_running_loop()
    arriving: asyncio.Queue[Token | None] = asyncio.Queue()

    def arrived(token: Token) -> None:
        loop.call_soon_threadsafe(arriving.put_nowait, token)

    written = loop.run_in_executor(pool, write, arrived if tokens else None)

    def ended(work: asyncio.Future[Report]) -> None:
        if not work.cancelled():
            work.exception()  # one that nobody has asked for would be logged
        arriving.put_nowait(None)

    written.add_done_callback(ended)
    while (token := await arriving.get()) is not None:
        yield _event("token", asdict(token))
    try:
        report = await written
        yield _event("report", report.to_dict())
        if view:
            yield _event("view", {"html": await loop.run_in_executor(pool, report_view, report)})
    except MedGemmaError as error:
        yield _event("error", error_body(str(error), status_of(error)))


def report_view(report: Report) -> str:
    """The report as the page shows it, with the pictures that the model saw or the notes that it was given."""
    from medgemma_app.export.html import fragment

    return fragment(report.to_dict(), images=report.images, source=report.source, styled=False)


def _event(name: str, data: Any) -> str:
    return f"event: {name}\ndata: {_json(data)}\n\n"


def _json(value: Any) -> str:
    """ASCII, so that no text of a model can break a line or an encoding."""
    return json.dumps(value)
