"""The demo model's shape, and how it is written down: in the layout and under the names of released checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from medgemma_app.demo.training.tokenizer import (
    END_OF_IMAGE,
    END_OF_TURN,
    IMAGE_SIZE,
    IMAGE_TOKEN,
    IMAGE_TOKENS,
    START_OF_IMAGE,
    save_processor,
)  # fmt: skip

STOP_IDS = [1, END_OF_TURN]
TEXT = {
    "model_type": "gemma3_text", "hidden_size": 144, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 256, "sliding_window_pattern": 2,
    "max_position_embeddings": 4096, "rope_theta": 1_000_000.0, "rope_local_base_freq": 10_000.0,
    "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "rms_norm_eps": 1e-6, "hidden_activation": "gelu_pytorch_tanh",
    "mm_tokens_per_image": IMAGE_TOKENS, "attention_bias": False, "attention_dropout": 0.0,
    "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": STOP_IDS,
}  # fmt: skip
VISION = {
    "model_type": "siglip_vision_model", "hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 3,
    "image_size": IMAGE_SIZE, "patch_size": 8, "num_channels": 3, "vision_use_head": False, "layer_norm_eps": 1e-6,
    "hidden_act": "gelu_pytorch_tanh", "attention_dropout": 0.0,
}  # fmt: skip


def checkpoint_config(vocabulary: int) -> dict[str, Any]:
    """config.json, key for key as released Gemma 3 checkpoints have it."""
    return {
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "boi_token_index": START_OF_IMAGE,
        "eoi_token_index": END_OF_IMAGE, "image_token_index": IMAGE_TOKEN, "mm_tokens_per_image": IMAGE_TOKENS,
        "eos_token_id": STOP_IDS, "pad_token_id": 0, "bos_token_id": 2, "initializer_range": 0.02, "torch_dtype": "float32",
        "tie_word_embeddings": True, "text_config": {**TEXT, "vocab_size": vocabulary}, "vision_config": VISION,
    }  # fmt: skip


def build_model(vocabulary: int) -> Any:
    """A new model of this shape with random weights."""
    import torch
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    config = checkpoint_config(vocabulary)
    model = Gemma3ForConditionalGeneration(Gemma3Config(**{**config, "text_config": dict(config["text_config"])}))
    with torch.no_grad():
        model.model.multi_modal_projector.mm_input_projection_weight.normal_(0, 0.05)
        model.model.language_model.embed_tokens.weight.normal_(0, 0.04)
    return model


def save_checkpoint(model: Any, processor: Any, folder: Path) -> None:
    """Writes weights, config and processor files under the names that released checkpoints use."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items() if name != "lm_head.weight"}
    save_file({released_name(name): value for name, value in state.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    vocabulary = model.config.text_config.vocab_size
    _write(folder / "config.json", checkpoint_config(vocabulary))
    _write(folder / "generation_config.json", {"bos_token_id": 2, "do_sample": False, "eos_token_id": STOP_IDS, "pad_token_id": 0})
    save_processor(processor, folder)


def released_name(name: str) -> str:
    """transformers 5 has its own names inside; checkpoints keep ``language_model.model.`` and ``vision_tower.vision_model.``."""
    name = name.removeprefix("model.")
    if name.startswith("language_model."):
        return name.replace("language_model.", "language_model.model.", 1)
    return name.replace("vision_tower.", "vision_tower.vision_model.", 1) if "vision_model." not in name else name


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
