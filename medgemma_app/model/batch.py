"""Many prompts decoded together by mlx-vlm's BatchGenerator, with the same answers as one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

import mlx.core as mx
from mlx_vlm.generate.ar import BatchGenerator

from medgemma_app.errors import MedGemmaError
from medgemma_app.model.decoding import Decoding, Sampler, model_failed
from medgemma_app.model.generation import FinishReason, Generation, GenerationError, Options, checked_options

if TYPE_CHECKING:
    from medgemma_app.model.loaded import LoadedModel
    from medgemma_app.prompts import Prompt

# Prompts in one forward pass. More are not faster, since a few fill any device, and would wait longer for room.
PREFILLED_TOGETHER = 4

Numbered = tuple[int, "Prompt"]
Outcome = tuple[int, Generation | MedGemmaError]


def generate_many(model: LoadedModel, prompts: Iterable[Prompt], options: Options, size: int) -> Iterator[Generation | MedGemmaError]:
    """Yields for each prompt, in order, its Generation or its error."""
    ended: dict[int, Generation | MedGemmaError] = {}
    turn = 0
    for number, result in _run(model, enumerate(prompts), options, size):
        ended[number] = result
        while turn in ended:
            yield ended.pop(turn)
            turn += 1


def _run(model: LoadedModel, prompts: Iterator[Numbered], options: Options, size: int) -> Iterator[Outcome]:
    """Yields results in the order in which they end. If mlx runs out of memory, the batch continues with half as many rows."""
    batch = Batch(model, options, size)
    try:
        while True:
            yield from batch.fill(prompts)
            if not batch.rows:
                return
            try:
                yield from batch.step()
            except RuntimeError as error:  # mlx's only exception
                unfinished = batch.prompts
                batch.close()
                if len(unfinished) == 1:
                    yield unfinished.pop()[0], model_failed(error)
                prompts, size = chain(unfinished, prompts), max(1, size // 2)
                batch = Batch(model, options, size)
    finally:
        batch.close()
        mx.clear_cache()


class Batch:
    """At most ``size`` rows at a time; a row that ends makes room for another at once. All of them have the same ``options``."""

    def __init__(self, model: LoadedModel, options: Options, size: int) -> None:
        model.processor.tokenizer.stopping_criteria.reset(model.model.config.eos_token_id)
        self._model, self._options, self._size = model, options, size
        self.rows: dict[int, tuple[int, Prompt, Decoding]] = {}
        self._generator = BatchGenerator(
            model.model.language_model,
            model.processor,
            sampler=Sampler(options, top_k=model.top_k(options)),
            completion_batch_size=size,
            prefill_batch_size=min(size, PREFILLED_TOGETHER),
        )

    @property
    def prompts(self) -> list[Numbered]:
        """The prompts whose rows have not ended."""
        return [(number, prompt) for number, prompt, _ in self.rows.values()]

    def fill(self, prompts: Iterator[Numbered]) -> Iterator[Outcome]:
        """Adds prompts while there is room; yields the errors of those that cannot be added."""
        while len(self.rows) < self._size and (item := next(prompts, None)):
            try:
                self._add(*item)
            except MedGemmaError as error:
                yield item[0], error

    def _add(self, number: int, prompt: Prompt) -> None:
        row = self._model.start(self._model.chat.encode(prompt), checked_options(self._options, prompt))
        fed = {"inputs_embeds": self._model.embed(prompt, row.prompt_ids)}
        uid = self._generator.insert([row.prompt_ids], [row.options.max_tokens], [fed], [self._model.processors(row.options)])[0]
        self.rows[uid] = (number, prompt, row)

    def step(self) -> Iterator[Outcome]:
        """Generates one more token for every row; yields the results of the rows that ended."""
        for response in self._generator.next()[1]:
            number, _, row = self.rows[response.uid]
            try:
                ended = take(row, response)
            except GenerationError as error:
                yield number, error
            else:
                if not ended:
                    continue
                yield number, row.generation()
            if response.finish_reason is None:
                self._generator.remove(response.uid)
            del self.rows[response.uid]

    def close(self) -> None:
        self._generator.close()


def take(row: Decoding, response: Any) -> bool:
    """Adds the row's next token; True when it was the last one."""
    if response.finish_reason != "stop":  # a stop token is not part of the answer
        row.decode(response.token, response.token_logprob)
    reason: FinishReason | None = "repetition" if row.looping else response.finish_reason
    if reason:
        row.end(reason)
    return reason is not None
