"""The text of documents: RTF, Word (DOCX), PDF, XML and HTML.

Files are treated as hostile: sizes and depths are bounded, XML with a document type is refused, and nothing is fetched.
"""

from __future__ import annotations

import html
import io
import logging
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import IO, Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from medgemma_app.errors import InputError
from medgemma_app.inputs.files import SAVE_AS_TEXT, document_kind
from medgemma_app.inputs.lines import inside

LARGEST_XML = 10_000_000  # bytes, unpacked
MOST_PAGES = 500
STRUCK = "text that is struck through or hidden"
_DELETIONS = "tracked deletions"
_STRIKING = frozenset(("del", "s", "strike"))
_TAG = re.compile(r"<(?P<slash>/?)(?P<tag>[a-zA-Z][a-zA-Z0-9]*)(?P<attributes>(?:\s[^<>]*)?)>")
_UNSEEN = re.compile(
    r"""(?i)^(?:[^"']|"[^"]*"|'[^']*')*\s(?:hidden(?![\w-])|style\s*=\s*["'][^"']*(?:line-through|display\s*:\s*none|visibility\s*:\s*hidden))"""
)
_STRUCK_MARKDOWN = re.compile(r"(?<!~)~~(?![~\s])[^~\n]+(?<!\s)~~(?!~)")
_RTF_TOKEN = re.compile(r"\\([a-z]{1,32})(-?\d{1,10})? ?|\\'[0-9a-fA-F]{2}|\\[^a-z]|[{}]|[^\\{}]+|\\", re.DOTALL)
_DEEPEST_XML = 200
_NO_TAG = re.compile(r"<(?![^<>]*>)|<(?=!\[)")
_LOGIN = re.compile(r"(?is)<title[^>]*>[^<]*\b([45]\d\d\b|sign[ -]?in|log[ -]?in|forbidden|unauthori[sz]ed|not found|error)[^<]*</title")
# Tags that a browser shows without a gap ("37.<b>2</b>" is one number), tags that end a line, and tags that it does not show.
_WITHIN_WORDS = frozenset(("a", "b", "em", "font", "i", "mark", "small", "span", "strong", "sub", "tt", "u", "content"))
_NEW_LINE = frozenset((
    "address", "article", "blockquote", "br", "caption", "dd", "div", "dt", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "item",
    "li", "list", "ol", "p", "paragraph", "pre", "section", "table", "tbody", "tr", "ul",
))  # fmt: skip
_NOT_SHOWN = frozenset(("script", "style", "title"))


def read_document(raw: bytes, name: str) -> tuple[str, str, list[str]]:
    """The kind, the text, and warnings of a PDF, RTF or DOCX document. Raises InputError."""
    kind = document_kind(raw)
    if kind == "PDF":
        return (kind, *_pdf(raw, name))
    return (kind, *_rtf(raw, name)) if kind == "RTF" else ("DOCX", *_docx(raw, name))


def _needs(extra: str, name: str, what: str, error: ImportError) -> InputError:
    return InputError(f'{name} is {what}, which needs the extra "{extra}": pip install "medgemma-app[{extra}]"; or save it as text')


def _pdf(raw: bytes, name: str) -> tuple[str, list[str]]:
    try:
        import pypdf
    except ImportError as error:
        raise _needs("documents", name, "a PDF", error) from error
    logging.getLogger("pypdf").addHandler(logging.NullHandler())  # its warnings are not meant for a clinician
    try:
        reader = pypdf.PdfReader(io.BytesIO(raw))
        if reader.is_encrypted and not reader.decrypt(""):
            raise InputError(f"{name} is a PDF with a password; save it without one")
        if len(reader.pages) > MOST_PAGES:
            raise InputError(f"{name} is a PDF of more than {MOST_PAGES} pages; give the notes of one visit")
        pages = [page.extract_text() for page in reader.pages]
        fields = [f"{key}: {value}" for key, value in (reader.get_form_text_fields() or {}).items() if value]
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{name} is a PDF that cannot be read ({type(error).__name__}); save it again, or give its text") from error
    if not any(map(str.strip, pages)) and not fields:
        raise InputError(
            f"{name} is a PDF without text, most likely a scanned page; run OCR on it (for example ocrmypdf) and give the result"
        )
    empty = [str(number) for number, page in enumerate(pages, 1) if not page.strip()]
    warnings = [f"{name}: no text on page {', '.join(empty)} of {len(pages)}; drawings and scans were not read"] if empty else []
    return "\n".join([*(page.strip() for page in pages), *fields]), warnings


def _rtf(raw: bytes, name: str) -> tuple[str, list[str]]:
    try:
        from striprtf.striprtf import rtf_to_text
    except ImportError as error:
        raise _needs("documents", name, "an RTF document", error) from error
    shown, hidden = _shown_rtf(raw.decode("latin-1"))
    try:
        return str(rtf_to_text(shown, errors="replace")).strip(), [f"{name}: not read: {STRUCK}"] * hidden
    except Exception as error:
        raise InputError(f"{name} is RTF that cannot be read ({type(error).__name__}); save it again, or give its text") from error


def _shown_rtf(markup: str) -> tuple[str, bool]:
    """RTF without the text that it hides, strikes through or deletes, and whether there is such text."""
    kept, outer, unseen, hidden = [], [], frozenset[str](), False
    for token in _RTF_TOKEN.finditer(markup):
        word, number = token.groups()
        if token[0] == "{":
            outer.append(unseen)
        elif token[0] == "}":
            unseen = outer.pop() if outer else unseen
        elif word in ("v", "strike", "striked", "deleted"):
            unseen = unseen - {word} if number == "0" else unseen | {word}
        elif word == "plain":
            unseen = frozenset()
        elif unseen and (not word or word == "u") and token[0].strip():
            hidden = True
            continue
        kept.append(token[0])
    return "".join(kept), hidden


def _docx(raw: bytes, name: str) -> tuple[str, list[str]]:
    unread: Counter[str] = Counter()
    try:
        archive = zipfile.ZipFile(io.BytesIO(raw))
        names = set(archive.namelist())
        if "word/document.xml" not in names:
            raise InputError(f"{name} is a zip file or a document other than DOCX; unpack it, or {SAVE_AS_TEXT}")
        parts = [part for part in ("word/document.xml", "word/footnotes.xml", "word/endnotes.xml") if part in names]
        shown = "".join(_word_text(parse_xml(_unpacked(archive.open(part), name), name), unread) for part in parts)
    except InputError:
        raise
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError, EOFError, KeyError, ValueError) as error:
        raise InputError(f"{name} is a damaged or locked document; save it again, or give its text") from error
    if not shown.strip():
        raise InputError(f"{name} is a document without text; give the text that OCR finds in its pictures")
    for part, what in ((r"word/media/", "pictures"), (r"word/(header|footer)", "headers and footers"), (r"word/comments\.xml", "comments")):
        unread[what] += sum(re.match(part, one) is not None for one in names)
    kinds = ", ".join(what for what, number in unread.items() if number)
    lines = (line.strip() for line in shown.split("\n"))
    return "\n".join(filter(None, lines)), [f"{name}: not read: {kinds}"] if kinds else []


def _unpacked(file: IO[bytes], name: str) -> bytes:
    with file:
        raw = file.read(LARGEST_XML + 1)
    if len(raw) > LARGEST_XML:
        raise InputError(f"{name} unpacks to more than {LARGEST_XML // 10**6} MB; give the notes of one visit")
    return raw


def _word_text(element: Element, unread: Counter[str]) -> str:
    """The text of a part of a DOCX file: one line for each paragraph or table row, with bars between cells.

    ``unread`` counts what is left out: text that is struck through or hidden, tracked deletions.
    """
    kind = element.tag
    if kind == "t":
        return element.text or ""
    if kind in ("tab", "br", "cr"):
        return "\t" if kind == "tab" else "\n"
    unread[_DELETIONS] += kind == "del" and any(map(str.strip, element.itertext()))
    marks = [element.find(f"rPr/{mark}") for mark in ("strike", "dstrike", "vanish")] if kind == "r" else []
    if any(mark is not None and mark.get("val") not in ("0", "false", "off") for mark in marks):
        unread[STRUCK] += 1
        return ""
    if kind in ("del", "moveFrom", "Fallback", "pPr", "rPr"):
        return ""
    inner = [_word_text(one, unread) for one in element]
    if kind == "tr":
        return " | ".join(" ".join(cell.split()) for cell, one in zip(inner, element, strict=True) if cell or one.tag == "tc") + "\n"
    return "".join(inner) + "\n" * (kind == "p")


def parse_xml(raw: bytes, name: str) -> Element:
    """The root of an XML document, with names stripped of namespaces. A document type, and so every entity of its own, is refused."""
    builder, depth = TreeBuilder(), 0
    parser = expat.ParserCreate(namespace_separator="}")

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEEPEST_XML:
            raise InputError(f"{name} is XML that is nested too deeply; give the notes as text")
        builder.start(tag.rpartition("}")[2], {key.rpartition("}")[2]: value for key, value in attributes.items()})

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag.rpartition("}")[2])

    def doctype(*_: object) -> None:
        raise InputError(f"{name} is XML with a document type, which is not read for safety; save it without <!DOCTYPE>")

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, builder.data
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(raw, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        line = getattr(error, "lineno", 1)
        raise InputError(f"{name} is XML with an error at line {line}; export it again, or give the notes as text") from error
    return builder.close()


def refuse_login_page(markup: str, name: str) -> None:
    """Raises InputError for a login or error page that a server sent in place of the notes."""
    if _LOGIN.search(markup[:20_000]):
        raise InputError(f"{name} is a login or error page from a server, not notes; sign in and fetch the notes again")


def without_unseen(value: Any) -> tuple[Any, bool]:
    """Text, or JSON that holds texts, without the parts that tags or Markdown strike through or hide; and whether there were any."""
    if isinstance(value, str):
        return _without_unseen_text(value)
    if not isinstance(value, Mapping | list):
        return value, False
    seen = [without_unseen(inner) for inner in inside(value)]
    shown = [inner for inner, _ in seen]
    return dict(zip(value, shown, strict=True)) if isinstance(value, Mapping) else shown, any(has_unseen for _, has_unseen in seen)


def _without_unseen_text(text: str) -> tuple[str, bool]:
    """Like ``without_unseen``, for one text. A tag that is never closed hides nothing."""
    opened: dict[str, list[tuple[int, bool]]] = {}
    unseen: list[tuple[int, int]] = []
    for found in _TAG.finditer(text):
        tag = found["tag"].lower()
        if not found["slash"]:
            opened.setdefault(tag, []).append((found.start(), tag in _STRIKING or bool(_UNSEEN.match(found["attributes"]))))
        elif opened.get(tag):
            start, is_unseen = opened[tag].pop()
            unseen += [(start, found.end())] if is_unseen else []
    kept, end = "", 0
    for start, stop in sorted(unseen):
        kept += text[end:start]  # "" within what was left out already
        end = max(end, stop)
    shown, number = _STRUCK_MARKDOWN.subn("", kept + text[end:])
    return shown, bool(unseen) or number > 0


def html_text(markup: str) -> tuple[str, bool]:
    """The text of HTML, one line for each block, without what is struck through or hidden; and whether there was such text.

    "SpO2<90%" is text: a tag starts with a letter, a slash or an exclamation mark.
    """
    shown, has_unseen = without_unseen(_without_comments(markup))
    reader = _ShownHtml()
    reader.feed(_NO_TAG.sub("&lt;", shown))
    reader.close()
    lines = ("".join(reader.parts)).split("\n")
    return "\n".join(" ".join(line.split()).removeprefix("| ") for line in lines if line.strip(" |")), has_unseen


def _without_comments(markup: str) -> str:
    """Removes comments, because the parser searches the whole rest of the file for the end of each, which could take hours."""
    first, *others = markup.split("<!--")
    ended = [piece.partition("-->") for piece in others]
    return first + "".join(after if end else f"&lt;!--{html.escape(said)}" for said, end, after in ended)


class _ShownHtml(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._hidden += tag in _NOT_SHOWN
        gap = "^" if tag == "sup" else " | " if tag in ("td", "th") else "\n" if tag in _NEW_LINE else " "
        self.parts += [] if tag in _WITHIN_WORDS else [gap]

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in _NOT_SHOWN and self._hidden > 0
        self.parts += [] if tag in _WITHIN_WORDS else ["\n" if tag in _NEW_LINE else " "]

    def handle_data(self, data: str) -> None:
        self.parts += [] if self._hidden else [re.sub(r"\s+", " ", data)]
