"""ask(): a question about pictures or notes, answered in free text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medgemma_app.errors import InputError, OptionError, expect
from medgemma_app.inputs.images import Scan, Series
from medgemma_app.inputs.studies import read_study
from medgemma_app.model.generation import Generation, Model, Options, checked_options
from medgemma_app.prompts import Prompt, encodable, numbered_slices
from medgemma_app.reports import captioned, check_model, read_visit
from medgemma_app.tasks import OnToken, Report, Task, origin_of, write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from medgemma_app.inputs.images import Picture
    from medgemma_app.reports import VisitNotes


def ask(
    model: Model,
    question: str,
    *scans: Picture | Series,
    notes: VisitNotes | None = None,
    options: Options | None = None,
    retries: int = 0,
    on_token: OnToken | None = None,
) -> Report:
    """The model's answer to a question, about all of the ``scans`` (pictures, or series of slices) and the ``notes``, or about neither.

    Only the form of the answer is checked. Raises as ``findings`` does, and InputError for pictures of several patients.
    """
    return write(model, ask_task(model, question, *scans, notes=notes, options=options), retries=retries, on_token=on_token)


def ask_task(
    model: Model, question: str, *scans: Picture | Series, notes: VisitNotes | None = None, options: Options | None = None
) -> Task:
    """Reads the pictures and the notes; see ``ask``."""
    question = checked_text(question, "question")
    studies = [read_study(scan) for scan in scans]
    if len({study.patient for study in studies if study.patient}) > 1:
        raise InputError("the pictures are of several patients (their PatientIDs differ); ask about one patient at a time")
    visit = None if notes is None else read_visit(notes, None)
    told = None if visit is None else visit.text
    check_model(model)
    images = _images(studies)
    facts = {
        "question": question,
        "scans": [dict(study.facts) for study in studies],
        "notes": None if visit is None else dict(visit.facts),
    }
    warnings = tuple(warning for one in (*studies, *([visit] if visit else [])) for warning in one.warnings)

    def report(generation: Generation, options: Options) -> Report:
        from medgemma_app.validate import validate_answer

        text, thought = generation.text.strip(), generation.thought is not None
        validation = validate_answer(text, finish_reason=generation.finish_reason, has_thought=thought)
        origin = origin_of("ask", model, options, None, facts)
        return Report(text, {}, validation, generation, origin, warnings, images=images, source=told)

    prompt = ask_prompt(question, studies, told)
    return Task(prompt, checked_options(options, prompt).seeded(), report)


def ask_prompt(question: str, studies: Sequence[Scan | Series] = (), notes: str | None = None) -> Prompt:
    """Pictures first, slices numbered, then the notes, then the question."""
    shown = [part for study in studies for part in ([study.image] if isinstance(study, Scan) else numbered_slices(study.images))]
    # The chat template joins texts with nothing between them, so neighbouring texts are made one.
    number = shown.pop() if shown and isinstance(shown[-1], str) else None
    return Prompt((*shown, "\n\n".join(text for text in (number, notes, question) if isinstance(text, str))))


def _images(studies: Sequence[Scan | Series]) -> tuple[tuple[str, Image], ...]:
    """The pictures that the model saw, numbered where there are several."""
    captions = [f"picture {number}: " if len(studies) > 1 else "" for number in range(1, len(studies) + 1)]
    return tuple((before + caption, image) for before, study in zip(captions, studies, strict=True) for caption, image in captioned(study))


def checked_text(text: str, name: str) -> str:
    """A text of the user's that goes into a prompt. Raises TypeError, or OptionError for an empty one."""
    expect(text, str, f"the {name} must be a text")
    if not text.strip():
        raise OptionError(f"the {name} is empty; write one")
    return encodable(text.strip())
