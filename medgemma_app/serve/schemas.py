"""The bodies of requests and responses, as pydantic validates them and OpenAPI describes them."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema

from medgemma_app.errors import InputError
from medgemma_app.inputs.lines import NO_TEXT
from medgemma_app.model.generation import Options
from medgemma_app.validate import Issue

JSON, FORM, STREAM = "application/json", "multipart/form-data", "text/event-stream"
MOST_VIEWS = 8
MOST_TURNS, MOST_PARTS = 1000, 1000  # of a conversation, and of a turn
_DATA_URL = re.compile(r"data:[^,]{0,100};base64,", re.IGNORECASE)
_URL = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


@dataclass(frozen=True)
class Upload:
    """A file in a request; ``name`` is what messages call it."""

    name: str
    raw: bytes


def decoded(value: object, name: str = "the picture") -> Upload:
    """Decodes base64, bare or as a data URL. Raises InputError for a URL or path, since nothing is fetched and no local file is read."""
    if isinstance(value, Upload):
        return value
    if not isinstance(value, str):
        raise ValueError("send one picture: a file in a form, or base64 or a data URL in JSON")
    if (opening := _DATA_URL.match(value)) is None:
        if value[:5].lower() == "data:":
            raise InputError(f"{name} is a data URL that is not base64; encode it as base64")
        if _URL.match(value):
            raise InputError(f"{name} is a URL, but this server fetches nothing; send the picture file in base64, or as a data URL")
    try:
        return Upload(name, base64.b64decode(value[opening.end() if opening else 0 :], validate=True))
    except (binascii.Error, ValueError):
        raise InputError(f"{name} is not base64; send a picture file in base64, or as a data URL") from None


def _plain(text: str) -> str:
    if NO_TEXT.search(text):
        raise ValueError("it holds control characters or broken Unicode; remove them")
    return text


def _whole(value: object) -> object:
    """5.0 is a whole number in JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]
PlainText = Annotated[str, AfterValidator(_plain)]
EncodedPicture = Annotated[
    Upload,
    BeforeValidator(decoded),
    WithJsonSchema({"type": "string", "contentEncoding": "base64", "description": "A picture file in base64, or a data URL of one."}),
]
NotesValue = Annotated[
    Any, WithJsonSchema({"type": ["object", "array", "string"], "description": "The notes of a visit, as in a notes file."})
]


def _described(**facts: Any) -> Any:
    """A bound that OpenAPI shows. Options itself checks it, with the same messages as the command line."""
    return Field(json_schema_extra=facts)


class StrictModel(BaseModel):
    """Refuses unknown fields, and values of another type."""

    model_config = ConfigDict(strict=True, extra="forbid")


class Sampling(StrictModel):
    """How to generate."""

    max_tokens: Annotated[Whole | None, _described(minimum=1)] = None
    temperature: Annotated[float, _described(minimum=0, maximum=10)] = 0.0
    top_k: Annotated[Whole, _described(minimum=0)] = 0
    top_p: Annotated[float, _described(exclusiveMinimum=0, maximum=1)] = 1.0
    seed: Annotated[Whole | None, _described(minimum=0)] = None
    repetition_penalty: Annotated[float | None, _described(minimum=0.1, maximum=10)] = None

    def chosen(self) -> Options:
        """These values as Options. Raises OptionError."""
        return Options(**{name: getattr(self, name) for name in Sampling.model_fields}).seeded()


class ReportRequest(StrictModel):
    """The fields that every request for a report may have."""

    model: str | None = None
    options: Sampling = Sampling()
    retries: Whole = Field(0, ge=0, le=10)
    stream: bool = False


class FindingsRequest(ReportRequest):
    """A radiograph, and what is known about it."""

    scan: EncodedPicture
    views: Annotated[list[EncodedPicture], Field(max_length=MOST_VIEWS, fail_fast=True)] = []
    prior: EncodedPicture | None = None
    indication: PlainText | None = None
    frame: Whole | None = None
    window: PlainText | None = None
    pad: bool = True


class SoapRequest(ReportRequest):
    """The notes of a visit."""

    notes: NotesValue
    patient: PlainText | None = None
    truncate: bool = False


class TextPart(StrictModel):
    type: Literal["text"]
    text: PlainText


class ImageUrl(StrictModel):
    url: str
    detail: str | None = None


class ImagePart(StrictModel):
    type: Literal["image_url"]
    image_url: ImageUrl


class InstructionMessage(StrictModel):
    """Text from the system, the developer or the assistant."""

    role: Literal["system", "developer", "assistant"]
    content: PlainText | Annotated[list[TextPart], Field(max_length=MOST_PARTS, fail_fast=True)]


class UserMessage(StrictModel):
    """Text and pictures from the user, in order."""

    role: Literal["user"]
    content: (
        PlainText
        | Annotated[
            list[Annotated[TextPart | ImagePart, Field(discriminator="type")]], Field(min_length=1, max_length=MOST_PARTS, fail_fast=True)
        ]
    )


class StreamOptions(StrictModel):
    include_usage: bool = False


Messages = Annotated[
    list[Annotated[InstructionMessage | UserMessage, Field(discriminator="role")]],
    Field(min_length=1, max_length=MOST_TURNS, fail_fast=True),
]


class TokenizeBody(StrictModel):
    """vLLM's request for the tokens of ``messages``, as a chat would be fed them, or of a bare ``prompt``."""

    model: str
    messages: Messages | None = None
    prompt: PlainText | None = None


class JsonSchema(StrictModel):
    """OpenAI's wrapper of a schema; every schema is strict here."""

    name: str | None = None
    description: str | None = None
    strict: bool | None = None
    content: Annotated[dict[str, Any], Field(alias="schema")]


class ResponseFormat(StrictModel):
    """What the answer is: text, a JSON object, or JSON that follows a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    def schema_of_answer(self) -> dict[str, Any] | None:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise InputError("response_format needs a json_schema if its type is json_schema, and only then")
        return self.json_schema.content if self.json_schema else {"type": "object"} if self.type == "json_object" else None


class ChatBody(Sampling):
    """What this server supports of OpenAI's chat request; an unsupported field that would change the answer is refused."""

    model: str
    messages: Messages
    max_completion_tokens: Annotated[Whole | None, _described(minimum=1)] = None
    logprobs: bool = False
    stream: bool = False
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    n: Literal[1] = 1
    min_p: Annotated[float, Field(ge=0, le=0)] = 0.0
    # Many clients send these; they have no effect here.
    repetition_context_size: Whole | None = None
    return_token_ids: bool = False
    user: str | None = None

    def chosen(self) -> Options:
        schema = self.response_format.schema_of_answer() if self.response_format else None
        limit = self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        return replace(super().chosen(), max_tokens=limit, schema=schema)


class TokenCounts(BaseModel):
    prompt: int | None
    generated: int | None


class ReportModel(BaseModel):
    """A draft report, the issues that the checks found, and what is needed to trace it."""

    model_config = ConfigDict(extra="allow")

    notice: str
    kind: Literal["findings", "soap"]
    created: str
    text: str
    sections: dict[str, str]
    valid: bool
    issues: list[Issue]
    warnings: list[str]
    thought: str | None
    finish_reason: Literal["stop", "length", "repetition"]
    tokens: TokenCounts


class ErrorDetail(BaseModel):
    message: str
    type: Literal["invalid_request_error", "server_error"]
    code: int


class ErrorModel(BaseModel):
    """The body of every response other than 200."""

    error: ErrorDetail


class TokenIds(BaseModel):
    count: int
    max_model_len: int
    tokens: list[int]


_NAME = re.compile(r"[a-z_]+|\d+")  # a field or an index; the other parts of a pydantic location are names of its checks


def checked(kind: type[BaseModel], fields: dict[str, Any]) -> Any:
    """``fields`` as an instance of ``kind``. Raises InputError, which names the first problem but not the value.

    An unknown field is named only if it looks like one: any other name may be a patient's data.
    """
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    unknown = first["type"] == "extra_forbidden"  # the last part of the location is then its name
    parts = [str(part) for part in first["loc"][: -1 if unknown else None]]
    location = ".".join(part for part in parts if _NAME.fullmatch(part)) or "the request"
    if unknown:
        known = ", ".join(kind.model_fields) if location == "the request" else "those in /openapi.json"
        name = str(first["loc"][-1])
        which = f"the unknown field {name}" if re.fullmatch("[a-z_]{1,40}", name) else "an unknown field"
        raise InputError(f"{location} has {which}; its fields are {known}") from None
    message = re.sub(r"(?s)^Input tag .*'(\w+)' does not match any of the expected tags", r"\1 must be one of these", first["msg"])
    message = message.removeprefix("Value error, ")
    raise InputError(f"{location}: {message[:1].lower()}{message[1:]}") from None
