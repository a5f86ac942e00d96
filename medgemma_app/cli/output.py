"""What the command line writes: the answer on stdout or into a file, everything else on stderr."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgemma_app.errors import MedGemmaError, OutputError

if TYPE_CHECKING:
    from PIL.Image import Image

    from medgemma_app.model.generation import Generation, Model, Token
    from medgemma_app.prompts import Prompt
    from medgemma_app.tasks import Report


LOGGED_EVERY = 30  # seconds
# A note may hold escape sequences that a model repeats; a terminal would obey them.
_THOUGHT_MARKS = re.compile(r"<unused9[45]>")
_CONTROL = {code: "\ufffd" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def say(line: str) -> None:
    """One line on stderr."""
    print(line.translate(_CONTROL), file=sys.stderr, flush=True)


class Progress:
    """One line on stderr that overwrites itself; in a log, where stderr is no terminal, now and then a line of its own."""

    def __init__(self, *, quiet: bool) -> None:
        self._shown = False
        self._on = not quiet and sys.stderr.isatty()
        self._log = not quiet and not sys.stderr.isatty()
        self._logged = time.monotonic()

    def show(self, text: str) -> None:
        if self._on:
            print(f"\r\033[2K{text}", end="", file=sys.stderr, flush=True)
            self._shown = True

    def count(self, text: str) -> None:
        """How far a long run has come: shown at once on a terminal, every half a minute in a log."""
        self.show(text)
        if self._log and time.monotonic() - self._logged > LOGGED_EVERY:
            say(text)
            self._logged = time.monotonic()

    def clear(self) -> None:
        if self._shown:
            print("\r\033[2K", end="", file=sys.stderr, flush=True)
            self._shown = False


class StreamPrinter:
    """Prints tokens as they come: the answer on stdout if ``answer``, the thought on stderr if ``thought``."""

    def __init__(self, progress: Progress, *, answer: bool, thought: bool) -> None:
        self._progress, self._answer, self._thought = progress, answer, thought
        self._tokens = 0
        self.printed = ""  # of the answer, so far

    def __call__(self, token: Token) -> None:
        self._tokens += token.finish_reason is None
        if token.kind == "thought" and self._thought:
            self._progress.clear()
            print(_THOUGHT_MARKS.sub("", token.text).translate(_CONTROL), end="", file=sys.stderr, flush=True)
        if token.kind == "answer":
            self._print(token.text)
        if not self.printed:
            self._progress.show(f"{self._tokens} tokens{', thinking' if token.kind == 'thought' else ''}")

    def _print(self, text: str) -> None:
        text = text if self.printed else text.lstrip()
        if self._answer and text:
            self._progress.clear()
            print(_safe(text), end="", flush=True)
            self.printed += text


class Answers:
    """Where finished answers go: stdout at once, or a file that is replaced whole at the end."""

    def __init__(self, path: Path | None, *, as_json: bool) -> None:
        self._path, self._json = path, as_json
        self._kept: list[str] = []
        self._studies = 0
        if path is not None:
            _check_writable(path, "--output")

    @property
    def can_stream(self) -> bool:
        return self._path is None and not self._json

    def add(self, report: Report, printed: str) -> None:
        """A finished report, of which ``printed`` has been streamed to stdout already."""
        self._write(json.dumps(report.to_dict(), ensure_ascii=False) if self._json else _unprinted(report.text, printed), "\n")

    def add_study(self, name: str, result: Report | MedGemmaError, record: dict[str, Any]) -> None:
        """One of several studies: a ``record``, or a report with a head that tells it from the others."""
        self._studies += 1
        if self._json:
            self._write(json.dumps(record, ensure_ascii=False), "\n")
        elif not isinstance(result, MedGemmaError):
            self._write("\n" if self._kept else "", f"# {_shown(name, self._studies)}\n", result.text, "\n")

    def add_partial(self, partial: Generation, printed: str) -> None:
        """What there was when the user stopped: always to stdout, a file holds finished reports only."""
        record = {"text": partial.text, "thought": partial.thought, "valid": False, "finish_reason": partial.finish_reason}
        print(json.dumps(record, ensure_ascii=False) if self._json else _safe(_unprinted(partial.text.strip(), printed)), flush=True)

    def close(self) -> None:
        if self._path is not None and self._kept:
            write_whole(self._path, "".join(self._kept))

    def _write(self, *pieces: str) -> None:
        self._kept.append(text := "".join(pieces))
        if self._path is None:
            print(text if self._json else _safe(text), end="", flush=True)


def _unprinted(text: str, printed: str) -> str:
    return text[len(printed) :] if text.startswith(printed) else text if not printed else ""


def _safe(text: str) -> str:
    return text.translate(_CONTROL) if sys.stdout.isatty() else text


def _check_writable(path: Path, option: str) -> None:
    """Asked before the model is loaded, so that no minutes are lost."""
    folder = path.parent
    if path.is_dir():
        raise OutputError(f"{option} {path.name} is a folder; give a file name")
    if not folder.is_dir():
        raise OutputError(f"{option}: there is no folder {str(folder)!r}; make it first")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise OutputError(f"{option} {path.name} cannot be written; choose another place")


def write_whole(path: Path, text: str) -> None:
    """Writes beside the file and renames, so that no reader and no crash ever sees half of it."""
    try:
        if path.exists() and not path.is_file():  # a pipe or a device cannot be replaced
            path.write_text(text, encoding="utf-8")
            return
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with open(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise OutputError(f"cannot write {path.name}: {error.strerror}") from error


def save_pictures(path: Path, images: Sequence[Image], sources: Sequence[str]) -> None:
    """Writes what the model sees as PNG; several pictures are numbered. Never writes over a file that is being read."""
    names = [path] if len(images) == 1 else [path.with_stem(f"{path.stem}-{number:03}") for number in range(1, len(images) + 1)]
    for name in names:
        _check_writable(name, "--save-input")
        if any(name.resolve() == Path(source).resolve() for source in sources):
            raise OutputError(f"--save-input {name.name} is one of the pictures to be read; choose another name")
    for name, image in zip(names, images, strict=True):
        try:
            image.save(name, format="PNG")
        except OSError as error:
            raise OutputError(f"cannot write {name.name}: {error.strerror or 'the disk refused it'}") from error


def say_cost(model: Model, prompt: Prompt) -> None:
    """Before a long wait: what a series of slices will take."""
    cost = model.estimate(prompt)
    if cost is None:
        say(f"{len(prompt.images)} pictures; what they take is the server's business")
        return
    memory = f"{cost.cache_bytes / 2**30:.2f} GiB of cache beside the weights"
    pictures = f"{len(prompt.images)} picture{'' if len(prompt.images) == 1 else 's'}, {cost.prompt_tokens} prompt tokens"
    say(f"{pictures}, {memory}; reading the pictures takes {cost.picture_seconds:.0f} s, the text more")


def say_issues(report: Report, prefix: str = "") -> None:
    for warning in report.warnings:
        say(f"{prefix}warning: {warning}")
    for issue in report.validation.issues:
        say(f"{prefix}{issue.severity}: {issue.code}: {issue.message}")


def _shown(name: str, number: int) -> str:
    """A file by its name, and a folder by its place among the studies: folders are called after patients."""
    return f"study {number}" if Path(name).is_dir() else Path(name).name


def say_result(name: str, number: int, result: Report | MedGemmaError) -> None:
    """What is to be said of one of several studies, and which of them it is."""
    shown = _shown(name, number)
    if not isinstance(result, MedGemmaError):
        say_issues(result, f"{shown}: ")
    else:
        say(f"medgemma: {result}" if shown in str(result) else f"medgemma: {shown}: {result}")


def say_pictures(report: Report) -> None:
    """What the model saw of each file, and how it was made to fit."""
    read = report.origin["input"]
    for facts in (read.get("prior"), read.get("scan"), *read.get("views", ())):
        if facts:
            say(f"saw {facts.get('name', 'the picture')}: {', '.join(_seen(facts))}")


def _seen(facts: Mapping[str, Any]) -> Iterator[str]:
    yield f"{facts['width']} x {facts['height']} pixels of {facts['bit_depth']} bits"
    if facts.get("frames", 1) > 1:
        yield f"frame {facts['frame']} of {facts['frames']}"
    if "slices_used" in facts:
        yield f"{len(facts['slices_used'])} of {facts['slices_found']} slices"
    window = facts["window"] or {}
    if "center" in window:
        yield f"window {window['center']:g}/{window['width']:g} ({window['from']})"
    elif window:
        limits = f" ({window['low']:g} to {window['high']:g})" if "low" in window else ""
        yield f"shown by {window['from']}{limits}"
    padding = facts["padding"]
    if padding is None:
        yield "squashed to a square"
    elif any(padding.values()):
        yield "padded to a square"


def say_timing(generation: Generation) -> None:
    memory = generation.peak_memory_bytes
    peak = "" if memory is None else f", peak memory {memory / 2**30:.2f} GiB"
    prompt, made = (("?" if count is None else count) for count in (generation.prompt_tokens, generation.generated_tokens))
    say(f"{prompt} prompt tokens, {made} generated in {generation.seconds:.1f} s{peak}")
