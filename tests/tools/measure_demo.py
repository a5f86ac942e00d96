"""How often the demo is exactly right on seeds it never saw, through the library's own functions (``make measure-demo``)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from medgemma_app import LocateReport, MedGemma, findings, findings_many, locate, soap_many
from medgemma_app.demo import draw_nodule, draw_pair, draw_phantom, write_notes
from medgemma_app.inputs.notes import read_raw_notes

Results = Iterable[tuple[Any, Any]]  # reports, and the text or the box that is right


def main(count: str = "200", first: str = "0", *names: str) -> None:
    """Prints what is right for ``count`` seeds from ``first`` on, in all rows or the named ones; training draws from a million on."""
    demo, raw, seeds = MedGemma.load("demo"), MedGemma.load("demo", align=False), range(int(first), int(first) + int(count))
    pictures, texts = zip(*map(draw_phantom, seeds), strict=True)
    rows: dict[str, Results] = {
        "findings": zip(findings_many(demo, pictures), texts, strict=True),
        "prior": ((findings(demo, now, prior=old), text) for old, now, text in map(draw_pair, seeds)),
        "JSON": notes_and_texts(demo, seeds, form="json"),
        "text": notes_and_texts(demo, seeds, form="text"),
        "dialogue": notes_and_texts(demo, seeds, form="dialogue"),
        "invented names": notes_and_texts(demo, seeds, invented=1.0),
        "findings as mlx-vlm computes them": ((findings(raw, picture), text) for picture, text in zip(pictures, texts, strict=True)),
        "locate": ((locate(demo, image, "nodule"), box) for image, box in map(draw_nodule, seeds)),
    }
    for name in names or rows:
        (measure_boxes if name == "locate" else measure)(name, rows[name])


def notes_and_texts(model: MedGemma, seeds: Iterable[int], **how: Any) -> Results:
    notes, texts = zip(*map(partial(write_notes, **how), seeds), strict=True)
    read = (read_raw_notes(one.encode(), "the text") if isinstance(one, str) else one for one in notes)
    return zip(soap_many(model, read), texts, strict=True)


def measure(name: str, results: Results, say: Callable[[str], object] = print) -> None:
    done = [(report.text == wanted, report.validation.ok, report.text) for report, wanted in results]
    exact, valid = sum(row[0] for row in done), sum(row[1] for row in done)
    say(f"{name}: {exact} of {len(done)} exactly right, {valid} without an error, {len({row[2] for row in done})} different texts")


def measure_boxes(name: str, results: Results) -> None:
    done = list(results)
    overlaps = [overlap(report, box) for report, box in done if box]
    none = [not report.boxes for report, box in done if not box]
    good, valid = sum(value > 0.5 for value in overlaps), sum(report.validation.ok for report, _ in done)
    print(f"{name}: IoU above 0.5 for {good} of {len(overlaps)} nodules, mean {sum(overlaps) / len(overlaps):.2f};", end=" ")
    print(f"no box in {sum(none)} of {len(none)} pictures without one; {valid} of {len(done)} without an error")


def overlap(report: LocateReport, box: tuple[int, int, int, int]) -> float:
    """Intersection over union of the only box and the right one; 0 for no box or several."""
    if len(report.boxes) != 1:
        return 0.0
    found = report.boxes[0].box_2d
    height, width = (max(0.0, min(found[at + 2], box[at + 2]) - max(found[at], box[at])) for at in (0, 1))
    areas = [(one[2] - one[0]) * (one[3] - one[1]) for one in (found, box)]
    return height * width / (sum(areas) - height * width)


if __name__ == "__main__":
    main(*sys.argv[1:])
