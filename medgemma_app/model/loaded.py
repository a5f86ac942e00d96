"""A checkpoint in memory: the inputs of the language model for a prompt, and their cost.

``MedGemma`` decodes one prompt with it, ``batch`` and the server's engine many at a time.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from medgemma_app.errors import ContextError, OptionError
from medgemma_app.model.chat import ChatTemplate, blind
from medgemma_app.model.checkpoint import find_checkpoint
from medgemma_app.model.decoding import Decoding, model_failed, penalties
from medgemma_app.model.gemma3 import align as align_model
from medgemma_app.model.gemma3 import image_features
from medgemma_app.model.generation import Options
from medgemma_app.model.structured import SchemaMask
from medgemma_app.model.weights import apply_adapter, load_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

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

    def __init__(self, model: Any, processor: Any, *, context: int, aligned: bool) -> None:
        self.model, self.processor, self.context, self.aligned = model, processor, context, aligned
        self.adapter: dict[str, str] | None = None
        self.chat = ChatTemplate(processor, sees=model.vision_tower is not None)
        self._embeddings: dict[bytes, mx.array] = {}  # of the most recent pictures, by their hash, the latest one last

    @classmethod
    def load(
        cls, model: str, *, revision: str | None, align: bool, progress: bool, adapter: str | Path | None = None
    ) -> tuple[LoadedModel, str | None]:
        """The model and the revision it was loaded from; see ``MedGemma.load``."""
        checkpoint = find_checkpoint(model, revision=revision, progress=progress)
        loaded, processor = load_checkpoint(checkpoint)
        if align:
            align_model(loaded, checkpoint.config)
        adapted = apply_adapter(loaded, adapter) if adapter is not None else None
        mx.set_cache_limit(min(FREED_BYTES, mx.set_cache_limit(FREED_BYTES)))
        made = cls(loaded, processor, context=checkpoint.context, aligned=align)
        made.adapter = adapted
        return made, checkpoint.revision

    @property
    def facts(self) -> dict[str, Any]:
        """What a report says about the model besides its name."""
        return {"aligned": self.aligned} | ({"adapter": self.adapter} if self.adapter else {})

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

    def top_k(self, options: Options) -> int:
        """``top_k``, or 0 where it is not smaller than the vocabulary, at which mlx-vlm would fail."""
        return options.top_k if options.top_k < self.model.config.text_config.vocab_size else 0

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
        found = penalties(options)
        return [*found, SchemaMask(self.token_bytes, str(options.schema))] if options.schema else found

    def embed(self, prompt: Prompt, ids: list[int]) -> mx.array:
        """The embeddings of ``ids``, the tokens of ``prompt``, with its pictures: [1, tokens, hidden size]."""
        try:
            return self.model.get_input_embeddings(mx.array([ids]), **self.picture_inputs(prompt)).inputs_embeds
        except RuntimeError as error:
            raise model_failed(error) from error

    def picture_inputs(self, prompt: Prompt) -> dict[str, mx.array]:
        """The inputs of mlx-vlm for the prompt's pictures, which are encoded one at a time, since 85 slices would not fit together."""
        if not prompt.images:
            return {}
        if not self.aligned:
            return {"pixel_values": self._pixels(list(prompt.images))}
        features = mx.stack([self.encode_image(image) for image in prompt.images])
        mx.eval(features)
        mx.clear_cache()  # arrays of the vision pass cannot be reused for the text
        return {"cached_image_features": features}

    def encode_image(self, image: Image, *, fresh: bool = False) -> mx.array:
        """The projected embeddings of an RGB picture. Those of recent pictures are kept; ``fresh`` computes them again."""
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
        """Pictures -> pixels [n, 3, side, side] in -1..1, by the checkpoint's own image processor."""
        rgb = [image.convert("RGB") for image in images]
        return mx.array(self.processor.image_processor(images=rgb, return_tensors="np")["pixel_values"])

    def batch_size(self, max_tokens: int) -> int:
        """The number of prompts, 1 to 16, that fit into memory with the weights, each with a picture and ``max_tokens`` to generate."""
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
