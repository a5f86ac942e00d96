"""prompts/*.md and values -> Prompt.

A prompt file is plain text with ``$variables``. A line whose variable has no value is left out, so that
one file serves with and without an indication.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from medgemma_app.errors import PromptError, expect

if TYPE_CHECKING:
    from PIL.Image import Image

# In a wheel the files lie inside the package; in a checkout, and so in an editable install, beside it.
FOLDERS = (Path(__file__).parent / "prompt_files", Path(__file__).parent.parent / "prompts")

_HALF_PAIR = re.compile(r"[\ud800-\udfff]")


def encodable(text: str) -> str:
    """The text with every half of a surrogate pair as U+FFFD."""
    return _HALF_PAIR.sub("\N{REPLACEMENT CHARACTER}", text)


@dataclass(frozen=True)
class Prompt:
    """One user turn: text and pictures (RGB) in the order the model sees them, and a system text before it.

    What cannot be encoded (half a surrogate pair, as a terminal makes of a stray byte) becomes U+FFFD.
    """

    parts: tuple[str | Image, ...]
    system: str | None = None

    def __post_init__(self) -> None:
        expect(self.parts, (tuple, list), "a prompt is made of texts and PIL images, such as Prompt((image, 'Describe it.'))")
        for part in self.parts:
            if not hasattr(part, "convert"):
                expect(part, str, "the parts of a prompt are texts and PIL images")
        expect(self.system, (str, type(None)), "system must be a text")
        object.__setattr__(self, "parts", tuple(encodable(part) if isinstance(part, str) else part for part in self.parts))
        object.__setattr__(self, "system", self.system and encodable(self.system))

    @property
    def images(self) -> tuple[Image, ...]:
        return tuple(part for part in self.parts if not isinstance(part, str))


def checked_prompt(prompt: Prompt) -> Prompt:
    """The prompt; raises TypeError for anything else."""
    expect(prompt, Prompt, "give a Prompt, such as Prompt(('Describe it.',))")
    return prompt


@dataclass(frozen=True)
class PromptFile:
    """A prompt template as it lies on disk; ``sha256`` is of the file's bytes and goes into every report."""

    name: str
    text: str
    sha256: str

    def fill(self, **values: str | None) -> str:
        """The text with every ``$variable`` replaced; a variable that has no value takes its line with it.

        Raises PromptError when the file and the values do not name the same variables.
        """
        wanted = set(Template(self.text).get_identifiers())
        if wanted != set(values):
            raise PromptError(f"{self.name} must use exactly these variables: {', '.join(sorted(values))}")
        lines = [line for line in self.text.splitlines() if not _lacks_value(line, values)]
        filled = {name: value or "" for name, value in values.items()}
        return Template("\n".join(lines)).substitute(filled).strip()


def _lacks_value(line: str, values: Mapping[str, str | None]) -> bool:
    return any(not values[name] for name in Template(line).get_identifiers())


def read_prompt(name: str) -> PromptFile:
    """The prompt file ``name`` (without its ending). Raises PromptError when it is missing or not UTF-8."""
    for folder in FOLDERS:
        path = folder / f"{name}.md"
        if path.is_file():
            return _parse(path)
    raise PromptError(f"prompt file {name}.md is missing; reinstall medgemma-app")


def _parse(path: Path) -> PromptFile:
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PromptError(f"prompt file {path.name} is not UTF-8 text") from error
    if not Template(text).is_valid():
        raise PromptError(f"prompt file {path.name} has a lone $; write $$ for a dollar sign")
    return PromptFile(path.name, text, hashlib.sha256(raw).hexdigest())


def findings_prompt(
    image: Image,
    *,
    indication: str | None = None,
    prior: Image | None = None,
    views: Sequence[Image] = (),
    header: str | None = None,
) -> tuple[Prompt, PromptFile]:
    """Pictures first, then the request: the order of MedGemma 1.5's own examples; a prior comes before the current pictures.

    ``views`` are further views of the same study; ``header`` is what the image file itself says of the picture.
    """
    file = read_prompt("findings" + ("_prior" if prior is not None else "") + ("_views" if views else ""))
    pictures = (image, *views) if prior is None else (prior, image, *views)
    return Prompt((*pictures, file.fill(indication=indication, header=header))), file


def series_prompt(slices: Sequence[Image], *, indication: str | None = None, header: str | None = None) -> tuple[Prompt, PromptFile]:
    """The request, every slice followed by "SLICE i", and the question: the order of Google's CT examples."""
    file = read_prompt("findings_series")
    mark = "\x00"  # no text of a prompt can hold it
    before, after = file.fill(indication=indication, header=header, slices=mark).split(mark)
    numbered = [part for i, image in enumerate(slices, 1) for part in (image, f"SLICE {i}")]
    # The chat template joins texts with nothing between them, so the last number and the question are one text.
    numbered[-1] = f"{numbered[-1]}\n\n{after.strip()}"
    return Prompt((before.strip(), *numbered)), file


def soap_prompt(notes: str) -> tuple[Prompt, PromptFile]:
    """The request around the notes, as text only."""
    file = read_prompt("soap")
    return Prompt((file.fill(notes=notes),)), file
