"""The boxes in an answer: read strictly, with an issue for every way in which they can be wrong."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from medgemma_app.model.generation import FinishReason
from medgemma_app.validate.core import Issue, Validation, excerpt
from medgemma_app.validate.reports import validate_answer

SCALE = 1000  # what the prompt asks for; the technical report (arXiv 2507.05201) also speaks of 0..1
MOST_BOXES = 100
_FINAL = re.compile(r"final answer\W{0,10}:", re.IGNORECASE)
_FENCED = re.compile(r"```[ \t]*json\b(.*?)```", re.IGNORECASE | re.DOTALL)


class NormalisedBox(NamedTuple):
    """A labelled box: its edges in thousandths of the square that the model sees, and its number in the answer."""

    label: str
    y0: float
    x0: float
    y1: float
    x1: float
    number: int = 1

    @property
    def edges(self) -> tuple[float, float, float, float]:
        return self[1:5]


def validate_boxes(
    text: str, *, finish_reason: FinishReason = "stop", has_thought: bool = False
) -> tuple[tuple[NormalisedBox, ...], Validation]:
    """Returns the usable boxes of an answer, and the issues with its form and with each box. Never raises on any text.

    A box with an error is left out.
    """
    form = validate_answer(text, finish_reason=finish_reason, has_thought=has_thought)
    advice = "the text repeats itself in a loop; set --temperature above 0 to get another answer"  # a penalty would garble numbers
    issues = [replace(issue, message=advice) if issue.code == "repetition" else issue for issue in form.issues]
    if any(issue.code in ("no-answer", "thought-only") for issue in issues):
        return (), form
    try:
        items = _items(text)
    except ValueError as error:
        return (), Validation((*issues, Issue("malformed-boxes", "error", str(error), excerpt(text[-200:]))))
    if not items:
        issues.append(Issue("no-box", "warning", "the answer is an empty list: the model saw no such structure"))
    boxes, found = _scaled(items)
    return tuple(boxes), Validation((*issues, *found))


def _items(text: str) -> list[Any]:
    """The list in the fenced block after "Final Answer:". Raises ValueError, whose message says what is wrong, if there is none."""
    final = list(_FINAL.finditer(text))
    if not final:
        raise ValueError('the answer has no "Final Answer:", so its boxes cannot be found')
    blocks = _FENCED.findall(text, final[-1].end())
    if len(blocks) != 1:
        several = 'there are several fenced blocks after "Final Answer:"; it is unclear which one is meant'
        raise ValueError(several if blocks else 'there is no fenced ```json block after "Final Answer:", or it is never closed')
    try:
        found = json.loads(blocks[0])
    except (ValueError, RecursionError) as error:
        raise ValueError("the fenced block is not JSON") from error
    if not isinstance(found, list):
        raise ValueError("the JSON of the fenced block is not a list of boxes")
    if len(found) > MOST_BOXES:
        raise ValueError(f"the answer has more than {MOST_BOXES} boxes")
    return found


def _scaled(items: Sequence[Any]) -> tuple[list[NormalisedBox], list[Issue]]:
    """Returns the usable boxes, on the scale 0..1000, and the issues with all of them."""
    read = [_read(item, number) for number, item in enumerate(items, 1)]
    boxes = [one for one in read if isinstance(one, NormalisedBox)]
    issues = [one for one in read if isinstance(one, Issue)]
    small = [box for box in boxes if max(box.edges) <= 1]
    if not small:
        return boxes, issues
    if small == boxes and any(edge % 1 for box in boxes for edge in box.edges):
        message = "the boxes are in 0..1, not in 0..1000 as the prompt asks; they were multiplied by 1000"
        scaled = [NormalisedBox(box.label, box.y0 * SCALE, box.x0 * SCALE, box.y1 * SCALE, box.x1 * SCALE, box.number) for box in boxes]
        return scaled, [*issues, Issue("box-scale", "warning", message)]
    message = "all edges of a box are at most 1, so it is unclear whether it is in 0..1 or in 0..1000"
    return [box for box in boxes if box not in small], [*issues, Issue("box-scale", "error", message)]


def _read(item: Any, number: int) -> NormalisedBox | Issue:
    """Returns a box as written, or the issue with it."""
    if not isinstance(item, dict):
        return Issue("malformed-boxes", "error", f"box {number} is not an object with box_2d and label")
    if missing := [key for key in ("box_2d", "label") if key not in item]:
        return Issue("malformed-boxes", "error", f"box {number} has no {missing[0]}", excerpt(", ".join(item)))
    edges, label, shown = item["box_2d"], item["label"], excerpt(str(item["box_2d"]))
    if not isinstance(label, str) or not label.strip():
        return Issue("malformed-boxes", "error", f"box {number}: its label is not a string")
    if not isinstance(edges, list) or len(edges) != 4 or not all(_is_number(edge) for edge in edges):
        return Issue("malformed-boxes", "error", f"box {number}: its box_2d is not a list of four numbers", shown)
    y0, x0, y1, x1 = map(float, edges)
    if not all(0 <= edge <= SCALE for edge in edges):
        return Issue("impossible-box", "error", f"box {number}: an edge is outside 0..{SCALE}", shown)
    if not (y0 < y1 and x0 < x1):
        return Issue("impossible-box", "error", f"box {number}: its edges are not in the order y0 < y1, x0 < x1", shown)
    return NormalisedBox(label.strip(), y0, x0, y1, x1, number)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 10**9 and not math.isnan(value)
