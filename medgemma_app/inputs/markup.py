"""XML and HTML -> their elements and their text.

Files are hostile until they are read: depths are bounded, XML with a document type is refused, nothing is fetched.
"""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from medgemma_app.errors import InputError

_DEEPEST_XML = 200
_NO_TAG = re.compile(r"<(?![^<>]*>)|<(?=!\[)")
_LOGIN = re.compile(r"(?is)<title[^>]*>[^<]*\b([45]\d\d\b|sign[ -]?in|log[ -]?in|forbidden|unauthori[sz]ed|not found|error)[^<]*</title")
# Tags that a browser shows without a gap: "37.<b>2</b>" is one number; tags that end a line; what it does not show.
_WITHIN_WORDS = frozenset(("a", "b", "em", "font", "i", "mark", "small", "span", "strong", "sub", "tt", "u", "content"))
_NEW_LINE = frozenset((
    "address", "article", "blockquote", "br", "caption", "dd", "div", "dt", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "item",
    "li", "list", "ol", "p", "paragraph", "pre", "section", "table", "tbody", "tr", "ul",
))  # fmt: skip
_NOT_SHOWN = frozenset(("script", "style", "title"))


def parse_xml(raw: bytes, name: str) -> Element:
    """The root of an XML document, names without their namespaces. A document type, and with it every entity of its own, is refused."""
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
        raise InputError(f"{name} is XML with a fault at line {line}; export it again, or give the notes as text") from error
    return builder.close()


def refuse_login_page(markup: str, name: str) -> None:
    """Raises InputError for a page that servers show instead of what was asked for."""
    if _LOGIN.search(markup[:20_000]):
        raise InputError(f"{name} is a login or error page from a server, not notes; sign in and fetch the notes again")


def struck_tags(markup: str) -> frozenset[str]:
    """The tags for struck-through text that a page uses, and closes wherever it opens them."""
    found = {tag: [len(re.findall(rf"(?i)<{slash}{tag}[\s>]", markup)) for slash in ("", "/")] for tag in ("del", "s", "strike")}
    return frozenset(tag for tag, (opened, closed) in found.items() if 0 < opened == closed)


def html_text(markup: str) -> str:
    """The text of HTML, a block a line, without what is struck through.

    "SpO2<90%" is text: a tag starts with a letter, a slash or an exclamation mark.
    """
    reader = _Text(_NOT_SHOWN | struck_tags(markup))
    reader.feed(_NO_TAG.sub("&lt;", _without_comments(markup)))
    reader.close()
    lines = ("".join(reader.parts)).split("\n")
    return "\n".join(" ".join(line.split()) for line in lines if line.strip())


def _without_comments(markup: str) -> str:
    """The parser looks through all that follows for the end of every comment and tag: without this and _NO_TAG a file could hold it up."""
    first, *others = markup.split("<!--")
    ended = [piece.partition("-->") for piece in others]
    return first + "".join(after if end else f"&lt;!--{html.escape(said)}" for said, end, after in ended)


class _Text(HTMLParser):
    def __init__(self, not_shown: frozenset[str]) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._not_shown = not_shown
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._hidden += tag in self._not_shown
        self.parts += [] if tag in _WITHIN_WORDS else ["^" if tag == "sup" else "\n" if tag in _NEW_LINE else " "]

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.parts += [] if tag in _WITHIN_WORDS else ["\n" if tag in _NEW_LINE else " "]

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in self._not_shown and self._hidden > 0
        self.parts += [] if tag in _WITHIN_WORDS else ["\n" if tag in _NEW_LINE else " "]

    def handle_data(self, data: str) -> None:
        self.parts += [] if self._hidden else [re.sub(r"\s+", " ", data)]
