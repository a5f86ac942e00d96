"""The body of a request -> what the model is asked, by the same reading as for files of the command line.

All of this runs in a process of its own, see ``limits``; what comes back is small: checked values, texts, and pictures as the model
sees them.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError
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
from medgemma_app.serve.schemas import (
    FORM,
    Asking,
    ChatBody,
    Drafting,
    FindingsRequest,
    ImagePart,
    Said,
    SoapRequest,
    TokenizeBody,
    Upload,
    decoded,
)  # fmt: skip

if TYPE_CHECKING:
    from PIL.Image import Image

    from medgemma_app.model.chat import Turns
    from medgemma_app.model.generation import Model
    from medgemma_app.tasks import Task

MOST_VALUES = 1_000_000  # in JSON; each takes some hundred bytes once it is read
MOST_FORM_PARTS = 100
MOST_PICTURES = 100  # of a conversation; each is 256 tokens
_NAME = re.compile(r"[a-z_]+|\d+")  # of a field, or the place in a list; pydantic puts the names of its checks beside them
# Fields that clients send elsewhere, or in another place: of all that are unknown, these may be named, as they are no words of a patient.
_ELSEWHERE = {
    "chat_template", "chat_template_kwargs", "frequency_penalty", "function_call", "functions", "guided_json", "ignore_eos", "image",
    "image_url", "images", "length_penalty", "logit_bias", "logprobs", "max_completion_tokens", "max_tokens", "messages", "metadata",
    "min_p", "min_tokens", "n", "parallel_tool_calls", "presence_penalty", "prompt", "reasoning_effort", "repetition_penalty",
    "response_format", "seed", "series", "slices", "stop", "stop_token_ids", "store", "system", "temperature", "tool_choice", "tools",
    "top_k", "top_logprobs", "top_p",
}  # fmt: skip


class NotReadable(InputError):
    """The body is not what its content type says."""


@dataclass(frozen=True)
class Draft:
    """A report that is asked for; ``task`` makes its task for a model. ``size`` are the bytes of its pictures and texts."""

    model: str | None
    retries: int
    stream: bool
    task: Callable[[Model], Task]
    size: int


@dataclass(frozen=True)
class Chat:
    """A conversation to go on with, or of which the tokens are wanted. Without turns, ``system`` is a bare text."""

    model: str
    turns: Turns
    system: str | None
    size: int
    options: Options = field(default_factory=Options)
    stream: bool = False
    logprobs: bool = False
    include_usage: bool = False


def read_findings(raw: bytes, content_type: str, square: tuple[int, int]) -> Draft:
    """Raises InputError for a request or a picture that cannot be used. ``square`` is the size to which the model scales pictures."""
    asked: FindingsRequest = checked(FindingsRequest, read_fields(raw, content_type))
    del raw
    pictures = Pictures(square)
    scan = pictures.read(asked.scan, "the scan", pad=asked.pad, frame=asked.frame, window=asked.window)
    views = [pictures.read(view, f"view {number}", pad=asked.pad) for number, view in enumerate(asked.views, 1)]
    prior = pictures.read(asked.prior, "the prior", pad=asked.pad) if asked.prior else None
    known: dict[str, Any] = {
        "scan": scan,
        "indication": asked.indication,
        "prior": prior,
        "views": views,
        "options": asked.options.chosen(),
    }
    return _draft(asked, partial(findings_task, **known), pictures.size)


def read_soap(raw: bytes, content_type: str) -> Draft:
    """Raises InputError for a request or notes that cannot be used."""
    asked: SoapRequest = checked(SoapRequest, read_fields(raw, content_type))
    notes = _notes(asked.notes, raw, content_type)
    task = partial(soap_task, notes=notes, truncate=asked.truncate, options=asked.options.chosen())
    return _draft(asked, task, 4 * len(notes.text))


def _draft(asked: Drafting, task: Callable[[Model], Task], size: int) -> Draft:
    return Draft(asked.model, asked.retries, asked.stream, task, size)


def _notes(notes: Any, raw: bytes, content_type: str) -> Notes:
    if isinstance(notes, Upload):
        return read_raw_notes(notes.raw, notes.name)
    if is_form(content_type):
        return read_raw_notes(str(notes).encode(errors="replace"), "the text of the notes")
    # Read once more, so that numbers are told as they stand in the request.
    return read_raw_notes(json.dumps(parse_notes(raw, "the request")["notes"]).encode(), "the text of the notes")


def read_chat(raw: bytes, content_type: str, square: tuple[int, int]) -> Chat:
    """Raises InputError for a request, for turns that do not alternate, and for pictures that cannot be used."""
    body: ChatBody = checked(ChatBody, read_fields(raw, content_type))
    usage = body.stream_options is not None and body.stream_options.include_usage
    how: dict[str, Any] = {"options": body.chosen(), "stream": body.stream, "logprobs": body.logprobs, "include_usage": usage}
    return replace(_conversation(body.model, body.messages, square), **how)


def read_tokenize(raw: bytes, content_type: str, square: tuple[int, int]) -> Chat:
    """Raises InputError as ``read_chat`` does."""
    body: TokenizeBody = checked(TokenizeBody, read_fields(raw, content_type))
    if (body.messages is None) == (body.prompt is None):
        raise InputError("give either messages or a prompt to count")
    if body.messages is None:
        return Chat(body.model, (), body.prompt, 4 * len(body.prompt or ""))
    return _conversation(body.model, body.messages, square)


def _conversation(model: str, messages: Sequence[Said | Asking], square: tuple[int, int]) -> Chat:
    said, system = list(messages), []
    pictures = Pictures(square)
    while said and said[0].role in ("system", "developer"):
        system.append("".join(pictures.parts(said.pop(0).content)))
    roles = [message.role for message in said]
    if roles != [("user", "assistant")[at % 2] for at in range(len(roles))] or len(roles) % 2 == 0:
        raise InputError("messages must be those of the system, then of user and assistant by turns, the user's first and last")
    turns = [(message.role, pictures.parts(message.content)) for message in said]
    letters = sum(len(part) for _, parts in turns for part in parts if isinstance(part, str))
    return Chat(model, turns, "\n\n".join(system) or None, pictures.size + 4 * letters)


class Pictures:
    """Reads the pictures of one request. One that is larger than the model's square is held as that square, or scaled to it."""

    def __init__(self, square: tuple[int, int]) -> None:
        self._square, self._count, self.size = square, 0, 0

    def read(self, upload: Upload, name: str, **how: Any) -> Scan:
        """As a file of the command line: upright, full range, padded to a square."""
        scan = read_open_image(io.BytesIO(upload.raw), upload.name if upload.name != "the picture" else name, **how)
        return replace(scan, image=self._held(scan.image))

    def parts(self, content: Any) -> list[Any]:
        """The parts of a turn. Pictures keep the shape that the client has given them, as the local model takes them."""
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
            image = image.resize(self._square, Resampling.BILINEAR)  # what the model's own processor would do with it
        self._count, self.size = self._count + 1, self.size + 3 * image.width * image.height
        return image


def read_export(raw: bytes, content_type: str) -> bytes:
    """The record in a request as a file. Raises InputError for what cannot be exported."""
    from medgemma_app.export import ENDINGS, render

    fields = read_fields(raw, content_type)
    record, ending, scan = fields.get("record"), fields.get("to"), fields.get("scan")
    told = parse_json(record.encode(errors="replace")) if isinstance(record, str) else record
    if not isinstance(told, dict) or ending not in ENDINGS:
        raise InputError(f"send the record of a report as record, and as to one of {', '.join(ENDINGS)}")
    try:
        return render(told, ending, scan=scan.raw if isinstance(scan, Upload) else None)
    except OutputError as error:
        raise InputError(str(error)) from error


def is_form(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == FORM


def read_fields(raw: bytes, content_type: str) -> dict[str, Any]:
    """The fields of a JSON object or a form, files as Upload. Raises InputError."""
    if is_form(content_type):
        return asyncio.run(_form(raw, content_type))
    fields = parse_json(raw)
    if not isinstance(fields, dict):
        raise InputError("the request is not a JSON object")
    return fields


def parse_json(raw: bytes) -> Any:
    """Raises NotReadable for what is not JSON; NaN and infinity are not valid JSON numbers."""
    if sum(raw.count(sign) for sign in (b",", b"[", b"{")) > MOST_VALUES:
        raise NotReadable(f"the request has more than {MOST_VALUES} values in JSON; send less at a time")
    try:
        return json.loads(raw, parse_constant=_no_number)
    except UnicodeDecodeError:
        raise NotReadable("the request is not UTF-8 text; send it as UTF-8 JSON") from None
    except json.JSONDecodeError as error:
        raise NotReadable(f"the request is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise NotReadable("the request is nested too deeply; send a flat JSON object") from None
    except ValueError:
        raise NotReadable("the request has NaN, infinity or a number of thousands of digits, which JSON does not allow") from None


def _no_number(_: str) -> float:
    raise ValueError


def checked(kind: type[BaseModel], fields: dict[str, Any]) -> Any:
    """``fields`` as ``kind``. Raises InputError with the first thing that is wrong; what was sent is not repeated."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    unknown = first["type"] == "extra_forbidden"  # the last step of the place is then a word of the client's
    steps = [str(step) for step in first["loc"][: -1 if unknown else None]]
    place = ".".join(step for step in steps if _NAME.fullmatch(step)) or "the request"
    if unknown:
        named = f" ({first['loc'][-1]})" if first["loc"][-1] in _ELSEWHERE else ""
        raise InputError(f"{place} has an unknown field{named}; /openapi.json lists the known ones") from None
    said = first["msg"].removeprefix("Value error, ")
    raise InputError(f"{place}: {said[:1].lower()}{said[1:]}") from None


class _InMemory(MultiPartParser):
    """Files of patients are not written to this machine's disk on the way."""

    spool_max_size = 1 << 40


async def _form(raw: bytes, content_type: str) -> dict[str, Any]:
    """Every field by its name; one that occurs several times, as a list. Raises NotReadable for what is not a form."""

    async def stream() -> AsyncGenerator[bytes, None]:
        yield raw

    headers = Headers({"content-type": content_type})
    parser = _InMemory(headers, stream(), max_files=MOST_FORM_PARTS, max_fields=MOST_FORM_PARTS, max_part_size=len(raw) + 1)
    try:
        form = await parser.parse()
    except (MultiPartException, MultipartParseError, KeyError, UnicodeDecodeError, LookupError, ValueError):
        raise NotReadable("the form cannot be read; send its parts as RFC 7578 has them, with a boundary") from None
    fields: dict[str, Any] = {}
    for name in form:
        values = [await _value(name, value) for value in form.getlist(name)]
        fields[name] = values if len(values) > 1 or name == "views" else values[0]
    await form.close()
    return fields


async def _value(name: str, value: UploadFile | str) -> Any:
    """A file, a text, or for the fields that are neither the JSON value that a text spells."""
    if isinstance(value, UploadFile):
        return Upload(shown_name(value.filename or name), await value.read())
    if name in ("options", "frame", "pad", "retries", "stream", "truncate"):
        try:
            return parse_json(value.encode(errors="replace"))
        except NotReadable:
            raise InputError(f"{name} is not written as in JSON; send a number, true, false, or for options an object") from None
    return value
