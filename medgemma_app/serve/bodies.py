"""The body of a request as it arrives: in memory only, bounded in bytes and in time."""

from __future__ import annotations

import asyncio

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from medgemma_app.serve.limits import Held
from medgemma_app.serve.refusals import GONE, LAST, Refused
from medgemma_app.serve.schemas import FORM, JSON

LARGEST_BODY = 64_000_000
SLOWEST, PATIENCE = 500_000, 10.0  # bytes a second that a body has to arrive with, after so many seconds


def content_type(request: Request, *, forms: bool) -> str:
    """What kind of body is announced. Raises Refused for one that the route does not take."""
    given = request.headers.get("content-type", "")
    if given.partition(";")[0].strip().lower() not in ((JSON, FORM) if forms else (JSON,)):
        raise Refused(415, f"send the request as {JSON}" + (f" or {FORM}" if forms else ""), headers=LAST)
    return given


async def read_body(request: Request, held: Held) -> bytearray:
    """The body, for which ``held`` has the memory before it is read. Raises Refused (408, 413, 499, 503).

    A body that is too large is still read, up to a point: otherwise the client would never see why it was refused.
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
        raise Refused(GONE, "the client has gone") from None
    if size > LARGEST_BODY:
        raise Refused(413, f"the request is larger than {LARGEST_BODY // 10**6} MB; export the picture smaller", headers=LAST)
    await held.resize(size)
    return body


async def drained(receive: Receive) -> None:
    """Reads what a refused client is still sending, up to a point: closing the connection at once would lose the refusal."""
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
