"""The command in this process, without a model kept for it, and what it has written."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from medgemma_app.cli.app import app


def run(*arguments, **how):
    """Runs ``medgemma`` with these arguments; ``input`` is its standard input."""
    return CliRunner().invoke(app, [*map(str, arguments)], **how)


def records(path):
    """The JSON records in a file, one on each line."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def tree(folder):
    """Every file below a folder, by its path, with its bytes."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
