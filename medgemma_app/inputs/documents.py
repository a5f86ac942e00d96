"""Text out of documents: plain text in any common encoding, RTF, Word (DOCX), PDF. The content of a file tells what it is, not its name."""

from __future__ import annotations

import io
import json
import logging
import re
import zipfile
import zlib
from collections.abc import Iterable
from typing import IO
from xml.etree.ElementTree import Element

from medgemma_app.errors import InputError
from medgemma_app.inputs.files import PICTURE_STARTS
from medgemma_app.inputs.markup import parse_xml

LARGEST_XML = 10_000_000  # bytes, unpacked
MOST_PAGES = 500
_STRUCK = "text that is struck through or hidden"
_RTF_TOKEN = re.compile(r"\\([a-z]{1,32})(-?\d{1,10})? ?|\\'[0-9a-fA-F]{2}|\\[^a-z]|[{}]|[^\\{}]+|\\", re.DOTALL)
_SAVE_AS_TEXT = "save it as text, as DOCX, or as a PDF with text"
_TRANSCRIBE = "transcribe it first, and give the transcript"
# How files that hold no text begin, what they are, and the way on.
_BINARY = (
    (PICTURE_STARTS, "a picture", "medgemma findings reads pictures; of a photographed or scanned page, give the text that OCR finds"),
    ((b"\xd0\xcf\x11\xe0",), "a document of an old Office version", _SAVE_AS_TEXT),
    ((b"ID3", b"\xff\xfb", b"OggS", b"fLaC", b"\x1aE\xdf\xa3"), "a recording", _TRANSCRIBE),
    ((b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!", b"BZh"), "a compressed file", "unpack it, and give the notes in it"),
    ((b"SQLite format 3",), "a database", "export the notes as JSON or text"),
)


def decode_text(raw: bytes, name: str, charset: str = "") -> tuple[str, str]:
    """The text in ``raw``, and a warning where its encoding had to be guessed. Raises InputError for what is not text."""
    refuse_binary(raw, name)
    encoding, warning = charset or json.detect_encoding(raw), ""
    try:
        text = raw.decode("utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding)
    except (UnicodeDecodeError, LookupError) as error:
        text, warning = _western(raw), f"{name} is not UTF-8; it was read as Windows-1252: check its accented letters"
        if encoding.startswith("utf-16") or encoding.startswith("utf-32") or not text:
            line = raw.count(b"\n", 0, getattr(error, "start", 0)) + 1
            raise InputError(f"{name} is not {encoding.upper().removesuffix('-SIG')} text at line {line}; save it as UTF-8 text") from error
    sample = text[:4000]
    if "\0" in sample or len(re.findall(r"[\x01-\x08\x0e-\x1a\x7f]", sample)) * 20 > len(sample):
        raise InputError(f"{name} is not text; give notes as text, JSON, DOCX or PDF")
    return text, warning


def _western(raw: bytes) -> str:
    """The bytes read as Windows-1252; "" where that gives few letters."""
    try:
        text = raw.decode("cp1252")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    high = [sign for sign in text if sign > "\x7f"]
    likely = [sign for sign in high if sign.isalpha() or sign in "°µ²³±½¼¾·–—‘’“”„…€£§«»´¿¡º®•×÷\xa0"]
    return text if len(likely) * 10 >= len(high) * 9 and len(high) * 3 <= len(text) else ""


def refuse_binary(raw: bytes, name: str) -> None:
    """Raises InputError, with the way on, for what is known to hold no text."""
    begins = next(((what, way) for starts, what, way in _BINARY if raw.startswith(starts)), None)
    if raw[128:132] == b"DICM":
        begins = ("DICOM", "medgemma findings reads DICOM pictures")
    elif raw[:4] == b"RIFF" or raw[4:8] == b"ftyp":
        begins = ("a picture", "medgemma findings reads pictures") if raw[8:12] == b"WEBP" else ("a recording", _TRANSCRIBE)
    if begins:
        raise InputError(f"{name} is {begins[0]}, not notes; {begins[1]}")


def document_kind(raw: bytes) -> str:
    """ "PDF", "RTF", "zip" for documents that are not plain text, else ""."""
    if b"%PDF-" in raw[:1024]:
        return "PDF"
    if raw.lstrip()[:6].startswith(b"{\\rtf"):
        return "RTF"
    return "zip" if raw[:4] == b"PK\x03\x04" else ""


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
    warnings = [f"{name}: no text on page {', '.join(empty)} of {len(pages)}; what is drawn or scanned there was not read"] if empty else []
    return "\n".join([*(page.strip() for page in pages), *fields]), warnings


def _rtf(raw: bytes, name: str) -> tuple[str, list[str]]:
    try:
        from striprtf.striprtf import rtf_to_text
    except ImportError as error:
        raise _needs("documents", name, "an RTF document", error) from error
    shown, hidden = _shown_rtf(raw.decode("latin-1"))
    try:
        return str(rtf_to_text(shown, errors="replace")).strip(), [f"{name}: not read: {_STRUCK}"] * hidden
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
    try:
        archive = zipfile.ZipFile(io.BytesIO(raw))
        names = set(archive.namelist())
        if "word/document.xml" not in names:
            raise InputError(f"{name} is a zip file or a document other than DOCX; unpack it, or {_SAVE_AS_TEXT}")
        parts = [part for part in ("word/document.xml", "word/footnotes.xml", "word/endnotes.xml") if part in names]
        read = [_word_text(_unpacked(archive.open(part), name), name) for part in parts]
        text = "\n".join(part for part, _ in read if part)
    except InputError:
        raise
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError, EOFError, KeyError, ValueError) as error:
        raise InputError(f"{name} is a damaged or locked document; save it again, or give its text") from error
    pictures = sum(part.startswith("word/media/") for part in names)
    if not text.strip():
        raise InputError(f"{name} is a document without text; give the text that OCR finds in its pictures")
    beside = [f"{pictures} picture{'s' * (pictures > 1)}"] * bool(pictures) + ["headers and footers"] * any(
        re.match(r"word/(header|footer)", n) for n in names
    )
    beside += ["comments"] * ("word/comments.xml" in names) + [_STRUCK] * any(hidden for _, hidden in read)
    return text, [f"{name}: not read: {', '.join(beside)}"] if beside else []


def _unpacked(file: IO[bytes], name: str) -> bytes:
    with file:
        raw = file.read(LARGEST_XML + 1)
    if len(raw) > LARGEST_XML:
        raise InputError(f"{name} unpacks to more than {LARGEST_XML // 10**6} MB; give the notes of one visit")
    return raw


def _word_text(raw: bytes, name: str) -> tuple[str, bool]:
    """The text of a part of a DOCX file: a paragraph a line, cells of a row apart by bars, without what a tracked change deletes.

    And whether some of it is struck through or hidden, which is left out.
    """
    lines: list[str] = []
    hidden = False

    def runs(element: Element) -> Iterable[str]:
        nonlocal hidden
        kind = element.tag
        if kind == "r" and _is_unseen(element):
            hidden = True
        elif kind == "t":
            yield element.text or ""
        elif kind in ("tab", "br", "cr"):
            yield "\t" if kind == "tab" else "\n"
        elif kind not in ("del", "moveFrom", "Fallback", "pPr", "rPr"):
            for inner in element:
                yield from runs(inner)
                if inner.tag == "p" and kind != "body":
                    yield "\n"

    def walk(element: Element) -> None:
        if element.tag == "tr":
            cells = ["".join(runs(cell)).strip().replace("\n", " ") for cell in element if cell.tag == "tc"]
            lines.append(" | ".join(cells))
        elif element.tag == "p":
            lines.append("".join(runs(element)).strip())
        elif element.tag not in ("del", "moveFrom", "Fallback"):
            for inner in element:
                walk(inner)

    walk(parse_xml(raw, name))
    return "\n".join(line for line in lines if line), hidden


def _is_unseen(run: Element) -> bool:
    marks = (run.find(f"rPr/{mark}") for mark in ("strike", "dstrike", "vanish"))
    return any(mark is not None and mark.get("val") not in ("0", "false", "off") for mark in marks)
