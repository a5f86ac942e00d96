"""One answer as the local model decodes it: how the next token is drawn, and how ids become tokens with their text."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from medgemma_app.model.answer import Answer
from medgemma_app.model.generation import FinishReason, Generation, GenerationError, Options, Token


class Decoding(Answer):
    """The answer to the prompt whose tokens are ``prompt_ids``."""

    def __init__(self, processor: Any, prompt_ids: list[int], options: Options) -> None:
        from mlx_vlm.tokenizer_utils import make_streaming_detokenizer

        super().__init__(options)
        self.prompt_ids, self.prompt_tokens = prompt_ids, len(prompt_ids)
        # A detokenizer of its own, since mlx-vlm's stream drops a last word that ends in half a character.
        self._text = make_streaming_detokenizer(processor)

    def decode(self, id: int, logprob: float) -> Token:
        """Adds the next token. Raises GenerationError for NaN or infinity, and for an id that the tokenizer does not have."""
        if not math.isfinite(logprob):
            raise no_numbers()
        try:
            self._text.add_token(id)
        except IndexError as error:
            raise no_such_token() from error
        self._release()
        return self.add(id, self._text.last_segment, logprob)

    def _release(self) -> None:
        """Gives out the text at once, whose end mlx-vlm's detokenizer holds back until a token begins with a space.

        Text without spaces, as Chinese or Japanese is written, would otherwise come all at the end, and a loop in it would not be seen.
        Only the bytes of an unfinished character have to wait.
        """
        from mlx_vlm.tokenizer_utils import SPMStreamingDetokenizer

        if isinstance(self._text, SPMStreamingDetokenizer):
            with suppress(UnicodeDecodeError):
                self._text._byte_buffer.decode()
                self._text.finalize()

    def end(self, reason: FinishReason, text: str = "") -> list[Token]:
        """Like ``Answer.end``, with the text that the detokenizer holds back."""
        self._text.finalize()
        given, self._text.offset = self._text.offset, len(self._text.text)
        return super().end(reason, self._text.text[given:])

    def generation(self) -> Generation:
        """The Generation, after ``end``."""
        import mlx.core as mx

        self.peak_memory_bytes = mx.get_peak_memory()
        return super().generation()


NAIVE_SUM = 16_384  # up to this many terms, adding probabilities one by one in float32 is accurate to 1e-5


class Sampler:
    """Draws the next token of every row: the likeliest one at temperature 0, else at random from the seed and the position."""

    def __init__(self, options: Options, *, top_k: int) -> None:
        from mlx_vlm.generate.ar import _PositionedTargetSampler

        how = replace(options, top_k=top_k).seeded()
        self._draw = how.temperature and _PositionedTargetSampler(
            temperature=how.temperature, top_p=how.top_p, top_k=how.top_k, seed=how.seed
        )

    def sample_target(self, logprobs: Any, *, row_ids: list[int], positions: list[int]) -> Any:
        """[rows, vocabulary] -> [rows], as mlx-vlm calls it. ``logprobs`` are corrected in place."""
        import mlx.core as mx

        normalise(logprobs)
        return self._draw.sample_target(logprobs, row_ids=row_ids, positions=positions) if self._draw else mx.argmax(logprobs, axis=-1)


def normalise(logprobs: Any) -> None:
    """Corrects log-probabilities [rows, vocabulary] in place, so that the probabilities of every row add up to 1.

    On a CPU, mlx adds the 262,208 probabilities of MedGemma's vocabulary one by one in float32, so that the logarithm of their sum is
    off by 7e-4. A GPU adds them in parallel. Here numpy adds them in pairs, which is 15 times as fast as mlx.
    """
    import mlx.core as mx
    import numpy as np

    if logprobs.shape[-1] > NAIVE_SUM and mx.default_device() == mx.Device(mx.cpu):
        total = np.exp(np.array(logprobs.astype(mx.float32), copy=False)).sum(axis=-1, keepdims=True, dtype=np.float64)
        logprobs -= mx.array(np.log(total).astype(np.float32)).astype(logprobs.dtype)


def penalties(options: Options) -> list[Callable[[Any, Any], Any]]:
    """mlx-vlm's logits processor for the repetition penalty, for one row."""
    if options.repetition_penalty is None:
        return []
    from mlx_vlm.sample_utils import make_repetition_penalty

    penalise = make_repetition_penalty(options.repetition_penalty, options.limit)
    prompt_tokens: int | None = None

    def only_generated(tokens: Any, logits: Any) -> Any:
        """Leaves out the prompt's tokens, since a SOAP note has to repeat the numbers of the notes."""
        nonlocal prompt_tokens
        prompt_tokens = len(tokens) if prompt_tokens is None else prompt_tokens
        return penalise(tokens[prompt_tokens:], logits)

    return [only_generated]


def no_numbers() -> GenerationError:
    """NaN or infinity where a log-probability should be."""
    return GenerationError("the model's output is NaN or infinite; use bfloat16 or quantised weights, not float16, or a simpler schema")


def no_such_token() -> GenerationError:
    """A model's vocabulary is rounded up, so that sampling can draw an id that the tokenizer does not have."""
    return GenerationError("the model chose a token that its tokenizer does not have; try another seed or a lower temperature")


def model_failed(error: Exception) -> GenerationError:
    """The first line of an error of mlx."""
    return GenerationError(f"the model failed while generating: {(str(error).splitlines() or [type(error).__name__])[0]}")
