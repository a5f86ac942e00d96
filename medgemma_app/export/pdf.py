"""Writes a report as a PDF with reportlab (extra ``export``)."""

from __future__ import annotations

import io
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from html import escape
from typing import TYPE_CHECKING, Any

from medgemma_app.errors import OutputError
from medgemma_app.export.html import SHOWN_SIDE, shown_pictures
from medgemma_app.export.record import Piece, box_lines, draft_pieces, made_by, ordered, source_pieces, summary, title_of
from medgemma_app.inputs.images import png
from medgemma_app.notices import BLIND_SPOT, NOTICE

if TYPE_CHECKING:
    from PIL.Image import Image

    Escape = Callable[[str], str]

FONT, BOLD = "Vera", "VeraBd"  # come with reportlab: Latin letters and the usual medical signs
SYSTEM = "System"  # the name of the first of these fonts that the machine has, for letters that Vera lacks
SYSTEM_FONTS = ("/System/Library/Fonts/Supplemental/Arial Unicode.ttf", "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf")
_COMPLEX = re.compile("[\u0590-\u109f\u1780-\u18af\ufb1d-\ufdff\ufe70-\ufeff]")  # reportlab neither joins nor reorders letters
MARGIN, PICTURE_SIDE, GAP = 56, 300, 12  # points
PICTURES_SHOWN = 6  # a series is shown by its first pictures
MARKS = {"error": "#ffdfe2", "warning": "#ffeec2", "info": "#dcecfb"}
STAND_INS = {
    "μ": "µ", "Δ": "∆", "←": "<-", "→": "->", "↔": "<->", "⇒": "=>", "↑": "(up)", "↓": "(down)",
    "✓": "(check)", "☐": "[ ]", "☑": "[x]", "☒": "[x]",
}  # fmt: skip
WRITTEN_OUT = (
    "Characters that this PDF's font lacks are written out, such as alpha, -> or [U+0421]. The HTML export shows them as they are."
)


def render_pdf(record: Mapping[str, Any], *, images: Sequence[tuple[str, Image]] = (), source: str | None = None) -> bytes:
    """The document on A4. Raises OutputError when reportlab is missing."""
    try:
        from reportlab.lib.pagesizes import A4
        from reportlab.pdfbase.pdfmetrics import getFont, registerFont
        from reportlab.pdfbase.ttfonts import TTFont
        from reportlab.platypus import SimpleDocTemplate
    except ModuleNotFoundError as error:
        raise OutputError("a PDF needs the reportlab package; pip install 'medgemma-app[export]'") from error
    for name in (FONT, BOLD):
        registerFont(TTFont(name, f"{name}.ttf"))
    glyphs, lacking = getFont(FONT).face.charToGlyph, set[str]()

    def shown(text: str) -> str:
        markup = ""
        for one in unicodedata.normalize("NFC", text):
            if ord(one) not in glyphs and one in _system_letters(SYSTEM_FONTS):
                markup += f'<font name="{SYSTEM}">{one}</font>'
            else:
                lacking.update(one.strip() if ord(one) not in glyphs else "")
                markup += escape(one if ord(one) in glyphs else written_out(one, glyphs))
        return markup

    title, file = f"Draft: {title_of(record)}", io.BytesIO()
    sides = {"leftMargin": MARGIN, "rightMargin": MARGIN, "topMargin": 40, "bottomMargin": 48}
    made = SimpleDocTemplate(file, pagesize=A4, title=title, author="medgemma-app", subject=NOTICE, invariant=1, **sides)
    # reportlab's frame has a padding of 6 points on either side.
    flow = list(_flow(title, record, images, source, made.width - 12, shown))
    if lacking:
        flow.append(_paragraph(WRITTEN_OUT, "small"))
    made.build(flow, onFirstPage=_footer, onLaterPages=_footer)
    return file.getvalue()


@lru_cache(maxsize=1)
def _system_letters(paths: tuple[str, ...]) -> set[str]:
    """The letters and signs of the first of these fonts that exists, without scripts that reportlab cannot set."""
    from reportlab.pdfbase.pdfmetrics import registerFont
    from reportlab.pdfbase.ttfonts import TTFont

    for path in filter(os.path.exists, paths):
        registerFont(font := TTFont(SYSTEM, path))
        letters = map(chr, font.face.charToGlyph)
        return {one for one in letters if unicodedata.category(one)[0] in "LNPS" and not _COMPLEX.match(one)}
    return set()


def written_out(character: str, glyphs: Mapping[int, Any]) -> str:
    """A character that the font lacks, in characters that it has: ₂ as 2, α as alpha, → as ->, others as their code."""
    if character in STAND_INS:
        return STAND_INS[character]
    if (simple := {"Zs": " ", "Zl": " ", "Zp": " ", "Cc": " ", "Pd": "-", "Cf": ""}.get(unicodedata.category(character))) is not None:
        return simple
    plain = unicodedata.normalize("NFKD", character)
    if all(ord(each) in glyphs for each in plain):
        return plain
    name = unicodedata.name(plain[0], "").lower().split()
    if name[:1] == ["greek"]:
        return name[-1] if plain[0].islower() else name[-1].capitalize()
    return f"[U+{ord(character):04X}]"


def _footer(canvas: Any, document: Any) -> None:
    canvas.setFont(FONT, 7)
    canvas.drawString(document.leftMargin, 28, f"DRAFT. {NOTICE}")
    canvas.drawRightString(document.pagesize[0] - document.rightMargin, 28, f"page {document.page}")


def _paragraph(markup: str, style: str = "body") -> Any:
    """``markup`` is escaped text with reportlab's tags."""
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.platypus import Paragraph

    body = {"fontName": FONT, "fontSize": 9, "leading": 13, "spaceAfter": 4}
    styles: dict[str, dict[str, Any]] = {
        "body": {},
        "small": {"fontSize": 7.5, "leading": 10, "textColor": "#444444"},
        "head": {"fontName": BOLD, "fontSize": 10.5, "spaceBefore": 8},
        "title": {"fontName": BOLD, "fontSize": 14, "leading": 18},
        "banner": {"fontName": BOLD, "fontSize": 8, "borderWidth": 1, "borderColor": "#7a1010", "borderPadding": 5, "spaceAfter": 12},
    }
    return Paragraph(markup, ParagraphStyle(style, **body | styles[style]))


def _flow(
    title: str, record: Mapping[str, Any], images: Sequence[tuple[str, Image]], source: str | None, width: float, shown: Escape
) -> Iterator[Any]:
    issues = ordered(record)
    yield _paragraph(f"DRAFT. {NOTICE}", "banner")
    yield _paragraph(shown(title), "title")
    yield _paragraph(shown(made_by(record)), "small")
    yield from _pictures(shown_pictures(record, images), width, shown)
    if question := (record.get("input") or {}).get("question"):
        yield from _lines("Question", str(question), shown)
        yield _paragraph("Answer", "head")
    if record.get("kind") == "locate":
        yield from _lines("Boxes", box_lines(record), shown)
        yield _paragraph("Answer", "head")
    yield from _text(draft_pieces(record, issues), shown)
    yield _paragraph("Checks", "head")
    yield _paragraph(summary(issues))
    for number, issue in enumerate(issues, 1):
        yield _paragraph(shown(f"{number}. {issue['severity']}: {issue['message']} [{issue['code']}]"))
    yield _paragraph(BLIND_SPOT, "small")
    if source is not None:
        yield _paragraph("Source", "head")
        yield from _text(source_pieces(source, issues), shown)
    prompt = record.get("prompt") or {}
    made_with = f"Prompt {prompt.get('file')}, sha256 {prompt.get('sha256')}. " if prompt else ""
    versions = ", ".join(f"{name} {number}" for name, number in (record.get("versions") or {}).items() if number)
    yield _paragraph(shown(f"{made_with}Versions: {versions}"), "small")


def _lines(heading: str, text: str, shown: Escape) -> Iterator[Any]:
    yield _paragraph(heading, "head")
    yield from (_paragraph(shown(line)) for line in text.splitlines() if line.strip())


def _text(pieces: Iterable[Piece], shown: Escape) -> Iterator[Any]:
    """One paragraph for each line, with marks and the numbers of their checks."""
    markup = ""
    for piece in pieces:
        tags = ([f'<font backColor="{MARKS[piece.severity]}">'] if piece.severity else []) + [f'<font name="{BOLD}">'] * piece.is_heading
        opened, closed = "".join(tags), "</font>" * len(tags)
        markup += "\n".join(f"{opened}{shown(line)}{closed}" if line else "" for line in piece.text.split("\n"))
        markup += "".join(f"<super>{number}</super>" for number in piece.end)
    return (_paragraph(line) for line in markup.split("\n") if line.strip())


def _pictures(images: Sequence[tuple[str, Image]], width: float, shown: Escape) -> Iterator[Any]:
    """The pictures side by side, up to three in a row; those of a row stay on one page."""
    from reportlab.platypus import Image as Picture
    from reportlab.platypus import Spacer, Table

    columns = min(3, len(images)) or 1
    side = min(PICTURE_SIDE, (width - GAP * (columns - 1)) / columns)
    cells = []
    for caption, image in images[:PICTURES_SHOWN]:
        small = image.copy()
        small.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
        scale = side / max(small.size)
        label = shown(f"{caption[:1].upper()}{caption[1:]}, as the model saw it")
        picture = Picture(io.BytesIO(png(small)), small.width * scale, small.height * scale, hAlign="LEFT")
        cells.append([picture, Spacer(1, 3), _paragraph(label, "small")])
    for at in range(0, len(cells), columns):
        row = cells[at : at + columns]
        style = [("LEFTPADDING", (0, 0), (-1, -1), 0), ("VALIGN", (0, 0), (-1, -1), "TOP")]
        yield Table([row], colWidths=[side + GAP] * len(row), style=style, hAlign="LEFT", spaceBefore=4, spaceAfter=6)
    if len(images) > PICTURES_SHOWN:
        yield _paragraph(f"The model saw {len(images) - PICTURES_SHOWN} more pictures.", "small")
