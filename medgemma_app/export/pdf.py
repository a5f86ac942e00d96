"""A finished report -> PDF, by reportlab (extra ``export``)."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from medgemma_app.errors import OutputError
from medgemma_app.export.html import box_lines, draw_boxes, made_by, ordered, sections_of, title_of, verdict
from medgemma_app.notices import BLIND_SPOT, NOTICE

if TYPE_CHECKING:
    from PIL.Image import Image

FONT, BOLD = "Vera", "VeraBd"  # of reportlab itself: Latin letters and the signs of medicine
PICTURE_WIDTH, PICTURE_HEIGHT = 300, 300  # points; a series is shown by its first pictures
MOST_PICTURES = 6


def render(record: Mapping[str, Any], *, images: Sequence[tuple[str, Image]] = (), source: str | None = None) -> bytes:
    """The document on A4. Raises OutputError when reportlab is missing, or when its font lacks a character of the report."""
    try:
        from reportlab.lib.pagesizes import A4
        from reportlab.pdfbase.pdfmetrics import getFont, registerFont
        from reportlab.pdfbase.ttfonts import TTFont
        from reportlab.platypus import SimpleDocTemplate
    except ModuleNotFoundError as error:
        raise OutputError("a PDF needs the reportlab package; pip install 'medgemma-app[export]'") from error
    for name in (FONT, BOLD):
        registerFont(TTFont(name, f"{name}.ttf"))
    _refuse_missing("".join((str(record.get("text", "")), source or "")), getFont(FONT).face.charToGlyph)
    title, file = f"Draft: {title_of(record)}", io.BytesIO()
    document = SimpleDocTemplate(file, pagesize=A4, title=title, author="medgemma-app", subject=NOTICE, margins=56, invariant=1)
    document.build(list(_flow(title, record, images, source)), onFirstPage=_footer, onLaterPages=_footer)
    return file.getvalue()


def _refuse_missing(text: str, glyphs: Mapping[int, Any]) -> None:
    missing = sorted({character for character in text if ord(character) not in glyphs and not character.isspace()})
    if missing:
        raise OutputError(f"the PDF font has no {len(missing)} of the report's characters; export it as HTML, which shows them all")


def _footer(canvas: Any, document: Any) -> None:
    canvas.setFont(FONT, 7)
    canvas.drawString(document.leftMargin, 28, f"DRAFT. {NOTICE}")
    canvas.drawRightString(document.pagesize[0] - document.rightMargin, 28, f"page {document.page}")


def _flow(title: str, record: Mapping[str, Any], images: Sequence[tuple[str, Image]], source: str | None) -> Iterator[Any]:
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.platypus import Paragraph, Spacer

    body = ParagraphStyle("body", fontName=FONT, fontSize=9, leading=13, spaceAfter=5)
    small = ParagraphStyle("small", parent=body, fontSize=7.5, leading=10, textColor="#444444")
    head = ParagraphStyle("head", parent=body, fontName=BOLD, fontSize=10.5, spaceBefore=8)
    banner = ParagraphStyle("banner", parent=body, fontName=BOLD, borderWidth=1, borderColor="#7a1010", borderPadding=6, spaceAfter=12)

    def lines(text: str, style: ParagraphStyle = body) -> Iterator[Paragraph]:
        return (Paragraph(escape(line), style) for line in text.splitlines() if line.strip())

    yield Paragraph(f"DRAFT. {escape(NOTICE)}", banner)
    yield Paragraph(escape(title), ParagraphStyle("title", parent=head, fontSize=14, leading=18))
    yield from lines(made_by(record), small)
    boxes = record.get("boxes") or ()
    yield from _pictures([(caption, draw_boxes(image, boxes)) for caption, image in images] if boxes else images, small)
    if question := (record.get("input") or {}).get("question"):
        yield Paragraph("Question", head)
        yield from lines(str(question))
        yield Paragraph("Answer", head)
    if record.get("kind") == "locate":
        yield Paragraph("Boxes", head)
        yield from lines(box_lines(record))
    for heading, text in sections_of(record):
        if heading:
            yield Paragraph(escape(heading), head)
        yield from lines(text)
    yield Paragraph("Checks", head)
    issues = ordered(record)
    yield from lines(verdict(issues))
    for issue in issues:
        yield from lines(f"{issue.get('severity')}: {issue.get('message')} [{issue.get('code')}]")
    yield from lines(BLIND_SPOT, small)
    if source is not None:
        yield Paragraph("Source", head)
        yield from lines(source)
    yield Spacer(1, 6)
    prompt = record.get("prompt") or {}
    told = f"Prompt {prompt.get('file')}, sha256 {prompt.get('sha256')}. " if prompt else ""
    versions = ", ".join(f"{name} {number}" for name, number in (record.get("versions") or {}).items() if number)
    yield from lines(f"{told}Versions: {versions}", small)


def _pictures(images: Sequence[tuple[str, Image]], caption: Any) -> Iterator[Any]:
    from reportlab.platypus import Image as Picture
    from reportlab.platypus import KeepTogether, Paragraph

    for text, image in images[:MOST_PICTURES]:
        shown, file = image.copy(), io.BytesIO()
        shown.thumbnail((1024, 1024))
        shown.save(file, "PNG")
        scale = min(PICTURE_WIDTH / shown.width, PICTURE_HEIGHT / shown.height)
        told = Paragraph(f"{escape(text)}, as the model saw it", caption)
        yield KeepTogether([Picture(file, shown.width * scale, shown.height * scale), told])
    if len(images) > MOST_PICTURES:
        yield Paragraph(f"The model saw {len(images) - MOST_PICTURES} more pictures.", caption)
