"""The values of a generation: Options go in, Tokens come out, a Generation is what they amount to; and what a model is."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from medgemma_app.errors import MedGemmaError, OptionError, expect
from medgemma_app.model.structured import schema_text
from medgemma_app.prompts import ANSWER_TOKENS, Prompt, checked_prompt

FinishReason = Literal["stop", "length", "cancelled", "repetition"]
TokenKind = Literal["answer", "thought"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to generate. Greedy by default, as MedGemma 1.5's own examples; every value is passed on, none is taken from the checkpoint.

    ``max_tokens`` None means as many as the prompt says an answer may have: 2000, and fewer for a SOAP note of short notes.
    ``top_k`` 0 and ``top_p`` 1.0 mean no restriction; ``repetition_penalty`` looks at everything generated so far.
    With ``schema``, a JSON schema as a dict or as JSON text, the answer is JSON that follows it, unless it is cut at ``max_tokens``;
    it is kept as text. Raises OptionError for a value outside its range.
    """

    max_tokens: int | None = None
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int | None = None
    repetition_penalty: float | None = None
    schema: str | dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.max_tokens is not None:
            check_whole("max_tokens", self.max_tokens, least=1)
        check_whole("top_k", self.top_k, least=0)
        _within("temperature", self.temperature, 0.0, 10.0)
        _within("top_p", self.top_p, 0.0, 1.0, open_below=True)
        if self.seed is not None:
            check_whole("seed", self.seed, least=0)
        if self.repetition_penalty is not None:
            _within("repetition_penalty", self.repetition_penalty, 0.1, 10.0)  # less would overflow
        if self.schema is not None:
            object.__setattr__(self, "schema", schema_text(self.schema))

    @property
    def limit(self) -> int:
        """``max_tokens``, or what it is where neither the caller nor the prompt says it."""
        return ANSWER_TOKENS if self.max_tokens is None else self.max_tokens

    def seeded(self) -> Options:
        """The same options with a seed wherever chance plays a part, so that a result can be repeated."""
        if self.temperature == 0 or self.seed is not None:
            return self
        return replace(self, seed=secrets.randbelow(2**31))


def checked_options(options: Options | None, prompt: Prompt | None = None) -> Options:
    """The options, or those by default, with the length of the answer that ``prompt`` needs. Raises TypeError for anything else."""
    expect(options, (Options, type(None)), "options must be Options(...)")
    chosen = options or Options()
    return replace(chosen, max_tokens=prompt.answer_tokens) if prompt and chosen.max_tokens is None else chosen


def checked_prompts(prompts: Iterable[Prompt], batch_size: int) -> Iterator[Prompt]:
    """The prompts, each checked when it is taken. Raises TypeError unless they are a list, OptionError for an empty batch."""
    expect(prompts, Iterable, "prompts must be a list of Prompts")
    check_whole("batch_size", batch_size, least=1)
    return map(checked_prompt, prompts)


def check_whole(name: str, value: object, *, least: int) -> None:
    """Raises OptionError, unless ``value`` is a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise OptionError(f"{name} must be a whole number of at least {least}, not {value!r}")


def _within(name: str, value: object, low: float, high: float, *, open_below: bool = False) -> None:
    number = not isinstance(value, bool) and isinstance(value, (int, float))
    if not (number and (low < value if open_below else low <= value) and value <= high):  # type: ignore[operator]
        raise OptionError(f"{name} must be {'above' if open_below else 'at least'} {low:g} and at most {high:g}, not {value!r}")


@dataclass(frozen=True)
class Token:
    """One generated token. ``text`` may be empty (a word or a character held back); the last item alone has a ``finish_reason``.

    ``logprob`` is the natural logarithm of its probability before sampling. ``id`` and ``logprob`` are None
    for the last item, which holds flushed text only, and where a server does not report them. ``kind`` says whether the text belongs
    to the answer or to the thought before it, whose marks (``<unused94>``, ``<unused95>``) are part of the thought.
    """

    id: int | None
    text: str
    logprob: float | None
    finish_reason: FinishReason | None = None
    kind: TokenKind = "answer"

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Generation:
    """A finished generation: ``text`` is the answer, ``thought`` the trace before it (None when there was none).

    ``token_ids``, the numbers of tokens and the peak memory are None where a server does not report them.
    """

    text: str
    thought: str | None
    token_ids: tuple[int, ...] | None
    finish_reason: FinishReason
    prompt_tokens: int | None
    seconds: float
    peak_memory_bytes: int | None
    generated_tokens: int | None = None


class GenerationError(MedGemmaError):
    """The model failed while generating; ``partial`` holds what a server had sent."""

    def __init__(self, message: str, *, partial: Generation | None = None) -> None:
        super().__init__(message)
        self.partial = partial


class EndpointError(GenerationError):
    """The server cannot be reached, or refuses every request: correct that, then go on."""


class GenerationCancelled(MedGemmaError):
    """The caller stopped the generation; ``partial`` holds what had been generated."""

    exit_code = 130

    def __init__(self, partial: Generation) -> None:
        super().__init__("cancelled" if partial.generated_tokens is None else f"cancelled after {partial.generated_tokens} tokens")
        self.partial = partial


@dataclass(frozen=True)
class Estimate:
    """What a prompt will cost before an answer begins: ``cache_bytes`` come on top of the weights."""

    prompt_tokens: int
    cache_bytes: int
    picture_seconds: float


class Model(Protocol):
    """What a report needs of a model: the one in this process and the one behind a server have it in common."""

    id: str
    context: int  # tokens, prompt and answer together
    can_count: bool  # whether ``tokenize`` works
    packages: tuple[str, ...]  # whose versions belong into a report

    def describe(self) -> dict[str, Any]:
        """What a report says of the model, JSON-ready."""

    def tokenize(self, prompt: Prompt) -> list[int]:
        """The ids the model is fed. Raises InputError where a server cannot tell."""

    def estimate(self, prompt: Prompt) -> Estimate | None:
        """What the prompt will cost, where that can be known."""

    def batch_size(self, max_tokens: int) -> int:
        """How many prompts should be answered at a time."""

    def stream(self, prompt: Prompt, options: Options | None = None) -> Generator[Token, None, None]:
        """One Token as each is generated; closing the generator stops the work."""

    def generate(self, prompt: Prompt, options: Options | None = None, *, on_token: Callable[[Token], object] | None = None) -> Generation:
        """``stream``, folded."""

    def generate_many(
        self, prompts: Iterable[Prompt], options: Options | None = None, *, batch_size: int = 8
    ) -> Iterator[Generation | MedGemmaError]:
        """For each prompt, in order, its Generation or the error it failed with."""
