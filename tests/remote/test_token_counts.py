"""What fits: the server's count of tokens decides, where it has one."""

from __future__ import annotations

import json

import pytest
from scripted_server import MODEL, answer, says

from medgemma_app import InputError, Prompt, soap
from medgemma_app.demo import write_notes
from medgemma_app.errors import ContextError
from medgemma_app.model.generation import GenerationError

NOTE = write_notes(3)[1]


def test_a_server_that_counts_tokens_decides_what_fits(connect, server):
    server.tokenize = lambda body: list(range(len(json.dumps(body))))
    server.models = {"data": [{"id": MODEL, "max_model_len": 2000}]}
    model = connect()
    assert len(model.tokenize(Prompt(("x",)))) > 10
    notes = {"history": "Cough for 3 days. " * 200}
    with pytest.raises(ContextError, match="--truncate"):
        soap(model, notes)
    server.chat = says(NOTE)
    assert any("left out" in warning for warning in soap(model, notes, truncate=True).warnings)


@pytest.mark.parametrize("counted", [None, [None], [], "12", {"1": 2}, ["1"]], ids=str)
def test_a_server_that_counts_in_another_way_does_not_count(connect, server, counted):
    server.tokenize = lambda body: counted
    assert connect().can_count is False


def test_a_server_that_does_not_count_is_sent_everything_and_refuses_by_itself(connect, server):
    model = connect()
    with pytest.raises(InputError, match="did not count the tokens"):
        soap(model, {"history": "Cough for 3 days. " * 20}, truncate=True)
    for message in (
        "This model's maximum context length is 4096 tokens. However, your request has 5000 input tokens.",
        "This model's maximum context length is 4096 tokens. However, you requested 7000 tokens (5000 in the messages, 2000 more).",
        "This model's maximum context length is 4096 tokens. However, your prompt contains at least 5000 input tokens.",
        "request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it",
        "Request needs 7000 context tokens (5000 prompt + 2000 max generation), but MAX_KV_SIZE is 4096.",
    ):
        server.chat = lambda handler, body, message=message: handler.json(400, {"error": {"message": message}})
        with pytest.raises(ContextError) as caught:
            soap(model, {"history": "Cough for 3 days. " * 20})
        assert (caught.value.tokens, caught.value.limit) == (5000, 4096)


def test_a_limit_in_characters_is_not_taken_for_the_number_of_tokens(connect, server):
    message = "maximum context length is 4096 tokens. However, your prompt contains 5000 characters (the upper bound for 100 input tokens)."
    server.chat = lambda handler, body: handler.json(400, {"error": {"message": message}})
    with pytest.raises(GenerationError, match="refuses the request \\(400\\)"):
        answer(connect())


def test_no_more_tokens_are_asked_for_than_the_server_takes(connect, server):
    server.models["data"][0]["max_model_len"] = 50
    answer(connect())
    assert server.requests[0]["max_tokens"] == 50


def test_an_answer_gets_as_many_tokens_as_are_left(connect, server):
    said = "This model's maximum context length is 4096 tokens and your request has 4000 input tokens (2000 > 4096 - 4000)."

    def chat(handler, body):
        if body["max_tokens"] > 96:
            handler.json(400, {"error": {"message": said}})
        else:
            says("Clear.")(handler, body)

    server.chat = chat
    assert answer(connect()).text == "Clear."
    assert [body["max_tokens"] for body in server.requests] == [2000, 96]
