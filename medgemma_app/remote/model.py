"""A model behind an OpenAI-compatible server, with the interface of a local one. It needs the extra ``remote``."""

from __future__ import annotations

import json
import threading
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from textwrap import shorten
from typing import TYPE_CHECKING, Any, cast

import httpx2
import jsonschema_rs
import openai
from PIL import Image

from medgemma_app.errors import InputError, MedGemmaError, ModelError
from medgemma_app.model.answer import collect
from medgemma_app.model.generation import (
    EndpointError,
    Estimate,
    Generation,
    GenerationError,
    Options,
    Token,
    checked_options,
    checked_prompts,
)
from medgemma_app.prompts import Prompt, checked_prompt
from medgemma_app.remote.client import CONNECT_SECONDS, Bounded, ask_all, context_limit, openai_client, refuses_pictures, translated
from medgemma_app.remote.messages import Reply, fewest_tokens, messages, response_format

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionChunk

    from medgemma_app.remote.endpoint import Endpoint

UNLIMITED = 1 << 31  # stands for the context of a model if the server does not state it
# A picture has 256 tokens for MedGemma and 36 for the demo; a server that replaces it with a word adds fewer than this.
LEAST_PICTURE_TOKENS = 16


def open_model(endpoint: Endpoint, model: str | None = None) -> RemoteModel:
    """Lists the server's models and selects ``model``, or the only one that is loaded. No patient data is sent.

    Raises EndpointError where the server cannot be reached or refuses the key, ModelError where it does not have the model.
    """
    client = openai_client(endpoint)
    try:
        with translated(replace(endpoint, timeout=CONNECT_SECONDS)):
            answer = client.get("/models", cast_to=httpx2.Response, options={"timeout": CONNECT_SECONDS, "max_retries": 2})
            card = _choose(_cards(answer.json()), model, endpoint)
        return RemoteModel(client, endpoint, card, server=answer.headers.get("server"))
    except MedGemmaError:
        client.close()
        raise


def _cards(answer: Any) -> list[dict[str, Any]]:
    """The models that a server lists. Raises ValueError where that is not such a list."""
    cards = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(cards, list) or not all(isinstance(card, dict) and _is_name(card.get("id")) for card in cards):
        raise ValueError("not a list of models")
    return cards


def _is_name(value: Any) -> bool:
    """Whether ``value`` is a text that can be shown on one line."""
    return isinstance(value, str) and value.isprintable()


def _choose(cards: list[dict[str, Any]], model: str | None, endpoint: Endpoint) -> dict[str, Any]:
    """Selects among loaded models only, since mlx_vlm.server would unload the one in use if asked for another on its disk."""
    loaded = [card for card in cards if card.get("loaded", True)]
    names = shorten(", ".join(card["id"] for card in loaded) or "none", 400, placeholder=" ...")
    if model is None and len(loaded) != 1:
        raise ModelError(f"{endpoint.host} has these models: {names}; choose one with --model")
    chosen = [card for card in loaded if model in (None, card["id"])]
    if not chosen:
        raise ModelError(f"{endpoint.host} has no model {model!r}; it has: {names}")
    return chosen[0]


class RemoteModel:
    """A model behind ``endpoint``, with any number of generations at a time.

    ``context`` is what the server states for its model, in tokens; where it states nothing it is huge, and the server itself refuses
    prompts that do not fit.
    """

    packages: tuple[str, ...] = ("medgemma-app", "openai", "pillow")

    def __init__(self, client: openai.OpenAI, endpoint: Endpoint, card: dict[str, Any], *, server: str | None) -> None:
        limit = card.get("max_model_len")
        self.id: str = card["id"]
        self.context = limit if isinstance(limit, int) and limit > 0 else UNLIMITED
        self.endpoint, self.server = endpoint.host, server
        self._client, self._endpoint = client, endpoint
        weakref.finalize(self, client.close)
        self._logprobs = True
        self._picture_tokens: int | None = None
        self._sight_lock = threading.Lock()
        self.can_count = self._tokenized({"prompt": "x"}) is not None

    def tokenize(self, prompt: Prompt) -> list[int]:
        """The token ids of ``prompt`` by vLLM's /tokenize route. vLLM itself counts each picture as one token there.

        Raises InputError where the server does not have it.
        """
        ids = self._tokenized({"messages": messages(checked_prompt(prompt))})
        if ids is None:
            raise InputError(f"{self.endpoint} did not count the tokens of the prompt; shorten the notes, or leave out --truncate")
        return ids

    def estimate(self, prompt: Prompt) -> Estimate | None:
        """None, since a server does not say what a prompt will cost."""
        return None

    def batch_size(self, max_tokens: int) -> int:
        """The number of concurrent requests."""
        return self._endpoint.jobs

    def describe(self) -> dict[str, Any]:
        """What a report says about the model and the server."""
        return {"id": self.id, "revision": None, "aligned": None, "endpoint": self.endpoint, "server": self.server}

    def generate(self, prompt: Prompt, options: Options | None = None, *, on_token: Callable[[Token], object] | None = None) -> Generation:
        """The tokens of ``stream``, folded. If the server fails, GenerationError has what was generated so far as ``partial``."""
        reply = Reply(checked_options(options, checked_prompt(prompt)).seeded())
        return collect(self._answer(prompt, reply), reply, on_token)

    def stream(self, prompt: Prompt, options: Options | None = None) -> Generator[Token, None, None]:
        """Yields each Token as it arrives. Closing the generator closes the connection, and the server stops.

        Raises ContextError when the prompt does not fit, EndpointError and GenerationError when the server fails.
        """
        return self._answer(prompt, Reply(checked_options(options, checked_prompt(prompt)).seeded()))

    def generate_many(
        self, prompts: Iterable[Prompt], options: Options | None = None, *, batch_size: int = 8
    ) -> Iterator[Generation | MedGemmaError]:
        """Keeps ``batch_size`` requests running; yields for each prompt, in order, its Generation or the error it failed with.

        A request that fails is sent once more. Raises EndpointError when the server is gone or refuses all requests.
        """
        given, chosen = checked_prompts(prompts, batch_size), checked_options(options).seeded()
        return ask_all(lambda prompt, on_token: self.generate(prompt, chosen, on_token=on_token), given, batch_size)

    def _answer(self, prompt: Prompt, reply: Reply) -> Generator[Token, None, None]:
        if prompt.images:
            self._check_sight()
        with translated(self._endpoint, reply):
            yield from self._tokens_of(prompt, reply)
            if reply.reason is None:
                raise GenerationError(f"{self.endpoint} ended the answer without a finish reason; check that it is still running")
            self._check_seen(prompt, reply)
        last = reply.end(reply.reason)
        if reply.reason == "stop" and reply.options.schema and not follows(reply.generation().text, str(reply.options.schema)):
            message = f"{self.endpoint} did not follow the schema; its engine has to support response_format with json_schema"
            raise EndpointError(message, partial=reply.generation())
        yield from last

    def _tokens_of(self, prompt: Prompt, reply: Reply) -> Generator[Token, None, None]:
        with self._open(prompt, reply.options) as chunks:
            for chunk in chunks:
                for token in reply.read(chunk):
                    yield token
                    cast(Bounded, chunks.response.stream).progress()
                if reply.overrun:
                    return

    def _open(self, prompt: Prompt, options: Options) -> openai.Stream[ChatCompletionChunk]:
        """Sends the request; again without log-probabilities, or with fewer max_tokens, where the server refuses these."""
        try:
            return self._request(prompt, options)
        except openai.BadRequestError as error:
            found = context_limit(error)
            if found and 0 < found[1] - found[0] < options.limit:
                options = replace(options, max_tokens=found[1] - found[0])
            elif self._logprobs and "logprob" in str(error.message):
                self._logprobs = False
            else:
                raise
        return self._request(prompt, options)

    def _request(self, prompt: Prompt, options: Options) -> openai.Stream[ChatCompletionChunk]:
        """Sends the request with every sampling value, since a server would take missing ones from the checkpoint."""
        stream = self._client.chat.completions.create(
            model=self.id,
            messages=cast(Any, messages(prompt)),
            stream=True,
            stream_options={"include_usage": True},
            logprobs=True if self._logprobs else openai.omit,
            max_tokens=min(options.limit, self.context),  # vLLM refuses more
            temperature=options.temperature,
            top_p=options.top_p,
            seed=openai.omit if options.seed is None else options.seed,
            response_format=openai.omit if options.schema is None else response_format(str(options.schema)),
            extra_body=_beyond_openai(options),
        )
        kind = stream.response.headers.get("content-type", "")
        if not kind.startswith("text/event-stream"):
            stream.close()
            raise ValueError(f"not a stream: {kind}")
        return stream

    def _check_sight(self) -> None:
        """Checks once that a picture makes a prompt longer; a text-only model, or a server that drops pictures, would answer without it."""
        with self._sight_lock, translated(self._endpoint):
            if self._picture_tokens is None:
                without, drawn = self._prompt_tokens(Prompt(("?",))), Image.linear_gradient("L").convert("RGB")
                try:
                    self._picture_tokens = self._prompt_tokens(Prompt((drawn, "?"))) - without
                except openai.APIStatusError as error:
                    if error.status_code not in {400, 422} and not refuses_pictures(str(error.message)):
                        raise
                    self._picture_tokens = 0
        if self._picture_tokens < LEAST_PICTURE_TOKENS:
            raise EndpointError(f"{self.endpoint} does not see pictures; is {self.id} a text-only model?")

    def _check_seen(self, prompt: Prompt, reply: Reply) -> None:
        """Raises GenerationError where the server counted too few tokens for the prompt's text and pictures."""
        if reply.prompt_tokens is not None and reply.prompt_tokens < fewest_tokens(prompt):
            raise GenerationError(f"{self.endpoint} read only part of the prompt; give it a longer context, or shorten the notes")
        least = 0.9 * len(prompt.images) * (self._picture_tokens or 0)  # 0.9, since line breaks between pictures may merge
        if not reply.overrun and prompt.images and (reply.prompt_tokens is None or reply.prompt_tokens < least):
            raise GenerationError(f"{self.endpoint} did not see all pictures: its prompt has too few tokens for them")

    def _prompt_tokens(self, prompt: Prompt) -> int:
        reply = Reply(Options(max_tokens=1))
        for _ in self._tokens_of(prompt, reply):
            pass
        if reply.prompt_tokens is None:
            raise EndpointError(f"{self.endpoint} reports no token usage, so it cannot be checked whether it sees pictures")
        return reply.prompt_tokens

    def _tokenized(self, what: dict[str, Any]) -> list[int] | None:
        """The ids that vLLM's /tokenize (beside /v1) returns for ``what``; None where the server does not have that route."""
        address = self._endpoint.url.removesuffix("/v1") + "/tokenize"
        with translated(self._endpoint):
            try:
                answer = self._client.post(address, cast_to=httpx2.Response, body={"model": self.id, **what}).json()
            except (openai.APIStatusError, ValueError):
                return None
        ids = answer.get("tokens") if isinstance(answer, dict) else None
        # llama.cpp has a route of this name for another request, and answers this one with an empty list.
        return ids if isinstance(ids, list) and ids and all(isinstance(id, int) for id in ids) else None


def follows(text: str, schema: str) -> bool:
    """Whether a text is JSON of the schema. NaN is not JSON, and makes ``int`` raise ValueError."""
    try:
        return jsonschema_rs.is_valid(json.loads(schema), json.loads(text, parse_constant=int), validate_formats=True, offline=True)
    except (ValueError, RecursionError):
        return False


def _beyond_openai(options: Options) -> dict[str, Any]:
    """The fields that vLLM and mlx_vlm.server accept beyond OpenAI's own; only vLLM returns token ids."""
    penalty = options.repetition_penalty
    body: dict[str, Any] = {"top_k": options.top_k, "min_p": 0.0, "repetition_penalty": penalty or 1.0, "return_token_ids": True}
    return body if penalty is None else {**body, "repetition_context_size": options.limit}
