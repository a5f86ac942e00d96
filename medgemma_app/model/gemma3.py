"""Corrects the Gemma 3 that mlx-vlm loads, so that it agrees with the reference implementation in transformers.

mlx-vlm 0.7 silently departs from it in four places:

- the tokens of one image cannot see the later tokens of that image (the reference lets them see each other);
- image features are divided by the root of a hidden size the checkpoint does not have (2048 instead of 2560 or 5376);
- embeddings are multiplied by the root of the hidden size rounded to bfloat16, whatever the checkpoint's precision;
- ``rope_parameters``, as transformers 5 writes them, are not read, so the factor 8 of the global layers is lost.

``align`` changes the classes of the objects it is given, and nothing else in the process. The vision tower also needs only a
third of the memory that it takes in mlx-vlm.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_vlm.generate.common import DEFAULT_PREFILL_STEP_SIZE
from mlx_vlm.models.attention import VisionAttention
from mlx_vlm.models.base import InputEmbeddingsFeatures, LanguageModelOutput, create_attention_mask, ensure_fused_sdpa
from mlx_vlm.models.gemma3.gemma3 import Model
from mlx_vlm.models.gemma3.language import Gemma3Model, LanguageModel
from mlx_vlm.models.rope_utils import initialize_rope

# The later chunks of a long prompt are shorter, down to 512 tokens, so that attention never handles more pairs of query and key at a
# time. Without a fused kernel, as on a CPU, their scores take 0.27 GB in bfloat16 for the 8 heads of the 4B model.
PAIRS, LEAST_STEP = 2048 * 8192, 512
BLOCK = 512  # queries; their scores for 4,096 patches take 128 MiB in float32, those of all queries 1 GiB


def align(model: Model, config: Mapping[str, Any]) -> None:
    """Makes a loaded Gemma 3 compute the same as the reference. ``config`` is the checkpoint's config.json."""
    model.__class__ = AlignedModel
    model.language_model.__class__ = AlignedLanguageModel
    model.language_model.model.__class__ = AlignedTextModel
    text = model.language_model.model
    text.image_token = model.config.image_token_index
    text.one_of_each = {layer.self_attn.is_sliding: at for at, layer in enumerate(text.layers)}
    if model.vision_tower is not None:
        for layer in model.vision_tower.vision_model.encoder.layers:
            layer.self_attn.__class__ = FrugalAttention
    _read_rope_parameters(model, config["text_config"].get("rope_parameters"))


class AlignedModel(Model):  # type: ignore[misc]
    """Puts the image features among the text embeddings without scaling them."""

    def get_input_embeddings(
        self, input_ids: mx.array, pixel_values: mx.array | None = None, mask: mx.array | None = None, **kwargs: Any
    ) -> InputEmbeddingsFeatures:
        embeddings = self.language_model.model.embed(input_ids)
        features = kwargs.get("cached_image_features")
        if features is None and pixel_values is not None:
            features = image_features(self, pixel_values)
        if features is not None:
            embeddings = _place(features, input_ids == self.config.image_token_index, embeddings)
            mx.eval(embeddings)  # releases what it was made of before the first chunk needs memory
        return InputEmbeddingsFeatures(inputs_embeds=embeddings)


def _place(features: mx.array, is_image: mx.array, embeddings: mx.array) -> mx.array:
    """Replaces the n-th image token of the batch by the n-th feature."""
    rows = features.reshape(-1, features.shape[-1]).astype(embeddings.dtype)
    if (wanted := int(is_image.sum())) != len(rows):
        raise ValueError(f"the prompt has {wanted} image tokens, but the pictures have {len(rows)}")
    order = mx.maximum(mx.cumsum(is_image.flatten()) - 1, 0).reshape(is_image.shape)
    return mx.where(is_image[..., None], rows[order], embeddings)


class AlignedLanguageModel(LanguageModel):  # type: ignore[misc]
    """Splits a long prompt into chunks itself, since mlx-vlm's own chunks may split an image."""

    no_chunked_prefill = True

    def __call__(
        self,
        inputs: mx.array,
        inputs_embeds: mx.array | None = None,
        mask: mx.array | None = None,
        cache: list[Any] | None = None,
        logits_to_keep: int = 0,
        n_to_process: int | None = None,
        **_: Any,
    ) -> LanguageModelOutput:
        """With ``n_to_process``, ``inputs`` is a piece of a longer prompt, which was cut between images."""
        *chunks, last = [slice(None)] if n_to_process else self._chunks(inputs, cache)
        for chunk in chunks:
            self.model(inputs[:, chunk], _cut(inputs_embeds, chunk), mask, cache)
            mx.eval([layer.state for layer in cache or ()])
            mx.clear_cache()
        hidden = self.model(inputs[:, last], _cut(inputs_embeds, last), mask, cache)
        # In float32, like the reference: in bfloat16, logits above 16 and so log-probabilities would be multiples of 1/8.
        return LanguageModelOutput(logits=self.lm_head(hidden[:, -logits_to_keep:]).astype(mx.float32))

    def _chunks(self, inputs: mx.array, cache: list[Any] | None) -> list[slice]:
        """The chunks of a prompt. The last token is a chunk of its own, since only its logits are needed."""
        length = inputs.shape[1]
        if cache is None or length == 1:
            return [slice(None)]
        before = [slice(0, length - 1)]
        if length > DEFAULT_PREFILL_STEP_SIZE:
            before = chunks(image_blocks(np.array(inputs[:, :-1]), self.model.image_token), DEFAULT_PREFILL_STEP_SIZE)
        return [*before, slice(length - 1, length)]


class AlignedTextModel(Gemma3Model):  # type: ignore[misc]
    """Attention in both directions inside an image, and the reference's embedding scale."""

    def embed(self, inputs: mx.array) -> mx.array:
        embeddings = self.embed_tokens(inputs)
        return embeddings * self.config.hidden_size**0.5

    def __call__(
        self, inputs: mx.array, inputs_embeds: mx.array | None = None, mask: mx.array | None = None, cache: list[Any] | None = None
    ) -> mx.array:
        hidden = self.embed(inputs) if inputs_embeds is None else inputs_embeds
        caches = cache or [None] * len(self.layers)
        masks = {} if mask is not None else self._masks(inputs, hidden, caches)
        for layer, layer_cache in zip(self.layers, caches, strict=True):
            hidden = layer(hidden, masks.get(layer.self_attn.is_sliding, mask), layer_cache)
        return self.norm(hidden)

    def _masks(self, inputs: mx.array, hidden: mx.array, caches: list[Any]) -> dict[bool, Any]:
        """One mask for the sliding layers (True) and one for the global layers (False)."""
        # A single token is a decoding step. Reading its value here would force each step to wait for the previous one.
        blocks = image_blocks(np.array(inputs), self.image_token) if inputs.shape[1] > 1 else None
        windows = {True: self.window_size, False: None}
        return {sliding: attention_mask(hidden, caches[at], blocks, windows[sliding]) for sliding, at in self.one_of_each.items()}


def _cut(embeddings: mx.array | None, chunk: slice) -> mx.array | None:
    return None if embeddings is None else embeddings[:, chunk]


def image_blocks(ids: np.ndarray, image_token: int) -> np.ndarray:
    """For each of the ids [batch, length], the number of its image, counted from 1, or -1 for text; same shape."""
    is_image = ids == image_token
    starts = is_image & ~np.pad(is_image, ((0, 0), (1, 0)))[:, :-1]
    return np.where(is_image, np.cumsum(starts, axis=1), -1)


def chunks(blocks: np.ndarray, step: int) -> list[slice]:
    """Slices of at most ``step`` tokens that cover the prompt.

    They get shorter as more tokens precede them, and exceed ``step`` only where a single image does.
    """
    inside = ((blocks[:, 1:] == blocks[:, :-1]) & (blocks[:, 1:] > 0)).any(axis=0)
    edges = np.append(np.flatnonzero(~inside) + 1, blocks.shape[1])  # where a chunk may end
    found, start = [], 0
    while start < blocks.shape[1]:
        room = min(step, max(LEAST_STEP, PAIRS // (start + step)))
        fitting = edges[(edges > start) & (edges <= start + room)]
        end = int(fitting[-1] if len(fitting) else edges[edges > start][0])
        found.append(slice(start, end))
        start = end
    return found


def attention_mask(hidden: mx.array, cache: Any, blocks: np.ndarray | None, window: int | None) -> mx.array | str | None:
    """The attention mask: causal, plus all tokens of the same image (``blocks``); on sliding layers limited to the window.

    Its shape is [new tokens, cached + new tokens], one byte each. Chunks never split an image, so only the square of new tokens can
    differ from a causal mask.
    """
    if blocks is None or not (blocks > 0).any():
        return create_attention_mask(hidden, cache, window_size=window)
    mask = create_attention_mask(hidden, cache, window_size=window, return_array=True)
    number = mx.array(blocks)
    same = (number[:, None, :, None] == number[:, None, None, :]) & (number > 0)[:, None, :, None]  # [batch, 1, query, key]
    if window is not None:
        place = mx.arange(blocks.shape[1])
        same &= place[:, None] - place[None, :] < window
    cached = mask.shape[-1] - same.shape[-1]
    return mask | mx.pad(same, [(0, 0), (0, 0), (0, 0), (cached, 0)])


def _read_rope_parameters(model: Model, parameters: Mapping[str, Any] | None) -> None:
    """Sets the rotary embedding of every layer from the ``rope_parameters`` of transformers 5, if they are given."""
    if not parameters:
        return
    for layer in model.language_model.layers:
        kind = parameters["sliding_attention" if layer.self_attn.is_sliding else "full_attention"]
        layer.self_attn.rope = initialize_rope(
            dims=layer.self_attn.head_dim,
            traditional=False,
            base=kind["rope_theta"],
            scaling_config=dict(kind),
            max_position_embeddings=model.config.text_config.max_position_embeddings,
        )


def image_features(model: Model, pixel_values: mx.array) -> mx.array:
    """Pixels [n, 3, side, side] in -1..1 -> projected SigLIP embeddings [n, tokens per image, text hidden size].

    One picture at a time, evaluated at once: 85 slices together would need 85 times the memory of one.
    """
    dtype = model.vision_tower.vision_model.embeddings.patch_embedding.weight.dtype  # a convolution, so never quantised
    features = []
    for pixels in pixel_values.transpose(0, 2, 3, 1).astype(dtype):
        hidden, _, _ = model.vision_tower(pixels[None])
        features.append(model.multi_modal_projector(hidden))
        mx.eval(features[-1])
    return mx.concatenate(features)


class FrugalAttention(VisionAttention):  # type: ignore[misc]
    """SigLIP's attention without holding all scores at once; no fused kernel supports its head width of 72."""

    def __call__(self, x: mx.array, mask: mx.array | None = None) -> mx.array:
        queries, keys, values = (self._heads(project(x)) for project in (self.q_proj, self.k_proj, self.v_proj))
        attend = ensure_fused_sdpa if mx.metal.is_available() else attend_in_blocks
        output = attend(queries, keys, values, self.scale, mask)
        return self.out_proj(output.transpose(0, 2, 1, 3).reshape(x.shape))

    def _heads(self, x: mx.array) -> mx.array:
        return x.reshape(*x.shape[:2], self.num_heads, -1).transpose(0, 2, 1, 3)


def attend_in_blocks(queries: mx.array, keys: mx.array, values: mx.array, scale: float, mask: Any = None) -> mx.array:
    """Attention without a fused kernel, one block of queries at a time; queries, keys and values are [batch, heads, length, width].

    Each block is evaluated before the next one, since mlx would otherwise allocate memory for all of them at once.
    """
    if queries.shape[2] <= BLOCK:
        return mx.fast.scaled_dot_product_attention(queries, keys, values, scale=scale, mask=mask)
    blocks = []
    for start in range(0, queries.shape[2], BLOCK):
        block = queries[:, :, start : start + BLOCK]
        blocks.append(mx.fast.scaled_dot_product_attention(block, keys, values, scale=scale, mask=mask))
        mx.eval(blocks[-1])
    return mx.concatenate(blocks, axis=2)
