"""The served model: used by the threads of requests, and answered by the engine's thread through a queue for each request."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, suppress
from contextvars import ContextVar
from copy import copy
from dataclasses import dataclass, field
from queue import Queue
from threading import Lock
from typing import TYPE_CHECKING, Any

from medgemma_app.errors import InputError, MedGemmaError, OptionError
from medgemma_app.model.answer import collect
from medgemma_app.model.decoding import Decoding, model_failed, no_numbers
from medgemma_app.model.generation import Estimate, FinishReason, Generation, GenerationError, Options, Token, checked_options
from medgemma_app.model.local import MedGemma
from medgemma_app.prompts import Prompt, checked_prompt
from medgemma_app.serve.responses import STOPPED

if TYPE_CHECKING:
    from PIL.Image import Image

    from medgemma_app.model.chat import Turns
    from medgemma_app.model.loaded import LoadedModel

    Submit = Callable[[list[int], tuple[Image, ...], Options], "TokenQueue"]  # ids, pictures, options -> the queue of the answer

MOST_LETTERS_A_TOKEN = 16  # of a whole text; English has four


class TokenQueue(Queue[Any]):
    """The tokens of one request, as the engine generates them. Closing the queue ends the request before the next token."""

    row: Decoding  # the same tokens with their texts, for the chat endpoint

    def __init__(self) -> None:
        super().__init__()
        self.closed = self._ended = False
        self.ending: FinishReason | None = None

    def put(self, item: Any, *_: Any) -> None:
        """Adds a token, an error, or None for the end. Where ``ending`` is set, the answer ends with this token and for that reason."""
        if self.ending is not None and hasattr(item, "token"):
            item.finish_reason, self.closed = self.ending, True
        super().put(item)

    def __iter__(self) -> TokenQueue:
        return self

    def __next__(self) -> Any:
        """Raises GenerationError where the model fails, or the engine is stopped."""
        item: Any = None if self._ended else self.get()
        while hasattr(item, "uid"):  # mlx-vlm's GenerationContext, which comes before the first token
            item = self.get()
        if not hasattr(item, "token"):
            self._ended = True
            if isinstance(item, Exception):
                raise item if isinstance(item, MedGemmaError) else model_failed(item)
            raise StopIteration
        if not math.isfinite(item.logprobs):
            raise no_numbers()
        return item

    def close(self) -> None:
        self.closed = self._ended = True
        self.put(None)  # wakes a thread that waits for the next token


@dataclass
class PendingChat:
    """A tokenised chat request, and the queue that its answer arrives in."""

    ids: list[int]
    images: tuple[Image, ...]
    options: Options
    answer: TokenQueue = field(default_factory=TokenQueue)


# mlx-vlm's chat endpoint renders prompts in its own way and passes them on; the engine takes the request from this variable instead.
PENDING_CHAT: ContextVar[PendingChat] = ContextVar("pending_chat")


def stopping() -> GenerationError:
    """The engine is being shut down."""
    return GenerationError(STOPPED)


class ServedModel:
    """A model that an engine owns. It takes any number of generations at a time, one per thread, and decodes them together."""

    can_count = True
    packages = MedGemma.packages
    _tokenizing = Lock()  # a fast tokenizer may not be used by two threads
    _queue: TokenQueue | None = None
    _cancelled = False

    def __init__(self, loaded: LoadedModel, submit: Submit, *, id: str, revision: str | None) -> None:
        self.loaded, self._submit, self.id, self.revision, self.context = loaded, submit, id, revision, loaded.context
        with suppress(OptionError):  # which requests with a schema get, and no others
            _ = loaded.token_bytes  # prepared before the first request: it takes seconds, in which no other thread can run

    @property
    def square(self) -> tuple[int, int]:
        """The width and height that pictures are scaled to, in pixels."""
        size = self.loaded.processor.image_processor.size if self.loaded.model.vision_tower is not None else {"width": 1, "height": 1}
        return size["width"], size["height"]

    def describe(self) -> dict[str, Any]:
        """What a report says of the model."""
        return {"id": self.id, "revision": self.revision, **self.loaded.facts}

    def estimate(self, prompt: Prompt) -> Estimate | None:
        """None, since the cost of a prompt depends on the other requests."""
        return None

    def batch_size(self, max_tokens: int) -> int:
        """The number of prompts that fit into memory with the weights."""
        return self.loaded.batch_size(max_tokens)

    def stream(self, prompt: Prompt, options: Options | None = None) -> Generator[Token, None, None]:
        """Yields each Token as it is generated, while the engine decodes other requests too."""
        return self._tokens(prompt, self._start(prompt, options))

    def generate(self, prompt: Prompt, options: Options | None = None, *, on_token: Callable[[Token], object] | None = None) -> Generation:
        """The tokens of ``stream``, folded into a Generation."""
        decoding = self._start(prompt, options)
        return collect(self._tokens(prompt, decoding), decoding, on_token)

    def generate_many(
        self, prompts: Iterable[Prompt], options: Options | None = None, *, batch_size: int = 8
    ) -> Iterator[Generation | MedGemmaError]:
        """Generates one after the other; the engine batches requests that arrive at the same time."""
        for prompt in prompts:
            try:
                yield self.generate(prompt, options)
            except MedGemmaError as error:
                yield error

    def session(self) -> ServedModel:
        """The same model for one request, so that ``cancel`` ends this request only."""
        return copy(self)

    def cancel(self) -> None:
        """Ends the current generation before its next token, and every later one, with a GenerationError."""
        self._cancelled = True
        if self._queue is not None:
            self._queue.close()

    def tokenize(self, prompt: Prompt) -> list[int]:
        self._bounded(*prompt.parts, prompt.system)
        with self._tokenizing:
            return self.loaded.chat.encode(checked_prompt(prompt))

    def tokenize_turns(self, turns: Turns, system: str | None) -> list[int]:
        """The token ids of a conversation, like ``tokenize``."""
        self._bounded(system, *(part for _, parts in turns for part in parts))
        with self._tokenizing:
            return self.loaded.chat.encode_turns(turns, system)

    def tokenize_text(self, text: str) -> list[int]:
        """The token ids of a bare text, without a turn around it."""
        self._bounded(text)
        with self._tokenizing:
            return list(self.loaded.chat.tokenizer.encode(text))

    def _bounded(self, *parts: object) -> None:
        """Raises InputError for texts that are far too long: all other requests would wait while they are tokenised."""
        letters = sum(len(part) for part in parts if isinstance(part, str))
        if letters > MOST_LETTERS_A_TOKEN * self.context:
            raise InputError(f"the text has {letters} characters, and the model takes at most {self.context - 1} tokens; shorten it")

    def ask(self, turns: Turns, system: str | None, options: Options) -> PendingChat:
        """A conversation, ready for ``complete``. Raises ContextError when it does not fit."""
        ids = self.tokenize_turns(turns, system)
        images = tuple(part for _, parts in turns for part in parts if not isinstance(part, str))
        return PendingChat(ids, images, self.loaded.fit(ids, options))

    def _start(self, prompt: Prompt, options: Options | None) -> Decoding:
        return self.loaded.start(self.tokenize(prompt), checked_options(options, prompt))

    def _tokens(self, prompt: Prompt, row: Decoding) -> Generator[Token, None, None]:
        with closing(self._submit(row.prompt_ids, prompt.images, row.options)) as answer:
            self._queue = answer
            reason: FinishReason | None = None
            if self._cancelled:
                answer.close()
            for item in answer:
                if item.finish_reason != "stop":  # a stop token is not part of the answer
                    yield row.decode(item.token, item.logprobs)
                if reason := "repetition" if row.looping else item.finish_reason:
                    break
        if reason is None:
            raise stopping()
        yield from row.end(reason)
