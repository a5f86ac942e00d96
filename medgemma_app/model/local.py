"""MedGemma: one answer at a time by ``mlx_vlm.stream_generate``, or many together by mlx-vlm's BatchGenerator."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from itertools import chain
from typing import TYPE_CHECKING, Any

from medgemma_app.errors import MedGemmaError
from medgemma_app.model.answer import Decoding, collect, in_order, model_failed, no_such_token
from medgemma_app.model.generation import Generation, GenerationError, Options, Token, checked_options, checked_prompts
from medgemma_app.model.loaded import LoadedModel
from medgemma_app.prompts import Prompt

if TYPE_CHECKING:
    import mlx.core as mx

    Numbered = tuple[int, Prompt]
    Outcome = tuple[int, Generation | MedGemmaError]


class MedGemma(LoadedModel):
    """A loaded checkpoint, made by ``MedGemma.load``. Only one thread may generate at a time; any other gets a GenerationError."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._one_thread = _OneThread()

    def generate(self, prompt: Prompt, options: Options | None = None, *, on_token: Callable[[Token], object] | None = None) -> Generation:
        """The tokens of ``stream``, folded. Ctrl-C or an exception from ``on_token`` raises GenerationCancelled with the partial result."""
        import mlx.core as mx

        mx.reset_peak_memory()
        decoding = self.start(self.tokenize(prompt), checked_options(options, prompt))
        return collect(self._tokens(prompt, decoding), decoding, on_token)

    def stream(self, prompt: Prompt, options: Options | None = None) -> Generator[Token, None, None]:
        """Yields each Token as it is generated. Closing the generator stops the work before the next token and frees its memory.

        A text that only repeats itself ends with the finish reason "repetition". Raises ContextError if the prompt does not fit,
        GenerationError if the model fails or another thread is generating.
        """
        return self._tokens(prompt, self.start(self.tokenize(prompt), checked_options(options, prompt)))

    def generate_many(
        self, prompts: Iterable[Prompt], options: Options | None = None, *, batch_size: int = 8
    ) -> Iterator[Generation | MedGemmaError]:
        """Decodes ``batch_size`` prompts together; yields for each, in order, its Generation or the error it failed with.

        Prompts are taken from the iterable when there is room for them. Every answer is the one that ``generate`` would return;
        its ``seconds`` run from taking in the prompt to the last token, while other prompts are decoded too.
        """
        given, chosen = checked_prompts(prompts, batch_size), checked_options(options).seeded()
        return in_order(self._outcomes(enumerate(given), chosen, batch_size))

    def _outcomes(self, prompts: Iterator[Numbered], options: Options, size: int) -> Iterator[Outcome]:
        """Yields results in the order in which they end. If mlx runs out of memory, the batch continues with half as many rows."""
        import mlx.core as mx

        with self._one_thread:
            batch = Batch(self, options, size)
            try:
                while True:
                    yield from batch.fill(prompts)
                    if not batch.rows:
                        return
                    try:
                        yield from batch.step()
                    except RuntimeError as error:  # mlx's only exception
                        unfinished = [(number, prompt) for number, prompt, _ in batch.rows.values()]
                        batch.close()
                        if len(unfinished) == 1:
                            yield unfinished.pop()[0], model_failed(error)
                        prompts, size = chain(unfinished, prompts), max(1, size // 2)
                        batch = Batch(self, options, size)
            finally:
                batch.close()
                mx.clear_cache()

    def _tokens(self, prompt: Prompt, decoding: Decoding) -> Generator[Token, None, None]:
        """Turns mlx-vlm's results into tokens. There are N + 1 results for N tokens; the last repeats an id and has the finish reason."""
        import mlx.core as mx

        with self._one_thread:
            try:
                with closing(self._results(prompt, decoding)) as results:
                    for result in results:
                        if result.finish_reason is not None:
                            break
                        yield decoding.decode(result.token, _element(result.logprobs, result.token))
                        if decoding.looping:
                            break
                yield from decoding.end("repetition" if decoding.looping else result.finish_reason)
            except RuntimeError as error:  # mlx's only exception, also when memory runs out
                raise model_failed(error) from error
            except IndexError as error:  # mlx-vlm's own detokenizer
                raise no_such_token() from error
            finally:
                mx.clear_cache()

    def _results(self, prompt: Prompt, decoding: Decoding) -> Generator[Any, None, None]:
        import mlx.core as mx
        from mlx_vlm import stream_generate

        options, ids = decoding.options, decoding.prompt_ids
        fed = {"input_ids": mx.array([ids]), "mask": mx.ones((1, len(ids))), **self.picture_inputs(prompt)}
        return stream_generate(
            self.model,
            self.processor,
            "",
            **fed,
            max_tokens=options.max_tokens,
            sampler=self.sampler(options),
            logits_processors=self.processors(options),
        )


class _OneThread:
    """A lock during generation. Another thread gets a GenerationError, since mlx does not support two at a time."""

    def __init__(self) -> None:
        self._lock, self._thread, self._running = threading.Lock(), 0, 0

    def __enter__(self) -> None:
        with self._lock:
            if self._running and self._thread != threading.get_ident():
                raise GenerationError("this model is generating in another thread; wait until that ends, or close its stream")
            self._thread, self._running = threading.get_ident(), self._running + 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._running -= 1


def _element(values: mx.array, at: int) -> float:
    """One element of a vector; in float32 it is read in place, since an mlx operation takes a third of a millisecond."""
    import mlx.core as mx

    return float(memoryview(values)[at]) if values.dtype == mx.float32 else float(values[at].item())  # type: ignore[arg-type]


# Prompts in one forward pass. More are not faster, since a few fill any device, and would wait longer for room.
PREFILLED_TOGETHER = 4


class Batch:
    """At most ``size`` rows at a time; a row that ends makes room for another at once. All of them have the same ``options``."""

    def __init__(self, model: LoadedModel, options: Options, size: int) -> None:
        from mlx_vlm.generate.ar import BatchGenerator

        model.processor.tokenizer.stopping_criteria.reset(model.model.config.eos_token_id)
        self._model, self._options, self._size = model, options, size
        self.rows: dict[int, tuple[int, Prompt, Decoding]] = {}
        self._generator = BatchGenerator(
            model.model.language_model,
            model.processor,
            sampler=model.sampler(options),
            completion_batch_size=size,
            prefill_batch_size=min(size, PREFILLED_TOGETHER),
        )

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
                ended = row.take(response)
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
