"""Memory, time and connections are limited; a refused request gets a reason, and releases what it held."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from attack_serve import HEAD, many_scans, messages
from PIL import Image
from serving import chat, encoded, running, until
from tiny import picture

from medgemma_app import Options, Prompt
from medgemma_app.demo import draw_phantom
from medgemma_app.errors import OptionError
from medgemma_app.inputs.sandbox import Sandbox
from medgemma_app.serve import limits, reading, server, transfer
from medgemma_app.serve.access import Refused
from medgemma_app.serve.limits import Budget, Held, Readers

FINDINGS, CHAT = "/v1/findings", "/v1/chat/completions"
JSON = {"content-type": "application/json"}
SQUARE = (896, 896)


@pytest.fixture(scope="module")
def slow():
    """A picture whose decoding takes many seconds."""
    return json.dumps({"scan": base64.b64encode(many_scans(3000, 2000)).decode(), "options": {"max_tokens": 1}})


def send(client, content):
    connection = socket.create_connection((client.base_url.host, client.base_url.port), timeout=30)
    connection.sendall(content)
    return connection


def budget(client):
    return client.server._readers.budget


def ask(client):
    return client.post(CHAT, json=chat("Hello.", max_tokens=1)).status_code


def test_small_requests_do_not_wait_for_memory_behind_large_ones(monkeypatch):
    monkeypatch.setattr(limits, "WAIT_SECONDS", 0.05)

    async def run():
        budget = Budget(100)
        first, large, small = Held(budget), Held(budget), Held(budget)
        await first.resize(60)
        waiting = asyncio.ensure_future(large.resize(90))
        await asyncio.sleep(0)
        await small.resize(40)
        with pytest.raises(Refused, match="try again"):
            await waiting
        with pytest.raises(Refused, match="--memory"):
            await large.resize(101)
        waiting = asyncio.ensure_future(large.resize(90))
        await asyncio.sleep(0)
        first.release()
        small.release()
        await waiting
        assert budget.free == 10

    asyncio.run(run())


def test_less_memory_than_one_large_body_needs_is_refused():
    with pytest.raises(OptionError, match="--memory"):
        Readers(limits.LEAST_MEMORY - 1)
    assert Readers(limits.LEAST_MEMORY).budget.total >= transfer.LARGEST_REQUEST


@pytest.mark.parametrize("declared", [True, False], ids=["with its length", "in chunks"])
def test_bodies_that_trickle_take_no_place_from_others_and_are_given_up(client, monkeypatch, declared):
    monkeypatch.setattr(transfer, "PATIENCE", 0.5)
    monkeypatch.setattr(client.server._readers.budget, "total", 10**9)
    monkeypatch.setattr(client.server._readers.budget, "free", 10**9)
    head = HEAD.format(path=FINDINGS, length=1_000_000)
    head = head if declared else head.replace("Content-Length: 1000000", "Transfer-Encoding: chunked")
    held = [send(client, head.encode() + (b"{" if declared else b"1\r\n{\r\n")) for _ in range(8)]
    until(lambda: budget(client).free <= 10**9 - 8_000_000)
    assert ask(client) == 200
    for connection in held:
        assert connection.recv(100).startswith(b"HTTP/1.1 408")
        connection.close()
    until(lambda: budget(client).free == 10**9)


def test_memory_that_others_hold_is_a_503(client, monkeypatch):
    monkeypatch.setattr(limits, "WAIT_SECONDS", 0.1)
    monkeypatch.setattr(budget(client), "free", 1000)
    answer = client.post(FINDINGS, content=b"x" * 2000, headers=JSON)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")


def test_connections_are_limited_and_the_log_says_so(client, monkeypatch, capsys):
    monkeypatch.setattr(server.Connection, "_warned", -1000.0)
    assert client.get("/health").status_code == 200
    monkeypatch.setattr(server, "MOST_CONNECTIONS", len(client.server.server_state.connections) + 1)
    with send(client, b""), send(client, b"") as second, send(client, b"") as third:
        assert (second.recv(100), third.recv(100)) == (b"", b"")
    assert capsys.readouterr().err.count("connections are open; further ones are closed") == 1


@pytest.mark.parametrize("body", [messages(3000), messages(4_000_000)], ids=["few", "many"])
def test_of_many_errors_one_is_reported(client, body):
    answer = client.post(CHAT, content=body, headers=JSON)
    assert answer.status_code in (400, 422)
    assert len(answer.text) < 300


def test_validation_stops_at_the_first_error_of_a_list():
    """Each would be an object of some hundred bytes."""
    from pydantic import ValidationError

    with pytest.raises(ValidationError) as caught:
        reading.ChatBody.model_validate(json.loads(messages(3000)))
    assert caught.value.error_count() == 1


def test_a_picture_that_takes_too_long_is_refused_and_the_server_goes_on(client, monkeypatch, slow):
    for lane in client.server._readers._lanes:
        monkeypatch.setattr(lane, "_seconds", 0.3)
    answer = client.post(FINDINGS, content=slow, headers=JSON)
    assert (answer.status_code, "takes more than 0.3 s" in answer.text) == (422, True)
    assert ask(client) == 200


def test_reading_ends_with_its_client(client, monkeypatch, slow):
    """Else the process that reads would be busy for seconds, and others would wait."""
    ended = []
    monkeypatch.setattr(Sandbox, "end", lambda sandbox, end=Sandbox.end: ended.append(sandbox) or end(sandbox))
    connection = send(client, HEAD.format(path=FINDINGS, length=len(slow)).encode() + slow.encode())
    until(lambda: client.server._readers.budget.free < client.server._readers.budget.total)
    connection.close()
    until(lambda: ended)
    until(lambda: client.server._readers.budget.free == client.server._readers.budget.total)


def test_a_large_picture_is_held_as_the_models_square_and_answered_as_by_the_local_model(client, demo):
    large = draw_phantom(3)[0].resize((1500, 1100))
    wanted = demo.generate(Prompt((large, "Describe this.")), Options(max_tokens=12))
    answer = client.post(CHAT, json=chat(large, "Describe this.", max_tokens=12)).json()
    assert answer["choices"][0]["message"]["content"] == wanted.text.strip()
    read = reading.read_chat(json.dumps(chat(large, "?")).encode(), "application/json", SQUARE)
    assert read.turns[0][1][0].size == SQUARE
    small = reading.read_chat(json.dumps(chat(picture(1, 64), "?")).encode(), "application/json", SQUARE)
    assert small.turns[0][1][0].size == (64, 64)


def test_a_thin_picture_is_never_held_as_the_square_around_it():
    thin = Image.effect_noise((64, 64), 80).resize((64, 4000))
    draft = reading.read_findings(json.dumps({"scan": encoded(thin)}).encode(), "application/json", SQUARE)
    assert draft.size == 3 * 896 * 896


def test_a_connection_without_a_request_is_closed(client, monkeypatch):
    monkeypatch.setattr(server, "HEADER_SECONDS", 0.3)
    for sent in (b"", b"GET /health HTTP/1.1\r\nHost: localhost\r\n"):
        with send(client, sent) as connection:
            assert connection.recv(100) == b""


def test_a_signal_while_a_picture_is_read_is_an_answer_and_ends_the_processes_that_read(slow):
    with running("demo", grace=0.2) as client, ThreadPoolExecutor(1) as pool:
        asking = pool.submit(client.post, FINDINGS, content=slow, headers=JSON)
        until(lambda: budget(client).free < budget(client).total)
        processes = [sandbox._process.pid for sandbox in client.server._readers._picture.sandboxes]
        client.server.handle_exit(signal.SIGTERM, None)
        answer = asking.result()
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, 503)
        assert client.server.code == 0
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
