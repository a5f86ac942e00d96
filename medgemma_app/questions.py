"""ask(): a question about pictures or notes, answered in free text; and locate(): the place of a structure in a picture."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, cast

from medgemma_app.errors import InputError, OptionError, expect
from medgemma_app.inputs.header import WHAT_DIFFERS, are_several
from medgemma_app.inputs.images import Scan, Series, read_image
from medgemma_app.inputs.studies import read_study
from medgemma_app.model.generation import Model, Options, checked_options, refuse_schema
from medgemma_app.notices import BOX_NOTICE, NOTICE
from medgemma_app.prompts import Prompt, encodable, locate_prompt, numbered_slices
from medgemma_app.reports import captioned, read_visit
from medgemma_app.tasks import OnToken, Report, Task, write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from PIL.Image import Image

    from medgemma_app.inputs.images import Picture
    from medgemma_app.model.generation import FinishReason
    from medgemma_app.reports import VisitNotes
    from medgemma_app.validate import Validation
    from medgemma_app.validate.boxes import NormalisedBox


def ask(
    model: Model,
    question: str,
    *scans: Picture | Series,
    notes: VisitNotes | None = None,
    text: str | None = None,
    options: Options | None = None,
    retries: int = 0,
    on_token: OnToken | None = None,
) -> Report:
    """The model's answer to a question, about all of the ``scans`` (pictures, or series of slices) and notes, or about neither.

    ``notes`` and ``text`` are as for ``soap``. Only the form of the answer is checked. Raises as ``findings`` does, and InputError for
    pictures of different patients.
    """
    return write(model, ask_task(question, *scans, notes=notes, text=text, options=options), retries=retries, on_token=on_token)


def ask_task(
    question: str, *scans: Picture | Series, notes: VisitNotes | None = None, text: str | None = None, options: Options | None = None
) -> Task:
    """Reads the pictures and the notes; see ``ask``."""
    question = checked_text(question, "question")
    studies = [read_study(scan) for scan in scans]
    if are_several(study.patient for study in studies):
        raise InputError(f"the pictures are of different patients (they differ in {WHAT_DIFFERS}); ask about one patient at a time")
    visit = None if notes is None and text is None else read_visit(notes, text, any_text=True)
    source = None if visit is None else visit.text
    prompt = ask_prompt(question, studies, source)
    chosen = checked_options(options, prompt).seeded()

    from medgemma_app.validate import validate_answer

    return Task(
        kind="ask",
        prompt=prompt,
        options=chosen,
        check=partial(validate_answer, structured=chosen.schema is not None),
        inputs={"question": question, "scans": [dict(study.facts) for study in studies], "notes": visit and dict(visit.facts)},
        warnings=(*(warning for study in studies for warning in study.warnings), *(visit.doubts if visit else ())),
        images=captioned_each(studies),
        source=source,
    )


def ask_prompt(question: str, studies: Sequence[Scan | Series] = (), notes: str | None = None) -> Prompt:
    """Pictures first, slices numbered, then the notes, then the question."""
    shown = [part for study in studies for part in ([study.image] if isinstance(study, Scan) else numbered_slices(study.images))]
    # The chat template joins texts with nothing between them, so neighbouring texts become one.
    number = shown.pop() if shown and isinstance(shown[-1], str) else None
    return Prompt((*shown, "\n\n".join(text for text in (number, notes, question) if isinstance(text, str))))


def captioned_each(studies: Sequence[Scan | Series]) -> tuple[tuple[str, Image], ...]:
    """The pictures that the model saw of every study, numbered where there are several studies."""
    captions = [f"picture {number}: " if len(studies) > 1 else "" for number in range(1, len(studies) + 1)]
    return tuple((before + caption, image) for before, study in zip(captions, studies, strict=True) for caption, image in captioned(study))


def checked_text(text: str, name: str) -> str:
    """A text of the user's that goes into a prompt, stripped. Raises TypeError for anything else, OptionError for an empty one."""
    expect(text, str, f"the {name} must be a string")
    if not text.strip():
        raise OptionError(f"the {name} is empty; write one")
    return encodable(text.strip())


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


def place(box: NormalisedBox, facts: Mapping[str, Any]) -> Box | str:
    """The box in pixels of the file that ``facts`` describe (see ``Scan``), clipped to the picture, or a phrase that says why not."""
    shown, padding = facts.get("shown") or facts, facts.get("padding") or dict.fromkeys(("left", "top", "right", "bottom"), 0)

    def pixel(edge: float, before: str, after: str, size: str) -> float:
        """The square is the picture as it is shown, with borders before and after it."""
        full, length = padding[before] + shown[size] + padding[after], int(facts[size])
        inside: float = (edge / 1000 * full - padding[before]) / shown[size] * length
        return min(max(inside, 0), length)

    edges = [pixel(edge, "left", "right", "width") for edge in (box.x0, box.x1)]
    edges += [pixel(edge, "top", "bottom", "height") for edge in (box.y0, box.y1)]
    x0, x1, y0, y1 = map(round, edges)
    if x0 < x1 and y0 < y1:
        return Box(box.label, box.edges, x0, y0, x1, y1, facts.get("frame", 1), box.number)
    outside = edges[0] == edges[1] or edges[2] == edges[3]
    return "is in the padding, outside the picture" if outside else "is smaller than a pixel"


@dataclass(frozen=True, repr=False)
class LocateReport(Report):
    """An answer with boxes; ``text`` is all of it, with the reasoning."""

    @cached_property
    def boxes(self) -> tuple[Box, ...]:
        """The boxes of the answer that can be used."""
        from medgemma_app.validate import validate_boxes

        placed = [place(box, self.origin["input"]["scan"]) for box in validate_boxes(self.text)[0]]
        return tuple(box for box in placed if isinstance(box, Box))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready and complete."""
        boxes = [{**asdict(box), "box_2d": list(box.box_2d)} for box in self.boxes]
        return {**super().to_dict(), "notice": f"{NOTICE} {BOX_NOTICE}", "boxes": boxes}

    def draw(self) -> Image:
        """The picture that the model saw, with the boxes on it and the notice under it."""
        from medgemma_app.export.html import draw_boxes, with_caption

        record = self.to_dict()
        return with_caption(draw_boxes(self.images[0][1], record["boxes"]), f"DRAFT. {record['notice']}")


def locate(
    model: Model, scan: Picture, target: str, *, options: Options | None = None, retries: int = 0, on_token: OnToken | None = None
) -> LocateReport:
    """Where the model sees an anatomical structure in one picture, such as "right clavicle".

    Raises as ``findings`` does, and OptionError for a repetition penalty, which would garble the numbers.
    """
    task = locate_task(scan, target, options=options)
    return cast(LocateReport, write(model, task, retries=retries, on_token=on_token))


def locate_task(scan: Picture, target: str, *, options: Options | None = None) -> Task:
    """Reads the picture; see ``locate``."""
    refuse_schema(options)
    target = checked_text(target, "target")
    if checked_options(options).repetition_penalty not in (None, 1):
        raise OptionError("a repetition penalty garbles the numbers of boxes; leave it out")
    picture = scan if isinstance(scan, Scan) else read_image(scan)
    if not {"width", "height"} <= picture.facts.keys():
        raise InputError("the facts of this scan lack its width and height, so no box could be placed; give the picture or its file")
    prompt, file = locate_prompt(picture.image, target)
    return Task(
        kind="locate",
        prompt=prompt,
        options=checked_options(options, prompt).seeded(),
        check=partial(_check_boxes, facts=picture.facts),
        form=LocateReport,
        inputs={"target": target, "scan": dict(picture.facts)},
        file=file,
        warnings=picture.warnings,
        images=captioned(picture),
        retry_penalty=None,
    )


def _check_boxes(text: str, *, facts: Mapping[str, Any], finish_reason: FinishReason, has_thought: bool) -> Validation:
    """The issues with the form of the answer, with each of its boxes, and with their places in the picture."""
    from medgemma_app.validate import Issue, validate_boxes

    found, validation = validate_boxes(text, finish_reason=finish_reason, has_thought=has_thought)
    places = [(box.number, place(box, facts)) for box in found]
    wrong = [Issue("impossible-box", "error", f"box {number} {fault}") for number, fault in places if isinstance(fault, str)]
    return replace(validation, issues=(*validation.issues, *wrong))
