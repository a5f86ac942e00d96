"""A server that is not there, refuses, breaks off, is silent or talks nonsense: one line, the right exit code, and nothing lost."""

from __future__ import annotations

import gzip
import itertools
import json
import signal
import socket
import threading
import time
from contextlib import suppress

import pytest
from scripted_server import breaking_off, chunk, medgemma, says, slowly, usage

from medgemma_app import GenerationError, Options, Prompt, connect
from medgemma_app.model.generation import EndpointError
from medgemma_app.remote import client
from medgemma_app.remote import model as remote

PROMPT = Prompt(("Zebulon Quux coughs.",))


def test_a_server_that_is_not_there(notes):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    result = medgemma("soap", notes, server=url)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"medgemma: nothing answers at {url.removesuffix('/v1')}; is the server running?\n"


def test_a_server_that_does_not_take_the_connection_in_time(monkeypatch):
    monkeypatch.setattr(remote, "CONNECT_SECONDS", 0.05)
    with socket.socket() as full:  # as many connections as may wait do wait already
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        with pytest.raises(EndpointError, match="did not answer in time"):
            connect(f"http://127.0.0.1:{full.getsockname()[1]}")
        for one in waiting:
            one.close()


def test_a_server_that_takes_the_connection_and_says_nothing_is_asked_once(server, monkeypatch):
    monkeypatch.setattr(remote, "CONNECT_SECONDS", 0.2)
    server.models = lambda handler: time.sleep(1)
    with pytest.raises(GenerationError, match=r"made no progress for 0\.2 s"):
        connect(server.url)
    assert len(server.headers) == 1


def test_silence_before_the_first_token_or_between_two(connect, server):
    def silent(*first):
        def chat(handler, body):
            handler.stream(map(chunk, first))
            time.sleep(1)

        return chat

    model = connect(timeout=0.2)
    for first in ((), ("The lungs",)):
        server.chat = silent(*first)
        with pytest.raises(GenerationError, match=r"made no progress for 0\.2 s; --timeout") as caught:
            model.generate(PROMPT)
        assert (caught.value.partial and caught.value.partial.text) == ("The lungs" if first else None)


@pytest.mark.parametrize("noise", [": still here\n\n", chunk("")], ids=["comments", "empty deltas"])
def test_bytes_without_tokens_are_not_progress(connect, server, noise):
    def noisy(handler, body):
        handler.stream(time.sleep(0.02) or piece for piece in itertools.chain([chunk("The lungs")], itertools.repeat(noise, 500)))

    server.chat = noisy
    with pytest.raises(GenerationError, match=r"made no progress for 0\.3 s") as caught:
        connect(timeout=0.3).generate(PROMPT)
    assert caught.value.partial.text == "The lungs"


@pytest.mark.parametrize(
    "piece", ["x" * 10_000, 'data: {"choices": [{"delta": {"content": "' + "x" * 10_000], ids=["a line without an end", "one delta"]
)
def test_a_response_that_is_too_large_is_ended(connect, server, monkeypatch, piece):
    monkeypatch.setattr(client, "LARGEST_ANSWER", 100_000)
    model = connect()
    server.chat = lambda handler, body: handler.stream(itertools.repeat(piece, 100))
    with pytest.raises(GenerationError, match="sent more than"):
        model.generate(PROMPT)


@pytest.mark.parametrize("status", [200, 500])
def test_a_list_of_models_or_an_error_must_not_be_endless(server, monkeypatch, status):
    monkeypatch.setattr(client, "LARGEST_ANSWER", 100_000)
    monkeypatch.setattr(client, "RETRIES", 0)
    server.models = lambda handler: handler.raw(status, b'{"data": "' + b"x" * 200_000, "application/json")
    with pytest.raises(GenerationError, match="sent more than"):
        connect(server.url)


@pytest.mark.parametrize(("route", "status"), [("models", 200), ("models", 500), ("chat", 500)])
def test_a_list_of_models_or_an_error_that_trickles_is_given_up(connect, server, monkeypatch, route, status):

    def trickling(handler, *_):
        handler.send_response(status)
        handler.send_header("content-type", "application/json")
        handler.end_headers()
        with suppress(OSError):
            for _ in range(200):
                handler.wfile.write(b" ")
                time.sleep(0.02)

    monkeypatch.setattr(client, "RETRIES", 0)
    monkeypatch.setattr(remote, "CONNECT_SECONDS", 0.3)
    model = connect(timeout=0.3)
    server.chat = server.models = trickling
    with pytest.raises(GenerationError, match=r"made no progress for 0\.3 s"):
        model.generate(PROMPT) if route == "chat" else connect()


def test_compressed_responses_are_refused(connect, server):
    model = connect()
    server.chat = lambda handler, body: handler.raw(200, gzip.compress(b"data: [DONE]\n\n"), "text/event-stream", content_encoding="gzip")
    with pytest.raises(GenerationError, match="compressed data"):
        model.generate(PROMPT)
    assert {headers.get("accept-encoding") for headers in server.headers} == {"identity"}


def test_more_token_ids_than_were_asked_for_are_an_error(connect, server):
    server.chat = lambda handler, body: handler.stream([chunk("x", token_ids=[1] * 50), chunk(finish="stop"), usage(1, 1)])
    with pytest.raises(GenerationError, match="more tokens than requested"):
        connect().generate(PROMPT, Options(max_tokens=40))


def test_more_text_than_the_tokens_can_hold_is_an_error(connect, server):
    server.chat = lambda handler, body: handler.stream([chunk("The lungs are clear. " * 1000), chunk(finish="stop"), usage(1, 1)])
    with pytest.raises(GenerationError, match="more text than the requested number of tokens"):
        connect().generate(PROMPT, Options(max_tokens=40))


def test_a_lone_surrogate_becomes_a_replacement_character(connect, server):
    server.chat = lambda handler, body: handler.stream([chunk("5 \ud83d mg"), chunk(finish="stop"), usage(9, 3), "data: [DONE]\n\n"])
    assert connect().generate(PROMPT).text == "5 \ufffd mg"


def test_a_server_that_does_not_follow_the_schema_is_an_error_unless_the_answer_was_cut(connect, server):
    options = Options(schema={"type": "object", "properties": {"side": {"type": "integer"}}})
    with pytest.raises(EndpointError, match="did not follow the schema") as caught:
        list(connect().generate_many([Prompt(("?",))] * 3, options, batch_size=1))
    assert (caught.value.partial.text, len(server.requests)) == ("Clear.", 1)
    server.chat = says('{"side": ', finish="length")
    assert connect().generate(Prompt(("?",)), options).finish_reason == "length"
    server.chat = says('{"side": ', "1}")
    assert connect().generate(Prompt(("?",)), options).text == '{"side": 1}'
    server.chat = says('{"side": ', '"left"}')
    with pytest.raises(EndpointError, match="did not follow the schema"):
        connect().generate(Prompt(("?",)), options)


SIDE = {"enum": ["left", "right"]}
PAIR = {
    "properties": {"side": SIDE, "at": {"properties": {"x": {"type": "integer"}}}},
    "required": ["side", "at"],
    "additionalProperties": False,
}
CROSSED = {"properties": {"one": {"properties": {"a": {}, "b": SIDE}}, "two": {"properties": {"b": {}, "a": SIDE}}}}


@pytest.mark.parametrize(
    ("schema", "text", "expected"),
    [
        (PAIR, '{"side": "left", "at": {"x": 1}}', True),
        (PAIR, '\n{"at":{"x":1.0},\n "side":"l\\u0065ft"}', True),
        (PAIR, '{"side": "left", "at": {"y": "é \\n\\u007f", "x": 1}}', True),
        (PAIR, '{"side": "up", "at": {"x": 1}}', False),
        (PAIR, '{"side": "left", "at": {"x": 1.5}}', False),
        (PAIR, '{"side": "left"}', False),
        (PAIR, '{"side": "left", "at": {}, "more": 1}', False),
        (PAIR, '```json\n{"side": "left", "at": {}}\n```', False),
        (PAIR, '{"side": "left", "at": {"y": NaN}}', False),
        (PAIR, "[" * 100_000, False),
        (PAIR, "", False),
        (CROSSED, '{"two": {"a": "left", "b": 2}, "one": {"b": "right", "a": 1}}', True),
        (CROSSED, '{"two": {"a": "up", "b": 2}, "one": {"b": "right", "a": 1}}', False),
        ({"format": "date"}, '"2026-11-26"', True),
        ({"format": "date"}, '"soon"', False),
    ],
)
def test_a_text_follows_a_schema_whatever_its_spacing_its_escapes_and_the_order_of_its_keys(schema, text, expected):
    assert remote.follows(text, json.dumps(schema)) == expected


def test_a_server_that_read_only_part_of_the_prompt_is_an_error(connect, server):
    server.chat = lambda handler, body: handler.stream([chunk("Clear."), chunk(finish="stop"), usage(4096, 1), "data: [DONE]\n\n"])
    with pytest.raises(GenerationError, match="read only part of the prompt"):
        connect().generate(Prompt(("coughing " * 25_000,)))
    assert connect().generate(Prompt(("coughing " * 4_000,))).text == "Clear."


@pytest.mark.parametrize("reason", ["eos", "eos_token", "end_turn", "STOP", "stop"])
def test_every_name_for_the_end_of_an_answer_is_stop(connect, server, reason):
    server.chat = lambda handler, body: handler.stream([chunk("Clear."), chunk(finish=reason), usage(9, 1), "data: [DONE]\n\n"])
    assert connect().generate(PROMPT).finish_reason == "stop"


@pytest.mark.parametrize("piece", ["<end_of_turn>", "<unused32>", "\n"])
def test_a_model_that_never_ends_its_turn_is_stopped(connect, server, piece):
    server.chat = lambda handler, body: handler.stream(itertools.chain([chunk("Clear.")], itertools.repeat(chunk(piece), 5_000)))
    assert connect().generate(PROMPT, Options(max_tokens=5_000)).finish_reason == "repetition"


def test_a_server_that_dies_in_mid_stream_leaves_the_partial_answer_and_exit_1(server, notes):
    server.chat = breaking_off("SUBJECTIVE:\n", "Cough")
    for options, wanted in ((), "SUBJECTIVE:\nCough\n"), (("--no-stream",), "SUBJECTIVE:\nCough\n"):
        result = medgemma("soap", notes, *options, server=server)
        assert (result.exit_code, result.stdout) == (1, wanted)
        assert "ended the answer without a finish reason" in result.stderr
    record = json.loads(medgemma("soap", notes, "--json", server=server).stdout)
    assert (record["text"], record["valid"]) == ("SUBJECTIVE:\nCough", False)


def test_a_connection_that_is_cut_within_a_chunk_keeps_what_came_before(connect, server):
    def chat(handler, body):
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.send_header("content-length", "100000")
        handler.end_headers()
        handler.wfile.write(f"data: {json.dumps(chunk('The lungs'))}\n\ndata: {{".encode())

    server.chat = chat
    with pytest.raises(GenerationError, match="closed the connection before the answer was complete") as caught:
        connect().generate(PROMPT)
    assert caught.value.partial.text == "The lungs"


def test_ctrl_c_keeps_what_was_printed_exits_130_and_closes_the_connection(server, notes):
    def chat(handler, body):
        def interrupted():
            for number, piece in enumerate(slowly()):
                if number == 5:
                    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
                yield piece

        handler.stream(interrupted())

    server.chat = chat
    result = medgemma("soap", notes, "--max-tokens", "100000", server=server)
    assert result.exit_code == 130
    assert result.stdout.startswith("word0 ")
    assert result.stderr.endswith("medgemma: cancelled\n")
    assert server.gone.wait(10)


# Many
