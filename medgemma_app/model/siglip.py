"""The eye of Gemma 3: pixels -> embeddings, one picture at a time, in a third of the memory mlx-vlm takes."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx_vlm.models.attention import VisionAttention
from mlx_vlm.models.base import ensure_fused_sdpa
from mlx_vlm.models.gemma3.gemma3 import Model

BLOCK = 512  # queries: their scores against 4,096 patches take 128 MiB in float32, those of all queries 1 GiB


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


def save_memory(model: Model) -> None:
    """Computes the same attention without ever holding the scores of all patches against all."""
    for layer in model.vision_tower.vision_model.encoder.layers:
        layer.self_attn.__class__ = FrugalAttention


class FrugalAttention(VisionAttention):  # type: ignore[misc]
    """SigLIP's heads are 72 wide, which no fused kernel takes as it is."""

    def __call__(self, x: mx.array, mask: mx.array | None = None) -> mx.array:
        queries, keys, values = (self._heads(project(x)) for project in (self.q_proj, self.k_proj, self.v_proj))
        attend = ensure_fused_sdpa if mx.metal.is_available() else attend_in_blocks
        output = attend(queries, keys, values, self.scale, mask)
        return self.out_proj(output.transpose(0, 2, 1, 3).reshape(x.shape))

    def _heads(self, x: mx.array) -> mx.array:
        return x.reshape(*x.shape[:2], self.num_heads, -1).transpose(0, 2, 1, 3)


def attend_in_blocks(queries: mx.array, keys: mx.array, values: mx.array, scale: float, mask: Any = None) -> mx.array:
    """Attention where no fused kernel is: [batch, heads, length, width] each, a block of queries after the other.

    Every block is evaluated before the next is begun; mlx would make room for all of them at once.
    """
    if queries.shape[2] <= BLOCK:
        return mx.fast.scaled_dot_product_attention(queries, keys, values, scale=scale, mask=mask)
    blocks = []
    for start in range(0, queries.shape[2], BLOCK):
        block = queries[:, :, start : start + BLOCK]
        blocks.append(mx.fast.scaled_dot_product_attention(block, keys, values, scale=scale, mask=mask))
        mx.eval(blocks[-1])
    return mx.concatenate(blocks, axis=2)
