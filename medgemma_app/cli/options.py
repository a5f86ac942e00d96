"""The options that several commands share, and how the help shows them."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from medgemma_app.cli.process import errors_become_exit_codes
from medgemma_app.errors import OptionError
from medgemma_app.remote.endpoint import DEFAULT_JOBS, DEFAULT_TIMEOUT, Endpoint, read_key

if TYPE_CHECKING:
    from medgemma_app.model.generation import Options

DEFAULT_MODEL = "mlx-community/medgemma-1.5-4b-it-4bit"
INPUT, MODEL, OUTPUT, ADVANCED, HELP = PANELS = ("Input", "Model", "Output", "Advanced", "Help")


def argument(metavar: str, text: str) -> Any:
    return typer.Argument(metavar=metavar, help=text, rich_help_panel=INPUT, show_default=False)


def option(panel: str, text: str, *names: str, **how: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, **how)


def _model(more: str = "") -> Any:
    text = f"The model: a Hugging Face id, a folder, 4b, 1.5-4b, 27b, 27b-text or demo{more}. Default: {DEFAULT_MODEL}."
    return option(MODEL, text, "--model", metavar="MODEL", envvar="MEDGEMMA_MODEL")


LocalModel = Annotated[str | None, _model()]
ModelName = Annotated[str | None, _model("; with --endpoint, its name on the server")]
Revision = Annotated[str | None, option(MODEL, "Branch, tag or commit of a Hugging Face model.", metavar="NAME")]
Adapter = Annotated[
    str | None, option(MODEL, "A LoRA adapter for the model: the folder that PEFT or mlx-vlm saved it in.", metavar="FOLDER")
]
KeyFile = Annotated[Path | None, option(MODEL, "Read the server's key from FILE instead of MEDGEMMA_API_KEY.", metavar="FILE")]
AsJson = Annotated[bool, option(OUTPUT, "Print JSON, one object per report.", "--json")]
Patient = Annotated[
    str | None,
    option(
        INPUT,
        "Use only this patient's notes from a record of several; same: read them all as one patient's, although labels differ.",
        metavar="ID",
    ),
]
Frame = Annotated[int | None, option(INPUT, "The frame or page to read from a file that has several, counted from 1.", metavar="N")]
Window = Annotated[str | None, option(INPUT, "Window centre and width for DICOM files, such as 40/400.", metavar="C/W")]
PromptName = Annotated[
    str | None, option(INPUT, "The prompt: a file, or the name of one that medgemma prompts lists.", "--prompt", metavar="FILE")
]
SubjectReference = Annotated[str | None, option(OUTPUT, "The patient's reference for .fhir.json, such as Patient/123.", metavar="REF")]
StudyReference = Annotated[str | None, option(OUTPUT, "The study's reference for .fhir.json, such as ImagingStudy/123.", metavar="REF")]
Force = Annotated[bool, option(OUTPUT, "Replace output files that already exist.", "--force")]
Strict = Annotated[bool, option(OUTPUT, "Exit with code 3 for warnings too.", "--strict")]
Quiet = Annotated[bool, option(OUTPUT, "Show no progress and no timings.", "--quiet", "-q")]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What the commands that run the model have in common."""

    model: ModelName = None
    revision: Revision = None
    adapter: Adapter = None
    endpoint: Annotated[
        str | None,
        option(
            MODEL, "Use the model behind this OpenAI-compatible server instead of loading one.", metavar="URL", envvar="MEDGEMMA_ENDPOINT"
        ),
    ] = None
    allow_remote: Annotated[
        bool,
        option(
            MODEL, "Allow a server on another machine (https only). Pictures and notes are sent to it.", "--allow-remote",
            envvar="MEDGEMMA_ALLOW_REMOTE",
        ),
    ] = False  # fmt: skip
    api_key_file: KeyFile = None
    as_json: AsJson = False
    output: Annotated[
        Path | None,
        option(
            OUTPUT, "Write to FILE. Its ending decides the format: .txt, .json, .jsonl, .csv, .html, .pdf; for findings and soap also "
            ".fhir.json; for findings also .dcm and .sr.dcm.",
            "--output", "-o", metavar="FILE",
        ),
    ] = None  # fmt: skip
    force: Force = False
    subject: SubjectReference = None
    study: StudyReference = None
    resume: Annotated[bool, option(OUTPUT, "Continue a .jsonl file: skip the studies that it already holds.", "--resume")] = False
    strict: Strict = False
    no_stream: Annotated[bool, option(OUTPUT, "Print the answer only when it is complete.", "--no-stream")] = False
    quiet: Quiet = False
    show_thinking: Annotated[bool, option(OUTPUT, "Show the model's reasoning on standard error.", "--show-thinking")] = False
    max_tokens: Annotated[
        int | None, option(ADVANCED, "Stop after this many tokens. Default: 2000; for a SOAP note of short notes, fewer.", metavar="N")
    ] = None
    temperature: Annotated[float, option(ADVANCED, "Randomness of sampling. 0 always takes the likeliest token.", metavar="T")] = 0.0
    top_k: Annotated[int, option(ADVANCED, "Sample from the K likeliest tokens. 0 means all.", metavar="K")] = 0
    top_p: Annotated[float, option(ADVANCED, "Sample from the likeliest tokens whose probabilities add up to P.", metavar="P")] = 1.0
    seed: Annotated[int | None, option(ADVANCED, "Make sampling repeatable.", metavar="N")] = None
    repetition_penalty: Annotated[float | None, option(ADVANCED, "Values above 1 discourage repetition.", metavar="X")] = None
    retries: Annotated[
        int, option(ADVANCED, "Try up to N more times if the checks find an error, and keep the best answer.", metavar="N", min=0)
    ] = 0
    batch_size: Annotated[
        int | None, option(ADVANCED, "Decode N studies together. Default: as many as memory allows, at most 16.", metavar="N", min=1)
    ] = None
    jobs: Annotated[
        int | None, option(ADVANCED, f"Send up to N requests at a time. Needs --endpoint. Default: {DEFAULT_JOBS}.", metavar="N")
    ] = None
    timeout: Annotated[
        float | None,
        option(
            ADVANCED, f"Give up if the server sends no token for this long. Needs --endpoint. Default: {DEFAULT_TIMEOUT:g}.",
            metavar="SECONDS",
        ),
    ] = None  # fmt: skip

    def generation(self) -> Options:
        """The options of the generation. Raises OptionError for a value outside its range."""
        from medgemma_app.model.generation import Options

        return Options(**{field.name: getattr(self, field.name) for field in fields(Options) if field.name != "schema"}).seeded()

    def server(self) -> Endpoint | None:
        """The server to use. Raises OptionError for a refused URL and for options that do not go together."""
        if not self.endpoint:
            if self.jobs is not None or self.timeout is not None or self.api_key_file is not None:
                raise OptionError("--jobs, --timeout and --api-key-file need a server; name it with --endpoint")
            return None
        if any(value is not None for value in (self.revision, self.adapter, self.batch_size)):
            raise OptionError("--revision, --adapter and --batch-size have no effect on a server; leave them out with --endpoint")
        return Endpoint(
            url=self.endpoint,
            allow_remote=self.allow_remote,
            key=read_key(self.api_key_file),
            timeout=DEFAULT_TIMEOUT if self.timeout is None else self.timeout,
            jobs=DEFAULT_JOBS if self.jobs is None else self.jobs,
        )


def collected(command: Callable[..., None], *, without: Collection[str] = ()) -> Callable[..., None]:
    """Adds the fields of RunOptions, except those in ``without``, to the options of ``command``, which receives them as ``run``."""
    hints = {name: hint for name, hint in get_type_hints(RunOptions, include_extras=True).items() if name not in without}
    signature = inspect.signature(command, eval_str=True)
    shared = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name])
        for field in fields(RunOptions)
        if field.name in hints
    ]

    def call(**values: Any) -> None:
        command(run=RunOptions(**{name: values.pop(name) for name in hints}), **values)

    own = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for name, each in signature.parameters.items() if name != "run"]
    call.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
    call.__name__, call.__doc__ = command.__name__, command.__doc__
    return call


class Command(TyperCommand):
    """A command whose errors become exit codes, and whose help groups the options in panels of plain text."""

    def invoke(self, ctx: Any) -> Any:
        with errors_become_exit_codes():
            return super().invoke(ctx)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        rows: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for parameter in self.get_params(ctx):
            if record := parameter.get_help_record(ctx):
                name = (parameter.param_type_name == "argument" and parameter.metavar) or record[0]
                rows[getattr(parameter, "rich_help_panel", None) or HELP].append((name, record[1]))
        for panel in PANELS:
            if rows[panel]:
                with formatter.section(panel):
                    formatter.write_dl(rows[panel])


class Group(TyperGroup):
    """The list of commands, each with its full line of help."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.get_short_help_str(200)) for name, command in self.commands.items()])
