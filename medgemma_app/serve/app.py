"""The routes: reports beside mlx-vlm's own chat endpoint, over one engine.

mlx_vlm.server's application is not used as it stands: it answers pages of any origin, loads and unloads models by name, fetches
pictures from addresses, reads them from this disk, lists its folders, and keeps what was asked. Only what is needed of it is here.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from medgemma_app.errors import MedGemmaError
from medgemma_app.notices import NOTICE
from medgemma_app.serve import responses
from medgemma_app.serve.access import AT_END, Guard
from medgemma_app.serve.bodies import Refused, checked, handle, read_fields, read_json
from medgemma_app.serve.chats import complete, serve_chats
from medgemma_app.serve.engine import Engine
from medgemma_app.serve.page import add_page, exported
from medgemma_app.serve.reading import ask_chat, findings_of, ids_of, soap_of
from medgemma_app.serve.schemas import ChatBody, Drafting, FindingsRequest, SoapRequest, TokenizeBody
from medgemma_app.serve.streaming import Events, report_events, report_response, wants_stream, whole

if TYPE_CHECKING:
    from medgemma_app.serve.served import ServedModel
    from medgemma_app.tasks import OnToken, Report, Task

    T = TypeVar("T")

MOST_HELD = 64  # requests that run or wait; the next one is asked to come again
AHEAD = 2  # requests whose inputs are read while those before them are answered


class Service:
    """One engine, and the threads around it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.created = int(time.time())
        # One thread reads, since decoders of pictures set what holds for the whole process; answers mostly wait.
        self._reader = ThreadPoolExecutor(1, "reading")
        self.answering = ThreadPoolExecutor(MOST_HELD, "answering")
        self._slots: asyncio.Semaphore | None = None

    @property
    def ready(self) -> bool:
        return self.engine.is_ready

    async def _slot(self, request: Request) -> None:
        """Waits for the request's turn, which lasts to its end: decoded pictures are large, and few beyond those that run hold theirs."""
        if self._slots is None:
            self._slots = asyncio.Semaphore(self.engine.most + AHEAD)
        await self._slots.acquire()
        request.scope[AT_END].append(self._slots.release)

    async def read(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reader, work)

    def check_model(self, name: str | None) -> None:
        """Only what the server was started with: nothing is loaded for a request."""
        if name not in (None, self.engine.served.id):
            raise Refused(404, f"this server serves {self.engine.served.id} and no other model; ask for that one")

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        # mlx-vlm's chat endpoint waits for tokens in the loop's own threads, of which there would be as few as processors.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2 * MOST_HELD + (os.cpu_count() or 1)))
        serve_chats(self.engine)
        yield
        self.engine.stop()
        for pool in (self._reader, self.answering):
            pool.shutdown(wait=False, cancel_futures=True)

    # The routes.

    async def health(self) -> dict[str, str]:
        """Runs."""
        return {"status": "ok"}

    async def readiness(self) -> Response:
        """Answers requests: the model is loaded."""
        return JSONResponse({"status": "ready" if self.ready else "loading"}, 200 if self.ready else 503)

    async def models(self) -> dict[str, Any]:
        """The one model there is, in OpenAI's words and vLLM's."""
        model = self.engine.served
        entry = {"id": model.id, "object": "model", "created": self.created, "owned_by": "medgemma-app"}
        return {"object": "list", "data": [{**entry, "loaded": True, "max_model_len": model.context}]}

    async def findings(self, request: Request) -> Response:
        """A findings report of a radiograph."""
        fields, _ = await read_fields(request)
        asked = await self.read(lambda: checked(FindingsRequest, fields))
        return await self._draft(request, asked, partial(findings_of, asked))

    async def soap(self, request: Request) -> Response:
        """A SOAP note of a visit."""
        fields, raw = await read_fields(request)
        asked = checked(SoapRequest, fields)
        return await self._draft(request, asked, partial(soap_of, asked, raw))

    async def _draft(self, request: Request, asked: Drafting, read: Callable[[ServedModel], Task]) -> Response:
        from medgemma_app.tasks import write

        self.check_model(asked.model)
        model = self.engine.served.session()
        await self._slot(request)
        task = await self.read(lambda: read(model))

        def answer(on_token: OnToken | None) -> Report:
            return write(model, task, retries=asked.retries, on_token=on_token)

        if wants_stream(request, asked.stream):
            return Events(
                report_events(answer, self.answering, tokens=not asked.retries, view=request.query_params.get("view") == "html"),
                model.cancel,
            )
        working = asyncio.get_running_loop().run_in_executor(self.answering, answer, None)
        return report_response(await whole(request, working, model.cancel))

    async def export(self, request: Request) -> Response:
        """The record of a report, in the form of ``record``, as a file of the format ``to``; ``scan`` is its picture, for DICOM."""
        fields, _ = await read_fields(request)
        return await self.read(partial(exported, fields))

    async def chat(self, request: Request) -> Any:
        """OpenAI's chat completion."""
        fields = await read_json(request)
        body = await self.read(lambda: checked(ChatBody, fields))
        self.check_model(body.model)
        await self._slot(request)
        asked = await self.read(lambda: ask_chat(self.engine.served, body))
        usage = {"include_usage": body.stream_options is not None and body.stream_options.include_usage}
        working = complete(
            asked, request, model=body.model, stream=body.stream, logprobs=body.logprobs, stream_options=usage if body.stream else None
        )
        if not body.stream:
            return await whole(request, working, asked.answer.close)
        return Events((await working).body_iterator, asked.answer.close)

    async def tokenize(self, request: Request) -> dict[str, Any]:
        """The tokens that the model would be fed, as vLLM gives them."""
        fields = await read_json(request)
        body = await self.read(lambda: checked(TokenizeBody, fields))
        self.check_model(body.model)
        await self._slot(request)
        ids = await self.read(lambda: ids_of(self.engine.served, body))
        return {"count": len(ids), "max_model_len": self.engine.served.context, "tokens": ids}


def build(engine: Engine, *, key: str | None = None, loopback: bool = True) -> Guard:
    """The application, guarded; see ``Guard`` for ``key`` and ``loopback``."""
    service = Service(engine)
    app = FastAPI(
        title="medgemma-app", version=responses.version(), description=NOTICE, lifespan=service.lifespan, docs_url=None, redoc_url=None
    )
    app.get("/health", responses=responses.HEALTH, openapi_extra=responses.OPEN)(service.health)
    app.get("/ready", responses=responses.READY, openapi_extra=responses.OPEN)(service.readiness)
    app.get("/v1/models", responses=responses.REFUSALS)(service.models)
    app.post("/v1/findings", **responses.drafting(FindingsRequest, ["scan", "prior", "views"]))(service.findings)
    app.post("/v1/soap", **responses.drafting(SoapRequest, ["notes"]))(service.soap)
    app.post("/v1/export", **responses.exporting())(service.export)
    app.post("/v1/chat/completions", **responses.chatting(ChatBody))(service.chat)
    app.post("/tokenize", **responses.tokenizing(TokenizeBody))(service.tokenize)
    add_page(app)
    if key is not None:
        responses.with_key(app.openapi())
    for kind in (HTTPException, MedGemmaError):
        app.add_exception_handler(kind, handle)
    return Guard(app, ready=lambda: service.ready, key=key, loopback=loopback, most=MOST_HELD)
