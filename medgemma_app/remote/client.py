"""The openai client, held to one host and to bounded answers, and its errors as this package's own.

No proxy, no redirect, nothing from the environment. The text of a server's error is never passed on, since it may repeat the notes.
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
from medgemma_app.model.generation import EndpointError, GenerationError
from medgemma_app.remote.endpoint import KEY_VARIABLE

if TYPE_CHECKING:
    from medgemma_app.model.generation import Generation, Token
    from medgemma_app.prompts import Prompt
    from medgemma_app.remote.endpoint import Endpoint
    from medgemma_app.remote.messages import Reply

    Ask = Callable[[Prompt, Callable[[Token], object]], Generation]
    Ended = tuple[int, Generation | BaseException]

LARGEST_BODY = 64_000_000  # bytes of any answer, a stream of tokens included
RETRIES = 4  # of a request that a busy server has refused: after its Retry-After of up to two minutes, else after 0.5, 1, 2 and 4 s
CONNECT_SECONDS = 10.0
# The headers that are sent. The openai client would add keys that the environment holds for other services, and describe this machine.
HEADERS = {"host", "accept", "accept-encoding", "connection", "content-length", "content-type", "user-agent", "authorization"}


def openai_client(endpoint: Endpoint) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=endpoint.url, api_key=endpoint.key or "none", http_client=Client(endpoint), max_retries=RETRIES, timeout=openai.NOT_GIVEN
    )


class Client(httpx2.Client):
    """No proxies and no redirects: requests go to the one host that was checked."""

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
        request.headers["accept-encoding"] = "identity"  # a compressed answer could expand to any size
        try:
            answer = super().send(request, **{**how, "stream": True})
        except httpx2.ReadTimeout:
            raise NoProgress from None
        if answer.headers.get("content-encoding", "identity") != "identity":
            answer.close()
            raise AnswerTooLarge
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
                raise AnswerTooLarge
            if time.monotonic() > self._deadline:
                raise NoProgress
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


class NoProgress(openai.OpenAIError):
    """No answer, or no token, in time. The request is not repeated, since the server may still be working on it."""


class AnswerTooLarge(openai.OpenAIError):
    """More bytes than any answer has."""


def context_limit(error: openai.BadRequestError) -> tuple[int, int] | None:
    """(tokens of the prompt, tokens that the model takes) where a refusal gives them."""
    found = next((match for match in (form.search(str(error.message)) for form in _TOO_LONG) if match), None)
    return found and (int(found["prompt"]), int(found["limit"]))


@contextmanager
def translated(endpoint: Endpoint, reply: Reply | None = None) -> Iterator[None]:
    """openai's errors -> ours. What ``reply`` holds of an answer that was broken off goes with them."""
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
        return GenerationError(f"{endpoint.host} sent more than {LARGEST_BODY // 10**6} MB, or compressed data; is it OpenAI-compatible?")
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
            return EndpointError(f"the certificate of {endpoint.host} cannot be verified; SSL_CERT_FILE names that of a private authority")
        return EndpointError(f"nothing answers at {endpoint.host}; is the server running?")
    if isinstance(cause, httpx2.TimeoutException):
        return GenerationError(f"{endpoint.host} made no progress for {endpoint.timeout:g} s; --timeout sets how long to wait")
    return GenerationError(f"{endpoint.host} closed the connection before the answer was complete; check that it is still running")


def _status_error(error: openai.APIStatusError, endpoint: Endpoint) -> MedGemmaError:
    status, host = error.status_code, endpoint.host
    if status < 400:
        return EndpointError(f"{host} redirects to another address, which is not followed; give the final one as the endpoint")
    if status in {401, 403}:
        return EndpointError(f"{host} refuses the key ({status}); set {KEY_VARIABLE}, or name a file by --api-key-file")
    if status in _BUSY:
        return EndpointError(f"{host} stayed busy ({status}); try again later, or with fewer --jobs")
    if status in {404, 405}:
        return EndpointError(f"{host} has no such model or no chat completions ({status}); does the URL end in /v1?")
    if isinstance(error, openai.BadRequestError) and (found := context_limit(error)):
        tokens, limit = found
        message = f"the prompt has {tokens} tokens and the model takes at most {limit}; shorten the notes or give fewer pictures"
        return ContextError(message, tokens=tokens, limit=limit)
    if status == 413:
        return GenerationError(f"{host} refuses a request of this size (413); raise its limit")
    if status < 500:
        return GenerationError(f"{host} refuses the request ({status}); does its model take pictures, and a prompt of this length?")
    return GenerationError(f"{host} failed ({status}); see its log")


class _Abandoned(Exception):
    """Raised at the next token of a request whose answer is no longer wanted; it closes the connection."""


def ask_all(ask: Ask, prompts: Iterable[Prompt], jobs: int) -> Iterator[Generation | MedGemmaError]:
    """For each prompt, in order, its Generation or its error, as soon as it is known; ``jobs`` requests run at a time.

    Prompts are taken from the iterable by the caller's thread, as there is room for them. Raises EndpointError in the place of
    the first prompt that met it: it would meet all that follow.
    """
    ended: queue.SimpleQueue[Ended] = queue.SimpleQueue()
    numbered, done, stop = enumerate(prompts), {}, threading.Event()
    running = turn = 0
    try:
        while True:
            while running < jobs and (item := next(numbered, None)):
                # Daemon threads: one that waits for a silent server must not keep the process alive.
                threading.Thread(target=_work, args=(ask, *item, ended, stop), daemon=True).start()
                running += 1
            if not running:
                return
            number, result = ended.get()
            running, done[number] = running - 1, result
            while turn in done:
                yield _result(done.pop(turn))
                turn += 1
    finally:
        stop.set()


def _work(ask: Ask, number: int, prompt: Prompt, ended: queue.SimpleQueue[Ended], stop: threading.Event) -> None:
    def watch(_: Token) -> None:
        if stop.is_set():
            raise _Abandoned

    try:
        ended.put((number, _ask_again_once(ask, prompt, watch)))
    except BaseException as error:  # noqa: BLE001 - handed to the thread that waits for it
        ended.put((number, error))


def _ask_again_once(ask: Ask, prompt: Prompt, watch: Callable[[Token], object]) -> Generation:
    """A server that dies breaks off all answers; a second try tells that apart from a single answer that failed."""
    try:
        return ask(prompt, watch)
    except EndpointError:
        raise
    except GenerationError:
        return ask(prompt, watch)


def _result(result: Generation | BaseException) -> Generation | MedGemmaError:
    if isinstance(result, BaseException) and (isinstance(result, EndpointError) or not isinstance(result, MedGemmaError)):
        raise result
    return result
