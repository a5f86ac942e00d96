"""The openai client, limited to one host and to responses of bounded size; the translation of its errors; and concurrent requests.

It uses no proxies, follows no redirects and reads no settings from the environment.
The text of a server's error is never shown, since it may repeat the notes.
"""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import openai

from medgemma_app.errors import ContextError, MedGemmaError
from medgemma_app.model.answer import in_order
from medgemma_app.model.generation import EndpointError, Generation, GenerationError
from medgemma_app.remote.endpoint import KEY_VARIABLE

if TYPE_CHECKING:
    from medgemma_app.model.generation import Token
    from medgemma_app.prompts import Prompt
    from medgemma_app.remote.endpoint import Endpoint
    from medgemma_app.remote.messages import Reply

    Ask = Callable[[Prompt, Callable[[Token], object]], Generation]
    Outcome = tuple[int, Generation | BaseException]

LARGEST_ANSWER = 64_000_000  # bytes of a response, including a stream of tokens
RETRIES = 4  # of a request that a busy server refused: after its Retry-After (at most two minutes), else after 0.5, 1, 2 and 4 s
CONNECT_SECONDS = 10.0
# The only headers that are sent. The openai client would add other services' keys from the environment, and a description of this machine.
SENT_HEADERS = {"host", "accept", "accept-encoding", "connection", "content-length", "content-type", "user-agent", "authorization"}


def openai_client(endpoint: Endpoint) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=endpoint.url, api_key=endpoint.key or "none", http_client=Client(endpoint), max_retries=RETRIES, timeout=openai.NOT_GIVEN
    )


class Client(httpx2.Client):
    """An HTTP client without proxies and redirects: all requests go to the host that was checked."""

    def __init__(self, endpoint: Endpoint) -> None:
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=endpoint.jobs)
        super().__init__(
            transport=httpx2.HTTPTransport(limits=limits),  # reads certificates from the environment, but no proxies
            trust_env=False,
            follow_redirects=False,
            timeout=httpx2.Timeout(endpoint.timeout, connect=CONNECT_SECONDS, pool=None),
        )
        self._key = endpoint.key

    def send(self, request: httpx2.Request, **how: Any) -> httpx2.Response:
        for name in set(request.headers) - SENT_HEADERS:
            del request.headers[name]
        request.headers.pop("authorization", None)
        if self._key is not None:
            request.headers["authorization"] = f"Bearer {self._key}"
        request.headers["accept-encoding"] = "identity"  # a compressed response could expand to any size
        try:
            answer = super().send(request, **{**how, "stream": True})
        except httpx2.ReadTimeout:
            raise NoProgress from None
        if answer.headers.get("content-encoding", "identity") != "identity":
            answer.close()
            raise AnswerTooLarge
        answer.stream = Bounded(answer.stream, request.extensions["timeout"]["read"])
        if answer.status_code == 500 and refuses_pictures(answer.read().decode(errors="replace")):
            answer.headers["x-should-retry"] = "false"  # openai would send the same request again
        if not how.get("stream"):
            answer.read()
        return answer


class Bounded(httpx2.SyncByteStream):
    """The bytes of a response: at most LARGEST_ANSWER, and none after ``seconds``, which every token extends.

    Bytes without a token (comments, empty deltas) do not extend it, so that a server cannot keep a request alive without progress.
    """

    def __init__(self, stream: Any, seconds: float) -> None:
        self._stream, self._seconds = stream, seconds
        self.progress()

    def progress(self) -> None:
        self._deadline = time.monotonic() + self._seconds

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for piece in self._stream:
            size += len(piece)
            if size > LARGEST_ANSWER:
                raise AnswerTooLarge
            if time.monotonic() > self._deadline:
                raise NoProgress
            yield piece

    def close(self) -> None:
        self._stream.close()


# How vLLM, llama.cpp, mlx_vlm.server and medgemma serve report that a prompt, or a prompt with its answer, does not fit.
_TOO_LONG = (
    re.compile(r"request \((?P<prompt>\d+) tokens\) exceeds the available context size \((?P<limit>\d+) tokens\)"),
    re.compile(r"context length is (?P<limit>\d+)(?:(?! characters).)*?(?P<prompt>\d+) (?:input tokens|(?:tokens )?in the messages)"),
    re.compile(r"(?P<prompt>\d+) prompt \+.*?MAX_KV_SIZE is (?P<limit>\d+)"),
    re.compile(r"prompt has (?P<prompt>\d+) tokens and the model takes at most (?P<limit>\d+)"),
)
_BUSY = {429, 503}


# How llama.cpp, with the status 500, and other servers say that they take no pictures, or that they lost one.
_NO_PICTURES = re.compile("image input is not supported|no image was provided", re.IGNORECASE)


class NoProgress(openai.OpenAIError):
    """No response, or no token, in time. The request is not repeated, since the server may still be working on it."""


class AnswerTooLarge(openai.OpenAIError):
    """A response that is larger than LARGEST_ANSWER, or compressed."""


def context_limit(error: openai.BadRequestError) -> tuple[int, int] | None:
    """(tokens of the prompt, tokens that the model takes) where the server's refusal states both."""
    found = next((match for match in (form.search(str(error.message)) for form in _TOO_LONG) if match), None)
    return found and (int(found["prompt"]), int(found["limit"]))


def refuses_pictures(message: str) -> bool:
    """Whether a server's error says that it did not take the picture."""
    return _NO_PICTURES.search(message) is not None


@contextmanager
def translated(endpoint: Endpoint, reply: Reply | None = None) -> Iterator[None]:
    """Turns openai's errors into this package's. A GenerationError gets the part of the answer that ``reply`` holds."""
    try:
        yield
    except (openai.OpenAIError, httpx2.HTTPError, GenerationError, ValueError, RecursionError, MemoryError) as error:
        raised = error if isinstance(error, MedGemmaError) else _as_our_error(error, endpoint)
        if isinstance(raised, GenerationError) and reply is not None and reply.tokens:
            reply.end("cancelled")
            raised.partial = reply.generation()
        raise raised from None


def _as_our_error(error: Exception, endpoint: Endpoint) -> MedGemmaError:
    if isinstance(error, openai.APIStatusError):
        return _status_error(error, endpoint)
    if isinstance(error, openai.APIConnectionError):
        return _connection_error(error.__cause__, endpoint)
    if isinstance(error, NoProgress):
        return _connection_error(httpx2.ReadTimeout(""), endpoint)
    if isinstance(error, AnswerTooLarge):
        return GenerationError(f"{endpoint.host} sent more than {LARGEST_ANSWER // 10**6} MB or compressed data; is it OpenAI-compatible?")
    if isinstance(error, openai.APIError):
        return GenerationError(f"{endpoint.host} reports an error while generating; see its log")
    return GenerationError(
        f"{endpoint.host} sent something that is not a chat completion; is it OpenAI-compatible, and does the URL end in /v1?"
    )


def _connection_error(cause: BaseException | None, endpoint: Endpoint) -> MedGemmaError:
    if isinstance(cause, httpx2.ConnectTimeout):
        return EndpointError(f"{endpoint.host} did not answer in time; check the address and the network")
    if isinstance(cause, httpx2.ConnectError):
        if "CERTIFICATE" in str(cause):
            return EndpointError(f"the certificate of {endpoint.host} cannot be verified; for a private authority, set SSL_CERT_FILE")
        return EndpointError(f"nothing answers at {endpoint.host}; is the server running?")
    if isinstance(cause, httpx2.TimeoutException):
        return GenerationError(f"{endpoint.host} made no progress for {endpoint.timeout:g} s; --timeout sets how long to wait")
    return GenerationError(f"{endpoint.host} closed the connection before the answer was complete; check that it is still running")


def _status_error(error: openai.APIStatusError, endpoint: Endpoint) -> MedGemmaError:
    status, host = error.status_code, endpoint.host
    if status < 400:
        return EndpointError(f"{host} redirects to another URL, which is not followed; give that URL as the endpoint")
    if status in {401, 403}:
        return EndpointError(f"{host} refuses the key ({status}); set {KEY_VARIABLE}, or give --api-key-file")
    if status in _BUSY:
        return EndpointError(f"{host} is still busy ({status}); try again later, or with fewer --jobs")
    if status in {404, 405}:
        return EndpointError(f"{host} does not know this model or has no chat completions route ({status}); does the URL end in /v1?")
    if isinstance(error, openai.BadRequestError) and (found := context_limit(error)):
        tokens, limit = found
        message = f"the prompt has {tokens} tokens and the model takes at most {limit}; shorten its text, or give fewer pictures"
        return ContextError(message, tokens=tokens, limit=limit)
    if status == 413:
        return GenerationError(f"{host} refuses a request of this size (413); raise its limit on request bodies")
    if status < 500:
        return GenerationError(f"{host} refuses the request ({status}); does its model accept pictures, and prompts of this length?")
    return GenerationError(f"{host} failed ({status}); see its log")


class _Abandoned(Exception):
    """Raised at the next token of a request that is no longer wanted, which closes its connection."""


def ask_all(ask: Ask, prompts: Iterable[Prompt], jobs: int) -> Iterator[Generation | MedGemmaError]:
    """Yields for each prompt, in order, its Generation or its error; ``jobs`` requests run at a time, each in a thread.

    Prompts are taken from the iterable in the caller's thread, as requests end. Raises the first EndpointError, since all later
    requests would fail with it too. When the caller stops iterating, all requests end.
    """
    for result in in_order(_ask_all(ask, prompts, jobs)):
        if isinstance(result, EndpointError) or not isinstance(result, (Generation, MedGemmaError)):
            raise result
        yield result


def _ask_all(ask: Ask, prompts: Iterable[Prompt], jobs: int) -> Iterator[Outcome]:
    ended: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
    stop = threading.Event()

    def watch(_: Token) -> None:
        if stop.is_set():
            raise _Abandoned

    def work(number: int, prompt: Prompt) -> None:
        try:
            try:
                ended.put((number, ask(prompt, watch)))
            except GenerationError as error:
                if isinstance(error, EndpointError):
                    raise
                ended.put((number, ask(prompt, watch)))  # where the server itself is gone, this raises an EndpointError
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits for it
            ended.put((number, error))

    numbered, running = enumerate(prompts), 0
    try:
        while True:
            while running < jobs and (item := next(numbered, None)):
                # Daemon threads, so that a server that sends nothing cannot keep the process alive.
                threading.Thread(target=work, args=item, daemon=True).start()
                running += 1
            if not running:
                return
            yield ended.get()
            running -= 1
    finally:
        stop.set()
