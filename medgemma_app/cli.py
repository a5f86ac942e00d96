"""argv in; stdout, stderr and exit code out.

Nothing here imports mlx_vlm: every usage and input error answers before the model is touched.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medgemma_app.errors import GenerationCancelled, InputError, MedGemmaError

if TYPE_CHECKING:
    from medgemma_app.model.engine import MedGemma, Options, Token
    from medgemma_app.reports import Report
    from medgemma_app.terminal import Answers, Progress

    Work = Callable[[MedGemma, Callable[[Token], object]], Report]  # the inputs are read, the model is not

DEFAULT_MODEL = "mlx-community/medgemma-1.5-4b-it-4bit"
NOTICE = "Research use only. Outputs are drafts that need independent verification. Not a medical device."
DEMO_NOTICE = "The demo model knows drawn phantoms and synthetic notes only: what it says means nothing clinically."
TERMS = "MedGemma's weights come under the Health AI Developer Foundations terms of use."
VALIDATION_FAILED = 3
FROM_BEST_TO_WORST = (0, VALIDATION_FAILED, 2, 1)

app = typer.Typer(
    name="medgemma",
    help=f"MedGemma on this machine: findings reports and SOAP notes as drafts.\n\n{NOTICE}\n\n{TERMS}",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ModelName = Annotated[str, typer.Option("--model", envvar="MEDGEMMA_MODEL", help="A hub id, a folder, or demo.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub id.")]
MaxTokens = Annotated[int, typer.Option(help="Most tokens to generate.")]
Temperature = Annotated[float, typer.Option(help="0 is greedy.")]
TopK = Annotated[int, typer.Option(help="Sample from the k likeliest tokens; 0 is all.")]
TopP = Annotated[float, typer.Option(help="Sample from the likeliest tokens that hold this probability.")]
Seed = Annotated[int | None, typer.Option(help="Makes sampling repeatable.")]
RepetitionPenalty = Annotated[float | None, typer.Option(help="Above 1 discourages repeating.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a study.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Write the answer to this file.")]
NoStream = Annotated[bool, typer.Option("--no-stream", help="Print the answer when it is complete.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no timings.")]
ShowThinking = Annotated[bool, typer.Option("--show-thinking", help="Print the model's thought on stderr.")]


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
    frame: Annotated[int | None, typer.Option(help="Which picture of a file that holds several, from 1.")] = None,
    window: Annotated[str | None, typer.Option(metavar="C/W", help="Window centre and width of a DICOM file.")] = None,
    slices: Annotated[int, typer.Option(help="Most slices of a series to show.")] = 85,
    series: Annotated[int | None, typer.Option(help="Which series of a folder that holds several, by its number.")] = None,
    no_pad: Annotated[bool, typer.Option("--no-pad", help="Squash a picture to a square instead of padding it.")] = False,
    save_input: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the picture the model sees to this PNG file.")] = None,
    model: ModelName = DEFAULT_MODEL,
    revision: Revision = None,
    max_tokens: MaxTokens = 2000,
    temperature: Temperature = 0.0,
    top_k: TopK = 0,
    top_p: TopP = 1.0,
    seed: Seed = None,
    repetition_penalty: RepetitionPenalty = None,
    as_json: Json = False,
    output: Output = None,
    no_stream: NoStream = False,
    quiet: Quiet = False,
    show_thinking: ShowThinking = False,
) -> None:
    """Draft a findings report (FINDINGS, IMPRESSION) from a radiograph or a series."""
    from medgemma_app.inputs.images import read_image
    from medgemma_app.inputs.series import Series
    from medgemma_app.reports import findings as draft
    from medgemma_app.reports import read_study, study_prompt
    from medgemma_app.terminal import save_pictures, say_cost

    with _errors_become_exit_codes():
        options = _options(max_tokens, temperature, top_k, top_p, seed, repetition_penalty)
        if len(scan) > 1 and (prior or view or save_input):
            raise InputError("--prior, --view and --save-input belong to one study; give one scan with them")
        run = Run(model, revision, as_json, output, not no_stream, quiet, show_thinking)

        def read(name: str) -> Work:
            study = read_study(name, pad=not no_pad, frame=frame, window=window, slices=slices, series=series)
            others = [read_image(file, pad=not no_pad) for file in view or []]
            before = None if prior is None else read_image(prior, pad=not no_pad)
            prompt, _ = study_prompt(study, indication, before, others)
            if save_input is not None:
                save_pictures(save_input, prompt.images, [name, *(view or []), *([prior] if prior else [])])
            return lambda model, on_token: draft(
                model,
                study,
                indication=indication,
                prior=before,
                views=others,
                options=options,
                on_prompt=lambda shown: say_cost(model, shown) if isinstance(study, Series) else None,
                on_token=on_token,
            )

        run.studies(scan, read)


@app.command()
def soap(
    notes: Annotated[str, typer.Argument(metavar="NOTES|-", help="A JSON file of visit notes, or - for standard input.")],
    truncate: Annotated[bool, typer.Option("--truncate", help="Leave out the end of notes that do not fit.")] = False,
    model: ModelName = DEFAULT_MODEL,
    revision: Revision = None,
    max_tokens: MaxTokens = 2000,
    temperature: Temperature = 0.0,
    top_k: TopK = 0,
    top_p: TopP = 1.0,
    seed: Seed = None,
    repetition_penalty: RepetitionPenalty = None,
    as_json: Json = False,
    output: Output = None,
    no_stream: NoStream = False,
    quiet: Quiet = False,
    show_thinking: ShowThinking = False,
) -> None:
    """Draft a SOAP note (SUBJECTIVE, OBJECTIVE, ASSESSMENT, PLAN) from the notes of a visit."""
    from medgemma_app.inputs.notes import read_notes
    from medgemma_app.reports import soap as draft

    with _errors_become_exit_codes():
        options = _options(max_tokens, temperature, top_k, top_p, seed, repetition_penalty)
        run = Run(model, revision, as_json, output, not no_stream, quiet, show_thinking)
        read = read_notes(notes)
        run.studies([notes], lambda _: lambda model, on_token: draft(model, read, truncate=truncate, options=options, on_token=on_token))


def _options(max_tokens: int, temperature: float, top_k: int, top_p: float, seed: int | None, repetition_penalty: float | None) -> Options:
    from medgemma_app.model.engine import Options

    return Options(
        max_tokens=max_tokens, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed, repetition_penalty=repetition_penalty
    )


@dataclass
class Run:
    """One call of the command: loads the model when the first input has been read, and writes every answer."""

    model_name: str
    revision: str | None
    as_json: bool
    output: Path | None
    stream: bool
    quiet: bool
    thinking: bool
    _model: MedGemma | None = None

    def studies(self, names: Sequence[str], read: Callable[[str], Work]) -> None:
        """Every study, in order; one that fails does not stop the next. Exits with the worst code."""
        from medgemma_app.terminal import Answers

        answers = Answers(self.output, as_json=self.as_json, several=len(names) > 1)
        codes: list[int] = []
        try:
            for name in names:
                with _errors_become_exit_codes(codes if len(names) > 1 else None):
                    codes.append(self._study(name, read(name), answers))
        finally:
            answers.close()
        raise typer.Exit(max(codes, key=FROM_BEST_TO_WORST.index))

    def _study(self, name: str, work: Work, answers: Answers) -> int:
        from medgemma_app.terminal import Progress, StreamPrinter, say_issues, say_timing

        progress = Progress(quiet=self.quiet)
        model = self._load(progress)
        answers.head(name)
        progress.show("reading the input")
        printer = StreamPrinter(progress, answer=self.stream and answers.can_stream, thought=self.thinking)
        try:
            report = work(model, printer)
        except GenerationCancelled as cancelled:
            progress.clear()
            answers.add_partial(cancelled.partial, printer.printed)
            raise
        progress.clear()
        answers.add(report, printer.printed)
        say_issues(report)
        if not self.quiet:
            say_timing(report.generation)
        return 0 if report.validation.ok else VALIDATION_FAILED

    def _load(self, progress: Progress) -> MedGemma:
        from medgemma_app.terminal import say

        if self._model is None:
            from medgemma_app.model.engine import MedGemma

            progress.show(f"loading {self.model_name}")
            try:
                self._model = MedGemma.load(self.model_name, revision=self.revision, progress=not self.quiet and sys.stderr.isatty())
            finally:
                progress.clear()
            say(NOTICE)
            if self.model_name == "demo":
                say(DEMO_NOTICE)
        return self._model


@contextmanager
def _errors_become_exit_codes(codes: list[int] | None = None) -> Iterator[None]:
    """An error becomes one line on stderr and the exit code of its class; with ``codes`` it is noted there and the run goes on."""
    from medgemma_app.terminal import say

    try:
        yield
    except (GenerationCancelled, KeyboardInterrupt) as error:
        if isinstance(error.__cause__, BrokenPipeError):
            raise error.__cause__ from None
        say("medgemma: cancelled")
        raise typer.Exit(130) from None
    except MedGemmaError as error:
        say(f"medgemma: {error}")
        if codes is None:
            raise typer.Exit(error.exit_code) from None
        codes.append(error.exit_code)


def main() -> None:
    """The ``medgemma`` command."""
    try:
        app()
    except BrokenPipeError:
        # The reader of stdout has gone (``medgemma ... | head``); what Python flushes at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
