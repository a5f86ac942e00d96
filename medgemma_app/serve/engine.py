"""The engine: one thread that owns the model, and answers all requests of the server together.

mlx-vlm computes: its ``PromptProcessingBatch`` reads a prompt in pieces, and its ``BatchGenerator`` decodes the next token of every
answer. This module decides which of these comes next, so that no request stalls for long. mlx-vlm's own server is not used:
it samples all concurrent requests with the sampler of the first one, and reads prompts whole.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue

import mlx.core as mx
import numpy as np
from mlx_vlm.generate.ar import BatchGenerator, PromptProcessingBatch

from medgemma_app.errors import MedGemmaError
from medgemma_app.model.answer import model_failed
from medgemma_app.model.generation import GenerationError, Options
from medgemma_app.model.loaded import Sampler, normalise
from medgemma_app.prompts import Prompt
from medgemma_app.serve.served import EngineRequest, ServedModel, stopping

PIECE = 64  # tokens of a prompt that are read at a time; a picture, which has 256, is never cut
PASSED = 3  # pieces of other prompts that may be read before the prompt that came first gets its turn


class RowSampler:
    """Draws every row's next token by its own options, which the row's first logits processor notes just before sampling."""

    def __init__(self) -> None:
        self._rows: list[Sampler] = []

    def of(self, row: Sampler) -> Callable[[mx.array, mx.array], mx.array]:
        """The logits processor of a row that ``row`` draws: by seed and place in the answer alone, as for a single row."""

        def note(tokens: mx.array, logits: mx.array) -> mx.array:
            self._rows.append(row)
            return logits

        return note

    def sample_target(self, logprobs: mx.array, *, row_ids: list[int], positions: list[int]) -> mx.array:
        """[rows, vocabulary] -> [rows]."""
        normalise(logprobs)
        rows, self._rows = self._rows[-len(positions) :], []
        numbered = enumerate(zip(rows, positions, strict=True))
        return mx.concatenate([row.draw(logprobs[at : at + 1], [0], [position]) for at, (row, position) in numbered])


class Engine:
    """Loads ``model`` in a thread of its own and answers at most ``most`` requests together, by default what memory allows."""

    served: ServedModel
    _generator: BatchGenerator
    _error: Exception | None = None

    def __init__(
        self, model: str, *, revision: str | None = None, adapter: str | None = None, progress: bool = False, most: int | None = None
    ) -> None:
        self._load = partial(ServedModel.load, model, revision=revision, progress=progress, adapter=adapter)
        self.most = most or 0
        self._arriving = SimpleQueue[EngineRequest | None]()
        self._waiting, self._reading = list[EngineRequest](), list[EngineRequest]()  # in the order in which they came
        self._answering = dict[int, EngineRequest]()
        self._passed = 0  # pieces of other prompts since the last piece of the one that came first
        self._decoded = True  # whether every answer got a token since the last piece
        self._owed = 0.0  # seconds of decoding before the next piece of a long prompt, and the next pictures
        self._sampler = RowSampler()
        self._stop, self._ready = False, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def is_ready(self) -> bool:
        """The model is loaded."""
        return self._ready.is_set() and self._error is None

    def wait_until_ready(self, timeout: float | None = None) -> None:
        """Returns once the model is loaded. Raises the error if it cannot be loaded, TimeoutError after ``timeout`` seconds."""
        if not self._ready.wait(timeout):
            raise TimeoutError("the model is still loading")
        if self._error is not None:
            raise self._error

    def submit(self, request: EngineRequest) -> None:
        """Queues a request, from any thread. Its ``max_tokens`` must already fit the context."""
        self._arriving.put(request)
        if self._stop:  # the engine's thread may have ended already
            request.put(stopping())

    def stop(self) -> None:
        """Ends everything that runs or waits, with a GenerationError."""
        self._stop = True
        self._arriving.put(None)

    def ended(self, timeout: float) -> bool:
        """Stops the engine; True if it ended within ``timeout`` seconds."""
        self.stop()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    # Everything below runs in the engine's own thread.

    def _run(self) -> None:
        try:
            self.served = self._load()
            self.served.submit = self.submit
            self.served.prepare()
            self.served.processor.tokenizer.stopping_criteria.reset(self.served.model.config.eos_token_id)
            self.most = self.most or self.served.batch_size(Options().limit)
            self._generator = self._new_generator()
        except Exception as error:
            self._error = error
            logging.exception("the model cannot be loaded")
        self._ready.set()
        while self._error is None and not self._stop:
            self._collect()
            try:
                self._step()
            except Exception as error:
                logging.exception("error in the engine's thread")
                self._fail_begun(model_failed(error))
        self._collect()
        for request in (*self._waiting, *self._reading, *self._answering.values()):
            request.put(stopping())
        mx.clear_streams()

    def _fail_begun(self, error: MedGemmaError) -> None:
        for request in (*self._reading, *self._answering.values()):
            request.put(error)
        self._reading, self._answering = [], {}
        self._renew_generator()
        mx.clear_cache()

    def _new_generator(self) -> BatchGenerator:
        stream = mx.default_stream(mx.default_device())
        return BatchGenerator(self.served.model.language_model, self.served.processor, sampler=self._sampler, stream=stream)

    def _renew_generator(self) -> None:
        """Frees the memory of finished answers, which mlx-vlm's generator keeps."""
        self._generator.close()
        self._generator = self._new_generator()

    def _collect(self) -> None:
        """Takes in new requests, waits for one if there is nothing else to do, and drops requests whose clients have gone."""
        idle = not (self._waiting or self._reading or self._answering or self._stop)
        with suppress(Empty):
            while True:
                if (request := self._arriving.get(block=idle)) is not None:
                    self._waiting.append(request)
                idle = False
        self._waiting = [request for request in self._waiting if not request.closed]
        self._reading = [request for request in self._reading if not request.closed]
        for request in [request for request in self._answering.values() if request.closed]:
            self._remove(request)

    def _remove(self, request: EngineRequest) -> None:
        self._generator.remove(request.number)
        del self._answering[request.number]

    def _step(self) -> None:
        """Reads a piece or decodes a token of every answer, never both, so that no token waits for a piece before it is sent."""
        start = time.monotonic()
        line = self._line()
        short = any(request.reading is None and not request.images and len(request.ids) <= PIECE for request in line)
        if line and (not self._answering or (self._decoded and (self._owed <= 0 or short))):
            self._read(self._first(line))
            self._decoded, self._owed = False, max(self._owed, time.monotonic() - start)
        elif self._answering:
            self._decode()
            self._decoded, self._owed = True, self._owed - (time.monotonic() - start)

    def _line(self) -> list[EngineRequest]:
        """The prompts that could be read next: those already begun and, if there is room for another answer, those that wait."""
        room = len(self._reading) + len(self._answering) < self.most
        return [*self._reading, *(self._waiting if room else [])]

    def _first(self, line: list[EngineRequest]) -> EngineRequest:
        """The shortest prompt or, after PASSED pieces of others, the one that came first."""
        oldest = min(line, key=lambda request: request.number)
        first = oldest if self._passed >= PASSED else min(line, key=lambda request: (len(request.ids), request.number))
        self._passed = 0 if first is oldest else self._passed + 1
        return first

    def _read(self, request: EngineRequest) -> None:
        """Reads the next piece of a prompt. Encoding the pictures of a new one is a step of its own."""
        if request.reading is None:
            self._waiting.remove(request)
            try:
                request.reading = self._begin(request)
            except (MedGemmaError, RuntimeError) as error:  # only this request fails
                request.put(error if isinstance(error, MedGemmaError) else model_failed(error))
                return
            self._reading.append(request)
            if request.images:
                return
        self._read_piece(request, request.reading)

    def _begin(self, request: EngineRequest) -> PromptProcessingBatch:
        served, options = self.served, request.row.options
        processors = [self._sampler.of(served.sampler(options)), *request.processors]
        mx.eval(embeddings := served.embed(Prompt(request.images), request.ids))
        return PromptProcessingBatch(
            model=served.model.language_model, uids=[request.number], input_ids=[request.ids], max_tokens=[options.max_tokens],
            inputs_embeds=embeddings, prompt_kwargs={}, logits_processors=[processors],
        )  # fmt: skip

    def _read_piece(self, request: EngineRequest, prompt: PromptProcessingBatch) -> None:
        if (size := self._next_piece(np.array(prompt._input_ids[0]))) is not None:
            prompt.prefill_step_size = size
            prompt.prompt_step()
            mx.eval([cache.state for cache in prompt.prompt_cache])  # a GPU would compute it later, and its time would not be counted
            return
        criteria = self._generator.tokenizer.stopping_criteria
        self._generator._extend_generation_batch(prompt.generate(self._sampler, criteria))
        self._reading.remove(request)
        request.reading = None  # its cache is a copy now
        self._answering[request.number] = request
        mx.clear_cache()

    def _next_piece(self, ids: np.ndarray) -> int | None:
        """The number of ids to read next, of those that are left; None for all of them. A piece never ends inside an image."""
        image_token = self.served.model.config.image_token_index
        inside = (ids[:-1] == image_token) & (ids[1:] == image_token)
        ends = np.flatnonzero(~inside) + 1
        if len(ids) <= PIECE or not len(ends):
            return None
        fitting = ends[ends <= PIECE]
        return int(fitting[-1] if len(fitting) else ends[0])

    def _decode(self) -> None:
        """Sends the next token of every answer."""
        for response in self._generator.next()[1]:
            request = self._answering[response.uid]
            sent = len(request.row.tokens)
            try:
                ended = request.row.take(response)
            except GenerationError as error:
                request.put(error)
                ended = True
            for token in request.row.tokens[sent:]:
                request.put(token)
            if ended:
                self._remove(request)
        if not self._answering:
            self._renew_generator()
