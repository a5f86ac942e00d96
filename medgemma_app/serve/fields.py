"""The bytes of a request, JSON or a form -> validated fields. Errors name the first problem, and never repeat what was sent."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from typing import Any

from pydantic import BaseModel, ValidationError
from python_multipart.exceptions import MultipartParseError
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from medgemma_app.errors import InputError
from medgemma_app.inputs.files import shown_name
from medgemma_app.serve.schemas import FORM, Upload

MOST_VALUES = 1_000_000  # in JSON; each takes about a hundred bytes once it is parsed
MOST_FORM_PARTS = 100
_NAME = re.compile(r"[a-z_]+|\d+")  # a field or an index; the other parts of a pydantic location are names of its checks
# Fields that clients of other servers send. Only these unknown fields are named in errors, since any other name may be a patient's data.
_OTHER_SERVERS = {
    "chat_template", "chat_template_kwargs", "frequency_penalty", "function_call", "functions", "guided_json", "ignore_eos", "image",
    "image_url", "images", "length_penalty", "logit_bias", "logprobs", "max_completion_tokens", "max_tokens", "messages", "metadata",
    "min_p", "min_tokens", "n", "parallel_tool_calls", "presence_penalty", "prompt", "reasoning_effort", "repetition_penalty",
    "response_format", "seed", "series", "slices", "stop", "stop_token_ids", "store", "system", "temperature", "tool_choice", "tools",
    "top_k", "top_logprobs", "top_p",
}  # fmt: skip


class NotReadable(InputError):
    """The body does not match its content type."""


def is_form(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == FORM


def read_fields(raw: bytes, content_type: str) -> dict[str, Any]:
    """The fields of a JSON object or a form, with files as Upload. Raises InputError."""
    if is_form(content_type):
        return asyncio.run(_form(raw, content_type))
    fields = parse_json(raw)
    if not isinstance(fields, dict):
        raise InputError("the request is not a JSON object")
    return fields


def parse_json(raw: bytes) -> Any:
    """Raises NotReadable for invalid JSON. NaN and infinity are not valid JSON numbers."""
    if sum(raw.count(sign) for sign in (b",", b"[", b"{")) > MOST_VALUES:
        raise NotReadable(f"the request holds more than {MOST_VALUES} JSON values; send less at a time")
    try:
        return json.loads(raw, parse_constant=_no_number)
    except UnicodeDecodeError:
        raise NotReadable("the request is not UTF-8 text; send it as UTF-8 JSON") from None
    except json.JSONDecodeError as error:
        raise NotReadable(f"the request is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise NotReadable("the request is nested too deeply; send a flat JSON object") from None
    except ValueError:
        raise NotReadable("the request holds NaN, infinity or a number with thousands of digits; send ordinary JSON numbers") from None


def _no_number(_: str) -> float:
    raise ValueError


def checked(kind: type[BaseModel], fields: dict[str, Any]) -> Any:
    """``fields`` as an instance of ``kind``. Raises InputError, which names the first problem but not the value."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    unknown = first["type"] == "extra_forbidden"  # the last part of the location is then a name that the client made up
    parts = [str(part) for part in first["loc"][: -1 if unknown else None]]
    location = ".".join(part for part in parts if _NAME.fullmatch(part)) or "the request"
    if unknown:
        named = f" ({first['loc'][-1]})" if first["loc"][-1] in _OTHER_SERVERS else ""
        raise InputError(f"{location} has an unknown field{named}; /openapi.json lists the known ones") from None
    message = first["msg"].removeprefix("Value error, ")
    raise InputError(f"{location}: {message[:1].lower()}{message[1:]}") from None


class _InMemory(MultiPartParser):
    """Keeps uploaded files in memory: patients' files must not reach this machine's disk."""

    spool_max_size = 1 << 40


async def _form(raw: bytes, content_type: str) -> dict[str, Any]:
    """The fields by name; one that occurs several times is a list. Raises NotReadable for an invalid form."""

    async def stream() -> AsyncGenerator[bytes, None]:
        yield raw

    headers = Headers({"content-type": content_type})
    parser = _InMemory(headers, stream(), max_files=MOST_FORM_PARTS, max_fields=MOST_FORM_PARTS, max_part_size=len(raw) + 1)
    try:
        form = await parser.parse()
    except (MultiPartException, MultipartParseError, KeyError, UnicodeDecodeError, LookupError, ValueError):
        raise NotReadable("the form cannot be read; send multipart/form-data as in RFC 7578, with a boundary") from None
    fields: dict[str, Any] = {}
    for name in form:
        values = [await _value(name, value) for value in form.getlist(name)]
        fields[name] = values if len(values) > 1 or name == "views" else values[0]
    await form.close()
    return fields


async def _value(name: str, value: UploadFile | str) -> Any:
    """A file, a text, or for fields that are neither, the JSON value that the text holds."""
    if isinstance(value, UploadFile):
        return Upload(shown_name(value.filename or name), await value.read())
    if name in ("options", "frame", "pad", "retries", "stream", "truncate"):
        try:
            return parse_json(value.encode(errors="replace"))
        except NotReadable:
            raise InputError(f"{name} is not a JSON value; send a number, true or false, or for options an object") from None
    return value
