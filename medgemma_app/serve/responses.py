"""Error responses, which never repeat a word of the request, and the OpenAPI description of all responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException

from medgemma_app.errors import ContextError, InputError, MedGemmaError
from medgemma_app.model.generation import GenerationError
from medgemma_app.serve.schemas import FORM, JSON, ChatBody, FindingsRequest, NotReadable, SoapRequest, TokenizeBody
from medgemma_app.validate import Issue

STREAM = "text/event-stream"
LAST = {"Connection": "close"}
GONE = 499  # what nginx logs when the client has disconnected; nobody receives it
STOPPED = "the server stopped before the answer was complete; try again when it is running"
STARLETTE_DETAILS = {"Not Found", "Method Not Allowed"}  # of the router's own errors
ROUTER_ERRORS = {404: "there is no such route; /openapi.json lists them all", 405: "this route takes another method; see /openapi.json"}


class Refused(HTTPException):
    """A request that is refused with ``status``. ``retry_after`` is in seconds."""

    def __init__(self, status: int, message: str, *, retry_after: int | None = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, message, headers if retry_after is None else {"Retry-After": str(retry_after)})


def error_response(error: HTTPException | MedGemmaError) -> JSONResponse:
    """The response to an error, with a body like that of OpenAI's own errors: one line that says what to do."""
    if isinstance(error, HTTPException):
        status, headers = error.status_code, error.headers
        message = ROUTER_ERRORS.get(status, str(error.detail)) if error.detail in STARLETTE_DETAILS else str(error.detail)
    else:
        status, message, headers = status_of(error), str(error), None
    return JSONResponse(error_body(message, status), status, headers)


def status_of(error: MedGemmaError) -> int:
    """400 for a body that cannot be parsed or a prompt that is too long, 422 for other bad input, 503 for a failed generation, else 500."""
    if isinstance(error, ContextError | NotReadable):
        return 400
    return 422 if isinstance(error, InputError) else 503 if isinstance(error, GenerationError) else 500


def error_body(message: str, status: int) -> dict[str, Any]:
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "code": status}}


async def handle_error(_: Request, error: Exception) -> JSONResponse:
    """The exception handler that FastAPI is given."""
    assert isinstance(error, HTTPException | MedGemmaError)
    return error_response(error)


class TokenCounts(BaseModel):
    prompt: int | None
    generated: int | None


class ReportModel(BaseModel):
    """A draft report, the issues that the checks found, and what is needed to trace it."""

    model_config = ConfigDict(extra="allow")

    notice: str
    kind: Literal["findings", "soap"]
    created: str
    text: str
    sections: dict[str, str]
    valid: bool
    issues: list[Issue]
    warnings: list[str]
    thought: str | None
    finish_reason: Literal["stop", "length", "repetition"]
    tokens: TokenCounts


class ErrorDetail(BaseModel):
    message: str
    type: Literal["invalid_request_error", "server_error"]
    code: int


class ErrorModel(BaseModel):
    """The body of every response other than 200."""

    error: ErrorDetail


class TokenIds(BaseModel):
    count: int
    max_model_len: int
    tokens: list[int]


def _error(description: str) -> dict[str, Any]:
    return {"description": description, "model": ErrorModel}


FORBIDDEN: dict[int | str, dict[str, Any]] = {403: _error("The Host or Origin header names another machine.")}
REFUSALS: dict[int | str, dict[str, Any]] = {
    **FORBIDDEN,
    401: _error("The key is missing or wrong."),
    503: _error("Busy, still loading, or shutting down; see Retry-After."),
}
OPEN: dict[str, Any] = {"security": []}
READY: dict[int | str, dict[str, Any]] = {**FORBIDDEN, 503: {"description": "The model is still loading."}}
_BODY_REFUSALS: dict[int | str, dict[str, Any]] = {
    **REFUSALS,
    400: _error("Not JSON, not a form, or a prompt that does not fit the model's context."),
    404: _error("A model other than the one served."),
    408: _error("The body arrives too slowly."),
    413: _error("The body is too large."),
    415: _error("A content type that the route does not accept."),
    422: _error("A field or an input that cannot be used."),
}
_TEXT, _FILE = {"type": "string"}, {"type": "string", "format": "binary"}
_FILES: dict[str, Any] = {"type": "array", "items": _FILE}
BODIES: tuple[type[BaseModel], ...] = (FindingsRequest, SoapRequest, ChatBody, TokenizeBody)
COMPONENT = "#/components/schemas/{model}"


def describe(app: FastAPI, *, needs_key: bool) -> None:
    """Adds to the description of ``app`` what bodies refer to, and that all routes need a key, except those that say otherwise."""
    description = app.openapi()
    _, found = models_json_schema([(body, "validation") for body in BODIES], ref_template=COMPONENT)
    description["components"]["schemas"] |= found["$defs"]
    if needs_key:
        description["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        description["security"] = [{"key": []}]


def _route(bodies: dict[str, dict[str, Any]], response: dict[str, Any]) -> dict[str, Any]:
    """FastAPI's arguments for a route whose body is one of ``bodies``, JSON schemas by content type."""
    body = {"required": True, "content": {kind: {"schema": schema} for kind, schema in bodies.items()}}
    return {"response_model": None, "responses": {200: response, **_BODY_REFUSALS}, "openapi_extra": {"requestBody": body}}


def report_route(request: type[BaseModel], *files: str) -> dict[str, Any]:
    """A route that takes JSON or a form, where the fields ``files`` may be files, and returns a report or a stream of events."""
    schema = _schema(request)
    form = {**schema, "properties": {**schema["properties"], **{name: _FILES if name == "views" else _FILE for name in files}}}
    response = {"description": "The report; or its tokens as events, then the report.", "model": ReportModel, "content": {STREAM: {}}}
    return _route({JSON: schema, FORM: form}, response)


def chat_route() -> dict[str, Any]:
    return _route({JSON: _schema(ChatBody)}, {"description": "OpenAI's chat completion, or its chunks.", "content": {JSON: {}, STREAM: {}}})


def tokenize_route() -> dict[str, Any]:
    return _route({JSON: _schema(TokenizeBody)}, {"description": "The token ids and their number.", "model": TokenIds})


def export_route() -> dict[str, Any]:
    fields = {"record": _TEXT, "to": _TEXT, "scan": _FILES, "images": _FILES, "source": _TEXT}
    form = {"type": "object", "properties": fields, "required": ["record", "to"]}
    return _route({FORM: form}, {"description": "The file.", "content": {"application/octet-stream": {}}})


def _schema(body: type[BaseModel]) -> dict[str, Any]:
    schema = body.model_json_schema(ref_template=COMPONENT)
    schema.pop("$defs", None)  # ``describe`` adds them for all routes
    return schema
