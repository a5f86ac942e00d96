"""A prompt as the messages of an OpenAI chat request, and the chunks of the answer as tokens."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from medgemma_app.inputs.images import png_url
from medgemma_app.model.answer import Answer
from medgemma_app.model.generation import FinishReason, Generation, GenerationError, Options, Token
from medgemma_app.prompts import encodable

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionChunk
    from PIL.Image import Image

    from medgemma_app.prompts import Prompt

# The strings that Gemma 3's tokenizer turns into control tokens, and the placeholder by which servers count pictures.
_CONTROL = re.compile(r"<(?=(?:(?:start|end)_of_(?:turn|image)|image_soft_token|bos|eos|pad|unk|mask|unused\d+)>)|\[(?=multimodal\])")
# U+2060 WORD JOINER is invisible, has no width, and is kept by tokenizers that normalise spaces.
_JOINER = "\u2060"


def messages(prompt: Prompt) -> list[dict[str, Any]]:
    """The messages of a chat request: a system message, if there is a system text, and one user message."""
    turn = {"role": "user", "content": [_part(part) for part in prompt.parts]}
    return [{"role": "system", "content": inert(prompt.system)}, turn] if prompt.system else [turn]


def _part(part: str | Image) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": inert(part)}
    return {"type": "image_url", "image_url": {"url": png_url(part.convert("RGB"), compress_level=1)}}


def inert(text: str) -> str:
    """The text with a word joiner inside every control string, so that the server's tokenizer reads it as ordinary text.

    The local model gets such a string in two pieces (see ``chat``); a server tokenises the text as a whole, so the text itself has
    to change. It looks the same.
    """
    return _CONTROL.sub(lambda match: match[0] + _JOINER, text)


def response_format(schema: str) -> Any:
    """OpenAI's field for a JSON schema."""
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": json.loads(schema), "strict": True}}


_RUNAWAY = 4  # a server that sends this many times max_tokens ignores the limit
_LONGEST_TOKEN = 512  # characters; Gemma's longest token has 31
_REASONS: dict[str, FinishReason] = {
    **dict.fromkeys(("stop", "eos", "eos_token", "end_turn", "end_of_turn", "stop_sequence"), "stop"),
    **dict.fromkeys(("length", "max_tokens"), "length"),
    "repetition": "repetition",
}
# The most letters and digits per token; English has four. A server that counts fewer tokens than this implies has cut the prompt.
_MOST_LETTERS_A_TOKEN = 8


class Reply(Answer):
    """An answer that a server streams. ``reason`` is None until it ends; ``overrun`` is set where the client must end it."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.reason: FinishReason | None = None
        self.overrun = False
        self._letters = 0
        self._generated: int | None = None
        self._reports = False  # True once the server has sent ids or log-probabilities

    def read(self, chunk: ChatCompletionChunk) -> list[Token]:
        """The tokens of a chunk, as many as it has ids or log-probabilities, else one. Raises GenerationError for a malformed chunk."""
        try:
            if chunk.usage is not None:
                self.prompt_tokens, self._generated = int(chunk.usage.prompt_tokens), int(chunk.usage.completion_tokens)
            tokens = self._read(chunk.choices[0]) if chunk.choices else []
        except (AttributeError, TypeError, ValueError, LookupError, OverflowError):
            raise GenerationError("the server sent chunks that are not part of a chat completion; is it OpenAI-compatible?") from None
        if self.looping or len(self.tokens) > _RUNAWAY * self.options.limit:
            self.reason, self.overrun = "repetition" if self.looping else "length", True
        return tokens

    def _read(self, choice: Any) -> list[Token]:
        if getattr(choice.delta, "reasoning_content", None) or getattr(choice.delta, "reasoning", None):
            raise GenerationError("the server separates the reasoning from the answer; start it without a reasoning parser")
        ids = [int(id) for id in getattr(choice, "token_ids", None) or ()]
        if len(ids) > self.options.limit:
            raise GenerationError("the server sent more tokens than requested; it ignores max_tokens")
        logprobs = [float(entry.logprob) for entry in (choice.logprobs and choice.logprobs.content) or ()]
        self._letters += len(choice.delta.content or "")
        if self._letters > _LONGEST_TOKEN * self.options.limit:
            raise GenerationError("the server sent more text than the requested number of tokens can hold; it ignores max_tokens")
        text = encodable(choice.delta.content or "")
        count = max(len(ids), len(logprobs))
        self._reports = self._reports or count > 0
        if choice.finish_reason is not None:
            self.reason = _reason(choice.finish_reason)
            count -= count > 0 and self.reason == "stop"  # a stop token is not part of the answer
        elif text and not self._reports:
            count = 1
        if not count:  # text without a token is shown with the next token, or at the end
            self._held += text
            return []
        given = [(ids[at] if ids else None, logprobs[at] if logprobs else None) for at in range(count)]
        return [self.add(id, text if at == count else "", logprob) for at, (id, logprob) in enumerate(given, 1)]

    def generation(self) -> Generation:
        """The Generation, after ``end``; values that the server did not report are None."""
        made = super().generation()
        generated = [token for token in self.tokens if token.finish_reason is None]
        counted = len(generated) if all(token.id is not None or token.logprob is not None for token in generated) else None
        return replace(
            made,
            token_ids=made.token_ids if made.token_ids and len(made.token_ids) == len(generated) else None,
            generated_tokens=self._generated if counted is None else counted,  # servers count the token of a stop too
        )


def _reason(name: Any) -> FinishReason:
    reason = _REASONS.get(str(name).lower())
    if reason is None:
        raise GenerationError("the server ended the answer with an unknown finish reason; see its log")
    return reason


def fewest_tokens(prompt: Prompt) -> int:
    """The smallest number of tokens that the texts of a prompt can have with any tokenizer."""
    texts = [part for part in (*prompt.parts, prompt.system) if isinstance(part, str)]
    return sum(map(str.isalnum, "".join(texts))) // _MOST_LETTERS_A_TOKEN
