"""Reports, the tasks that lead to them, and how tasks are answered: singly or together, and again if the checks find errors."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from medgemma_app.errors import MedGemmaError
from medgemma_app.model.generation import Generation, GenerationError, Model, Options, Token, check_whole
from medgemma_app.notices import NOTICE, issue_counts
from medgemma_app.prompts import Prompt, PromptFile

if TYPE_CHECKING:
    from PIL.Image import Image

    from medgemma_app.validate import Validation

RETRY_TEMPERATURE, RETRY_PENALTY = 0.3, 1.05
OnToken = Callable[[Token], object]
TaskKind = Literal["findings", "soap", "ask", "locate"]


@dataclass(frozen=True, repr=False)
class Report:
    """A generated draft, the issues that the checks found, and everything needed to trace and repeat it.

    ``images`` are the pictures that the model saw, with their captions; ``source`` is the text of the notes it was given. Both are kept
    for exports, and are not part of ``to_dict``.
    """

    text: str
    sections: Mapping[str, str]
    validation: Validation
    generation: Generation
    origin: Mapping[str, Any]
    warnings: tuple[str, ...] = ()  # of the input
    tries: int = 1
    images: tuple[tuple[str, Image], ...] = ()
    source: str | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__}, a draft: {len(self.text.split())} words, {issue_counts(self.severities)}>"

    @property
    def severities(self) -> list[str]:
        """The severities of the issues that the checks found, and of the warnings about the input."""
        return [*(issue.severity for issue in self.validation.issues), *("warning" for _ in self.warnings)]

    def _repr_html_(self) -> str:
        """The report as a notebook shows it."""
        from medgemma_app.export.html import notebook

        return notebook(self.to_dict(), images=self.images, source=self.source)

    def save(
        self,
        path: str | Path,
        *,
        scan: str | Path | Sequence[str | Path] | None = None,
        subject: str | None = None,
        study: str | None = None,
    ) -> None:
        """Writes the report to a file in the format of its ending: .html, .pdf, .fhir.json, .dcm, .sr.dcm, .csv, .json or .txt.

        DICOM formats need ``scan``, the DICOM file or files that the report is about; for FHIR, ``subject`` and ``study`` are
        references such as "Patient/123" and "ImagingStudy/123". Raises OutputError, and InputError for an argument that cannot be used.
        """
        from medgemma_app.export import ending_of, render, write_whole

        path, record = Path(path), self.to_dict()
        content = render(record, ending_of(path), images=self.images, source=self.source, scan=scan, subject=subject, study=study)
        write_whole(path, content)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready and complete."""
        made = self.generation
        return {
            "notice": NOTICE,
            "text": self.text,
            "sections": dict(self.sections),
            "valid": self.validation.ok,
            "issues": [asdict(issue) for issue in self.validation.issues],
            "warnings": list(self.warnings),
            "thought": made.thought,
            "finish_reason": made.finish_reason,
            "tries": self.tries,
            "tokens": {"prompt": made.prompt_tokens, "generated": made.generated_tokens},
            "seconds": round(made.seconds, 3),
            "peak_memory_bytes": made.peak_memory_bytes,
            **self.origin,
        }


def package_version(package: str) -> str | None:
    """The installed version of a package, None where it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def check_model(model: Model) -> None:
    """Raises TypeError for anything that cannot generate."""
    if not callable(getattr(model, "generate_many", None)):
        raise TypeError(f"model must be a MedGemma or the result of connect(), not {type(model).__name__}")


@dataclass(frozen=True, kw_only=True)
class Task:
    """A report to be written: its prompt, and everything that is known of it before the model answers.

    ``check`` is a validator of the answer, which is called with its text, ``finish_reason`` and ``has_thought``. ``inputs`` are the facts
    that the record states about the inputs. ``fit``, if given, makes the task that fits into the context of a model.
    """

    kind: TaskKind
    prompt: Prompt
    options: Options
    check: Callable[..., Validation]
    inputs: Mapping[str, Any]
    form: type[Report] = Report
    file: PromptFile | None = None  # None for a question
    warnings: tuple[str, ...] = ()
    images: tuple[tuple[str, Image], ...] = ()
    source: str | None = None
    retry_penalty: float | None = RETRY_PENALTY
    fit: Callable[[Model], Task] | None = None

    def fitted(self, model: Model) -> Task:
        """The task as ``model`` can answer it. Raises ContextError, and TypeError for anything that cannot generate."""
        check_model(model)
        return self.fit(model) if self.fit else self

    def report(self, model: Model, generation: Generation, options: Options) -> Report:
        """The report on an answer that has just been generated."""
        text, file = generation.text.strip(), self.file
        validation = self.check(text, finish_reason=generation.finish_reason, has_thought=generation.thought is not None)
        sections = {key: validation.sections.get(key, "") for key in file.sections} if file else {}
        origin = {
            "kind": self.kind,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "model": model.describe(),
            "options": asdict(options),
            "input": dict(self.inputs),
            "prompt": file and file.to_dict(),
            "versions": {name: package_version(name) for name in model.packages},
        }
        return self.form(text, sections, validation, generation, origin, self.warnings, images=self.images, source=self.source)


def write(model: Model, task: Task, *, retries: int = 0, on_token: OnToken | None = None) -> Report:
    """Answers a task. If validation finds an error, up to ``retries`` more answers are generated, and the best one is kept.

    ``Report.tries`` is the number of answers; the report's options are those of the best one. ``on_token`` is called for all of them.
    """
    task = task.fitted(model)
    check_whole("retries", retries, least=0)
    return _retried(model, task, _answer(model, task, task.options, on_token), retries, on_token)


def write_many(
    model: Model, tasks: Iterable[Callable[[], Task]], options: Options, *, batch_size: int | None = None, retries: int = 0
) -> Iterator[Report | MedGemmaError]:
    """Answers tasks that are decoded together; yields for each, in order, its report or the error it failed with.

    Each task is made when there is room for it in the batch, whose size by default depends on the memory. All tasks have the same
    ``options``.
    """
    check_model(model)
    check_whole("retries", retries, least=0)
    return _written(model, tasks, options, model.batch_size(options.limit) if batch_size is None else batch_size, retries)


def _written(
    model: Model, tasks: Iterable[Callable[[], Task]], options: Options, batch_size: int, retries: int
) -> Iterator[Report | MedGemmaError]:
    taken: deque[Task | MedGemmaError] = deque()

    def prompts() -> Iterator[Prompt]:
        for make in tasks:
            try:
                task = make().fitted(model)
            except MedGemmaError as error:
                taken.append(error)
            else:
                taken.append(task)
                yield task.prompt

    for answer in model.generate_many(prompts(), options, batch_size=batch_size):
        while isinstance(task := taken.popleft(), MedGemmaError):
            yield task
        yield answer if isinstance(answer, MedGemmaError) else _retried(model, task, task.report(model, answer, task.options), retries)
    yield from (error for error in taken if isinstance(error, MedGemmaError))


def show_progress(
    results: Iterator[Report | MedGemmaError], inputs: Iterable[object], progress: bool | None
) -> Iterator[Report | MedGemmaError]:
    """Yields the results while a bar on stderr counts them; by default only on a terminal or in a notebook."""
    from tqdm import tqdm

    shown = sys.stderr.isatty() or "ipykernel" in sys.modules if progress is None else progress
    yield from tqdm(results, total=len(inputs) if isinstance(inputs, Sized) else None, unit="report", disable=not shown)


def _answer(model: Model, task: Task, options: Options, on_token: OnToken | None) -> Report:
    return task.report(model, model.generate(task.prompt, options, on_token=on_token), options)


def _retried(model: Model, task: Task, best: Report, retries: int, on_token: OnToken | None = None) -> Report:
    tries = 1
    while not best.validation.ok and tries <= retries:
        try:
            again = _answer(model, task, _varied(task.options, tries, task.retry_penalty), on_token)
        except GenerationError:  # keep the best answer so far
            break
        best, tries = min(best, again, key=_faults), tries + 1
    return replace(best, tries=tries)


def _varied(options: Options, attempt: int, penalty: float | None) -> Options:
    """Options for another answer: some randomness, and a penalty mild enough to leave repeated numbers alone."""
    return replace(
        options,
        temperature=options.temperature or RETRY_TEMPERATURE,
        seed=(options.seed or 0) + attempt,
        repetition_penalty=options.repetition_penalty or penalty,
    )


def _faults(report: Report) -> tuple[int, int]:
    return report.severities.count("error"), report.severities.count("warning")
