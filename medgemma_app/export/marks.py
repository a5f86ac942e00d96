"""What every export needs of a record: its issues and where they stand in its text and in its source, its sections, its date."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, NamedTuple

Issues = Sequence[Mapping[str, Any]]
Span = tuple[int, int, int]  # where it starts and ends in a text, and the number of the issue it belongs to

SEVERITIES = ("error", "warning", "info")


def ordered(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The issues that the checks found and the warnings about the input, as the terminal counts them: worst first, then in text order."""
    about_input = [{"code": "input", "severity": "warning", "message": str(warning)} for warning in record.get("warnings") or ()]
    issues = [*(record.get("issues") or ()), *about_input]
    return sorted(issues, key=lambda issue: (SEVERITIES.index(issue["severity"]), issue.get("start") is None, issue.get("start") or 0))


def created_at(record: Mapping[str, Any]) -> datetime | None:
    """When the report was generated, in UTC; None where an older record does not say so. Raises ValueError or TypeError."""
    return None if record.get("created") is None else datetime.fromisoformat(record["created"]).astimezone(UTC)


class Piece(NamedTuple):
    """Part of a text: the ``severity`` of its mark ("" without one), and the numbers of the checks that ``begin`` and ``end`` with it."""

    text: str
    severity: str
    begin: list[int]
    end: list[int]
    is_heading: bool


def draft_pieces(record: Mapping[str, Any], issues: Issues) -> Iterator[Piece]:
    """The text of the report, cut where a mark or a heading begins or ends."""
    text = str(record.get("text", ""))
    headings = [(heading, start) for _, heading, start, _ in _bodies(text, record.get("sections") or {})]
    return _pieces(text, [*_spans(text, issues, "start", "end")], issues, headings)


def source_pieces(source: str, issues: Issues) -> Iterator[Piece]:
    """The notes, cut where a mark begins or ends."""
    return _pieces(source, [*_spans(source, issues, "source_start", "source_end")], issues)


def _spans(text: str, issues: Issues, start: str, end: str) -> Iterator[Span]:
    """The places of the issues that have one. Where there is no word, as in an empty section, it is the end of what stands before."""
    for number, issue in enumerate(issues, 1):
        a, b = issue.get(start), issue.get(end)
        if isinstance(a, int) and isinstance(b, int) and 0 <= a <= b and a <= len(text):
            empty = len(text[:a].rstrip())
            yield (a, min(b, len(text)), number) if text[a:b].strip() else (empty, empty, number)


def _pieces(text: str, spans: list[Span], issues: Issues, headings: Sequence[tuple[int, int]] = ()) -> Iterator[Piece]:
    """Every character of the text, once. Where marks overlap, the shortest one is shown, so that no mark hides another. A span without
    a character, as of an empty section, is an empty piece.
    """
    marks = [(a, b, number) for a, b, number in spans if a < b]
    edges = sorted({0, len(text), *(edge for a, b, *_ in (*spans, *headings) for edge in (a, b))})
    for start, end in pairwise((*edges, len(text))):
        yield from (Piece("", "", [number], [number], False) for a, b, number in spans if a == b == start)
        if start == end:
            continue
        here = [(b - a, SEVERITIES.index(issues[number - 1]["severity"])) for a, b, number in marks if a <= start < b]
        yield Piece(
            text[start:end],
            SEVERITIES[min(here)[1]] if here else "",
            [number for a, _, number in marks if a == start],
            [number for _, b, number in marks if b == end],
            any(a <= start < b for a, b in headings),
        )


def sections_of(record: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(name, heading, text) of the report in its own order, every word of it; name and heading are "" where there is none."""
    text, last = str(record.get("text", "")), 0
    for name, heading, start, end in _bodies(text, record.get("sections") or {}):
        if between := text[last:heading].strip():
            yield "", "", between
        yield name, text[heading:start].strip(), text[start:end].strip()
        last = end
    if rest := text[last:].strip():
        yield "", "", rest


def _bodies(text: str, sections: Mapping[str, str]) -> Iterator[tuple[str, int, int, int]]:
    """Where the heading and the text of each section begin, and where it ends; the heading is the last line before the text."""
    at = 0
    for name, body in sorted(((name, body) for name, body in sections.items() if body), key=lambda section: text.find(section[1])):
        found = text.find(body, at)
        if found < 0:
            return
        last = next((place for place in range(found - 1, at - 1, -1) if text[place].isalnum()), at)
        begin = max(at, text.rfind("\n", at, last) + 1)
        at = found + len(body)
        yield name, begin, found, at
