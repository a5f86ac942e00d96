"""What can go wrong between here and a server, in this package's own errors.

What a server says in an error is never passed on: it may repeat the notes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx2
import openai

from medgemma_app.errors import ContextError, MedGemmaError
from medgemma_app.model.generation import EndpointError, GenerationError
from medgemma_app.remote.endpoint import KEY_VARIABLE

if TYPE_CHECKING:
    from medgemma_app.remote.endpoint import Endpoint
    from medgemma_app.remote.reply import Reply

# How vLLM, mlx_vlm.server and medgemma serve say that a prompt, or a prompt with its answer, does not fit.
_TOO_LONG = (
    re.compile(r"context length is (?P<limit>\d+).*?(?P<prompt>\d+) (?:input tokens|(?:tokens )?in the messages)"),
    re.compile(r"(?P<prompt>\d+) prompt \+.*?MAX_KV_SIZE is (?P<limit>\d+)"),
    re.compile(r"prompt has (?P<prompt>\d+) tokens and the model takes at most (?P<limit>\d+)"),
)
_BUSY = {429, 503}


class Silent(openai.OpenAIError):
    """No answer has begun in time. Not asked again: the server may still be at work on the first request."""


def room(error: openai.BadRequestError) -> tuple[int, int] | None:
    """(tokens of the prompt, tokens that the model takes) where a refusal gives them."""
    found = next((match for match in (form.search(str(error.message)) for form in _TOO_LONG) if match), None)
    return found and (int(found["prompt"]), int(found["limit"]))


@contextmanager
def translated(endpoint: Endpoint, reply: Reply | None = None) -> Iterator[None]:
    """openai's errors -> ours. What ``reply`` holds of an answer that was broken off goes with them."""
    try:
        yield
    except (openai.OpenAIError, httpx2.HTTPError, GenerationError, ValueError, RecursionError) as error:
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
