"""The command itself: what it says, how it stops, and that nothing of a request is on its stderr."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import httpx2
import pytest
from serving import chat, encoded, events, running, until
from tiny import picture

from medgemma_app.demo import draw_phantom
from medgemma_app.notices import DEMO_NOTICE, NOTICE
from medgemma_app.serve.access import BindAddress
from medgemma_app.serve.limits import LEAST_MEMORY, Readers
from medgemma_app.serve.server import Server

SECRET = "Whittlethorpe"


class Command:
    """``medgemma serve``, on a port that is free."""

    def __init__(self, model):
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "MEDGEMMA_API_KEY": "k"}
        arguments = [sys.executable, "-m", "medgemma_app", "serve", "--model", model, "--port", "0"]
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        self.lines = []
        self._reader = threading.Thread(target=lambda: self.lines.extend(iter(self.process.stderr.readline, "")))
        self._reader.start()

    def client(self):
        until(lambda: any(line.startswith("ready") for line in self.lines))
        url = re.search(r"http://\S+", "".join(self.lines))[0]
        return httpx2.Client(base_url=url, headers={"authorization": "Bearer k"}, timeout=30, trust_env=False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()
        self._reader.join()


def test_a_server_says_where_it_listens_keeps_quiet_about_requests_and_finishes_what_runs():
    with Command("demo") as command, command.client() as client:
        client.post("/v1/soap", json={"notes": SECRET})
        client.post("/v1/chat/completions", json=chat(SECRET, max_tokens=1, nonsense=SECRET))
        client.post("/v1/chat/completions", json=chat(SECRET, max_tokens=1))
        body = {"scan": encoded(draw_phantom(0)[0]), "indication": SECRET, "stream": True}
        with client.stream("POST", "/v1/findings", json=body) as stream:
            chunks = stream.iter_text()
            text = next(chunks)
            command.process.send_signal(signal.SIGTERM)
            text += "".join(chunks)
        assert events(text)[-1][1]["finish_reason"] == "stop"
        assert command.process.wait(20) == 0
        assert command.process.stdout.read() == ""
        assert [line.strip() for line in command.lines[:2]] == [NOTICE, DEMO_NOTICE]
        assert len(command.lines) == 4, command.lines
        assert SECRET not in "".join(command.lines)


def test_a_server_ends_what_still_runs_when_its_grace_is_over(tiny_folder):
    """The tiny model's weights are random, and it does not stop by itself."""
    with running(str(tiny_folder), grace=0.2) as client:
        body = {"scan": encoded(picture(1, 64)), "stream": True, "options": {"max_tokens": 4000}}
        with client.stream("POST", "/v1/findings", json=body) as stream:
            chunks = stream.iter_text()
            text = next(chunks)
            client.server.handle_exit(signal.SIGINT, None)
            text += "".join(chunks)
        assert events(text)[-1][1]["error"]["message"].startswith("the server stopped before the answer was complete")
        assert client.server.code == 130


def test_a_second_signal_ends_the_server_at_once(monkeypatch):
    codes = []
    monkeypatch.setattr(os, "_exit", codes.append)
    server = Server(
        SimpleNamespace(stop=lambda: None, is_ready=True), Readers(LEAST_MEMORY), BindAddress(host="127.0.0.1", port=0, key=None), grace=0
    )
    server.handle_exit(signal.SIGINT, None)
    assert (codes, server.should_exit, server.code) == ([], True, 130)
    server.handle_exit(signal.SIGTERM, None)
    assert codes == [143]


def test_the_objects_of_the_libraries_are_frozen_once_the_model_is_loaded(monkeypatch):
    """Otherwise a collection looks at all of them, and /health waits for it while large bodies arrive."""
    frozen = []
    monkeypatch.setattr("medgemma_app.serve.server.gc.freeze", lambda: frozen.append("freeze"))
    engine = SimpleNamespace(wait_until_ready=lambda: frozen.append("ready"), is_ready=True)
    Server(engine, Readers(LEAST_MEMORY), BindAddress(host="127.0.0.1", port=0, key=None), grace=0).announce("demo")
    assert frozen == ["ready", "freeze"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("seconds", [0.3, 0.8, 1.3, 1.8, 2.3, 2.8])
def test_a_signal_while_it_starts_ends_the_server_with_a_documented_code(number, seconds):
    command = ["env", "--default-signal=INT", sys.executable, "-m", "medgemma_app", "serve", "--model", "demo", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        time.sleep(seconds)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode in ((130,) if number == signal.SIGINT else (0, 130))
    assert "Traceback" not in said
