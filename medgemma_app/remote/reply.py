"""What a server has answered so far: its chunks come in, tokens go out, until it ends or turns in circles."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from medgemma_app.model.generation import FinishReason, Generation, GenerationError, Options, Token, fold
from medgemma_app.model.thought import CLOSE, OPEN
from medgemma_app.validate.loops import LoopWatch

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionChunk

# A server that goes on after so many times the tokens asked for does not keep to the limit.
_RUNAWAY = 4
_REASONS = {"stop", "length", "repetition"}


class Reply:
    """An answer under way. ``reason`` is None until it has ended; ``overrun`` says that it must be ended from here."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.tokens: list[Token] = []
        self.reason: FinishReason | None = None
        self.overrun = False
        self.prompt_tokens: int | None = None
        self._generated: int | None = None
        self._watch = LoopWatch()
        self._reports, self._thinking, self._held = False, False, ""
        self._start = time.perf_counter()

    def add(self, chunk: ChatCompletionChunk) -> list[Token]:
        """The tokens of a chunk: as many as it has ids or log-probabilities, else one. Raises GenerationError when it is malformed."""
        try:
            if chunk.usage is not None:
                self.prompt_tokens, self._generated = int(chunk.usage.prompt_tokens), int(chunk.usage.completion_tokens)
            tokens = self._read(chunk.choices[0]) if chunk.choices else []
        except (AttributeError, TypeError, ValueError, LookupError):
            raise GenerationError("the server sends chunks that are no chat completion; is it OpenAI-compatible?") from None
        self.tokens += tokens
        looping = any(self._watch.feed(token.text) for token in tokens)
        if looping or len(self.tokens) > _RUNAWAY * self.options.max_tokens:
            self.reason, self.overrun = "repetition" if looping else "length", True
        return tokens

    def _read(self, choice: Any) -> list[Token]:
        ids = [int(id) for id in getattr(choice, "token_ids", None) or ()]
        logprobs = [float(entry.logprob) for entry in (choice.logprobs and choice.logprobs.content) or ()]
        self._held += self._text(choice.delta)
        count = max(len(ids), len(logprobs))
        self._reports = self._reports or count > 0
        if choice.finish_reason is not None:
            self.reason = _reason(choice.finish_reason)
            count -= count > 0 and self.reason == "stop"  # the token of a stop is no part of the answer
        elif not self._reports and self._held:
            count = 1
        if not count:  # text without a token: it was held back and goes with the next one, or with the end
            return []
        text, self._held = self._held, ""
        given = [(ids[at] if ids else None, logprobs[at] if logprobs else None) for at in range(count)]
        return [Token(id, text if at == count else "", logprob) for at, (id, logprob) in enumerate(given, 1)]

    def _text(self, delta: Any) -> str:
        """Where a server has split the thought off, it goes back between its marks, so that it is told apart as everywhere."""
        thought = str(getattr(delta, "reasoning_content", None) or getattr(delta, "reasoning", None) or "")
        answer = str(delta.content or "")
        opened = OPEN if thought and not self._thinking else ""
        self._thinking = self._thinking or bool(thought)
        closed = CLOSE if answer and self._thinking else ""
        self._thinking = self._thinking and not closed
        return opened + thought + closed + answer

    def end(self, reason: FinishReason) -> Token:
        """The last item, with the text that came with the end."""
        self.tokens.append(token := Token(None, self._held, None, reason))
        return token

    def generation(self) -> Generation:
        """What there is after ``end``; what the server did not report is None."""
        generated = self.tokens[:-1]
        ids = tuple(token.id for token in generated if token.id is not None)
        counted = len(generated) if all(token.id is not None or token.logprob is not None for token in generated) else None
        made = fold(
            self.tokens,
            self.tokens[-1].finish_reason or "cancelled",
            prompt_tokens=self.prompt_tokens,
            seconds=time.perf_counter() - self._start,
            peak=None,
        )
        return replace(
            made,
            token_ids=ids if ids and len(ids) == len(generated) else None,
            generated_tokens=self._generated if counted is None else counted,  # servers count the token of a stop too
        )


def _reason(said: str) -> FinishReason:
    if said not in _REASONS:
        raise GenerationError("the server ended the answer for a reason of its own; see its log")
    return cast(FinishReason, said)
