"""mlx_vlm.server's engine, with the model as this project loads it, its prompts and its pictures.

The engine is mlx-vlm's ``ResponseGenerator``: one thread that owns the model and decodes all requests together. Here it is given
what it is fed (ids and embeddings from ``MedGemma``), and three of its habits are put right, because answers would depend on them:

- one sampler, that of the first request, draws for all requests that run beside it: here every request draws for itself;
- a request is cancelled by a number that is given again to a later one: here by its own queue;
- what fails before a request is taken in fails all that are running: here that request alone.

Prefix caching, speculative decoding and quantised caches stay off, whatever mlx-vlm's environment variables say.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from copy import copy
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

import mlx.core as mx
from mlx_vlm.server.generation import (
    GenerationArguments,
    GenerationContext,
    QueuedGenerationRequest,
    ResponseGenerator,
    resolve_eos_token_ids,
)

from medgemma_app.errors import InputError, MedGemmaError
from medgemma_app.model.decoding import Decoding, penalties
from medgemma_app.model.generation import FinishReason, GenerationError, Options, Token
from medgemma_app.model.loaded import LoadedModel
from medgemma_app.model.local import MedGemma
from medgemma_app.prompts import Prompt
from medgemma_app.serve.answer import ASKED, Answer, Asked, stopping
from medgemma_app.serve.draws import Draws

if TYPE_CHECKING:
    from PIL.Image import Image

    from medgemma_app.model.chat import Turns

MOST_LETTERS_A_TOKEN = 16  # of a whole text; English has four


@dataclass
class Arguments(GenerationArguments):  # type: ignore[misc]
    """mlx-vlm's own arguments, of which the engine here reads ``max_tokens`` and ``logprobs``; ``options`` say the rest."""

    options: Options = field(default_factory=Options)


class Engine(ResponseGenerator):  # type: ignore[misc]
    """Loads ``model`` in a thread of its own and decodes at most ``most`` requests together, by default what memory allows."""

    served: ServedModel

    def __init__(self, model: str, *, revision: str | None = None, progress: bool = False, most: int | None = None) -> None:
        self._wanted: dict[str, Any] = {"model": model, "revision": revision, "progress": progress}
        self.most = most or 0
        self._draws = Draws()
        self._active: dict[int, dict[str, Any]] = {}
        super().__init__(model)

    @property
    def is_ready(self) -> bool:
        """The model is loaded."""
        return self._ready.is_set() and self._load_error is None

    def submit(self, ids: list[int], images: tuple[Image, ...], options: Options, answer: Answer | None = None) -> Answer:
        """Queues a prompt of which ``ids`` are the tokens; its ``max_tokens`` must fit the context already."""
        answer = answer or Answer()
        arguments = Arguments(max_tokens=options.max_tokens, logprobs=True, options=options)
        fed = {"ids": ids, "images": images}
        self.requests.put(QueuedGenerationRequest(rqueue=answer, raw_inputs=fed, prompt_tokens=len(ids), args=arguments))
        if self._stop:  # its thread may have ended, and nobody else would say so
            answer.put(stopping())
        return answer

    def stop(self) -> None:
        """Ends everything that runs or waits, with a GenerationError."""
        self._stop = True
        self.requests.put(None)

    def ended(self, timeout: float) -> bool:
        """Stops; True when that is done, within ``timeout`` seconds."""
        self.stop()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def generate(self, *_: Any, **__: Any) -> tuple[GenerationContext, Answer]:
        """What the chat endpoint calls: answers the request in whose context it does, whatever it gives."""
        asked = ASKED.get()
        self.submit(asked.ids, asked.images, asked.options, asked.answer)
        return GenerationContext(uid=-1, prompt_tokens=len(asked.ids)), asked.answer

    def validate_context_budget(self, *_: Any, **__: Any) -> None:
        """Was seen to when the prompt was read."""

    # What mlx-vlm calls in its own thread.

    def _initialize_model(self) -> None:
        served = cast(ServedModel, ServedModel.load(**self._wanted))
        self.served, served.engine = served, self
        self.most = self.most or served.batch_size(Options().max_tokens)
        self.model, self.processor, self.config = served.loaded.model, served.loaded.processor, served.loaded.model.config
        self.tokenizer = self.processor.tokenizer
        self.stop_tokens = set(resolve_eos_token_ids(self.config.eos_token_id, self.tokenizer))
        self.draft_model = self.draft_kind = None

    def _collect_pending_requests(self, *, active: bool, capacity: int | None = None, **how: Any) -> tuple[list[Any], bool]:
        room = max(0, self.most - len(self._active))
        requests, stop = super()._collect_pending_requests(active=active, capacity=room, **how)
        return [request for request in requests if self._take_in(request)], stop

    def _take_in(self, request: QueuedGenerationRequest) -> bool:
        """Looks at the pictures and embeds the prompt; what fails here fails this request alone."""
        fed, answer = request.raw_inputs, request.rqueue
        if answer.closed:
            return False
        try:
            if self._stop:
                raise stopping()
            fed["inputs_embeds"] = self.served.loaded.embed(Prompt(fed["images"]), fed["ids"])
            mx.eval(fed["inputs_embeds"])
        except (MedGemmaError, RuntimeError) as error:
            answer.put(error)
            return False
        return True

    def _gpu_embed(self, raw_inputs: dict[str, Any], *_: Any, **__: Any) -> tuple[mx.array, dict[str, Any]]:
        return mx.array([raw_inputs["ids"]]), {"inputs_embeds": raw_inputs["inputs_embeds"]}

    def _make_sampler(self, args: Arguments) -> Draws:
        return self._draws

    def _make_logits_processors(self, args: Arguments, input_ids: mx.array | None = None) -> list[Callable[..., mx.array]]:
        top_k = self.served.loaded.top_k(args.options)
        return [self._draws.of(replace(args.options, top_k=top_k)), *penalties(args.options)]

    def _apply_cancellations(self, batch_gen: Any, active: dict[int, dict[str, Any]]) -> None:
        self._active = active
        for uid, info in list(active.items()):
            answer = info["rqueue"]
            if (answer.closed or self._stop) and batch_gen.remove(uid):
                del active[uid]
                answer.put(stopping())

    def _stream_text(self, info: dict[str, Any], token: int, finish_reason: Any) -> str:
        """The text of a token as everywhere in this package; mlx-vlm's server has a second way of its own."""
        row = info.setdefault("row", Decoding(self.processor, [], Options()))
        try:
            text = "" if finish_reason == "stop" else str(row.decode(token, 0.0).text)
        except GenerationError as error:
            info["rqueue"].put(error)
            info["rqueue"].closed = True
            return ""
        return text + "".join(last.text for last in row.end(finish_reason)) if finish_reason else text


class ServedModel(MedGemma):
    """A model that an engine owns: any number of generations at a time, each in a thread of its own, all decoded together."""

    engine: Engine

    @property
    def loaded(self) -> LoadedModel:
        return self._loaded

    _tokenizing = Lock()  # a fast tokenizer may not be used by two threads
    _answer: Answer | None = None
    _cancelled = False

    def session(self) -> ServedModel:
        """The same model, for one request: what ``cancel`` ends is what this one generates."""
        return copy(self)

    def cancel(self) -> None:
        """Ends the generation under way before its next token, and every later one, with a GenerationError."""
        self._cancelled = True
        if self._answer is not None:
            self._answer.close()

    def tokenize(self, prompt: Prompt) -> list[int]:
        self._bounded(*prompt.parts, prompt.system)
        with self._tokenizing:
            return super().tokenize(prompt)

    def tokenize_turns(self, turns: Turns, system: str | None) -> list[int]:
        """As ``tokenize``, for a conversation."""
        self._bounded(system, *(part for _, parts in turns for part in parts))
        with self._tokenizing:
            return self.loaded.chat.encode_turns(turns, system)

    def tokenize_text(self, text: str) -> list[int]:
        """The bare text's tokens, with no turn around them."""
        self._bounded(text)
        with self._tokenizing:
            return list(self.loaded.chat.tokenizer.encode(text))

    def _bounded(self, *parts: object) -> None:
        """Raises InputError for texts that are hopelessly long: while they were tokenised, everyone else would wait."""
        letters = sum(len(part) for part in parts if isinstance(part, str))
        if letters > MOST_LETTERS_A_TOKEN * self.context:
            raise InputError(f"the text has {letters} letters, and the model takes at most {self.context - 1} tokens; shorten it")

    def ask(self, turns: Turns, system: str | None, options: Options) -> Asked:
        """A conversation, ready for ``complete``. Raises ContextError when it does not fit."""
        ids = self.tokenize_turns(turns, system)
        images = tuple(part for _, parts in turns for part in parts if not isinstance(part, str))
        return Asked(ids, images, self.loaded.fit(ids, options))

    def _tokens(self, prompt: Prompt, row: Decoding) -> Generator[Token, None, None]:
        with closing(self.engine.submit(row.prompt_ids, prompt.images, row.options)) as answer:
            self._answer = answer
            reason: FinishReason | None = None
            if self._cancelled:
                answer.close()
            for item in answer:
                if item.finish_reason != "stop":  # the token of a stop is no part of the answer
                    yield row.decode(item.token, item.logprobs)
                if reason := "repetition" if row.looping else item.finish_reason:
                    break
        if reason is None:
            raise stopping()
        yield from row.end(reason)
