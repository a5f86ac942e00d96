"""Subtitles -> turns: SRT, WebVTT, what whisper prints on a terminal, and its table. Also how turns are joined and written."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

Turn: TypeAlias = tuple[str, str]  # who speaks ("" where that is not known), and what

_CUE_TIME = re.compile(r"(?:\d{1,3}:)?\d{1,2}:\d{2}[.,]\d{1,3}")
_CUE = re.compile(rf"^\s*\[?{_CUE_TIME.pattern}\s*-->\s*{_CUE_TIME.pattern}\]?(.*)$")
_VOICE = re.compile(r"<v(?:\.[^ >]*)?\s+([^>]*)>")
_SAYS = re.compile(r"^(?:(?:-|>>)\s*)?([^\W\d_][\w .'-]{0,30}|SPEAKER_\d+|\[[^\W_][\w .'-]{0,30}\]):\s+(?=\S)")
_NEW_SPEAKER = re.compile(r"- |>>\s*")
_CLOCK = re.compile(r"\s*[\[(](\d{1,2}):\d{2}(?::\d{2})?(?:[.,]\d+)?(?:\s*-+>?\s*[\d:.,]+)?[\])]\s*")
_TSV = re.compile(r"^start\tend\t(?:speaker\t)?text\s*$")


def looks_like_subtitles(text: str) -> bool:
    """True for SRT, WebVTT, what whisper prints on a terminal, and its table."""
    lines = text.lstrip("\ufeff").lstrip().splitlines()[:40]
    return bool(lines) and (lines[0].startswith("WEBVTT") or bool(_TSV.match(lines[0])) or any(map(_CUE.match, lines)))


def subtitle_turns(text: str) -> list[Turn]:
    """What was spoken in subtitles: no numbers, times, styles or notes of them."""
    lines = text.lstrip("\ufeff").splitlines()
    if lines and _TSV.match(lines[0]):
        rows = [row for row in (line.split("\t") for line in lines[1:]) if len(row) > 2]
        return joined_turns((row[-2] if len(row) > 3 else "", row[-1]) for row in rows)
    cues: list[list[str]] = []
    skipping = True  # a header, a style, a note
    for line, next_line in zip(lines, [*lines[1:], ""], strict=True):
        cue = _CUE.match(line)
        if cue:
            inline = cue[1].strip() if line.lstrip().startswith("[") else ""  # else settings of the place on the screen
            cues.append([inline] if inline else [])
            skipping = False
        elif not line.strip():
            skipping = True
        elif _CUE.match(next_line) and (skipping or line.strip().isdigit()):
            continue  # the number or the name of the next cue
        elif not skipping or (cues and not line.startswith(("NOTE", "STYLE", "REGION"))):  # a cue may have an empty line in it
            cues[-1].append(line.strip())
            skipping = False
    return joined_turns(turn for cue in cues for turn in _cue_turns(cue))


def _cue_turns(lines: Sequence[str]) -> Iterator[Turn]:
    who = ""
    for line in lines:
        voice = _VOICE.search(line)
        said = html.unescape(re.sub(r"</?[a-zA-Z0-9:.][^<>]*>|\{\\[^{}]*\}", "", line)).strip()
        named = None if voice else _SAYS.match(said)
        is_new = _NEW_SPEAKER.match(said)
        if voice or named or is_new:
            who = voice[1].strip() if voice else named[1].strip("[]") if named else "-"
        yield who, (said[named.end() :] if named else said[is_new.end() :] if is_new else said).strip()


def without_times(text: str) -> str:
    """A text without the times in brackets that a recorder puts before each line: [00:12] Doctor: ..."""
    lines = [line for line in text.split("\n") if line.strip()]
    timed = [found for line in lines if (found := _CLOCK.match(line))]
    if len(timed) < 2 or len(timed) * 10 < len(lines) * 8 or int(timed[0][1]) > 4:
        return text
    return "\n".join(_CLOCK.sub("", line) for line in text.split("\n"))


def joined_turns(turns: Iterable[Turn]) -> list[Turn]:
    """Pieces of one speaker in a row as one turn. A piece that repeats the one before, as rolling captions do, is said once."""
    found: list[Turn] = []
    last = ""
    for who, said in turns:
        said = " ".join(said.split())
        if not said or (said == last and found and found[-1][0] == who and len(said.split()) > 3):
            continue
        if found and found[-1][0] == who != "-":
            found[-1] = (who, f"{found[-1][1]} {said}")
        else:
            found.append((who, said))
        last = said
    return found


def turns_text(turns: Sequence[Turn]) -> str:
    """A turn a line, with its speaker where speakers are known, or the dash that says that another one speaks."""
    known = any(who for who, _ in turns)
    return "\n".join(f"- {said}" if who == "-" else f"{who or 'Unknown speaker'}: {said}" if known else said for who, said in turns)
