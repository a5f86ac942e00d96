"""What goes between a request and the engine: the question in, the tokens out."""

from __future__ import annotations

import math
from contextvars import ContextVar
from dataclasses import dataclass, field
from queue import Queue
from typing import TYPE_CHECKING, Any

from mlx_vlm.server.generation import GenerationContext, StreamingToken

from medgemma_app.errors import MedGemmaError
from medgemma_app.model.decoding import model_failed, no_numbers
from medgemma_app.model.generation import GenerationError, Options

if TYPE_CHECKING:
    from PIL.Image import Image


class Answer(Queue[Any]):
    """The tokens of one request as the engine makes them. Closing it ends the request before the next token."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = self._ended = False

    def __iter__(self) -> Answer:
        return self

    def __next__(self) -> StreamingToken:
        """Raises GenerationError where the model fails, or the engine is stopped."""
        item = None if self._ended else self.get()
        while isinstance(item, GenerationContext):
            item = self.get()
        if not isinstance(item, StreamingToken):
            self._ended = True
            if isinstance(item, Exception):
                raise item if isinstance(item, MedGemmaError) else model_failed(item)
            raise StopIteration
        if not math.isfinite(item.logprobs):
            raise no_numbers()
        return item

    def close(self) -> None:
        self.closed = self._ended = True
        self.put(None)  # whoever waits for the next token is let go at once


@dataclass
class Asked:
    """What a chat request asks, and its answer once the engine has been given it."""

    ids: list[int]
    images: tuple[Image, ...]
    options: Options
    answer: Answer = field(default_factory=Answer)


# The chat endpoint hands the engine a prompt that it has rendered itself; what was really asked goes past it with the request's context.
ASKED: ContextVar[Asked] = ContextVar("asked")


def stopping() -> GenerationError:
    """The engine is being shut down."""
    return GenerationError("the server stopped before the answer was complete; ask again when it is back")
