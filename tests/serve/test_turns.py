"""In which order prompts are read and answers decoded, without a model."""

from __future__ import annotations

from queue import Queue
from types import SimpleNamespace

import numpy as np
import pytest
from mlx_vlm.generate.ar import BatchGenerator

from medgemma_app.serve import engine as engine_module
from medgemma_app.serve.engine import Engine, FairBatchGenerator


def unread(uid, tokens):
    """A prompt that waits, as mlx-vlm keeps it."""
    return (uid, range(tokens), 1, None, None, None)


def begun(uid, tokens, left=1):
    """A prompt of which all but ``left`` tokens are read."""
    return SimpleNamespace(uids=[uid], _total_prompt_tokens=tokens, _input_ids=np.zeros((1, left)))


def scheduler(**state):
    """A generator without a model, in the middle of its work."""
    generator = FairBatchGenerator.__new__(FairBatchGenerator)
    generator.close = lambda: None
    vars(generator).update(
        {"reading": [], "_unprocessed_sequences": [], "_generation_batch": [], "passed": 0, "decoded": True, "owed": 0} | state
    )
    return generator


QUEUES = {
    "the oldest is begun": ([begun(1, 500), begun(2, 300)], [unread(3, 10), unread(4, 10), unread(5, 400)], 3),
    "the oldest waits": ([begun(2, 20), begun(3, 300)], [unread(4, 400), unread(1, 500)], 2),
}


@pytest.mark.parametrize(("reading", "waiting", "shortest"), QUEUES.values(), ids=QUEUES)
def test_the_shortest_prompt_is_read_but_after_three_pieces_of_others_the_one_that_came_first(reading, waiting, shortest):
    generator = scheduler(reading=reading, _unprocessed_sequences=waiting)
    generator._begin = lambda row: SimpleNamespace(uids=[row[0]])
    found = []
    for _ in range(9):
        found += generator._first_in_line().uids
    assert found == [*[shortest] * 3, 1, *[shortest] * 3, 1, shortest]


def test_a_short_prompt_does_not_wait_for_the_one_that_came_first_when_that_one_was_just_read():
    long, generator = begun(1, 500), scheduler()
    generator._begin = lambda row: SimpleNamespace(uids=[row[0]])
    found = []
    for waiting in ([], [], [], [], [unread(2, 10)], [], [], [unread(3, 10)]):
        generator.reading, generator._unprocessed_sequences = [long], waiting
        found += generator._first_in_line().uids
    assert found == [1, 1, 1, 1, 2, 1, 1, 3]


def test_a_piece_has_been_computed_when_its_time_is_taken(monkeypatch):
    computed = []
    monkeypatch.setattr(engine_module.mx, "eval", computed.append)
    prompt = begun(1, 500, left=engine_module.PIECE + 1)
    prompt.prompt_step, prompt.prompt_cache = lambda: None, [SimpleNamespace(state="keys and values")]
    scheduler(image_token=-1)._read_piece(prompt)
    assert computed == [["keys and values"]]


SHORT, LONG = [unread(1, engine_module.PIECE)], [unread(1, engine_module.PIECE + 1)]


STEPS = {
    "nothing to read": ({"_generation_batch": ["answer"]}, "decodes"),
    "no answers": ({"_unprocessed_sequences": LONG, "owed": 1, "decoded": False}, "reads"),
    "nothing owed": ({"_unprocessed_sequences": LONG, "_generation_batch": ["answer"]}, "reads"),
    "a begun prompt, nothing owed": ({"reading": [begun(1, 999)], "_generation_batch": ["answer"]}, "reads"),
    "a long prompt, decoding owed": ({"_unprocessed_sequences": LONG, "_generation_batch": ["answer"], "owed": 1}, "decodes"),
    "a short prompt, decoding owed": ({"_unprocessed_sequences": SHORT, "_generation_batch": ["answer"], "owed": 1}, "reads"),
    "a short prompt after a piece": ({"_unprocessed_sequences": SHORT, "_generation_batch": ["answer"], "decoded": False}, "decodes"),
}


@pytest.mark.parametrize(("state", "wanted"), STEPS.values(), ids=STEPS)
def test_a_step_reads_a_piece_unless_decoding_is_owed_and_a_short_prompt_does_not_wait_for_that(monkeypatch, state, wanted):
    done = []
    monkeypatch.setattr(FairBatchGenerator, "_first_in_line", lambda generator: None)
    monkeypatch.setattr(FairBatchGenerator, "_read_piece", lambda generator, prompt: done.append("reads"))
    monkeypatch.setattr(BatchGenerator, "_next", lambda generator: done.append("decodes") or ([], []))
    scheduler(**state)._next()
    assert done == [wanted]


def test_the_shortest_request_is_taken_first_but_after_three_others_the_one_that_came_first():
    engine = Engine.__new__(Engine)
    engine.requests, engine.most, engine._stop = Queue(), 16, False
    engine._passed, engine._waiting, engine._active = 0, [], {}
    engine._take_in = lambda request: True
    for tokens in (80, 70, 20, 10, 30, 60, 50, 40):
        engine.requests.put(SimpleNamespace(prompt_tokens=tokens, raw_inputs={"images": ()}))
    taken = [request.prompt_tokens for _ in range(8) for request in engine._collect_pending_requests(active=False)[0]]
    assert taken == [10, 20, 30, 80, 40, 50, 60, 70]
