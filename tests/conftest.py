"""Checkpoints made once for all tests: a random one, and the embedded demo."""

from __future__ import annotations

import functools
import json
import os
import signal

os.environ["HF_HUB_OFFLINE"] = "1"  # a test that reaches for the network fails at once
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a shell's background job, whose children would not hear of Ctrl-C either
    signal.signal(signal.SIGINT, signal.default_int_handler)
real_checkpoint = os.environ.pop("MEDGEMMA_MODEL", None)

import pytest  # noqa: E402
import typer.testing  # noqa: E402
from hypothesis import settings  # noqa: E402
from scripted_server import serving  # noqa: E402
from tiny import make_checkpoint  # noqa: E402

import medgemma_app  # noqa: E402
from medgemma_app import MedGemma  # noqa: E402
from medgemma_app.demo import draw_phantom, write_notes  # noqa: E402

settings.register_profile("repeatable", derandomize=True, deadline=None)  # a failure is the code's, not the day's
settings.load_profile("repeatable")
typer.testing._get_command = functools.cache(typer.testing._get_command)  # CliRunner builds the whole command anew each time it runs one


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("tiny") / "checkpoint")


@pytest.fixture(scope="session")
def tiny_model(tiny_folder):
    return MedGemma.load(str(tiny_folder))


@pytest.fixture(scope="session")
def raw_model(tiny_folder):
    """The same checkpoint as mlx-vlm computes it."""
    return MedGemma.load(str(tiny_folder), align=False)


@pytest.fixture(scope="session")
def demo():
    return MedGemma.load("demo")


@pytest.fixture(scope="session")
def real_model():
    """A real checkpoint, where MEDGEMMA_MODEL names one."""
    if real_checkpoint is None:
        pytest.skip("MEDGEMMA_MODEL names no real checkpoint")
    return MedGemma.load(real_checkpoint)


@pytest.fixture(scope="session")
def client():
    """A client of ``medgemma serve`` with the demo, which runs until the last test."""
    from serving import running

    with running("demo") as client:
        yield client


@pytest.fixture
def scan(tmp_path):
    draw_phantom(3)[0].save(tmp_path / "scan.png")
    return tmp_path / "scan.png"


@pytest.fixture
def notes(tmp_path):
    (tmp_path / "notes.json").write_text(json.dumps(write_notes(3)[0]))
    return tmp_path / "notes.json"


@pytest.fixture
def server():
    """A server of our own that does what a test tells it to."""
    with serving() as server:
        yield server


@pytest.fixture
def connect(server):
    return lambda **how: medgemma_app.connect(server.url, **how)
