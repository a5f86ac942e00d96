"""Reads the record of a report for every export: checks it, and returns its title, sections, and issues with their places in the text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, NamedTuple

from medgemma_app.errors import InputError, OptionError
from medgemma_app.notices import BOX_NOTICE, SEVERITIES, issue_counts

Issues = Sequence[Mapping[str, Any]]
Span = tuple[int, int, int]  # where it starts and ends in a text, and the number of the issue it belongs to

ONE_RECORD = "the output of findings --json or soap --json"
TITLES = {"findings": "Findings report", "soap": "SOAP note", "ask": "Answer", "locate": "Bounding boxes"}


def check_record(record: Mapping[str, Any], name: str = "the record") -> None:
    """Raises InputError unless ``record`` has a text, its kind, and what the checks found, as ``report.to_dict()`` has them.

    ``name`` is what messages call it. A record that cannot be read must not look like a report in which the checks found nothing.
    """
    issues, advice = record.get("issues"), f"give {ONE_RECORD}"
    if not isinstance(record.get("text"), str):
        if "error" in record:
            raise InputError(f"{name} belongs to a study that failed, so there is no report to export")
        if "report" in record and "issues" in record:
            raise InputError(f"{name} was written by check --json, which keeps what the checks found and not the text; {advice}")
        raise InputError(f"{name} does not belong to a report: it has no text; {advice}")
    if record.get("kind") not in tuple(TITLES):
        raise InputError(f"{name} does not say what kind of report it is (kind); {advice}")
    if not isinstance(issues, list) or not all(
        isinstance(issue, Mapping)
        and issue.get("severity") in SEVERITIES
        and isinstance(issue.get("code"), str)
        and isinstance(issue.get("message"), str)
        for issue in issues
    ):
        raise InputError(f"{name} does not say what the checks found (issues) in the form that this program writes; {advice}")
    ok = not any(issue["severity"] == "error" for issue in issues)
    if record.get("valid", ok) is not ok:
        raise InputError(f"{name} contradicts itself: valid is {record['valid']}, but its issues say otherwise; {advice}")


@contextmanager
def damage_as_input_error() -> Iterator[None]:
    """Turns the errors of code that reads a damaged record into an InputError."""
    try:
        yield
    except OptionError:  # must pass, although it is a ValueError
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"the record is damaged or was not written by this program; give {ONE_RECORD}") from error


def ordered(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The issues that the checks found and the warnings about the input, as the terminal counts them: worst first, then in text order."""
    about_input = [{"code": "input", "severity": "warning", "message": str(warning)} for warning in record.get("warnings") or ()]
    issues = [*(record.get("issues") or ()), *about_input]
    return sorted(issues, key=lambda issue: (SEVERITIES.index(issue["severity"]), issue.get("start") is None, issue.get("start") or 0))


def title_of(record: Mapping[str, Any]) -> str:
    """The title of the report, from its prompt file or its kind."""
    return str((record.get("prompt") or {}).get("title") or TITLES.get(str(record.get("kind")), "Report"))


def made_by(record: Mapping[str, Any]) -> str:
    """Which model wrote the report, and when."""
    model, created = record.get("model") or {}, created_at(record)
    revision = f", revision {model['revision']}" if model.get("revision") else ""
    when = f" on {created:%Y-%m-%d at %H:%M} UTC" if created else ""
    return f"Written by {model.get('id', 'an unnamed model')}{revision}{when}. Not verified by anyone."


def created_at(record: Mapping[str, Any]) -> datetime | None:
    """When the report was generated, in UTC; None where an older record does not say so. Raises ValueError or TypeError."""
    return None if record.get("created") is None else datetime.fromisoformat(record["created"]).astimezone(UTC)


def summary(issues: Issues) -> str:
    """What the checks found, as a sentence."""
    words = issue_counts([issue["severity"] for issue in issues])
    return f"{words[0].upper()}{words[1:]}."


def box_lines(record: Mapping[str, Any]) -> str:
    """One line for each box, in pixels of the file, and the notice on boxes."""
    lines = [f'Boxes for "{(record.get("input") or {}).get("target")}":{"" if record.get("boxes") else " none"}']
    for number, box in enumerate(record.get("boxes") or (), 1):
        x0, y0, x1, y1 = (int(box[edge]) for edge in ("x0", "y0", "x1", "y1"))
        frame = f" in frame {int(box['frame'])}" if box["frame"] != 1 else ""
        lines.append(f"box {box.get('number', number)}, {box['label']}: x {x0} to {x1}, y {y0} to {y1} pixels{frame}")
    return "\n".join([*lines, BOX_NOTICE])


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
    """The places of the issues that have one. For a place without words, such as an empty section, it is the end of the text before it."""
    for number, issue in enumerate(issues, 1):
        a, b = issue.get(start), issue.get(end)
        if isinstance(a, int) and isinstance(b, int) and 0 <= a <= b and a <= len(text):
            empty = len(text[:a].rstrip())
            yield (a, min(b, len(text)), number) if text[a:b].strip() else (empty, empty, number)


def _pieces(text: str, spans: list[Span], issues: Issues, headings: Sequence[tuple[int, int]] = ()) -> Iterator[Piece]:
    """Every character of the text, once. Where marks overlap, the shortest one is shown, so that no mark hides another.

    A span without characters, as of an empty section, is an empty piece.
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
    """Yields (name, heading, text) in the order of the report, with every word of it; name and heading are "" if there is none."""
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
        if found < 0:  # the text does not contain the section word for word
            continue
        last = next((place for place in range(found - 1, at - 1, -1) if text[place].isalnum()), at)
        begin = max(at, text.rfind("\n", at, last) + 1)
        at = found + len(body)
        yield name, begin, found, at
