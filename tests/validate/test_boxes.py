"""The boxes of an answer: what is read, and what is said of every malformed shape."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgemma_app.validate import validate_boxes


def answer(content, *, before="The clavicle is a thin bone.\nFinal Answer:\n", fence="```json\n{}\n```"):
    return before + fence.replace("{}", content if isinstance(content, str) else json.dumps(content))


def box(*edges, label="right clavicle"):
    return {"box_2d": list(edges), "label": label}


GOOD = box(100, 200, 300, 400.5)


@pytest.mark.parametrize(
    "text",
    [
        answer([GOOD]),
        answer([GOOD], before="Final Answer: ", fence="```json{}```"),
        answer([GOOD], before="Reasoning: a box is [1, 2, 3, 4].\n```json\n[]\n```\n**Final answer**:\n"),
        answer([{**GOOD, "confidence": 0.9}], before="Final Answer: X\nFinal Answer:"),
        answer([GOOD]) + "\nThe box is approximate.",
    ],
)
def test_a_box_is_read_from_the_fenced_list_after_the_final_answer(text):
    boxes, validation = validate_boxes(text)
    assert boxes == (("right clavicle", 100, 200, 300, 400.5, 1),)
    assert validation.issues == ()


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        (answer([GOOD], before="Here it is:\n"), "malformed-boxes", 'no "Final Answer:"'),
        (answer([GOOD], fence="{}"), "malformed-boxes", "no fenced ```json block"),
        (answer([GOOD], fence="```\n{}\n```"), "malformed-boxes", "no fenced ```json block"),
        (answer([GOOD], fence="```json\n{}"), "malformed-boxes", "never closed"),
        (answer([GOOD]) + answer([GOOD], before="\nOr:\n"), "malformed-boxes", "several fenced blocks"),
        (answer("[{'box_2d': [1, 2, 3, 4], 'label': 'x'}]"), "malformed-boxes", "is not JSON"),
        (answer("[" * 9000), "malformed-boxes", "is not JSON"),
        (answer("[" + "9" * 5000 + "]"), "malformed-boxes", "is not JSON"),
        (answer(GOOD), "malformed-boxes", "is not a list"),
        (answer([box(i, i, i + 9, i + 9, label=f"rib {i}") for i in range(101)]), "malformed-boxes", "more than 100 boxes"),
        (answer([[100, 200, 300, 400]]), "malformed-boxes", "box 1 is not an object"),
        (answer([{"bbox_2d": [1, 2, 3, 4], "label": "x"}]), "malformed-boxes", "box 1 has no box_2d"),
        (answer([{"box_2d": [1, 2, 3, 4]}]), "malformed-boxes", "box 1 has no label"),
        (answer([box(1, 2, 3, 4, label=" ")]), "malformed-boxes", "label is not a string"),
        (answer([box(1, 2, 3)]), "malformed-boxes", "not a list of four numbers"),
        (answer([box(1, 2, 3, 4, 5)]), "malformed-boxes", "not a list of four numbers"),
        (answer([box("1", 2, 3, 4)]), "malformed-boxes", "not a list of four numbers"),
        (answer([box(False, 2, 3, True)]), "malformed-boxes", "not a list of four numbers"),
        (answer([box(float("nan"), 2, 3, 4)]), "malformed-boxes", "not a list of four numbers"),
        (answer([box(1, 2, 3, float("inf"))]), "malformed-boxes", "not a list of four numbers"),
        (answer([box(300, 200, 100, 400)]), "impossible-box", "y0 < y1"),
        (answer([box(100, 400, 300, 400)]), "impossible-box", "x0 < x1"),
        (answer([box(-1, 200, 300, 400)]), "impossible-box", "outside 0..1000"),
        (answer([box(100, 200, 300, 1001)]), "impossible-box", "outside 0..1000"),
        (answer([box(0, 0, 1, 1)]), "box-scale", "unclear whether"),
    ],
)
def test_every_malformed_shape_is_an_error_of_its_own_and_gives_no_box(text, code, message):
    boxes, validation = validate_boxes(text)
    assert boxes == ()
    *_, issue = validation.issues  # brackets without end are a loop, too
    assert (issue.code, issue.severity) == (code, "error") and message in issue.message


def test_a_box_with_an_error_does_not_take_the_others_with_it():
    boxes, validation = validate_boxes(answer([GOOD, box(9, 9, 1, 1), GOOD]))
    assert len(boxes) == 2
    assert [issue.message[:5] for issue in validation.errors] == ["box 2"]


def test_a_box_in_0_to_1_is_taken_with_a_warning_where_no_other_reading_is_possible():
    boxes, validation = validate_boxes(answer([box(0.1, 0.2, 0.3, 1)]))
    assert boxes[0].edges == pytest.approx((100, 200, 300, 1000))
    assert [(issue.code, issue.severity) for issue in validation.issues] == [("box-scale", "warning")]
    boxes, validation = validate_boxes(answer([GOOD, box(0.1, 0.2, 0.3, 1)]))
    assert [one.edges for one in boxes] == [(100, 200, 300, 400.5)]
    assert [(issue.code, issue.severity) for issue in validation.issues] == [("box-scale", "error")]


def test_an_empty_list_is_a_warning():
    assert [(issue.code, issue.severity) for issue in validate_boxes(answer([]))[1].issues] == [("no-box", "warning")]


@pytest.mark.parametrize(
    ("text", "reason", "codes"),
    [
        ("", "stop", ["no-answer"]),
        (answer([GOOD], fence="```json\n{}")[:-20], "length", ["truncated", "malformed-boxes"]),
        ("I'm sorry, I can't help with that.", "stop", ["refusal", "malformed-boxes"]),
    ],
)
def test_the_form_of_the_answer_is_checked_too(text, reason, codes):
    assert [issue.code for issue in validate_boxes(text, finish_reason=reason)[1].issues] == codes


def test_a_loop_of_boxes_is_not_told_to_use_a_penalty():
    (loop, *_) = validate_boxes("The clavicle. " * 30, finish_reason="repetition")[1].issues
    assert loop.code == "repetition" and "temperature" in loop.message and "penalty" not in loop.message


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["box_2d", "label", "x"]), inner),
)


@given(ANY_JSON)
def test_whatever_the_json_a_box_that_is_given_is_a_box(content):
    boxes, validation = validate_boxes(answer(content))
    assert boxes or validation.issues
    assert all(0 <= y0 < y1 <= 1000 and 0 <= x0 < x1 <= 1000 and label for label, y0, x0, y1, x1 in boxes)
