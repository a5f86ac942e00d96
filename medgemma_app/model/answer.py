"""An answer as it is generated: its tokens are split into answer and thought, watched for loops, and folded into a Generation.

``Answer`` works on text only, so the answers of a server and of the local model share it. ``Decoding`` turns the ids of
the local model into text.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from typing import Any, TypeVar

from medgemma_app.errors import MedGemmaError
from medgemma_app.model.generation import FinishReason, Generation, GenerationCancelled, GenerationError, Options, Token, TokenKind

THOUGHT_START, THOUGHT_END = "<unused94>", "<unused95>"
Result = TypeVar("Result")
LABEL = "thought\n"  # what MedGemma writes right after THOUGHT_START


class Answer:
    """The tokens of one answer so far. ``options.max_tokens`` already fits into the context.

    The marks around a thought count as thought. Text that may be the beginning of a mark is held back until more text arrives.
    """

    def __init__(self, options: Options) -> None:
        from medgemma_app.validate.loops import LoopWatch

        self.options = options
        self.tokens: list[Token] = []
        self.looping = False  # True once the text only repeats itself
        self.prompt_tokens: int | None = None
        self.peak_memory_bytes: int | None = None
        self._watch = LoopWatch()
        self._kind: TokenKind = "answer"
        self._held = ""
        self._start = time.perf_counter()

    def add(self, id: int | None, text: str, logprob: float | None) -> Token:
        """Adds the next token. If its text contains a change of kind, the part after the change goes with the next token."""
        self._held += text
        kind, shown = self._take_held()
        return self._put(Token(id, shown, logprob, None, kind))

    def end(self, reason: FinishReason, text: str = "") -> list[Token]:
        """Ends the answer. Returns the last item with the text that was held back, or several items if that text is of both kinds."""
        self._held += text
        items: list[Token] = []
        while not items or self._held:
            kind, shown = self._take_held(everything=True)
            items.append(self._put(Token(None, shown, None, None if self._held else reason, kind)))
        return items

    def _take_held(self, *, everything: bool = False) -> tuple[TokenKind, str]:
        """The held text up to the next change of kind, and its kind. Without ``everything``, what may begin a mark stays held."""
        if self._kind == "answer" and self._held.startswith(THOUGHT_START):
            self._kind = "thought"
        kind = self._kind
        mark = THOUGHT_START if kind == "answer" else THOUGHT_END
        end = self._held.find(mark)
        if end < 0:
            end = len(self._held) - (0 if everything else _overlap(self._held, mark))
        elif kind == "thought":
            end += len(THOUGHT_END)
            self._kind = "answer"
        shown, self._held = self._held[:end], self._held[end:]
        return kind, shown

    def _put(self, token: Token) -> Token:
        self.tokens.append(token)
        # A schema decides what may be repeated, and how an answer ends.
        self.looping = self.options.schema is None and self._watch.feed(token.text)
        return token

    def generation(self) -> Generation:
        """The Generation, after ``end``. If a thought was never closed, the answer is empty."""
        texts = {kind: "".join(token.text for token in self.tokens if token.kind == kind) for kind in ("answer", "thought")}
        open_ended = THOUGHT_START in texts["thought"] and not texts["thought"].endswith(THOUGHT_END)
        thought = texts["thought"].replace(THOUGHT_START, "").replace(THOUGHT_END, "").removeprefix(LABEL).strip()
        ids = tuple(token.id for token in self.tokens if token.id is not None)
        return Generation(
            text="" if open_ended else texts["answer"],
            thought=thought if texts["thought"] else None,
            token_ids=ids,
            finish_reason=self.tokens[-1].finish_reason or "cancelled",
            prompt_tokens=self.prompt_tokens,
            seconds=time.perf_counter() - self._start,
            peak_memory_bytes=self.peak_memory_bytes,
            generated_tokens=len(ids),
        )


def _overlap(text: str, mark: str) -> int:
    """The number of characters at the end of ``text`` that are the beginning of ``mark``."""
    return next((n for n in range(min(len(mark) - 1, len(text)), 0, -1) if mark.startswith(text[-n:])), 0)


def collect(tokens: Generator[Token, None, None], answer: Answer, on_token: Callable[[Token], object] | None) -> Generation:
    """Folds a stream into a Generation. Ctrl-C or an exception from ``on_token`` raises GenerationCancelled with the partial one.

    Other exceptions become GenerationError.
    """
    if on_token is not None and not callable(on_token):
        raise TypeError(f"on_token must be a function that takes a Token, not {type(on_token).__name__}")
    with closing(tokens):
        try:
            for token in tokens:
                if on_token:
                    _hand_over(token, on_token)
        except (_Stopped, KeyboardInterrupt) as stop:
            answer.end("cancelled")
            raise GenerationCancelled(answer.generation()) from (stop.__cause__ or stop)
        except MedGemmaError:
            raise
        except Exception as error:
            raise GenerationError(
                f"the model failed while generating ({type(error).__name__}); check that its files are complete"
            ) from error
    return answer.generation()


def in_order(numbered: Iterator[tuple[int, Result]]) -> Iterator[Result]:
    """Takes numbered results in the order in which they finish; yields them in the order of their numbers, each as soon as possible."""
    ended: dict[int, Result] = {}
    turn = 0
    for number, result in numbered:
        ended[number] = result
        while turn in ended:
            yield ended.pop(turn)
            turn += 1


class _Stopped(Exception):
    """The caller's ``on_token`` raised."""


def _hand_over(token: Token, on_token: Callable[[Token], object]) -> None:
    try:
        on_token(token)
    except Exception as error:
        raise _Stopped from error


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
            message = "the model's output is NaN or infinite; use bfloat16 or quantised weights, not float16, or a simpler schema"
            raise GenerationError(message)
        try:
            self._text.add_token(id)
        except IndexError as error:
            raise no_such_token() from error
        self._release()
        return self.add(id, self._text.last_segment, logprob)

    def take(self, response: Any) -> bool:
        """Adds the next token of a row of mlx-vlm's BatchGenerator; True when it was the last one."""
        if response.finish_reason != "stop":  # a stop token is not part of the answer
            self.decode(response.token, response.token_logprob)
        reason: FinishReason | None = "repetition" if self.looping else response.finish_reason
        if reason:
            self.end(reason)
        return reason is not None

    def _release(self) -> None:
        """Releases the text that mlx-vlm's detokenizer would hold back until a token begins with a space.

        Otherwise all text without spaces, such as Chinese or Japanese, would arrive at the end, and a loop in it would go unnoticed.
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


def no_such_token() -> GenerationError:
    """The error for an id that the tokenizer lacks, which sampling can draw because a model's vocabulary is rounded up."""
    return GenerationError("the model chose a token that its tokenizer does not have; try another seed or a lower temperature")


def model_failed(error: Exception) -> GenerationError:
    """The error for a failure inside mlx, with the first line of its message."""
    return GenerationError(f"the model failed while generating: {(str(error).splitlines() or [type(error).__name__])[0]}")
