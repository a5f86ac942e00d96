"""The embedded demo: a tiny checkpoint of the real architecture, and the drawing of what it was trained on."""

from pathlib import Path

from medgemma_app.demo.forms import write_notes
from medgemma_app.demo.phantoms import draw_nodule, draw_pair, draw_phantom

CHECKPOINT = Path(__file__).parent / "checkpoint"

__all__ = ["CHECKPOINT", "draw_nodule", "draw_pair", "draw_phantom", "write_notes"]
