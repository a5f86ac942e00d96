"""What is wrong with a request, as a response: a status and one line that says what to do, and never a word of what the request holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from medgemma_app.errors import ContextError, InputError, MedGemmaError
from medgemma_app.model.generation import GenerationError
from medgemma_app.serve.fields import NotReadable

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
