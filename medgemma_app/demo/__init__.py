"""The embedded demo: a tiny checkpoint of the real architecture, and the drawing of what it was trained on."""

from pathlib import Path

from medgemma_app.demo.phantoms import draw_pair, draw_phantom
from medgemma_app.demo.visits import write_notes

CHECKPOINT = Path(__file__).parent / "checkpoint"

__all__ = ["CHECKPOINT", "draw_pair", "draw_phantom", "write_notes"]
