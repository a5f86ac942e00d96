"""A request that has been checked -> what the model is asked, by the same reading as for files of the command line."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from medgemma_app.errors import InputError
from medgemma_app.inputs.images import Scan, as_rgb, read_open_image
from medgemma_app.inputs.json_notes import parse_notes
from medgemma_app.inputs.notes import Notes, read_raw_notes
from medgemma_app.inputs.raster import decode_raster
from medgemma_app.reports import findings_task, soap_task
from medgemma_app.serve.bodies import Upload
from medgemma_app.serve.schemas import Asking, ChatBody, FindingsRequest, ImagePart, Said, SoapRequest, TokenizeBody, decoded
from medgemma_app.tasks import Task

if TYPE_CHECKING:
    from PIL.Image import Image

    from medgemma_app.serve.served import Asked, ServedModel

MOST_PIXELS = 300_000_000  # of all pictures of a request: 3 bytes each while it is answered


def findings_of(asked: FindingsRequest, model: ServedModel) -> Task:
    """Raises InputError for a picture that cannot be used."""
    options, room = asked.options.chosen(), Room()
    scan = room.read(asked.scan, "the scan", pad=asked.pad, frame=asked.frame, window=asked.window)
    views = [room.read(view, f"view {number}", pad=asked.pad) for number, view in enumerate(asked.views, 1)]
    prior = room.read(asked.prior, "the prior", pad=asked.pad) if asked.prior else None
    return findings_task(model, scan, indication=asked.indication, prior=prior, views=views, options=options)


def soap_of(asked: SoapRequest, raw: bytes, model: ServedModel) -> Task:
    """Raises InputError for notes that cannot be used. ``raw`` is the request, when it was JSON: numbers are told as they stand in it."""
    return soap_task(model, _notes(asked.notes, raw), truncate=asked.truncate, options=asked.options.chosen())


def _notes(notes: Any, raw: bytes) -> Notes:
    if isinstance(notes, Upload):
        return read_raw_notes(notes.raw, notes.name)
    if not raw:  # a text field of a form
        return read_raw_notes(str(notes).encode(errors="replace"), "the text of the notes")
    return read_raw_notes(json.dumps(parse_notes(raw, "the request")["notes"]).encode(), "the text of the notes")


def ask_chat(model: ServedModel, body: ChatBody) -> Asked:
    """Raises InputError for turns that do not alternate and for pictures that cannot be used."""
    options = body.chosen()
    return model.ask(*_turns(body.messages), options)


def ids_of(model: ServedModel, body: TokenizeBody) -> list[int]:
    """Raises InputError as ``ask_chat`` does."""
    if (body.messages is None) == (body.prompt is None):
        raise InputError("give either messages or a prompt to count")
    return model.tokenize_text(body.prompt) if body.prompt is not None else model.tokenize_turns(*_turns(body.messages or []))


def _turns(messages: Sequence[Said | Asking]) -> tuple[list[tuple[str, list[Any]]], str | None]:
    """Who says what, and what the system does."""
    said, system = list(messages), []
    while said and said[0].role in ("system", "developer"):
        system.append("".join(_parts(said.pop(0).content, None)))
    roles = [message.role for message in said]
    if roles != [("user", "assistant")[at % 2] for at in range(len(roles))] or len(roles) % 2 == 0:
        raise InputError("messages must be those of the system, then of user and assistant by turns, the user's first and last")
    room = Room()
    return [(message.role, _parts(message.content, room)) for message in said], "\n\n".join(system) or None


def _parts(content: Any, room: Room | None) -> list[Any]:
    if isinstance(content, str):
        return [content]
    return [room.as_it_is(part) if room and isinstance(part, ImagePart) else part.text for part in content]


class Room:
    """Reads the pictures of one request, as many as it may hold."""

    def __init__(self) -> None:
        self._pixels = self._pictures = 0

    def read(self, upload: Upload, name: str, **how: Any) -> Scan:
        """As a file of the command line: upright, full range, padded to a square."""
        return self._counted(read_open_image(io.BytesIO(upload.raw), upload.name if upload.name != "the picture" else name, **how))

    def as_it_is(self, part: ImagePart) -> Image:
        """In colour, of the shape it has: a client has shaped it, and the local model takes it so too."""
        name = f"picture {self._pictures + 1}"
        picture, facts = decode_raster(io.BytesIO(decoded(part.image_url.url, name).raw), name)
        return self._counted(Scan(as_rgb(picture), facts)).image

    def _counted(self, scan: Scan) -> Scan:
        self._pictures += 1
        self._pixels += scan.image.width * scan.image.height
        if self._pixels > MOST_PIXELS:
            raise InputError(f"the pictures have more than {MOST_PIXELS // 10**6} million pixels together; send fewer, or smaller ones")
        return scan
