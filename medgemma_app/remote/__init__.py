"""A model behind an OpenAI-compatible server, called through the openai client (extra ``remote``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medgemma_app.errors import ModelError, expect
from medgemma_app.remote.endpoint import DEFAULT_JOBS, DEFAULT_TIMEOUT, Endpoint, read_key

if TYPE_CHECKING:
    from medgemma_app.remote.model import RemoteModel


def connect(
    url: str,
    *,
    model: str | None = None,
    allow_remote: bool = False,
    api_key: str | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    jobs: int = DEFAULT_JOBS,
) -> RemoteModel:
    """The model behind an OpenAI-compatible server; ``model`` is needed where the server has several.

    Only this machine can be reached, unless ``allow_remote`` says that pictures and notes may leave it. ``api_key`` defaults to the
    one in MEDGEMMA_API_KEY; ``timeout`` is how many seconds the server may send nothing; ``generate_many`` keeps ``jobs`` requests
    running. Raises OptionError for a URL that is refused, EndpointError where no server answers, ModelError where the server does not
    have the model or the extra "remote" is not installed.
    """
    expect(model, (str, type(None)), "model must be the model's name on the server")
    key = read_key(None) if api_key is None else api_key
    return connect_to(Endpoint(url=url, allow_remote=allow_remote, key=key, timeout=timeout, jobs=jobs), model)


def connect_to(endpoint: Endpoint, model: str | None = None) -> RemoteModel:
    """Like ``connect``, for an endpoint that has been checked."""
    try:
        from medgemma_app.remote.model import open_model
    except ModuleNotFoundError as error:
        if error.name not in {"openai", "httpx2", "jsonschema_rs"}:
            raise
        raise ModelError(f"using a server needs the package {error.name}; pip install 'medgemma-app[remote]'") from error
    return open_model(endpoint, model)
