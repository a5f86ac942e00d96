"""An OpenAI-compatible server on loopback that does what a test tells it to, faults included."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from commands import run

from medgemma_app import Generation, Options, Prompt

MODEL = "med"
PICTURE_TOKENS = 256


class Scripted(ThreadingHTTPServer):
    """``chat`` answers a chat request. ``requests`` are the bodies of all of them, ``headers`` theirs."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.chat: Callable[[Handler, dict[str, Any]], None] = says("Clear.")
        self.models: Any = {"object": "list", "data": [{"id": MODEL, "object": "model"}]}
        self.tokenize: Callable[[dict[str, Any]], list[int]] | None = None
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.gone = threading.Event()  # set when a client has left in mid-stream

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Scripted

    def do_GET(self) -> None:
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        if callable(self.server.models):
            self.server.models(self)
        else:
            self.json(200, self.server.models)

    def do_POST(self) -> None:
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if self.path == "/v1/chat/completions":
                self.server.requests.append(body)
                self.server.chat(self, body)
            elif self.path == "/tokenize" and self.server.tokenize:
                self.json(200, {"tokens": self.server.tokenize(body)})
            else:
                self.json(404, {"error": {"message": "no such path"}})

    def json(self, status: int, value: Any, **headers: str) -> None:
        self.raw(status, json.dumps(value).encode(), "application/json", **headers)

    def raw(self, status: int, body: bytes, kind: str, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"content-type": kind, "content-length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def stream(self, pieces: Iterable[Any]) -> None:
        """Server-sent events; a string goes out as it is. The connection is closed at the end, as a server that dies does it."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.end_headers()
        try:
            for piece in pieces:
                self.wfile.write((piece if isinstance(piece, str) else f"data: {json.dumps(piece)}\n\n").encode())
                self.wfile.flush()
        except (BrokenPipeError, ConnectionResetError):
            self.server.gone.set()

    def log_message(self, *_: object) -> None:
        pass


def pictures(body: dict[str, Any]) -> int:
    return sum(part["type"] == "image_url" for message in body["messages"] for part in message["content"] if isinstance(part, dict))


def text_tokens(body: dict[str, Any]) -> int:
    """As many as a tokenizer makes of the texts, about."""
    contents = [message["content"] for message in body["messages"]]
    parts = [part for content in contents for part in ([{"text": content}] if isinstance(content, str) else content)]
    return sum(len(part.get("text", "")) for part in parts) // 4


def chunk(text: str | None = None, *, finish: str | None = None, **choice: Any) -> dict[str, Any]:
    first = {"index": 0, "delta": {"content": text}, "finish_reason": finish, **choice}
    return {"id": "1", "object": "chat.completion.chunk", "model": MODEL, "choices": [first]}


def usage(prompt: int, generated: int) -> dict[str, Any]:
    return {
        "id": "1",
        "choices": [],
        "usage": {"prompt_tokens": prompt, "completion_tokens": generated, "total_tokens": prompt + generated},
    }


def says(*texts: str, finish: str = "stop", picture_tokens: int = PICTURE_TOKENS) -> Callable[[Handler, dict[str, Any]], None]:
    """Answers with these pieces, as many as may be, and reports what it has used, without ids and log-probabilities."""

    def chat(handler: Handler, body: dict[str, Any]) -> None:
        pieces = texts[: body["max_tokens"]]
        used = usage(10 + text_tokens(body) + picture_tokens * pictures(body), len(pieces))
        handler.stream([*map(chunk, pieces), chunk(finish=finish), used, "data: [DONE]\n\n"])

    return chat


@contextmanager
def serving() -> Iterator[Scripted]:
    server = Scripted()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def refusal(status: int, **headers: str) -> Any:
    """A refusal that repeats what it was sent, as some servers do."""
    return lambda handler, body: handler.json(status, {"error": {"message": json.dumps(body)}}, **headers)


def breaking_off(*texts: str) -> Any:
    """An answer without an end."""
    return lambda handler, body: handler.stream(map(chunk, texts))


def slowly() -> Iterator[str]:
    """10,000 words, one every 5 ms."""
    for number in range(10_000):
        time.sleep(0.005)
        yield chunk(f"word{number} ")


def answer(model: Any, text: str = "Say something.", **options: Any) -> Generation:
    return model.generate(Prompt((text,)), Options(**options))


def medgemma(*arguments: object, server: Scripted | str) -> Any:
    """Runs the command with a server, or with a URL, as its endpoint."""
    return run(*arguments, "--endpoint", server if isinstance(server, str) else server.url)
