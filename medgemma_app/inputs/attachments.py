"""What an attachment of a record holds -> its text, if it is one: never encoded bytes."""

from __future__ import annotations

import base64
import binascii
import re
from html.parser import HTMLParser

_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w.:+-]+)", re.IGNORECASE)
_HTML = ("text/html", "application/xhtml+xml")
_LOOKS_LIKE_HTML = re.compile(r"\s*<(!doctype html|html|head|body|div|p)\b", re.IGNORECASE)
_NO_TAG = re.compile(r"<(?![^<>]*>)|<(?=!\[)")
_ENCODED = re.compile(r"[A-Za-z0-9+/\r\n]{24,}={0,2}\s*")
# Tags that a browser shows without a gap: "37.<b>2</b>" is one number.
_WITHIN_WORDS = frozenset(("a", "b", "em", "font", "i", "mark", "small", "span", "strong", "sub", "tt", "u"))
_NOT_SHOWN = frozenset(("script", "style"))


def attachment_text(kind: str, data: str) -> str | None:
    """The text in base64 ``data`` of the content type ``kind`` ("" where none is said); None where it holds none."""
    family = kind.split(";")[0].strip().lower()
    if family and not family.startswith("text/") and family not in _HTML:
        return None
    charset = _CHARSET.search(kind)
    text = _decoded(data, charset[1] if charset else "utf-8-sig")
    if text is None or (not family and not _is_printable(text)):
        return None
    is_html = family in _HTML or (not family and _LOOKS_LIKE_HTML.match(text))
    return html_text(text) if is_html else text


def is_encoded(value: object) -> bool:
    """True for what is base64 to look at, and no words."""
    return isinstance(value, str) and _ENCODED.fullmatch(value) is not None


def html_text(markup: str) -> str:
    """The text of HTML. "SpO2<90%" is text: a tag starts with a letter, a slash or an exclamation mark."""
    reader = _Text()
    reader.feed(_NO_TAG.sub("&lt;", _without_comments(markup)))
    reader.close()
    return "".join(reader.parts).strip()


def _without_comments(markup: str) -> str:
    """The parser looks through all that follows for the end of every comment and tag: without this and _NO_TAG a file could hold it up."""
    first, *others = markup.split("<!--")
    ended = [piece.partition("-->") for piece in others]
    return first + "".join(after if end else f"&lt;!--{said}" for said, end, after in ended)


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._hidden += tag in _NOT_SHOWN
        self.parts += [] if tag in _WITHIN_WORDS else ["^" if tag == "sup" else " "]

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.parts += [] if tag in _WITHIN_WORDS else [" "]

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in _NOT_SHOWN and self._hidden > 0
        self.parts += [] if tag in _WITHIN_WORDS else [" "]

    def handle_data(self, data: str) -> None:
        self.parts += [] if self._hidden else [data]


def _is_printable(text: str) -> bool:
    return all(character.isprintable() or character in "\n\r\t" for character in text)


def _decoded(data: str, charset: str) -> str | None:
    try:
        return base64.b64decode(data, validate=False).decode(charset)
    except (binascii.Error, ValueError, LookupError):
        return None
