"""findings() and soap(): the whole way from an input file to a validated report."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgemma_app.errors import ContextError, InputError
from medgemma_app.inputs.images import Scan, read_image
from medgemma_app.inputs.notes import Notes, read_notes
from medgemma_app.inputs.series import MOST_SLICES, Series, read_series
from medgemma_app.model.engine import Generation, MedGemma, Options, Token
from medgemma_app.prompts import Prompt, PromptFile, findings_prompt, series_prompt, soap_prompt
from medgemma_app.validate import Validation, validate_findings, validate_soap

if TYPE_CHECKING:
    from PIL.Image import Image

    Picture = str | Path | Image | Scan

ANSWER_TOKENS = 512  # kept free for the answer when notes are long; published notes of visits are shorter
BOUNDARY = re.compile(r"(?<=[.!?;])\s|\n|\Z")
SEXES = {"F": "female", "M": "male"}
AGES = {"D": "day", "W": "week", "M": "month", "Y": "year"}
PACKAGES = ("medgemma-app", "mlx", "mlx-vlm", "transformers", "pillow")
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
            "tokens": {"prompt": made.prompt_tokens, "generated": len(made.token_ids)},
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


def findings(
    model: MedGemma,
    scan: Picture | Series,
    *,
    indication: str | None = None,
    prior: Picture | None = None,
    views: Sequence[Picture] = (),
    options: Options | None = None,
    on_prompt: Callable[[Prompt], object] | None = None,
    on_token: OnToken | None = None,
) -> FindingsReport:
    """A findings report of one radiograph or one series (a folder of DICOM slices).

    ``views`` are further views of the same study; with a ``prior`` the report compares. Raises InputError before any inference,
    ContextError when the pictures do not fit, GenerationCancelled (with what there was) when stopped. ``on_prompt`` sees what the
    model is about to be shown.
    """
    study = read_study(scan)
    others = [_scan(view) for view in views]
    before = None if prior is None else _scan(prior)
    prompt, file = study_prompt(study, indication, before, others)
    if on_prompt:
        on_prompt(prompt)
    options, generation = _generate(model, prompt, options, on_token)
    validation = validate_findings(
        generation.text,
        has_prior=before is not None,
        finish_reason=generation.finish_reason,
        indication=indication,
        has_thought=generation.thought is not None,
        header=header_text(study.facts.get("header") or {}),
        spacing=bool((study.facts.get("header") or {}).get("PixelSpacing")),
    )
    seen = [study, *others, *([before] if before else [])]
    facts = {"scan": dict(study.facts), "views": [dict(view.facts) for view in others], "prior": dict(before.facts) if before else None}
    origin = _origin("findings", model, options, file, {**facts, "indication": indication})
    sections = {name: validation.sections.get(name, "") for name in ("findings", "impression")}
    warnings = tuple(warning for one in seen for warning in one.warnings)
    return FindingsReport(generation.text.strip(), sections, validation, generation, origin, warnings)


def read_study(
    source: Picture | Series,
    *,
    pad: bool = True,
    frame: int | None = None,
    window: str | None = None,
    slices: int = MOST_SLICES,
    series: int | None = None,
) -> Scan | Series:
    """A picture file, or a folder of slices, read but not yet shown to a model; see ``read_image`` and ``read_series``."""
    if isinstance(source, Scan | Series):
        return source
    if not (isinstance(source, str | Path) and Path(source).is_dir()):
        return read_image(source, pad=pad, frame=frame, window=window)
    if frame is not None:
        raise InputError("a folder is read as a series of slices; name one file of it to choose a frame")
    return read_series(source, slices=slices, pad=pad, window=window, series=series)


def study_prompt(study: Scan | Series, indication: str | None, prior: Scan | None, views: Sequence[Scan]) -> tuple[Prompt, PromptFile]:
    """What the model is shown of a study that has been read. Raises InputError for a series with a prior or further views."""
    header = header_text(study.facts.get("header") or {})
    if isinstance(study, Scan):
        pictures = [view.image for view in views]
        return findings_prompt(study.image, indication=indication, prior=prior.image if prior else None, views=pictures, header=header)
    if prior or views:
        raise InputError("a series is read by itself; leave out the prior and the further views")
    return series_prompt(study.images, indication=indication, header=header)


def header_text(header: Mapping[str, Any]) -> str | None:
    """What the model is told of a DICOM header: how the picture was taken, and sex and age; never a name, an id or a date."""
    named = [("Modality", "modality "), ("BodyPartExamined", "body part "), ("ViewPosition", "view "), ("Laterality", "laterality ")]
    told = [f"{label}{header[keyword]}" for keyword, label in named if header.get(keyword)]
    told += [word for word in (SEXES.get(header.get("PatientSex") or ""), _age(header.get("PatientAge"))) if word]
    return ", ".join(told) or None


def _age(value: str | None) -> str | None:
    """DICOM's "058Y" -> "58 years"."""
    return f"{int(value[:3])} {AGES[value[3]]}{'' if value[:3] == '001' else 's'}" if value else None


def soap(
    model: MedGemma,
    notes: str | Path | Mapping[str, Any] | list[Any] | Notes,
    *,
    truncate: bool = False,
    options: Options | None = None,
    on_token: OnToken | None = None,
) -> SoapReport:
    """A SOAP note from a notes file, or from notes already parsed.

    Raises as ``findings`` does, and ContextError when the notes do not fit; with ``truncate`` their end is left out instead, and a
    warning says how much.
    """
    read = notes if isinstance(notes, Notes) else read_notes(notes)
    options = (options or Options()).seeded()
    kept, warnings = _fit(model, read.text, options, truncate)
    prompt, file = soap_prompt(kept)
    options, generation = _generate(model, prompt, options, on_token)
    validation = validate_soap(
        generation.text, source=kept, finish_reason=generation.finish_reason, has_thought=generation.thought is not None
    )
    origin = _origin("soap", model, options, file, {"notes": dict(read.facts)})
    sections = {name: validation.sections.get(name, "") for name in ("subjective", "objective", "assessment", "plan")}
    if left_out := read.facts.get("left_out"):
        warnings += (f"not told to the model: {', '.join(left_out)}",)
    return SoapReport(generation.text.strip(), sections, validation, generation, origin, warnings)


def _fit(model: MedGemma, text: str, options: Options, truncate: bool) -> tuple[str, tuple[str, ...]]:
    """The notes, as much of them as leaves room for an answer, and a warning when that is not all."""
    limit = model.context - min(options.max_tokens, ANSWER_TOKENS)

    def tokens(part: str) -> int:
        return len(model.tokenize(soap_prompt(part)[0]))

    if (count := tokens(text)) <= limit:
        return text, ()
    if not truncate:
        message = f"the notes make {count} tokens and the model takes at most {limit}; shorten them, or leave out their end with --truncate"
        raise ContextError(message, tokens=count, limit=limit)
    ends = [match.end() for match in BOUNDARY.finditer(text)]
    fitting = bisect_right(ends, limit, key=lambda end: tokens(text[:end]))
    kept = text[: ends[fitting - 1]].rstrip() if fitting else ""
    if not kept:
        raise ContextError(f"not one sentence of the notes fits into {limit} tokens", tokens=count, limit=limit)
    return kept, (f"the notes do not fit: the last {len(text.split()) - len(kept.split())} of {len(text.split())} words were left out",)


def _scan(source: Picture) -> Scan:
    return source if isinstance(source, Scan) else read_image(source)


def _generate(model: MedGemma, prompt: Prompt, options: Options | None, on_token: OnToken | None) -> tuple[Options, Generation]:
    options = (options or Options()).seeded()
    return options, model.generate(prompt, options, on_token=on_token)


def _origin(kind: str, model: MedGemma, options: Options, file: PromptFile, inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "kind": kind,
        "model": {"id": model.id, "revision": model.revision, "aligned": model.aligned},
        "options": asdict(options),
        "input": dict(inputs),
        "prompt": {"file": file.name, "sha256": file.sha256},
        "versions": {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None  # run from a source folder that was never installed
