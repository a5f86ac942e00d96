"""Servers that refuse, are busy, or answer with something else; and options that are refused beforehand."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from commands import run
from scripted_server import MODEL, chunk, medgemma, refusal, says, serving, usage

from medgemma_app import GenerationError, Prompt, connect
from medgemma_app.demo import draw_phantom, write_notes
from medgemma_app.errors import ModelError
from medgemma_app.model.generation import EndpointError
from medgemma_app.remote import client

NOTE = write_notes(3)[1]
PROMPT = Prompt(("Zebulon Quux coughs.",))


@pytest.mark.parametrize(
    ("status", "error", "says"),
    [
        (400, GenerationError, "refuses the request"),
        (401, EndpointError, "refuses the key (401); set MEDGEMMA_API_KEY"),
        (403, EndpointError, "refuses the key (403)"),
        (404, EndpointError, "does not know this model"),
        (413, GenerationError, "refuses a request of this size"),
        (422, GenerationError, "refuses the request (422)"),
        (500, GenerationError, "failed (500); see its log"),
    ],
)
def test_a_refusal_is_one_line_that_repeats_nothing_of_the_notes(connect, server, status, error, says):
    server.chat = refusal(status)
    with pytest.raises(error) as caught:
        connect().generate(PROMPT)
    assert type(caught.value) is error
    assert says in str(caught.value)
    assert "Zebulon" not in str(caught.value) + repr(caught.value.__cause__)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again_after_the_time_it_names(connect, server, status):
    times = []

    def chat(handler, body):
        times.append(time.monotonic())
        if len(times) < 3:
            refusal(status, retry_after="0.3")(handler, body)
        else:
            says("Clear.")(handler, body)

    server.chat = chat
    assert connect().generate(PROMPT).text == "Clear."
    assert all(later - earlier >= 0.3 for earlier, later in pairwise(times))


@pytest.mark.parametrize("retry_after", [{}, {"retry_after": "3600"}, {"retry_after": "nonsense"}], ids=str)
def test_a_server_that_stays_busy_is_given_up(connect, server, retry_after):
    """Four times after a longer and longer while, and not at all where it wants more than two minutes."""
    server.chat = refusal(503, **retry_after)
    with pytest.raises(EndpointError, match=r"is still busy \(503\); try again later"):
        connect().generate(PROMPT)
    assert len(server.requests) == (1 if retry_after.get("retry_after") == "3600" else 1 + client.RETRIES)


def test_the_error_for_an_unknown_model_lists_the_models(server, notes):
    server.models = {"data": [{"id": "first"}, {"id": "second"}, {"id": "on-disk", "loaded": False}]}
    result = medgemma("soap", notes, "--model", "third", server=server)
    assert result.exit_code == 1
    assert "has no model 'third'; it has: first, second" in result.stderr
    with pytest.raises(ModelError, match="has these models: first, second; choose one with --model"):
        connect(server.url)
    server.models = {"data": [{"id": f"model-{number}"} for number in range(20_000)]}
    with pytest.raises(ModelError, match=r"has these models: model-0, .* \.\.\.; choose one with --model") as caught:
        connect(server.url)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "models",
    [
        lambda handler: handler.raw(200, b"<html>Welcome</html>", "text/html"),
        lambda handler: handler.raw(200, b'{"data": [', "application/json"),
        lambda handler: handler.raw(200, b"\xff\xfe", "application/json"),
        lambda handler: handler.raw(200, b"[" * 100_000, "application/json"),
        *([1], {"data": 1}, {"data": [1]}, {"data": [{}]}, {"data": [{"id": 1}]}, {"data": [{"id": "a\n\x1b[1mb"}]}),
    ],
    ids=range(10),
)
def test_a_server_that_is_not_openai_compatible(server, models):
    server.models = models
    with pytest.raises(GenerationError, match="is it OpenAI-compatible, and does the URL end in /v1"):
        connect(server.url)


def test_a_redirect_is_not_followed(server):
    with serving() as other:
        server.models = lambda handler: handler.raw(307, b"", "text/plain", location=f"{other.url}/models")
        with pytest.raises(EndpointError, match="redirects to another URL, which is not followed"):
            connect(server.url)
        assert other.headers == []


@pytest.mark.parametrize(
    "piece",
    [
        "data: {not json\n\n",
        "data: 5\n\n",
        "data: []\n\n",
        'data: "text"\n\n',
        'data: {"choices": 5}\n\n',
        'data: {"choices": [5]}\n\n',
        'data: {"choices": [{}]}\n\n',
        'data: {"choices": [{"delta": null, "finish_reason": null}]}\n\n',
        'data: {"choices": [{"delta": {"content": ["a"]}, "logprobs": null, "finish_reason": null}]}\n\n',
        {"choices": [], "usage": {"prompt_tokens": "many"}},
        chunk("x", logprobs={"content": [{"token": "x", "logprob": "likely"}]}),
        chunk("x", logprobs=7),
        chunk("x", token_ids=[None]),
        chunk("x", token_ids="abc"),
        chunk(finish="content_filter"),
        chunk(finish="tool_calls"),
        {"error": {"message": "Zebulon Quux"}},
        {"error": "Zebulon Quux"},
        "data: " + "[" * 100_000 + "\n\n",
    ],
    ids=range(19),
)
def test_chunks_of_another_kind_end_the_answer_and_keep_what_came_before(connect, server, piece):
    server.chat = lambda handler, body: handler.stream([chunk("The lungs"), piece, chunk(finish="stop"), usage(1, 1), "data: [DONE]\n\n"])
    with pytest.raises(GenerationError) as caught:
        connect().generate(PROMPT)
    assert "Zebulon" not in str(caught.value)
    assert caught.value.partial.text == "The lungs"


@pytest.mark.parametrize(
    "chat",
    [
        lambda handler, body: handler.raw(200, b"<html>Welcome</html>", "text/html"),
        lambda handler, body: handler.json(200, {"choices": [{"message": {"content": "not a stream"}}]}),
        lambda handler, body: handler.stream([]),
        lambda handler, body: handler.stream(["data: [DONE]\n\n"]),
        lambda handler, body: handler.stream([": a comment\n\n", "event: ping\ndata:\n\n"]),
    ],
    ids=["html", "json", "nothing", "only the end", "no data"],
)
def test_a_response_that_is_empty_or_not_a_stream(connect, server, chat):
    server.chat = chat
    with pytest.raises(GenerationError) as caught:
        connect().generate(PROMPT)
    assert caught.value.partial is None


def test_an_answer_that_was_cut_is_a_report_with_an_error(server, notes):
    server.chat = says("SUBJECTIVE:\n", "Cough for", finish="length")
    result = medgemma("soap", notes, server=server)
    assert (result.exit_code, result.stdout) == (3, "SUBJECTIVE:\nCough for\n")
    assert "error: truncated" in result.stderr


def test_without_usage_it_cannot_be_checked_whether_pictures_are_seen(connect, server):
    server.chat = lambda handler, body: handler.stream([chunk("Clear."), chunk(finish="stop")])
    with pytest.raises(EndpointError, match="reports no token usage"):
        connect().generate(Prompt((draw_phantom(1)[0], "Describe it.")))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--endpoint", "https://gpu.example.org/v1"],
        ["--endpoint", "http://gpu.example.org/v1", "--allow-remote"],
        ["--endpoint", "http://me:secret@127.0.0.1/v1"],
        ["--endpoint", "http://127.0.0.1/v1", "--api-key-file", "no-such-file"],
        ["--endpoint", "http://127.0.0.1/v1", "--jobs", "0"],
        ["--endpoint", "http://127.0.0.1/v1", "--timeout", "0"],
        ["--endpoint", "http://127.0.0.1/v1", "--revision", "main"],
        ["--endpoint", "http://127.0.0.1/v1", "--batch-size", "4"],
        ["--jobs", "4"],
        ["--timeout", "4"],
        ["--api-key-file", "key"],
    ],
    ids=" ".join,
)
def test_what_is_refused_beforehand_is_one_line_and_exit_2(notes, arguments):
    result = run("soap", notes, *arguments, env={"COLUMNS": "200"})
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "secret" not in result.stderr


def test_the_environment_names_the_server(server, notes):
    server.chat = says(NOTE)
    environment = {"MEDGEMMA_ENDPOINT": server.url, "MEDGEMMA_API_KEY": "sesame"}
    result = run("soap", notes, "--json", env=environment)
    assert result.exit_code == 0
    assert "sesame" not in result.stdout + result.stderr
    assert f"{MODEL} at {server.url.removesuffix('/v1')}" in result.stderr
    assert server.headers[-1]["authorization"] == "Bearer sesame"
    remote_one = run("soap", notes, env={"MEDGEMMA_ENDPOINT": "https://gpu.example.org/v1"})
    assert remote_one.exit_code == 2
    assert "would be sent to another machine" in remote_one.stderr
