"""mlx_vlm.server's engine, with the model as this project loads it, its prompts and its pictures.

The engine is mlx-vlm's ``ResponseGenerator``: one thread that owns the model and decodes all requests together. Here it is given
what it is fed (ids and embeddings from ``MedGemma``), and three of its habits are put right, because answers would depend on them:

- one sampler, that of the first request, draws for all requests that run beside it: here every request draws for itself;
- a request is cancelled by a number that is given again to a later one: here by its own queue;
- what fails before a request is taken in fails all that are running: here that request alone.

Prefix caching, speculative decoding and quantised caches stay off, whatever mlx-vlm's environment variables say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import mlx.core as mx
from mlx_vlm.generate.ar import _PositionedTargetSampler
from mlx_vlm.server.generation import (
    GenerationArguments,
    GenerationContext,
    QueuedGenerationRequest,
    ResponseGenerator,
    resolve_eos_token_ids,
)

from medgemma_app.errors import MedGemmaError
from medgemma_app.model.checkpoint import ALIASES
from medgemma_app.model.decoding import Decoding, normalise, penalties
from medgemma_app.model.generation import GenerationError, Options
from medgemma_app.model.loaded import LoadedModel
from medgemma_app.prompts import Prompt
from medgemma_app.serve.served import ASKED, ServedModel, TokenQueue, stopping

if TYPE_CHECKING:
    from PIL.Image import Image


class Draws:
    """Draws the next token of every row by that row's own options.

    A batch has one sampler for all rows but a list of logits processors for each. They are called row by row, right before
    the sampler: so a row's first processor says how it is to be drawn.
    """

    def __init__(self) -> None:
        self._rows: list[_PositionedTargetSampler | None] = []

    def of(self, options: Options) -> Callable[[mx.array, mx.array], mx.array]:
        """The processor of a row that is drawn by ``options``: by seed and place in the answer alone, as for a single row."""
        greedy = options.temperature == 0
        row = None if greedy else _PositionedTargetSampler(
            temperature=options.temperature, top_p=options.top_p, top_k=options.top_k, seed=options.seed
        )  # fmt: skip

        def note(tokens: mx.array, logits: mx.array) -> mx.array:
            self._rows.append(row)
            return logits

        return note

    def sample_target(self, logprobs: mx.array, *, row_ids: list[int], positions: list[int]) -> mx.array:
        """[rows, vocabulary] -> [rows]."""
        normalise(logprobs)
        rows, self._rows = self._rows[-len(positions) :], []
        if not any(rows):
            return mx.argmax(logprobs, axis=-1)
        drawn = [
            mx.argmax(logprobs[at : at + 1], axis=-1)
            if row is None
            else row.sample_target(logprobs[at : at + 1], row_ids=[0], positions=[positions[at]])
            for at, row in enumerate(rows)
        ]
        return mx.concatenate(drawn)


@dataclass
class Arguments(GenerationArguments):  # type: ignore[misc]
    """mlx-vlm's own arguments, of which the engine here reads ``max_tokens`` and ``logprobs``; ``options`` say the rest."""

    options: Options = field(default_factory=Options)


class Engine(ResponseGenerator):  # type: ignore[misc]
    """Loads ``model`` in a thread of its own and decodes at most ``most`` requests together, by default what memory allows."""

    served: ServedModel

    def __init__(
        self, model: str, *, revision: str | None = None, adapter: str | None = None, progress: bool = False, most: int | None = None
    ) -> None:
        self._load = partial(LoadedModel.load, model, revision=revision, align=True, progress=progress, adapter=adapter)
        self._id = ALIASES.get(model, model)
        self.most = most or 0
        self._draws = Draws()
        self._active: dict[int, dict[str, Any]] = {}
        super().__init__(model)

    @property
    def is_ready(self) -> bool:
        """The model is loaded."""
        return self._ready.is_set() and self._load_error is None

    def submit(self, ids: list[int], images: tuple[Image, ...], options: Options, answer: TokenQueue | None = None) -> TokenQueue:
        """Queues a prompt of which ``ids`` are the tokens; its ``max_tokens`` must fit the context already."""
        answer = answer or TokenQueue()
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

    def generate(self, *_: Any, **__: Any) -> tuple[GenerationContext, TokenQueue]:
        """What the chat endpoint calls: answers the request in whose context it does, whatever it gives."""
        asked = ASKED.get()
        self.submit(asked.ids, asked.images, asked.options, asked.answer)
        return GenerationContext(uid=-1, prompt_tokens=len(asked.ids)), asked.answer

    def validate_context_budget(self, *_: Any, **__: Any) -> None:
        """Was seen to when the prompt was read."""

    # What mlx-vlm calls in its own thread.

    def _initialize_model(self) -> None:
        loaded, revision = self._load()
        self.served = served = ServedModel(loaded, self.submit, id=self._id, revision=revision)
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
