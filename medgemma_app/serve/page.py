"""The page at ``/``: static files of this package, and the export of a report that it shows.

Nothing is loaded from elsewhere, and nothing is stored: the browser holds the picture, the notes and the report.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import Response

from medgemma_app.export.html import style
from medgemma_app.serve.responses import Refused

FOLDER = Path(__file__).parent / "page"
FILES = {"index.html": "text/html", "page.css": "text/css", "page.js": "text/javascript", "report.css": "text/css"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def add_page(app: FastAPI) -> None:
    """Adds the page and its files; they are not part of the API."""

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return page_file("index.html")

    @app.get("/page/{name}", include_in_schema=False)
    async def file(name: str) -> Response:
        return page_file(name)


def page_file(name: str) -> Response:
    """One of the files of the page. Raises Refused for any other name."""
    if name not in FILES:
        raise Refused(404, "the page has no such file")
    content = style() if name == "report.css" else (FOLDER / name).read_text(encoding="utf-8")
    return Response(content, media_type=FILES[name], headers=HEADERS)


def attachment(content: bytes) -> Response:
    """A report as a file to keep."""
    return Response(content, media_type="application/octet-stream", headers={**HEADERS, "Content-Disposition": "attachment"})
