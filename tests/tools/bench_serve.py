"""The server's parts of ``make bench``: studies a minute with one and with sixteen requests at a time, and how long a short chat waits.

Each starts ``medgemma serve`` with the demo on a free port of this machine.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from socket import socket
from typing import Any

import httpx2

from medgemma_app import Options, connect
from medgemma_app.demo import draw_phantom, write_notes
from medgemma_app.inputs.images import png_url
from medgemma_app.model.generation import EndpointError
from medgemma_app.reports import findings_task, soap_task
from medgemma_app.tasks import Task, write_many

FIRST_SEED = 900_000
IN_FLIGHT = (1, 16)


@contextmanager
def served(
    model: str = "demo", *, seconds: float = 60, started: Callable[[subprocess.Popen[bytes]], object] = lambda _: None
) -> Iterator[str]:
    """The URL of a ``medgemma serve`` that is ready and ends with the context."""
    port = free_port()
    command = [sys.executable, "-m", "medgemma_app", "serve", "--model", model, "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        started(server)
        try:
            url = f"http://127.0.0.1:{port}/v1"
            wait_for(url, server, time.monotonic() + seconds)
            yield url
        finally:
            server.terminate()


def free_port() -> int:
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_for(url: str, server: subprocess.Popen[bytes], deadline: float) -> None:
    """Returns once a model can be asked at ``url``. Raises EndpointError when ``server`` has ended, or ``deadline`` is past."""
    while True:
        try:
            connect(url)
            return
        except EndpointError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def prompt(words: int) -> bytes:
    """A request for a chat of 8 tokens."""
    content = " ".join(str(number % 10) for number in range(words))
    return json.dumps({"model": "demo", "max_tokens": 8, "messages": [{"role": "user", "content": content}]}).encode()


def studies(count: int) -> list[Callable[[], Task]]:
    """Findings and notes in turn."""

    def task(seed: int) -> Callable[[], Task]:
        if seed % 2:
            return lambda: soap_task(write_notes(seed)[0])
        return lambda: findings_task(draw_phantom(seed)[0])

    return [task(FIRST_SEED + number) for number in range(count)]


def studies_a_minute(url: str, count: int, jobs: int) -> float:
    model = connect(url)
    start = time.perf_counter()
    reports = list(write_many(model, studies(count), Options(), batch_size=jobs))
    seconds = time.perf_counter() - start
    failed = [report for report in reports if isinstance(report, Exception)]
    if failed:
        raise SystemExit(f"{len(failed)} of {count} studies failed: {failed[0]}")
    return 60 * count / seconds


def serve(count: int = 32, rounds: int = 3) -> dict[str, Any]:
    """Studies a minute through `medgemma serve`, sixteen requests at a time against one: findings and notes on seeds unseen in training."""
    with served() as url:
        studies_a_minute(url, 4, 4)  # the first requests compile and look whether pictures are seen
        rates = [[studies_a_minute(url, count, jobs) for jobs in IN_FLIGHT] for _ in range(rounds)]
    ratios = sorted(many / one for one, many in rates)
    one, many = (statistics.median(column) for column in zip(*rates, strict=True))
    row = {"ratio": statistics.median(ratios), "lowest": ratios[0], "highest": ratios[-1], "one": one, "sixteen": many}
    print(f"  {row['ratio']:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}; {many:.0f} against {one:.0f}, {rounds} rounds)")
    return row


def two_pictures(seed: int) -> bytes:
    """A request for a report with two pictures that the server has not seen."""
    found = {name: png_url(draw_phantom(FIRST_SEED + number)[0]) for name, number in (("scan", seed), ("prior", seed + 1))}
    return json.dumps({**found, "options": {"max_tokens": 8}}).encode()


def fairness(chats: int = 40, at_once: int = 6) -> dict[str, Any]:
    """A chat of 8 tokens beside six long prompts, or six reports, as a multiple of alone: its time, and the server's CPU time (Linux)."""
    found: list[subprocess.Popen[bytes]] = []
    with served(started=found.append) as url, httpx2.Client(base_url=url, timeout=300, trust_env=False) as client:

        def ask(path: str, body: bytes) -> None:
            client.post(path, content=body, headers={"content-type": "application/json"}).raise_for_status()

        def timed(_: object) -> tuple[float, float]:
            start, used = time.perf_counter(), cpu_seconds(found[0].pid)
            ask("/chat/completions", prompt(20))
            return time.perf_counter() - start, cpu_seconds(found[0].pid) - used

        def beside(path: str, body: Callable[[int], bytes]) -> list[tuple[float, float]]:
            ended, seeds = threading.Event(), iter(range(0, 1_000_000, 2))

            def ask_on(_: object) -> None:
                while not ended.is_set():
                    ask(path, body(next(seeds)))

            with ThreadPoolExecutor(at_once) as pool:
                asking = pool.map(ask_on, range(at_once))
                time.sleep(1)
                try:
                    return [timed(chat) for chat in range(chats)]
                finally:
                    ended.set()
                    list(asking)

        alone = [timed(chat) for chat in range(chats + 5)][5:]  # the first ones are slower
        rows = {
            "prompts of 3,900 tokens": beside("/chat/completions", lambda _: prompt(1940)),
            "reports with two pictures": beside("/findings", two_pictures),
        }
    results = {}
    for at, clock in enumerate(("seconds", "CPU seconds")):
        base = statistics.median(row[at] for row in alone) or float("nan")
        for name, measured in rows.items():
            times = sorted(row[at] / base for row in measured)
            results[f"{name}, {clock}"] = {"alone": base, "median": statistics.median(times), "longest": times[-1]}
            print(f"  {clock} beside {at_once} {name}: median {statistics.median(times):.1f}, longest {times[-1]:.1f} times {base:.3f}")
    return results


def cpu_seconds(process: int) -> float:
    """The CPU time of a process on Linux, as by clock_getcpuclockid(3); 0 elsewhere."""
    return time.clock_gettime((~process << 3) | 2) if sys.platform == "linux" else 0.0
