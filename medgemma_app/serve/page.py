"""The page at ``/``: static files of this package, and the export of a report that it shows.

Nothing is loaded from elsewhere, and nothing is stored: the browser holds the picture, the notes and the report.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import Response

from medgemma_app.errors import InputError, OutputError
from medgemma_app.export import ENDINGS, render
from medgemma_app.export.html import style
from medgemma_app.serve.bodies import Refused, Upload, parse_json

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


def exported(fields: dict[str, Any]) -> Response:
    """The record in a request as a file. Raises InputError for what cannot be exported."""
    record, ending, scan = fields.get("record"), fields.get("to"), fields.get("scan")
    told = parse_json(record.encode(errors="replace")) if isinstance(record, str) else record
    if not isinstance(told, dict) or ending not in ENDINGS:
        raise InputError(f"send the record of a report as record, and as to one of {', '.join(ENDINGS)}")
    try:
        content = render(told, ending, scan=scan.raw if isinstance(scan, Upload) else None)
    except OutputError as error:
        raise InputError(str(error)) from error
    return Response(content, media_type="application/octet-stream", headers={**HEADERS, "Content-Disposition": "attachment"})
