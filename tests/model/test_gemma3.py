"""The alignment of mlx-vlm's Gemma 3 with the reference: what it changes, what it costs, and that it is still needed."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from mlx_vlm.models.base import ensure_fused_sdpa
from mlx_vlm.models.cache import KVCache, RotatingKVCache
from mlx_vlm.models.gemma3.gemma3 import Model
from mlx_vlm.models.gemma3.language import Gemma3Model, LanguageModel
from tiny import make_checkpoint, picture

from medgemma_app import MedGemma, Options, Prompt
from medgemma_app.model import gemma3

IMAGE = 9


def blocks(*ids):
    return gemma3.image_blocks(np.array([ids]), IMAGE)


def logprobs(model, prompt, steps=8):
    return [token.logprob for token in model.stream(prompt, Options(max_tokens=steps)) if token.id is not None]


def test_image_blocks_number_the_runs_of_image_tokens():
    assert blocks(1, 9, 9, 1, 9, 9, 9).tolist() == [[-1, 1, 1, -1, 2, 2, 2]]
    assert blocks(9, 1).tolist() == [[1, -1]]


@pytest.mark.parametrize(
    ("ids", "step", "ends"),
    [
        ([1, 1, 1, 1, 1], 2, [2, 4, 5]),
        ([1, 9, 9, 9, 1], 2, [1, 4, 5]),  # the image is longer than a chunk: the chunk grows
        ([1, 1, 9, 9, 1, 9, 9], 3, [2, 5, 7]),
        ([9, 9, 1, 1], 4, [4]),
    ],
)
def test_chunks_never_cut_an_image(ids, step, ends):
    found = gemma3.chunks(blocks(*ids), step)
    assert [chunk.stop for chunk in found] == ends
    assert [chunk.start for chunk in found] == [0, *ends[:-1]]


def test_rows_of_a_batch_are_cut_where_no_row_has_an_image():
    both = np.concatenate([blocks(1, 9, 9, 1, 1), blocks(1, 1, 1, 9, 9)])
    assert [chunk.stop for chunk in gemma3.chunks(both, 2)] == [1, 3, 5]


def reference_mask(ids, cached, window):
    """The rule of the reference, entry by entry: inside the window, and causal or of the same image."""
    block = [*[-1] * cached, *blocks(*ids)[0].tolist()]
    size = len(block)
    seen = [
        [(k <= q or (block[k] == block[q] > 0)) and (window is None or q - k < window) for k in range(size)] for q in range(cached, size)
    ]
    return np.array(seen)


@pytest.mark.parametrize("ids", [[9, 9, 9, 1], [1, 9, 9, 1, 9, 9], [9] * 6, [1, 9, 9, 9, 9, 9]])
@pytest.mark.parametrize("cached", [0, 2, 3])
@pytest.mark.parametrize("window", [None, 4])
def test_the_mask_is_the_rule_of_the_reference(ids, cached, window):
    cache = KVCache() if window is None else RotatingKVCache(max_size=window)
    if cached:
        cache.update_and_fetch(mx.zeros((1, 1, cached, 4)), mx.zeros((1, 1, cached, 4)))
    mask = gemma3.attention_mask(mx.zeros((1, len(ids), 4)), cache, blocks(*ids), window)
    assert (np.array(mask)[0, 0] == reference_mask(ids, cached, window)).all()


def test_text_alone_needs_no_mask_of_its_own():
    assert gemma3.attention_mask(mx.zeros((1, 3, 4)), KVCache(), blocks(1, 1, 1), None) == "causal"


@pytest.mark.parametrize(("slices", "pairs"), [(10, 6e6), (40, 17e6), (85, 17e6)])
def test_a_long_series_needs_little_more_memory_at_a_time_than_a_short_one(slices, pairs):
    """85 slices are about 23,000 tokens: 46 million pairs of query and key in a chunk of 2,048, and 520 million without chunks."""
    ids = np.array([([1] * 12 + [IMAGE] * 256 + [1] * 2) * slices])
    found = gemma3.chunks(gemma3.image_blocks(ids, IMAGE), 2048)
    assert max((chunk.stop - chunk.start) * chunk.stop for chunk in found) < pairs
    assert len(found) <= ids.size / 500


def test_an_image_across_the_chunk_boundary_changes_nothing(tiny_model, monkeypatch):
    prompt = Prompt(("The lungs are clear? " * 3, picture(1), "and", picture(2), "normal heart"))
    whole = logprobs(tiny_model, prompt)
    monkeypatch.setattr(gemma3, "DEFAULT_PREFILL_STEP_SIZE", 25)
    assert np.abs(np.array(logprobs(tiny_model, prompt)) - whole).max() < 2e-5


def test_what_alignment_corrects_is_still_wrong_in_mlx_vlm(tiny_model, raw_model):
    """Fails when mlx-vlm agrees by itself: then gemma3.py can go."""
    prompt = Prompt((picture(1), "The lungs are clear?"))
    assert np.abs(np.array(logprobs(tiny_model, prompt)) - logprobs(raw_model, prompt)).max() > 0.01


def test_the_embedding_scale_is_still_rounded_in_mlx_vlm(tiny_model, raw_model):
    """Text alone: only the embedding scale differs, by the rounding of a root to bfloat16."""
    gap = np.abs(np.array(logprobs(tiny_model, text := Prompt(("The lungs are clear?",)))) - logprobs(raw_model, text)).max()
    assert 1e-4 < gap < 0.1


def test_attention_inside_an_image_is_still_causal_in_mlx_vlm(tiny_folder, tiny_model):
    """With its scale put right, mlx-vlm still departs: pictures differ, text does not."""
    scaled = MedGemma.load(str(tiny_folder), align=False)
    scaled.model.config.hidden_size = scaled.model.config.text_config.hidden_size
    gap = np.array(logprobs(tiny_model, picture_prompt := Prompt((picture(1), "clear?")))) - logprobs(scaled, picture_prompt)
    assert np.abs(gap).max() > 0.01


def test_rope_parameters_of_transformers_5_are_still_ignored_by_mlx_vlm(tiny_folder, tmp_path):
    rope = {
        "full_attention": {"rope_theta": 1e6, "rope_type": "linear", "factor": 8.0},
        "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"},
    }
    folder = str(make_checkpoint(tmp_path / "five", text={"rope_parameters": rope, "rope_scaling": None}))
    prompt, old = Prompt(("The lungs are clear? " * 10,)), MedGemma.load(str(tiny_folder))
    assert logprobs(MedGemma.load(folder), prompt) == pytest.approx(logprobs(old, prompt), abs=1e-6)
    raw = logprobs(MedGemma.load(folder, align=False), prompt)
    assert np.abs(np.array(raw) - logprobs(MedGemma.load(str(tiny_folder), align=False), prompt)).max() > 0.01


def test_alignment_leaves_every_other_model_alone(tiny_model, raw_model):
    assert type(raw_model.model) is Model
    assert type(raw_model.model.language_model) is LanguageModel
    assert type(raw_model.model.language_model.model) is Gemma3Model
    assert Model.get_input_embeddings is not type(tiny_model.model).get_input_embeddings


def test_embeddings_are_computed_before_the_prompt_is_read(tiny_model):
    """For 85 slices the arrays that they are made of take 0.3 GB, which the first chunk would need in addition."""
    embeddings = tiny_model.embed(prompt := Prompt((picture(1), "clear?")), tiny_model.tokenize(prompt))
    before = mx.get_active_memory()
    mx.eval(embeddings)
    assert mx.get_active_memory() == before


def test_image_tokens_without_their_picture_are_an_error(tiny_model):
    with pytest.raises(ValueError, match="4 image tokens"):
        tiny_model.model.get_input_embeddings(mx.array([[2, 8, 8, 8, 8]]), cached_image_features=mx.zeros((1, 8, 48)))


@pytest.mark.parametrize("attend", [gemma3.attend_in_blocks, ensure_fused_sdpa], ids=["in blocks", "padded"])
def test_frugal_attention_is_attention(monkeypatch, attend):
    monkeypatch.setattr(gemma3, "BLOCK", 5)
    queries, keys, values = (mx.random.normal((1, 2, 12, 72)) for _ in range(3))
    wanted = mx.fast.scaled_dot_product_attention(queries, keys, values, scale=0.1)
    assert mx.allclose(attend(queries, keys, values, 0.1, None), wanted, atol=1e-6)


def test_the_embeddings_of_a_picture_are_those_of_mlx_vlm(tiny_model, raw_model):
    frugal, raw = (model.encode_image(picture(3), fresh=True) for model in (tiny_model, raw_model))
    assert mx.allclose(frugal, raw, atol=1e-5)
