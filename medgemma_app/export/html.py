"""A finished report -> one HTML page that needs nothing else: no script, no network, no other file."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from medgemma_app import notices
from medgemma_app.notices import BLIND_SPOT, BOX_NOTICE, NOTICE

if TYPE_CHECKING:
    from PIL.Image import Image

    Captioned = tuple[str, Image]
    Span = tuple[int, int, int]  # where it starts and ends in a text, and the number of the issue it belongs to

TITLES = {"findings": "Findings report", "soap": "SOAP note", "ask": "Answer", "locate": "Bounding boxes"}
SEVERITIES = ("error", "warning", "info")
BOX_COLOUR, LONGEST_LABEL = "#ffd400", 60
LARGEST_SIDE = 1024  # pixels of a picture in the page; the model itself sees 896


def page(record: Mapping[str, Any], *, images: Sequence[Captioned] = (), source: str | None = None) -> str:
    """The whole document. ``record`` is ``report.to_dict()``; ``source`` is what a SOAP note was written from."""
    title = f"Draft: {title_of(record)}"
    return document(title, f"<main>{fragment(record, images=images, source=source)}</main>")


def document(title: str, body: str) -> str:
    """``body`` as a page of its own."""
    head = f'<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>'
    base = "<style>html { color-scheme: light dark } body { margin: 0 }</style>"
    return f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n{base}\n</head>\n<body>\n{body}\n</body>\n</html>\n'


def fragment(record: Mapping[str, Any], *, images: Sequence[Captioned] = (), source: str | None = None, styled: bool = True) -> str:
    """What the page shows, by default with its own style: also what a notebook shows."""
    issues = ordered(record)
    boxes = record.get("boxes") or ()
    panels = [_pictures(images, _overlay(boxes) if boxes else "")] if images else []
    if question := (record.get("input") or {}).get("question"):
        panels.append(_panel("Question", f'<p class="text">{escape(str(question))}</p>'))
    if record.get("kind") == "locate":
        panels.append(_panel("Boxes", f'<p class="text">{escape(box_lines(record))}</p>'))
    if source is not None:
        panels.append(_panel("Source", _marked(source, _spans(issues, "source_start", "source_end"), issues, "source")))
    panels.append(_panel("Draft", _draft(record, issues)))
    panels.append(_panel("Checks", _checks(issues, with_source=source is not None)))
    title = escape(title_of(record))
    return (
        f'<div class="medgemma">{f"<style>{style()}</style>" if styled else ""}\n{_banner("DRAFT")}\n'
        f'<article class="page"><h1>{title}</h1>\n<p class="meta">{escape(made_by(record))}</p>\n<div class="columns">\n'
        + "\n".join(panels)
        + f"\n</div>\n{_trace(record)}</article></div>"
    )


def title_of(record: Mapping[str, Any]) -> str:
    """What the report is called: by its prompt file, or by its kind."""
    return str((record.get("prompt") or {}).get("title") or TITLES.get(str(record.get("kind")), "Report"))


def index(entries: Sequence[tuple[Mapping[str, Any], str | None, Image | None]]) -> str:
    """A page that lists many studies: each record, and where there is a report the name of its page and a picture of it."""
    rows = "".join(_row(number, *entry) for number, entry in enumerate(entries, 1))
    head = "".join(f'<th scope="col">{name}</th>' for name in ("", "Study", "First line", "Checks"))
    body = (
        f'<div class="medgemma index"><style>{style()}</style>\n{_banner("DRAFTS")}\n<main class="page"><h1>{len(entries)} studies</h1>\n'
        '<label><input type="checkbox" id="only-errors"> Only studies with errors</label>\n'
        f'<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>\n<p class="blind">{escape(BLIND_SPOT)}</p></main></div>'
    )
    return document(f"Drafts: {len(entries)} studies", body)


def _row(number: int, record: Mapping[str, Any], link: str | None, picture: Image | None) -> str:
    issues = ordered(record)
    failed = "error" in record or any(issue.get("severity") == "error" for issue in issues)
    sections = record.get("sections") or {}
    said = str(sections.get("impression") or sections.get("assessment") or record.get("text") or record.get("error") or "").strip()
    name = escape(str(record.get("study", f"study {number}")))
    cells = (
        f'<img src="{data_url(picture, 160)}" alt="">' if picture else str(number),
        f'<a href="{quote(link)}">{name}</a>' if link else name,
        escape(said.split("\n")[0][:200]),
        "failed" if "error" in record else escape(verdict(issues)),
    )
    return f'<tr class="{"error" if failed else "clear"}">{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def style() -> str:
    """The stylesheet, in which every rule is bound to the class medgemma."""
    return (Path(__file__).parent / "data" / "report.css").read_text(encoding="utf-8")


def ordered(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What the checks found and what is doubtful about the input, as the terminal counts them: errors first, in the order of the text."""
    about_input = [{"code": "input", "severity": "warning", "message": str(warning)} for warning in record.get("warnings") or ()]
    issues = [*(record.get("issues") or ()), *about_input]
    ranks = {severity: rank for rank, severity in enumerate(SEVERITIES)}
    return sorted(issues, key=lambda issue: (ranks.get(issue.get("severity", ""), 3), issue.get("start") is None, issue.get("start") or 0))


def verdict(issues: Sequence[Mapping[str, Any]]) -> str:
    """What the checks found, as every other place says it."""
    words = notices.verdict([str(issue.get("severity")) for issue in issues])
    return f"{words[0].upper()}{words[1:]}."


def data_url(image: Image, side: int = LARGEST_SIDE) -> str:
    """The picture as a PNG inside the page, at most ``side`` pixels wide and high."""
    shown = image.copy()
    shown.thumbnail((side, side))
    return "data:image/png;base64," + base64.b64encode(png(shown)).decode("ascii")


def png(image: Image) -> bytes:
    """The content of a PNG file."""
    image.save(file := io.BytesIO(), "PNG")
    return file.getvalue()


def _banner(word: str) -> str:
    return f'<p class="banner" role="note"><strong>{word}</strong> {escape(NOTICE)}</p>'


def _panel(title: str, body: str) -> str:
    return f'<section class="panel" aria-label="{escape(title)}"><h2>{escape(title)}</h2>{body}</section>'


def draw_boxes(image: Image, boxes: Sequence[Mapping[str, Any]]) -> Image:
    """A copy of the square that the model saw, with boxes and their labels on it."""
    from PIL import ImageDraw

    drawn, scale = image.convert("RGB"), image.width / 1000
    pen, width = ImageDraw.Draw(drawn), max(1, image.width // 300)
    for box in boxes:
        y0, x0, y1, x1 = (float(edge) * scale for edge in box["box_2d"])
        pen.rectangle((x0, y0, x1, y1), outline=BOX_COLOUR, width=width)
        label = str(box["label"])[:LONGEST_LABEL].encode("ascii", "replace").decode()
        place, size = (x0 + 2 * width, y0 + 2 * width), max(10, image.width / 40)
        pen.text(place, label, fill=BOX_COLOUR, font_size=size, stroke_width=1, stroke_fill="black")
    return drawn


def _overlay(boxes: Sequence[Mapping[str, Any]]) -> str:
    """The boxes over the square that the model saw, as vectors."""
    shapes = ""
    for box in boxes:
        y0, x0, y1, x1 = map(float, box["box_2d"])
        shapes += f'<rect x="{x0:g}" y="{y0:g}" width="{x1 - x0:g}" height="{y1 - y0:g}"/>'
        shapes += f'<text x="{x0 + 6:g}" y="{y0 + 30:g}">{escape(str(box["label"])[:LONGEST_LABEL])}</text>'
    return f'<svg class="boxes" viewBox="0 0 1000 1000" role="img" aria-label="boxes">{shapes}</svg>'


def box_lines(record: Mapping[str, Any]) -> str:
    """The boxes in pixels of the file, one a line, and what they are not good for."""
    lines = [f'Boxes of "{(record.get("input") or {}).get("target")}":{"" if record.get("boxes") else " none"}']
    for box in record.get("boxes") or ():
        x0, y0, x1, y1 = (int(box[edge]) for edge in ("x0", "y0", "x1", "y1"))
        frame = f" in frame {int(box['frame'])}" if box["frame"] != 1 else ""
        lines.append(f"{box['label']}: x {x0} to {x1}, y {y0} to {y1} pixels{frame}")
    return "\n".join([*lines, BOX_NOTICE])


def _pictures(images: Sequence[Captioned], overlay: str = "") -> str:
    figures = ""
    for caption, image in images:
        shown = f'<img src="{data_url(image)}" alt="{escape(caption)}, as the model saw it">'
        shown = f'<div class="boxed">{shown}{overlay}</div>' if overlay else shown
        figures += f"<figure>{shown}<figcaption>{escape(caption)}</figcaption></figure>"
    return _panel("Picture, as the model saw it", figures)


def _draft(record: Mapping[str, Any], issues: Sequence[Mapping[str, Any]]) -> str:
    text = str(record.get("text", ""))
    return _marked(text, _spans(issues, "start", "end"), issues, "draft", labels=list(_labels(text, record.get("sections") or {})))


def sections_of(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(heading, text) of the report in its own order, every word of it; the heading is "" where there is none."""
    text, heading, at = str(record.get("text", "")), "", 0
    for start, end in _labels(text, record.get("sections") or {}):
        if body := text[at:start].strip():
            yield heading, body
        heading, at = text[start:end].strip(), end
    if heading or text[at:].strip():
        yield heading, text[at:].strip()


def _labels(text: str, sections: Mapping[str, str]) -> Iterator[tuple[int, int]]:
    """Where the text has what stands between its sections: the headings."""
    at = 0
    for body in sorted((body for body in sections.values() if body), key=text.find):
        found = text.find(body, at)
        if found < 0:
            return
        yield at, found
        at = found + len(body)


def _spans(issues: Sequence[Mapping[str, Any]], start: str, end: str) -> list[Span]:
    """The places of the issues that have one."""
    found = [(issue.get(start), issue.get(end), number) for number, issue in enumerate(issues, 1)]
    return [(a, b, number) for a, b, number in found if isinstance(a, int) and isinstance(b, int) and 0 <= a < b]


def _marked(text: str, spans: list[Span], issues: Sequence[Mapping[str, Any]], name: str, labels: Sequence[tuple[int, int]] = ()) -> str:
    """The text, escaped, every character of it, with each issue's place marked and numbered."""
    edges = sorted({0, len(text), *(min(edge, len(text)) for a, b, *_ in (*spans, *labels) for edge in (a, b))})
    pieces = []
    for start, end in pairwise(edges):
        here = sorted(number for a, b, number in spans if a <= start < b)
        piece = escape(text[start:end])
        if any(a <= start < b for a, b in labels):
            piece = f'<span class="label">{piece}</span>'
        if here:
            worst = min((_severity(issues[number - 1]) for number in here), key=SEVERITIES.index)
            first, *more = [f' id="{name}-{number}"' for a, _, number in spans if a == start] or [""]
            piece = "".join(f"<span{anchor}></span>" for anchor in more) + f'<mark class="{worst}"{first}>{piece}</mark>'
        ends = [number for _, b, number in spans if min(b, len(text)) == end]
        pieces.append(piece + "".join(f'<sup><a href="#check-{number}" aria-label="check {number}">{number}</a></sup>' for number in ends))
    return f'<p class="text">{"".join(pieces)}</p>'


def _checks(issues: Sequence[Mapping[str, Any]], *, with_source: bool) -> str:
    items = [_check(number, issue, with_source) for number, issue in enumerate(issues, 1)]
    listed = f'<ol class="checks">{"".join(items)}</ol>' if items else ""
    return f'<p><strong>{escape(verdict(issues))}</strong></p>{listed}<p class="blind">{escape(BLIND_SPOT)}</p>'


def _check(number: int, issue: Mapping[str, Any], with_source: bool) -> str:
    severity = _severity(issue)
    links = [
        f'<a href="#{name}-{number}">{name}</a>'
        for name, start in (("draft", "start"), ("source", "source_start"))
        if isinstance(issue.get(start), int) and (with_source or name == "draft")
    ]
    excerpt = f'<span class="quote">{escape(str(issue["excerpt"]))}</span>' if issue.get("excerpt") else ""
    return (
        f'<li id="check-{number}" class="{severity}"><span class="severity">{number}. {severity.capitalize()}</span> '
        f"{escape(str(issue.get('message', '')))} <small>({escape(str(issue.get('code', '')))})</small>{excerpt}{' '.join(links)}</li>"
    )


def _severity(issue: Mapping[str, Any]) -> str:
    return str(issue.get("severity")) if issue.get("severity") in SEVERITIES else "info"


def made_by(record: Mapping[str, Any]) -> str:
    model = record.get("model") or {}
    revision = f", revision {model['revision']}" if model.get("revision") else ""
    return f"Written by {model.get('id', 'an unnamed model')}{revision}. Not verified by anyone."


def _trace(record: Mapping[str, Any]) -> str:
    """What is needed to repeat the report."""
    rows = ""
    for name in ("model", "prompt", "options", "input", "tokens", "finish_reason", "tries", "versions"):
        if record.get(name) is not None:
            rows += f"<dt>{name.replace('_', ' ')}</dt><dd>{escape(_flat(record[name]))}</dd>"
    return f'<footer class="trace"><h2>How this report was made</h2><dl>{rows}</dl></footer>'


def _flat(value: Any) -> str:
    """JSON as a line of text."""
    if isinstance(value, Mapping):
        return "; ".join(f"{key.replace('_', ' ')}: {_flat(inner)}" for key, inner in value.items() if inner not in (None, [], {}))
    if isinstance(value, list | tuple):
        return ", ".join(map(_flat, value))
    return str(value)
