"""The prompts on which the project is held against transformers: by name, for the demo and for random checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny import picture

from medgemma_app.demo import draw_phantom, write_notes
from medgemma_app.inputs.json_notes import notes_text
from medgemma_app.model.selftest import reference_prompts
from medgemma_app.prompts import Prompt, findings_prompt, locate_prompt, soap_prompt

GOLDEN = Path(__file__).parent / "data" / "golden.json"
STEPS = 24
TEXT = "The lungs are clear? "
LINEAR, PLAIN = ({"rope_theta": 1e6, "rope_type": "linear", "factor": 8.0}, {"rope_theta": 1e4, "rope_type": "default"})

# Random checkpoints: as released; with an image longer than the sliding window; and as transformers 5 writes its rotary settings.
CHECKPOINTS: dict[str, dict[str, Any]] = {
    "released": {},
    "window": {"seed": 3, "hidden": 64, "tokens_per_image": 16, "text": {"sliding_window": 8}},
    "five": {"seed": 5, "text": {"rope_scaling": None, "rope_parameters": {"full_attention": LINEAR, "sliding_attention": PLAIN}}},
}

RANDOM: dict[str, tuple[Any, ...]] = {
    "text": (TEXT,),
    "image-text": (picture(1), TEXT),
    "text-image": (TEXT, picture(1)),
    "two-images": (picture(1), picture(2), TEXT),
    "three-images": ("Slice 1", picture(1), "Slice 2", picture(2), "Slice 3", picture(3), TEXT * 2),
    "beyond-the-window": (TEXT * 100, picture(2), TEXT),
    "image-across-the-chunk-boundary": (TEXT * 291, picture(5), TEXT),
    "images-in-the-second-chunk": (TEXT * 340, picture(3), picture(4), TEXT * 20),
}

# Of no, one, two and three pictures, and shorter and longer than the sliding window of 64 tokens.
MIXED_PROMPTS = [
    Prompt((*(picture(10 * length + n) for n in range(length % 4)), "The lungs are clear. " * length)) for length in (1, 2, 3, 5, 7, 8)
]


def demo_prompts() -> dict[str, Prompt]:
    """Every kind of prompt the project itself makes, and a long one."""
    phantoms = [draw_phantom(seed)[0] for seed in range(4)]
    notes = [notes_text(write_notes(seed)[0]) for seed in range(4)]
    prompts = reference_prompts() | {f"findings-{seed}": findings_prompt(phantoms[seed])[0] for seed in (2, 3)}
    prompts |= {f"soap-{seed}": soap_prompt(notes[seed])[0] for seed in (1, 2, 3)}
    prompts["findings-indication"] = findings_prompt(phantoms[0], indication="cough, < 2 weeks; naïve 日本")[0]
    prompts["locate"] = locate_prompt(phantoms[0], "nodule")[0]
    prompts["system"] = Prompt((phantoms[2], "Describe this X-ray."), system="You are an expert radiologist.")
    prompts["image-across-the-chunk-boundary"] = Prompt(("The heart is normal in size. " * 288, phantoms[3], "Describe this X-ray."))
    return prompts
