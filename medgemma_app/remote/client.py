"""The openai client, held to one host: no proxy, no redirect, nothing of the environment, and bounded waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx2
import openai

from medgemma_app.remote.faults import Silent

if TYPE_CHECKING:
    from medgemma_app.remote.endpoint import Endpoint

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
        try:
            return super().send(request, **how)
        except httpx2.ReadTimeout:
            raise Silent from None
