"""Drawn chest radiographs with known findings, with the report or the box that is right for each.

A phantom lives in body coordinates: u runs across (the patient's right is negative and on the picture's left, as on
every radiograph), v runs down, and (0, 0) is the middle of the chest. Only +, -, *, / and sqrt touch the pixels, because
those are rounded the same everywhere: one seed gives the same picture on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medgemma_app.demo.findings import SIDES, Findings, Side, Zone, random_findings, random_pair

Edges = tuple[int, int, int, int]  # y0, x0, y1, x1 in thousandths of the picture's height and width
Field = NDArray[np.float32]  # [256, 256], a brightness or a mask between 0 and 1

SIZE = 256
SIGN: dict[Side, float] = {"right": -1.0, "left": 1.0}
# Where the centre of a nodule may lie, in v: well inside each third of the lung, so that its zone is never in doubt.
ZONE_RANGE: dict[Zone, tuple[float, float]] = {"upper": (-0.52, -0.40), "middle": (-0.20, -0.02), "lower": (0.17, 0.27)}


@dataclass(frozen=True)
class Body:
    """One patient in one exposure: lengths in pixels per unit, positions in pixels, the rest in body units or brightness.

    ``fluid`` (right, left) and ``nodule`` (across, down, size, density) are shares, from 0 to 1, of the range that the findings leave open.
    """

    width: float
    height: float
    x: float
    y: float
    tilt: float
    dome: float
    heart: float
    tissue: float
    lung: float
    rib: float
    ribs: float
    bubble: bool
    fluid: tuple[float, float]
    nodule: tuple[float, float, float, float]


@dataclass(frozen=True)
class Drawing:
    """Pixels [256, 256] uint8, and where each thing was drawn: masks [256, 256] between 0 and 1."""

    pixels: NDArray[np.uint8]
    heart: Field
    fluid: dict[Side, Field]
    nodule: Field

    def box(self) -> Edges | None:
        """Where the nodule is, or None where there is none."""
        rows, columns = (np.flatnonzero((self.nodule > 0.5).any(axis)) for axis in (1, 0))
        if not rows.size:
            return None
        y0, x0, y1, x1 = (round(1000 * int(edge) / SIZE) for edge in (rows[0], columns[0], rows[-1] + 1, columns[-1] + 1))
        return y0, x0, y1, x1


def draw_phantom(seed: int) -> tuple[Image.Image, str]:
    """A drawn chest radiograph (RGB, 256 x 256) and the findings report that is right for it."""
    rng = np.random.default_rng([seed, 1])
    findings = random_findings(rng)
    return as_picture(draw(findings, random_body(rng), rng)), findings.report()


def draw_pair(seed: int) -> tuple[Image.Image, Image.Image, str]:
    """A prior, a current picture of the same patient, and the report on the current one with its comparison."""
    rng = np.random.default_rng([seed, 2])
    prior, current, comparison = random_pair(rng)
    body = random_body(rng)
    first = draw(prior, body, rng)
    second = draw(current, taken_again(body, rng), rng)
    return as_picture(first), as_picture(second), current.report(comparison)


def draw_nodule(seed: int) -> tuple[Image.Image, Edges | None]:
    """A drawn chest radiograph, and the box of its nodule; None where it has no nodule."""
    rng = np.random.default_rng([seed, 4])
    drawing = draw(random_findings(rng, nodules=0.9), random_body(rng), rng)
    return as_picture(drawing), drawing.box()


def random_body(rng: np.random.Generator) -> Body:
    def between(low: float, high: float) -> float:
        return low + (high - low) * float(rng.random())

    return Body(
        width=between(142, 176), height=between(136, 164), x=between(119, 137), y=between(116, 136), tilt=between(-0.05, 0.05),
        dome=between(0.42, 0.50), heart=between(-0.02, 0.02), tissue=between(0.60, 0.76), lung=between(0.14, 0.27),
        rib=between(0.04, 0.11), ribs=between(0.0, 0.13), bubble=bool(rng.random() < 0.4),
        fluid=(between(0, 1), between(0, 1)), nodule=(between(0, 1), between(0, 1), between(0, 1), between(0, 1)),
    )  # fmt: skip


def taken_again(body: Body, rng: np.random.Generator) -> Body:
    """The same patient on another day: placed and exposed a little differently."""
    shift = [float(value) - 0.5 for value in rng.random(4)]
    return replace(
        body, x=body.x + 10 * shift[0], y=body.y + 10 * shift[1], tissue=body.tissue + 0.08 * shift[2], lung=body.lung + 0.05 * shift[3]
    )


def as_picture(drawing: Drawing) -> Image.Image:
    return Image.fromarray(np.repeat(drawing.pixels[:, :, None], 3, axis=2))


def draw(findings: Findings, body: Body, rng: np.random.Generator) -> Drawing:
    """The picture of one body with these findings; ``rng`` gives the exposure and the noise."""
    u, v = _coordinates(body)
    heart = _heart(u, v, body, findings.enlarged)
    nodule_at = _place_nodule(findings, body)
    fluid = {side: _fluid(u, v, side, findings, height) for side, height in zip(SIDES, body.fluid, strict=True)}
    nodule = np.zeros_like(u) if nodule_at is None else _disc(u, v, *nodule_at)
    lungs = _lungs(u, v, body)
    air = lungs * (1 - heart) * (1 - fluid["right"]) * (1 - fluid["left"])
    image = _tissue(u, v, body) * (1 - air) + (body.lung + _inside_lungs(u, v, body)) * air
    image = image + _bones(u, v, body) + (0.16 + 0.12 * body.nodule[3]) * nodule + 0.05 * heart
    image = _exposed(image * _outline(u, v), rng)
    return Drawing(image, heart * lungs, {side: fluid[side] * lungs for side in SIDES}, nodule)


def _coordinates(body: Body) -> tuple[Field, Field]:
    pixels = np.arange(SIZE, dtype=np.float32)
    across, down = (pixels[None, :] - body.x) / body.width, (pixels[:, None] - body.y) / body.height
    return across + body.tilt * down, down - body.tilt * across


def _edge(distance: Any, softness: float) -> Any:
    """0 well below zero, 1 well above, smooth between; ``softness`` is half the width of the ramp."""
    ramp = np.clip(0.5 + distance / (2 * softness), 0.0, 1.0)
    return ramp * ramp * (3 - 2 * ramp)


def _outer(v: Any) -> Any:
    """|u| of the chest wall's inside at height v."""
    return 0.63 * np.sqrt(np.clip(1 - ((v - 0.30) / 1.04) * ((v - 0.30) / 1.04), 0.0, 1.0))


def _inner(v: Any) -> Any:
    """|u| where the mediastinum ends at height v."""
    return 0.115 + 0.05 * np.clip(v + 0.2, 0.0, 1.0)


def _lungs(u: Field, v: Field, body: Body) -> Field:
    across = np.abs(u)
    top = np.where(u < 0, body.dome - 0.03, body.dome).astype(np.float32)  # the liver pushes the right dome up
    sides = _edge(_outer(v) - across, 0.02) * _edge(across - _inner(v), 0.03)
    # The diaphragm is highest near the middle of each lung and falls to the costophrenic angle at the wall.
    diaphragm = top + np.where(across > 0.27, np.float32(1.75), np.float32(0.7)) * (across - 0.27) * (across - 0.27)
    return np.asarray(sides * _edge(diaphragm - v, 0.015) * _edge(v + 0.70, 0.05))


def _heart_shape(body: Body, enlarged: bool) -> tuple[float, float, float, float]:
    """Centre (u, v) and radii (across, down) of the heart."""
    across = (0.365 if enlarged else 0.245) + body.heart
    return (0.075 if enlarged else 0.06), body.dome - 0.17, across, 0.30 if enlarged else 0.25


def _heart(u: Field, v: Field, body: Body, enlarged: bool) -> Field:
    centre_u, centre_v, across, down = _heart_shape(body, enlarged)
    slanted = v - centre_v - 0.35 * (u - centre_u)
    distance = np.sqrt(((u - centre_u) / across) * ((u - centre_u) / across) + (slanted / down) * (slanted / down))
    return np.asarray(_edge(1 - distance, 0.08))


def _fluid(u: Field, v: Field, side: Side, findings: Findings, height: float) -> Field:
    """A pleural effusion: everything below a meniscus that climbs the chest wall."""
    if side not in findings.effusions:
        return np.zeros_like(u)
    crowded = findings.nodule == (side, "lower")  # a large effusion would hide this nodule
    level = 0.45 if crowded else 0.42 - 0.20 * height
    lateral = np.clip((SIGN[side] * u - 0.12) / 0.50, 0.0, 1.2)
    meniscus = level - (0.08 if crowded else 0.16) * lateral * lateral * lateral
    return np.asarray(_edge(v - meniscus, 0.02) * _edge(SIGN[side] * u, 0.02))


def _place_nodule(findings: Findings, body: Body) -> tuple[float, float, float] | None:
    """(u, v, radius) inside the lung and beside the heart, or None."""
    if findings.nodule is None:
        return None
    (side, zone), (across, down, size, _) = findings.nodule, body.nodule
    low, high = ZONE_RANGE[zone]
    v, radius = low + (high - low) * down, 0.050 + 0.022 * size
    inner, outer = float(_inner(v)) + 0.09, float(_outer(v)) - radius - 0.03
    if zone == "lower":
        centre, _, reach, _ = _heart_shape(body, findings.enlarged)
        inner = max(inner, reach + SIGN[side] * centre + 0.03)
    inner = min(inner, outer)
    return SIGN[side] * (inner + (outer - inner) * across), v, radius


def _disc(u: Field, v: Field, centre_u: float, centre_v: float, radius: float) -> Field:
    distance = np.sqrt((u - centre_u) * (u - centre_u) + (v - centre_v) * (v - centre_v))
    return np.asarray(_edge(radius - distance, 0.018))


def _outline(u: Field, v: Field) -> Field:
    """The body against the black of the empty picture: a neck, shoulders, and flanks."""
    below_neck, flank = np.clip(v + 0.98, 0.0, 1.0), 0.86 - 0.05 * v
    return np.asarray(_edge(np.minimum(0.20 + 3.8 * below_neck * below_neck, flank) - np.abs(u), 0.03))


def _tissue(u: Field, v: Field, body: Body) -> Field:
    """Soft tissue: brighter in the middle and below the diaphragm, with a dark windpipe and sometimes a stomach bubble."""
    middle = _edge(0.13 - np.abs(u), 0.07)
    belly = _edge(v - body.dome, 0.12)
    windpipe = _edge(0.028 - np.abs(u), 0.02) * _edge(-0.16 - v, 0.06)
    skin = _edge(np.abs(u) - 0.70, 0.12)
    bubble = _disc(u, v, 0.30, body.dome + 0.14, 0.07) if body.bubble else 0.0
    return np.asarray(body.tissue + 0.10 * middle + 0.08 * belly - 0.20 * windpipe - 0.12 * skin - 0.22 * bubble)


def _inside_lungs(u: Field, v: Field, body: Body) -> Field:
    """What brightens a healthy lung: the hila, and vessels that thin out towards the wall."""
    across = np.abs(u)
    hilum = _edge(0.16 - np.sqrt((across - 0.14) * (across - 0.14) + 0.35 * (v + 0.06) * (v + 0.06)), 0.11)
    lines = [np.abs(v + 0.06 - slope * (across - 0.13)) / (1 + abs(slope)) for slope in (-1.5, -0.7, -0.1, 0.5, 1.2)]
    vessels = _edge(0.012 - np.minimum.reduce(lines), 0.012) * np.clip(0.45 - across, 0.0, 1.0)
    return np.asarray(0.13 * hilum + 0.16 * vessels)


def _bones(u: Field, v: Field, body: Body) -> Field:
    across = np.abs(u)
    wall = _edge(_outer(v) + 0.05 - across, 0.03) * _edge(across - 0.05, 0.03)
    rank = (v + 0.72 - body.ribs - 0.55 * (across - 0.25) * across) / 0.145  # the ribs lie at whole numbers
    arcs = _edge(0.026 - 0.145 * np.abs(rank - np.floor(rank + 0.5)), 0.014) * _edge(rank + 0.5, 0.2)
    collar = _edge(0.022 - np.abs(v + 0.60 + 0.28 * (across - 0.3)), 0.015) * _edge(across - 0.07, 0.03) * _edge(0.62 - across, 0.05)
    spine = _edge(0.055 - across, 0.02)
    return np.asarray(body.rib * wall * arcs * _edge(body.dome + 0.15 - v, 0.15) + 1.2 * body.rib * collar + 0.06 * spine)


def _exposed(image: Field, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Contrast, brightness, grain and quantum noise; [256, 256] uint8."""
    contrast, brightness, grain, speckle = (float(value) for value in rng.random(4))
    image = (0.84 + 0.34 * contrast) * (image - 0.45) + 0.40 + 0.10 * brightness
    fine = rng.random((SIZE, SIZE), dtype=np.float32) - rng.random((SIZE, SIZE), dtype=np.float32)
    coarse = np.repeat(np.repeat(rng.random((SIZE // 4, SIZE // 4), dtype=np.float32) - 0.5, 4, axis=0), 4, axis=1)
    image = np.asarray(image + (0.01 + 0.05 * grain) * fine + 0.03 * speckle * coarse, np.float32)
    return np.asarray(np.clip(image, 0.0, 1.0) * 255).astype(np.uint8)
