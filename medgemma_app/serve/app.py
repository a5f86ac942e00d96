"""The routes, what OpenAPI says about them, and the files of the page."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException

from medgemma_app import __version__
from medgemma_app.errors import MedGemmaError
from medgemma_app.export.html import style
from medgemma_app.notices import NOTICE
from medgemma_app.serve.access import AT_END, Guard, Refused, drained, handle_error
from medgemma_app.serve.engine import Engine
from medgemma_app.serve.limits import BUSY_SECONDS, Held, Readers
from medgemma_app.serve.reading import ChatJob, ReportJob, read_chat, read_export, read_findings, read_soap, read_tokenize
from medgemma_app.serve.schemas import (
    FORM,
    JSON,
    STREAM,
    ChatBody,
    ErrorModel,
    FindingsRequest,
    ReportModel,
    SoapRequest,
    TokenIds,
    TokenizeBody,
)
from medgemma_app.serve.transfer import Completion, Events, content_type, json_response, read_body, report_events, while_connected

if TYPE_CHECKING:
    from medgemma_app.tasks import OnToken, Report

    T = TypeVar("T")

MOST_REQUESTS = 64  # requests that have arrived, running or waiting; further ones get 503
PAGE = {"index.html": "text/html", "page.css": "text/css", "page.js": "text/javascript", "report.css": "text/css"}
# Nothing is loaded from elsewhere, and nothing is stored: the browser holds the picture, the notes and the report.
SAFE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def is_text(function: Callable[..., object], raw: bytearray) -> bool:
    """True where a request holds no picture and no document, so that parsing it takes next to no time."""
    return (function in (read_chat, read_tokenize) and b"image_url" not in raw) or (function is read_soap and b"filename" not in raw)


class Service:
    """The engine, the processes that parse requests, and the threads that wait for answers."""

    def __init__(self, engine: Engine, readers: Readers) -> None:
        self.engine, self.readers = engine, readers
        self.created = int(time.time())
        self.requests = 0
        self.answering = ThreadPoolExecutor(MOST_REQUESTS, "answering")

    async def read(self, request: Request, function: Callable[..., T], *arguments: Any, forms: bool = False) -> T:
        """Applies ``function`` to the request's body in another process. Raises Refused when the client disconnects."""
        try:
            kind = content_type(request, forms=forms)
        except Refused:
            await drained(request.receive)
            raise
        held = Held(self.readers.budget)
        request.scope[AT_END].append(held.release)
        raw = await read_body(request, held)
        if self.requests >= MOST_REQUESTS:
            raise Refused(503, f"{MOST_REQUESTS} requests are already running or waiting; try again", retry_after=BUSY_SECONDS)
        self.requests += 1
        request.scope[AT_END].append(self._leave)
        found = await while_connected(request, self.readers.read(function, raw, kind, *arguments, text=is_text(function, raw)))
        raw.clear()
        await held.resize(len(found) if isinstance(found, bytes) else found.size)  # type: ignore[attr-defined]
        return found

    def _leave(self) -> None:
        self.requests -= 1

    async def _thread(self, request: Request, work: Callable[[], T], cancel: Callable[[], None] | None = None) -> T:
        return await while_connected(request, asyncio.get_running_loop().run_in_executor(self.answering, work), cancel)

    def check_model(self, name: str | None) -> None:
        """Raises Refused for any model but the one the server was started with."""
        if name not in (None, self.engine.served.id):
            raise Refused(404, f"this server only serves {self.engine.served.id}; use that name as the model")

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        self.readers.start()
        yield
        self.engine.stop()
        self.readers.stop()
        self.answering.shutdown(wait=False, cancel_futures=True)

    # The routes.

    async def page(self, name: str = "index.html") -> Response:
        """A file of the page, which is not part of the API."""
        if name not in PAGE:
            raise Refused(404, "the page has no such file")
        content = style() if name == "report.css" else (Path(__file__).parent / "page" / name).read_text(encoding="utf-8")
        return Response(content, media_type=PAGE[name], headers=SAFE_HEADERS)

    async def health(self) -> dict[str, str]:
        """200 while the server runs."""
        return {"status": "ok"}

    async def readiness(self) -> Response:
        """200 once the model is loaded, 503 before."""
        ready = self.engine.is_ready
        return JSONResponse({"status": "ready" if ready else "loading"}, 200 if ready else 503)

    async def models(self) -> dict[str, Any]:
        """The one model, in the format of OpenAI with the fields that vLLM adds."""
        model = self.engine.served
        entry = {"id": model.id, "object": "model", "created": self.created, "owned_by": "medgemma-app"}
        return {"object": "list", "data": [{**entry, "loaded": True, "max_model_len": model.context}]}

    async def findings(self, request: Request) -> Response:
        """A findings report of a radiograph."""
        return await self._draft(request, await self.read(request, read_findings, self.engine.served.square, forms=True))

    async def soap(self, request: Request) -> Response:
        """A SOAP note of a visit."""
        return await self._draft(request, await self.read(request, read_soap, forms=True))

    async def _draft(self, request: Request, asked: ReportJob) -> Response:
        from medgemma_app.tasks import write

        self.check_model(asked.model)
        model = self.engine.served.session()
        task = await self._thread(request, lambda: asked.task().fitted(model))

        def answer(on_token: OnToken | None) -> Report:
            return write(model, task, retries=asked.retries, on_token=on_token)

        if asked.stream or STREAM in request.headers.get("accept", "").lower():
            view = request.query_params.get("view") == "html"
            return Events(report_events(answer, self.answering, tokens=not asked.retries, view=view), model.cancel)
        report = await self._thread(request, lambda: answer(None), model.cancel)
        return json_response(report.to_dict())

    async def export(self, request: Request) -> Response:
        """A report (``record``) as a file of the format ``to``; DICOM formats need ``scan``, the DICOM file it is about.

        ``images`` are the pictures that the model saw, named by their captions, and ``source`` the notes: for HTML and PDF.
        """
        content = await self.read(request, read_export, forms=True)
        headers = {**SAFE_HEADERS, "Content-Disposition": "attachment"}
        return Response(content, media_type="application/octet-stream", headers=headers)

    async def chat(self, request: Request) -> Any:
        """OpenAI's chat completion."""
        body: ChatJob = await self.read(request, read_chat, self.engine.served.square)
        self.check_model(body.model)
        model = self.engine.served.session()
        asked = await self._thread(request, lambda: model.ask(body.turns, body.system, body.options))
        made = Completion(body)
        if body.stream:
            return Events(made.chunks(partial(model.answer, asked), asked.row, self.answering), model.cancel)
        await self._thread(request, lambda: model.answer(asked), model.cancel)
        return json_response(made.whole(asked.row))

    async def tokenize(self, request: Request) -> dict[str, Any]:
        """The token ids that the model would be fed, in vLLM's format."""
        served = self.engine.served
        body: ChatJob = await self.read(request, read_tokenize, served.square)
        self.check_model(body.model)

        def ids() -> list[int]:
            return served.tokenize_turns(body.turns, body.system) if body.turns else served.tokenize_text(body.system or "")

        found = await self._thread(request, ids)
        return {"count": len(found), "max_model_len": served.context, "tokens": found}


def _error(description: str) -> dict[str, Any]:
    return {"description": description, "model": ErrorModel}


FORBIDDEN: dict[int | str, dict[str, Any]] = {403: _error("The Host or Origin header names another machine.")}
REFUSALS: dict[int | str, dict[str, Any]] = {
    **FORBIDDEN,
    401: _error("The key is missing or wrong."),
    503: _error("Busy, still loading, or shutting down; see Retry-After."),
}
BODY_REFUSALS: dict[int | str, dict[str, Any]] = {
    **REFUSALS,
    400: _error("Not JSON, not a form, or a prompt that does not fit the model's context."),
    404: _error("A model other than the one served."),
    408: _error("The body arrives too slowly."),
    413: _error("The body is too large."),
    415: _error("A content type that the route does not accept."),
    422: _error("A field or an input that cannot be used."),
}
COMPONENT = "#/components/schemas/{model}"
REPORT = {"description": "The report; or its tokens as events, then the report.", "model": ReportModel, "content": {STREAM: {}}}
CHAT = {"description": "OpenAI's chat completion, or its chunks.", "content": {JSON: {}, STREAM: {}}}
TOKENS = {"description": "The token ids and their number.", "model": TokenIds}
EXPORTED = {"description": "The file.", "content": {"application/octet-stream": {}}}
_TEXT, _FILE = {"type": "string"}, {"type": "string", "format": "binary"}
_FILES: dict[str, Any] = {"type": "array", "items": _FILE}
_EXPORT_FIELDS = {"record": _TEXT, "to": _TEXT, "scan": _FILES, "images": _FILES, "source": _TEXT}
EXPORT_FORM = {"type": "object", "properties": _EXPORT_FIELDS, "required": ["record", "to"]}


def route_arguments(response: dict[str, Any], body: type[BaseModel] | None = None, *files: str) -> dict[str, Any]:
    """FastAPI's arguments for a route that takes ``body`` as JSON, and with ``files`` as a form too, in which these fields are files.

    Only the export route has no ``body``.
    """
    content = {FORM: {"schema": EXPORT_FORM}}
    if body is not None:
        schema = body.model_json_schema(ref_template=COMPONENT)
        schema.pop("$defs", None)  # ``describe_bodies`` adds them for all routes
        fields = {**schema["properties"], **{name: _FILES if name == "views" else _FILE for name in files}}
        content = {JSON: {"schema": schema}, **({FORM: {"schema": {**schema, "properties": fields}}} if files else {})}
    extra = {"requestBody": {"required": True, "content": content}}
    return {"response_model": None, "responses": {200: response, **BODY_REFUSALS}, "openapi_extra": extra}


def describe_bodies(app: FastAPI, *, needs_key: bool) -> None:
    """Adds to the OpenAPI description of ``app`` the schemas that bodies refer to, and that routes need a key unless they say otherwise."""
    description = app.openapi()
    _, found = models_json_schema(
        [(body, "validation") for body in (FindingsRequest, SoapRequest, ChatBody, TokenizeBody)], ref_template=COMPONENT
    )
    description["components"]["schemas"] |= found["$defs"]
    if needs_key:
        description["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        description["security"] = [{"key": []}]


def build(engine: Engine, readers: Readers, *, key: str | None = None, loopback: bool = True) -> Guard:
    """The application behind its ``Guard``, which checks ``key`` and ``loopback``."""
    service = Service(engine, readers)
    app = FastAPI(title="medgemma-app", version=__version__, description=NOTICE, lifespan=service.lifespan, docs_url=None, redoc_url=None)
    app.get("/health", responses=FORBIDDEN, openapi_extra={"security": []})(service.health)
    loading: dict[int | str, dict[str, Any]] = {**FORBIDDEN, 503: {"description": "The model is still loading."}}
    app.get("/ready", responses=loading, openapi_extra={"security": []})(service.readiness)
    app.get("/v1/models", responses=REFUSALS)(service.models)
    app.post("/v1/findings", **route_arguments(REPORT, FindingsRequest, "scan", "prior", "views"))(service.findings)
    app.post("/v1/soap", **route_arguments(REPORT, SoapRequest, "notes"))(service.soap)
    app.post("/v1/export", **route_arguments(EXPORTED))(service.export)
    app.post("/v1/chat/completions", **route_arguments(CHAT, ChatBody))(service.chat)
    app.post("/tokenize", **route_arguments(TOKENS, TokenizeBody))(service.tokenize)
    for path in ("/", "/page/{name}"):
        app.get(path, include_in_schema=False)(service.page)
    describe_bodies(app, needs_key=key is not None)
    for kind in (HTTPException, MedGemmaError):
        app.add_exception_handler(kind, handle_error)
    return Guard(app, ready=lambda: engine.is_ready, key=key, loopback=loopback)
