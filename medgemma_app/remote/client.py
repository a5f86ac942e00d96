"""The openai client, held to one host and to bounded answers, and its errors as this package's own.

No proxy, no redirect, nothing of the environment. What a server says in an error is never passed on: it may repeat the notes.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import openai

from medgemma_app.errors import ContextError, MedGemmaError
from medgemma_app.model.generation import EndpointError, GenerationError
from medgemma_app.remote.endpoint import KEY_VARIABLE

if TYPE_CHECKING:
    from medgemma_app.remote.endpoint import Endpoint
    from medgemma_app.remote.messages import Reply

LARGEST_BODY = 64_000_000  # bytes of any answer, a stream of tokens included
RETRIES = 4  # of a request that a busy server has refused: after its Retry-After of up to two minutes, else after 0.5, 1, 2 and 4 s
CONNECT_SECONDS = 10.0
# What a request says of itself. The openai client would add what the environment holds for another service, and what machine this is.
HEADERS = {"host", "accept", "accept-encoding", "connection", "content-length", "content-type", "user-agent", "authorization"}


def openai_client(endpoint: Endpoint) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=endpoint.url, api_key=endpoint.key or "none", http_client=Client(endpoint), max_retries=RETRIES, timeout=openai.NOT_GIVEN
    )


class Client(httpx2.Client):
    """Neither proxies nor redirects: what is sent goes to the one host that was checked."""

    def __init__(self, endpoint: Endpoint) -> None:
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=endpoint.jobs)
        super().__init__(
            transport=httpx2.HTTPTransport(limits=limits),  # finds certificates by the environment; proxies are the client's business
            trust_env=False,
            follow_redirects=False,
            timeout=httpx2.Timeout(endpoint.timeout, connect=CONNECT_SECONDS, pool=None),
        )
        self._key = endpoint.key

    def send(self, request: httpx2.Request, **how: Any) -> httpx2.Response:
        for name in set(request.headers) - HEADERS:
            del request.headers[name]
        request.headers.pop("authorization", None)
        if self._key is not None:
            request.headers["authorization"] = f"Bearer {self._key}"
        request.headers["accept-encoding"] = "identity"  # what is unpacked here could be of any size
        try:
            answer = super().send(request, **{**how, "stream": True})
        except httpx2.ReadTimeout:
            raise Silent from None
        if answer.headers.get("content-encoding", "identity") != "identity":
            answer.close()
            raise TooMuch
        answer.stream = Bounded(answer.stream)
        if not how.get("stream"):
            answer.read()
        return answer


class Bounded(httpx2.SyncByteStream):
    """The bytes of an answer: no more than LARGEST_BODY, and none once ``deadline`` has passed, which every token moves on.

    Bytes that hold no token (comments, empty deltas) do not move it: a server must make progress, not noise.
    """

    def __init__(self, stream: Any, seconds: float | None = None) -> None:
        self._stream, self._seconds, self._deadline = stream, seconds, float("inf")
        self.progress()

    def progress(self) -> None:
        if self._seconds is not None:
            self._deadline = time.monotonic() + self._seconds

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for piece in self._stream:
            size += len(piece)
            if size > LARGEST_BODY:
                raise TooMuch
            if time.monotonic() > self._deadline:
                raise Silent
            yield piece

    def close(self) -> None:
        self._stream.close()


# How vLLM, mlx_vlm.server and medgemma serve say that a prompt, or a prompt with its answer, does not fit.
_TOO_LONG = (
    re.compile(r"context length is (?P<limit>\d+).*?(?P<prompt>\d+) (?:input tokens|(?:tokens )?in the messages)"),
    re.compile(r"(?P<prompt>\d+) prompt \+.*?MAX_KV_SIZE is (?P<limit>\d+)"),
    re.compile(r"prompt has (?P<prompt>\d+) tokens and the model takes at most (?P<limit>\d+)"),
)
_BUSY = {429, 503}


class Silent(openai.OpenAIError):
    """No answer, or no token, in time. Not asked again: the server may still be at work on the first request."""


class TooMuch(openai.OpenAIError):
    """An answer that is larger than any answer can be."""


def room(error: openai.BadRequestError) -> tuple[int, int] | None:
    """(tokens of the prompt, tokens that the model takes) where a refusal gives them."""
    found = next((match for match in (form.search(str(error.message)) for form in _TOO_LONG) if match), None)
    return found and (int(found["prompt"]), int(found["limit"]))


@contextmanager
def translated(endpoint: Endpoint, reply: Reply | None = None) -> Iterator[None]:
    """openai's errors -> ours. What ``reply`` holds of an answer that was broken off goes with them."""
    try:
        yield
    except (openai.OpenAIError, httpx2.HTTPError, GenerationError, ValueError, RecursionError, MemoryError) as error:
        raised = error if isinstance(error, MedGemmaError) else _ours(error, endpoint)
        if isinstance(raised, GenerationError) and reply is not None and reply.tokens:
            reply.end("cancelled")
            raised.partial = reply.generation()
        raise raised from None


def _ours(error: Exception, endpoint: Endpoint) -> MedGemmaError:
    if isinstance(error, openai.APIStatusError):
        return _refusal(error, endpoint)
    if isinstance(error, openai.APIConnectionError):
        return _broken(error.__cause__, endpoint)
    if isinstance(error, Silent):
        return _broken(httpx2.ReadTimeout(""), endpoint)
    if isinstance(error, TooMuch):
        return GenerationError(f"{endpoint.host} sends more than {LARGEST_BODY // 10**6} MB, or packed data; is it OpenAI-compatible?")
    if isinstance(error, openai.APIError):
        return GenerationError(f"{endpoint.host} reports an error while generating; see its log")
    return GenerationError(f"{endpoint.host} sends what is no chat completion; is it OpenAI-compatible, and does the URL end in /v1?")


def _broken(cause: BaseException | None, endpoint: Endpoint) -> MedGemmaError:
    if isinstance(cause, httpx2.ConnectTimeout):
        return EndpointError(f"{endpoint.host} does not answer in time; check the address and the network")
    if isinstance(cause, httpx2.ConnectError):
        if "CERTIFICATE" in str(cause):
            return EndpointError(f"the certificate of {endpoint.host} cannot be verified; SSL_CERT_FILE names that of a private authority")
        return EndpointError(f"nothing answers at {endpoint.host}; is the server running?")
    if isinstance(cause, httpx2.TimeoutException):
        return GenerationError(f"{endpoint.host} was silent for {endpoint.timeout:g} s; --timeout allows for more")
    return GenerationError(f"{endpoint.host} broke off in the middle; see whether it still runs")


def _refusal(error: openai.APIStatusError, endpoint: Endpoint) -> MedGemmaError:
    status, host = error.status_code, endpoint.host
    if status < 400:
        return EndpointError(f"{host} redirects to another address, which is not followed; give the final one as the endpoint")
    if status in {401, 403}:
        return EndpointError(f"{host} refuses the key ({status}); set {KEY_VARIABLE}, or name a file by --api-key-file")
    if status in _BUSY:
        return EndpointError(f"{host} is busy ({status}) and stayed so; try again later, or with fewer --jobs")
    if status in {404, 405}:
        return EndpointError(f"{host} has no such model or no chat completions ({status}); does the URL end in /v1?")
    if isinstance(error, openai.BadRequestError) and (found := room(error)):
        tokens, limit = found
        message = f"the prompt has {tokens} tokens and the model takes at most {limit}; shorten the notes or give fewer pictures"
        return ContextError(message, tokens=tokens, limit=limit)
    if status == 413:
        return GenerationError(f"{host} refuses so large a request (413); raise its limit")
    if status < 500:
        return GenerationError(f"{host} refuses the request ({status}); does its model take pictures, and so long a prompt?")
    return GenerationError(f"{host} failed ({status}); see its log")
