"""Bodies as they arrive and events as they are sent, bounded in size and time, and what happens when the client disconnects."""

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
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from medgemma_app.errors import MedGemmaError
from medgemma_app.serve.limits import Held
from medgemma_app.serve.responses import GONE, LAST, STREAM, Refused, error_body, status_of
from medgemma_app.serve.schemas import FORM, JSON

if TYPE_CHECKING:
    from medgemma_app.model.generation import Token
    from medgemma_app.tasks import Report

    T = TypeVar("T")
    Write = Callable[[Callable[[Token], object] | None], Report]

LARGEST_BODY = 64_000_000
SLOWEST, PATIENCE = 500_000, 10.0  # a body must arrive at this many bytes a second, after this many seconds
SEND_SECONDS = 60.0  # how long a client may take to receive a message


def content_type(request: Request, *, forms: bool) -> str:
    """The content type of the body. Raises Refused for one that the route does not accept."""
    given = request.headers.get("content-type", "")
    if given.partition(";")[0].strip().lower() not in ((JSON, FORM) if forms else (JSON,)):
        raise Refused(415, f"send the request as {JSON}" + (f" or {FORM}" if forms else ""), headers=LAST)
    return given


async def read_body(request: Request, held: Held) -> bytearray:
    """The body; its memory is reserved in ``held`` before it is read. Raises Refused (408, 413, 499, 503).

    A body that is too large is still read, up to a point: otherwise the client would never receive the reason.
    """
    body, size = bytearray(), 0
    declared = request.headers.get("content-length", "")
    expected = int(declared) if declared.isdecimal() else LARGEST_BODY
    if expected <= LARGEST_BODY:
        await held.resize(expected)
    start = asyncio.get_running_loop().time() + PATIENCE
    try:
        async with asyncio.timeout_at(start) as deadline:
            async for chunk in request.stream():
                size += len(chunk)
                deadline.reschedule(start + min(size, LARGEST_BODY) / SLOWEST)
                if max(size, expected) <= LARGEST_BODY:
                    body += chunk
                else:
                    body.clear()
                    held.release()
                if size > 4 * LARGEST_BODY:
                    break
    except TimeoutError:
        raise Refused(408, f"the request arrives too slowly: less than {SLOWEST // 1000} kB a second", headers=LAST) from None
    except ClientDisconnect:
        raise Refused(GONE, "the client disconnected") from None
    if size > LARGEST_BODY:
        raise Refused(413, f"the request is larger than {LARGEST_BODY // 10**6} MB; send a smaller picture", headers=LAST)
    await held.resize(size)
    return body


async def drained(receive: Receive) -> None:
    """Reads what a refused client is still sending, up to a point: if the connection were closed at once, the refusal would be lost."""
    size = 0
    try:
        async with asyncio.timeout(PATIENCE):
            while size <= LARGEST_BODY:
                message = await receive()
                size += len(message.get("body", b""))
                if not message.get("more_body"):
                    return
    except TimeoutError:
        return


def wants_stream(request: Request, stream: bool) -> bool:
    """Whether the client asks for a stream, in the body or in its Accept header."""
    return stream or STREAM in request.headers.get("accept", "").lower()


async def present(request: Request, work: Awaitable[T], cancel: Callable[[], object] | None = None) -> T:
    """The result of ``work``. When the client disconnects, the work is cancelled, by ``cancel`` if given, and Refused is raised."""
    running, gone = asyncio.ensure_future(work), asyncio.create_task(_gone(request.receive))
    try:
        await asyncio.wait({running, gone}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            return running.result()
        raise Refused(GONE, "the client disconnected")
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
    """Server-sent events that end, and call ``cancel``, as soon as the client disconnects, rather than at the next event."""

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
    """A report as JSON; its field ``valid`` says whether the checks found an error."""
    return Response(_json(report.to_dict()), media_type="application/json")


async def report_events(write: Write, pool: Executor, *, tokens: bool, view: bool = False) -> AsyncIterator[str]:
    """An event for every token as it is generated, then one for the report, or for the error that was raised instead.

    With ``view`` a last event holds the report as HTML, for the page.
    """
    loop = asyncio.get_running_loop()
    arriving: asyncio.Queue[Token | None] = asyncio.Queue()

    def arrived(token: Token) -> None:
        loop.call_soon_threadsafe(arriving.put_nowait, token)

    written = loop.run_in_executor(pool, write, arrived if tokens else None)

    def ended(work: asyncio.Future[Report]) -> None:
        if not work.cancelled():
            work.exception()  # asyncio logs exceptions that nobody retrieves
        arriving.put_nowait(None)

    written.add_done_callback(ended)
    while (token := await arriving.get()) is not None:
        yield _event("token", asdict(token))
    try:
        report = await written
        yield _event("report", report.to_dict())
        if view:
            yield _event("view", {"html": await loop.run_in_executor(pool, report_view, report), "source": report.source})
    except MedGemmaError as error:
        yield _event("error", error_body(str(error), status_of(error)))


def report_view(report: Report) -> str:
    """The report as HTML for the page, with the pictures that the model saw or the notes that it was given."""
    from medgemma_app.export.html import fragment

    return fragment(report.to_dict(), images=report.images, source=report.source, styled=False)


def _event(name: str, data: Any) -> str:
    return f"event: {name}\ndata: {_json(data)}\n\n"


def _json(value: Any) -> str:
    """ASCII only, so that no character of the model's text can break a line or an encoding."""
    return json.dumps(value)
