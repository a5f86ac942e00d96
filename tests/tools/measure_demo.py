"""How often the demo is exactly right on seeds it never saw, through findings() and soap() themselves (``make measure-demo``)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

from medgemma_app import MedGemma, findings, soap
from medgemma_app.demo import draw_pair, draw_phantom, write_notes


def main(seeds: str = "200") -> None:
    """Prints exact and valid reports for the first ``seeds`` seeds; training draws from a million on."""
    demo, raw, numbers = MedGemma.load("demo"), MedGemma.load("demo", align=False), range(int(seeds))
    measure("findings", ((findings(demo, image), text) for image, text in map(draw_phantom, numbers)))
    measure("findings with a prior", ((findings(demo, now, prior=old), text) for old, now, text in map(draw_pair, numbers)))
    measure("SOAP notes", ((soap(demo, notes), text) for notes, text in map(write_notes, numbers)))
    hard = (write_notes(seed, invented=1.0) for seed in numbers)
    measure("SOAP notes with invented drug names", ((soap(demo, notes), text) for notes, text in hard))
    measure("findings as mlx-vlm computes them", ((findings(raw, image), text) for image, text in map(draw_phantom, numbers)))


def measure(name: str, results: Iterable[tuple[Any, str]], say: Callable[[str], object] = print) -> None:
    done = [(report.text == wanted, report.validation.ok, report.text) for report, wanted in results]
    exact, valid = sum(row[0] for row in done), sum(row[1] for row in done)
    say(f"{name}: {exact} of {len(done)} exactly right, {valid} valid, {len({row[2] for row in done})} different texts")


if __name__ == "__main__":
    main(*sys.argv[1:2])
