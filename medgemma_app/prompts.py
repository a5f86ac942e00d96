"""Turns a prompt file (prompts/*.md) and values into a Prompt.

A prompt file begins with front matter, which is not sent to the model; the rest is plain text with ``$variables``. The line of a
variable without a value is left out, so that one file serves with and without an indication.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from medgemma_app.errors import PromptError, expect
from medgemma_app.inputs.files import open_input, refuse_url, shown_name

if TYPE_CHECKING:
    from PIL.Image import Image

# In a wheel the files are inside the package; in a checkout or an editable install they are beside it.
FOLDERS = (Path(__file__).parent / "prompt_files", Path(__file__).parent.parent / "prompts")

ReportKind: TypeAlias = Literal["findings", "soap"]
ANSWER_TOKENS = 2000
VARIABLES = {"findings": {"header", "indication"}, "soap": {"notes"}, "locate": {"target"}}  # of each kind; $slices for a series
OPTIONAL_VARIABLES = {"header", "indication"}
PICTURE_KINDS = ("one", "prior", "views", "prior and views", "series")
LARGEST_PROMPT_FILE = 50_000  # bytes

_HEADING = re.compile(r"(?P<heading>[^\W\d_][^:;.()\[\]{}<>#*\"]{0,59}?)(?P<optional> \(optional\))?")
_LABELLED = re.compile(r"[\s>*_(\[-]{0,10}(?:[^.!?:$]{1,40}:)?[\s*_(\[]{0,10}\$\{?\w+\}?[\s*_.)\]]{0,10}")


def encodable(text: str) -> str:
    """The text with every lone surrogate replaced by U+FFFD."""
    return re.sub("[\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", text)


@dataclass(frozen=True)
class Prompt:
    """One user turn: text and pictures (RGB) in the order the model sees them, and a system text before it.

    ``answer_tokens`` is the number of tokens that an answer may have, unless ``Options.max_tokens`` is given.
    Lone surrogates, which cannot be encoded, become U+FFFD; Python creates them from arguments that are not UTF-8.
    """

    parts: tuple[str | Image, ...]
    system: str | None = None
    answer_tokens: int = ANSWER_TOKENS

    def __post_init__(self) -> None:
        expect(self.parts, (tuple, list), "a prompt is made of strings and PIL images, such as Prompt((image, 'Describe it.'))")
        for part in self.parts:
            if not hasattr(part, "convert"):
                expect(part, str, "the parts of a prompt are strings and PIL images")
        expect(self.system, (str, type(None)), "the system text must be a string")
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
    """A prompt file: its text without the front matter, and what the front matter says.

    ``sha256`` is of the file's bytes and goes into every report. ``sections`` are the headings in lower case, in order, and
    ``optional`` those that a report may lack. ``pictures`` says what the prompt can be used with.
    """

    name: str
    text: str
    sha256: str
    kind: str = "findings"
    title: str | None = None
    pictures: str = "one"
    sections: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()

    @property
    def asked(self) -> dict[str, Any]:
        """What the validators of a report need to know about its prompt, as keyword arguments."""
        return {"sections": self.sections, "optional": self.optional, "prompt": self.text}

    def to_dict(self) -> dict[str, Any]:
        """What the record of a report says about its prompt, JSON-ready."""
        lists = {"sections": [*self.sections], "optional": [*self.optional]}
        return {"file": self.name, "sha256": self.sha256, "title": self.title, **lists}

    def fill(self, **values: str | None) -> str:
        """The text with every ``$variable`` replaced; the line of a variable without a value is left out.

        Raises PromptError when the file and the values do not name the same variables.
        """
        if set(Template(self.text).get_identifiers()) != set(values):
            raise PromptError(f"{self.name} must use exactly these variables: {', '.join(sorted(values))}")
        lines = [line for line in self.text.splitlines() if all(values[name] for name in Template(line).get_identifiers())]
        filled = {name: value or "" for name, value in values.items()}
        return Template("\n".join(lines)).substitute(filled).strip()


def prompt_paths() -> list[Path]:
    """The prompt files of this package, sorted by name."""
    folder = next((folder for folder in FOLDERS if folder.is_dir()), FOLDERS[0])
    return sorted(path for path in folder.glob("*.md") if path.name != "README.md")


def read_prompt(name: str) -> PromptFile:
    """The prompt file ``name`` (without its ending) of this package. Raises PromptError when it is missing."""
    for path in prompt_paths():
        if path.stem == name:
            return parse_prompt(path.read_bytes(), path.name)
    raise PromptError(f"prompt file {name}.md is missing; reinstall medgemma-app")


def digest_of_prompts(kind: str) -> str:
    """SHA-256 over the prompt files of this package that are of one kind: it changes when one of them is edited."""
    files = [read_prompt(path.stem) for path in prompt_paths()]
    return hashlib.sha256("".join(file.sha256 for file in files if file.kind == kind).encode()).hexdigest()


def choose_prompt(source: str | Path | PromptFile, *kinds: str) -> PromptFile:
    """A prompt file of these ``kinds``: one of this package by its name, or any other by its path. Raises InputError or PromptError."""
    expect(source, (str, Path, PromptFile), "a prompt is given as the name or the path of a prompt file")
    chosen = source if isinstance(source, PromptFile) else _named_prompt(source)
    if chosen.kind not in kinds:
        wanted = " or ".join(f'"kind: {kind}"' for kind in kinds)
        raise PromptError(f'{chosen.name} is a prompt with "kind: {chosen.kind}" in its front matter; one with {wanted} is needed')
    return chosen


def _named_prompt(source: str | Path) -> PromptFile:
    included = [path.stem for path in prompt_paths()]
    if source in included:
        return read_prompt(str(source))
    refuse_url(source)
    if isinstance(source, str) and Path(source).name == source and not Path(source).suffix and not Path(source).exists():
        close = get_close_matches(source, included, n=1)
        advice = f"did you mean {close[0]}? " if close else ""
        raise PromptError(
            f"there is no prompt {source!r}; {advice}medgemma prompts lists the included ones; give a file of your own by its path"
        )
    with open_input(source, what="a prompt file") as file:
        return parse_prompt(file.read(LARGEST_PROMPT_FILE + 1), shown_name(source))


def parse_prompt(raw: bytes, name: str) -> PromptFile:
    """Parses the bytes of a prompt file; ``name`` is what messages call it. Raises PromptError, which names the line that is wrong."""
    if len(raw) > LARGEST_PROMPT_FILE:
        raise PromptError(f"{name} is too large for a prompt file, which may have at most {LARGEST_PROMPT_FILE // 1000} kB")
    try:
        lines = raw.decode("utf-8-sig").splitlines(keepends=True)
    except UnicodeDecodeError as error:
        raise PromptError(f"prompt file {name} is not UTF-8 text") from error
    head, rest = _front_matter(lines, name)
    kind, pictures, text = head.get("kind", ""), head.get("pictures", "one"), "".join(lines[rest:])
    for key, value, allowed in (("kind", kind, VARIABLES), ("pictures", pictures, PICTURE_KINDS)):
        if value not in allowed:
            raise PromptError(f"{name}: the front matter must have {key}: with one of these values: {', '.join(allowed)}")
    if "pictures" in head and kind != "findings":
        raise PromptError(f"{name}: pictures: belongs only in prompts of the kind findings; leave it out")
    _check_variables(lines[rest:], rest + 1, VARIABLES[kind] | ({"slices"} if pictures == "series" else set()), name)
    always = "".join(line for line in lines[rest:] if OPTIONAL_VARIABLES.isdisjoint(Template(line).get_identifiers()))
    sections, optional = _sections(head.get("sections"), kind, always, name)
    return PromptFile(name, text, hashlib.sha256(raw).hexdigest(), kind, head.get("title"), pictures, sections, optional)


def _check_variables(lines: Sequence[str], first: int, wanted: set[str], name: str) -> None:
    """Raises PromptError for a variable that is unknown, missing or used twice, and for a line that Template cannot read."""
    known, used = ", ".join(f"${each}" for each in sorted(wanted)), set[str]()
    for number, line in enumerate(lines, first):
        if "\0" in line or not Template(line).is_valid():
            raise PromptError(f"{name}, line {number}: there is a lone $ or a control character; write $$ for a dollar sign")
        for variable in Template(line).get_identifiers():
            if variable not in wanted:
                raise PromptError(f"{name}, line {number}: ${variable} is not a variable of this prompt, which must use {known}")
            if variable in used:
                raise PromptError(f"{name}, line {number}: ${variable} is already used on an earlier line; use it once")
            if variable in OPTIONAL_VARIABLES and not _LABELLED.fullmatch(line):
                raise PromptError(
                    f"{name}, line {number}: ${variable} must be on a line of its own, which may begin with a short label, as in "
                    f"'Label: ${variable}'; without a value the whole line is left out"
                )
            used.add(variable)
    for variable in sorted(wanted - used):
        raise PromptError(f"{name} does not use ${variable}; a prompt of this kind must use {known}")


def _front_matter(lines: Sequence[str], name: str) -> tuple[dict[str, str], int]:
    """The values of the ``key: value`` lines between the first two lines of ``---``, and the number of lines up to the second."""
    marks = [number for number, line in enumerate(lines) if line.strip() == "---"][:2]
    if len(marks) < 2 or marks[0] != 0:
        raise PromptError(f"{name} must begin with a line of ---, lines such as 'kind: findings', and another line of ---")
    found: dict[str, str] = {}
    for number, line in enumerate(lines[1 : marks[1]], 2):
        key, colon, value = (part.strip() for part in line.partition(":"))
        if key not in ("kind", "title", "pictures", "sections") or key in found or not colon or not value or not value.isprintable():
            raise PromptError(f"{name}, line {number}: front matter may have kind:, title:, pictures: and sections:, each at most once")
        found[key] = value
    return found, marks[1] + 1


def _sections(written: str | None, kind: str, text: str, name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """All headings in lower case, and those that a report may lack. Raises PromptError, which names the heading that is wrong."""
    listed = [part.strip() for part in re.split("[,،，、]", written)] if written is not None else []
    if (kind == "locate") == bool(listed):
        raise PromptError(f"{name}: a prompt of the kind {kind} {'has no' if listed else 'needs'} sections: in its front matter")
    sections: dict[str, bool] = {}
    for part in listed:
        match = _HEADING.fullmatch(part)
        if not match:
            raise PromptError(f"{name}: {part!r} in sections: is not a heading; write headings as in FINDINGS, ADVICE (optional)")
        heading = folded(match["heading"])
        if heading in sections:
            raise PromptError(f"{name}: sections: has the heading {match['heading']} twice")
        if heading not in folded(text):
            raise PromptError(f"{name}: the prompt does not ask for the section {match['heading']} in a line that is always sent")
        sections[heading] = match["optional"] is not None
    return tuple(sections), tuple(heading for heading, optional in sections.items() if optional)


def folded(text: str) -> str:
    """The text in lower case, with accents that are separate characters joined to their letters (Unicode form NFC)."""
    return unicodedata.normalize("NFC", text).lower()


def findings_prompt(
    image: Image,
    *,
    indication: str | None = None,
    prior: Image | None = None,
    views: Sequence[Image] = (),
    header: str | None = None,
    file: PromptFile | None = None,
) -> tuple[Prompt, PromptFile]:
    """Pictures first, then the request: the order of MedGemma 1.5's own examples; a prior comes before the current pictures.

    ``views`` are further views of the same study; ``header`` describes the picture by its file's header; ``file`` replaces this
    package's own prompt. Raises PromptError if the prompt is for other pictures.
    """
    shown = " and ".join(["prior"] * (prior is not None) + ["views"] * bool(views)) or "one"
    file = file or read_prompt({"one": "findings"}.get(shown, f"findings_{shown.replace(' and ', '_')}"))
    _refuse_pictures(file, shown)
    pictures = (image, *views) if prior is None else (prior, image, *views)
    return Prompt((*pictures, file.fill(indication=indication, header=header))), file


def series_prompt(
    slices: Sequence[Image], *, indication: str | None = None, header: str | None = None, file: PromptFile | None = None
) -> tuple[Prompt, PromptFile]:
    """The request, every slice followed by "SLICE i", and the question: the order of Google's CT examples."""
    file = file or read_prompt("findings_series")
    _refuse_pictures(file, "series")
    mark = secrets.token_hex(16)  # a text that no value contains
    before, _, after = file.fill(indication=indication, header=header, slices=mark).partition(mark)
    *numbered, last = numbered_slices(slices)
    # The chat template joins texts without a separator, so the last number and the question are made one text.
    return Prompt((before.strip(), *numbered, f"{last}\n\n{after.strip()}")), file


def numbered_slices(slices: Sequence[Image]) -> list[str | Image]:
    """Every slice followed by "SLICE i"."""
    return [part for number, image in enumerate(slices, 1) for part in (image, f"SLICE {number}")]


def _refuse_pictures(file: PromptFile, shown: str) -> None:
    if file.pictures != shown:
        raise PromptError(
            f'{file.name} is a prompt with "pictures: {file.pictures}" in its front matter; this study needs one with "pictures: {shown}"'
        )


def soap_prompt(notes: str, *, file: PromptFile | None = None) -> tuple[Prompt, PromptFile]:
    """The request around the notes, as text only.

    The answer may have half as many tokens as the notes (of about four letters each), and 512 more. Of 262 notes on recorded
    visits, by clinicians and other models, the longest takes 74% of that.
    """
    file = file or read_prompt("soap")
    return Prompt((file.fill(notes=notes),), answer_tokens=min(ANSWER_TOKENS, 512 + len(notes) // 8)), file


def locate_prompt(image: Image, target: str) -> tuple[Prompt, PromptFile]:
    """The picture, then the request for the box of ``target``, such as "right clavicle"."""
    file = read_prompt("locate")
    return Prompt((image, file.fill(target=target))), file
