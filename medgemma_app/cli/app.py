"""argv in; stdout, stderr and exit code out.

Nothing here imports mlx_vlm: every usage and input error answers before the model is touched.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medgemma_app.errors import InputError, MedGemmaError, OptionError
from medgemma_app.model.generation import GenerationCancelled
from medgemma_app.notices import NOTICE, TERMS

if TYPE_CHECKING:
    from medgemma_app.cli.batch import Make
    from medgemma_app.model.generation import Model, Options
    from medgemma_app.remote.endpoint import Endpoint
    from medgemma_app.tasks import Task

DEFAULT_MODEL = "mlx-community/medgemma-1.5-4b-it-4bit"
DEFAULT_JOBS, DEFAULT_TIMEOUT = 8, 300.0

app = typer.Typer(
    name="medgemma",
    help=f"MedGemma on this machine: findings reports and SOAP notes as drafts.\n\n{NOTICE}\n\n{TERMS}",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        envvar="MEDGEMMA_MODEL",
        show_default=DEFAULT_MODEL,
        help="A hub id, a folder, or demo; of a server, its name there.",
    ),
]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub id.")]
MaxTokens = Annotated[int, typer.Option(help="Most tokens to generate.")]
Temperature = Annotated[float, typer.Option(help="0 is greedy.")]
TopK = Annotated[int, typer.Option(help="Sample from the k likeliest tokens; 0 is all.")]
TopP = Annotated[float, typer.Option(help="Sample from the likeliest tokens that hold this probability.")]
Seed = Annotated[int | None, typer.Option(help="Makes sampling repeatable.")]
RepetitionPenalty = Annotated[float | None, typer.Option(help="Above 1 discourages repeating.")]
Retries = Annotated[int, typer.Option(min=0, help="Answers to draw again when validation finds an error; the best is kept.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a study.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Write the answer to this file; to one named .jsonl, a line a study.")]
Resume = Annotated[bool, typer.Option("--resume", help="Skip the studies that the output file holds already.")]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Studies to decode together; by default what memory allows, up to 16.")]
EndpointUrl = Annotated[
    str | None,
    typer.Option("--endpoint", envvar="MEDGEMMA_ENDPOINT", metavar="URL", help="Ask this OpenAI-compatible server; load nothing."),
]
AllowRemote = Annotated[
    bool,
    typer.Option("--allow-remote", envvar="MEDGEMMA_ALLOW_REMOTE", help="Pictures and notes may leave this machine, by https."),
]
KeyFile = Annotated[
    Path | None, typer.Option("--api-key-file", metavar="FILE", help="Holds the server's key; without it, MEDGEMMA_API_KEY does.")
]
Jobs = Annotated[int | None, typer.Option(help=f"Requests to keep in flight; {DEFAULT_JOBS} by default. Needs --endpoint.")]
Timeout = Annotated[float | None, typer.Option(help=f"Longest silence of the server, in seconds; {DEFAULT_TIMEOUT:g} by default.")]
NoStream = Annotated[bool, typer.Option("--no-stream", help="Print the answer when it is complete.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no timings.")]
ShowThinking = Annotated[bool, typer.Option("--show-thinking", help="Print the model's thought on stderr.")]


class Kind(StrEnum):
    """What a text is checked as."""

    findings = "findings"
    soap = "soap"


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"medgemma-app {version('medgemma-app')}")
        raise typer.Exit


@app.callback()
def _root(_: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")] = False) -> None:
    pass


@app.command()
def findings(
    scan: Annotated[list[str], typer.Argument(metavar="SCAN", help="Radiographs, or folders of DICOM slices, one study each.")],
    indication: Annotated[str | None, typer.Option(help="Why the picture was taken.")] = None,
    prior: Annotated[str | None, typer.Option(metavar="FILE", help="An earlier picture of the same patient, to compare with.")] = None,
    view: Annotated[list[str] | None, typer.Option(metavar="FILE", help="A further view of the same study; may be repeated.")] = None,
    frame: Annotated[int | None, typer.Option(help="Which picture of the files that hold several, from 1.")] = None,
    window: Annotated[str | None, typer.Option(metavar="C/W", help="Window centre and width of the DICOM files.")] = None,
    slices: Annotated[
        int | None, typer.Option(help="Most slices of a series to show, 85 if not given; also shows a DICOM file of several frames as one.")
    ] = None,
    series: Annotated[str | None, typer.Option(help="Which series of a folder that holds several, by its number.")] = None,
    no_pad: Annotated[bool, typer.Option("--no-pad", help="Squash a picture to a square instead of padding it.")] = False,
    save_input: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the picture the model sees to this PNG file.")] = None,
    model: ModelName = None,
    revision: Revision = None,
    endpoint: EndpointUrl = None,
    allow_remote: AllowRemote = False,
    api_key_file: KeyFile = None,
    jobs: Jobs = None,
    timeout: Timeout = None,
    max_tokens: MaxTokens = 2000,
    temperature: Temperature = 0.0,
    top_k: TopK = 0,
    top_p: TopP = 1.0,
    seed: Seed = None,
    repetition_penalty: RepetitionPenalty = None,
    retries: Retries = 0,
    as_json: Json = False,
    output: Output = None,
    resume: Resume = False,
    batch_size: BatchSize = None,
    no_stream: NoStream = False,
    quiet: Quiet = False,
    show_thinking: ShowThinking = False,
) -> None:
    """Draft a findings report (FINDINGS, IMPRESSION) from a radiograph or a series."""
    from medgemma_app.cli.batch import Run
    from medgemma_app.cli.output import save_pictures, say_cost
    from medgemma_app.inputs.images import Series, read_other
    from medgemma_app.inputs.studies import find_studies
    from medgemma_app.inputs.study import read_study
    from medgemma_app.reports import findings_task, study_prompt

    with _errors_become_exit_codes():
        options = _options(max_tokens, temperature, top_k, top_p, seed, repetition_penalty)
        server = _endpoint(endpoint, allow_remote, api_key_file, jobs, timeout, local_only=(revision, batch_size))
        studies = [study.path for study in find_studies(scan).studies]
        if len(studies) > 1 and (prior or view or save_input):
            raise InputError("--prior, --view and --save-input belong to one study; give one scan with them")

        def read(name: str) -> Make:
            several = bool(view or prior)
            study = read_study(name, pad=not no_pad, frame=frame, window=window, slices=slices, series=series, several_files=several)
            others = [read_other(file, pad=not no_pad, frame=frame, window=window) for file in view or []]
            before = None if prior is None else read_other(prior, pad=not no_pad, frame=frame, window=window)
            prompt, _ = study_prompt(study, indication, before, others)
            if save_input is not None:
                save_pictures(save_input, prompt.images, [name, *(view or []), *([prior] if prior else [])])

            def make(model: Model) -> Task:
                if isinstance(study, Series):
                    say_cost(model, prompt)
                return findings_task(model, study, indication=indication, prior=before, views=others, options=options)

            return make

        run = Run(
            kind="findings",
            model_name=model or (None if server else DEFAULT_MODEL),
            revision=revision,
            endpoint=server,
            options=options,
            as_json=as_json,
            output=output,
            stream=not no_stream,
            quiet=quiet,
            thinking=show_thinking,
            retries=retries,
            batch_size=batch_size,
            resume=resume,
        )
        run.studies(studies, read)


@app.command()
def soap(
    notes: Annotated[
        list[str], typer.Argument(metavar="NOTES|-", help="JSON files of visit notes, folders of them, or - for standard input.")
    ],
    truncate: Annotated[bool, typer.Option("--truncate", help="Leave out the end of notes that do not fit.")] = False,
    model: ModelName = None,
    revision: Revision = None,
    endpoint: EndpointUrl = None,
    allow_remote: AllowRemote = False,
    api_key_file: KeyFile = None,
    jobs: Jobs = None,
    timeout: Timeout = None,
    max_tokens: MaxTokens = 2000,
    temperature: Temperature = 0.0,
    top_k: TopK = 0,
    top_p: TopP = 1.0,
    seed: Seed = None,
    repetition_penalty: RepetitionPenalty = None,
    retries: Retries = 0,
    as_json: Json = False,
    output: Output = None,
    resume: Resume = False,
    batch_size: BatchSize = None,
    no_stream: NoStream = False,
    quiet: Quiet = False,
    show_thinking: ShowThinking = False,
) -> None:
    """Draft a SOAP note (SUBJECTIVE, OBJECTIVE, ASSESSMENT, PLAN) from the notes of a visit."""
    from medgemma_app.cli.batch import Run
    from medgemma_app.inputs.notes import read_notes
    from medgemma_app.inputs.studies import find_notes
    from medgemma_app.reports import soap_task

    with _errors_become_exit_codes():
        options = _options(max_tokens, temperature, top_k, top_p, seed, repetition_penalty)
        server = _endpoint(endpoint, allow_remote, api_key_file, jobs, timeout, local_only=(revision, batch_size))

        def read(name: str) -> Make:
            visit = read_notes(name)
            return lambda model: soap_task(model, visit, truncate=truncate, options=options)

        run = Run(
            kind="soap",
            model_name=model or (None if server else DEFAULT_MODEL),
            revision=revision,
            endpoint=server,
            options=options,
            as_json=as_json,
            output=output,
            stream=not no_stream,
            quiet=quiet,
            thinking=show_thinking,
            retries=retries,
            batch_size=batch_size,
            resume=resume,
        )
        run.studies([visit.path for visit in find_notes(notes).studies], read)


@app.command()
def check(
    report: Annotated[list[str], typer.Argument(metavar="REPORT|-", help="Reports: text, or what findings and soap print as JSON.")],
    source: Annotated[
        str | None, typer.Option(metavar="NOTES", help="What a SOAP note was written from: notes as for soap, or text.")
    ] = None,
    kind: Annotated[Kind | None, typer.Option(help="Told from the headings if not given.")] = None,
    indication: Annotated[str | None, typer.Option(help="Why the picture was taken.")] = None,
    header: Annotated[str | None, typer.Option(help='Of the picture: "modality DX, body part CHEST, female, 58 years".')] = None,
    has_prior: Annotated[bool | None, typer.Option("--has-prior", help="The report was written with an earlier picture.")] = None,
    spacing: Annotated[bool | None, typer.Option("--spacing/--no-spacing", help="Whether the picture has a scale to measure by.")] = None,
    as_json: Json = False,
) -> None:
    """Check reports from anywhere, without a model: an issue a line, exit code 3 where one is an error."""
    from medgemma_app.cli.check import check_all, read_source
    from medgemma_app.inputs.header import ImageHeader

    with _errors_become_exit_codes():
        if [*report, source].count("-") > 1:
            raise OptionError("standard input can be read only once; name files for the others")
        options = {"indication": indication, "header": header and ImageHeader.parse(header), "has_prior": has_prior, "spacing": spacing}
        told = {name: value for name, value in options.items() if value is not None}
        if source is not None:
            told["source"] = read_source(source)
        raise typer.Exit(check_all(report, told, kind=None if kind is None else kind.value, as_json=as_json))


@app.command()
def serve(
    model: ModelName = None,
    revision: Revision = None,
    host: Annotated[str, typer.Option(help="Where to listen; beyond this machine only with a key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 is any that is free.")] = 8080,
    api_key: Annotated[
        str | None, typer.Option(help="What clients must send; MEDGEMMA_API_KEY and --api-key-file keep it out of the list of processes.")
    ] = None,
    api_key_file: Annotated[Path | None, typer.Option(metavar="FILE", help="Holds what clients must send.")] = None,
    grace: Annotated[float, typer.Option(min=0, max=3600, help="Seconds that what runs may take to end when told to stop.")] = 10,
    quiet: Quiet = False,
) -> None:
    """Keep the model loaded and answer over HTTP: /v1/findings, /v1/soap, /v1/chat/completions."""
    with _errors_become_exit_codes():
        from medgemma_app.serve.place import Place, chosen_key

        place = Place(host=host, port=port, key=chosen_key(api_key, api_key_file))
        from medgemma_app.serve.server import serve as run

        raise typer.Exit(
            run(model or DEFAULT_MODEL, revision=revision, place=place, grace=grace, progress=not quiet and sys.stderr.isatty())
        )


def _options(max_tokens: int, temperature: float, top_k: int, top_p: float, seed: int | None, repetition_penalty: float | None) -> Options:
    from medgemma_app.model.generation import Options

    options = Options(
        max_tokens=max_tokens, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed, repetition_penalty=repetition_penalty
    )
    return options.seeded()


def _endpoint(
    url: str | None,
    allow_remote: bool,
    key_file: Path | None,
    jobs: int | None,
    timeout: float | None,
    *,
    local_only: tuple[str | None, int | None],
) -> Endpoint | None:
    """The server to ask, checked before any file is read. Raises OptionError for a URL that is refused."""
    from medgemma_app.remote.endpoint import Endpoint, read_key

    if not url:
        if jobs is not None or timeout is not None or key_file is not None:
            raise OptionError("--jobs, --timeout and --api-key-file belong to a server; name it by --endpoint")
        return None
    if any(value is not None for value in local_only):
        raise OptionError("--revision and --batch-size are the server's business; leave them out with --endpoint")
    return Endpoint(
        url=url,
        allow_remote=allow_remote,
        key=read_key(key_file),
        timeout=DEFAULT_TIMEOUT if timeout is None else timeout,
        jobs=DEFAULT_JOBS if jobs is None else jobs,
    )


@contextmanager
def _errors_become_exit_codes() -> Iterator[None]:
    """An error becomes one line on stderr and the exit code of its class."""
    from medgemma_app.cli.output import say

    try:
        yield
    except (GenerationCancelled, KeyboardInterrupt) as error:
        if isinstance(error.__cause__, BrokenPipeError):
            raise error.__cause__ from None
        say("medgemma: cancelled")
        raise typer.Exit(130) from None
    except MedGemmaError as error:
        say(f"medgemma: {error}")
        raise typer.Exit(error.exit_code) from None


def main() -> None:
    """The ``medgemma`` command."""
    try:
        app()
    except BrokenPipeError:
        # The reader of stdout has gone (``medgemma ... | head``); what Python flushes at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
