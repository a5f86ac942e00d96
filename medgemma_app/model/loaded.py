"""A checkpoint in memory: what it is fed for a prompt, and what that costs.

Nothing here generates. ``MedGemma`` decodes one prompt with it, ``batch`` many together, and the server's engine too.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from medgemma_app.errors import ContextError
from medgemma_app.model.chat import ChatTemplate, blind
from medgemma_app.model.checkpoint import find_checkpoint
from medgemma_app.model.decoding import Decoding, model_failed, penalties
from medgemma_app.model.gemma3 import align as align_model
from medgemma_app.model.gemma3 import image_features
from medgemma_app.model.generation import Options
from medgemma_app.model.structured import SchemaMask, token_bytes
from medgemma_app.model.weights import apply_adapter, load_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from llguidance import LLTokenizer
    from PIL.Image import Image

    from medgemma_app.prompts import Prompt

LARGEST_BATCH = 16
PROMPT_TOKENS = 1024  # two pictures and the text around them
PICTURES_KEPT = 16  # 1.3 MB each for the 4B model
PASS_BYTES = 1 << 30  # what the vision pass and the prefill of a prompt need for a moment
FREED_BYTES = 256 << 20  # of freed memory that mlx may keep for itself; without a limit it keeps all it ever had


class LoadedModel:
    """mlx-vlm's ``model`` and ``processor``, and the chat template around them."""

    def __init__(self, model: Any, processor: Any, *, context: int, aligned: bool) -> None:
        self.model, self.processor, self.context, self.aligned = model, processor, context, aligned
        self.adapter: dict[str, str] | None = None
        self.chat = ChatTemplate(processor, sees=model.vision_tower is not None)
        self._embeddings: dict[bytes, mx.array] = {}  # of the last pictures, the most recent one last

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
        """What a report says of it beside its name."""
        return {"aligned": self.aligned} | ({"adapter": self.adapter} if self.adapter else {})

    def start(self, ids: list[int], options: Options) -> Decoding:
        """An answer, without a token yet, to the prompt whose tokens are ``ids``. Raises ContextError when it does not fit."""
        return Decoding(self.processor, ids, self.fit(ids, options))

    def fit(self, ids: list[int], options: Options) -> Options:
        """``options`` with no more tokens than the context has room for after ``ids``. Raises ContextError where it has none."""
        room = self.context - len(ids)
        if room < 1:
            limit = self.context - 1
            message = f"the prompt has {len(ids)} tokens and the model takes at most {limit}; shorten the notes or give fewer pictures"
            raise ContextError(message, tokens=len(ids), limit=limit)
        return replace(options, max_tokens=min(options.limit, room))

    def top_k(self, options: Options) -> int:
        """mlx-vlm fails where there are fewer tokens than asked for."""
        return options.top_k if options.top_k < self.model.config.text_config.vocab_size else 0

    @cached_property
    def token_bytes(self) -> LLTokenizer:
        """For answers that follow a schema; made when the first of them is asked for."""
        config = self.model.config
        end = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
        return token_bytes(self.processor.tokenizer, vocabulary=config.text_config.vocab_size, end=end)

    def processors(self, options: Options) -> list[Callable[[Any, Any], Any]]:
        """What changes the logits of one answer before its next token is drawn, as mlx-vlm takes it."""
        found = penalties(options)
        return [*found, SchemaMask(self.token_bytes, str(options.schema))] if options.schema else found

    def embed(self, prompt: Prompt, ids: list[int]) -> mx.array:
        """What the language model is fed for ``ids``, the tokens of ``prompt``: [1, tokens, hidden size], pictures in their places."""
        try:
            return self.model.get_input_embeddings(mx.array([ids]), **self.picture_inputs(prompt)).inputs_embeds
        except RuntimeError as error:
            raise model_failed(error) from error

    def picture_inputs(self, prompt: Prompt) -> dict[str, mx.array]:
        """Pictures are encoded one at a time, before the text: 85 slices would not fit together."""
        if not prompt.images:
            return {}
        if not self.aligned:
            return {"pixel_values": self._pixels(list(prompt.images))}
        features = mx.stack([self.encode_image(image) for image in prompt.images])
        mx.eval(features)
        mx.clear_cache()  # what the vision pass needed is not what the text needs
        return {"cached_image_features": features}

    def encode_image(self, image: Image, *, fresh: bool = False) -> mx.array:
        """The projected embeddings of an RGB picture; those of the last pictures are kept; ``fresh`` computes them again."""
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
        """RGB pictures -> [n, 3, side, side] in -1..1, by the checkpoint's own image processor."""
        rgb = [image.convert("RGB") for image in images]
        return mx.array(self.processor.image_processor(images=rgb, return_tensors="np")["pixel_values"])

    def batch_size(self, max_tokens: int) -> int:
        """How many prompts fit into memory beside the weights, when each has a picture and an answer of ``max_tokens``: 1 to 16."""
        tokens = min(self.context, PROMPT_TOKENS + max_tokens)
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        memory = int(mx.device_info().get("max_recommended_working_set_size", physical // 2))
        free = memory - mx.get_active_memory() - PASS_BYTES
        return int(max(1, min(LARGEST_BATCH, free // self.cache_bytes(tokens))))

    def cache_bytes(self, tokens: int) -> int:
        """Keys and values of every layer; a sliding layer keeps its window only."""
        config = self.model.config.text_config
        row = 2 * config.num_key_value_heads * config.head_dim * self.model.language_model.model.norm.weight.dtype.size
        layers = self.model.language_model.layers
        return int(sum(row * (min(tokens, config.sliding_window) if layer.self_attn.is_sliding else tokens) for layer in layers))
