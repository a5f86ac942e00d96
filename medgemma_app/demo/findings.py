"""What a phantom may show, chosen by chance, and the findings report that is right for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

Side = Literal["right", "left"]
Zone = Literal["upper", "middle", "lower"]

SIDES: tuple[Side, ...] = ("right", "left")
ZONES: tuple[Zone, ...] = ("upper", "middle", "lower")
EFFUSIONS: tuple[tuple[Side, ...], ...] = ((), ("right",), ("left",), ("right", "left"))
NODULES: tuple[tuple[Side, Zone] | None, ...] = (None, *((side, zone) for side in SIDES for zone in ZONES))


@dataclass(frozen=True)
class Findings:
    """What a phantom shows. ``effusions`` holds the sides with fluid, ``nodule`` its side and zone."""

    enlarged: bool = False
    effusions: tuple[Side, ...] = ()
    nodule: tuple[Side, Zone] | None = None

    def report(self, comparison: str = "") -> str:
        """The report that is right for these findings, with an optional closing sentence on the prior."""
        sentences = [self._heart(), self._fluid(), self.lungs(), *([comparison] if comparison else [])]
        return f"FINDINGS:\n{' '.join(sentences)}\n\nIMPRESSION:\n{self._impression()}"

    def _heart(self) -> str:
        return "The heart is enlarged." if self.enlarged else "The heart is normal in size."

    def _fluid(self) -> str:
        if len(self.effusions) == 2:
            return "There are pleural effusions on both sides."
        return f"There is a {self.effusions[0]} pleural effusion." if self.effusions else "There is no pleural effusion."

    def lungs(self) -> str:
        if self.nodule:
            return f"There is a nodule in the {' '.join(self.nodule)} zone."
        return "The lungs are otherwise clear." if self.effusions else "The lungs are clear."

    def _impression(self) -> str:
        fluid = [f"Pleural effusion on the {side}." for side in self.effusions]
        points = fluid if len(fluid) < 2 else ["Bilateral pleural effusions."]
        points += [f"Nodule in the {' '.join(self.nodule)} zone."] if self.nodule else []
        points += ["Enlarged heart."] if self.enlarged else []
        return "\n".join(f"{number}. {point}" for number, point in enumerate(points, 1)) or "No acute abnormality."


def random_findings(rng: np.random.Generator, *, nodules: float = 0.65) -> Findings:
    """Any of the 2 x 4 x 7 combinations; ``nodules`` is the share of chests with a nodule."""
    enlarged = bool(rng.random() < 0.45)
    effusions = EFFUSIONS[int(rng.choice(4, p=[0.4, 0.2, 0.2, 0.2]))]
    nodule = NODULES[int(rng.integers(1, 7))] if rng.random() < nodules else None
    return Findings(enlarged, effusions, nodule)


def random_pair(rng: np.random.Generator) -> tuple[Findings, Findings, str]:
    """The findings before and after, of which at most one differs, and the sentence that says so."""
    current = random_findings(rng)
    change = int(rng.integers(0, 4))
    if change == 1:
        prior, size = replace(current, enlarged=not current.enlarged), "larger" if current.enlarged else "smaller"
        return prior, current, f"The heart is {size} than on the prior."
    if change == 2:
        return _fluid_changed(current, SIDES[int(rng.integers(2))])
    if change == 3:
        return _nodule_changed(current, rng)
    return current, current, "Unchanged since the prior."


def _fluid_changed(current: Findings, side: Side) -> tuple[Findings, Findings, str]:
    if side in current.effusions:
        before = tuple(other for other in current.effusions if other != side)
        return replace(current, effusions=before), current, f"The {side} pleural effusion is new since the prior."
    both = tuple(other for other in SIDES if other == side or other in current.effusions)
    return replace(current, effusions=both), current, f"The {side} pleural effusion of the prior has resolved."


def _nodule_changed(current: Findings, rng: np.random.Generator) -> tuple[Findings, Findings, str]:
    if current.nodule:
        return replace(current, nodule=None), current, "The nodule is new since the prior."
    prior = replace(current, nodule=NODULES[int(rng.integers(1, 7))])
    return prior, current, "The nodule of the prior has resolved."
