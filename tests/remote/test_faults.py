"""A server that is not there, refuses, breaks off, is silent or talks nonsense: one line, the right exit code, and nothing lost."""

from __future__ import annotations

import gzip
import itertools
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import openai._base_client
import pytest
from scripted_server import MODEL, chunk, says, serving, usage
from typer.testing import CliRunner

from medgemma_app import GenerationError, Options, Prompt, connect
from medgemma_app.cli.app import app
from medgemma_app.demo import draw_phantom, write_notes
from medgemma_app.errors import ModelError
from medgemma_app.model.generation import EndpointError
from medgemma_app.remote import client
from medgemma_app.remote import model as remote

NOTE = write_notes(3)[1]
PROMPT = Prompt(("Zebulon Quux coughs.",))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The client waits a hundredth of what it would, unless a server says how long."""
    monkeypatch.setattr(openai._base_client, "INITIAL_RETRY_DELAY", 0.005)


@pytest.fixture
def notes(tmp_path):
    (tmp_path / "notes.json").write_text(json.dumps(write_notes(3)[0]))
    return str(tmp_path / "notes.json")


def medgemma(*arguments, server):
    return CliRunner().invoke(app, [*map(str, arguments), "--endpoint", server if isinstance(server, str) else server.url])


def refusal(status, **headers):
    """A refusal that repeats what it was sent, as some servers do."""
    return lambda handler, body: handler.json(status, {"error": {"message": json.dumps(body)}}, **headers)


def breaking_off(*texts):
    return lambda handler, body: handler.stream(map(chunk, texts))


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
    monkeypatch.setattr(client, "LARGEST_BODY", 100_000)
    model = connect()
    server.chat = lambda handler, body: handler.stream(itertools.repeat(piece, 100))
    with pytest.raises(GenerationError, match="sent more than"):
        model.generate(PROMPT)


@pytest.mark.parametrize("status", [200, 500])
def test_a_list_of_models_or_an_error_must_not_be_endless(server, monkeypatch, status):
    monkeypatch.setattr(client, "LARGEST_BODY", 100_000)
    monkeypatch.setattr(client, "RETRIES", 0)
    server.models = lambda handler: handler.raw(status, b'{"data": "' + b"x" * 200_000, "application/json")
    with pytest.raises(GenerationError, match="sent more than"):
        connect(server.url)


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
    ids=range(18),
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
    result = CliRunner().invoke(app, ["soap", notes, *arguments], env={"COLUMNS": "200"})
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "secret" not in result.stderr


def test_the_environment_names_the_server(server, notes):
    server.chat = says(NOTE)
    environment = {"MEDGEMMA_ENDPOINT": server.url, "MEDGEMMA_API_KEY": "sesame"}
    result = CliRunner().invoke(app, ["soap", notes, "--json"], env=environment)
    assert result.exit_code == 0
    assert "sesame" not in result.stdout + result.stderr
    assert f"{MODEL} at {server.url.removesuffix('/v1')}" in result.stderr
    assert server.headers[-1]["authorization"] == "Bearer sesame"
    remote_one = CliRunner().invoke(app, ["soap", notes], env={"MEDGEMMA_ENDPOINT": "https://gpu.example.org/v1"})
    assert remote_one.exit_code == 2
    assert "would be sent to another machine" in remote_one.stderr


def test_ctrl_c_keeps_what_was_printed_exits_130_and_closes_the_connection(server, notes):
    def chat(handler, body):
        def interrupted():
            for number, piece in enumerate(_slowly()):
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


def names(tmp_path, count):
    for number in range(count):
        (tmp_path / f"{number:02}.json").write_text(json.dumps({"history": f"visit {number} cough for 3 days and fever"}))
    return [str(tmp_path / f"{number:02}.json") for number in range(count)]


def visit(body):
    """The number of the visit a request is about."""
    return int(body["messages"][0]["content"][0]["text"].split("visit ")[1].split()[0])


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_so_many_requests_run_concurrently_and_the_results_are_in_order(server, tmp_path):
    """The first ones take longest; the server answers none of the first four before all of them are there."""
    together, most, now, lock = threading.Barrier(4, timeout=20), [0], [0], threading.Lock()

    def chat(handler, body):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        if visit(body) < 4:
            together.wait()
            time.sleep(0.05 * (4 - visit(body)))
        says(f"SUBJECTIVE: visit {visit(body)}.")(handler, body)
        with lock:
            now[0] -= 1

    server.chat = chat
    studies = names(tmp_path, 10)
    result = medgemma("soap", *studies, "--jobs", "4", "--output", tmp_path / "r.jsonl", server=server)
    records = lines(tmp_path / "r.jsonl")
    assert [record["study"] for record in records] == [Path(study).name for study in studies]
    assert [record["text"] for record in records] == [f"SUBJECTIVE: visit {number}." for number in range(10)]
    assert (result.exit_code, most[0] <= 5) == (3, True)  # one more may be counted between its last byte and its end


def test_one_that_fails_does_not_stop_the_others_and_one_that_broke_off_is_asked_again(server, tmp_path):
    asked = []

    def chat(handler, body):
        asked.append(visit(body))
        if visit(body) == 1:
            refusal(400)(handler, body)
        elif visit(body) == 2 or (visit(body) == 3 and asked.count(3) == 1):
            breaking_off("SUBJECTIVE:")(handler, body)
        else:
            says("SUBJECTIVE: cough.")(handler, body)

    server.chat = chat
    studies = names(tmp_path, 5)
    result = medgemma("soap", *studies, "--jobs", "2", "--output", tmp_path / "r.jsonl", server=server)
    records = lines(tmp_path / "r.jsonl")
    assert [record["exit_code"] for record in records] == [3, 1, 1, 3, 3]
    assert [record.get("partial") for record in records] == [None, None, "SUBJECTIVE:", None, None]
    assert (result.exit_code, asked.count(2), asked.count(3)) == (1, 2, 2)
    assert "5 of 5 studies" in result.stderr


def test_a_server_that_goes_away_ends_the_run_and_resume_does_what_is_missing(server, tmp_path):
    """Dead in the middle of a run: what was not answered is in the file neither as a result nor as an error."""

    def chat(handler, body):
        if visit(body) < 5:
            says("SUBJECTIVE: cough.")(handler, body)
        else:
            server.socket.close()
            breaking_off("SUBJECTIVE:")(handler, body)

    server.chat = chat
    studies, path = names(tmp_path, 12), tmp_path / "r.jsonl"
    result = medgemma("soap", *studies, "--jobs", "3", "--output", path, server=server)
    assert result.exit_code == 1
    assert "nothing answers at" in result.stderr
    done = [record["study"] for record in lines(path)]
    assert done == [Path(study).name for study in studies[: len(done)]]
    assert len(done) <= 5
    with serving() as again:
        again.chat = says("SUBJECTIVE: cough.")
        result = medgemma("soap", *studies, "--jobs", "3", "--output", path, "--resume", server=again)
        assert len(again.requests) == len(studies) - len(done)
    assert [record["study"] for record in lines(path)] == [Path(study).name for study in studies]
    assert result.exit_code == 3


@pytest.mark.slow
def test_ctrl_c_ends_many_at_once_even_where_the_server_is_silent(server, tmp_path):
    waiting = threading.Semaphore(0)

    def chat(handler, body):
        if visit(body) == 0:
            says("SUBJECTIVE: cough.")(handler, body)
        waiting.release()
        time.sleep(20)

    server.chat = chat
    command = [sys.executable, "-m", "medgemma_app", "soap", *names(tmp_path, 8), "--endpoint", server.url, "--jobs", "4", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        first = run.stdout.readline()
        for _ in range(4):
            assert waiting.acquire(timeout=20)
        run.send_signal(signal.SIGINT)
        rest, stderr = run.communicate(timeout=10)
    assert (run.returncode, rest, json.loads(first)["text"]) == (130, "", "SUBJECTIVE: cough.")
    assert "Traceback" not in stderr


def test_closing_the_results_ends_the_requests_under_way(connect, server):
    def chat(handler, body):
        first = "first" in json.dumps(body)
        (says("Clear.") if first else lambda handler, body: handler.stream(_slowly()))(handler, body)

    server.chat = chat
    results = connect().generate_many([Prompt(("first",)), PROMPT, PROMPT], Options(max_tokens=100_000), batch_size=2)
    assert next(results).text == "Clear."
    results.close()
    assert server.gone.wait(10)
    assert len(server.requests) == 2


def _slowly():
    for number in range(10_000):
        time.sleep(0.005)
        yield chunk(f"word{number} ")
