"""Exported pages, as tests ask about them."""

from __future__ import annotations

from html.parser import HTMLParser


class Page(HTMLParser):
    """Everything of a page that a test asks for."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.sources, self.tags, self.shown = set(), set(), [], set(), ""
        self._style = False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        told = dict(attributes)
        self.tags.add(tag)
        self.ids |= {told["id"]} if "id" in told else set()
        self.links |= {told["href"]} if "href" in told else set()
        self.sources += [told["src"]] if "src" in told else []
        self._style = tag == "style"

    def handle_data(self, data):
        self.shown += "" if self._style else data

    def handle_endtag(self, tag):
        self._style = False
