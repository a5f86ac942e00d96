"""The routes: reports, chats, exports, and what a client asks before it sends any of these."""

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
from starlette.exceptions import HTTPException

from medgemma_app import __version__
from medgemma_app.errors import MedGemmaError
from medgemma_app.export.html import style
from medgemma_app.notices import NOTICE
from medgemma_app.serve import responses
from medgemma_app.serve.access import AT_END, Guard
from medgemma_app.serve.engine import Engine
from medgemma_app.serve.limits import BUSY_SECONDS, Held, Readers
from medgemma_app.serve.reading import ChatJob, ReportJob, read_chat, read_export, read_findings, read_soap, read_tokenize
from medgemma_app.serve.responses import STREAM, Refused, handle_error
from medgemma_app.serve.schemas import FindingsRequest, SoapRequest
from medgemma_app.serve.transfer import (
    Completion,
    Events,
    content_type,
    drained,
    json_response,
    read_body,
    report_events,
    while_connected,
)

if TYPE_CHECKING:
    from medgemma_app.tasks import OnToken, Report

    T = TypeVar("T")

MOST_REQUESTS = 64  # that have arrived, whether they run or wait; further ones get 503
PAGE = {"index.html": "text/html", "page.css": "text/css", "page.js": "text/javascript", "report.css": "text/css"}
# Nothing is loaded from elsewhere, and nothing is stored: the browser holds the picture, the notes and the report.
HEADERS = {
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
        """A file of the page, which is no part of the API."""
        if name not in PAGE:
            raise Refused(404, "the page has no such file")
        content = style() if name == "report.css" else (Path(__file__).parent / "page" / name).read_text(encoding="utf-8")
        return Response(content, media_type=PAGE[name], headers=HEADERS)

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
        headers = {**HEADERS, "Content-Disposition": "attachment"}
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


def build(engine: Engine, readers: Readers, *, key: str | None = None, loopback: bool = True) -> Guard:
    """The application behind its ``Guard``, which has ``key`` and ``loopback``."""
    service = Service(engine, readers)
    app = FastAPI(title="medgemma-app", version=__version__, description=NOTICE, lifespan=service.lifespan, docs_url=None, redoc_url=None)
    app.get("/health", responses=responses.FORBIDDEN, openapi_extra=responses.OPEN)(service.health)
    app.get("/ready", responses=responses.READY, openapi_extra=responses.OPEN)(service.readiness)
    app.get("/v1/models", responses=responses.REFUSALS)(service.models)
    app.post("/v1/findings", **responses.report_route(FindingsRequest, "scan", "prior", "views"))(service.findings)
    app.post("/v1/soap", **responses.report_route(SoapRequest, "notes"))(service.soap)
    app.post("/v1/export", **responses.export_route())(service.export)
    app.post("/v1/chat/completions", **responses.chat_route())(service.chat)
    app.post("/tokenize", **responses.tokenize_route())(service.tokenize)
    for path in ("/", "/page/{name}"):
        app.get(path, include_in_schema=False)(service.page)
    responses.describe(app, needs_key=key is not None)
    for kind in (HTTPException, MedGemmaError):
        app.add_exception_handler(kind, handle_error)
    return Guard(app, ready=lambda: engine.is_ready, key=key, loopback=loopback)
