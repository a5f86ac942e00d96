"""findings() and soap(): the whole way from an input file to a validated report."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from medgemma_app.errors import ContextError, InputError, MedGemmaError
from medgemma_app.inputs.header import describe_all
from medgemma_app.inputs.images import Scan, Series, read_image
from medgemma_app.inputs.study import read_study
from medgemma_app.model.generation import Generation, GenerationError, Model, Options, Token
from medgemma_app.prompts import Prompt, PromptFile, encodable, findings_prompt, series_prompt, soap_prompt

if TYPE_CHECKING:
    from medgemma_app.inputs.notes import Notes
    from medgemma_app.inputs.study import Picture
    from medgemma_app.validate import Validation

    VisitNotes = str | Path | Mapping[str, Any] | list[Any] | Notes

ANSWER_TOKENS = 512  # kept free for the answer when notes are long; published notes of visits are shorter
FINDINGS = ("findings", "impression")
SOAP = ("subjective", "objective", "assessment", "plan")
RETRY_TEMPERATURE, RETRY_PENALTY = 0.3, 1.05
# Where notes may be cut: after a sentence in any script, or where that leaves out too much, after a word.
SENTENCE = re.compile(r"(?<=[.!?;\u0964\u0965\u061f\u06d4])\s|(?<=[\u3002\uff01\uff1f\uff1b\uff61])|\n|\Z")
WORD = re.compile(r"\s+|(?<=[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff])|\Z")
OnToken = Callable[[Token], object]


@dataclass(frozen=True)
class Report:
    """A generated draft, what validation says of it, and everything needed to trace and repeat it."""

    text: str
    sections: Mapping[str, str]
    validation: Validation
    generation: Generation
    origin: Mapping[str, Any]
    warnings: tuple[str, ...] = ()  # of the input
    tries: int = 1

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready and complete."""
        made = self.generation
        return {
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
class FindingsReport(Report):
    """``sections`` has findings and impression; "" where the model wrote none."""


@dataclass(frozen=True)
class SoapReport(Report):
    """``sections`` has subjective, objective, assessment and plan; "" where the model wrote none."""


@dataclass(frozen=True)
class Task:
    """A prompt that is ready, how it is to be answered, and what makes a report of the answer."""

    prompt: Prompt
    options: Options
    report: Callable[[Generation, Options], Report]


def findings(
    model: Model,
    scan: Picture | Series,
    *,
    indication: str | None = None,
    prior: Picture | None = None,
    views: Sequence[Picture] = (),
    options: Options | None = None,
    retries: int = 0,
    on_token: OnToken | None = None,
) -> FindingsReport:
    """A findings report of one radiograph or one series (a folder of DICOM slices).

    ``views`` are further views of the same study; with a ``prior`` the report compares. Raises InputError before any inference,
    ContextError when the pictures do not fit, GenerationCancelled (with what there was) when stopped. ``retries``: see ``write``.
    """
    task = findings_task(model, scan, indication=indication, prior=prior, views=views, options=options)
    return cast(FindingsReport, write(model, task, retries=retries, on_token=on_token))


def findings_task(
    model: Model,
    scan: Picture | Series,
    *,
    indication: str | None = None,
    prior: Picture | None = None,
    views: Sequence[Picture] = (),
    options: Options | None = None,
) -> Task:
    """Reads the pictures; see ``findings``."""
    study, others = read_study(scan), [_scan(view) for view in views]
    before = None if prior is None else _scan(prior)
    indication = indication and encodable(indication)
    prompt, file = study_prompt(study, indication, before, others)
    header = study.header
    if any(view.header.laterality != header.laterality for view in others):  # views of both sides
        header = replace(header, laterality=None)
    facts = {"scan": dict(study.facts), "views": [dict(view.facts) for view in others], "prior": dict(before.facts) if before else None}
    warnings = tuple(warning for one in (study, *others, before) if one for warning in one.warnings)

    def report(generation: Generation, options: Options) -> FindingsReport:
        from medgemma_app.validate import validate_findings

        validation = validate_findings(
            generation.text,
            has_prior=before is not None,
            finish_reason=generation.finish_reason,
            indication=indication,
            has_thought=generation.thought is not None,
            header=header,
        )
        origin = _origin("findings", model, options, file, {**facts, "indication": indication})
        return FindingsReport(generation.text.strip(), _sections(validation, FINDINGS), validation, generation, origin, warnings)

    return Task(prompt, (options or Options()).seeded(), report)


def study_prompt(study: Scan | Series, indication: str | None, prior: Scan | None, views: Sequence[Scan]) -> tuple[Prompt, PromptFile]:
    """What the model is shown of a study that has been read. Raises InputError for a series with a prior or further views."""
    header = study.header
    if isinstance(study, Scan):
        pictures = [view.image for view in views]
        shown = [*([prior] if prior else []), study, *views]
        told = describe_all([one.header for one in shown], patient=header) if prior or views else header.describe()
        return findings_prompt(study.image, indication=indication, prior=prior.image if prior else None, views=pictures, header=told)
    if prior or views:
        raise InputError("a series is read by itself; leave out the prior and the further views")
    return series_prompt(study.images, indication=indication, header=header.describe())


def soap(
    model: Model,
    notes: VisitNotes,
    *,
    truncate: bool = False,
    options: Options | None = None,
    retries: int = 0,
    on_token: OnToken | None = None,
) -> SoapReport:
    """A SOAP note from a notes file, or from notes already parsed.

    Raises as ``findings`` does, and ContextError when the notes do not fit; with ``truncate`` their end is left out instead, and a
    warning says how much. ``retries``: see ``write``.
    """
    task = soap_task(model, notes, truncate=truncate, options=options)
    return cast(SoapReport, write(model, task, retries=retries, on_token=on_token))


def soap_task(model: Model, notes: VisitNotes, *, truncate: bool = False, options: Options | None = None) -> Task:
    """Reads the notes and fits them into the context; see ``soap``."""
    from medgemma_app.inputs.notes import Notes, read_notes

    read = notes if isinstance(notes, Notes) else read_notes(notes)
    options = (options or Options()).seeded()
    kept, warnings = _fit(model, read, options, truncate)
    prompt, file = soap_prompt(kept)
    if left_out := read.facts.get("left_out"):
        warnings += (f"not told to the model: {', '.join(left_out)}",)

    def report(generation: Generation, options: Options) -> SoapReport:
        from medgemma_app.validate import validate_soap

        validation = validate_soap(
            generation.text, source=kept, finish_reason=generation.finish_reason, has_thought=generation.thought is not None
        )
        origin = _origin("soap", model, options, file, {"notes": dict(read.facts)})
        return SoapReport(generation.text.strip(), _sections(validation, SOAP), validation, generation, origin, warnings)

    return Task(prompt, options, report)


def write(model: Model, task: Task, *, retries: int = 0, on_token: OnToken | None = None) -> Report:
    """Answers a task. Where validation finds an error, up to ``retries`` more answers are drawn and the best one is kept.

    ``Report.tries`` says how many there were, its options are those of the answer kept. ``on_token`` sees all of them.
    """
    return _retried(model, task, _answer(model, task, task.options, on_token), retries, on_token)


def write_many(
    model: Model, tasks: Iterable[Callable[[Model], Task]], options: Options, *, batch_size: int, retries: int = 0
) -> Iterator[Report | MedGemmaError]:
    """Answers tasks that are decoded together: for each, in order, its report or the error it failed with.

    A task is made when there is room for it. ``options`` are those of all tasks.
    """
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


def _answer(model: Model, task: Task, options: Options, on_token: OnToken | None) -> Report:
    return task.report(model.generate(task.prompt, options, on_token=on_token), options)


def _retried(model: Model, task: Task, best: Report, retries: int, on_token: OnToken | None = None) -> Report:
    tries = 1
    while not best.validation.ok and tries <= retries:
        try:
            again = _answer(model, task, _varied(task.options, tries), on_token)
        except GenerationError:  # there is an answer already
            break
        best, tries = min(best, again, key=_faults), tries + 1
    return replace(best, tries=tries)


def _varied(options: Options, attempt: int) -> Options:
    """What draws another answer: a little chance, and a penalty that tells a loop from a number said twice."""
    return replace(
        options,
        temperature=options.temperature or RETRY_TEMPERATURE,
        seed=(options.seed or 0) + attempt,
        repetition_penalty=options.repetition_penalty or RETRY_PENALTY,
    )


def _faults(report: Report) -> tuple[int, int]:
    severities = [issue.severity for issue in report.validation.issues]
    return severities.count("error"), severities.count("warning")


def _sections(validation: Validation, names: Sequence[str]) -> dict[str, str]:
    return {name: validation.sections.get(name, "") for name in names}


def _fit(model: Model, notes: Notes, options: Options, truncate: bool) -> tuple[str, tuple[str, ...]]:
    """The notes, as much of them as leaves room for an answer, and a warning when that is not all."""
    from medgemma_app.inputs.notes_text import count_words

    limit, text = model.context - min(options.max_tokens, ANSWER_TOKENS), notes.text

    def tokens(part: str) -> int:
        return len(model.tokenize(soap_prompt(part)[0]))

    if not (model.can_count or truncate) or (count := tokens(text)) <= limit:  # a server that does not count refuses what does not fit
        return text, ()
    if not truncate:
        message = f"the notes make {count} tokens and the model takes at most {limit}; shorten them, or leave out their end with --truncate"
        raise ContextError(message, tokens=count, limit=limit)
    kept = _cut(text, SENTENCE, tokens, limit)
    if not kept or tokens(kept) < limit / 2:
        kept = _cut(text, WORD, tokens, limit)
    if not kept:
        raise ContextError(f"not one word of the notes fits into {limit} tokens", tokens=count, limit=limit)
    all_words, lost = count_words(text), notes.lost(len(kept))
    left_out = f"the last {all_words - count_words(kept)} of {all_words} words were left out"
    return kept, (f"the notes do not fit: {left_out}{f' ({lost})' * bool(lost)}",)


def _cut(text: str, boundary: re.Pattern[str], tokens: Callable[[str], int], limit: int) -> str:
    """As much of the text, up to a boundary, as makes at most ``limit`` tokens; "" when nothing does."""
    ends = [match.end() for match in boundary.finditer(text)]
    fitting = bisect_right(ends, limit, key=lambda end: tokens(text[:end]))
    return text[: ends[fitting - 1]].rstrip() if fitting else ""


def _scan(source: Picture) -> Scan:
    return source if isinstance(source, Scan) else read_image(source)


def _origin(kind: str, model: Model, options: Options, file: PromptFile, inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "kind": kind,
        "model": model.describe(),
        "options": asdict(options),
        "input": dict(inputs),
        "prompt": {"file": file.name, "sha256": file.sha256},
        "versions": {name: _version(name) for name in model.packages},
    }


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version  # a tenth of what an input error costs

    try:
        return version(package)
    except PackageNotFoundError:
        return None  # run from a source folder that was never installed
