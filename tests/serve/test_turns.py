"""In which order prompts are read and answers decoded, without a model."""

from __future__ import annotations

import inspect
from types import SimpleNamespace

import numpy as np
import pytest
from mlx_vlm.generate.ar import BatchGenerator

from medgemma_app.serve import engine as engine_module
from medgemma_app.serve.engine import PIECE, Engine


def test_mlx_vlm_still_draws_for_all_requests_alike():
    """Where this fails, mlx-vlm has learnt it: look whether RowSampler is still needed."""
    assert "sampler" not in inspect.signature(BatchGenerator.insert).parameters


def asked(number, tokens, reading=None, images=()):
    """A request of which nothing is read, or all but what is left in ``reading``."""
    return SimpleNamespace(number=number, ids=range(tokens), images=images, reading=reading)


def engine(**state):
    """An engine without a model, in the middle of its work."""
    made = Engine.__new__(Engine)
    state = {"_reading": [], "_waiting": [], "_answering": {}, "_passed": 0, "_decoded": True, "_owed": 0, "most": 16} | state
    vars(made).update(state)
    return made


QUEUES = {
    "the oldest is begun": ([asked(1, 500, "begun"), asked(2, 300, "begun")], [asked(3, 10), asked(4, 10), asked(5, 400)], 3),
    "the oldest waits": ([asked(2, 20, "begun"), asked(3, 300, "begun")], [asked(4, 400), asked(1, 500)], 2),
}


@pytest.mark.parametrize(("reading", "waiting", "shortest"), QUEUES.values(), ids=QUEUES)
def test_the_shortest_prompt_is_read_but_after_three_pieces_of_others_the_one_that_came_first(reading, waiting, shortest):
    made = engine(_reading=reading, _waiting=waiting)
    found = [made._first(made._line()).number for _ in range(9)]
    assert found == [*[shortest] * 3, 1, *[shortest] * 3, 1, shortest]


def test_the_shortest_request_is_taken_first_but_after_three_others_the_one_that_came_first():
    lengths = (80, 70, 20, 10, 30, 60, 50, 40)
    made, taken = engine(_waiting=[asked(number, tokens) for number, tokens in enumerate(lengths)]), []
    for _ in lengths:
        made._waiting.remove(first := made._first(made._line()))
        taken.append(len(first.ids))
    assert taken == [10, 20, 30, 80, 40, 50, 60, 70]


def test_a_short_prompt_does_not_wait_for_the_one_that_came_first_when_that_one_was_just_read():
    made = engine(_reading=[asked(1, 500, "begun")])
    found = []
    for waiting in ([], [], [], [], [asked(2, 10)], [], [], [asked(3, 10)]):
        made._waiting = waiting
        found.append(made._first(made._line()).number)
    assert found == [1, 1, 1, 1, 2, 1, 1, 3]


def test_no_more_prompts_are_begun_than_answers_fit():
    begun, waiting = asked(1, 500, "begun"), asked(2, 10)
    assert engine(_reading=[begun], _waiting=[waiting], _answering={0: "answer"}, most=2)._line() == [begun]
    assert engine(_reading=[begun], _waiting=[waiting], _answering={0: "answer"}, most=3)._line() == [begun, waiting]


SERVED = SimpleNamespace(model=SimpleNamespace(config=SimpleNamespace(image_token_index=-1)))


def test_a_piece_has_been_computed_when_its_time_is_taken(monkeypatch):
    computed = []
    monkeypatch.setattr(engine_module.mx, "eval", computed.append)
    prompt = SimpleNamespace(_input_ids=np.zeros((1, PIECE + 1)), prompt_step=lambda: None, prompt_cache=[SimpleNamespace(state="keys")])
    made = engine(served=SERVED)
    made._read_piece(asked(1, 500), prompt)
    assert computed == [["keys"]]


def test_a_prompt_that_is_read_is_answered_and_what_it_was_read_with_is_let_go():
    rows, request = [], asked(1, 500, "begun")
    made = engine(_reading=[request], _sampler=None, served=SERVED)
    made._generator = SimpleNamespace(tokenizer=SimpleNamespace(stopping_criteria=None), _extend_generation_batch=rows.append)
    made._read_piece(request, SimpleNamespace(_input_ids=np.zeros((1, PIECE)), generate=lambda *_: "a row"))
    assert (rows, made._reading, made._answering, request.reading) == (["a row"], [], {1: request}, None)


SHORT, SEEN, LONG = [asked(1, PIECE)], [asked(1, PIECE, images=["picture"])], [asked(1, PIECE + 1)]
ANSWER = {0: "answer"}

STEPS = {
    "nothing to read": ({"_answering": ANSWER}, "decodes"),
    "no answers": ({"_waiting": LONG, "_owed": 1, "_decoded": False}, "reads"),
    "nothing owed": ({"_waiting": LONG, "_answering": ANSWER}, "reads"),
    "a begun prompt, nothing owed": ({"_reading": [asked(1, 999, "begun")], "_answering": ANSWER}, "reads"),
    "a long prompt, decoding owed": ({"_waiting": LONG, "_answering": ANSWER, "_owed": 1}, "decodes"),
    "pictures, decoding owed": ({"_waiting": SEEN, "_answering": ANSWER, "_owed": 1}, "decodes"),
    "a short prompt, decoding owed": ({"_waiting": SHORT, "_answering": ANSWER, "_owed": 1}, "reads"),
    "a short prompt after a piece": ({"_waiting": SHORT, "_answering": ANSWER, "_decoded": False}, "decodes"),
}


@pytest.mark.parametrize(("state", "wanted"), STEPS.values(), ids=STEPS)
def test_a_step_reads_a_piece_unless_decoding_is_owed_and_a_short_prompt_does_not_wait_for_that(monkeypatch, state, wanted):
    done = []
    monkeypatch.setattr(Engine, "_read", lambda engine, request: done.append("reads"))
    monkeypatch.setattr(Engine, "_decode", lambda engine: done.append("decodes"))
    engine(**state)._step()
    assert done == [wanted]
