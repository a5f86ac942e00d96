"""The thought is split off the answer wherever the stream is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgemma_app import Options
from medgemma_app.model.answer import Answer

THOUGHT = "<unused94>thought\nIs it large? <unused9 no.<unused95>"
TEXT = f"{THOUGHT}FINDINGS: <b>clear</b>."


def fed(pieces):
    answer = Answer(Options())
    tokens = [answer.add(number, text, -0.5) for number, text in enumerate(pieces)] + answer.end("stop")
    assert "".join(token.text for token in tokens) == "".join(pieces)
    assert [token.id for token in tokens if token.id is not None] == list(range(len(pieces)))
    return {kind: "".join(token.text for token in tokens if token.kind == kind) for kind in ("thought", "answer")}


def split_thought(text):
    answer = Answer(Options())
    answer.end("stop", text)
    made = answer.generation()
    return made.text, made.thought


@pytest.mark.parametrize("cut", range(len(TEXT) + 1))
def test_any_cut_gives_the_same_answer_and_thought(cut):
    assert fed([TEXT[:cut], TEXT[cut:]]) == {"thought": THOUGHT, "answer": "FINDINGS: <b>clear</b>."}


def test_one_character_at_a_time_gives_the_same():
    assert fed(TEXT) == fed([TEXT])


def test_the_answer_streams_before_it_is_complete():
    assert Answer(Options()).add(1, "The heart <", -0.5).text == "The heart "


@pytest.mark.parametrize(
    ("text", "answer", "thought"),
    [
        ("FINDINGS: clear.", "FINDINGS: clear.", None),
        ("<unused94>thought\nhm<unused95>clear", "clear", "hm"),
        ("<unused94>thought\nhm", "", "hm"),
        ("half an answer <unused94>thought\nhm", "", "hm"),
        ("<unused94><unused95>", "", ""),
        ("<unused94>a<unused95>one <unused94>b<unused95>two", "one two", "ab"),
        ("stray <unused95> end", "stray <unused95> end", None),
        ("", "", None),
    ],
)
def test_text_is_split_into_answer_and_thought(text, answer, thought):
    """A thought that never closes leaves no answer; a close without an open stays visible to the validators."""
    assert split_thought(text) == (answer, thought)


@given(st.lists(st.sampled_from(["<unused94>", "<unused95>", "<unused", "9", "4>", "5>", "a", "<", "\n"])))
def test_how_the_stream_is_cut_changes_nothing(pieces):
    assert fed(pieces) == fed(["".join(pieces)])
