"""The server's part of ``make bench``: studies a minute with one request in flight and with sixteen.

Starts ``medgemma serve`` with the demo on a free port of this machine and asks it for findings reports and SOAP notes in turn,
on seeds that training never saw. The rounds alternate, so that whatever else the machine does falls on both.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from socket import socket
from typing import Any

from medgemma_app import Model, Options, connect
from medgemma_app.demo import draw_phantom, write_notes
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


def studies(count: int) -> list[Callable[[Model], Task]]:
    """Findings and notes in turn."""

    def task(seed: int) -> Callable[[Model], Task]:
        if seed % 2:
            return lambda model: soap_task(model, write_notes(seed)[0])
        return lambda model: findings_task(model, draw_phantom(seed)[0])

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
    """Studies a minute through `medgemma serve`, with sixteen requests in flight against one."""
    with served() as url:
        studies_a_minute(url, 4, 4)  # the first requests compile and look whether pictures are seen
        rates = [[studies_a_minute(url, count, jobs) for jobs in IN_FLIGHT] for _ in range(rounds)]
    ratios = sorted(many / one for one, many in rates)
    one, many = (statistics.median(column) for column in zip(*rates, strict=True))
    row = {"ratio": statistics.median(ratios), "lowest": ratios[0], "highest": ratios[-1], "one": one, "sixteen": many}
    print(f"  {row['ratio']:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}; {many:.0f} against {one:.0f}, {rounds} rounds)")
    return row
