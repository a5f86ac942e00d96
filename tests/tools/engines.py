"""Runs the client against real servers on this machine (``make test-engines``: several GB, half an hour; not part of CI).

vLLM and ``medgemma serve`` have the demo, llama.cpp a GGUF of Gemma 3 270M (text only, so SOAP notes). Servers and batches are started
by the commands in remote/README.md, with another model and port. Answers are compared with those of the same weights in this process;
for llama.cpp, which computes with 4 bits, these are in float32. Prints one table, row by row.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import httpx2
from bench_serve import free_port, wait_for
from reference_real import step
from tiny import demo_for_vllm

from medgemma_app import MedGemma, Options, Token, connect, findings, soap
from medgemma_app.demo import CHECKPOINT, draw_phantom, write_notes
from medgemma_app.reports import findings_task, soap_task

README = Path(__file__).parents[2] / "medgemma_app" / "remote" / "README.md"
MEDGEMMA = f"{sys.executable} -m medgemma_app"
KEY, STUDIES, PATIENCE = "a-key-of-this-run", 4, 900
OPTIONS, FLAGS = Options(max_tokens=128), ["--max-tokens", "128"]


class Engine(NamedTuple):
    """``line`` is a part of its command in the README, ``swaps`` what is put in; ``busy`` is where and how it shows a running request."""

    name: str
    kind: str  # "findings" or "soap"
    local: Path
    line: str
    swaps: dict[str, str]
    busy: tuple[str, str] | None = None


def engines(folder: Path) -> list[Engine]:
    gguf = f"{folder}/llama/bin/llama-cpp-server -m {folder}/model.gguf"
    template = f"4096 --threads 1 --chat-template-file {CHECKPOINT}/chat_template.jinja"  # the base model's file has none
    llama = {"llama-server -m medgemma.gguf --mmproj mmproj.gguf": gguf, "32768": template}
    exact = "4096 --dtype float32 --enforce-eager"
    vllm = {"vllm serve google/medgemma-1.5-4b-it": f"{folder}/vllm/bin/vllm serve {folder}/demo", "32768": exact}
    ours = {"medgemma serve --model mlx-community/medgemma-1.5-4b-it-4bit": f"{MEDGEMMA} serve --model demo --api-key-file key"}
    return [
        Engine("medgemma serve", "findings", CHECKPOINT, "medgemma serve", ours),
        Engine("vLLM", "findings", folder / "demo", "vllm serve", vllm, ("/metrics", r"num_requests_running\S* [1-9]")),
        Engine("llama.cpp", "soap", folder / "real", "llama-server", llama, ("/slots", r'"is_processing": ?true')),
    ]


def prepare(work: Path) -> None:
    (work / "studies").mkdir(parents=True, exist_ok=True)
    for name, text in {"key": KEY, "wrong": "wrong", "long.json": json.dumps({"history": "Cough for 3 days. " * 2000})}.items():
        (work / name).write_text(text)
    for seed in range(STUDIES):
        draw_phantom(seed)[0].save(work / "studies" / f"{seed}.png")
        (work / "studies" / f"{seed}.json").write_text(json.dumps(write_notes(seed)[0]))


def from_readme(part: str, swaps: dict[str, str]) -> str:
    """The first command in the README that has this part, without its comment, with this run's values in it."""
    lines = README.read_text(encoding="utf-8").splitlines()
    command = next(line for line in lines if line.startswith("    ") and part in line).split(" #")[0].strip()
    for old, new in swaps.items():
        command = command.replace(old, new)
    return command


@contextmanager
def started(engine: Engine, work: Path) -> Iterator[str]:
    """The URL of the engine once it answers; its log is beside the studies."""
    port = free_port()
    with (work / "server.log").open("w") as log:
        command = ["bash", "-c", from_readme(engine.line, {**engine.swaps, "8000": str(port)})]
        server = subprocess.Popen(command, cwd=work, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(url := f"http://127.0.0.1:{port}/v1", server, time.monotonic() + PATIENCE)
        yield url
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(60)


class Run:
    """One engine under test; every method without a leading underscore is a row of the table."""

    def __init__(self, engine: Engine, url: str, work: Path) -> None:
        self._engine, self._url, self._work, self._results = engine, url, work, work / "results.jsonl"
        self._write, self._task = (findings, findings_task) if engine.kind == "findings" else (soap, soap_task)
        self._here, self._there = MedGemma.load(engine.local), connect(url)
        self._studies = sorted((work / "studies").glob("*.png" if engine.kind == "findings" else "*.json"))
        self._texts = [self._local(study) for study in self._studies]
        ours = {"medgemma findings": f"{MEDGEMMA} {engine.kind}", "http://127.0.0.1:8000/v1": url}
        self._batch = [*shlex.split(from_readme("--jobs 64", ours)), *FLAGS]
        self._results.unlink(missing_ok=True)

    def _start(self, command: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(command, cwd=self._work, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def _ask(self, *arguments: str) -> tuple[int, str, str]:
        client = self._start([*MEDGEMMA.split(), *arguments, "--endpoint", self._url])
        out, err = client.communicate()
        return client.returncode, out, err.strip().rpartition("\n")[2].replace(self._url.removesuffix("/v1"), "...")

    def _local(self, study: Path, **more: Path) -> str:
        return self._write(self._here, study, options=OPTIONS, **more).text

    def _finished(self) -> int:
        return self._results.read_bytes().count(b"\n") if self._results.exists() else 0

    def _compared(self, client: subprocess.Popen[str]) -> str:
        client.communicate()
        records = {record["study"]: record["text"] for record in map(json.loads, self._results.read_text().splitlines())}
        same = sum(records.get(study.name) == text for study, text in zip(self._studies, self._texts, strict=True))
        return f"exit {client.returncode}, {self._finished()} records of {len(records)} studies, {same} texts as here"

    def doctor(self) -> str:
        code, out, _ = self._ask("doctor", "--json")
        return f"exit {code}; " + ", ".join(f"{check['name']} {check['verdict']}" for check in json.loads(out)["checks"])

    def tokens(self) -> str:
        prompt = self._task(self._studies[0]).fitted(self._here).prompt
        here, there = list[Token](), list[Token]()
        local, made = (model.generate(prompt, OPTIONS, on_token=to.append) for model, to in ((self._here, here), (self._there, there)))
        alike = sum(made.text.startswith(text.strip()) for text in accumulate(token.text for token in here[:-1]))
        gap = max(
            (abs(a.logprob - b.logprob) for a, b in list(zip(here, there, strict=False))[:alike] if None not in (a.logprob, b.logprob)),
            default=0,
        )
        fed = f"prompt of {made.prompt_tokens} tokens (here {local.prompt_tokens})"
        return f"{fed}, the first {alike} of {len(here) - 1} tokens as here, log-probabilities within {gap:.1e}"

    def one_study(self, *flags: str, **more: Path) -> str:
        code, out, _ = self._ask(self._engine.kind, str(self._studies[0]), *FLAGS, *flags)
        return f"exit {code}, {'the same' if out.strip() == self._local(self._studies[0], **more).strip() else 'another'} text as here"

    def with_a_prior(self) -> str:
        return self.one_study("--prior", "studies/1.png", prior=self._studies[1]) if self._engine.kind == "findings" else "no pictures"

    def batch(self) -> str:
        start = time.monotonic()
        return f"{self._compared(self._start(self._batch))}, {time.monotonic() - start:.0f} s"

    def resume_after_kill_9(self) -> str:
        self._results.unlink()
        client = self._start([*self._batch, "--jobs", "1"])
        while client.poll() is None and self._finished() < 2:
            time.sleep(0.02)
        client.kill()
        client.communicate()
        return f"killed after {self._finished()}; then {self._compared(self._start([*self._batch, '--resume']))}"

    def ctrl_c(self) -> str:
        client = self._start([*MEDGEMMA.split(), self._engine.kind, str(self._studies[0]), "--endpoint", self._url])
        first = client.stdout.read(1)
        client.send_signal(signal.SIGINT)
        start, text = time.monotonic(), first + client.stdout.read()
        busy, headers = self._engine.busy, {"authorization": f"Bearer {KEY}"}
        while busy and re.search(busy[1], httpx2.get(self._url[:-3] + busy[0], headers=headers, trust_env=False).text):
            time.sleep(0.1)
        idle = f"; the server is idle after {time.monotonic() - start:.1f} s" if busy else ""
        return f"exit {client.wait()}, {len(text.split())} words{idle}"

    def wrong_key(self) -> str:
        return "exit {0}: {2}".format(*self._ask(self._engine.kind, str(self._studies[0]), "--api-key-file", "wrong"))

    def too_long(self) -> str:
        return "exit {0}: {2}".format(*self._ask("soap", "long.json"))


def main() -> None:
    folder = Path(sys.argv[1]).absolute()
    os.environ |= {"MEDGEMMA_API_KEY": KEY, "VLLM_CPU_KVCACHE_SPACE": "1"}
    demo_for_vllm(folder / "demo")
    step(folder, "built", "build")
    print("| server | | |\n|---|---|---|")
    for engine in [engine for engine in engines(folder) if engine.name in (sys.argv[2:] or engine.name)]:
        prepare(work := folder / engine.name)
        with started(engine, work) as url:
            run = Run(engine, url, work)
            for name in [name for name in vars(Run) if not name.startswith("_")]:
                print(f"| {engine.name} | {name.replace('_', ' ')} | {getattr(run, name)()} |", flush=True)


if __name__ == "__main__":
    main()
