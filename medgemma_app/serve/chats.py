"""mlx_vlm.server's chat endpoint, asking this project's engine."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from mlx_vlm.server import ChatRequest, chat_completions_endpoint
from mlx_vlm.server.app import _protocol_deps
from mlx_vlm.server.openai import register_routes
from mlx_vlm.server.runtime import runtime

from medgemma_app.errors import MedGemmaError
from medgemma_app.serve.engine import Engine
from medgemma_app.serve.served import ASKED, Asked


def serve_chats(engine: Engine) -> None:
    """Has mlx-vlm's chat endpoint ask ``engine``, and nothing else, in this process.

    The endpoint takes what it depends on from the module it stands in, by ``register_routes``; the routes themselves are not used.
    """
    own = {"get_cached_model": lambda *_, **__: (engine.model, engine.processor, engine.config), "apply_chat_template": lambda *_, **__: ""}
    register_routes(APIRouter(), SimpleNamespace(**{**vars(_protocol_deps), **own}))
    runtime.response_generator = engine


async def complete(asked: Asked, request: Request, **body: Any) -> Any:
    """mlx-vlm's answer to a chat request, whole or as a stream of events. ``body`` has no words of the user's."""
    ASKED.set(asked)
    asking = [{"role": "user", "content": "see the request"}]
    # An empty context_management keeps the endpoint from summing up long conversations by itself.
    chat = ChatRequest(messages=asking, max_tokens=asked.options.max_tokens, temperature=0.0, context_management=[], **body)
    try:
        return await chat_completions_endpoint(chat, request)
    except HTTPException as error:
        if isinstance(error.__context__, MedGemmaError):  # which the endpoint has wrapped in a 500 of its own
            raise error.__context__ from None
        raise
