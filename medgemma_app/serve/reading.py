"""Turns the body of a request into a task or a conversation for the model, with the code that reads the command line's files.

This runs in a process of its own, see ``limits``. Its results are small: validated values, texts, and pictures as the model sees them.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from python_multipart.exceptions import MultipartParseError
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from medgemma_app.errors import InputError, OutputError
from medgemma_app.inputs.files import shown_name
from medgemma_app.inputs.images import MODEL_SIDE, Scan, as_rgb, read_open_image
from medgemma_app.inputs.json_notes import parse_notes
from medgemma_app.inputs.notes import Notes, read_raw_notes
from medgemma_app.inputs.raster import decode_raster
from medgemma_app.model.generation import Options
from medgemma_app.reports import findings_task, soap_task
from medgemma_app.serve.access import NotReadable
from medgemma_app.serve.schemas import (
    FORM,
    ChatBody,
    FindingsRequest,
    ImagePart,
    InstructionMessage,
    SoapRequest,
    TokenizeBody,
    Upload,
    UserMessage,
    checked,
    decoded,
)  # fmt: skip

if TYPE_CHECKING:
    from PIL.Image import Image

    from medgemma_app.model.chat import Turns
    from medgemma_app.tasks import Task

MOST_PICTURES = 100  # of a conversation; each is 256 tokens
MOST_VALUES = 1_000_000  # in JSON; each takes about a hundred bytes once it is parsed
MOST_FORM_PARTS = 100


@dataclass(frozen=True)
class ReportJob:
    """A report to write. ``task`` makes its task; ``size`` is the number of bytes of its pictures and texts."""

    model: str | None
    retries: int
    stream: bool
    task: Callable[[], Task]
    size: int


@dataclass(frozen=True)
class ChatJob:
    """A conversation to continue, or to count the tokens of. Without turns, ``system`` is a bare text."""

    model: str
    turns: Turns
    system: str | None
    size: int
    options: Options = field(default_factory=Options)
    stream: bool = False
    logprobs: bool = False
    include_usage: bool = False


def read_findings(raw: bytes, content_type: str, square: tuple[int, int]) -> ReportJob:
    """Raises InputError for a request or a picture that cannot be used. ``square`` is the size that the model scales pictures to."""
    asked: FindingsRequest = checked(FindingsRequest, read_fields(raw, content_type))
    del raw
    pictures = Pictures(square)
    scan = pictures.read(asked.scan, "the scan", pad=asked.pad, frame=asked.frame, window=asked.window)
    views = [pictures.read(view, f"view {number}", pad=asked.pad) for number, view in enumerate(asked.views, 1)]
    prior = pictures.read(asked.prior, "the prior", pad=asked.pad) if asked.prior else None
    options = asked.options.chosen()
    task = partial(findings_task, scan=scan, indication=asked.indication, prior=prior, views=views, options=options)
    return ReportJob(asked.model, asked.retries, asked.stream, task, pictures.size)


def read_soap(raw: bytes, content_type: str) -> ReportJob:
    """Raises InputError for a request or notes that cannot be used."""
    asked: SoapRequest = checked(SoapRequest, read_fields(raw, content_type))
    notes = _notes(asked.notes, asked.patient, raw, content_type)
    task = partial(soap_task, notes=notes, truncate=asked.truncate, options=asked.options.chosen())
    return ReportJob(asked.model, asked.retries, asked.stream, task, 4 * len(notes.text))


def _notes(notes: Any, patient: str | None, raw: bytes, content_type: str) -> Notes:
    if isinstance(notes, Upload):
        return read_raw_notes(notes.raw, notes.name, patient=patient)
    if is_form(content_type):
        return read_raw_notes(str(notes).encode(errors="replace"), "the text of the notes", patient=patient)
    # Parsed again in a way that keeps numbers as they are written in the request.
    text = json.dumps(parse_notes(raw, "the request")["notes"])
    return read_raw_notes(text.encode(), "the text of the notes", patient=patient)


def read_chat(raw: bytes, content_type: str, square: tuple[int, int]) -> ChatJob:
    """Raises InputError for a request, for turns that do not alternate, and for pictures that cannot be used."""
    body: ChatBody = checked(ChatBody, read_fields(raw, content_type))
    usage = body.stream_options is not None and body.stream_options.include_usage
    how: dict[str, Any] = {"options": body.chosen(), "stream": body.stream, "logprobs": body.logprobs, "include_usage": usage}
    return replace(_conversation(body.model, body.messages, square), **how)


def read_tokenize(raw: bytes, content_type: str, square: tuple[int, int]) -> ChatJob:
    """Raises InputError as ``read_chat`` does."""
    body: TokenizeBody = checked(TokenizeBody, read_fields(raw, content_type))
    if (body.messages is None) == (body.prompt is None):
        raise InputError("give either messages or a prompt to count")
    if body.messages is None:
        return ChatJob(body.model, (), body.prompt, 4 * len(body.prompt or ""))
    return _conversation(body.model, body.messages, square)


def _conversation(model: str, messages: Sequence[InstructionMessage | UserMessage], square: tuple[int, int]) -> ChatJob:
    rest, system = list(messages), []
    pictures = Pictures(square)
    while rest and rest[0].role in ("system", "developer"):
        system.append("".join(pictures.parts(rest.pop(0).content)))
    roles = [message.role for message in rest]
    if roles != [("user", "assistant")[at % 2] for at in range(len(roles))] or len(roles) % 2 == 0:
        raise InputError("messages must be an optional system message, then user and assistant in turn, beginning and ending with the user")
    turns = [(message.role, pictures.parts(message.content)) for message in rest]
    letters = sum(len(part) for _, parts in turns for part in parts if isinstance(part, str))
    return ChatJob(model, turns, "\n\n".join(system) or None, pictures.size + 4 * letters)


class Pictures:
    """Reads the pictures of one request. Those larger than the model's square are scaled to it."""

    def __init__(self, square: tuple[int, int]) -> None:
        self._square, self._count, self.size = square, 0, 0

    def read(self, upload: Upload, name: str, **how: Any) -> Scan:
        """A picture of a report, read like a file of the command line: upright, full range, padded to a square."""
        scan = read_open_image(io.BytesIO(upload.raw), upload.name if upload.name != "the picture" else name, **how)
        return replace(scan, image=self._held(scan.image))

    def parts(self, content: Any) -> list[Any]:
        """The parts of a turn. Pictures keep their shape, as in a local Prompt."""
        if isinstance(content, str):
            return [content]
        return [self._as_it_is(part) if isinstance(part, ImagePart) else part.text for part in content]

    def _as_it_is(self, part: ImagePart) -> Image:
        name = f"picture {self._count + 1}"
        if self._count >= MOST_PICTURES:
            raise InputError(f"the messages have more than {MOST_PICTURES} pictures; send fewer")
        picture, _ = decode_raster(io.BytesIO(decoded(part.image_url.url, name).raw), name)
        return self._held(as_rgb(picture))

    def _held(self, image: Image) -> Image:
        from PIL.Image import Resampling

        if image.width * image.height > MODEL_SIDE**2:
            image = image.resize(self._square, Resampling.BILINEAR)  # as the model's own image processor would
        self._count, self.size = self._count + 1, self.size + 3 * image.width * image.height
        return image


def read_export(raw: bytes, content_type: str) -> bytes:
    """The report in a request as the content of a file. Raises InputError for what cannot be exported."""
    from medgemma_app.export import ENDINGS, render
    from medgemma_app.inputs.images import load_image

    fields = read_fields(raw, content_type)
    record, ending, source = (fields.get(name) for name in ("record", "to", "source"))
    scans, files = (sent if isinstance(sent := fields.get(name, []), list) else [sent] for name in ("scan", "images"))
    if not all(isinstance(file, Upload) for file in (*scans, *files)) or not isinstance(source, str | None):
        raise InputError("scan and images must be picture files, each image file must be named by its caption, and source must be text")
    report = parse_json(record.encode(errors="replace")) if isinstance(record, str) else record
    if not isinstance(report, dict) or ending not in ENDINGS:
        raise InputError(f"record must be the JSON record of a report, and to one of {', '.join(ENDINGS)}")
    try:
        images = [(file.name.removesuffix(".png"), load_image(file.raw, pad=False)) for file in files]
        return render(report, ending, images=images, source=source, scan=[scan.raw for scan in scans] or None)
    except OutputError as error:
        raise InputError(str(error)) from error


def is_form(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == FORM


def read_fields(raw: bytes, content_type: str) -> dict[str, Any]:
    """The fields of a JSON object or a form, with files as Upload. Raises InputError."""
    if is_form(content_type):
        return asyncio.run(_form(raw, content_type))
    fields = parse_json(raw)
    if not isinstance(fields, dict):
        raise InputError("the request is not a JSON object")
    return fields


def parse_json(raw: bytes) -> Any:
    """Raises NotReadable for invalid JSON. NaN and infinity are not valid JSON numbers."""
    if sum(raw.count(sign) for sign in (b",", b"[", b"{")) > MOST_VALUES:
        raise NotReadable(f"the request holds more than {MOST_VALUES} JSON values; send less at a time")
    try:
        return json.loads(raw, parse_constant=_no_number)
    except UnicodeDecodeError:
        raise NotReadable("the request is not UTF-8 text; send it as UTF-8 JSON") from None
    except json.JSONDecodeError as error:
        raise NotReadable(f"the request is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise NotReadable("the request is nested too deeply; send a flat JSON object") from None
    except ValueError:
        raise NotReadable("the request holds NaN, infinity or a number with thousands of digits; send ordinary JSON numbers") from None


def _no_number(_: str) -> float:
    raise ValueError


class _InMemory(MultiPartParser):
    """Keeps uploaded files in memory: patients' files must not reach this machine's disk."""

    spool_max_size = 1 << 40


async def _form(raw: bytes, content_type: str) -> dict[str, Any]:
    """The fields by name; one that occurs several times is a list. Raises NotReadable for an invalid form."""

    async def stream() -> AsyncGenerator[bytes, None]:
        yield raw

    headers = Headers({"content-type": content_type})
    parser = _InMemory(headers, stream(), max_files=MOST_FORM_PARTS, max_fields=MOST_FORM_PARTS, max_part_size=len(raw) + 1)
    try:
        form = await parser.parse()
    except (MultiPartException, MultipartParseError, KeyError, UnicodeDecodeError, LookupError, ValueError):
        raise NotReadable("the form cannot be read; send multipart/form-data as in RFC 7578, with a boundary") from None
    fields: dict[str, Any] = {}
    for name in form:
        values = [await _value(name, value) for value in form.getlist(name)]
        fields[name] = values if len(values) > 1 or name == "views" else values[0]
    await form.close()
    return fields


async def _value(name: str, value: UploadFile | str) -> Any:
    """A file, a text, or for fields that are neither, the JSON value that the text holds."""
    if isinstance(value, UploadFile):
        return Upload(shown_name(value.filename or name), await value.read())
    if name in ("options", "frame", "pad", "retries", "stream", "truncate"):
        try:
            return parse_json(value.encode(errors="replace"))
        except NotReadable:
            raise InputError(f"{name} is not a JSON value; send a number, true or false, or for options an object") from None
    return value
