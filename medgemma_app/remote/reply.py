"""What a server has answered so far: its chunks come in, tokens go out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from medgemma_app.model.answer import Answer
from medgemma_app.model.generation import FinishReason, Generation, GenerationError, Options, Token

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionChunk

# A server that goes on after so many times the tokens asked for does not keep to the limit.
_RUNAWAY = 4
_REASONS = {"stop", "length", "repetition"}


class Reply(Answer):
    """``reason`` is None until the server has ended the answer; ``overrun`` says that it must be ended from here."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.reason: FinishReason | None = None
        self.overrun = False
        self._generated: int | None = None
        self._reports, self._held = False, ""

    def read(self, chunk: ChatCompletionChunk) -> list[Token]:
        """The tokens of a chunk: as many as it has ids or log-probabilities, else one. Raises GenerationError when it is malformed."""
        try:
            if chunk.usage is not None:
                self.prompt_tokens, self._generated = int(chunk.usage.prompt_tokens), int(chunk.usage.completion_tokens)
            tokens = self._read(chunk.choices[0]) if chunk.choices else []
        except (AttributeError, TypeError, ValueError, LookupError):
            raise GenerationError("the server sends chunks that are no chat completion; is it OpenAI-compatible?") from None
        if self.looping or len(self.tokens) > _RUNAWAY * self.options.max_tokens:
            self.reason, self.overrun = "repetition" if self.looping else "length", True
        return tokens

    def _read(self, choice: Any) -> list[Token]:
        ids = [int(id) for id in getattr(choice, "token_ids", None) or ()]
        logprobs = [float(entry.logprob) for entry in (choice.logprobs and choice.logprobs.content) or ()]
        thought = str(getattr(choice.delta, "reasoning_content", None) or getattr(choice.delta, "reasoning", None) or "")
        self._held += str(choice.delta.content or "")
        add = self.add
        if thought and not self._held:  # the ids of this chunk are the thought's
            add, self._held = self.add_thought, thought
        shown = [self.add_thought(None, thought, None)] if thought and add == self.add else []
        count = max(len(ids), len(logprobs))
        self._reports = self._reports or count > 0
        if choice.finish_reason is not None:
            self.reason = _reason(choice.finish_reason)
            count -= count > 0 and self.reason == "stop"  # the token of a stop is no part of the answer
        elif not self._reports and self._held:
            count = 1
        if not count:  # text without a token: it was held back and goes with the next one, or with the end
            return shown
        text, self._held = self._held, ""
        given = [(ids[at] if ids else None, logprobs[at] if logprobs else None) for at in range(count)]
        return [*shown, *(add(id, text if at == count else "", logprob) for at, (id, logprob) in enumerate(given, 1))]

    def end(self, reason: FinishReason, text: str = "") -> list[Token]:
        """As for any answer; the text that came without a token goes with it."""
        held, self._held = self._held, ""
        return super().end(reason, held + text)

    def generation(self) -> Generation:
        """What there is after ``end``; what the server did not report is None."""
        made = super().generation()
        generated = [token for token in self.tokens if token.finish_reason is None]
        counted = len(generated) if all(token.id is not None or token.logprob is not None for token in generated) else None
        return replace(
            made,
            token_ids=made.token_ids if made.token_ids and len(made.token_ids) == len(generated) else None,
            generated_tokens=self._generated if counted is None else counted,  # servers count the token of a stop too
        )


def _reason(said: str) -> FinishReason:
    if said not in _REASONS:
        raise GenerationError("the server ended the answer for a reason of its own; see its log")
    return cast(FinishReason, said)
