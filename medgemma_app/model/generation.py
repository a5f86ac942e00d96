"""The types of a generation: Options, Token, Generation, their errors, and the protocol ``Model``."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, Protocol

from medgemma_app.errors import MedGemmaError, OptionError, expect
from medgemma_app.prompts import ANSWER_TOKENS, Prompt, checked_prompt

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

FinishReason = Literal["stop", "length", "cancelled", "repetition"]
TokenKind = Literal["answer", "thought"]
LONGEST_SCHEMA = 100_000  # characters
# Only one way to write each value, since a model that may add spaces can add them endlessly. Unsupported keywords are an error.
_STYLE: Any = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False, "whitespace_pattern": "", "lenient": False}


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to generate: greedy by default, like MedGemma 1.5's own examples. No value is taken from the checkpoint.

    With ``max_tokens`` None the prompt decides: 2000, or fewer for a SOAP note of short notes.
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
            object.__setattr__(self, "schema", _schema_text(self.schema))

    @property
    def limit(self) -> int:
        """``max_tokens``, or its default where neither the caller nor the prompt sets it."""
        return ANSWER_TOKENS if self.max_tokens is None else self.max_tokens

    def seeded(self) -> Options:
        """The same options, with a random seed if sampling needs one, so that a result can be repeated."""
        if self.temperature == 0 or self.seed is not None:
            return self
        return replace(self, seed=secrets.randbelow(2**31))


def _schema_text(schema: object) -> str:
    """The schema, a dict or JSON text, as JSON text. Raises OptionError where it is not a supported schema."""
    if not isinstance(schema, (str, dict)):
        raise OptionError(f"schema must be a JSON schema, as a dict or as JSON text, not {type(schema).__name__}")
    try:
        text = schema if isinstance(schema, str) else json.dumps(schema, allow_nan=False)
        error = _schema_error(text)
    except (TypeError, ValueError, RecursionError) as failure:
        error = f"the schema is not JSON: {failure}"
    if error:
        raise OptionError(" ".join(error.split())[:240])
    return text


@lru_cache(maxsize=16)
def _schema_error(schema: str) -> str:
    """What is wrong with a schema, "" for nothing. Raises ValueError for text that is not JSON."""
    from llguidance import LLTokenizer

    if len(schema) > LONGEST_SCHEMA:
        return f"the schema has more than {LONGEST_SCHEMA} characters; give a shorter one"
    if not schema.lstrip().startswith("{"):
        return "the schema must be a JSON object"
    matcher = schema_matcher(schema, LLTokenizer("byte"))
    if not matcher.is_error():
        matcher.compute_bitmask()  # fails where a schema refers to itself alone
    return f"the schema is not supported: {matcher.get_error()}" if matcher.is_error() else ""


def schema_matcher(schema: str, tokenizer: LLTokenizer) -> LLMatcher:
    """llguidance's matcher for an answer, which has an error where the schema is not supported.

    Nothing is fetched: a ``$ref`` to another document is such an error. Raises ValueError for text that is not JSON.
    """
    from llguidance import LLMatcher, LLParserLimits

    grammar = LLMatcher.grammar_from_json_schema(schema, overrides=_STYLE)
    return LLMatcher(tokenizer, grammar, log_level=0, limits=LLParserLimits(verbose_errors=False))


def checked_options(options: Options | None, prompt: Prompt | None = None) -> Options:
    """The options, or the default ones, with the answer length that ``prompt`` asks for. Raises TypeError for anything else."""
    expect(options, (Options, type(None)), "options must be Options(...)")
    chosen = options or Options()
    return replace(chosen, max_tokens=prompt.answer_tokens) if prompt and chosen.max_tokens is None else chosen


def refuse_schema(options: Options | None) -> None:
    """Raises OptionError for options with a schema."""
    if checked_options(options).schema is not None:
        raise OptionError("an answer that follows a schema has no sections and no boxes; use ask() for it, or leave out the schema")


def checked_prompts(prompts: Iterable[Prompt], batch_size: int) -> Iterator[Prompt]:
    """The prompts, each checked when it is used. Raises TypeError unless they are iterable, OptionError for a batch size below 1."""
    expect(prompts, Iterable, "prompts must be a list of Prompts")
    check_whole("batch_size", batch_size, least=1)
    return map(checked_prompt, prompts)


def check_whole(name: str, value: object, *, least: int) -> None:
    """Raises OptionError unless ``value`` is a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise OptionError(f"{name} must be a whole number of at least {least}, not {value!r}")


def _within(name: str, value: object, low: float, high: float, *, open_below: bool = False) -> None:
    number = not isinstance(value, bool) and isinstance(value, (int, float))
    if not (number and (low < value if open_below else low <= value) and value <= high):  # type: ignore[operator]
        raise OptionError(f"{name} must be {'above' if open_below else 'at least'} {low:g} and at most {high:g}, not {value!r}")


@dataclass(frozen=True)
class Token:
    """One generated token. ``text`` may be empty while a word or a character is incomplete; only the last item has a ``finish_reason``.

    ``logprob`` is the natural logarithm of its probability before sampling. ``id`` and ``logprob`` are None
    for the last item, which only holds text that was held back, and where a server does not report them. ``kind`` says whether the text
    belongs to the answer or to the thought before it, which includes its marks (``<unused94>``, ``<unused95>``).
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
    """A finished generation: ``text`` is the answer, ``thought`` the reasoning before it (None if there was none).

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
    """The model failed while generating; ``partial`` is what a server had sent until then."""

    def __init__(self, message: str, *, partial: Generation | None = None) -> None:
        super().__init__(message)
        self.partial = partial


class EndpointError(GenerationError):
    """The server cannot be reached, refuses all requests, or lacks what they need."""


class GenerationCancelled(MedGemmaError):
    """The caller stopped the generation; ``partial`` is what had been generated until then."""

    exit_code = 130

    def __init__(self, partial: Generation) -> None:
        super().__init__("cancelled" if partial.generated_tokens is None else f"cancelled after {partial.generated_tokens} tokens")
        self.partial = partial


@dataclass(frozen=True)
class Estimate:
    """The cost of a prompt before the answer begins: its tokens, the bytes of its cache, and the seconds for its pictures."""

    prompt_tokens: int
    cache_bytes: int
    picture_seconds: float


class Model(Protocol):
    """What a report needs from a model. ``MedGemma``, the model of ``medgemma serve`` and the one behind a server implement it."""

    id: str
    context: int  # tokens, prompt and answer together
    can_count: bool  # whether ``tokenize`` works
    packages: tuple[str, ...]  # those whose versions a report states

    def describe(self) -> dict[str, Any]:
        """What a report says about the model, JSON-ready."""

    def tokenize(self, prompt: Prompt) -> list[int]:
        """The token ids for the model. Raises InputError if a server cannot return them."""

    def estimate(self, prompt: Prompt) -> Estimate | None:
        """The cost of the prompt, None if it is unknown."""

    def batch_size(self, max_tokens: int) -> int:
        """The number of prompts to answer at a time."""

    def stream(self, prompt: Prompt, options: Options | None = None) -> Generator[Token, None, None]:
        """Yields each Token as it is generated; closing the generator stops the work."""

    def generate(self, prompt: Prompt, options: Options | None = None, *, on_token: Callable[[Token], object] | None = None) -> Generation:
        """The tokens of ``stream``, folded."""

    def generate_many(
        self, prompts: Iterable[Prompt], options: Options | None = None, *, batch_size: int = 8
    ) -> Iterator[Generation | MedGemmaError]:
        """Yields for each prompt, in order, its Generation or the error it failed with."""
