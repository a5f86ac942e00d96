"""Loads a checkpoint in any layout, and an adapter, as mlx-vlm's model and processor.

mlx-vlm's own ``load`` supports one layout. Checkpoints saved by transformers 5 or after fine-tuning, text-only ones, and quantised ones
with tied output layers fail to load or load incorrectly; float16 loads, but overflows.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from medgemma_app.errors import MedGemmaError, ModelError

if TYPE_CHECKING:
    import mlx.core as mx

    from medgemma_app.model.checkpoint import Checkpoint

_EMBEDDING, _HEAD = "language_model.model.embed_tokens.", "language_model.lm_head."
_RENAMED = [
    (re.compile(r"^model\.(?=(?:language_model|vision_tower|multi_modal_projector)\.)"), ""),  # transformers 4.52 and later, in memory
    (re.compile(r"^(?:language_model\.|model\.)?(?=(?:embed_tokens|layers|norm)\.)"), "language_model.model."),
    (re.compile(r"^lm_head\."), _HEAD),
    (re.compile(r"^vision_tower\.(?!vision_model\.)"), "vision_tower.vision_model."),  # transformers 5
]


def renamed(name: str) -> str:
    """The name of a weight in mlx-vlm's Gemma 3."""
    for pattern, replacement in _RENAMED:
        name = pattern.sub(replacement, name)
    return name


def load_checkpoint(checkpoint: Checkpoint) -> tuple[Any, Any]:
    """mlx-vlm's model and processor, with every token that ends Gemma's turn as a stop token. Raises ModelError.

    A text-only model has None as its ``vision_tower``, and its tokenizer as the processor.
    """
    from mlx_vlm.utils import load_config, load_model_weights, load_processor

    folder = checkpoint.folder
    try:
        # mlx-vlm adds the stop tokens of generation_config.json.
        config = {**load_config(folder), "vision_config": {}, **checkpoint.config}
        model = _empty_model(config)
        weights = _read_weights(checkpoint)
        if model.vision_tower is not None:
            weights = model.vision_tower.sanitize(weights)
        _tie_head(weights, config.get("quantization"))
        load_model_weights(model, config, weights, folder)
        load = load_processor if model.vision_tower is not None else _load_tokenizer
        processor = load(folder, eos_token_ids=model.config.eos_token_id, trust_remote_code=False)
    except MedGemmaError:
        raise
    except Exception as error:
        reason = (" ".join(str(error).split()) or type(error).__name__).rstrip(".")[:200]
        advice = "download it again, or use another conversion of the model"
        raise ModelError(f"{folder.name} does not load as Gemma 3: {reason}; {advice}") from error
    tokenizer = processor.tokenizer
    turn_end = tokenizer.convert_tokens_to_ids("<end_of_turn>")
    if isinstance(turn_end, int) and turn_end not in tokenizer.stopping_criteria.eos_token_ids:
        tokenizer.stopping_criteria.add_eos_token_ids(turn_end)
    return model, processor


def _load_tokenizer(folder: Path, *, eos_token_ids: Any, trust_remote_code: bool) -> Any:
    """Like mlx-vlm's ``load_processor``, which fails without an image processor for tokenizers of a multimodal Gemma."""
    from mlx_vlm.tokenizer_utils import load_tokenizer
    from mlx_vlm.utils import StoppingCriteria
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    tokenizer.stopping_criteria = StoppingCriteria(eos_token_ids, tokenizer)
    tokenizer.detokenizer = load_tokenizer(folder, return_tokenizer=False)(tokenizer)
    tokenizer.tokenizer = tokenizer
    return tokenizer


def _empty_model(config: Mapping[str, Any]) -> Any:
    from mlx_vlm.models.gemma3 import Model, ModelConfig, TextConfig, VisionConfig

    text = dict(config["text_config"])
    if isinstance(kinds := text.get("layer_types"), list) and "full_attention" in kinds:  # transformers 5; mlx-vlm reads the older entry
        text.setdefault("sliding_window_pattern", kinds.index("full_attention") + 1)
    text.setdefault("mm_tokens_per_image", config.get("mm_tokens_per_image", 256))
    vision = config["vision_config"] or _NO_VISION
    settings = ModelConfig.from_dict({**config, "text_config": text, "vision_config": vision})
    settings.text_config, settings.vision_config = TextConfig.from_dict(text), VisionConfig.from_dict(vision)
    model = Model(settings)
    if not config["vision_config"]:
        model.vision_tower = model.multi_modal_projector = None
    return model


_NO_VISION = {
    "model_type": "siglip_vision_model", "hidden_size": 1, "intermediate_size": 1, "num_hidden_layers": 0, "num_attention_heads": 1,
    "image_size": 16, "patch_size": 1,
}  # fmt: skip


def _read_weights(checkpoint: Checkpoint) -> dict[str, mx.array]:
    """Every weight under mlx-vlm's name. Float16 becomes bfloat16, in which Gemma 3 was trained, since Gemma 3 overflows in float16."""
    import mlx.core as mx

    read: dict[str, Any] = {}
    for shard in checkpoint.shards:
        read |= cast("dict[str, Any]", mx.load(str(checkpoint.folder / shard)))
    return {
        renamed(name): value.astype(mx.bfloat16) if value.dtype == mx.float16 else value
        for name, value in read.items()
        if not name.endswith("rotary_emb.inv_freq")
    }


def _tie_head(weights: dict[str, mx.array], quantisation: Any) -> None:
    """Sets Gemma's output layer to its embedding, with the same quantisation, unless a quantised checkpoint has another output layer.

    MLX conversions hold the embedding twice. The two are compared before the other weights are read, so that the second copy, 0.4 GB
    of the 4-bit 4B checkpoint, is released before loading reaches its peak memory.
    """
    import mlx.core as mx

    embedding = {_HEAD + name.removeprefix(_EMBEDDING): value for name, value in weights.items() if name.startswith(_EMBEDDING)}
    head = {name: weights.pop(name) for name in list(weights) if name.startswith(_HEAD)}
    if f"{_HEAD}scales" in head and not all(name in embedding and mx.array_equal(head[name], embedding[name]) for name in head):
        weights |= head
        return
    weights |= embedding
    for prefix in ("", "language_model."):
        if isinstance(quantisation, dict) and f"{prefix}model.embed_tokens" in quantisation:
            quantisation["language_model.lm_head"] = quantisation[f"{prefix}model.embed_tokens"]


def apply_adapter(model: Any, folder: str | Path) -> dict[str, str]:
    """Applies a LoRA or DoRA adapter in the format of PEFT or mlx-vlm; returns its name and sha256. Raises ModelError."""
    path = Path(folder).expanduser()
    try:
        config = json.loads((path / "adapter_config.json").read_text(encoding="utf-8"))
        file = path / ("adapter_model.safetensors" if "peft_type" in config else "adapters.safetensors")
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        if "peft_type" in config:
            _apply_peft(model, config, file)
        else:
            from mlx_vlm.trainer.peft.utils import apply_lora_layers

            apply_lora_layers(model, path)
            model.eval()
    except MedGemmaError:
        raise
    except FileNotFoundError as error:
        missing = Path(error.filename).name if error.filename else "its weights"
        raise ModelError(f"the adapter {path.name} lacks {missing}; give the folder that holds adapter_config.json") from error
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"the adapter {path.name} does not fit this model: {reason[:200]}; load the model it was trained on") from error
    return {"name": path.name, "sha256": digest}


def _apply_peft(model: Any, config: Mapping[str, Any], file: Path) -> None:
    import mlx.core as mx
    from mlx.utils import tree_unflatten
    from mlx_vlm.trainer.peft.dora_layers import DoRALinear
    from mlx_vlm.trainer.peft.lora_layers import LoRALinear

    refused = [name for name in ("alpha_pattern", "modules_to_save", "fan_in_fan_out", "lora_bias") if config.get(name)]
    if config["peft_type"] != "LORA" or refused:
        used = ", ".join(refused) or config["peft_type"]
        raise ModelError(f"the adapter {file.parent.name} uses {used}, which is not supported; merge it into the model's weights")
    read = cast("dict[str, mx.array]", mx.load(str(file)))
    layers: dict[str, dict[str, mx.array]] = {}
    for name, value in read.items():
        found = re.fullmatch(r"base_model\.model\.(.+)\.lora_(A|B|magnitude_vector)(?:\.default)?(?:\.weight)?", name)
        if not found:
            raise ModelError(f"the adapter {file.parent.name} has a weight {name}, which is not LoRA; merge it into the model's weights")
        layers.setdefault(renamed(f"{found[1]}."), {})[found[2]] = value.astype(mx.float32)
    modules = dict(model.named_modules())
    changed = []
    for path, parts in layers.items():
        name = path.removesuffix(".")
        if name not in modules or {"A", "B"} - parts.keys():
            raise ValueError(f"{name} is not in the model, or is incomplete in the adapter")
        rank = parts["A"].shape[0]
        scale = config["lora_alpha"] / (rank**0.5 if config.get("use_rslora") else rank)
        kind = DoRALinear if "magnitude_vector" in parts else LoRALinear
        layer = kind.from_base(modules[name], r=rank, scale=scale)
        if (layer.lora_a.shape, layer.lora_b.shape) != (parts["A"].T.shape, parts["B"].T.shape):
            raise ValueError(f"{name} has a different shape")
        layer.lora_a, layer.lora_b = parts["A"].T, parts["B"].T
        if "magnitude_vector" in parts:
            layer.m = parts["magnitude_vector"].flatten()
        changed.append((name, layer))
    model.update_modules(tree_unflatten(changed))
    model.eval()
    mx.eval(model.parameters())
