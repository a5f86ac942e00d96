"""Memory and seconds of a report at the exact size of MedGemma 1.5 4B, with random weights (``make fullsize``).

    python tests/tools/fullsize.py FOLDER                  one picture, the whole model
    python tests/tools/fullsize.py FOLDER SLICES           a CT series of so many slices
    python tests/tools/fullsize.py FOLDER SLICES LAYERS    likewise, with both parts of the model cut to LAYERS layers, 1 to 6

FOLDER keeps the checkpoint (3.4 GB). It is laid out as MLX conversions are: text in 4 bits, vision tower in bfloat16, the embedding
twice. A CPU needs hours for products in these formats. There, this script multiplies many rows in float32, a block at a time, while
weights, activations and cache stay as they are; a faster BLAS, preloaded, helps. Each line gives the peak of one step.
"""

from __future__ import annotations

import json
import resource
import shutil
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pydicom
from dicoms import a_series
from mlx.utils import tree_flatten
from mlx_vlm.models.gemma3 import Model, ModelConfig, TextConfig, VisionConfig

from medgemma_app import MedGemma, Options, findings
from medgemma_app.demo import CHECKPOINT, draw_phantom
from medgemma_app.model import gemma3
from medgemma_app.model.loaded import LoadedModel

EYE = {"hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16, "patch_size": 14, "image_size": 896}
TEXT = {"hidden_size": 2560, "intermediate_size": 10240, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256}
LAYERS = {"sliding_window": 1024, "sliding_window_pattern": 6, "num_hidden_layers": 34, "vocab_size": 262_208, "mm_tokens_per_image": 256}
QUANTISED = {"group_size": 64, "bits": 4, "mode": "affine"}
ROWS, QUERIES = 512, 256  # multiplied at a time on a CPU; half of gemma3.BLOCK, since float32 needs twice the memory
DEMO_TOKENS = 1600
GB = 1e9


def build(folder: Path) -> None:
    """Writes the checkpoint: random weights, with zeros for tokens that the demo lacks. FOLDER appears only once it is whole."""
    final, folder = folder, folder.with_suffix(".part")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(CHECKPOINT, folder)
    config, processor = (json.loads((folder / f"{name}.json").read_text()) for name in ("config", "processor_config"))
    text = config["text_config"] | TEXT | LAYERS | {"query_pre_attn_scalar": 256, "max_position_embeddings": 131_072}
    vision = config["vision_config"] | EYE | {"num_hidden_layers": 27}
    config |= {"text_config": text, "vision_config": vision, "mm_tokens_per_image": 256, "quantization": QUANTISED}
    processor["image_seq_length"] = processor["image_processor"]["image_seq_length"] = 256
    processor["image_processor"]["size"] = {"height": 896, "width": 896}
    for name, content in (("config", config), ("processor_config", processor)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    model = Model(ModelConfig(text_config=TextConfig.from_dict(text), vision_config=VisionConfig.from_dict(vision), model_type="gemma3"))
    model.set_dtype(mx.bfloat16)
    nn.quantize(model.language_model, **QUANTISED)
    embedding = model.language_model.model.embed_tokens
    for part in (embedding.scales, embedding.biases):
        part[DEMO_TOKENS:] = 0
    model.language_model.lm_head.update(embedding.parameters())
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(model.parameters())), metadata={"format": "mlx"})
    folder.rename(final)


def cut(model: Any, layers: int) -> None:
    """Leaves so many layers of both parts; those of the text model are the ones up to the first that is global."""
    tower, language = model.vision_tower.vision_model.encoder, model.language_model
    tower.layers = tower.layers[:layers]
    text = language.model
    text.layers = text.layers[6 - layers : 6]
    text.one_of_each = {layer.self_attn.is_sliding: at for at, layer in enumerate(text.layers)}
    language.config.num_hidden_layers = language.config.sliding_window_pattern = layers
    mx.clear_cache()


def multiply_in_float32() -> None:
    """Replaces the products of matrices, but not those of a decoding step, which has a single row."""

    def product(layer: nn.Module, x: mx.array) -> mx.array:
        blocks = []
        for start in range(0, layer.weight.shape[0], ROWS):
            part = [layer[name][start : start + ROWS] for name in ("weight", "scales", "biases") if name in layer]
            weight = mx.dequantize(part[0], *(p.astype(mx.float32) for p in part[1:]), group_size=64, bits=4) if part[1:] else part[0]
            blocks.append((x.astype(mx.float32) @ weight.astype(mx.float32).T).astype(x.dtype))
            mx.eval(blocks[-1])
        made = mx.concatenate(blocks, axis=-1)
        return made + layer.bias if "bias" in layer else made

    def choose(plain: Callable[..., mx.array]) -> Callable[..., mx.array]:
        return lambda layer, x: plain(layer, x) if x.size == x.shape[-1] else product(layer, x)

    def attend(queries: mx.array, keys: mx.array, values: mx.array, scale: float, mask: Any = None) -> mx.array:
        wide = [each.astype(mx.float32) for each in (queries, keys, values)]
        return in_blocks(*wide, scale, mask).astype(queries.dtype)

    in_blocks, gemma3.BLOCK = gemma3.attend_in_blocks, QUERIES
    gemma3.attend_in_blocks = attend
    nn.Linear.__call__, nn.QuantizedLinear.__call__ = choose(nn.Linear.__call__), choose(nn.QuantizedLinear.__call__)


def watch(owner: Any, name: str, weights: int) -> None:
    """Prints the seconds and the peak memory of every call of a method."""
    plain = getattr(owner, name)

    def watched(*given: Any, **named: Any) -> Any:
        mx.reset_peak_memory()
        start = time.perf_counter()
        made = plain(*given, **named)
        mx.eval(made.logits if name == "__call__" else made)
        size = f"{given[1].shape[1]} tokens" if name == "__call__" else ""
        report(f"{name} {size}", start, weights)
        return made

    setattr(owner, name, watched)


def report(part: str, start: float, weights: int) -> None:
    unit = 1 if sys.platform == "darwin" else 1024
    process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    above = (mx.get_peak_memory() - weights) / GB
    print(f"{part:28} {time.perf_counter() - start:8.1f} s  {above:6.3f} GB above the weights  {process / GB:6.2f} GB process", flush=True)


def main() -> None:
    """Builds the checkpoint if it is missing, and writes one report with it."""
    folder, *numbers = sys.argv[1:]
    slices = int(numbers[0]) if numbers else 0
    layers = int(numbers[1]) if len(numbers) > 1 else 0
    if not Path(folder).is_dir():
        builder = get_context("spawn").Process(target=build, args=(Path(folder),))  # a process of its own, so that it does not count
        builder.start()
        builder.join()
    if mx.default_device() == mx.Device(mx.cpu):
        multiply_in_float32()
    start = time.perf_counter()
    model = MedGemma.load(folder)
    report("load", start, 0)
    if layers:
        cut(model.model, layers)
    weights = mx.get_active_memory()
    print(f"{weights / GB:.3f} GB of weights")
    watch(LoadedModel, "picture_inputs", weights)
    watch(gemma3.AlignedLanguageModel, "__call__", weights)
    with TemporaryDirectory() as scratch:
        made = findings(model, a_ct(Path(scratch), slices) if slices else draw_phantom(3)[0], options=Options(max_tokens=4))
    print(f"{made.generation.prompt_tokens} prompt tokens, {len(made.generation.token_ids)} generated")


def a_ct(folder: Path, slices: int) -> Path:
    """A series in which no two slices are the same, since the embeddings of a picture are computed once."""
    for number, file in enumerate(sorted(a_series(folder, slices).iterdir())):
        slice_ = pydicom.dcmread(file)
        slice_.PixelData = (slice_.pixel_array + 5 * number).tobytes()
        slice_.save_as(file)
    return folder


if __name__ == "__main__":
    main()
