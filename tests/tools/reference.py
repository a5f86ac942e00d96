"""Writes what Google's reference in transformers computes for the cases (``make reference``; needs torch).

The tests hold the project against golden.json, and ``medgemma doctor`` a machine against the demo's reference.json, so that neither
needs torch.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from cases import CHECKPOINTS, GOLDEN, RANDOM, STEPS, demo_prompts
from transformers import AutoProcessor, Gemma3ForConditionalGeneration

from medgemma_app.demo import CHECKPOINT
from medgemma_app.model.selftest import REFERENCE_FILE, SAMPLED, reference_prompts
from medgemma_app.prompts import Prompt


def main() -> None:
    """Importing mlx_vlm changes transformers' AutoProcessor, so random checkpoints are made in a process of their own."""
    random = {name: Prompt(parts) for name, parts in RANDOM.items()}
    golden = {"demo": reference(CHECKPOINT, demo_prompts())}
    with tempfile.TemporaryDirectory() as folder:
        for name in CHECKPOINTS:
            made = Path(folder) / name
            code = "import sys, cases, tiny, pathlib; tiny.make_checkpoint(pathlib.Path(sys.argv[1]), **cases.CHECKPOINTS[sys.argv[2]])"
            subprocess.run([sys.executable, "-c", code, str(made), name], check=True, cwd=Path(__file__).parent.parent)
            golden[name] = reference(made, random)
    GOLDEN.write_text(json.dumps(golden, separators=(",", ":")).replace('},"', '},\n"') + "\n", encoding="utf-8")
    write_demo_reference(golden["demo"], embedding(CHECKPOINT))


def write_demo_reference(golden: dict[str, Any], embedding: list[float]) -> None:
    """The part of the figures that ``medgemma doctor`` carries along."""
    prompts = {name: golden[name] for name in reference_prompts()}
    REFERENCE_FILE.write_text(json.dumps({"prompts": prompts, "embedding": embedding}, separators=(",", ":")) + "\n", encoding="utf-8")


def embedding(folder: Path) -> list[float]:
    """Every SAMPLED-th number of what the projector makes of the first picture."""
    model = Gemma3ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    pixels = AutoProcessor.from_pretrained(folder).image_processor(list(demo_prompts()["findings-0"].images), return_tensors="pt")
    hidden = model.model.vision_tower(pixel_values=pixels["pixel_values"]).last_hidden_state
    features = model.model.multi_modal_projector(hidden).detach().flatten()[::SAMPLED]
    return [round(value, 6) for value in features.tolist()]


def reference(folder: Path, prompts: dict[str, Prompt]) -> dict[str, dict[str, Any]]:
    """Prompt ids, greedy tokens and their log-probabilities, in float32."""
    model = Gemma3ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(folder)
    return {name: _generate(model, processor, prompt) for name, prompt in prompts.items()}


def _generate(model: Any, processor: Any, prompt: Prompt) -> dict[str, Any]:
    content = [{"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "image": part} for part in prompt.parts]
    system = [{"role": "system", "content": [{"type": "text", "text": prompt.system}]}] if prompt.system else []
    inputs = processor.apply_chat_template(
        [*system, {"role": "user", "content": content}], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    length = inputs["input_ids"].shape[1]
    out = model.generate(**inputs, max_new_tokens=STEPS, do_sample=False, return_dict_in_generate=True, output_logits=True)
    ids = out.sequences[0, length:].tolist()
    logprobs = [torch.log_softmax(logits[0].float(), -1)[token].item() for logits, token in zip(out.logits, ids, strict=True)]
    return {"prompt": inputs["input_ids"][0].tolist(), "ids": ids, "logprobs": [round(value, 7) for value in logprobs]}


if __name__ == "__main__":
    main()
