"""Receives bodies and sends answers, within limits on size and time, and handles clients that disconnect."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from medgemma_app.errors import MedGemmaError
from medgemma_app.export.html import fragment
from medgemma_app.model.generation import Token
from medgemma_app.serve.access import GONE, LARGEST_REQUEST, LAST, PATIENCE, Refused, error_body, status_of
from medgemma_app.serve.limits import Held
from medgemma_app.serve.schemas import FORM, JSON, STREAM

if TYPE_CHECKING:
    from medgemma_app.model.answer import Decoding
    from medgemma_app.serve.reading import ChatJob
    from medgemma_app.tasks import OnToken, Report

    T = TypeVar("T")

SLOWEST = 500_000  # bytes a second at which a body must arrive, after PATIENCE seconds
SEND_SECONDS = 60.0  # how long a client may take to receive a message


def content_type(request: Request, *, forms: bool) -> str:
    """The content type of the body. Raises Refused for one that the route does not accept."""
    given = request.headers.get("content-type", "")
    if given.partition(";")[0].strip().lower() not in ((JSON, FORM) if forms else (JSON,)):
        raise Refused(415, f"send the request as {JSON}" + (f" or {FORM}" if forms else ""), headers=LAST)
    return given


async def read_body(request: Request, held: Held) -> bytearray:
    """The body; its memory is reserved in ``held`` before it is read. Raises Refused (408, 413, 499, 503).

    A body that is too large is still read, up to a limit; otherwise the client would never receive the reason.
    """
    body, size = bytearray(), 0
    declared = request.headers.get("content-length", "")
    expected = int(declared) if declared.isdecimal() else LARGEST_REQUEST
    if expected <= LARGEST_REQUEST:
        await held.resize(expected)
    start = asyncio.get_running_loop().time() + PATIENCE
    try:
        async with asyncio.timeout_at(start) as deadline:
            async for chunk in request.stream():
                size += len(chunk)
                deadline.reschedule(start + min(size, LARGEST_REQUEST) / SLOWEST)
                if max(size, expected) <= LARGEST_REQUEST:
                    body += chunk
                else:
                    body.clear()
                    held.release()
                if size > 4 * LARGEST_REQUEST:
                    break
    except TimeoutError:
        raise Refused(408, f"the request arrives too slowly: less than {SLOWEST // 1000} kB a second", headers=LAST) from None
    except ClientDisconnect:
        raise Refused(GONE, "the client disconnected") from None
    if size > LARGEST_REQUEST:
        raise Refused(413, f"the request is larger than {LARGEST_REQUEST // 10**6} MB; send a smaller picture", headers=LAST)
    await held.resize(size)
    return body


async def while_connected(request: Request, work: Awaitable[T], cancel: Callable[[], object] | None = None) -> T:
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


def json_response(value: object) -> Response:
    """``value`` as JSON in ASCII, so that no character of a text can break an encoding, or a line of an event."""
    return Response(json.dumps(value), media_type=JSON)


async def streamed(write: Callable[[OnToken], T], pool: Executor) -> AsyncIterator[Token | T]:
    """Runs ``write`` in a thread of ``pool``: yields each Token as soon as it is passed on, and finally what ``write`` returns."""
    loop = asyncio.get_running_loop()
    arriving: asyncio.Queue[Token | None] = asyncio.Queue()
    written = loop.run_in_executor(pool, write, lambda token: loop.call_soon_threadsafe(arriving.put_nowait, token))

    def ended(work: asyncio.Future[T]) -> None:
        if not work.cancelled():
            work.exception()  # asyncio logs exceptions that nobody retrieves
        arriving.put_nowait(None)

    written.add_done_callback(ended)
    while (token := await arriving.get()) is not None:
        yield token
    yield await written


async def report_events(write: Callable[[OnToken], Report], pool: Executor, *, tokens: bool, view: bool) -> AsyncIterator[str]:
    """An event for each token if ``tokens``, then one for the report, or for the error that was raised instead.

    With ``view`` a last event holds the report as HTML, for the page.
    """
    try:
        async for item in streamed(write, pool):
            if not isinstance(item, Token):
                yield _event("report", item.to_dict())
                if view:
                    shown = partial(fragment, item.to_dict(), images=item.images, source=item.source, styled=False)
                    html = await asyncio.get_running_loop().run_in_executor(pool, shown)
                    yield _event("view", {"html": html, "source": item.source})
            elif tokens:
                yield _event("token", asdict(item))
    except MedGemmaError as error:
        yield _event("error", error_body(str(error), status_of(error)))


def _event(name: str, data: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


class Completion:
    """An answer in OpenAI's format, complete or as the chunks of a stream."""

    def __init__(self, asked: ChatJob) -> None:
        self._asked = asked
        self._head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": asked.model}

    def whole(self, row: Decoding) -> dict[str, Any]:
        """The body of the response, once ``row`` has ended."""
        content = "".join(token.text for token in row.tokens).strip()
        choice = self._choice(row.tokens, message={"role": "assistant", "content": content})
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": _usage(row)}

    async def chunks(self, write: Callable[[OnToken], object], row: Decoding, pool: Executor) -> AsyncIterator[str]:
        """A chunk for each token, or for the error that was raised instead, then [DONE]."""
        usage = {"usage": None} if self._asked.include_usage else {}
        try:
            async for token in streamed(write, pool):
                if isinstance(token, Token):
                    choice = self._choice([token], delta={"role": "assistant", "content": token.text})
                    yield self._chunk(choices=[choice], **usage)
            if usage:
                yield self._chunk(choices=[], usage=_usage(row))
        except MedGemmaError as error:
            yield f"data: {json.dumps(error_body(str(error), status_of(error)))}\n\n"
        yield "data: [DONE]\n\n"

    def _choice(self, tokens: Sequence[Token], **content: Any) -> dict[str, Any]:
        known = [
            {"token": token.text, "logprob": token.logprob, "bytes": list(token.text.encode()), "top_logprobs": []}
            for token in tokens
            if token.logprob is not None
        ]
        logprobs = {"content": known} if self._asked.logprobs and known else None
        return {"index": 0, **content, "logprobs": logprobs, "finish_reason": tokens[-1].finish_reason}

    def _chunk(self, **body: Any) -> str:
        return f"data: {json.dumps({**self._head, 'object': 'chat.completion.chunk', **body})}\n\n"


def _usage(row: Decoding) -> dict[str, int]:
    read, generated = len(row.prompt_ids), sum(token.id is not None for token in row.tokens)
    return {"prompt_tokens": read, "completion_tokens": generated, "total_tokens": read + generated}
