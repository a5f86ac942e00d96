"""What can be wrong with a request -> a status and one line that says what to do; never a word of what the request holds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from medgemma_app.errors import ContextError, InputError, MedGemmaError
from medgemma_app.model.generation import GenerationError

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
        raise Refused(422, f"{place} has a field that is not known here{named}; see /openapi.json for those that are") from None
    said = first["msg"].removeprefix("Value error, ")
    raise Refused(422, f"{place}: {said[:1].lower()}{said[1:]}") from None
