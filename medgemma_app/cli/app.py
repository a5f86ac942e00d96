"""The commands: arguments in; standard output, standard error and exit code out.

Nothing here imports mlx_vlm: errors of usage and input are reported before the model is loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

from medgemma_app import __version__
from medgemma_app.cli.options import (
    ADVANCED,
    DEFAULT_MODEL,
    INPUT,
    MODEL,
    OUTPUT,
    Adapter,
    AsJson,
    Command,
    Force,
    Frame,
    Group,
    KeyFile,
    LocalModel,
    ModelName,
    Patient,
    PromptName,
    Quiet,
    Revision,
    RunOptions,
    Strict,
    StudyReference,
    SubjectReference,
    Window,
    argument,
    collected,
    option,
)
from medgemma_app.cli.process import errors_become_exit_codes
from medgemma_app.cli.questions import ask, locate, prompts
from medgemma_app.errors import InputError, OptionError
from medgemma_app.notices import NOTICE, TERMS
from medgemma_app.prompts import ReportKind

if TYPE_CHECKING:
    from PIL.Image import Image

    from medgemma_app.inputs.studies import StudySource
    from medgemma_app.tasks import Task

app = typer.Typer(
    name="medgemma",
    help=f"Draft findings reports and SOAP notes with MedGemma on your own machine.\n\n{NOTICE}\n\n{TERMS}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"medgemma-app {__version__}")
        raise typer.Exit


@app.callback()
def _root(_: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")] = False) -> None:
    pass


@app.command(cls=Command)
@collected
def findings(
    run: RunOptions,
    scan: Annotated[list[str], argument("SCAN", "Pictures, DICOM files, or folders of them. Each picture or DICOM series is a study.")],
    indication: Annotated[str | None, option(INPUT, "Why the picture was taken.", metavar="TEXT")] = None,
    prior: Annotated[str | None, option(INPUT, "An earlier picture of the same patient, to compare with.", metavar="FILE")] = None,
    view: Annotated[list[str] | None, option(INPUT, "Another view of the same study. May be repeated.", metavar="FILE")] = None,
    frame: Frame = None,
    window: Window = None,
    slices: Annotated[
        int | None,
        option(
            INPUT,
            "Use at most N slices of a series. Default: 85. With this option a DICOM file with several frames is read as a series.",
            metavar="N",
        ),
    ] = None,
    series: Annotated[str | None, option(INPUT, "Read the series with this number from a folder that holds several.", metavar="N")] = None,
    prompt: PromptName = None,
    no_pad: Annotated[bool, option(INPUT, "Stretch pictures to a square instead of padding them.", "--no-pad")] = False,
    save_input: Annotated[
        Path | None,
        option(OUTPUT, "Save the picture that the model sees as a PNG file. If it sees several, each name gets a number.", metavar="FILE"),
    ] = None,
) -> None:
    """Draft a findings report from a radiograph or a series of slices."""
    from medgemma_app.cli.batch import Run
    from medgemma_app.inputs.images import read_other
    from medgemma_app.inputs.raster import SeveralPictures
    from medgemma_app.inputs.studies import find_studies, read_study
    from medgemma_app.reports import findings_task

    job = Run("findings", run, prompt=prompt)
    found, others = find_studies(scan), [*(view or []), *([prior] if prior else [])]
    if len(found.studies) > 1 and (prior or view or save_input):
        raise InputError("--prior, --view and --save-input need exactly one study; give one scan")

    shown: dict[str, Any] = {"pad": not no_pad, "frame": frame, "window": window}

    def read(study: StudySource) -> Task:
        try:
            scan = read_study(study.path, **shown, slices=slices, series=series, several_files=bool(others))
        except SeveralPictures as error:
            raise InputError(f"{error}; --slices N shows the frames of a DICOM file as a series") from None
        views = [read_other(file, **shown) for file in view or []]
        before = None if prior is None else read_other(prior, **shown)
        task = findings_task(scan, indication=indication, prior=before, views=views, prompt=job.prompt, options=job.options)
        if save_input is not None:
            _save_pictures(save_input, task.prompt.images, [study.path, *others, *job.used], force=run.force)
        return task

    asked = {"indication": indication, "slices": slices, "series": series, "no_pad": no_pad, "frame": frame, "window": window}
    raise typer.Exit(job.studies(found, read, asked=asked, inputs=others, views=view or [], saved=save_input))


def _save_pictures(path: Path, images: Sequence[Image], inputs: Sequence[str | Path], *, force: bool) -> None:
    """Writes what the model sees as PNG files; several have a number in each name."""
    from medgemma_app.cli.output import check_output
    from medgemma_app.export import write_whole
    from medgemma_app.inputs.images import png

    several = [path.with_stem(f"{path.stem}-{number:03}") for number in range(1, len(images) + 1)]
    names = several if len(images) > 1 else [path]
    for name in names:
        check_output(name, "--save-input", inputs, force=force)
    for name, image in zip(names, images, strict=True):
        write_whole(name, png(image))


@app.command(cls=Command)
@partial(collected, without={"study"})
def soap(
    run: RunOptions,
    notes: Annotated[list[str], argument("NOTES|-", "Files with the notes of one visit each, folders of them, or - for standard input.")],
    patient: Patient = None,
    prompt: PromptName = None,
    truncate: Annotated[bool, option(INPUT, "If the notes do not fit the model, leave out their oldest part.", "--truncate")] = False,
) -> None:
    """Draft a SOAP note from the notes of a visit."""
    from medgemma_app.cli.batch import Run
    from medgemma_app.inputs.notes import read_notes
    from medgemma_app.inputs.studies import find_notes
    from medgemma_app.reports import soap_task

    job = Run("soap", run, prompt=prompt)

    def read(study: StudySource) -> Task:
        visit = read_notes(study.path, patient=patient, part=study.part)
        return soap_task(visit, truncate=truncate, prompt=job.prompt, options=job.options)

    raise typer.Exit(job.studies(find_notes(notes), read, asked={"patient": patient, "truncate": truncate}))


for command in (ask, locate, prompts):
    app.command(cls=Command)(command)


@app.command(cls=Command)
def check(
    report: Annotated[list[str], argument("REPORT|-", "Reports as text or as JSON written by this program, or - for standard input.")],
    source: Annotated[str | None, option(INPUT, "The notes that a SOAP note was written from.", metavar="NOTES")] = None,
    patient: Patient = None,
    kind: Annotated[ReportKind | None, option(INPUT, "The kind of report. Default: the one that its headings suggest.")] = None,
    indication: Annotated[str | None, option(INPUT, "Why the picture was taken.", metavar="TEXT")] = None,
    prompt: PromptName = None,
    has_prior: Annotated[bool | None, option(INPUT, "The report compares with an earlier picture.", "--has-prior")] = None,
    as_json: AsJson = False,
    strict: Strict = False,
) -> None:
    """Check reports from any source, without a model."""
    from medgemma_app.cli.records import check_all
    from medgemma_app.inputs.notes import read_notes
    from medgemma_app.prompts import choose_prompt

    if [*report, source].count("-") > 1:
        raise OptionError("standard input can be read only once; give files for the others")
    options = {"indication": indication, "has_prior": has_prior}
    arguments: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if source is not None:
        arguments["source"] = read_notes(source, patient=patient).text
    if prompt is not None:
        file = choose_prompt(prompt, *([kind] if kind else get_args(ReportKind)))
        kind = cast(ReportKind, file.kind)
        arguments |= file.asked
    raise typer.Exit(check_all(report, arguments, kind=kind, as_json=as_json, strict=strict))


@app.command(cls=Command)
def export(
    record: Annotated[str, argument("RECORD|-", "A report in JSON, as findings --json and soap --json print it, or a file of results.")],
    to: Annotated[Path, option(OUTPUT, "The file to write: .html, .pdf, .fhir.json, .dcm, .sr.dcm, .csv, .json or .txt.", metavar="FILE")],
    line: Annotated[int | None, option(INPUT, "The report to export from a file that holds several, counted from 1.", metavar="N")] = None,
    scan: Annotated[
        list[str] | None,
        option(
            INPUT, "The picture or folder that the report was written from, to show it, or to file the report in DICOM. May be repeated.",
            metavar="FILE",
        ),
    ] = None,
    source: Annotated[str | None, option(INPUT, "The notes that the report was written from, to show them.", metavar="NOTES")] = None,
    patient: Patient = None,
    subject: SubjectReference = None,
    study: StudyReference = None,
    force: Force = False,
) -> None:  # fmt: skip
    """Turn a report in JSON into a page, a PDF, FHIR, DICOM or CSV."""
    from medgemma_app.cli.records import export_record

    if record == source == "-":
        raise OptionError("standard input can be read only once; give a file for the other")
    if patient is not None and source is None:
        raise OptionError("--patient chooses from the notes that --source names; leave it out, or give --source")
    references: dict[str, Any] = {"patient": patient, "subject": subject, "study": study}
    export_record(record, to, line=line, scans=scan or [], notes=source, **references, force=force)


@app.command(cls=Command)
def serve(
    model: LocalModel = None,
    revision: Revision = None,
    adapter: Adapter = None,
    host: Annotated[
        str, option(INPUT, "The address to listen on. Addresses beyond this machine need a key.", metavar="ADDRESS")
    ] = "127.0.0.1",
    port: Annotated[int, option(INPUT, "The port to listen on. 0 means any free port.", metavar="N", min=0, max=65535)] = 8080,
    api_key: Annotated[
        str | None, option(INPUT, "The key that clients must send. Visible in the process list; --api-key-file is safer.", metavar="KEY")
    ] = None,
    api_key_file: KeyFile = None,
    grace: Annotated[float, option(ADVANCED, "How long requests may take to finish on shutdown.", metavar="SECONDS", min=0, max=3600)] = 10,
    memory: Annotated[
        float,
        option(ADVANCED, "The memory that all requests together may take, in addition to the model.", metavar="GB", min=0.5, max=1000),
    ] = 1,
    quiet: Quiet = False,
) -> None:
    """Keep the model loaded and answer requests over HTTP."""
    from medgemma_app.serve.access import BindAddress, chosen_key

    address = BindAddress(host=host, port=port, key=chosen_key(api_key, api_key_file))
    from medgemma_app.serve.server import serve as run

    progress = not quiet and sys.stderr.isatty()
    how: dict[str, Any] = {"revision": revision, "adapter": adapter, "address": address, "grace": grace, "memory": int(memory * 1e9)}
    raise typer.Exit(run(model or DEFAULT_MODEL, **how, progress=progress))


@app.command(cls=Command)
def doctor(
    model: ModelName = None,
    revision: Revision = None,
    endpoint: Annotated[str | None, option(MODEL, "Check the model on this server instead of loading one.", metavar="URL")] = None,
    allow_remote: Annotated[bool, option(MODEL, "Allow a server on another machine (https only).", "--allow-remote")] = False,
    api_key_file: KeyFile = None,
    full: Annotated[
        bool, option(ADVANCED, "Also compare with transformers (needs torch), ask the hub, and check a large model on a CPU.", "--full")
    ] = False,
    as_json: Annotated[bool, option(OUTPUT, "Print one JSON object.", "--json")] = False,
) -> None:
    """Check that the model works on this machine, or on a server."""
    from medgemma_app.cli.doctor import doctor as run

    server = RunOptions(endpoint=endpoint, allow_remote=allow_remote, api_key_file=api_key_file).server()
    raise typer.Exit(run(model or DEFAULT_MODEL, revision=revision, endpoint=server, server_model=model, full=full, as_json=as_json))


def run() -> int:
    """Runs the command in ``sys.argv`` and returns its exit code."""
    try:
        with errors_become_exit_codes():
            try:
                app(prog_name="medgemma")
            finally:
                sys.stdout.flush()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0
