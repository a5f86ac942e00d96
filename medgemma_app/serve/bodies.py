"""The body of a request, bounded, in memory only -> its fields."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from python_multipart.exceptions import MultipartParseError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from medgemma_app.errors import InputError
from medgemma_app.inputs.files import shown_name
from medgemma_app.serve.faults import GONE, Refused

LARGEST_BODY = 64_000_000
MOST_PARTS = 100
SECONDS = 120.0  # for a body to arrive
LAST = {"Connection": "close"}
JSON, FORM = "application/json", "multipart/form-data"


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
        raise Refused(422, "the request is no JSON object")
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

    What is too large is read to its end all the same, up to a point: else the client never sees why.
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
    """Reads what a refused client is still sending, up to a point: a connection closed on it would take the refusal with it."""
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
    """Raises Refused for what is no JSON; NaN and infinity are none."""
    try:
        return json.loads(raw, parse_constant=_no_number)
    except UnicodeDecodeError:
        raise Refused(400, "the request is not UTF-8 text; send it as UTF-8 JSON") from None
    except json.JSONDecodeError as error:
        raise Refused(400, f"the request is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise Refused(400, "the request is nested too deeply; send a flat JSON object") from None
    except ValueError:
        raise Refused(400, "the request has a number that is none, or is too long") from None


def _no_number(_: str) -> float:
    raise ValueError


class _InMemory(MultiPartParser):
    """Files of patients are not written to this machine's disk on the way."""

    spool_max_size = LARGEST_BODY


async def _form(request: Request, raw: bytes) -> dict[str, Any]:
    """Every field by its name; one that occurs several times, as a list. Raises Refused for what is no form."""

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
