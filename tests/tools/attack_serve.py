"""What a hostile client can do to ``medgemma serve``: memory, the wait for /health, and the wait of a small request, under each attack.

    python tests/tools/attack_serve.py [ATTACK...]

Starts the server with the demo for every attack, on a free port of this machine. Linux only: memory is read from /proc.
"""

from __future__ import annotations

import base64
import io
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
from bench_serve import prompt, served
from PIL import Image

from medgemma_app.demo import draw_phantom
from medgemma_app.inputs.images import png_url

MB = 1_000_000
HEAD = "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"


def many_scans(side: int, scans: int) -> bytes:
    """A progressive JPEG, one of whose scans stands in it so many times. Each takes a pass over the whole picture."""
    picture, file = Image.new("L", (side, side)), io.BytesIO()
    picture.paste(Image.linear_gradient("L").resize((side // 2, 64)), (0, 0))
    picture.save(file, "JPEG", progressive=True)
    content = file.getvalue()
    start = content.rindex(b"\xff\xda")
    return content[:start] + content[start:-2] * scans + content[-2:]


def thin_picture() -> bytes:
    picture = Image.effect_noise((64, 64), 50).resize((64, 12_000))
    return json.dumps({"scan": png_url(picture), "options": {"max_tokens": 1}}).encode()


def messages(size: int) -> bytes:
    return b'{"model":"demo","messages":[' + b",".join([b"{}"] * (size // 3)) + b"]}"


def large_body(size: int) -> bytes:
    return b'{"scan":"' + b"A" * (size - 12) + b'"}'


def slow_picture() -> bytes:
    return json.dumps({"scan": base64.b64encode(many_scans(6000, 1000)).decode()}).encode()


class Attacked:
    """A server, and what is measured of it meanwhile."""

    def __init__(self, url: str, process: subprocess.Popen[bytes]) -> None:
        self._url, self._process = url, process
        self.address = (urlsplit(url).hostname, urlsplit(url).port)
        self.base = f"http://{self.address[0]}:{self.address[1]}"
        self.peak, self.before, self.alone = 0, 0, 0.0
        self.health: list[float] = []
        self.small: list[float] = []

    def memory(self) -> tuple[int, int]:
        """Bytes of the server, and of it and its processes."""
        own = resident(self._process.pid)
        return own, own + sum(resident(child) for child in children(self._process.pid))

    def post(self, path: str, body: bytes, timeout: float = 300) -> int:
        try:
            with httpx2.Client(base_url=self.base, timeout=timeout, trust_env=False) as client:
                return client.post(path, content=body, headers={"content-type": "application/json"}).status_code
        except httpx2.HTTPError:
            return 0

    def at_once(self, count: int, path: str, body: bytes) -> list[int]:
        with ThreadPoolExecutor(count) as pool:
            return sorted(pool.map(lambda _: self.post(path, body), range(count)))

    def half_sent(self, count: int, sent: bytes) -> list[socket.socket]:
        found = []
        for _ in range(count):
            with suppress(OSError):
                found.append(socket.create_connection(self.address, timeout=5))
                found[-1].sendall(sent)
        return found

    def watch(self, ended: threading.Event) -> None:
        while not ended.wait(0.02):
            self.peak = max(self.peak, self.memory()[1])


def asking(base: str) -> None:
    """How long /health and a short chat take, again and again, a line each; a process of its own, so that the attack does not slow it."""
    with httpx2.Client(base_url=base, timeout=120, trust_env=False) as client:
        while True:
            start = time.perf_counter()
            client.get("/health")
            print("health", time.perf_counter() - start, flush=True)
            if "chat" in sys.argv:
                start = time.perf_counter()
                answer = client.post("/v1/chat/completions", content=prompt(20), headers={"content-type": "application/json"})
                print("chat", time.perf_counter() - start if answer.status_code == 200 else answer.status_code, flush=True)
            time.sleep(0.05)


def resident(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * 4096
    except OSError:
        return 0


def children(process: int) -> list[int]:
    with suppress(OSError):
        return [int(child) for task in Path(f"/proc/{process}/task").iterdir() for child in (task / "children").read_text().split()]
    return []


@contextmanager
def attacked() -> Iterator[Attacked]:
    """A server that has answered a few requests, and threads that measure it."""
    found: list[Any] = []
    with served(started=found.append) as url:
        server, ended = Attacked(url, found[0]), threading.Event()
        body = json.dumps({"scan": png_url(draw_phantom(0)[0]), "options": {"max_tokens": 1}}).encode()
        for _ in range(3):
            server.post("/v1/findings", body)
            server.post("/v1/chat/completions", prompt(20))
        alone = []
        for _ in range(5):
            start = time.perf_counter()
            server.post("/v1/chat/completions", prompt(20))
            alone.append(time.perf_counter() - start)
        server.alone = statistics.median(alone)
        server.before = server.memory()[1]
        watching = threading.Thread(target=server.watch, args=(ended,))
        watching.start()
        command = [sys.executable, __file__, "--ask", server.base]
        with tempfile.TemporaryFile("w+") as health, tempfile.TemporaryFile("w+") as chats:
            askers = [subprocess.Popen(command, stdout=health), subprocess.Popen([*command, "chat"], stdout=chats)]
            try:
                while not (os.fstat(health.fileno()).st_size and os.fstat(chats.fileno()).st_size):
                    time.sleep(0.1)
                yield server
            finally:
                ended.set()
                watching.join()
                for asker in askers:
                    asker.kill()
                    asker.wait()
                for file, name, found in ((health, "health", server.health), (chats, "chat", server.small)):
                    file.seek(0)
                    found += [float(line.split()[1]) for line in file.read().splitlines() if line.startswith(name)]


def leave_while_read(server: Attacked) -> list[int]:
    """Clients that send a slow picture and go."""
    body = slow_picture()
    for connection in server.half_sent(8, HEAD.format(path="/v1/findings", length=len(body)).encode() + body):
        time.sleep(0.5)
        connection.close()
    return [server.post("/v1/chat/completions", prompt(20))]


def trickle(server: Attacked) -> list[int]:
    head = HEAD.format(path="/v1/findings", length=1_000_000).encode()
    held = server.half_sent(100, head + b"{")
    statuses = [server.post("/v1/chat/completions", prompt(20)) for _ in range(5)]
    time.sleep(12)
    for connection in held:
        connection.close()
    return statuses


def half_open(server: Attacked) -> list[int]:
    held = server.half_sent(300, b"POST /v1/findings HTTP/1.1\r\nHost: localhost\r\n")
    time.sleep(11)
    statuses = [server.post("/v1/chat/completions", prompt(20)) for _ in range(5)]
    for connection in held:
        connection.close()
    return statuses


ATTACKS: dict[str, Callable[[Attacked], list[int]]] = {
    "nothing": lambda server: [time.sleep(5) or 0],
    "6 MB of empty messages": lambda server: server.at_once(1, "/v1/chat/completions", messages(6 * MB)),
    "60 MB of empty messages": lambda server: server.at_once(1, "/v1/chat/completions", messages(60 * MB)),
    "2.9 MB of empty messages, 16 at once": lambda server: server.at_once(16, "/v1/chat/completions", messages(2_900_000)),
    "32 bodies of 60 MB at once": lambda server: server.at_once(32, "/v1/findings", large_body(60 * MB)),
    "64 bodies of 60 MB at once": lambda server: server.at_once(64, "/v1/findings", large_body(60 * MB)),
    "13 thin pictures": lambda server: server.at_once(13, "/v1/findings", thin_picture()),
    "4 JPEGs of a thousand scans": lambda server: server.at_once(4, "/v1/findings", slow_picture()),
    "8 of them whose clients leave": leave_while_read,
    "100 bodies that trickle": trickle,
    "300 connections without a request": half_open,
    "6 prompts of 3,900 tokens": lambda server: server.at_once(6, "/v1/chat/completions", prompt(1940)),
}


def main() -> None:
    print("| attack | answers | memory before, peak, 5 s after (MB) | longest wait for /health | a short chat: alone, longest beside |")
    print("|---|---|---|---|---|")
    for name in sys.argv[1:] or ATTACKS:
        with attacked() as server:
            statuses = ATTACKS[name](server)
            answers = ", ".join(f"{statuses.count(status)} x {status}" for status in sorted(set(statuses)))
            time.sleep(5)
            after = server.memory()[1]
        memory = ", ".join(f"{size / MB:.0f}" for size in (server.before, server.peak, after))
        waits = f"{max(server.health):.2f} s | {server.alone:.2f} s, {max(server.small, default=0):.2f} s"
        print(f"| {name} | {answers} | {memory} | {waits} |", flush=True)


if __name__ == "__main__":
    asking(sys.argv[2]) if sys.argv[1:2] == ["--ask"] else main()
