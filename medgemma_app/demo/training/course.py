"""The course of training: batches of lessons, the loss, and how the learning rate goes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from medgemma_app.demo.training.checkpoint import TEXT
from medgemma_app.demo.training.lessons import REWORDED, VERY_SHORT, Wording, draw_lesson
from medgemma_app.demo.training.pictures import CELL_CLASSES, NODULE_CLASSES, Store
from medgemma_app.demo.training.tokenizer import END_OF_TURN, IMAGE_TOKEN
from medgemma_app.model.chat import ChatTemplate

# The share of each kind of lesson in a batch: until half of the course is done, and then.
FIRST_MIX = {"findings": 0.14, "pair": 0.16, "locate": 0.12, "soap": 0.36, "copy": 0.22}
MIX = {"findings": 0.13, "pair": 0.20, "locate": 0.14, "soap": 0.49, "copy": 0.04}
FIRST_SHARE = 0.5  # of the course, with mostly short prompts, which take half the time
FIRST_WORDING, WORDING = Wording(0.8, 0.95), Wording(REWORDED, VERY_SHORT)
PICTURE_WEIGHT = 3.0  # only a few words of a report depend on the picture, so that its mean loss is small however wrong they are
BIN = 20  # thousandths of the picture that one class of a box's edge covers
BINS = 1000 // BIN
REPORT_EVERY = 100


@dataclass(frozen=True)
class Length:
    """How long the course is, in steps and, where ``seconds`` are given, no longer than these."""

    tower_steps: int
    steps: int
    batch: int
    rate: float
    seconds: float = math.inf


class Batches:
    """The lessons of any step as padded tensors; they depend on nothing but the step and the share of the course that is done."""

    def __init__(self, chat: ChatTemplate, store: Store, length: Length) -> None:
        self.chat, self.store, self.length = chat, store, length

    def __getitem__(self, index: tuple[int, bool]) -> dict[str, Any]:
        """``ids``, ``labels`` and ``weights`` [lessons, tokens], and the ``rows`` of all pictures in their order."""
        step, is_first = index
        rng, mix = np.random.default_rng([0, step]), FIRST_MIX if is_first else MIX
        kinds = rng.choice(list(mix), self.length.batch, p=list(mix.values()))
        lessons = [draw_lesson(str(kind), self.store, rng, FIRST_WORDING if is_first else WORDING) for kind in kinds]
        prompts = [self.chat.encode(lesson.prompt) for lesson in lessons]
        answers = [[*self.chat.tokenizer.encode(lesson.answer, add_special_tokens=False), END_OF_TURN] for lesson in lessons]
        longest = max(len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True))
        ids, labels = np.zeros((len(lessons), longest), np.int64), np.full((len(lessons), longest), -100)
        for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            ids[row, : len(prompt) + len(answer)] = prompt + answer
            labels[row, len(prompt) : len(prompt) + len(answer)] = answer
        weights = [PICTURE_WEIGHT if lesson.pictures else 1.0 for lesson in lessons]
        return {
            "ids": torch.from_numpy(ids), "labels": torch.from_numpy(labels), "weights": torch.tensor(weights),
            "rows": torch.tensor([row for lesson in lessons for row in lesson.pictures], dtype=torch.long),
        }  # fmt: skip


class Trainer:
    """The model, the head that says what each image token shows (thrown away afterwards), and their optimizer."""

    def __init__(self, model: Any, store: Store, length: Length, device: torch.device) -> None:
        self.model, self.length, self.device = model.to(device), length, device
        self.pixels, self.cells, self.boxes = (torch.from_numpy(one).to(device) for one in (store.pixels, store.cells, store.boxes))
        self.head = nn.Linear(TEXT["hidden_size"], CELL_CLASSES + NODULE_CLASSES + 4 * BINS).to(device)
        self.parameters = [*model.parameters(), *self.head.parameters()]
        fused = device.type == "cuda"
        self.optimizer = torch.optim.AdamW(self.parameters, lr=length.rate, betas=(0.9, 0.98), weight_decay=0.02, fused=fused)

    def tower_step(self) -> Tensor:
        rows = torch.randint(len(self.pixels), (2 * self.length.batch,), device=self.device)
        features = self.model.model.get_image_features(self._exposed(rows)).pooler_output
        return self._step(self._sight_loss(features, rows))

    def lesson_step(self, batch: dict[str, Tensor]) -> Tensor:
        """The mean loss over the answers' tokens."""
        ids, labels, weights, rows = (batch[name].to(self.device, non_blocking=True) for name in ("ids", "labels", "weights", "rows"))
        output = self.model.model(
            input_ids=ids, pixel_values=self._exposed(rows) if len(rows) else None, attention_mask=(ids != 0).long(),
            token_type_ids=(ids == IMAGE_TOKEN).long(), use_cache=False,
        )  # fmt: skip
        targets = labels[:, 1:]
        wanted = targets != -100
        losses = nn.functional.cross_entropy(
            self.model.lm_head(output.last_hidden_state[:, :-1][wanted]), targets[wanted], reduction="none"
        )
        loss = (losses * weights[:, None].expand_as(targets)[wanted]).mean()
        if len(rows):
            loss = loss + 0.5 * self._sight_loss(output.image_hidden_states, rows)
        self._step(loss)
        return losses.detach().mean()

    def set_rate(self, done: float, warm: float = 0.01) -> None:
        """Warm-up, then a half cosine down to a fiftieth; ``done`` and ``warm`` are shares of the whole."""
        share = min(1.0, done / warm) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        for group in self.optimizer.param_groups:
            group["lr"] = self.length.rate * share

    def _exposed(self, rows: Tensor) -> Tensor:
        """The pictures [n, 3, 96, 96] as the processor gives them, with a little change of exposure each time they come up."""
        values = self.pixels[rows].float() / 127.5 - 1
        change = torch.rand(2, len(rows), 1, 1, device=self.device) - 0.5
        values = (values * (1 + 0.2 * change[0]) + 0.24 * change[1]).clamp(-1, 1)
        return values[:, None].expand(-1, 3, -1, -1)

    def _sight_loss(self, features: Tensor, rows: Tensor) -> Tensor:
        """Each image token says what it shows, where in the whole picture a nodule is, and, where it shows one, the nodule's box."""
        cells = self.cells[rows].float()
        nodules = cells[:, :, -NODULE_CLASSES:]
        wanted = torch.cat((cells, nodules.amax(1, keepdim=True).expand(-1, cells.shape[1], -1)), -1)
        said = self.head(features)
        weight = torch.full((wanted.shape[-1],), 3.0, device=self.device)
        loss = 4 * nn.functional.binary_cross_entropy_with_logits(said[..., : wanted.shape[-1]], wanted, pos_weight=weight)
        shows = nodules.amax(-1) > 0
        edges = said[..., wanted.shape[-1] :][shows].reshape(-1, BINS)
        places = (self.boxes[rows][:, None].expand(-1, cells.shape[1], -1)[shows] // BIN).clamp(0, BINS - 1).reshape(-1)
        return loss + 0.3 * nn.functional.cross_entropy(edges, places) if len(places) else loss

    def _step(self, loss: Tensor) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        return loss.detach()


class Course:
    """The tower alone first, then the lessons, which ``workers`` processes write."""

    def __init__(self, trainer: Trainer, batches: Batches, workers: int) -> None:
        self.trainer, self.batches, self.workers = trainer, batches, workers
        self.length, self.started, self.losses = batches.length, time.monotonic(), list[Tensor]()

    def run(self, save: Callable[[], None], every: float) -> None:
        """Calls ``save`` every so many seconds, and at the end."""
        self._teach_tower()
        saved = began = time.monotonic()
        loader = DataLoader(self.batches, batch_size=None, sampler=self._plan(began), num_workers=self.workers)
        for step, batch in enumerate(loader):
            self.trainer.set_rate(self._done(step, began))
            self._follow("lessons", step, self.trainer.lesson_step(batch))
            if time.monotonic() - saved > every:
                save()
                saved = time.monotonic()
        save()

    def _teach_tower(self) -> None:
        for step in range(self.length.tower_steps):
            self.trainer.set_rate(0.3 * step / self.length.tower_steps)
            self._follow("tower", step, self.trainer.tower_step())

    def _plan(self, began: float) -> Iterator[tuple[int, bool]]:
        """The steps, and whether each belongs to the first part; they end when the time is up."""
        for step in range(self.length.steps):
            done = self._done(step, began)
            if done >= 1:
                return
            yield step, done < FIRST_SHARE

    def _done(self, step: int, began: float) -> float:
        return max(step / self.length.steps, (time.monotonic() - began) / self.length.seconds)

    def _follow(self, part: str, step: int, loss: Tensor) -> None:
        self.losses.append(loss)
        if step % REPORT_EVERY == 0:
            print(f"{time.monotonic() - self.started:6.0f} s  {part} {step}  loss {torch.stack(self.losses).mean():.4f}", flush=True)
            self.losses.clear()
