"""What the routes answer: refusals first, which never repeat a word of the request; then what OpenAPI says of every answer."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from typing import Any, Literal

from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from medgemma_app.errors import ContextError, InputError, MedGemmaError
from medgemma_app.model.generation import GenerationError
from medgemma_app.serve.fields import NotReadable
from medgemma_app.serve.schemas import FORM, JSON

STREAM = "text/event-stream"
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


class IssueModel(BaseModel):
    """What a check found, and where."""

    code: str
    severity: Literal["error", "warning", "info"]
    message: str
    excerpt: str | None = None
    start: int | None = None
    end: int | None = None
    source_start: int | None = None
    source_end: int | None = None
    found: str | None = None
    expected: str | None = None


class TokenCounts(BaseModel):
    prompt: int | None
    generated: int | None


class ReportModel(BaseModel):
    """A draft, what the checks say of it, and what is needed to trace it."""

    model_config = ConfigDict(extra="allow")

    notice: str
    kind: Literal["findings", "soap"]
    text: str
    sections: dict[str, str]
    valid: bool
    issues: list[IssueModel]
    warnings: list[str]
    thought: str | None
    finish_reason: Literal["stop", "length", "repetition"]
    tokens: TokenCounts


class ErrorDetail(BaseModel):
    message: str
    type: Literal["invalid_request_error", "server_error"]
    code: int


class ErrorModel(BaseModel):
    """Every answer that is not 200."""

    error: ErrorDetail


class TokenIds(BaseModel):
    count: int
    max_model_len: int
    tokens: list[int]


def _error(what: str) -> dict[str, Any]:
    return {"description": what, "model": ErrorModel}


FORBIDDEN: dict[int | str, dict[str, Any]] = {403: _error("Asked by a name or a web page that is not of this machine.")}
REFUSALS: dict[int | str, dict[str, Any]] = {
    **FORBIDDEN,
    401: _error("The key is missing or wrong."),
    503: _error("Busy, still loading, or stopping; see Retry-After."),
}
OPEN: dict[str, Any] = {"security": []}
HEALTH: dict[int | str, dict[str, Any]] = dict(FORBIDDEN)
READY: dict[int | str, dict[str, Any]] = {**FORBIDDEN, 503: {"description": "The model is still being loaded."}}
_BODIES: dict[int | str, dict[str, Any]] = {
    **REFUSALS,
    400: _error("Not JSON, not a form, or more than fits the model's context."),
    404: _error("Another model than the one served."),
    408: _error("The body arrives too slowly."),
    413: _error("The body is too large."),
    415: _error("A content type that is not taken."),
    422: _error("A field or an input that cannot be used."),
}


def version() -> str:
    try:
        return metadata.version("medgemma-app")
    except metadata.PackageNotFoundError:
        return "0"  # run from a source folder that was never installed


def with_key(described: dict[str, Any]) -> None:
    """Adds to the description of the whole that a key is asked for, on all routes but those that say otherwise."""
    described.setdefault("components", {})["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    described["security"] = [{"key": []}]


def drafting(request: type[BaseModel], files: list[str]) -> dict[str, Any]:
    """Of a route that takes JSON or a form, in which ``files`` may be files, and gives a report or a stream that ends with one."""
    schema = _schema(request)
    form = {**schema, "properties": {name: _part(name, value, files) for name, value in schema["properties"].items()}}
    body = {"required": True, "content": {JSON: {"schema": schema}, FORM: {"schema": form}}}
    given = {"description": "The report; or its tokens as events, then the report.", "model": ReportModel, "content": {STREAM: {}}}
    return {"response_model": None, "responses": {200: given, **_BODIES}, "openapi_extra": {"requestBody": body}}


def chatting(request: type[BaseModel]) -> dict[str, Any]:
    """Of the chat route."""
    return _json_route(request, {"description": "OpenAI's chat completion, or its chunks.", "content": {JSON: {}, STREAM: {}}})


def exporting() -> dict[str, Any]:
    """Of the route that turns a record into a file."""
    fields = {"record": {"type": "string"}, "to": {"type": "string"}, "scan": {"type": "string", "format": "binary"}}
    form = {"type": "object", "properties": fields, "required": ["record", "to"]}
    given = {"description": "The file.", "content": {"application/octet-stream": {}}}
    body = {"required": True, "content": {FORM: {"schema": form}}}
    return {"response_model": None, "responses": {200: given, **_BODIES}, "openapi_extra": {"requestBody": body}}


def tokenizing(request: type[BaseModel]) -> dict[str, Any]:
    """Of the route that counts tokens."""
    return _json_route(request, {"description": "Their number, and the ids.", "model": TokenIds})


def _json_route(request: type[BaseModel], given: dict[str, Any]) -> dict[str, Any]:
    body = {"required": True, "content": {JSON: {"schema": _schema(request)}}}
    return {"response_model": None, "responses": {200: given, **_BODIES}, "openapi_extra": {"requestBody": body}}


def _part(name: str, value: dict[str, Any], files: list[str]) -> dict[str, Any]:
    if name not in files:
        return value
    file = {"type": "string", "format": "binary"}
    return {"type": "array", "items": file, "maxItems": value.get("maxItems")} if name == "views" else file


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    """With every definition in its place: requestBody has nowhere else to put them."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def placed(value: Any) -> Any:
        if isinstance(value, list):
            return [placed(item) for item in value]
        if not isinstance(value, dict):
            return value
        if "$ref" in value:
            return placed(definitions[value["$ref"].rsplit("/", 1)[1]])
        return {name: placed(inner) for name, inner in value.items() if name != "discriminator"}

    found: dict[str, Any] = placed(schema)
    return found
