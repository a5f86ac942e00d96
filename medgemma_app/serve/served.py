"""The served model: threads of requests call it, and the engine's thread answers through a queue for each request."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, suppress
from copy import copy
from dataclasses import dataclass, field
from itertools import count
from queue import SimpleQueue
from threading import Lock
from typing import TYPE_CHECKING, Any

from medgemma_app.errors import InputError, MedGemmaError, OptionError
from medgemma_app.model.answer import Decoding, collect
from medgemma_app.model.generation import Estimate, Generation, GenerationError, Options, Token, checked_options
from medgemma_app.model.loaded import LoadedModel
from medgemma_app.prompts import Prompt
from medgemma_app.serve.access import SERVER_STOPPED

if TYPE_CHECKING:
    from PIL.Image import Image

    from medgemma_app.model.chat import Turns

MOST_LETTERS_A_TOKEN = 16  # of a whole text; English has four


@dataclass(eq=False)
class EngineRequest:
    """A prompt for the engine, and the queue in which its tokens reach the thread that waits for them."""

    row: Decoding
    images: tuple[Image, ...]
    processors: list[Callable[..., Any]]  # mlx-vlm's logits processors
    number: int = field(default_factory=count().__next__)  # in the order in which requests come
    reading: Any = None  # mlx-vlm's PromptProcessingBatch, once the prompt is begun
    closed: bool = False  # nobody waits for the answer any more

    def __post_init__(self) -> None:
        self._queue = SimpleQueue[Token | MedGemmaError]()

    @property
    def ids(self) -> list[int]:
        """The tokens of the prompt."""
        return self.row.prompt_ids

    def put(self, item: Token | MedGemmaError) -> None:
        """Adds a token, or the error that ends the answer."""
        self._queue.put(item)

    def tokens(self) -> Iterator[Token]:
        """The tokens as they arrive. Raises GenerationError where the model fails, or the engine is stopped."""
        while True:
            item = self._queue.get()
            if isinstance(item, MedGemmaError):
                raise item
            yield item
            if item.finish_reason is not None:
                return

    def close(self) -> None:
        """Ends the request before its next token, with a GenerationError."""
        self.closed = True
        self.put(stopping())


def stopping() -> GenerationError:
    """The error for requests while the engine is being shut down."""
    return GenerationError(SERVER_STOPPED)


class ServedModel(LoadedModel):
    """A model that an engine owns. It takes any number of generations at a time, one per thread, and the engine answers them together."""

    submit: Callable[[EngineRequest], None]  # the engine's
    _tokenizing = Lock()  # a fast tokenizer may not be used by two threads
    _request: EngineRequest | None = None
    _cancelled = False

    def prepare(self) -> None:
        """Prepares the vocabulary for schemas before the first request; this takes seconds, during which no other thread can run."""
        with suppress(OptionError):  # only requests with a schema get this error
            _ = self.token_bytes

    @property
    def square(self) -> tuple[int, int]:
        """The width and height that pictures are scaled to, in pixels."""
        size = self.processor.image_processor.size if self.model.vision_tower is not None else {"width": 1, "height": 1}
        return size["width"], size["height"]

    def estimate(self, prompt: Prompt) -> Estimate | None:
        """None, since the cost of a prompt depends on the other requests."""
        return None

    def stream(self, prompt: Prompt, options: Options | None = None) -> Generator[Token, None, None]:
        """Yields each Token as it is generated, while the engine answers other requests too."""
        return self._tokens(self._start(prompt, options))

    def generate(self, prompt: Prompt, options: Options | None = None, *, on_token: Callable[[Token], object] | None = None) -> Generation:
        """The tokens of ``stream``, folded into a Generation."""
        return self.answer(self._start(prompt, options), on_token)

    def answer(self, request: EngineRequest, on_token: Callable[[Token], object] | None = None) -> Generation:
        """The answer to a request that ``ask`` has made."""
        return collect(self._tokens(request), request.row, on_token)

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
        if self._request is not None:
            self._request.close()

    def tokenize(self, prompt: Prompt) -> list[int]:
        """The token ids of ``prompt``. Raises InputError for a text that is far too long."""
        self._bounded(*prompt.parts, prompt.system)
        with self._tokenizing:
            return super().tokenize(prompt)

    def tokenize_turns(self, turns: Turns, system: str | None) -> list[int]:
        """The token ids of a conversation, like ``tokenize``."""
        self._bounded(system, *(part for _, parts in turns for part in parts))
        with self._tokenizing:
            return self.chat.encode_turns(turns, system)

    def tokenize_text(self, text: str) -> list[int]:
        """The token ids of a bare text, without a turn around it."""
        self._bounded(text)
        with self._tokenizing:
            return list(self.chat.tokenizer.encode(text))

    def _bounded(self, *parts: object) -> None:
        """Raises InputError for texts that are far too long, since all other requests would wait while they are tokenised."""
        letters = sum(len(part) for part in parts if isinstance(part, str))
        if letters > MOST_LETTERS_A_TOKEN * self.context:
            raise InputError(f"the text has {letters} characters, but the model takes at most {self.context - 1} tokens; shorten it")

    def ask(self, turns: Turns, system: str | None, options: Options) -> EngineRequest:
        """A conversation, ready for ``answer``. Raises ContextError when it does not fit."""
        images = tuple(part for _, parts in turns for part in parts if not isinstance(part, str))
        return self._request_of(self.tokenize_turns(turns, system), images, options)

    def _start(self, prompt: Prompt, options: Options | None) -> EngineRequest:
        return self._request_of(self.tokenize(prompt), prompt.images, checked_options(options, prompt))

    def _request_of(self, ids: list[int], images: tuple[Image, ...], options: Options) -> EngineRequest:
        row = self.start(ids, options)
        return EngineRequest(row, images, self.processors(row.options))

    def _tokens(self, request: EngineRequest) -> Generator[Token, None, None]:
        with closing(request):
            self._request = request
            if self._cancelled:
                raise stopping()
            self.submit(request)
            yield from request.tokens()
