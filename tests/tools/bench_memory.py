"""The memory side of ``make bench``: what the parts of a report need, and that neither time nor memory grows out of line."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlx.core as mx
from fullsize import EYE
from mlx_vlm.models.gemma3.config import VisionConfig
from mlx_vlm.models.gemma3.vision import VisionModel

from medgemma_app import MedGemma, Options
from medgemma_app.demo import draw_phantom
from medgemma_app.inputs.images import read_image
from medgemma_app.model import gemma3
from medgemma_app.prompts import findings_prompt
from medgemma_app.reports import findings_task
from medgemma_app.tasks import write_many

Results = dict[str, Any]


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
    makes = (lambda at=at: findings_task(read_image(names[at % 10]), options=options) for at in islice(count(), int(number)))
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
        demo._embeddings.clear()
        demo.generate(prompt, Options(max_tokens=4))
        if number in (10, 500):
            held[str(number)] = (mx.get_active_memory() + mx.get_cache_memory()) / 2**20
    print(f"  {held['10']:.2f} and {held['500']:.2f} MiB")
    return held


if __name__ == "__main__":
    studies(*sys.argv[1:])
