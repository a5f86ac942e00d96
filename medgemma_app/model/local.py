"""MedGemma: load, stream, generate, encode_image, tokenize, over ``mlx_vlm.load`` and ``mlx_vlm.stream_generate``."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from medgemma_app.errors import ContextError, MedGemmaError
from medgemma_app.model.generation import Expectation, Generation, Options, Token, collect
from medgemma_app.model.row import Row, model_failed, no_such_token, penalties
from medgemma_app.prompts import Prompt

if TYPE_CHECKING:
    import mlx.core as mx
    from PIL.Image import Image

LARGEST_BATCH = 16
PROMPT_TOKENS = 1024  # two pictures and what is said about them
PICTURES_KEPT = 16  # 1.3 MB each for the 4B model
PASS_BYTES = 1 << 30  # what the vision pass and the prefill of a prompt need for a moment
FREED_BYTES = 256 << 20  # of freed memory that mlx may keep for itself; without a limit it keeps all it ever had


class MedGemma:
    """A loaded checkpoint. Use ``MedGemma.load``; one generation at a time."""

    id: str
    revision: str | None
    context: int
    aligned: bool | None
    counts = True  # tokens can be counted before they are fed
    packages: tuple[str, ...] = ("medgemma-app", "mlx", "mlx-vlm", "transformers", "pillow")  # that have a part in what is generated

    def __init__(self, model: Any, processor: Any, *, id: str, revision: str | None, context: int, aligned: bool) -> None:
        from medgemma_app.model.chat import ChatTemplate

        self.id, self.revision, self.context, self.aligned = id, revision, context, aligned
        self._model, self._processor = model, processor
        self._chat = ChatTemplate(processor)
        self._seen: dict[bytes, mx.array] = {}

    @classmethod
    def load(cls, model: str, *, revision: str | None = None, align: bool = True, progress: bool = False) -> MedGemma:
        """Loads ``model``: a hub id, a folder, or "demo". ``progress`` shows a download on stderr.

        ``align=False`` leaves mlx-vlm's departures from the reference as they are, to measure them. From here on mlx keeps at most
        256 MB of freed memory in this process, or less where a lower limit was set already. Raises ModelError when the model cannot be
        loaded; what is there already is loaded without a network.
        """
        from medgemma_app.model.checkpoint import find_checkpoint, load_checkpoint

        checkpoint = find_checkpoint(model, revision=revision, progress=progress)
        loaded, processor = load_checkpoint(checkpoint)
        if align:
            from medgemma_app.model.gemma3 import align as align_model

            align_model(loaded, checkpoint.config)
        _limit_cache()
        return cls(loaded, processor, id=model, revision=checkpoint.revision, context=checkpoint.context, aligned=align)

    @staticmethod
    def connect(
        url: str,
        *,
        model: str | None = None,
        allow_remote: bool = False,
        api_key: str | None = None,
        timeout: float = 300.0,
        jobs: int = 8,
    ) -> MedGemma:
        """A model behind an OpenAI-compatible server, with the same face; ``model`` is needed where the server has several.

        Nothing but this machine itself may be reached unless ``allow_remote`` says that the picture and the notes may leave it.
        ``api_key`` is by default the one in MEDGEMMA_API_KEY; ``timeout`` is the longest silence in seconds; ``generate_many`` keeps
        ``jobs`` requests in flight. Raises OptionError for a URL that is refused, EndpointError when nothing answers there, ModelError
        when it has no such model or the extra "remote" is not installed.
        """
        from medgemma_app.remote.endpoint import Endpoint, read_key

        key = read_key(None) if api_key is None else api_key
        return Endpoint(url=url, allow_remote=allow_remote, key=key, timeout=timeout, jobs=jobs).connect(model)

    def described(self) -> dict[str, Any]:
        """What a report says of the model."""
        return {"id": self.id, "revision": self.revision, "aligned": self.aligned}

    def tokenize(self, prompt: Prompt) -> list[int]:
        """The ids the model is fed for ``prompt``, every picture as its image soft tokens."""
        return self._chat.encode(prompt)

    def encode_image(self, image: Image) -> mx.array:
        """The projected SigLIP embeddings of an RGB picture: [256, text hidden size] for MedGemma, as the projector gives them.

        Those of the last pictures are kept: another question about one of them, or another try, costs no second look.
        """
        key = _content(image)
        embeddings = self._seen.pop(key) if key in self._seen else self._encode(image)
        self._seen[key] = embeddings  # the most recent one last
        for oldest in list(self._seen)[:-PICTURES_KEPT]:
            del self._seen[oldest]
        return embeddings

    def _encode(self, image: Image) -> mx.array:
        from medgemma_app.model.siglip import image_features

        return image_features(self._model, self._pixels([image]))[0]

    def expect(self, prompt: Prompt) -> Expectation | None:
        """What ``prompt`` will cost: its tokens, the cache they fill, and how long its pictures take, by timing the first."""
        tokens = len(self.tokenize(prompt))
        start = time.perf_counter()
        for image in prompt.images[:1]:
            self._seen[_content(image)] = self._encode(image)
        seconds = (time.perf_counter() - start) * len(prompt.images)
        return Expectation(tokens, self._cache_bytes(tokens), seconds)

    def batch_size(self, max_tokens: int) -> int:
        """How many rows fit into memory beside the weights, when each has a picture and an answer of ``max_tokens``: 1 to 16."""
        import mlx.core as mx

        tokens = min(self.context, PROMPT_TOKENS + max_tokens)
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        memory = int(mx.device_info().get("max_recommended_working_set_size", physical // 2))
        free = memory - mx.get_active_memory() - PASS_BYTES
        return int(max(1, min(LARGEST_BATCH, free // self._cache_bytes(tokens))))

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
        row = self.row(prompt, options or Options())
        return collect(self._tokens(prompt, row), row, on_token)

    def stream(self, prompt: Prompt, options: Options | None = None) -> Generator[Token, None, None]:
        """One Token as each is generated. Closing the generator stops the work before the next token and frees it.

        A text that only repeats itself ends with the finish reason "repetition". Raises ContextError when the prompt does not fit,
        GenerationError when the model fails.
        """
        return self._tokens(prompt, self.row(prompt, options or Options()))

    def generate_many(
        self, prompts: Iterable[Prompt], options: Options | None = None, *, batch_size: int = 8
    ) -> Iterator[Generation | MedGemmaError]:
        """Decodes ``batch_size`` prompts together; gives for each, in order, its Generation or the error it failed with.

        Prompts are taken from the iterable as there is room for them. Every answer is the one ``generate`` would give;
        ``seconds`` are those between taking the prompt in and its last token, beside the others.
        """
        from medgemma_app.model.batch import generate_many

        return generate_many(self, prompts, (options or Options()).seeded(), batch_size)

    def row(self, prompt: Prompt, options: Options) -> Row:
        """An empty row for ``prompt``, its tokens counted: what ``stream`` and a batch fill. Raises ContextError."""
        ids = self.tokenize(prompt)
        return Row(self._processor, ids, self.fitted(ids, options))

    def fitted(self, ids: list[int], options: Options) -> Options:
        """``options`` with no more tokens than the context has room for after ``ids``. Raises ContextError where it has none."""
        room = self.context - len(ids)
        if room < 1:
            message = (
                f"the prompt has {len(ids)} tokens and the model takes at most {self.context - 1}; shorten the notes or give fewer pictures"
            )
            raise ContextError(message, tokens=len(ids), limit=self.context - 1)
        return replace(options, max_tokens=min(options.max_tokens, room))

    def _tokens(self, prompt: Prompt, row: Row) -> Generator[Token, None, None]:
        """mlx-vlm's results -> tokens. It gives N + 1 results for N tokens; the last one repeats an id and carries the reason."""
        import mlx.core as mx

        try:
            with closing(self._results(prompt, row)) as results:
                for result in results:
                    if result.finish_reason is not None:
                        break
                    yield row.add(result.token, _entry(result.logprobs, result.token))
                    if row.looping:
                        break
            yield row.end("repetition" if row.looping else result.finish_reason)
        except RuntimeError as error:  # mlx reports everything so, running out of memory included
            raise model_failed(error) from error
        except IndexError as error:  # mlx-vlm's own detokenizer
            raise no_such_token() from error
        finally:
            mx.clear_cache()

    def _results(self, prompt: Prompt, row: Row) -> Generator[Any, None, None]:
        import mlx.core as mx
        from mlx_vlm import stream_generate

        options, ids = row.options, row.prompt_ids
        fed = {"input_ids": mx.array([ids]), "mask": mx.ones((1, len(ids))), **self._picture_inputs(prompt)}
        return stream_generate(
            self._model,
            self._processor,
            "",
            **fed,
            max_tokens=options.max_tokens,
            temperature=float(options.temperature),
            top_p=float(options.top_p),
            top_k=self._top_k(options),
            seed=options.seed,
            logits_processors=penalties(options),
        )

    def _top_k(self, options: Options) -> int:
        """mlx-vlm fails where there are fewer tokens than asked for."""
        return options.top_k if options.top_k < self._model.config.text_config.vocab_size else 0

    def embed(self, prompt: Prompt, ids: list[int]) -> mx.array:
        """What the language model is fed for ``ids``, the tokens of ``prompt``: [1, tokens, hidden size], pictures in their places."""
        import mlx.core as mx

        try:
            return self._model.get_input_embeddings(mx.array([ids]), **self._picture_inputs(prompt)).inputs_embeds
        except RuntimeError as error:
            raise model_failed(error) from error

    def _picture_inputs(self, prompt: Prompt) -> dict[str, mx.array]:
        """Pictures are encoded one at a time, before the text: 85 slices would not fit together."""
        if not prompt.images:
            return {}
        if not self.aligned:
            return {"pixel_values": self._pixels(list(prompt.images))}
        import mlx.core as mx

        features = mx.stack([self.encode_image(image) for image in prompt.images])
        mx.eval(features)
        mx.clear_cache()  # what the vision pass needed is not what the text needs
        return {"cached_image_features": features}

    def _pixels(self, images: list[Image]) -> mx.array:
        """RGB pictures -> [n, 3, side, side] in -1..1, by the checkpoint's own image processor."""
        import mlx.core as mx

        rgb = [image.convert("RGB") for image in images]
        return mx.array(self._processor.image_processor(images=rgb, return_tensors="np")["pixel_values"])


def _limit_cache() -> None:
    import mlx.core as mx

    mx.set_cache_limit(min(FREED_BYTES, mx.set_cache_limit(FREED_BYTES)))


def _content(image: Image) -> bytes:
    """What tells a picture from every other one."""
    return hashlib.sha256(repr(image.size).encode() + image.convert("RGB").tobytes()).digest()


def _entry(values: mx.array, at: int) -> float:
    """One entry of a vector, read where it lies if its type allows: an operation of its own costs a third of a millisecond."""
    import mlx.core as mx

    return float(memoryview(values)[at]) if values.dtype == mx.float32 else float(values[at].item())  # type: ignore[arg-type]
