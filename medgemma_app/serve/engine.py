"""mlx_vlm.server's engine, with the model as this project loads it, its prompts and its pictures.

The engine is mlx-vlm's ``ResponseGenerator``: one thread that owns the model and decodes all requests together. Here it is given
what it is fed (ids and embeddings from ``MedGemma``), and four of its habits are put right, because answers would depend on them:

- the sampler of the first request draws the tokens of all concurrent requests: here every request has its own;
- a request is cancelled by a number that is given again to a later one: here by its own queue;
- what fails before a request is taken in fails all that are running: here that request alone;
- prompts are read whole, and together: here in pieces, the shortest prompt first, between which answers go on.

Prefix caching, speculative decoding and quantised caches stay off, whatever mlx-vlm's environment variables say.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np
from mlx_vlm.generate.ar import BatchGenerator, PromptProcessingBatch, _merge_prefill_prompt_kwargs, _PositionedTargetSampler
from mlx_vlm.server.generation import (
    GenerationArguments,
    GenerationContext,
    QueuedGenerationRequest,
    ResponseGenerator,
    resolve_eos_token_ids,
)

from medgemma_app.errors import MedGemmaError
from medgemma_app.model.checkpoint import ALIASES
from medgemma_app.model.decoding import Decoding, normalise
from medgemma_app.model.generation import GenerationError, Options
from medgemma_app.model.loaded import LoadedModel
from medgemma_app.prompts import Prompt
from medgemma_app.serve.served import PENDING_CHAT, ServedModel, TokenQueue, stopping

if TYPE_CHECKING:
    from PIL.Image import Image


class Draws:
    """Draws every row's next token by its own options, which its first logits processor states right before the one sampler is called."""

    def __init__(self) -> None:
        self._rows: list[_PositionedTargetSampler | None] = []

    def of(self, options: Options) -> Callable[[mx.array, mx.array], mx.array]:
        """The processor of a row that is drawn by ``options``: by seed and place in the answer alone, as for a single row."""
        how = {"temperature": options.temperature, "top_p": options.top_p, "top_k": options.top_k, "seed": options.seed}
        row = _PositionedTargetSampler(**how) if options.temperature else None

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
        single = [(row, logprobs[at : at + 1], positions[at]) for at, row in enumerate(rows)]
        return mx.concatenate(
            [row.sample_target(own, row_ids=[0], positions=[position]) if row else mx.argmax(own, axis=-1) for row, own, position in single]
        )


PIECE = 64  # tokens of a prompt that are read at a time; a picture, which has 256, is never cut
PASSED = 3  # so many pieces, or requests, go before the one that came first; then it is its turn


class FairBatchGenerator(BatchGenerator):  # type: ignore[misc]
    """Reads prompts in pieces, the shortest prompt first, and gives answers as much time as pieces, so that none stands still."""

    reading: list[PromptProcessingBatch]  # prompts of which a part is read
    passed: int  # pieces of other prompts since the last piece of the one that came first
    decoded: bool  # a token of every answer since the last of them
    owed: float  # seconds of decoding before the next piece of a long prompt, and the next pictures
    _unprocessed_sequences: list[tuple[Any, ...]]

    @classmethod
    def adopt(cls, generator: BatchGenerator, image_token: int) -> None:
        """Turns mlx-vlm's own, in which no prompt is begun yet, into one of this kind."""
        generator.__class__ = cls
        vars(generator).update(image_token=image_token, reading=[], passed=0, decoded=True, owed=0.0)

    @property
    def has_work(self) -> bool:
        return bool(len(self._generation_batch) or self._unprocessed_sequences or self.reading)

    def remove(self, uid: int) -> bool:
        begun = len(self.reading)
        self.reading = [prompt for prompt in self.reading if prompt.uids != [uid]]
        return len(self.reading) < begun or bool(super().remove(uid))

    def _next(self, **_: Any) -> tuple[list[Any], list[Any]]:
        """Reads a piece or decodes a token of every answer, not both, so that no token waits for a piece before it is sent."""
        start = time.monotonic()
        short = any(len(row[1]) <= PIECE for row in self._unprocessed_sequences)
        due = not len(self._generation_batch) or (self.decoded and (self.owed <= 0 or short))
        if due and (self._unprocessed_sequences or self.reading):
            self._read_piece(self._first_in_line())
            self.decoded, self.owed = False, max(self.owed, time.monotonic() - start)
            return [], []
        waiting, self._unprocessed_sequences = self._unprocessed_sequences, []
        _, answers = super()._next()  # which then only decodes
        self._unprocessed_sequences = waiting
        self.decoded, self.owed = True, self.owed - (time.monotonic() - start)
        return [], answers

    def _read_piece(self, prompt: PromptProcessingBatch) -> None:
        if (size := self._next_piece(np.array(prompt._input_ids[0]))) is not None:
            prompt.prefill_step_size = size
            prompt.prompt_step()
            mx.eval([cache.state for cache in prompt.prompt_cache])  # a GPU would compute it later, and its time would not be counted
            return
        stops = self.tokenizer.stopping_criteria
        self._extend_generation_batch(prompt.generate(self.sampler, stops, self.compute_logprobs, self.top_logprobs_k))
        self.reading.remove(prompt)
        mx.clear_cache()

    def _next_piece(self, ids: np.ndarray) -> int | None:
        """How many of the ids that are left to read next; None for all. A piece never ends inside an image."""
        inside = (ids[:-1] == self.image_token) & (ids[1:] == self.image_token)
        ends = np.flatnonzero(~inside) + 1
        if len(ids) <= PIECE or not len(ends):
            return None
        fitting = ends[ends <= PIECE]
        return int(fitting[-1] if len(fitting) else ends[0])

    def _first_in_line(self) -> PromptProcessingBatch:
        """The prompt to read a piece of: the shortest or, after PASSED pieces of others, the one that came first."""
        line = [(prompt._total_prompt_tokens, prompt.uids[0], prompt) for prompt in self.reading]
        line += [(len(row[1]), row[0], row) for row in self._unprocessed_sequences]
        oldest = min(line, key=lambda one: one[1])
        first = oldest if self.passed >= PASSED else min(line, key=lambda one: one[:2])
        self.passed = 0 if first is oldest else self.passed + 1
        return self._begin(first[2]) if isinstance(first[2], tuple) else first[2]

    def _begin(self, row: tuple[Any, ...]) -> PromptProcessingBatch:
        self._unprocessed_sequences.remove(row)
        uid, ids, max_tokens, fed, processors, criteria = row
        embeddings, merged = _merge_prefill_prompt_kwargs([fed], [ids])
        prompt = PromptProcessingBatch(
            model=self.model, uids=[uid], input_ids=[ids], max_tokens=[max_tokens], inputs_embeds=embeddings, prompt_kwargs=merged,
            logits_processors=[processors], thinking_budget_criteria=[criteria], greedy_sampling=self.greedy_sampling,
        )  # fmt: skip
        self.reading.append(prompt)
        return prompt


@dataclass
class Arguments(GenerationArguments):  # type: ignore[misc]
    """mlx-vlm's own arguments. Of these, the engine here reads ``max_tokens``, ``logprobs`` and ``logits_processors``."""

    options: Options = field(default_factory=Options)


class Engine(ResponseGenerator):  # type: ignore[misc]
    """Loads ``model`` in a thread of its own and decodes at most ``most`` requests together, by default what memory allows."""

    served: ServedModel
    _batch: FairBatchGenerator

    def __init__(
        self, model: str, *, revision: str | None = None, adapter: str | None = None, progress: bool = False, most: int | None = None
    ) -> None:
        self._load = partial(LoadedModel.load, model, revision=revision, align=True, progress=progress, adapter=adapter)
        self._id = ALIASES.get(model, model)
        self.most = most or 0
        self._draws, self._active = Draws(), dict[int, dict[str, Any]]()
        self._waiting = list[QueuedGenerationRequest]()  # in the order in which they came
        self._passed = 0  # requests that were taken in since the first in that order was
        super().__init__(model)

    @property
    def is_ready(self) -> bool:
        """The model is loaded."""
        return self._ready.is_set() and self._load_error is None

    def submit(self, ids: list[int], images: tuple[Image, ...], options: Options, answer: TokenQueue | None = None) -> TokenQueue:
        """Queues a prompt of which ``ids`` are the tokens; its ``max_tokens`` must fit the context already."""
        answer = answer or TokenQueue()
        answer.row = Decoding(self.processor, [], options)
        processors = self.served.loaded.processors(options)
        arguments = Arguments(max_tokens=options.max_tokens, logprobs=True, options=options, logits_processors=processors)
        self.requests.put(QueuedGenerationRequest(answer, {"ids": ids, "images": images}, prompt_tokens=len(ids), args=arguments))
        if self._stop:  # the engine's thread may have ended already
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
        asked = PENDING_CHAT.get()
        self.submit(asked.ids, asked.images, asked.options, asked.answer)
        return GenerationContext(uid=-1, prompt_tokens=len(asked.ids)), asked.answer

    def validate_context_budget(self, *_: Any, **__: Any) -> None:
        """Was seen to when the prompt was read."""

    # What mlx-vlm calls in its own thread.

    def _initialize_model(self) -> None:
        loaded, revision = self._load()
        self.served = served = ServedModel(loaded, self.submit, id=self._id, revision=revision)
        self.most = self.most or served.batch_size(Options().limit)
        self.model, self.processor, self.config = served.loaded.model, served.loaded.processor, served.loaded.model.config
        self.tokenizer = self.processor.tokenizer
        self.stop_tokens = set(resolve_eos_token_ids(self.config.eos_token_id, self.tokenizer))
        self.draft_model = self.draft_kind = None

    def _collect_pending_requests(self, *, active: bool, capacity: int | None = None, **how: Any) -> tuple[list[Any], bool]:
        """One request at a time, the shortest first, so that none waits while all pictures are encoded; pictures wait for owed answers."""
        fresh, stop = super()._collect_pending_requests(active=active or bool(self._waiting), **how)
        self._waiting += fresh
        if self._stop:
            for request in self._waiting:
                request.rqueue.put(stopping())
            self._waiting.clear()
        if not self._waiting or len(self._active) >= self.most:
            return [], stop
        oldest = self._waiting[0]
        first = oldest if self._passed >= PASSED else min(self._waiting, key=lambda request: request.prompt_tokens)
        if self._active and self._batch.owed > 0 and first.raw_inputs["images"]:
            return [], stop
        self._passed = 0 if first is oldest else self._passed + 1
        self._waiting.remove(first)
        return [first] if self._take_in(first) else [], stop

    def _take_in(self, request: QueuedGenerationRequest) -> bool:
        """Looks at the pictures and embeds the prompt; what fails here fails this request alone."""
        fed, answer = request.raw_inputs, request.rqueue
        if answer.closed:
            return False
        start = time.monotonic()
        try:
            mx.eval(embeddings := self.served.loaded.embed(Prompt(fed["images"]), fed["ids"]))
        except (MedGemmaError, RuntimeError) as error:
            answer.put(error)
            return False
        fed["inputs_embeds"] = embeddings
        if self._active:
            self._batch.owed = max(self._batch.owed, time.monotonic() - start)
        return True

    def _step(self, batch_gen: Any, active: dict[int, dict[str, Any]], gen_kwargs: Any = None) -> None:
        if not isinstance(batch_gen, FairBatchGenerator):
            FairBatchGenerator.adopt(batch_gen, self.config.image_token_index)
            self._batch = batch_gen
        super()._step(batch_gen, active, gen_kwargs)

    def _gpu_embed(self, raw_inputs: dict[str, Any], *_: Any, **__: Any) -> tuple[mx.array, dict[str, Any]]:
        return mx.array([raw_inputs["ids"]]), {"inputs_embeds": raw_inputs["inputs_embeds"]}

    def _make_sampler(self, args: Arguments) -> Draws:
        return self._draws

    def _make_logits_processors(self, args: Arguments, input_ids: mx.array | None = None) -> list[Callable[..., mx.array]]:
        top_k = self.served.loaded.top_k(args.options)
        return [self._draws.of(replace(args.options, top_k=top_k)), *args.logits_processors]

    def _apply_cancellations(self, batch_gen: Any, active: dict[int, dict[str, Any]]) -> None:
        self._active = active
        for uid, info in list(active.items()):
            answer = info["rqueue"]
            if (answer.closed or self._stop) and batch_gen.remove(uid):
                del active[uid]
                answer.put(stopping())

    def _stream_text(self, info: dict[str, Any], token: int, finish_reason: Any) -> str:
        """The text of a token as everywhere in this package; mlx-vlm's server has a second way of its own."""
        answer, row = info["rqueue"], info["rqueue"].row
        try:
            text = "" if finish_reason == "stop" else str(row.decode(token, 0.0).text)
        except GenerationError as error:
            answer.put(error)
            answer.closed = True
            return ""
        if row.looping:
            answer.ending = finish_reason = "repetition"
        return text + "".join(last.text for last in row.end(finish_reason)) if finish_reason else text
