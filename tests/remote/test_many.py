"""Many studies through a server: concurrent, in order, and continued after a fault."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from scripted_server import breaking_off, medgemma, refusal, says, serving, slowly

from medgemma_app import Options, Prompt

PROMPT = Prompt(("Zebulon Quux coughs.",))


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
        (says("Clear.") if first else lambda handler, body: handler.stream(slowly()))(handler, body)

    server.chat = chat
    results = connect().generate_many([Prompt(("first",)), PROMPT, PROMPT], Options(max_tokens=100_000), batch_size=2)
    assert next(results).text == "Clear."
    results.close()
    assert server.gone.wait(10)
    assert len(server.requests) == 2
