"""``medgemma export``: the JSON record of a report -> a file that people can open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from medgemma_app.cli.check import read_text
from medgemma_app.cli.output import check_output
from medgemma_app.errors import InputError, OptionError
from medgemma_app.export import ending_of, render, table, write_whole


def export_record(source: str, to: Path, *, line: int | None, scan: str | None, subject: str | None, force: bool) -> None:
    """Writes the report in ``source``, or all of them where ``to`` is a .csv file. Raises InputError, OptionError, OutputError."""
    ending = ending_of(to)
    check_output(to, "--to", [source, *filter(None, [scan])], force=force)
    name, records = read_records(source)
    if line is not None and not 1 <= line <= len(records):
        raise OptionError(f"--line {line}: {name} has {len(records)} lines")
    chosen = records if line is None else [records[line - 1]]
    if ending == ".csv":
        write_whole(to, table(chosen).encode(errors="replace"))
    elif len(chosen) != 1:
        raise OptionError(f"{name} holds {len(chosen)} reports; choose one with --line, or write all of them to a .csv file")
    else:
        write_whole(to, render(chosen[0], ending, scan=scan, subject=subject))


def read_records(source: str) -> tuple[str, list[dict[str, Any]]]:
    """The name of a file, and the records in it: one object, or one on each line. Raises InputError."""
    name, text = read_text(source)
    one = text.lstrip()[:2] in ("{\n", "{\r")  # over several lines
    try:
        records = [json.loads(line) for line in ([text] if one else text.split("\n")) if line.strip()]
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} is not JSON; give what findings --json or soap --json printed") from error
    if not records or not all(isinstance(record, dict) for record in records):
        raise InputError(f"{name} holds no report; give what findings --json or soap --json printed")
    return name, records
