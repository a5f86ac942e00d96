"""The body of a request, bounded and in memory only, as fields; and what can be wrong with it, as a refusal.

A refusal is a status and one line that says what to do, and never a word of what the request holds.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError
from python_multipart.exceptions import MultipartParseError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from medgemma_app.errors import ContextError, InputError, MedGemmaError
from medgemma_app.inputs.files import shown_name
from medgemma_app.model.generation import GenerationError

LARGEST_BODY = 64_000_000
MOST_PARTS = 100
SECONDS = 120.0  # for a body to arrive
LAST = {"Connection": "close"}
JSON, FORM = "application/json", "multipart/form-data"
_NAME = re.compile(r"[a-z_]+|\d+")  # of a field, or the place in a list; pydantic puts the names of its checks beside them
GONE = 499  # what nginx logs for a client that left; nobody reads it
PHRASES = {"Not Found", "Method Not Allowed"}  # what the router says by itself
ROUTES = {404: "there is no such route; /openapi.json has those that there are", 405: "this route takes another method; see /openapi.json"}
# Fields that clients send elsewhere, or in another place: of all that are unknown, these may be named, as they are no words of a patient.
_ELSEWHERE = {
    "chat_template", "chat_template_kwargs", "frequency_penalty", "function_call", "functions", "guided_json", "ignore_eos", "image",
    "image_url", "images", "length_penalty", "logit_bias", "logprobs", "max_completion_tokens", "max_tokens", "messages", "metadata",
    "min_p", "min_tokens", "n", "parallel_tool_calls", "presence_penalty", "prompt", "reasoning_effort", "repetition_penalty",
    "response_format", "seed", "series", "slices", "stop", "stop_token_ids", "store", "system", "temperature", "tool_choice", "tools",
    "top_k", "top_logprobs", "top_p",
}  # fmt: skip


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
    """400 for what does not fit the context (as other servers have it), 422 for what cannot be used, 500 for what failed here."""
    if isinstance(error, ContextError):
        return 400
    return 422 if isinstance(error, InputError) else 503 if isinstance(error, GenerationError) else 500


def error_body(message: str, status: int) -> dict[str, Any]:
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "code": status}}


async def handle(_: Request, error: Exception) -> JSONResponse:
    """What FastAPI calls for the errors it is told to."""
    assert isinstance(error, HTTPException | MedGemmaError)
    return refusal(error)


def checked(kind: type[BaseModel], fields: dict[str, Any]) -> Any:
    """``fields`` as ``kind``. Raises Refused with the first thing that is wrong; what was sent is not repeated."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    unknown = first["type"] == "extra_forbidden"  # the last step of the place is then a word of the client's
    steps = [str(step) for step in first["loc"][: -1 if unknown else None]]
    place = ".".join(step for step in steps if _NAME.fullmatch(step)) or "the request"
    if unknown:
        named = f" ({first['loc'][-1]})" if first["loc"][-1] in _ELSEWHERE else ""
        raise Refused(422, f"{place} has an unknown field{named}; /openapi.json lists the known ones") from None
    said = first["msg"].removeprefix("Value error, ")
    raise Refused(422, f"{place}: {said[:1].lower()}{said[1:]}") from None


@dataclass(frozen=True)
class Upload:
    """A file that came with a request; ``name`` is what messages call it."""

    name: str
    raw: bytes


async def read_fields(request: Request) -> tuple[dict[str, Any], bytes]:
    """The fields of a JSON object or a form, files as Upload; and the bytes of the former. Raises Refused."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in (JSON, FORM):
        await drained(request.receive)
        raise Refused(415, f"send the request as {JSON} or {FORM}")
    raw = await read_body(request)
    if kind == FORM:
        return await _form(request, raw), b""
    fields = await asyncio.to_thread(parse_json, raw)
    if not isinstance(fields, dict):
        raise Refused(422, "the request is not a JSON object")
    return fields, raw


async def read_json(request: Request) -> dict[str, Any]:
    """As ``read_fields``, for a route that takes JSON only."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != JSON:
        await drained(request.receive)
        raise Refused(415, f"send the request as {JSON}")
    return (await read_fields(request))[0]


async def read_body(request: Request) -> bytes:
    """Raises Refused (408, 413, 499, 503).

    A body that is too large is still read, up to a point: otherwise the client would never see why it was refused.
    """
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size <= LARGEST_BODY:
                    chunks.append(chunk)
                else:
                    chunks.clear()
                if size > 4 * LARGEST_BODY:
                    break
    except TimeoutError:
        raise Refused(408, f"the request did not arrive within {SECONDS:g} seconds", headers=LAST) from None
    except ClientDisconnect:
        raise Refused(GONE, "the client has gone") from None
    except asyncio.CancelledError:  # by uvicorn, which has waited for what runs long enough
        raise Refused(503, "the server stopped before the request had arrived; ask again when it is back", headers=LAST) from None
    if size > LARGEST_BODY:
        raise Refused(413, f"the request is larger than {LARGEST_BODY // 10**6} MB; export the picture smaller", headers=LAST)
    return b"".join(chunks)


async def drained(receive: Receive) -> None:
    """Reads what a refused client is still sending, up to a point: closing the connection at once would lose the refusal."""
    size = 0
    try:
        async with asyncio.timeout(SECONDS):
            while size <= LARGEST_BODY:
                message = await receive()
                size += len(message.get("body", b""))
                if not message.get("more_body"):
                    return
    except TimeoutError:
        return


def parse_json(raw: bytes) -> Any:
    """Raises Refused for what is not JSON; NaN and infinity are not valid JSON numbers."""
    try:
        return json.loads(raw, parse_constant=_no_number)
    except UnicodeDecodeError:
        raise Refused(400, "the request is not UTF-8 text; send it as UTF-8 JSON") from None
    except json.JSONDecodeError as error:
        raise Refused(400, f"the request is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise Refused(400, "the request is nested too deeply; send a flat JSON object") from None
    except ValueError:
        raise Refused(400, "the request has NaN, infinity or a number of thousands of digits, which JSON does not allow") from None


def _no_number(_: str) -> float:
    raise ValueError


class _InMemory(MultiPartParser):
    """Files of patients are not written to this machine's disk on the way."""

    spool_max_size = LARGEST_BODY


async def _form(request: Request, raw: bytes) -> dict[str, Any]:
    """Every field by its name; one that occurs several times, as a list. Raises Refused for what is not a form."""

    async def stream() -> AsyncGenerator[bytes, None]:
        yield raw

    parser = _InMemory(request.headers, stream(), max_files=MOST_PARTS, max_fields=MOST_PARTS, max_part_size=LARGEST_BODY)
    try:
        form = await parser.parse()
    except (MultiPartException, MultipartParseError, KeyError, UnicodeDecodeError, LookupError, ValueError):
        raise Refused(400, "the form cannot be read; send its parts as RFC 7578 has them, with a boundary") from None
    fields: dict[str, Any] = {}
    try:
        for name in form:
            values = [await _value(name, value) for value in form.getlist(name)]
            fields[name] = values if len(values) > 1 or name == "views" else values[0]
    finally:
        await form.close()
    return fields


async def _value(name: str, value: UploadFile | str) -> Any:
    """A file, a text, or for the fields that are neither the JSON value that a text spells."""
    if isinstance(value, UploadFile):
        return Upload(shown_name(value.filename or name), await value.read())
    if name in ("options", "frame", "pad", "retries", "stream", "truncate"):
        try:
            return parse_json(value.encode(errors="replace"))
        except Refused:
            raise InputError(f"{name} is not written as in JSON; send a number, true, false, or for options an object") from None
    return value
