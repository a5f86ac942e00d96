"""The store of drawn pictures the demo is trained on, as small as the model sees them, with what lies where in each."""

from __future__ import annotations

from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medgemma_app.demo.phantoms import SIDES, ZONES, Drawing, Findings, draw, random_body, random_findings, random_pair, taken_again
from medgemma_app.demo.training.tokenizer import IMAGE_SIZE, IMAGE_TOKENS

FIRST_SEED = 1_000_000  # users and tests draw with small seeds
GRID = 6  # image tokens on a side
# What one image token may show: a heart of normal size, an enlarged one, fluid right or left, a nodule in one of six places.
CELL_CLASSES, NODULE_CLASSES = 10, 6


@dataclass(frozen=True)
class Store:
    """``pixels`` [n, 96, 96] and ``cells`` [n, 36, 10], both uint8; ``reports`` names the rows and the text of each report."""

    pixels: NDArray[np.uint8]
    cells: NDArray[np.uint8]
    reports: list[tuple[tuple[int, ...], str]]


@dataclass(frozen=True)
class Study:
    pixels: tuple[NDArray[np.uint8], ...]
    cells: tuple[NDArray[np.uint8], ...]
    report: str


def draw_store(single: int, pairs: int, *, processes: int) -> Store:
    """Draws ``single`` studies of one picture and ``pairs`` of two."""
    with get_context("spawn").Pool(processes) as pool:
        studies = list(pool.imap(_single, range(FIRST_SEED, FIRST_SEED + single), chunksize=100))
        studies += list(pool.imap(_pair, range(FIRST_SEED, FIRST_SEED + pairs), chunksize=100))
    reports, row = [], 0
    for study in studies:
        reports.append((tuple(range(row, row + len(study.pixels))), study.report))
        row += len(study.pixels)
    return Store(np.stack([p for s in studies for p in s.pixels]), np.stack([c for s in studies for c in s.cells]), reports)


def _single(seed: int) -> Study:
    rng = np.random.default_rng([seed, 1])
    findings = random_findings(rng)
    drawing = draw(findings, random_body(rng), rng)
    return Study((shrunk(drawing.pixels),), (cell_labels(drawing, findings),), findings.report())


def _pair(seed: int) -> Study:
    rng = np.random.default_rng([seed, 2])
    prior, current, comparison = random_pair(rng)
    body = random_body(rng)
    first, second = draw(prior, body, rng), draw(current, taken_again(body, rng), rng)
    labels = (cell_labels(first, prior), cell_labels(second, current))
    return Study((shrunk(first.pixels), shrunk(second.pixels)), labels, current.report(comparison))


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
