"""A client that does not wait long."""

from __future__ import annotations

import openai._base_client
import pytest


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The client waits a hundredth of what it would, unless a server says how long."""
    monkeypatch.setattr(openai._base_client, "INITIAL_RETRY_DELAY", 0.005)
