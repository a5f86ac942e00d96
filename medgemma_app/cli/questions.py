"""The commands beside reports: a question in free text, and the list of prompt files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medgemma_app.cli.options import ADVANCED, AsJson, RunOptions, argument, collected, option
from medgemma_app.errors import OptionError

if TYPE_CHECKING:
    from medgemma_app.cli.batch import Make
    from medgemma_app.inputs.studies import StudySource


@collected
def ask(
    run: RunOptions,
    words: Annotated[
        list[str],
        argument("[SCAN|-]... QUESTION", "Pictures, folders of slices, or - for notes on standard input; then the question."),
    ],
    schema: Annotated[Path | None, option(ADVANCED, "Answer with JSON that follows the JSON schema in FILE.", metavar="FILE")] = None,
) -> None:
    """Ask a question about pictures or notes, or about neither."""
    from medgemma_app.cli.batch import Run
    from medgemma_app.inputs.notes import read_notes
    from medgemma_app.inputs.studies import StudyList, StudySource, read_study
    from medgemma_app.questions import ask_task, checked_text

    *names, question = words
    question = checked_text(question, "question")
    if _exists(question):
        raise OptionError("the last argument is a file; write the question after it, in quotes")
    if names.count("-") > 1:
        raise OptionError("standard input can be read only once")
    job, scans = Run("ask", run), [name for name in names if name != "-"]
    if schema is not None:
        job.options = replace(job.options, schema=_read_schema(schema))

    def read(_study: StudySource) -> Make:
        studies = [read_study(scan) for scan in scans]
        notes = read_notes("-") if "-" in names else None
        return lambda model: ask_task(model, question, *studies, notes=notes, options=job.options)

    found = StudyList([StudySource(names[0] if names else "-")], [])
    raise typer.Exit(
        job.studies(
            found, read, asked={"question": question, "schema": job.options.schema}, inputs=[*names[1:], *([str(schema)] if schema else [])]
        )
    )


def _read_schema(path: Path) -> str:
    from medgemma_app.inputs.files import open_input, shown_name
    from medgemma_app.model.structured import MOST_LETTERS

    with open_input(path, what="a JSON schema") as file:
        raw = file.read(4 * MOST_LETTERS)  # what is longer is refused, whatever it says
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise OptionError(f"{shown_name(path)} is not UTF-8 text; give a JSON schema") from error


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # too long for a path, as questions are
        return False


def prompts(as_json: AsJson = False) -> None:
    """List the prompt files that come with this program."""
    from medgemma_app.cli.output import json_line
    from medgemma_app.prompts import prompt_paths, read_prompt

    for path in prompt_paths():
        file = read_prompt(path.stem)
        if as_json:
            record = {"name": path.stem, "kind": file.kind, "pictures": file.pictures, "path": str(path)}
            print(json_line({**record, "sections": file.sections, "optional": file.optional, "sha256": file.sha256}))
            continue
        pictures = "" if file.pictures == "one" else f", pictures: {file.pictures}"
        print(f"{path.stem}\n  kind: {file.kind}{pictures}\n  {path}")
        if file.sections:
            print(f"  sections: {', '.join(section + ' (optional)' * (section in file.optional) for section in file.sections)}")
