"""``medgemma ask``, ``locate`` and ``prompts``."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medgemma_app.cli.options import ADVANCED, OUTPUT, Frame, Patient, RunOptions, Window, argument, collected, option
from medgemma_app.errors import OptionError
from medgemma_app.notices import say

if TYPE_CHECKING:
    from medgemma_app.inputs.studies import StudySource
    from medgemma_app.questions import LocateReport
    from medgemma_app.tasks import Report, Task

NO_INPUT = "question"  # the name of the study where a question comes without files
FOR_REPORTS = {"subject", "study", "batch_size", "jobs"}  # options that have no effect on a single question


@partial(collected, without=FOR_REPORTS)
def ask(
    run: RunOptions,
    words: Annotated[
        list[str], argument("[SCAN|-]... QUESTION", "Pictures, folders of slices, or - for notes on standard input; then the question.")
    ],
    frame: Frame = None,
    window: Window = None,
    patient: Patient = None,
    schema: Annotated[Path | None, option(ADVANCED, "Answer with JSON that follows the JSON schema in FILE.", metavar="FILE")] = None,
) -> None:
    """Ask a question about pictures or notes, or about neither."""
    from medgemma_app.cli.batch import Run
    from medgemma_app.cli.records import read_text
    from medgemma_app.inputs.files import shown_name
    from medgemma_app.inputs.notes import holds_notes, read_notes
    from medgemma_app.inputs.studies import StudyList, StudySource, read_study
    from medgemma_app.questions import ask_task, checked_text

    *names, question = words
    question = checked_text(question, "question")
    if _exists(question):
        raise OptionError("the last argument is a file; write the question after it, in quotes")
    scans = [name for name in names if name != "-"]
    if [*names, str(schema)].count("-") > 1:
        raise OptionError("standard input can be read only once")
    if stray := next((name for name in scans if not re.search(r"[./\\]", name) and not _exists(name)), None):
        raise OptionError(f"there is no file {shown_name(stray)}; write the question in quotes, as the last argument")
    if notes := next(filter(holds_notes, scans), None):
        raise OptionError(f"{shown_name(notes)} is not a picture; notes are read from standard input: medgemma ask - QUESTION < FILE")
    job = Run("ask", run)
    shown: dict[str, Any] = {"frame": frame, "window": window}
    if schema is not None:
        job.options = replace(job.options, schema=read_text(str(schema), what="a JSON schema")[1])

    def read(_study: StudySource) -> Task:
        studies = [read_study(scan, **shown) for scan in scans]
        notes = read_notes("-", patient=patient, any_text=True) if "-" in names else None
        return ask_task(question, *studies, notes=notes, options=job.options)

    found = StudyList([StudySource(names[0] if names else NO_INPUT)], [])
    asked = {"question": question, "schema": job.options.schema, "patient": patient, **shown}
    raise typer.Exit(job.studies(found, read, asked=asked, inputs=[*names[1:], *([str(schema)] if schema else [])]))


@partial(collected, without=FOR_REPORTS | {"repetition_penalty"})
def locate(
    run: RunOptions,
    scan: Annotated[str, argument("SCAN", "One picture or DICOM file.")],
    target: Annotated[str, argument("TARGET", 'The anatomical structure to look for, such as "right clavicle".')],
    frame: Frame = None,
    window: Window = None,
    save_boxes: Annotated[
        Path | None,
        option(OUTPUT, "Save the picture that the model sees, with the boxes on it and a notice under it, as a PNG file.", metavar="FILE"),
    ] = None,
) -> None:
    """Find the bounding box of an anatomical structure in a picture."""
    from medgemma_app.cli.batch import Run
    from medgemma_app.cli.output import check_output
    from medgemma_app.export import write_whole
    from medgemma_app.inputs.images import png, read_image
    from medgemma_app.inputs.studies import StudyList, StudySource
    from medgemma_app.questions import LocateReport, checked_text, locate_task

    job, target = Run("locate", run), checked_text(target, "target")
    if save_boxes is not None:
        if save_boxes.suffix.lower() != ".png":
            raise OptionError("--save-boxes writes a PNG file; give a name that ends in .png")
        check_output(save_boxes, "--save-boxes", [scan], force=run.force)
    shown: dict[str, Any] = {"frame": frame, "window": window}

    def read(study: StudySource) -> Task:
        return locate_task(read_image(study.path, **shown), target, options=job.options)

    def finish(report: Report) -> None:
        if isinstance(report, LocateReport):
            say_boxes(report)
            if save_boxes is not None:
                write_whole(save_boxes, png(report.draw()))

    found = StudyList([StudySource(scan)], [])
    raise typer.Exit(job.studies(found, read, asked={"target": target, **shown}, saved=save_boxes, finish=finish))


def say_boxes(report: LocateReport) -> None:
    """Prints on standard error where the boxes are in the file, and the notice on their use."""
    from medgemma_app.export.record import box_lines

    for line in box_lines(report.to_dict()).splitlines():
        say(line)


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # too long for a path, as questions are
        return False


def prompts(as_json: Annotated[bool, option(OUTPUT, "Print JSON, one object per prompt file.", "--json")] = False) -> None:
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
