"""What a person reads on standard error: progress, the streamed text, issues, how pictures were read, timings."""

from __future__ import annotations

import os
import re
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TextIO

from medgemma_app.export.record import Issues, ordered
from medgemma_app.notices import counted, printable, say

if TYPE_CHECKING:
    from medgemma_app.model.generation import Generation, Model, Token
    from medgemma_app.prompts import Prompt
    from medgemma_app.tasks import Report

LOGGED_EVERY = 30  # seconds
COLOURS = {"error": "\033[31m", "warning": "\033[33m", "info": "\033[36m"}
_THOUGHT_MARKS = re.compile(r"<unused9[45]>")


class Progress:
    """One line on standard error that overwrites itself. In a log it is a new line every 30 seconds."""

    def __init__(self, *, quiet: bool) -> None:
        self._shown = False
        self._on = not quiet and sys.stderr.isatty()
        self._log = not quiet and not sys.stderr.isatty()
        self._logged = time.monotonic()

    def show(self, text: str) -> None:
        if self._on:
            print(f"\r\033[2K{printable(text)}", end="", file=sys.stderr, flush=True)
            self._shown = True

    def count(self, text: str) -> None:
        """Shows how far a long run has come."""
        self.show(text)
        if self._log and time.monotonic() - self._logged > LOGGED_EVERY:
            say(text)
            self._logged = time.monotonic()

    def clear(self) -> None:
        if self._shown:
            print("\r\033[2K", end="", file=sys.stderr, flush=True)
            self._shown = False


class StreamPrinter:
    """Prints tokens as they come: the answer on standard output if ``answer``, the thought on standard error if ``thought``."""

    def __init__(self, progress: Progress, *, answer: bool, thought: bool) -> None:
        self._progress, self._answer, self._thought = progress, answer, thought
        self._tokens = 0
        self.printed = ""  # of the answer, so far

    def __call__(self, token: Token) -> None:
        self._tokens += token.finish_reason is None
        if token.kind == "thought" and self._thought:
            self._progress.clear()
            print(printable(_THOUGHT_MARKS.sub("", token.text)), end="", file=sys.stderr, flush=True)
        if token.kind == "answer" and self._answer:
            text = token.text if self.printed else token.text.lstrip()
            if text:
                self._progress.clear()
                print(printable(text), end="", flush=True)
                self.printed += text
        if not self.printed:
            self._progress.show(f"{counted(self._tokens, 'token')}{', thinking' if token.kind == 'thought' else ''}")


def print_issues(issues: Issues, stream: TextIO, *, prefix: str = "", excerpts: bool = True) -> None:
    """Prints the issues of a record, one on each line; with ``excerpts`` also the words that they are about."""
    for issue in issues:
        words = f" [{issue['excerpt']}]" if excerpts and issue.get("excerpt") else ""
        print(_line(issue["severity"], f"{issue['code']}: {issue['message']}{words}", stream, prefix), file=stream, flush=True)


def _line(severity: str, text: str, stream: TextIO, prefix: str) -> str:
    """The line to print: wrapped and coloured on a terminal, plain elsewhere."""
    line = " ".join(printable(f"{prefix}{severity}: {text}").split())
    if not stream.isatty():
        return line
    line = textwrap.fill(line, _columns(stream), subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return line
    return line.replace(f"{severity}:", f"{COLOURS[severity]}{severity}\033[0m:", 1)


def _columns(stream: TextIO) -> int:
    """The width of the terminal behind ``stream``; standard output may be another one, or none."""
    try:
        return int(os.environ.get("COLUMNS") or os.get_terminal_size(stream.fileno()).columns)
    except (OSError, ValueError):
        return 80


def say_issues(report: Report, prefix: str = "") -> None:
    """Prints the issues of the report and the warnings about its input. Only a terminal shows words of the report."""
    print_issues(ordered(report.to_dict()), sys.stderr, prefix=prefix, excerpts=sys.stderr.isatty())


def say_cost(model: Model, prompt: Prompt) -> None:
    """Prints the cost of a series of slices before a long wait."""
    cost, pictures = model.estimate(prompt), counted(len(prompt.images), "picture")
    if cost is None:
        say(f"{pictures}; the time and memory they take depend on the server")
        return
    memory = f"{cost.cache_bytes / 2**30:.2f} GiB of cache in addition to the weights"
    say(f"{pictures}, {cost.prompt_tokens} prompt tokens, {memory}; reading the pictures takes about {cost.picture_seconds:.0f} s")


def say_pictures(report: Report) -> None:
    """Prints which picture the model saw of each file, and how it was converted."""
    read = report.origin["input"]
    for facts in (read.get("prior"), read.get("scan"), *read.get("views", ()), *read.get("scans", ())):
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
        yield "stretched to a square"
    elif any(padding.values()):
        yield "padded to a square"


def say_timing(generation: Generation) -> None:
    memory = generation.peak_memory_bytes
    peak = "" if memory is None else f", peak memory {memory / 2**30:.2f} GiB"
    prompt, made = (("?" if count is None else count) for count in (generation.prompt_tokens, generation.generated_tokens))
    say(f"{prompt} prompt tokens, {made} generated in {generation.seconds:.1f} s{peak}")


def pace(done: int, total: int, seconds: float) -> str:
    """How far a run over many studies has come, its rate, and how long the rest takes at that rate."""
    left = f", {timedelta(seconds=round(seconds / done * (total - done)))} left" if 0 < done < total else ""
    rate = 60 * done / max(seconds, 1e-9)
    return f"{done} of {total} studies in {timedelta(seconds=round(seconds))}, {rate:.1f} a minute{left}"
