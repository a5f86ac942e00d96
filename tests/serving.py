"""A server in this process, on a port of its own, and what a client sends it."""

from __future__ import annotations

import base64
import json
import threading
import time
from contextlib import contextmanager

import httpx2

from medgemma_app.inputs.images import png, png_url
from medgemma_app.serve.access import BindAddress
from medgemma_app.serve.engine import Engine
from medgemma_app.serve.limits import Readers
from medgemma_app.serve.server import Server

PATIENCE = 30
SIDE = {"type": "object", "properties": {"side": {"enum": ["left", "right"]}}, "required": ["side"], "additionalProperties": False}


@contextmanager
def running(model, **options):
    """A client of a server that has loaded ``model``; ``client.engine`` is the server's, ``client.server`` the server."""
    address = BindAddress(host="127.0.0.1", port=0, key=options.get("key"))
    engine = Engine(model)
    server = Server(engine, Readers(options.get("memory", 1_000_000_000)), address, grace=options.get("grace", 1))
    with address.listen() as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        engine.wait_until_ready(PATIENCE)
        until(lambda: server.started)
        try:
            with httpx2.Client(base_url=address.url(listening.getsockname()[1]), timeout=PATIENCE, trust_env=False) as client:
                client.engine, client.server = engine, server
                yield client
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
            assert not thread.is_alive()


def until(true):
    """Waits for ``true()``, and fails when it does not become so."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.005)


def encoded(image):
    return base64.b64encode(png(image)).decode()


def chat(*parts, model="demo", **more):
    """A chat request of texts and pictures in their order."""
    content = [
        {"type": "text", "text": part} if isinstance(part, str) else {"type": "image_url", "image_url": {"url": png_url(part)}}
        for part in parts
    ]
    return {"model": model, "messages": [{"role": "user", "content": content}], **more}


def events(text):
    """Server-sent events -> (name, data) pairs."""
    found = [block.splitlines() for block in text.split("\n\n") if block]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in found]


def choices(text):
    """The choice of every chunk of a streamed chat."""
    chunks = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: {")]
    return [chunk["choices"][0] for chunk in chunks]
