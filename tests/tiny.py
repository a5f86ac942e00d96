"""A random Gemma 3 of a few ten thousand parameters, in the layout released checkpoints have, made without torch.

The same seed gives the same weights everywhere, so that figures computed by transformers once can be kept beside the tests.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SPECIAL = [
    "<pad>",
    "<eos>",
    "<bos>",
    "<unk>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<start_of_image>",
    "<end_of_image>",
    "<image_soft_token>",
]
STEERING = ["<mask>", "[multimodal]", "<unused94>", "<unused95>"]  # added tokens that are not marked special, as in Gemma's tokenizer
BYTES = [f"<0x{value:02X}>" for value in range(256)]
SIDE = 56
TOKENS_PER_IMAGE = 4
TEMPLATE = (
    "{{ bos_token }}{%- if messages[0]['role'] == 'system' -%}{%- set prefix = messages[0]['content'][0]['text'] + '\n\n' -%}"
    "{%- set turns = messages[1:] -%}{%- else -%}{%- set prefix = '' -%}{%- set turns = messages -%}{%- endif -%}"
    "{%- for m in turns -%}{{ '<start_of_turn>' + m['role'] + '\n' + (prefix if loop.first else '') }}"
    "{%- for item in m['content'] -%}{%- if item['type'] == 'image' -%}{{ '<start_of_image>' }}"
    "{%- else -%}{{ item['text'] | trim }}{%- endif -%}"
    "{%- endfor -%}{{ '<end_of_turn>\n' }}{%- endfor -%}{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}"
)


def make_checkpoint(
    folder: Path, *, seed: int = 0, hidden: int = 48, text: dict[str, Any] | None = None, tokens_per_image: int = TOKENS_PER_IMAGE
) -> Path:
    """Writes the checkpoint; ``text`` overrides entries of its text_config. 48 is no square, so every rounding of its root shows."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer()
    config = _config(len(tokenizer.get_vocab()), hidden, tokens_per_image)
    config["text_config"] |= text or {}
    _write_json(folder / "config.json", config)
    _write_json(
        folder / "generation_config.json", {"do_sample": True, "top_k": 3, "top_p": 0.5, "temperature": 2.0, "eos_token_id": [1, 5]}
    )
    _write_processor(folder, tokenizer, tokens_per_image)
    _write_weights(folder, config, seed)
    return folder


def picture(seed: int, side: int = SIDE) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8))


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Replace(" ", "▁"), pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    alphabet = [chr(code) for code in range(33, 127)] + ["▁", "\n"]
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=SPECIAL + BYTES, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(["FINDINGS: the lungs are clear. IMPRESSION: normal heart."] * 20, trainer)
    vocabulary = json.loads(tokenizer.to_str())
    # Byte tokens are ordinary vocabulary in Gemma, only the trainer needs them as special tokens.
    vocabulary["added_tokens"] = [token for token in vocabulary["added_tokens"] if token["content"] not in BYTES]
    tokenizer = Tokenizer.from_str(json.dumps(vocabulary))
    tokenizer.add_tokens(STEERING)
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    return tokenizer


def _config(vocabulary: int, hidden: int, tokens_per_image: int) -> dict[str, Any]:
    vocabulary += -vocabulary % 8
    text = {
        "model_type": "gemma3_text",
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": 96,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
        "sliding_window": 64,
        "sliding_window_pattern": 3,
        "max_position_embeddings": 8192,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "mm_tokens_per_image": tokens_per_image,
        "tie_word_embeddings": True,
    }
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "patch_size": 14,
        "vision_use_head": False,
    }
    return {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "text_config": text,
        "vision_config": vision,
        "mm_tokens_per_image": tokens_per_image,
        "boi_token_index": 6,
        "eoi_token_index": 7,
        "image_token_index": 8,
        "eos_token_id": [1, 5],
        "dtype": "float32",
    }


def _write_processor(folder: Path, tokenizer: Tokenizer, tokens_per_image: int) -> None:
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>"}
    image_names = {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "padding_side": "left",
        **names,
        "extra_special_tokens": image_names,
        **image_names,
    }
    _write_json(folder / "tokenizer_config.json", {**settings, **names, **image_names, "processor_class": "Gemma3Processor"})
    half = [0.5, 0.5, 0.5]
    images = {
        "image_processor_type": "Gemma3ImageProcessor",
        "size": {"height": SIDE, "width": SIDE},
        "image_mean": half,
        "image_std": half,
        "resample": 2,
        "rescale_factor": 1 / 255,
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "do_convert_rgb": True,
        "do_pan_and_scan": False,
        "image_seq_length": tokens_per_image,
    }
    _write_json(folder / "preprocessor_config.json", {**images, "processor_class": "Gemma3Processor"})
    _write_json(folder / "processor_config.json", {"image_seq_length": tokens_per_image, "processor_class": "Gemma3Processor"})
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")


def _write_weights(folder: Path, config: dict[str, Any], seed: int) -> None:
    from safetensors.numpy import save_file

    random = np.random.default_rng(seed)
    weights = {name: _weight(random, name, shape) for name, shape in sorted(_shapes(config).items())}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The names and shapes mlx-vlm's own model has, with the convolution in the order of torch and the head left to the embedding."""
    from mlx.utils import tree_flatten
    from mlx_vlm.models.gemma3 import Model, ModelConfig
    from mlx_vlm.models.gemma3.config import TextConfig, VisionConfig

    settings = ModelConfig.from_dict(config)
    settings.text_config, settings.vision_config = (
        TextConfig.from_dict(config["text_config"]),
        VisionConfig.from_dict(config["vision_config"]),
    )
    shapes = {name: value.shape for name, value in tree_flatten(Model(settings).parameters())}
    del shapes["language_model.lm_head.weight"]
    out, height, width, channels = shapes["vision_tower.vision_model.embeddings.patch_embedding.weight"]
    return shapes | {"vision_tower.vision_model.embeddings.patch_embedding.weight": (out, channels, height, width)}


def _weight(random: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Large enough that attention is far from uniform and every picture changes the answer."""
    scale = 0.1 if len(shape) == 1 else 0.2 if "mm_input_projection" in name else 0.15
    offset = 1.0 if "layer_norm" in name or ("layernorm.weight" in name and "vision" in name) else 0.0
    return (random.standard_normal(shape) * scale + (offset if name.endswith("weight") else 0.0)).astype(np.float32)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")


def demo_for_vllm(folder: Path) -> None:
    """The demo with tokens for three and four line breaks, as Gemma has them, since vLLM's Gemma 3 relies on them."""
    import mlx.core as mx

    from medgemma_app.demo import CHECKPOINT

    shutil.copytree(CHECKPOINT, folder, dirs_exist_ok=True)
    tokenizer, weights = json.loads((folder / "tokenizer.json").read_text()), mx.load(str(CHECKPOINT / "model.safetensors"))
    vocabulary, embedding = tokenizer["model"]["vocab"], weights["language_model.model.embed_tokens.weight"]
    for unused, second in (("<unused0>", "\n"), ("<unused1>", "\n\n")):
        vocabulary["\n\n" + second] = token = vocabulary.pop(unused)
        tokenizer["model"]["merges"].append(["\n\n", second])
        embedding[token] = 0.9 * embedding[vocabulary["\n\n"]]  # so that it is read as the same, and never written
    tokenizer["added_tokens"] = [token for token in tokenizer["added_tokens"] if token["content"] in vocabulary]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "pt"})


def scripted(monkeypatch, model, ids):
    """Makes the model 'choose' these ids, whatever it computes."""
    import mlx.core as mx

    head, left = type(model.model.language_model).__call__, iter(ids)

    def forced(self, inputs, *args, **kwargs):
        out = head(self, inputs, *args, **kwargs)
        favour = mx.zeros(out.logits.shape[-1]).at[next(left, ids[-1])].add(1e4)
        out.logits = out.logits + favour
        return out

    monkeypatch.setattr(type(model.model.language_model), "__call__", forced)
