"""findings() and soap(): from an input file to a checked report, for one study or many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from medgemma_app.errors import ContextError, InputError, MedGemmaError, expect
from medgemma_app.inputs.header import WHAT_DIFFERS, are_several, describe_all
from medgemma_app.inputs.images import Scan, Series, is_same_picture, read_image
from medgemma_app.inputs.studies import read_study
from medgemma_app.model.generation import Model, Options, checked_options, refuse_schema
from medgemma_app.prompts import Prompt, PromptFile, choose_prompt, encodable, findings_prompt, series_prompt, soap_prompt
from medgemma_app.tasks import OnToken, Report, Task, show_progress, write, write_many

if TYPE_CHECKING:
    from PIL.Image import Image

    from medgemma_app.inputs.images import Picture
    from medgemma_app.inputs.notes import Notes

    ChosenPrompt = str | Path | PromptFile
    VisitNotes = str | Path | Mapping[str, Any] | list[Any] | Notes

LEAST_ANSWER = 512  # tokens kept free for the answer when notes are long; published notes of visits are shorter


class FindingsReport(Report):
    """``sections`` has findings and impression, or the sections of the prompt file; "" where the model wrote none."""


class SoapReport(Report):
    """``sections`` has subjective, objective, assessment and plan, or those of the prompt file; "" where the model wrote none."""


def findings(
    model: Model,
    scan: Picture | Series,
    *,
    indication: str | None = None,
    prior: Picture | None = None,
    views: Sequence[Picture] = (),
    prompt: ChosenPrompt | None = None,
    options: Options | None = None,
    retries: int = 0,
    on_token: OnToken | None = None,
) -> FindingsReport:
    """A findings report of one radiograph or one series (a folder of DICOM slices).

    ``views`` are further views of the same study; with a ``prior``, the report compares the two. ``prompt`` is the name of a prompt
    file of this package, or the path of any other. Raises InputError before any inference, ContextError when the pictures do not fit,
    GenerationCancelled (with the partial answer) when stopped. ``retries``: see ``write``.
    """
    task = findings_task(scan, indication=indication, prior=prior, views=views, prompt=prompt, options=options)
    return cast(FindingsReport, write(model, task, retries=retries, on_token=on_token))


def findings_many(
    model: Model,
    scans: Iterable[Picture | Series],
    *,
    prompt: ChosenPrompt | None = None,
    options: Options | None = None,
    batch_size: int | None = None,
    retries: int = 0,
    progress: bool | None = None,
) -> Iterator[FindingsReport | MedGemmaError]:
    """Yields for each scan, in order, its report or the error it failed with; ``batch_size`` scans are decoded together.

    Scans are taken from the iterable as there is room for them; by default memory decides how many that is. ``progress`` shows on
    stderr how many are done, by default in a notebook or on a terminal.
    """
    _check_list(scans, "scans", "scan")
    chosen = checked_options(options).seeded()
    file = None if prompt is None else choose_prompt(prompt, "findings")
    tasks = (partial(findings_task, scan, prompt=file, options=chosen) for scan in scans)
    results = write_many(model, tasks, chosen, batch_size=batch_size, retries=retries)
    return cast("Iterator[FindingsReport | MedGemmaError]", show_progress(results, scans, progress))


def findings_task(
    scan: Picture | Series,
    *,
    indication: str | None = None,
    prior: Picture | None = None,
    views: Sequence[Picture] = (),
    prompt: ChosenPrompt | None = None,
    options: Options | None = None,
) -> Task:
    """Reads the pictures; see ``findings``.

    Raises TypeError for an argument of the wrong kind, InputError for pictures that cannot be used or are of different patients.
    """
    refuse_schema(options)
    _check_list(views, "views", "picture")
    expect(indication, (str, type(None)), "indication must be a string")
    study, others = read_study(scan), [_scan(view) for view in views]
    before = None if prior is None else _scan(prior)
    _refuse_another_patient(study, before, others)
    indication = indication and encodable(indication)
    chosen = None if prompt is None else choose_prompt(prompt, "findings")
    warnings = tuple(warning for one in (study, *others, before) if one for warning in one.warnings)
    if before and isinstance(study, Scan) and is_same_picture(study, before):
        warnings += ("the prior is the same picture as the scan, so the comparison means nothing",)
    asked, file = _findings_prompt(study, before, others, indication, chosen)
    header = study.header
    if any(view.header.laterality != header.laterality for view in others):  # views of both sides
        header = replace(header, laterality=None)

    from medgemma_app.validate import validate_findings

    return Task(
        kind="findings",
        form=FindingsReport,
        prompt=asked,
        options=checked_options(options, asked).seeded(),
        check=partial(validate_findings, has_prior=before is not None, indication=indication, header=header, **file.asked),
        inputs={
            "scan": dict(study.facts),
            "views": [dict(view.facts) for view in others],
            "prior": before and dict(before.facts),
            "indication": indication,
        },
        file=file,
        warnings=warnings,
        images=captioned(study, before, others),
    )


def _findings_prompt(
    study: Scan | Series, prior: Scan | None, views: Sequence[Scan], indication: str | None, file: PromptFile | None
) -> tuple[Prompt, PromptFile]:
    """Raises InputError for a series with a prior or further views."""
    described = study.header.describe()
    if isinstance(study, Series):
        if prior or views:
            raise InputError("a series cannot be combined with a prior or further views; leave them out")
        return series_prompt(study.images, indication=indication, header=described, file=file)
    shown = [*filter(None, [prior]), study, *views]
    if len(shown) > 1:
        described = describe_all([one.header for one in shown], patient=study.header)
    before, pictures = None if prior is None else prior.image, [view.image for view in views]
    return findings_prompt(study.image, indication=indication, prior=before, views=pictures, header=described, file=file)


def _refuse_another_patient(study: Scan | Series, prior: Scan | None, views: Sequence[Scan]) -> None:
    named = [("the prior", prior), *((f"view {number}", view) for number, view in enumerate(views, 2))]
    for name, other in named:
        if other and are_several((study.patient, other.patient)):
            raise InputError(
                f"{name} is of a different patient than the scan (they differ in {WHAT_DIFFERS}); if it is the same person under another "
                "id, export it as PNG"
            )


def captioned(study: Scan | Series, prior: Scan | None = None, views: Sequence[Scan] = ()) -> tuple[tuple[str, Image], ...]:
    """The pictures in the order the model sees them."""
    if isinstance(study, Series):
        return tuple((f"slice {number} of {len(study.images)}", image) for number, image in enumerate(study.images, 1))
    before = [("prior", prior.image)] if prior else []
    return (*before, ("current", study.image), *((f"view {number}", view.image) for number, view in enumerate(views, 2)))


def soap(
    model: Model,
    notes: VisitNotes | None = None,
    *,
    text: str | None = None,
    truncate: bool = False,
    prompt: ChosenPrompt | None = None,
    options: Options | None = None,
    retries: int = 0,
    on_token: OnToken | None = None,
) -> SoapReport:
    """A SOAP note from a notes file, from notes already parsed or read, or from their ``text``; with ``prompt``, a note of another form.

    Raises as ``findings`` does, and ContextError when the notes do not fit; with ``truncate`` part of them is left out instead, and a
    warning says how much. ``prompt`` and ``retries`` are as for ``findings``.
    """
    task = soap_task(notes, text=text, truncate=truncate, prompt=prompt, options=options)
    return cast(SoapReport, write(model, task, retries=retries, on_token=on_token))


def soap_many(
    model: Model,
    notes: Iterable[VisitNotes],
    *,
    truncate: bool = False,
    prompt: ChosenPrompt | None = None,
    options: Options | None = None,
    batch_size: int | None = None,
    retries: int = 0,
    progress: bool | None = None,
) -> Iterator[SoapReport | MedGemmaError]:
    """Like ``findings_many``: yields for the notes of each visit, in order, the report or the error it failed with."""
    _check_list(notes, "notes", "visit")
    chosen, file = checked_options(options).seeded(), choose_prompt(prompt or "soap", "soap")
    tasks = (partial(soap_task, visit, truncate=truncate, prompt=file, options=chosen) for visit in notes)
    results = write_many(model, tasks, chosen, batch_size=batch_size, retries=retries)
    return cast("Iterator[SoapReport | MedGemmaError]", show_progress(results, notes, progress))


def soap_task(
    notes: VisitNotes | None = None,
    *,
    text: str | None = None,
    truncate: bool = False,
    prompt: ChosenPrompt | None = None,
    options: Options | None = None,
) -> Task:
    """Reads the notes; see ``soap``. They are fitted into the context where the task is answered."""
    refuse_schema(options)
    visit, chosen = read_visit(notes, text), checked_options(options).seeded()
    file = choose_prompt(prompt or "soap", "soap")
    whole = _soap_task(visit, visit.text, (), file, chosen)

    def fit(model: Model) -> Task:
        kept, lost = _fit(model, visit, chosen, truncate, file)
        return _soap_task(visit, kept, lost, file, chosen) if lost else replace(whole, fit=None)

    return replace(whole, fit=fit)


def _soap_task(visit: Notes, kept: str, lost: tuple[str, ...], file: PromptFile, options: Options) -> Task:
    """``kept`` is what is shown to the model, and ``lost`` a warning about the rest."""
    from medgemma_app.validate import validate_soap

    asked, _ = soap_prompt(kept, file=file)
    return Task(
        kind="soap",
        form=SoapReport,
        prompt=asked,
        options=checked_options(options, asked),
        check=partial(validate_soap, source=kept, **file.asked),
        inputs={"notes": {**visit.facts, **({"truncated": True} if lost else {})}},
        file=file,
        warnings=(*visit.doubts, *lost),
        source=kept,
    )


def read_visit(notes: VisitNotes | None, text: str | None, *, any_text: bool = False) -> Notes:
    """The notes of a visit, as ``soap`` takes them, or ``any_text``. Raises InputError, and TypeError unless one of the two is given."""
    from medgemma_app.inputs.notes import Notes, read_notes, read_raw_notes

    if (notes is None) == (text is None):
        raise TypeError("give either notes or text=")
    expect(text, (str, type(None)), "text= must be a string")
    expect(notes, (str, Path, Mapping, list, Notes, type(None)), "notes are given as a path, as parsed JSON, as Notes, or as text=")
    if text is not None:
        return read_raw_notes(text.encode(errors="replace"), "the text", any_text=any_text)
    given = cast("str | Path | Mapping[str, Any] | list[Any] | Notes", notes)
    return given if isinstance(given, Notes) else read_notes(given, any_text=any_text)


def _fit(model: Model, notes: Notes, options: Options, truncate: bool, file: PromptFile | None = None) -> tuple[str, tuple[str, ...]]:
    """The notes, or as much of them as leaves room for an answer, and then a warning."""
    limit = model.context - min(options.limit, LEAST_ANSWER)

    def tokens(part: str) -> int:
        return len(model.tokenize(soap_prompt(part, file=file)[0]))

    if not (model.can_count or truncate) or (count := tokens(notes.text)) <= limit:  # a server that cannot count refuses by itself
        return notes.text, ()
    if (alone := tokens("")) > limit:
        message = f"the prompt has {alone} tokens without the notes, and {limit} fit in addition to the answer; give a shorter prompt file"
        raise ContextError(message, tokens=count, limit=limit)
    if not truncate:
        message = f"the notes have {count} tokens, and {limit} fit in addition to the answer; shorten them, or cut them with --truncate"
        raise ContextError(message, tokens=count, limit=limit)
    kept, left_out = notes.fit(tokens, limit)
    if not kept:
        raise ContextError(f"no part of the notes fits into {limit} tokens; shorten them", tokens=count, limit=limit)
    return kept, (left_out,)


def _check_list(given: object, name: str, one: str) -> None:
    """Raises TypeError for a single path, picture or record, over which Python would iterate letter by letter."""
    if isinstance(given, str | bytes | Path | Mapping) or not isinstance(given, Iterable):
        raise TypeError(f"{name} must be a list; for a single one write [{one}]")


def _scan(source: Picture) -> Scan:
    return source if isinstance(source, Scan) else read_image(source)
