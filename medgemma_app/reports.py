"""findings() and soap(): the whole way from an input file to a validated report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgemma_app.inputs.images import Scan, read_image
from medgemma_app.inputs.notes import Notes, read_notes
from medgemma_app.model.engine import Generation, MedGemma, Options, Token
from medgemma_app.prompts import Prompt, PromptFile, findings_prompt, soap_prompt
from medgemma_app.validate import Validation, validate_findings, validate_soap

if TYPE_CHECKING:
    from PIL.Image import Image

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

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready and complete."""
        made = self.generation
        return {
            "text": self.text,
            "sections": dict(self.sections),
            "valid": self.validation.ok,
            "issues": [asdict(issue) for issue in self.validation.issues],
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
    scan: str | Path | Image | Scan,
    *,
    indication: str | None = None,
    prior: str | Path | Image | Scan | None = None,
    options: Options | None = None,
    on_token: OnToken | None = None,
) -> FindingsReport:
    """A findings report of one radiograph, compared with ``prior`` where there is one.

    Raises InputError before any inference, GenerationCancelled (with what there was) when stopped.
    """
    current, before = _scan(scan), None if prior is None else _scan(prior)
    prompt, file = findings_prompt(current.image, indication=indication, prior=before.image if before else None)
    options, generation = _generate(model, prompt, options, on_token)
    validation = validate_findings(
        generation.text, has_prior=before is not None, finish_reason=generation.finish_reason, has_thought=generation.thought is not None
    )
    inputs = {"scan": dict(current.facts), "prior": dict(before.facts) if before else None, "indication": indication}
    origin = _origin("findings", model, options, file, inputs)
    sections = {name: validation.sections.get(name, "") for name in ("findings", "impression")}
    return FindingsReport(generation.text.strip(), sections, validation, generation, origin)


def soap(model: MedGemma, notes: str | Path | Notes, *, options: Options | None = None, on_token: OnToken | None = None) -> SoapReport:
    """A SOAP note from a notes file. Raises as ``findings`` does, and ContextError when the notes do not fit."""
    read = notes if isinstance(notes, Notes) else read_notes(notes)
    prompt, file = soap_prompt(read.text)
    options, generation = _generate(model, prompt, options, on_token)
    validation = validate_soap(
        generation.text, source=read.text, finish_reason=generation.finish_reason, has_thought=generation.thought is not None
    )
    origin = _origin("soap", model, options, file, {"notes": dict(read.facts)})
    sections = {name: validation.sections.get(name, "") for name in ("subjective", "objective", "assessment", "plan")}
    return SoapReport(generation.text.strip(), sections, validation, generation, origin)


def _scan(source: str | Path | Image | Scan) -> Scan:
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
