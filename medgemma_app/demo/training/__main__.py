"""Makes the demo checkpoint: ``python -m medgemma_app.demo.training --compile``, in a checkout, with torch and transformers.

First the picture tower learns to say what lies where in a phantom, then the whole model learns the project's own prompts
and answers. Everything is drawn and written by this package; nothing is downloaded. It took about 50 minutes on two CPU
cores that were shared with other work. The weights that lie in checkpoint/ come from one such course that was stopped and
taken up several times while its length and the shares of its lessons were settled, so a new run does not repeat them bit by bit.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medgemma_app.demo import CHECKPOINT
from medgemma_app.demo.training.lessons import (
    REWORDED,
    VERY_SHORT,
    Lesson,
    copy_lesson,
    findings_lesson,
    soap_lesson,
    unseen_lesson,
    vocabulary_texts,
)
from medgemma_app.demo.training.pictures import CELL_CLASSES, FIRST_SEED, NODULE_CLASSES, Store, draw_store
from medgemma_app.demo.training.tokenizer import (
    END_OF_IMAGE,
    IMAGE_SIZE,
    IMAGE_TOKEN,
    IMAGE_TOKENS,
    START_OF_IMAGE,
    build_processor,
    build_tokenizer,
    save_processor,
)  # fmt: skip
from medgemma_app.model.chat import ChatTemplate

END_OF_TURN = 106
STOP_IDS = [1, END_OF_TURN]
SAVE_EVERY = 200
# Lessons in a step: many at first, when one step alone would mislead; then fewer, because more steps teach more than larger ones.
LARGE_BATCH, LARGE_STEPS, BATCH = 32, 300, 16
SHORT_SHARE = 0.7  # the share of steps with mostly short prompts
# The share of steps each kind of lesson gets.
MIX = {"findings": 0.27, "pair": 0.21, "soap": 0.48, "copy": 0.04}
COPY_SHARE, COPY_MIX = 0.5, {"findings": 0.16, "pair": 0.10, "soap": 0.36, "copy": 0.38}  # for the first share of steps
TEXT = {
    "model_type": "gemma3_text", "hidden_size": 144, "intermediate_size": 288, "num_hidden_layers": 4, "num_attention_heads": 4,
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
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    config = checkpoint_config(vocabulary)
    model = Gemma3ForConditionalGeneration(Gemma3Config(**{**config, "text_config": dict(config["text_config"])}))
    with torch.no_grad():
        model.model.multi_modal_projector.mm_input_projection_weight.normal_(0, 0.05)
        model.model.language_model.embed_tokens.weight.normal_(0, 0.04)
    return model


def compile_layers(model: Any) -> None:
    tower = model.model.vision_tower
    for layer in (*model.model.language_model.layers, *getattr(tower, "vision_model", tower).encoder.layers):
        layer.forward = torch.compile(layer.forward, dynamic=True)


class Batch:
    """Lessons as padded tensors: ids, labels, image-token marks [rows, length], pixels [pictures, 3, 96, 96], cell labels."""

    def __init__(self, lessons: list[Lesson], chat: ChatTemplate, store: Store, rng: np.random.Generator) -> None:
        prompts = [chat.encode(lesson.prompt) for lesson in lessons]
        answers = [[*chat.tokenizer.encode(lesson.answer, add_special_tokens=False), END_OF_TURN] for lesson in lessons]
        length = max(len(p) + len(a) for p, a in zip(prompts, answers, strict=True))
        self.ids = torch.zeros(len(lessons), length, dtype=torch.long)
        self.labels = torch.full((len(lessons), length), -100)
        for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            self.ids[row, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
            self.labels[row, len(prompt) : len(prompt) + len(answer)] = torch.tensor(answer)
        rows = [row for lesson in lessons for row in lesson.pictures]
        self.pixels = pixel_values(store, rows, rng) if rows else None
        self.cells = torch.from_numpy(store.cells[rows]).float() if rows else None


def pixel_values(store: Store, rows: list[int], rng: np.random.Generator) -> Tensor:
    """The pictures as the processor gives them, with a little change of exposure each time they come up."""
    values = torch.from_numpy(store.pixels[rows]).float() / 127.5 - 1
    shift = torch.from_numpy(rng.uniform(-0.12, 0.12, (len(rows), 1, 1)).astype(np.float32))
    gain = torch.from_numpy(rng.uniform(0.9, 1.1, (len(rows), 1, 1)).astype(np.float32))
    values = (values * gain + shift).clamp(-1, 1)
    return values[:, None].expand(-1, 3, -1, -1)


class Lessons:
    """The batch for any step; it depends on nothing but the step, so that training can be taken up again."""

    def __init__(self, chat: ChatTemplate, store: Store) -> None:
        self.chat, self.store = chat, store
        self.reports = {count: [report for report in store.reports if len(report[0]) == count] for count in (1, 2)}

    def batch(self, step: int, mix: dict[str, float], *, short: bool) -> tuple[str, Batch]:
        """The kind of lesson of this step, and the lessons. Very short prompts halve the work, so that most come first."""
        rng = np.random.default_rng([0, step])
        kind = str(rng.choice(list(mix), p=list(mix.values())))
        wording = {"reword": 0.8, "short": 0.95} if short else {"reword": REWORDED, "short": VERY_SHORT}
        size = LARGE_BATCH if step < LARGE_STEPS or kind == "copy" else BATCH
        return kind, Batch([self._lesson(kind, rng, wording) for _ in range(size)], self.chat, self.store, rng)

    def _lesson(self, kind: str, rng: np.random.Generator, wording: dict[str, float]) -> Lesson:
        if kind == "copy":
            return copy_lesson(rng)
        if kind == "soap":
            return soap_lesson(FIRST_SEED + int(rng.integers(1 << 40)), rng, **wording)
        if rng.random() < 0.02:
            return unseen_lesson(rng, **wording)
        reports = self.reports[1 if kind == "findings" else 2]
        rows, report = reports[int(rng.integers(len(reports)))]
        return findings_lesson(report, rows, rng, **wording)

    def pictures(self, step: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng([1, step])
        rows = rng.integers(len(self.store.pixels), size=2 * LARGE_BATCH).tolist()
        return pixel_values(self.store, rows, rng), torch.from_numpy(self.store.cells[rows]).float()


class Trainer:
    """The model, the head that says what each image token shows (thrown away afterwards), and their optimizer."""

    def __init__(self, model: Any, lessons: Lessons, rate: float) -> None:
        self.model, self.lessons, self.rate = model, lessons, rate
        self.head = nn.Linear(TEXT["hidden_size"], CELL_CLASSES + NODULE_CLASSES)
        self.parameters = [*model.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=rate, betas=(0.9, 0.98), weight_decay=0.02)

    def tower_step(self, step: int) -> float:
        pixels, cells = self.lessons.pictures(step)
        features = self.model.model.get_image_features(pixels).pooler_output
        return self._step(self._cell_loss(features, cells))

    def lesson_step(self, step: int, mix: dict[str, float], *, short: bool) -> tuple[str, float]:
        kind, batch = self.lessons.batch(step, mix, short=short)
        output = self.model.model(
            input_ids=batch.ids, pixel_values=batch.pixels, attention_mask=(batch.ids != 0).long(),
            token_type_ids=(batch.ids == IMAGE_TOKEN).long(), use_cache=False,
        )  # fmt: skip
        targets = batch.labels[:, 1:]
        wanted = targets != -100
        loss = nn.functional.cross_entropy(self.model.lm_head(output.last_hidden_state[:, :-1][wanted]), targets[wanted])
        # In a report only a few words depend on the picture, so that the mean over all words is small however wrong they are.
        both = loss if batch.cells is None else 3 * loss + 0.5 * self._cell_loss(output.image_hidden_states, batch.cells)
        self._step(both)
        return kind, float(loss.detach())

    def state(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "head": self.head.state_dict(), "optimizer": self.optimizer.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.head.load_state_dict(state["head"])
        self.optimizer.load_state_dict(state["optimizer"])

    def _cell_loss(self, features: Tensor, cells: Tensor) -> Tensor:
        """Each image token says what it shows itself, and where in the whole picture a nodule is: one token alone is easily overlooked."""
        anywhere = cells[:, :, -NODULE_CLASSES:].amax(1, keepdim=True).expand(-1, cells.shape[1], -1)
        wanted = torch.cat((cells, anywhere), -1)
        return 4 * nn.functional.binary_cross_entropy_with_logits(
            self.head(features), wanted, pos_weight=torch.full((wanted.shape[-1],), 3.0)
        )

    def _step(self, loss: Tensor) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        return float(loss.detach())

    def set_rate(self, done: float, warm: float) -> None:
        """Warm-up, then a half cosine down to a fiftieth; ``done`` and ``warm`` are shares of the whole."""
        share = min(1.0, done / warm) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * share


class Course:
    """The whole course in steps: the tower alone first, then the lessons; taken up where ``state`` was left."""

    def __init__(self, trainer: Trainer, tower_steps: int, steps: int, state: Path | None) -> None:
        self.trainer, self.tower_steps, self.steps, self.state = trainer, tower_steps, steps, state
        self.losses: dict[str, float] = {}
        self.started = time.monotonic()

    def run(self, save: Callable[[], None]) -> None:
        for step in range(self._restore(), self.tower_steps + self.steps):
            kind, loss = self._step(step)
            self._follow(step, kind, loss)
            if (step + 1) % SAVE_EVERY == 0:
                self._keep(step + 1)
                save()

    def _step(self, step: int) -> tuple[str, float]:
        if step < self.tower_steps:
            self.trainer.set_rate(0.3 * step / self.tower_steps, 0.02)
            return "tower", self.trainer.tower_step(step)
        step -= self.tower_steps
        self.trainer.set_rate(step / self.steps, 0.01)
        mix = COPY_MIX if step < COPY_SHARE * self.steps else MIX
        return self.trainer.lesson_step(step, mix, short=step < SHORT_SHARE * self.steps)

    def _restore(self) -> int:
        if self.state is None or not self.state.exists():
            return 0
        saved = torch.load(self.state)
        self.trainer.restore(saved)
        return int(saved["step"])

    def _keep(self, step: int) -> None:
        if self.state is not None:
            torch.save({"step": step, **self.trainer.state()}, self.state)

    def _follow(self, step: int, kind: str, loss: float) -> None:
        before = self.losses.get(kind, loss)
        self.losses[kind] = 0.97 * before + 0.03 * loss
        if step % 50 == 0:
            shown = "  ".join(f"{name} {value:.4f}" for name, value in sorted(self.losses.items()))
            print(f"{time.monotonic() - self.started:6.0f} s  step {step}  {shown}", flush=True)


def save_checkpoint(model: Any, processor: Any, folder: Path) -> None:
    """Weights, config and processor files under the names released checkpoints use."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    weights = {released_name(name): value.detach().contiguous() for name, value in model.state_dict().items() if name != "lm_head.weight"}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=CHECKPOINT)
    parser.add_argument("--pictures", type=int, default=16_000, help="studies of one picture")
    parser.add_argument("--pairs", type=int, default=5_000, help="studies of two pictures")
    parser.add_argument("--tower-steps", type=int, default=500)
    parser.add_argument("--steps", type=int, default=3_900)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--state", type=Path, help="a file to keep the state of training in, and to take it up from")
    parser.add_argument("--compile", action="store_true", help="compile the layers first, half as long again as fast; needs g++")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    store = draw_store(options.pictures, options.pairs, processes=options.threads)
    processor = build_processor(build_tokenizer(vocabulary_texts([report for _, report in store.reports[-3000:]])))
    chat = ChatTemplate(processor)
    model = build_model(len(processor.tokenizer))
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    if options.compile:
        compile_layers(model)
    trainer = Trainer(model, Lessons(chat, store), options.rate)
    course = Course(trainer, options.tower_steps, options.steps, options.state)
    course.run(lambda: save_checkpoint(model, processor, options.out))
    save_checkpoint(model, processor, options.out)


if __name__ == "__main__":
    main()
