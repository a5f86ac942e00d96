"""One generation under way: ids come in, tokens with their text go out, until it ends or turns in circles."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from medgemma_app.model.generation import FinishReason, Generation, GenerationError, Options, Token, fold
from medgemma_app.validate.loops import LoopWatch


class Row:
    """What a prompt has been answered with so far. ``options.max_tokens`` fit the context already."""

    def __init__(self, processor: Any, prompt_ids: list[int], options: Options) -> None:
        from mlx_vlm.tokenizer_utils import make_streaming_detokenizer

        self.prompt_ids, self.options = prompt_ids, options
        self.tokens: list[Token] = []
        # Its own detokenizer: mlx-vlm's drops the last word when that ends in half a character.
        self._text = make_streaming_detokenizer(processor)
        self._watch = LoopWatch()
        self._looping = False
        self._start = time.perf_counter()

    def add(self, id: int, logprob: float) -> Token:
        """The next generated token. Raises GenerationError when the model has computed no number, or a token that has no text."""
        if not math.isfinite(logprob):
            raise no_numbers()
        try:
            self._text.add_token(id)
        except IndexError as error:
            raise no_such_token() from error
        self.tokens.append(token := Token(id, self._text.last_segment, logprob))
        self._looping = self._watch.feed(token.text)
        return token

    @property
    def looping(self) -> bool:
        """The text repeats itself without end: nothing more is to be had from it."""
        return self._looping

    def end(self, reason: FinishReason) -> Token:
        """The last item, with the text that was held back."""
        self._text.finalize()
        given, self._text.offset = self._text.offset, len(self._text.text)
        self.tokens.append(token := Token(None, self._text.text[given:], None, reason))
        return token

    def generation(self) -> Generation:
        """What there is after ``end``."""
        import mlx.core as mx

        reason = self.tokens[-1].finish_reason or "cancelled"
        seconds = time.perf_counter() - self._start
        return fold(self.tokens, reason, prompt_tokens=len(self.prompt_ids), seconds=seconds, peak=mx.get_peak_memory())


def penalties(options: Options) -> list[Callable[[Any, Any], Any]]:
    """The repetition penalty as mlx-vlm takes it, for one row."""
    if options.repetition_penalty is None:
        return []
    from mlx_vlm.sample_utils import make_repetition_penalty

    penalise = make_repetition_penalty(options.repetition_penalty, options.max_tokens)
    prompt_tokens: int | None = None

    def only_generated(tokens: Any, logits: Any) -> Any:
        """The prompt's own words must not count: a SOAP note repeats the numbers of the notes."""
        nonlocal prompt_tokens
        prompt_tokens = len(tokens) if prompt_tokens is None else prompt_tokens
        return penalise(tokens[prompt_tokens:], logits)

    return [only_generated]


def no_numbers() -> GenerationError:
    """NaN or infinity where a log-probability should be."""
    return GenerationError("the model computes no finite numbers; a float16 checkpoint overflows, use bfloat16 or a quantised one")


def no_such_token() -> GenerationError:
    """The vocabulary of a model is rounded up: it has ids that the tokenizer has not, and chance can fall on one."""
    return GenerationError("the model chose a token that its tokenizer does not have; try another seed or a lower temperature")


def model_failed(error: Exception) -> GenerationError:
    """What mlx said, in one line."""
    return GenerationError(f"the model failed while generating: {(str(error).splitlines() or [type(error).__name__])[0]}")
