"""``python -m medgemma_app.demo FOLDER [SEED]`` writes a drawn radiograph and invented visit notes to try the commands with."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from medgemma_app.demo import draw_phantom, write_notes

USAGE = "usage: python -m medgemma_app.demo FOLDER [SEED], where SEED is a whole number"


def main(arguments: list[str]) -> int:
    """Writes ``scan.png`` and ``notes.json`` into a folder. Returns the exit code."""
    folder, seed = [*arguments, "1939"][:2] if 1 <= len(arguments) <= 2 else ("", "")
    if not seed.isdecimal():
        print(USAGE, file=sys.stderr)
        return 2
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
        draw_phantom(int(seed))[0].save(target / "scan.png")
        (target / "notes.json").write_text(json.dumps(write_notes(int(seed))[0], indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        print(f"cannot write into {folder}: {error.strerror}", file=sys.stderr)
        return 2
    print(f"wrote {target / 'scan.png'} and {target / 'notes.json'}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
