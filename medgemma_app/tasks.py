"""Reports, the tasks that lead to them, and how tasks are answered: one or many at a time, and again if the checks find errors."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgemma_app.errors import MedGemmaError
from medgemma_app.model.generation import Generation, GenerationError, Model, Options, Token, check_whole
from medgemma_app.notices import BOX_NOTICE, NOTICE
from medgemma_app.prompts import Prompt, PromptFile

if TYPE_CHECKING:
    from PIL.Image import Image

    from medgemma_app.validate import Validation

RETRY_TEMPERATURE, RETRY_PENALTY = 0.3, 1.05
OnToken = Callable[[Token], object]


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
        errors, warnings = len(self.validation.errors), len(self.validation.warnings) + len(self.warnings)
        counts = f"{errors} error{'s' * (errors != 1)}, {warnings} warning{'s' * (warnings != 1)}"
        return f"<{type(self).__name__}, a draft: {len(self.text.split())} words, {counts}>"

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
        from medgemma_app.export import save

        save(self.to_dict(), path, images=self.images, source=self.source, scan=scan, subject=subject, study=study)

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


@dataclass(frozen=True)
class Box:
    """Where the model sees a structure.

    ``box_2d`` is [y0, x0, y1, x1] in thousandths of the padded square that the model sees. ``x0``, ``y0``, ``x1`` and ``y1`` are its
    edges in pixels of the file, from the top left corner: of its upright picture, or of the ``frame`` of a DICOM file as stored.
    ``number`` is its place among the boxes of the answer, from 1.
    """

    label: str
    box_2d: tuple[float, float, float, float]
    x0: int
    y0: int
    x1: int
    y1: int
    frame: int = 1
    number: int = 1


@dataclass(frozen=True, repr=False)
class LocateReport(Report):
    """``boxes`` are those that the answer gives and that can be used; ``text`` has the reasoning too."""

    boxes: tuple[Box, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready and complete."""
        boxes = [{**asdict(box), "box_2d": list(box.box_2d)} for box in self.boxes]
        return {**super().to_dict(), "notice": f"{NOTICE} {BOX_NOTICE}", "boxes": boxes}

    def draw(self) -> Image:
        """The picture that the model saw, with the boxes on it and the notice under it."""
        from medgemma_app.export.html import draw_boxes, with_caption

        record = self.to_dict()
        return with_caption(draw_boxes(self.images[0][1], record["boxes"]), f"DRAFT. {record['notice']}")


class FindingsReport(Report):
    """``sections`` has findings and impression, or the sections of the prompt file; "" where the model wrote none."""


class SoapReport(Report):
    """``sections`` has subjective, objective, assessment and plan, or those of the prompt file; "" where the model wrote none."""


def origin_of(kind: str, model: Model, options: Options, file: PromptFile | None, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a record that makes it possible to trace and repeat the answer. Called when it has just been generated.

    ``file`` is None for a question.
    """
    prompt = file and {
        "file": file.name,
        "sha256": file.sha256,
        "title": file.title,
        "sections": [*file.sections],
        "optional": [*file.optional],
    }
    return {
        "kind": kind,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": model.describe(),
        "options": asdict(options),
        "input": dict(inputs),
        "prompt": prompt,
        "versions": {name: package_version(name) for name in model.packages},
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


@dataclass(frozen=True)
class Task:
    """A prompt, the options for its answer, and the function that makes a report of the answer."""

    prompt: Prompt
    options: Options
    report: Callable[[Generation, Options], Report]
    retry_penalty: float | None = RETRY_PENALTY


def write(model: Model, task: Task, *, retries: int = 0, on_token: OnToken | None = None) -> Report:
    """Answers a task. If validation finds an error, up to ``retries`` more answers are generated, and the best one is kept.

    ``Report.tries`` is the number of answers; the report's options are those of the best one. ``on_token`` is called for all of them.
    """
    check_whole("retries", retries, least=0)
    return _retried(model, task, _answer(model, task, task.options, on_token), retries, on_token)


def write_many(
    model: Model, tasks: Iterable[Callable[[Model], Task]], options: Options, *, batch_size: int | None = None, retries: int = 0
) -> Iterator[Report | MedGemmaError]:
    """Answers tasks that are decoded together; yields for each, in order, its report or the error it failed with.

    Each task is made when there is room for it in the batch, whose size by default depends on the memory. All tasks have the same
    ``options``.
    """
    check_model(model)
    check_whole("retries", retries, least=0)
    return _written(model, tasks, options, model.batch_size(options.limit) if batch_size is None else batch_size, retries)


def _written(
    model: Model, tasks: Iterable[Callable[[Model], Task]], options: Options, batch_size: int, retries: int
) -> Iterator[Report | MedGemmaError]:
    taken: deque[Task | MedGemmaError] = deque()

    def prompts() -> Iterator[Prompt]:
        for make in tasks:
            try:
                task = make(model)
            except MedGemmaError as error:
                taken.append(error)
            else:
                taken.append(task)
                yield task.prompt

    for answer in model.generate_many(prompts(), options, batch_size=batch_size):
        while isinstance(task := taken.popleft(), MedGemmaError):
            yield task
        yield answer if isinstance(answer, MedGemmaError) else _retried(model, task, task.report(answer, task.options), retries)
    yield from (error for error in taken if isinstance(error, MedGemmaError))


def show_progress(
    results: Iterator[Report | MedGemmaError], inputs: Iterable[object], progress: bool | None
) -> Iterator[Report | MedGemmaError]:
    """Yields the results while a bar on stderr counts them; by default only on a terminal or in a notebook."""
    from tqdm import tqdm

    shown = sys.stderr.isatty() or "ipykernel" in sys.modules if progress is None else progress
    yield from tqdm(results, total=len(inputs) if isinstance(inputs, Sized) else None, unit="report", disable=not shown)


def _answer(model: Model, task: Task, options: Options, on_token: OnToken | None) -> Report:
    return task.report(model.generate(task.prompt, options, on_token=on_token), options)


def _retried(model: Model, task: Task, best: Report, retries: int, on_token: OnToken | None = None) -> Report:
    tries = 1
    while not best.validation.ok and tries <= retries:
        try:
            again = _answer(model, task, _varied(task.options, tries, task.retry_penalty), on_token)
        except GenerationError:  # keep the answer that there is
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
    severities = [issue.severity for issue in report.validation.issues]
    return severities.count("error"), severities.count("warning")
