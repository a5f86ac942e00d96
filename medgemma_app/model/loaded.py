"""A checkpoint in memory: it prepares the language model's inputs, samples tokens, and estimates the cost of a prompt.

``MedGemma`` is a ``LoadedModel`` that also decodes; the server's engine wraps one and decodes in its own way.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from medgemma_app.errors import ContextError, OptionError, expect
from medgemma_app.model.answer import Decoding, model_failed
from medgemma_app.model.chat import ChatTemplate, blind
from medgemma_app.model.checkpoint import ALIASES, Checkpoint, find_checkpoint
from medgemma_app.model.generation import Estimate, Options, schema_matcher
from medgemma_app.model.weights import apply_adapter, load_checkpoint
from medgemma_app.prompts import checked_prompt

if TYPE_CHECKING:
    from pathlib import Path

    import mlx.core as mx
    from llguidance import LLTokenizer
    from PIL.Image import Image

    from medgemma_app.prompts import Prompt

LARGEST_BATCH = 16
PROMPT_TOKENS = 1024  # two pictures and the text around them
PICTURES_KEPT = 16  # 1.3 MB each for the 4B model
PASS_BYTES = 1 << 30  # temporary memory for encoding a picture and reading a prompt
FREED_BYTES = 256 << 20  # freed memory that mlx may keep for reuse; without a limit it keeps all of it


class LoadedModel:
    """mlx-vlm's ``model`` and ``processor``, with the checkpoint's chat template."""

    can_count = True
    packages: tuple[str, ...] = ("medgemma-app", "mlx", "mlx-vlm", "transformers", "pillow")

    def __init__(
        self, model: Any, processor: Any, checkpoint: Checkpoint, *, id: str, aligned: bool, adapter: dict[str, str] | None
    ) -> None:
        self.model, self.processor, self.id, self.aligned, self.adapter = model, processor, id, aligned, adapter
        self.revision, self.context = checkpoint.revision, checkpoint.context
        self.chat = ChatTemplate(processor, sees=model.vision_tower is not None)
        self._embeddings: dict[bytes, mx.array] = {}  # of the most recent pictures, by their hash, the latest one last

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        revision: str | None = None,
        adapter: str | Path | None = None,
        align: bool = True,
        progress: bool = False,
    ) -> Self:
        """Loads ``model``: a hub id, a folder, "demo", or 4b, 1.5-4b, 27b, 27b-text. ``progress`` shows a download on stderr.

        ``adapter`` is the folder of a LoRA or DoRA adapter in the format of PEFT or mlx-vlm. With ``align=False`` the model computes
        what mlx-vlm alone computes, so that the difference can be measured. A checkpoint that is complete on this machine needs no
        network. Loading limits the freed memory that mlx keeps in this process to 256 MB, unless a lower limit is set. Raises
        ModelError if the model cannot be loaded.
        """
        import mlx.core as mx

        from medgemma_app.model import gemma3

        expect(model, (str, os.PathLike), "the model must be a hub id, a folder, a short name or demo")
        expect(revision, (str, type(None)), "revision must be the name of a branch, tag or commit")
        expect(adapter, (str, os.PathLike, type(None)), "the adapter must be a folder")
        name = os.fspath(model)
        checkpoint = find_checkpoint(name, revision=revision, progress=progress)
        network, processor = load_checkpoint(checkpoint)
        if align:
            gemma3.align(network, checkpoint.config)
        adapted = None if adapter is None else apply_adapter(network, adapter)
        mx.set_cache_limit(min(FREED_BYTES, mx.set_cache_limit(FREED_BYTES)))
        return cls(network, processor, checkpoint, id=ALIASES.get(name, name), aligned=align, adapter=adapted)

    def describe(self) -> dict[str, Any]:
        """What a report says about the model."""
        described = {"id": self.id, "revision": self.revision, "aligned": self.aligned}
        return described | ({"adapter": self.adapter} if self.adapter else {})

    def tokenize(self, prompt: Prompt) -> list[int]:
        """The token ids of ``prompt`` for the model, with the soft tokens of every picture."""
        return self.chat.encode(checked_prompt(prompt))

    def start(self, ids: list[int], options: Options) -> Decoding:
        """A new answer to the prompt with the tokens ``ids``. Raises ContextError if the prompt does not fit."""
        return Decoding(self.processor, ids, self.fit(ids, options))

    def fit(self, ids: list[int], options: Options) -> Options:
        """``options`` with ``max_tokens`` limited to the context that is left after ``ids``. Raises ContextError if nothing is left."""
        room = self.context - len(ids)
        if room < 1:
            limit = self.context - 1
            message = f"the prompt has {len(ids)} tokens and the model takes at most {limit}; shorten its text, or give fewer pictures"
            raise ContextError(message, tokens=len(ids), limit=limit)
        return replace(options, max_tokens=min(options.limit, room))

    def sampler(self, options: Options) -> Sampler:
        """Draws the tokens of an answer. A ``top_k`` that is not smaller than the vocabulary, at which mlx-vlm fails, restricts nothing."""
        vocabulary = self.model.config.text_config.vocab_size
        return Sampler(options if options.top_k < vocabulary else replace(options, top_k=0))

    @cached_property
    def token_bytes(self) -> LLTokenizer:
        """The vocabulary as llguidance needs it for schemas. Preparing Gemma's 262,145 tokens takes seconds.

        Raises OptionError for a tokenizer that llguidance does not support.
        """
        from llguidance.hf import from_tokenizer

        config, tokenizer = self.model.config, self.processor.tokenizer
        size = max(config.text_config.vocab_size, len(tokenizer))
        try:
            return from_tokenizer(tokenizer, n_vocab=size, eos_token=config.eos_token_id)
        except ValueError as error:
            message = "this model cannot follow a schema, since llguidance does not support its tokenizer; leave out the schema"
            raise OptionError(message) from error

    def processors(self, options: Options) -> list[Callable[[Any, Any], Any]]:
        """mlx-vlm's logits processors for one answer."""
        penalties = [] if options.repetition_penalty is None else [_penalty(options.repetition_penalty, options.limit)]
        return [*penalties, SchemaMask(self.token_bytes, str(options.schema))] if options.schema else penalties

    def embed(self, prompt: Prompt, ids: list[int]) -> mx.array:
        """The embeddings of ``ids``, the tokens of ``prompt``, with its pictures: [1, tokens, hidden size]."""
        import mlx.core as mx

        try:
            return self.model.get_input_embeddings(mx.array([ids]), **self.picture_inputs(prompt)).inputs_embeds
        except RuntimeError as error:
            raise model_failed(error) from error

    def picture_inputs(self, prompt: Prompt) -> dict[str, mx.array]:
        """The inputs of mlx-vlm for the prompt's pictures, which are encoded one at a time, since 85 slices would not fit together."""
        import mlx.core as mx

        if not prompt.images:
            return {}
        if not self.aligned:
            return {"pixel_values": self._pixels(list(prompt.images))}
        features = mx.stack([self.encode_image(image) for image in prompt.images])
        mx.eval(features)
        mx.clear_cache()  # arrays of the vision pass cannot be reused for the text
        return {"cached_image_features": features}

    def encode_image(self, image: Image, *, fresh: bool = False) -> mx.array:
        """The projected SigLIP embeddings of an RGB picture: [256, text hidden size] for MedGemma.

        Those of the most recent pictures are kept, so that another question about a picture does not encode it again; ``fresh``
        computes them anew. Raises ModelError for a text-only model.
        """
        from PIL.Image import Image

        from medgemma_app.model.gemma3 import image_features

        expect(image, Image, "give a PIL image, such as load_image(path) makes")
        if self.model.vision_tower is None:
            raise blind()
        key = hashlib.sha256(repr(image.size).encode() + image.convert("RGB").tobytes()).digest()
        known = None if fresh else self._embeddings.pop(key, None)
        embeddings = image_features(self.model, self._pixels([image]))[0] if known is None else known
        self._embeddings[key] = embeddings
        for oldest in list(self._embeddings)[:-PICTURES_KEPT]:
            del self._embeddings[oldest]
        return embeddings

    def _pixels(self, images: list[Image]) -> mx.array:
        """The pixels of pictures, [n, 3, side, side] in -1..1, by the checkpoint's own image processor."""
        import mlx.core as mx

        rgb = [image.convert("RGB") for image in images]
        return mx.array(self.processor.image_processor(images=rgb, return_tensors="np")["pixel_values"])

    def estimate(self, prompt: Prompt) -> Estimate | None:
        """The cost of ``prompt``: its tokens, their cache in bytes, and the seconds for its pictures, extrapolated from the first."""
        tokens = len(self.tokenize(prompt))
        start = time.perf_counter()
        for image in prompt.images[:1]:
            self.encode_image(image, fresh=True)
        seconds = (time.perf_counter() - start) * len(prompt.images)
        return Estimate(tokens, self.cache_bytes(tokens), seconds)

    def batch_size(self, max_tokens: int) -> int:
        """The number of prompts, 1 to 16, that fit into memory beside the weights, each with a picture and ``max_tokens`` to generate."""
        import mlx.core as mx

        tokens = min(self.context, PROMPT_TOKENS + max_tokens)
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        memory = int(mx.device_info().get("max_recommended_working_set_size", physical // 2))
        free = memory - mx.get_active_memory() - PASS_BYTES
        return int(max(1, min(LARGEST_BATCH, free // self.cache_bytes(tokens))))

    def cache_bytes(self, tokens: int) -> int:
        """The bytes of the keys and values of all layers; a sliding layer keeps only its window."""
        config = self.model.config.text_config
        row = 2 * config.num_key_value_heads * config.head_dim * self.model.language_model.model.norm.weight.dtype.size
        layers = self.model.language_model.layers
        return int(sum(row * (min(tokens, config.sliding_window) if layer.self_attn.is_sliding else tokens) for layer in layers))


NAIVE_SUM = 16_384  # up to this many terms, adding probabilities one by one in float32 is accurate to 1e-5


class Sampler:
    """Draws the next token of every row: the likeliest one at temperature 0, else at random from the seed and the position."""

    def __init__(self, options: Options) -> None:
        from mlx_vlm.generate.ar import _PositionedTargetSampler

        how = options.seeded()
        self._draw = how.temperature and _PositionedTargetSampler(
            temperature=how.temperature, top_p=how.top_p, top_k=how.top_k, seed=how.seed
        )

    def sample_target(self, logprobs: Any, *, row_ids: list[int], positions: list[int]) -> Any:
        """[rows, vocabulary] -> [rows], as mlx-vlm calls it. ``logprobs`` are corrected in place."""
        normalise(logprobs)
        return self.draw(logprobs, row_ids, positions)

    def draw(self, logprobs: Any, row_ids: list[int], positions: list[int]) -> Any:
        """Like ``sample_target``, for ``logprobs`` that are correct."""
        import mlx.core as mx

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


class SchemaMask:
    """The logits processor of one answer, as mlx-vlm calls it: [1, vocabulary] -> the same, -inf where a token may not come next.

    If llguidance gives up on a schema halfway, the logits become NaN, which fails this answer but no other in the batch.
    """

    def __init__(self, tokenizer: LLTokenizer, schema: str) -> None:
        self._matcher = schema_matcher(schema, tokenizer)
        self._begun = False

    def __call__(self, tokens: Any, logits: Any) -> Any:
        import mlx.core as mx
        import numpy as np

        if self._begun:
            self._matcher.consume_token(int(tokens[-1].item()))
        self._begun = True  # what comes before is the prompt
        if self._matcher.is_error():
            return logits * mx.nan
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        allowed = np.unpackbits(bits, count=logits.shape[-1], bitorder="little")
        return mx.where(mx.array(allowed.view(np.bool_)), logits, -mx.inf)


def _penalty(penalty: float, limit: int) -> Callable[[Any, Any], Any]:
    """mlx-vlm's repetition penalty for one row, without the prompt's tokens, since a SOAP note has to repeat the numbers of the notes."""
    from mlx_vlm.sample_utils import make_repetition_penalty

    penalise = make_repetition_penalty(penalty, limit)
    prompt_tokens: int | None = None

    def only_generated(tokens: Any, logits: Any) -> Any:
        nonlocal prompt_tokens
        prompt_tokens = len(tokens) if prompt_tokens is None else prompt_tokens
        return penalise(tokens[prompt_tokens:], logits)

    return only_generated
