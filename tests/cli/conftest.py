"""The command as most tests of this room use it: in this process, on drawn files, with the demo loaded once and its answers kept."""

from __future__ import annotations

import pytest
from commands import run as run_command
from remembering import remembering

from medgemma_app import MedGemma

GERMAN = """---
kind: findings
title: Befundbericht
sections: BEFUND, BEURTEILUNG
---
Beschreibe dieses Röntgenbild.
Angaben: $header
Fragestellung: $indication
BEFUND: was zu sehen ist.
BEURTEILUNG: der Schluss daraus.
"""


@pytest.fixture
def german(tmp_path):
    (tmp_path / "german.md").write_text(GERMAN, encoding="utf-8")
    return tmp_path / "german.md"


@pytest.fixture(scope="session")
def demo(demo):
    return remembering(demo)


@pytest.fixture
def medgemma(demo, monkeypatch):
    """Runs the command; ``loads`` of the result says how often a model has been loaded so far."""
    loads = []
    monkeypatch.setattr(MedGemma, "load", lambda *_, **__: loads.append(1) or demo)

    def run(*arguments, model="demo", **how):
        result = run_command(*arguments, *(["--model", model] if model else []), **how)
        result.loads = len(loads)
        return result

    return run
