"""``python -m medgemma_app.demo FOLDER [SEED]`` writes a drawn radiograph and synthetic visit notes to try the commands on."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from medgemma_app.demo import draw_phantom, write_notes


def main(folder: str, seed: str = "33") -> None:
    """Writes ``scan.png`` and ``notes.json`` into ``folder`` and says where."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    draw_phantom(int(seed))[0].save(target / "scan.png")
    (target / "notes.json").write_text(json.dumps(write_notes(int(seed))[0], indent=2) + "\n", encoding="utf-8")
    print(f"drawn: {target / 'scan.png'} and {target / 'notes.json'}", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:3])
