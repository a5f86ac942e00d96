"""Notes in a file, and a client that does not wait long."""

from __future__ import annotations

import json

import openai._base_client
import pytest

from medgemma_app.demo import write_notes


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The client waits a hundredth of what it would, unless a server says how long."""
    monkeypatch.setattr(openai._base_client, "INITIAL_RETRY_DELAY", 0.005)


@pytest.fixture
def notes(tmp_path):
    (tmp_path / "notes.json").write_text(json.dumps(write_notes(3)[0]))
    return str(tmp_path / "notes.json")
