"""Checkpoints in every layout that users have, and adapters: what was saved is what is computed."""

from __future__ import annotations

import json
import re
import shutil

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten
from safetensors.numpy import load_file, save_file
from tiny import make_checkpoint, picture

from medgemma_app import MedGemma, ModelError, Options, Prompt, findings, soap

LOOK, READ = Prompt((picture(1), "Describe this.")), Prompt(("Describe the lungs.",))
SHORT = Options(max_tokens=4)


def saved_as(folder, target, names, *, config=None, cast=np.float32):
    """The checkpoint in ``folder`` with other names for its weights, and what ``config`` changes."""
    shutil.copytree(folder, target)
    weights = {names(name): value.astype(cast) for name, value in load_file(target / "model.safetensors").items()}
    save_file({name: value for name, value in weights.items() if name}, target / "model.safetensors")
    if config:
        written = json.loads((target / "config.json").read_text())
        (target / "config.json").write_text(json.dumps(config(written)))
    return str(target)


def by_transformers_5(config):
    text = config["text_config"]
    del text["rope_scaling"], text["mm_tokens_per_image"], text["sliding_window_pattern"]
    text["layer_types"] = ["full_attention" if at % 3 == 2 else "sliding_attention" for at in range(6)]
    text["rope_parameters"] = {
        "full_attention": {"rope_theta": 1e6, "rope_type": "linear", "factor": 8.0},
        "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"},
    }
    return config


def in_memory(name):
    return "model." + name.replace("language_model.model.", "language_model.").replace("vision_tower.vision_model.", "vision_tower.")


@pytest.mark.parametrize(
    ("names", "config"),
    [
        (lambda name: name.replace("vision_tower.vision_model.", "vision_tower."), by_transformers_5),
        (in_memory, by_transformers_5),
        (in_memory, None),
    ],
    ids=["transformers 5", "as trained with transformers 5", "as trained with transformers 4"],
)
def test_every_layout_gives_the_same_model(tiny_folder, tiny_model, tmp_path, names, config):
    model = MedGemma.load(saved_as(tiny_folder, tmp_path / "other", names, config=config))
    assert mx.array_equal(model.encode_image(picture(1)), tiny_model.encode_image(picture(1)))
    given, wanted = (list(each.stream(LOOK, SHORT)) for each in (model, tiny_model))
    assert [token.id for token in given] == [token.id for token in wanted]
    assert [token.logprob for token in given[:-1]] == pytest.approx([token.logprob for token in wanted[:-1]], abs=1e-5)


def test_the_processor_that_transformers_5_saves_is_read(tiny_folder, tiny_model, tmp_path):
    """In one file, where version 4 had two."""
    folder = shutil.copytree(tiny_folder, tmp_path / "one-file")
    images = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").unlink()
    written = json.loads((folder / "processor_config.json").read_text())
    (folder / "processor_config.json").write_text(json.dumps(written | {"image_processor": images}))
    assert MedGemma.load(str(folder)).generate(LOOK, SHORT).token_ids == tiny_model.generate(LOOK, SHORT).token_ids


def test_a_sharded_checkpoint_is_put_together(tiny_folder, tiny_model, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "sharded")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    shards = {name: f"model-0000{1 + at % 2}-of-00002.safetensors" for at, name in enumerate(weights)}
    for shard in set(shards.values()):
        save_file({name: value for name, value in weights.items() if shards[name] == shard}, folder / shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    assert MedGemma.load(str(folder)).generate(LOOK, SHORT).token_ids == tiny_model.generate(LOOK, SHORT).token_ids


def test_float16_weights_are_computed_in_bfloat16(tiny_folder, tmp_path):
    model = MedGemma.load(saved_as(tiny_folder, tmp_path / "half", str, cast=np.float16))
    assert model.model.language_model.model.norm.weight.dtype == mx.bfloat16
    assert len(model.generate(LOOK, SHORT).token_ids) == 4


@pytest.fixture(scope="module")
def text_only(tiny_folder, tmp_path_factory):
    """As MedGemma 27B text is published: one config, no vision tower, no image processor."""

    def config(written):
        return {**written["text_config"], "model_type": "gemma3_text", "eos_token_id": [1, 5]}

    target = tmp_path_factory.mktemp("text") / "text-only"
    folder = saved_as(tiny_folder, target, lambda name: name.removeprefix("language_model.") * ("language" in name), config=config)
    for name in ("preprocessor_config.json", "processor_config.json"):
        (tmp_path_factory.getbasetemp() / folder / name).unlink()
    return MedGemma.load(folder)


@pytest.mark.parametrize("vision", [{}, {"vision_config": None}], ids=["configured", "null"])
def test_a_multimodal_checkpoint_without_its_vision_weights_is_text_only(tiny_folder, tiny_model, tmp_path, vision):
    """As mlx-lm's conversions are."""
    folder = saved_as(tiny_folder, tmp_path / "blind", lambda name: name * ("language" in name), config=lambda written: written | vision)
    model = MedGemma.load(folder)
    assert model.generate(READ, SHORT).token_ids == tiny_model.generate(READ, SHORT).token_ids
    with pytest.raises(ModelError, match="cannot see pictures"):
        model.generate(LOOK)


def test_a_text_only_checkpoint_answers_as_its_text_model(text_only, tiny_model):
    assert text_only.generate(READ, SHORT).token_ids == tiny_model.generate(READ, SHORT).token_ids
    assert [made.token_ids for made in text_only.generate_many([READ], SHORT)] == [tiny_model.generate(READ, SHORT).token_ids]
    assert soap(text_only, text="Cough for three days, no fever.", options=SHORT).generation.generated_tokens == 4


@pytest.mark.parametrize(
    "call",
    [
        lambda model: findings(model, picture(1, side=96)),
        lambda model: model.generate(LOOK),
        lambda model: model.encode_image(picture(1)),
        lambda model: model.estimate(LOOK),
    ],
    ids=["findings", "generate", "encode_image", "estimate"],
)
def test_a_text_only_checkpoint_says_that_it_cannot_see(text_only, call):
    with pytest.raises(ModelError, match="cannot see pictures"):
        call(text_only)


def quantised(folder, target, *, keep_head, config, predicate=lambda *_: True):
    """As MLX conversions are: a quantised embedding, with the output layer apart (mlx-vlm) or left to the embedding (mlx-lm)."""
    model = MedGemma.load(str(folder), align=False).model

    def chosen(path, module):
        return hasattr(module, "to_quantized") and module.weight.shape[-1] % 32 == 0 and predicate(path, module)

    nn.quantize(model, class_predicate=chosen, **config)
    model.language_model.lm_head.update(model.language_model.model.embed_tokens.parameters())
    shutil.copytree(folder, target)
    weights = {name: value for name, value in tree_flatten(model.parameters()) if keep_head or "lm_head" not in name}
    mx.save_safetensors(str(target / "model.safetensors"), weights, metadata={"format": "mlx"})
    written = json.loads((target / "config.json").read_text())
    apart = ["language_model.model.embed_tokens", *(["language_model.lm_head"] if keep_head else [])]
    own = {name: kind for name in apart if isinstance(kind := predicate(name, None), dict)}
    (target / "config.json").write_text(json.dumps(written | {"quantization": config | own}))
    return model, MedGemma.load(str(target))


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("wide") / "checkpoint", hidden=64)


def affine(bits):
    return {"group_size": 32, "bits": bits, "mode": "affine"}


@pytest.mark.parametrize(
    ("config", "predicate"),
    [
        *((affine(bits), lambda *_: True) for bits in (3, 4, 6, 8)),
        ({"group_size": 32, "bits": 4, "mode": "mxfp4"}, lambda *_: True),
        (affine(4), lambda path, _: not path.startswith("vision")),
        (affine(4), lambda path, _: affine(8) if "embed_tokens" in path or "lm_head" in path else True),
    ],
    ids=["3", "4", "6", "8", "mxfp4", "eye not quantised", "mixed"],
)
@pytest.mark.parametrize("keep_head", [True, False], ids=["with output layer", "tied"])
def test_a_quantised_checkpoint_is_what_was_quantised(wide, tmp_path, config, predicate, keep_head):
    made, model = quantised(wide, tmp_path / "quantised", keep_head=keep_head, config=config, predicate=predicate)
    loaded = model.model
    assert loaded.language_model.lm_head.weight is loaded.language_model.model.embed_tokens.weight, "a second copy takes memory"
    assert all(mx.array_equal(value, dict(tree_flatten(made.parameters()))[name]) for name, value in tree_flatten(loaded.parameters()))
    assert len(model.generate(LOOK, SHORT).token_ids) == 4


def test_a_quantised_output_layer_of_its_own_is_kept(wide, tmp_path):
    quantised(wide, tmp_path / "quantised", keep_head=True, config=affine(4))
    file = tmp_path / "quantised" / "model.safetensors"
    own = mx.zeros_like((weights := mx.load(str(file)))["language_model.lm_head.weight"])
    mx.save_safetensors(str(file), weights | {"language_model.lm_head.weight": own}, metadata={"format": "mlx"})
    language = MedGemma.load(str(file.parent)).model.language_model
    assert mx.array_equal(language.lm_head.weight, own)
    assert not mx.array_equal(language.model.embed_tokens.weight, own)


TARGETS = ["language_model.model.layers.0.self_attn.q_proj", "language_model.model.layers.5.mlp.down_proj"]


def adapter(base, folder, *, names=str, magnitudes=False, **config):
    """A random LoRA as PEFT saves it, for two layers of the text model."""
    random, weights = np.random.default_rng(5), load_file(base / "model.safetensors")
    saved = {}
    for target in TARGETS:
        out, into = weights[f"{target}.weight"].shape
        key = f"base_model.model.{names(target)}"
        saved[f"{key}.lora_A.weight"] = random.normal(0, 0.3, (4, into)).astype(np.float32)
        saved[f"{key}.lora_B.weight"] = random.normal(0, 0.3, (out, 4)).astype(np.float32)
        if magnitudes:
            saved[f"{key}.lora_magnitude_vector"] = random.uniform(0.5, 2, out).astype(np.float32)
    folder.mkdir()
    save_file(saved, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8, **config}))
    return folder, {re.sub(r".*(layers\.)", r"language_model.model.\1", name): value for name, value in saved.items()}


def merged(weights, parts, scale):
    """The weights with the adapter added in, as PEFT's own ``merge_and_unload`` does."""
    weights = dict(weights)
    for target in TARGETS:
        name = f"{target}.weight"
        weights[name] = weights[name] + scale * parts[f"{target}.lora_B.weight"] @ parts[f"{target}.lora_A.weight"]
        if (size := parts.get(f"{target}.lora_magnitude_vector")) is not None:
            weights[name] = weights[name] * (size / np.linalg.norm(weights[name], axis=1))[:, None]
    return weights


@pytest.mark.parametrize(
    ("how", "scale"),
    [
        ({}, 2.0),
        ({"use_rslora": True}, 4.0),
        ({"magnitudes": True, "use_dora": True}, 2.0),
        ({"names": lambda target: target.replace("language_model.model.", "model.language_model.")}, 2.0),
    ],
    ids=["LoRA", "rsLoRA", "DoRA", "names of transformers 5"],
)
def test_an_adapter_is_what_merging_it_gives(tiny_folder, tiny_model, tmp_path, how, scale):
    folder, parts = adapter(tiny_folder, tmp_path / "adapter", **how)
    other = shutil.copytree(tiny_folder, tmp_path / "merged")
    save_file(merged(load_file(tiny_folder / "model.safetensors"), parts, scale), other / "model.safetensors")
    adapted, wanted = MedGemma.load(str(tiny_folder), adapter=folder), MedGemma.load(str(other))
    given = [list(model.stream(LOOK, SHORT)) for model in (adapted, wanted, tiny_model)]
    ids = [[token.id for token in tokens] for tokens in given]
    logprobs = [[token.logprob for token in tokens[:-1]] for tokens in given]
    assert ids[0] == ids[1]
    assert logprobs[0] == pytest.approx(logprobs[1], abs=1e-4)
    assert logprobs[0] != pytest.approx(logprobs[2], abs=1e-2)
    assert adapted.describe()["adapter"]["name"] == "adapter"
    assert "adapter" not in tiny_model.describe()


def test_an_adapter_fits_quantised_weights(wide, tmp_path):
    folder, _ = adapter(wide, tmp_path / "adapter")
    quantised(wide, tmp_path / "quantised", keep_head=False, config=affine(8))
    close, base = MedGemma.load(str(tmp_path / "quantised"), adapter=folder), MedGemma.load(str(wide), adapter=folder)
    first = [next(model.stream(LOOK, SHORT)).logprob for model in (close, base)]
    assert first[0] == pytest.approx(first[1], abs=0.2)


def test_an_adapter_of_mlx_vlm_is_loaded_by_mlx_vlm(tiny_folder, tiny_model, tmp_path):
    from mlx_vlm.trainer.peft.utils import get_peft_model, save_adapter

    trained = MedGemma.load(str(tiny_folder))
    get_peft_model(trained.model, ["q_proj"], rank=2, alpha=8, verbose=False)
    for layer in trained.model.language_model.layers:
        layer.self_attn.q_proj.lora_b = mx.full(layer.self_attn.q_proj.lora_b.shape, 0.3)
    trained.model.eval()
    (tmp_path / "adapter").mkdir()
    save_adapter(trained.model, tmp_path / "adapter" / "adapters.safetensors")
    again = MedGemma.load(str(tiny_folder), adapter=tmp_path / "adapter")
    first, same, base = (next(model.stream(LOOK, SHORT)).logprob for model in (trained, again, tiny_model))
    assert first == pytest.approx(same, abs=1e-5)
    assert first != pytest.approx(base, abs=1e-3)


@pytest.mark.parametrize(
    ("config", "change", "message"),
    [
        ({"peft_type": "IA3"}, None, "IA3, which is not supported"),
        ({"modules_to_save": ["lm_head"]}, None, "modules_to_save, which is not supported"),
        ({"lora_alpha": None}, None, "does not fit this model"),
        ({}, lambda name, value: (name, value[:, :4].copy()), "has a different shape; load the model it was trained on"),
        ({}, lambda name, value: (name.replace("layers.0", "layers.9"), value), "not in the model"),
        ({}, lambda name, value: (name.replace("lora_B", "lora_A"), value), "incomplete in the adapter"),
    ],
)
def test_an_adapter_that_cannot_be_used_says_why(tiny_folder, tmp_path, config, change, message):
    folder, _ = adapter(tiny_folder, tmp_path / "adapter", **config)
    if change:
        weights = load_file(folder / "adapter_model.safetensors")
        save_file(dict(change(*item) for item in weights.items()), folder / "adapter_model.safetensors")
    with pytest.raises(ModelError, match=message):
        MedGemma.load(str(tiny_folder), adapter=folder)


@pytest.mark.parametrize("missing", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_folder_without_an_adapter_says_what_is_missing(tiny_folder, tmp_path, missing):
    folder, _ = adapter(tiny_folder, tmp_path / "adapter")
    (folder / missing).unlink()
    with pytest.raises(ModelError, match=f"lacks {missing}; give the folder"):
        MedGemma.load(str(tiny_folder), adapter=folder)
