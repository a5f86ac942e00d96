"""MedGemma: load, stream, generate, encode_image, tokenize, over ``mlx_vlm.load`` and ``mlx_vlm.stream_generate``."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from medgemma_app.errors import ContextError, GenerationCancelled, GenerationError, InputError, OptionError
from medgemma_app.model.thought import split_thought
from medgemma_app.prompts import Prompt

if TYPE_CHECKING:
    import mlx.core as mx
    from PIL.Image import Image

FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to generate. Greedy by default, as MedGemma 1.5's own examples; every value is passed on, none is taken from the checkpoint.

    ``top_k`` 0 and ``top_p`` 1.0 mean no restriction; ``repetition_penalty`` looks at everything generated so far.
    Raises OptionError for a value outside its range.
    """

    max_tokens: int = 2000
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int | None = None
    repetition_penalty: float | None = None

    def __post_init__(self) -> None:
        _whole("max_tokens", self.max_tokens, least=1)
        _whole("top_k", self.top_k, least=0)
        _within("temperature", self.temperature, 0.0, 10.0)
        _within("top_p", self.top_p, 0.0, 1.0, open_below=True)
        if self.seed is not None:
            _whole("seed", self.seed, least=0)
        if self.repetition_penalty is not None:
            _within("repetition_penalty", self.repetition_penalty, 0.0, 10.0, open_below=True)

    def seeded(self) -> Options:
        """The same options with a seed wherever chance plays a part, so that a result can be repeated."""
        if self.temperature == 0 or self.seed is not None:
            return self
        return replace(self, seed=secrets.randbelow(2**31))


def _whole(name: str, value: object, *, least: int) -> None:
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
    for the last item, which holds flushed text only.
    """

    id: int | None
    text: str
    logprob: float | None
    finish_reason: FinishReason | None = None

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Generation:
    """A finished generation: ``text`` is the answer, ``thought`` the trace before it (None when there was none)."""

    text: str
    thought: str | None
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    prompt_tokens: int
    seconds: float
    peak_memory_bytes: int


@dataclass(frozen=True)
class Expectation:
    """What a prompt will cost before an answer begins: ``cache_bytes`` come on top of the weights."""

    prompt_tokens: int
    cache_bytes: int
    picture_seconds: float


@dataclass(frozen=True)
class _Run:
    """A generation under way. Its detokenizer is ours: mlx-vlm's own drops the last word when that ends in half a character."""

    tokens: Generator[Token, None, None]
    prompt_tokens: int
    text: Any

    def rest(self) -> str:
        """The text that was held back, when the generation is cut off."""
        return _rest(self.text)


class MedGemma:
    """A loaded checkpoint. Use ``MedGemma.load``; one generation at a time."""

    def __init__(self, model: Any, processor: Any, *, id: str, revision: str | None, context: int, aligned: bool) -> None:
        from medgemma_app.model.chat import ChatTemplate

        self.id, self.revision, self.context, self.aligned = id, revision, context, aligned
        self._model, self._processor = model, processor
        self._chat = ChatTemplate(processor)

    @classmethod
    def load(cls, model: str, *, revision: str | None = None, align: bool = True, progress: bool = False) -> MedGemma:
        """Loads ``model``: a hub id, a folder, or "demo". ``progress`` shows a download on stderr.

        ``align=False`` leaves mlx-vlm's departures from the reference as they are, to measure them.
        Raises ModelError when it cannot be loaded; what is there already is loaded without a network.
        """
        from medgemma_app.model.checkpoint import find_checkpoint, load_checkpoint

        checkpoint = find_checkpoint(model, revision=revision, progress=progress)
        loaded, processor = load_checkpoint(checkpoint)
        if align:
            from medgemma_app.model.gemma3 import align as align_model

            align_model(loaded, checkpoint.config)
        return cls(loaded, processor, id=model, revision=checkpoint.revision, context=checkpoint.context, aligned=align)

    def tokenize(self, prompt: Prompt) -> list[int]:
        """The ids the model is fed for ``prompt``, every picture as its image soft tokens."""
        return self._chat.encode(prompt)

    def encode_image(self, image: Image) -> mx.array:
        """The projected SigLIP embeddings of an RGB picture: [256, text hidden size] for MedGemma, as the projector gives them."""
        from medgemma_app.model.gemma3 import image_features

        return image_features(self._model, self._pixels([image]))[0]

    def expect(self, prompt: Prompt) -> Expectation:
        """What ``prompt`` will cost: its tokens, the cache they fill, and how long its pictures take, by timing the first."""
        tokens = len(self.tokenize(prompt))
        start = time.perf_counter()
        for image in prompt.images[:1]:
            self.encode_image(image).tolist()
        seconds = (time.perf_counter() - start) * len(prompt.images)
        return Expectation(tokens, self._cache_bytes(tokens), seconds)

    def _cache_bytes(self, tokens: int) -> int:
        """Keys and values of every layer; a sliding layer keeps its window only."""
        config = self._model.config.text_config
        row = 2 * config.num_key_value_heads * config.head_dim * self._model.language_model.model.norm.weight.dtype.size
        layers = self._model.language_model.layers
        return int(sum(row * (min(tokens, config.sliding_window) if layer.self_attn.is_sliding else tokens) for layer in layers))

    def generate(self, prompt: Prompt, options: Options | None = None, *, on_token: Callable[[Token], object] | None = None) -> Generation:
        """``stream``, folded. Ctrl-C or an exception from ``on_token`` raises GenerationCancelled with what there was."""
        import mlx.core as mx

        mx.reset_peak_memory()
        start, tokens = time.perf_counter(), list[Token]()
        run = self._start(prompt, options or Options())

        def fold(finish_reason: FinishReason) -> Generation:
            seconds = time.perf_counter() - start
            return _fold(tokens, finish_reason, run.prompt_tokens, seconds, mx.get_peak_memory())

        with closing(run.tokens):
            try:
                for token in run.tokens:
                    tokens.append(token)
                    if on_token:
                        on_token(token)
            except (GenerationError, InputError):
                raise
            except (Exception, KeyboardInterrupt) as error:  # whatever the caller's on_token raised
                tokens.append(Token(None, run.rest(), None, "cancelled"))
                raise GenerationCancelled(fold("cancelled")) from error
        return fold(tokens[-1].finish_reason or "stop")

    def stream(self, prompt: Prompt, options: Options | None = None) -> Generator[Token, None, None]:
        """One Token as each is generated. Closing the generator stops the work before the next token and frees it.

        Raises ContextError when the prompt does not fit, GenerationError when the model fails.
        """
        return self._start(prompt, options or Options()).tokens

    def _start(self, prompt: Prompt, options: Options) -> _Run:
        from mlx_vlm.tokenizer_utils import make_streaming_detokenizer

        ids = self.tokenize(prompt)
        room = self.context - len(ids)
        if room < 1:
            message = (
                f"the prompt has {len(ids)} tokens and the model takes at most {self.context - 1}; shorten the notes or give fewer pictures"
            )
            raise ContextError(message, tokens=len(ids), limit=self.context - 1)
        options = replace(options, max_tokens=min(options.max_tokens, room))
        text = make_streaming_detokenizer(self._processor)
        return _Run(self._tokens(prompt, ids, options, text), len(ids), text)

    def _tokens(self, prompt: Prompt, ids: list[int], options: Options, text: Any) -> Generator[Token, None, None]:
        """mlx-vlm's results -> tokens. It gives N + 1 results for N tokens; the last one repeats an id and carries the reason."""
        import mlx.core as mx

        try:
            with closing(self._results(prompt, ids, options)) as results:
                for result in results:
                    if result.finish_reason is not None:
                        break
                    text.add_token(result.token)
                    yield Token(result.token, text.last_segment, _logprob(result))
            yield Token(None, _rest(text), None, result.finish_reason)
        except RuntimeError as error:  # mlx reports everything so, running out of memory included
            raise GenerationError(f"the model failed while generating: {_first_line(error)}") from error
        finally:
            mx.clear_cache()

    def _results(self, prompt: Prompt, ids: list[int], options: Options) -> Generator[Any, None, None]:
        import mlx.core as mx
        from mlx_vlm import stream_generate

        vocabulary = self._model.config.text_config.vocab_size
        fed = {"input_ids": mx.array([ids]), "mask": mx.ones((1, len(ids))), **self._picture_inputs(prompt)}
        return stream_generate(
            self._model,
            self._processor,
            "",
            **fed,
            max_tokens=options.max_tokens,
            temperature=float(options.temperature),
            top_p=float(options.top_p),
            top_k=options.top_k if options.top_k < vocabulary else 0,
            seed=options.seed,
            logits_processors=_penalties(options),
        )

    def _picture_inputs(self, prompt: Prompt) -> dict[str, mx.array]:
        """Pictures are encoded one at a time, before the text: 85 slices would not fit together."""
        if not prompt.images:
            return {}
        if not self.aligned:
            return {"pixel_values": self._pixels(list(prompt.images))}
        import mlx.core as mx

        return {"cached_image_features": mx.stack([self.encode_image(image) for image in prompt.images])}

    def _pixels(self, images: list[Image]) -> mx.array:
        """RGB pictures -> [n, 3, side, side] in -1..1, by the checkpoint's own image processor."""
        import mlx.core as mx

        rgb = [image.convert("RGB") for image in images]
        return mx.array(self._processor.image_processor(images=rgb, return_tensors="np")["pixel_values"])


def _rest(text: Any) -> str:
    text.finalize()
    given, text.offset = text.offset, len(text.text)
    return text.text[given:]


def _logprob(result: Any) -> float:
    value = float(result.logprobs[result.token].item())
    if not math.isfinite(value):
        raise GenerationError("the model computes no finite numbers; a float16 checkpoint overflows, use bfloat16 or a quantised one")
    return value


def _penalties(options: Options) -> list[Callable[[Any, Any], Any]]:
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


def _fold(tokens: list[Token], finish_reason: FinishReason, prompt_tokens: int, seconds: float, peak: int) -> Generation:
    text, thought = split_thought("".join(token.text for token in tokens))
    ids = tuple(token.id for token in tokens if token.id is not None)
    return Generation(text, thought, ids, finish_reason, prompt_tokens, seconds, peak)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
