"""The body of a request as it arrives, bounded in bytes and in time and in memory only; and what is wrong with a request, as a refusal.

A refusal is a status and one line that says what to do, and never a word of what the request holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from medgemma_app.errors import ContextError, InputError, MedGemmaError
from medgemma_app.model.generation import GenerationError
from medgemma_app.serve.reading import NotReadable
from medgemma_app.serve.schemas import FORM, JSON

if TYPE_CHECKING:
    from medgemma_app.serve.limits import Held

LARGEST_BODY = 64_000_000
SLOWEST, PATIENCE = 500_000, 10.0  # bytes a second that a body has to arrive with, after so many seconds
LAST = {"Connection": "close"}
GONE = 499  # what nginx logs for a client that left; nobody reads it
STOPPED = "the server stopped before the answer was complete; ask again when it is back"
PHRASES = {"Not Found", "Method Not Allowed"}  # what the router says by itself
ROUTES = {404: "there is no such route; /openapi.json has those that there are", 405: "this route takes another method; see /openapi.json"}


class Refused(HTTPException):
    """A request that is not answered. ``retry_after`` are the seconds after which it may be."""

    def __init__(self, status: int, message: str, *, retry_after: int | None = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, message, headers if retry_after is None else {"Retry-After": str(retry_after)})


def refusal(error: HTTPException | MedGemmaError) -> JSONResponse:
    """The response to an error, in the form of OpenAI's own."""
    if isinstance(error, HTTPException):
        status, headers = error.status_code, error.headers
        message = ROUTES.get(status, str(error.detail)) if error.detail in PHRASES else str(error.detail)
    else:
        status, message, headers = status_of(error), str(error), None
    return JSONResponse(error_body(message, status), status, headers)


def status_of(error: MedGemmaError) -> int:
    """400 for what cannot be parsed or does not fit the context, 422 for what cannot be used, 503 and 500 for what failed here."""
    if isinstance(error, ContextError | NotReadable):
        return 400
    return 422 if isinstance(error, InputError) else 503 if isinstance(error, GenerationError) else 500


def error_body(message: str, status: int) -> dict[str, Any]:
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "code": status}}


async def handle(_: Request, error: Exception) -> JSONResponse:
    """What FastAPI calls for the errors it is told to."""
    assert isinstance(error, HTTPException | MedGemmaError)
    return refusal(error)


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
