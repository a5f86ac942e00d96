"""Makes the demo checkpoint: ``python -m medgemma_app.demo.training``, in a checkout, with torch and transformers.

First the picture tower learns to say what lies where in a phantom, then the whole model learns the project's own prompts
and answers. Everything is drawn and written by this package; nothing is downloaded. It uses a CUDA device where there is one.
"""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path

import torch

from medgemma_app.demo import CHECKPOINT
from medgemma_app.demo.training.checkpoint import build_model, save_checkpoint
from medgemma_app.demo.training.course import Batches, Course, Length, Trainer
from medgemma_app.demo.training.lessons import vocabulary_texts
from medgemma_app.demo.training.pictures import draw_store
from medgemma_app.demo.training.tokenizer import build_processor, build_tokenizer
from medgemma_app.model.chat import ChatTemplate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=CHECKPOINT)
    parser.add_argument("--pictures", type=int, default=40_000, help="studies of one picture")
    parser.add_argument("--pairs", type=int, default=20_000, help="studies of two pictures")
    parser.add_argument("--tower-steps", type=int, default=1_200)
    parser.add_argument("--steps", type=int, default=3_950)
    parser.add_argument("--minutes", type=float, default=math.inf, help="end the lessons after so many minutes, if not before")
    parser.add_argument("--batch", type=int, default=128, help="lessons in a step")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--save-every", type=float, default=120.0, metavar="SECONDS", help="how often the checkpoint is written meanwhile")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that draw pictures and write lessons")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    store = draw_store(options.pictures, options.pairs, processes=options.workers)
    processor = build_processor(build_tokenizer(vocabulary_texts(store)))
    model = build_model(len(processor.tokenizer))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(store.pixels):,} pictures, on {device.type}", flush=True)
    length = Length(options.tower_steps, options.steps, options.batch, options.rate, 60 * options.minutes)
    batches = Batches(ChatTemplate(processor), store, length)
    course = Course(Trainer(model, store, length, device), batches, options.workers - 1)
    course.run(lambda: save_checkpoint(model, processor, options.out), options.save_every)


if __name__ == "__main__":
    main()
