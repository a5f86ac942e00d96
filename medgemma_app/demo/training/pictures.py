"""The store of drawn pictures the demo is trained on, as small as the model sees them, with what lies where in each."""

from __future__ import annotations

from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medgemma_app.demo.findings import SIDES, ZONES, Findings, random_findings, random_pair
from medgemma_app.demo.phantoms import Drawing, Edges, draw, random_body, taken_again
from medgemma_app.demo.training.tokenizer import IMAGE_SIZE, IMAGE_TOKENS

FIRST_SEED = 1_000_000  # users and tests draw with small seeds
GRID = 6  # image tokens on a side
# What one image token may show: a heart of normal size, an enlarged one, fluid right or left, a nodule in one of six places.
CELL_CLASSES, NODULE_CLASSES = 10, 6


@dataclass(frozen=True)
class DrawnStudy:
    """One picture, or a prior and a current one [96, 96] uint8, with what each shows; ``report`` is on the last."""

    pixels: tuple[NDArray[np.uint8], ...]
    cells: tuple[NDArray[np.uint8], ...]
    boxes: tuple[Edges | None, ...]
    report: str
    lungs: str  # the report's sentence on the lungs


@dataclass(frozen=True)
class StoredStudy:
    """A study in the store: the rows of its pictures, its texts, and the box of a nodule in the last picture."""

    rows: tuple[int, ...]
    report: str
    lungs: str
    box: Edges | None


@dataclass(frozen=True)
class Store:
    """``pixels`` [n, 96, 96] uint8, ``cells`` [n, 36, 10] uint8, ``boxes`` [n, 4] in thousandths, -1 where there is no nodule."""

    pixels: NDArray[np.uint8]
    cells: NDArray[np.uint8]
    boxes: NDArray[np.int64]
    single: list[StoredStudy]
    pairs: list[StoredStudy]


def draw_store(single: int, pairs: int, *, processes: int) -> Store:
    """Draws ``single`` studies of one picture and ``pairs`` of two."""
    with get_context("spawn").Pool(processes) as pool:
        studies = list(pool.imap(_single, range(FIRST_SEED, FIRST_SEED + single), chunksize=100))
        studies += list(pool.imap(_pair, range(FIRST_SEED, FIRST_SEED + pairs), chunksize=100))
    entries, row = [], 0
    for study in studies:
        entries.append(StoredStudy(tuple(range(row, row + len(study.pixels))), study.report, study.lungs, study.boxes[-1]))
        row += len(study.pixels)
    boxes = np.array([box or (-1,) * 4 for study in studies for box in study.boxes])
    pixels, cells = (np.stack([one for study in studies for one in getattr(study, name)]) for name in ("pixels", "cells"))
    return Store(pixels, cells, boxes, entries[:single], entries[single:])


def _single(seed: int) -> DrawnStudy:
    rng = np.random.default_rng([seed, 1])
    findings = random_findings(rng)
    drawing = draw(findings, random_body(rng), rng)
    return DrawnStudy((shrunk(drawing.pixels),), (cell_labels(drawing, findings),), (drawing.box(),), findings.report(), findings.lungs())


def _pair(seed: int) -> DrawnStudy:
    rng = np.random.default_rng([seed, 2])
    prior, current, comparison = random_pair(rng)
    body = random_body(rng)
    drawings = draw(prior, body, rng), draw(current, taken_again(body, rng), rng)
    cells = tuple(cell_labels(drawing, shown) for drawing, shown in zip(drawings, (prior, current), strict=True))
    boxes = tuple(drawing.box() for drawing in drawings)
    return DrawnStudy(tuple(shrunk(drawing.pixels) for drawing in drawings), cells, boxes, current.report(comparison), current.lungs())


def shrunk(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Resized just as the checkpoint's image processor does it."""
    return np.asarray(Image.fromarray(pixels).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR))


def cell_labels(drawing: Drawing, findings: Findings) -> NDArray[np.uint8]:
    """[36, 10] of 0 and 1: what each image token should know, in the order of CELL_CLASSES."""
    labels = np.zeros((IMAGE_TOKENS, CELL_CLASSES), np.uint8)
    labels[:, int(findings.enlarged)] = _share(drawing.heart) > 0.25
    for column, side in enumerate(SIDES, 2):
        labels[:, column] = _share(drawing.fluid[side]) > 0.10
    if findings.nodule:
        side, zone = findings.nodule
        share = _share(drawing.nodule)
        labels[:, 4 + 3 * SIDES.index(side) + ZONES.index(zone)] = share > 0.6 * share.max()
    return labels


def _share(mask: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much of each of the 36 cells a [256, 256] mask covers."""
    edges = [round(index * mask.shape[0] / GRID) for index in range(GRID)]
    area = (mask.shape[0] / GRID) ** 2
    return np.asarray(np.add.reduceat(np.add.reduceat(mask, edges, axis=0), edges, axis=1) / area).reshape(-1)
