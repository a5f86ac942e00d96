"""The memory side of ``make bench``: what the parts of a report need, and that neither time nor memory grows out of line."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from functools import cache
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_vlm.models.gemma3.config import ModelConfig, TextConfig, VisionConfig
from mlx_vlm.models.gemma3.gemma3 import Model
from mlx_vlm.models.gemma3.vision import VisionModel

from medgemma_app import MedGemma, Options
from medgemma_app.demo import draw_phantom
from medgemma_app.inputs.images import read_image
from medgemma_app.model import gemma3
from medgemma_app.prompts import findings_prompt
from medgemma_app.reports import findings_task
from medgemma_app.tasks import write_many

Results = dict[str, Any]
EYE = {"hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16, "patch_size": 14, "image_size": 896}
TEXT = {"hidden_size": 2560, "intermediate_size": 10240, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256}
LAYERS, GLOBAL, WINDOW, VOCABULARY = 34, 5, 1024, 262_208
PROMPT, ANSWER, IMAGE_TOKEN = 320, 200, 7  # tokens: a picture and what is said about it; a report is rarely longer
GB = 1e9


@cache
def eye() -> Results:
    """GiB above the weights that two layers of SigLIP need at MedGemma's width in float32, against mlx-vlm's."""
    tower = VisionModel(VisionConfig(model_type="siglip_vision_model", num_hidden_layers=2, **EYE))
    pixels = mx.random.normal((1, 896, 896, 3))
    mx.eval(tower.parameters(), pixels)

    def look() -> tuple[mx.array, float]:
        mx.clear_cache()
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        hidden = tower(pixels)[0]
        mx.eval(hidden)
        return hidden, (mx.get_peak_memory() - before) / 2**30

    raw, theirs = look()
    for layer in tower.vision_model.encoder.layers:
        layer.self_attn.__class__ = gemma3.FrugalAttention
    frugal, ours = look()
    row = {"ours": ours, "theirs": theirs, "largest difference": mx.abs(raw - frugal).max().item()}
    print(f"  {ours:.2f} against {theirs:.2f} GiB, largest difference of an embedding {row['largest difference']:.1e}")
    return row


def budget() -> Results:
    """GB that one report of the 4-bit 4B checkpoint needs, by part: computed from shapes, or run in float32 and halved."""
    weights, copy = weight_bytes()
    cache = sum(min(PROMPT + ANSWER, window) for window in [1 << 20] * GLOBAL + [WINDOW] * (LAYERS - GLOBAL)) * 2 * 4 * 256 * 2
    rows = {
        "weights (computed)": weights / GB,
        "a second copy of the embedding, which is let go (computed)": copy / GB,
        "vision pass": eye()["ours"] * 2**30 / 2 / GB,
        f"prefill of {PROMPT} tokens": prefill_bytes() / 2 / GB,
        f"cache of {PROMPT + ANSWER} tokens (computed)": cache / GB,
    }
    for name, size in rows.items():
        print(f"  {size:.2f} GB {name}")
    whole, _, vision, prefill, kept = rows.values()
    rows["peak"] = whole + max(vision, prefill) + kept
    print(f"  {rows['peak']:.2f} GB at the peak: the vision pass and the prefill come one after the other")
    return rows


def weight_bytes() -> tuple[int, int]:
    """Bytes of the weights as MLX conversions store them (text in 4 bits, eye in bfloat16), one embedding; and of a second one.

    Nothing is computed: mlx knows shapes before it knows values.
    """
    text = TextConfig(model_type="gemma3_text", num_hidden_layers=LAYERS, vocab_size=VOCABULARY, **TEXT)
    eye_config = VisionConfig(model_type="siglip_vision_model", num_hidden_layers=27, **EYE)
    model = Model(ModelConfig(text_config=text, vision_config=eye_config, model_type="gemma3", image_token_index=IMAGE_TOKEN))
    model.set_dtype(mx.bfloat16)
    nn.quantize(model.language_model, group_size=64, bits=4)
    size = {
        name: sum(value.nbytes for _, value in tree_flatten(part.parameters()))
        for name, part in (("all", model), ("head", model.language_model.lm_head))
    }
    return size["all"] - size["head"], size["head"]


def prefill_bytes() -> int:
    """Bytes above weights and cache that two layers of the text model need at full width in float32 (all 34 need no more)."""
    text = TextConfig(model_type="gemma3_text", num_hidden_layers=2, sliding_window_pattern=2, vocab_size=64, **TEXT)
    small = {**EYE, "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 1}
    eye_config = VisionConfig(model_type="siglip_vision_model", num_hidden_layers=1, **small)
    model = Model(ModelConfig(text_config=text, vision_config=eye_config, model_type="gemma3", image_token_index=IMAGE_TOKEN))
    gemma3.align(model, {"text_config": {}})
    cache = model.language_model.make_cache()
    ids = mx.array([[2, *[IMAGE_TOKEN] * 256, *[3] * (PROMPT - 257)]])
    embeddings = mx.random.normal((1, PROMPT, text.hidden_size))
    mx.eval(model.parameters(), embeddings)
    mx.clear_cache()
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    mx.eval(model.language_model(ids, inputs_embeds=embeddings, cache=cache, logits_to_keep=1).logits)
    return mx.get_peak_memory() - before - sum(layer.nbytes for layer in cache)


def growth() -> Results:
    """Seconds and peak memory of 1, 10, 100 and 1,000 studies in one process, from picture files to reports."""
    with TemporaryDirectory() as folder:
        script = [sys.executable, __file__, folder]
        rows = {number: json.loads(subprocess.check_output([*script, str(number)])) for number in (1, 10, 100, 1000)}
    for number, row in rows.items():
        bar = "#" * round(40 * row["mib"] / max(other["mib"] for other in rows.values()))
        print(f"  {number:5} studies {row['seconds']:8.2f} s {row['seconds'] / number:7.3f} s each {row['mib']:6.0f} MiB {bar}")
    slope = (rows[1000]["seconds"] - rows[100]["seconds"]) / 900
    more = (rows[1000]["mib"] - rows[100]["mib"]) / 900 * 1024
    print(f"  from 100 to 1,000: {slope:.3f} s and {more:.1f} KiB a study")
    return {str(number): row for number, row in rows.items()} | {"seconds a study": slope, "KiB a study": more}


def studies(folder: str, number: str) -> None:
    """One point of ``growth``, in a process of its own: the model is loaded before the clock starts."""
    demo, options = MedGemma.load("demo"), Options()
    names = [Path(folder) / f"{seed}.png" for seed in range(10)]
    for seed, name in enumerate(names):
        draw_phantom(seed)[0].save(name)
    makes = (lambda model, at=at: findings_task(model, read_image(names[at % 10]), options=options) for at in islice(count(), int(number)))
    start = time.perf_counter()
    done = sum(report.validation.ok for report in write_many(demo, makes, options, batch_size=16))
    row = {"seconds": time.perf_counter() - start, "valid": done, "mib": peak_mib()}
    print(json.dumps(row))


def peak_mib() -> float:
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def steady() -> Results:
    """MiB that mlx holds after 10 and after 500 generations."""
    demo, prompt = MedGemma.load("demo"), findings_prompt(draw_phantom(3)[0])[0]
    held = {}
    for number in range(1, 501):
        demo._loaded._embeddings.clear()
        demo.generate(prompt, Options(max_tokens=4))
        if number in (10, 500):
            held[str(number)] = (mx.get_active_memory() + mx.get_cache_memory()) / 2**20
    print(f"  {held['10']:.2f} and {held['500']:.2f} MiB")
    return held


if __name__ == "__main__":
    studies(*sys.argv[1:])
