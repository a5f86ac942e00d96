"""Writes a report as one HTML page that needs no script, no network and no other file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any
from unicodedata import combining, normalize
from urllib.parse import quote

from medgemma_app.export.record import Issues, Piece, box_lines, draft_pieces, made_by, ordered, source_pieces, summary, title_of
from medgemma_app.inputs.images import png_url
from medgemma_app.notices import BLIND_SPOT, NOTICE

if TYPE_CHECKING:
    from PIL.Image import Image

    Captioned = tuple[str, Image]

BOX_COLOUR, LONGEST_LABEL = "#ffd400", 60
SHOWN_SIDE, REDUCED_SIDE = 1024, 448  # pixels of a picture in the page; the model itself sees at most 896
MOST_PAGE_PIXELS = 5_000_000  # of all pictures together; beyond that, as in a long series, each picture is reduced
FEW = 4  # up to this many pictures are shown large


def page(record: Mapping[str, Any], *, images: Sequence[Captioned] = (), source: str | None = None) -> str:
    """The whole document. ``record`` is ``report.to_dict()``; ``source`` is what a SOAP note was written from."""
    title = f"Draft: {title_of(record)}"
    return document(title, f"<main>{fragment(record, images=images, source=source)}</main>")


def document(title: str, body: str) -> str:
    """``body`` as a page of its own."""
    viewport = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    head = f'<meta charset="utf-8">\n<meta name="generator" content="medgemma-app">\n{viewport}\n<title>{escape(title)}</title>'
    base = "<style>html { color-scheme: light dark } body { margin: 0 } @media screen { .medgemma { min-height: 100vh } }</style>"
    return f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n{base}\n</head>\n<body>\n{body}\n</body>\n</html>\n'


def fragment(
    record: Mapping[str, Any], *, images: Sequence[Captioned] = (), source: str | None = None, styled: bool = True, prefix: str = ""
) -> str:
    """The body of the page, by default with its own style. Every id begins with ``prefix``."""
    issues = ordered(record)
    pieces = {"draft": [*draft_pieces(record, issues)], "source": [] if source is None else [*source_pieces(source, issues)]}
    panels = [_pictures(shown_pictures(record, images))] if images else []
    if question := (record.get("input") or {}).get("question"):
        panels.append(_panel("Question", f'<p class="text">{escape(str(question))}</p>', "question"))
    if record.get("kind") == "locate":
        panels.append(_panel("Boxes", f'<p class="text">{escape(box_lines(record))}</p>', "boxes"))
    if source is not None:
        panels.append(_panel("Source", _marked(pieces["source"], "source", prefix), "source"))
    panels.append(_panel("Draft", _marked(pieces["draft"], "draft", prefix), "draft"))
    places = {(name, number) for name, some in pieces.items() for piece in some for number in piece.begin}
    panels.append(_panel("Checks", _checks(issues, places, prefix), "checked"))
    title = escape(title_of(record))
    return (
        f'<div class="medgemma">{f"<style>{style()}</style>" if styled else ""}\n{_banner("DRAFT")}\n'
        f'<article class="page"><h1>{title}</h1>\n<p class="meta">{escape(made_by(record))}</p>\n<div class="columns">\n'
        + "\n".join(panels)
        + f"\n</div>\n{_trace(record)}</article></div>"
    )


def notebook(record: Mapping[str, Any], *, images: Sequence[Captioned] = (), source: str | None = None) -> str:
    """The body of the page with ids of its own, since a notebook shows several reports in one document."""
    digest = hashlib.sha256(json.dumps(record, default=str).encode()).hexdigest()
    return fragment(record, images=images, source=source, prefix=f"report-{digest[:12]}-")


def index(entries: Sequence[tuple[Mapping[str, Any], str | None, Image | None]]) -> str:
    """A page that lists many studies. Each entry is a record and, if there is a report, the name of its page and its picture."""
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
    failed = "error" in record or any(issue["severity"] == "error" for issue in issues)
    sections = record.get("sections") or {}
    bodies = (sections.get("impression"), sections.get("assessment"), *sections.values(), record.get("text"), record.get("error"))
    said = next((str(body).strip() for body in bodies if body), "")
    name = escape(str(record.get("study", f"study {number}")))
    cells = (
        f'<img src="{data_url(picture, 160)}" alt="">' if picture else str(number),
        f'<a href="{quote(link)}">{name}</a>' if link else name,
        escape(said.split("\n")[0][:200]),
        "failed" if "error" in record else escape(summary(issues)),
    )
    return f'<tr class="{"error" if failed else "clear"}">{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def style() -> str:
    """The stylesheet, in which every rule is bound to the class medgemma."""
    return (Path(__file__).parent / "data" / "report.css").read_text(encoding="utf-8")


def data_url(image: Image, side: int = SHOWN_SIDE) -> str:
    """The picture as a PNG inside the page, at most ``side`` pixels wide and high."""
    shown = image.copy()
    shown.thumbnail((side, side))
    return png_url(shown)


def _banner(word: str) -> str:
    return f'<div class="banner" role="note"><p><strong>{word}</strong> {escape(NOTICE)}</p></div>'


def _panel(title: str, body: str, classes: str) -> str:
    return f'<section class="panel {classes}" aria-label="{title}"><h2>{title}</h2>{body}</section>'


def shown_pictures(record: Mapping[str, Any], images: Sequence[Captioned]) -> list[Captioned]:
    """The pictures with the boxes of the record, in the order of a reader: the current one, the prior, then the others."""
    in_order = sorted(images, key=lambda captioned: {"current": 0, "prior": 1}.get(captioned[0], 2))
    boxes = record.get("boxes")
    return [(caption, draw_boxes(image, boxes)) for caption, image in in_order] if boxes else in_order


def draw_boxes(image: Image, boxes: Sequence[Mapping[str, Any]]) -> Image:
    """A copy of the square that the model saw, with boxes on it and their labels beside them.

    A label that cannot be drawn in plain letters is replaced by the number of its box.
    """
    from PIL import ImageDraw, ImageFont

    drawn, scale = image.convert("RGB"), image.width / 1000
    pen, width = ImageDraw.Draw(drawn), max(1, image.width // 300)
    font = ImageFont.load_default(max(10, image.width / 40))
    for number, box in enumerate(boxes, 1):
        y0, x0, y1, x1 = (float(edge) * scale for edge in box["box_2d"])
        pen.rectangle((x0, y0, x1, y1), outline=BOX_COLOUR, width=width)
        plain = "".join(letter for letter in normalize("NFKD", str(box["label"]).replace("ß", "ss")) if not combining(letter))[
            :LONGEST_LABEL
        ]
        label = plain if plain.isascii() and plain.isprintable() else f"box {box.get('number', number)}"  # the font has no other letters
        left, top, right, bottom = font.getbbox(label, stroke_width=1)
        x = max(0, min(x0, image.width - right - 2))
        y = y0 - bottom - width if y0 > bottom + width else min(y1 + width - top, image.height - bottom - 2)
        pen.text((x - min(left, 0), y), label, fill=BOX_COLOUR, font=font, stroke_width=1, stroke_fill="black")
    return drawn


def with_caption(image: Image, text: str) -> Image:
    """The picture with a text under it, on white."""
    from PIL import Image as images
    from PIL import ImageDraw, ImageFont

    size, margin = max(10, image.width // 60), 4
    lines = wrap(text, int((image.width - 2 * margin) / (0.6 * size)))  # 0.6 em is wider than an average letter
    captioned = images.new("RGB", (image.width, image.height + len(lines) * size * 3 // 2 + 2 * margin), "white")
    captioned.paste(image)
    place, font = (margin, image.height + margin), ImageFont.load_default(size)
    ImageDraw.Draw(captioned).multiline_text(place, "\n".join(lines), fill="black", font=font, spacing=size // 3)
    return captioned


def _pictures(images: Sequence[Captioned]) -> str:
    side = SHOWN_SIDE if sum(image.width * image.height for _, image in images) <= MOST_PAGE_PIXELS else REDUCED_SIDE
    reduced = f", reduced to {side} pixels" if any(max(image.size) > side for _, image in images) else ""
    figures = ""
    for caption, image in images:
        shown = f'<img src="{data_url(image, side)}" alt="{escape(caption)}, as the model saw it{reduced}">'
        figures += f"<figure>{shown}<figcaption>{escape(caption[:1].upper() + caption[1:])}</figcaption></figure>"
    classes = "single" if len(images) == 1 else "wide" if len(images) <= FEW else "wide many"
    title = "Picture, as the model saw it" if len(images) == 1 else "Pictures, as the model saw them"
    return _panel(title + reduced, f'<div class="pictures">{figures}</div>', classes)


def _marked(pieces: Iterable[Piece], name: str, prefix: str) -> str:
    """The pieces, escaped; numbers link to the checks, which link back."""
    shown = ""
    for piece in pieces:
        inner = f'<span class="label">{escape(piece.text)}</span>' if piece.is_heading else escape(piece.text)
        anchors = [f' id="{prefix}{name}-{number}"' for number in piece.begin]
        mark = f'<mark class="{piece.severity}"{anchors.pop() if anchors else ""}>{inner}</mark>' if piece.severity else inner
        shown += "".join(f"<span{anchor}></span>" for anchor in anchors) + mark
        shown += "".join(f'<sup><a href="#{prefix}check-{number}" aria-label="check {number}">{number}</a></sup>' for number in piece.end)
    return f'<p class="text">{shown}</p>'


def _checks(issues: Issues, places: Collection[tuple[str, int]], prefix: str) -> str:
    """``places`` are those that an issue can link to: ("draft" or "source", the number of the issue)."""
    items = [_check(number, issue, places, prefix) for number, issue in enumerate(issues, 1)]
    listed = f'<ol class="checks">{"".join(items)}</ol>' if items else ""
    return f'<p><strong>{escape(summary(issues))}</strong></p>{listed}<p class="blind">{escape(BLIND_SPOT)}</p>'


def _check(number: int, issue: Mapping[str, Any], places: Collection[tuple[str, int]], prefix: str) -> str:
    severity = issue["severity"]
    links = [f'<a href="#{prefix}{name}-{number}">Show in the {name}</a>' for name in ("draft", "source") if (name, number) in places]
    excerpt = f'<span class="quote">{escape(str(issue["excerpt"]))}</span>' if issue.get("excerpt") else ""
    return (
        f'<li id="{prefix}check-{number}" class="{severity}"><span class="severity">{number}. {severity.capitalize()}</span> '
        f"{escape(issue['message'])} <small>({escape(issue['code'])})</small> {excerpt}{' '.join(links)}</li>"
    )


def _trace(record: Mapping[str, Any]) -> str:
    """What is needed to repeat the report."""
    rows = ""
    for name in ("created", "model", "prompt", "options", "input", "tokens", "finish_reason", "tries", "versions"):
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
