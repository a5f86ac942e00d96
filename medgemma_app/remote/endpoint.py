"""The address of a server, checked before any patient data is sent there, and its key."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from medgemma_app.errors import InputError, OptionError, expect

KEY_VARIABLE = "MEDGEMMA_API_KEY"
# No spaces, backslashes or non-ASCII characters, which another URL parser might read differently.
_PLAIN = re.compile(r"[A-Za-z0-9._~:/%\[\]-]+")
_LONGEST_KEY = 8192
DEFAULT_TIMEOUT, DEFAULT_JOBS = 300.0, 8


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """The address of an OpenAI-compatible server. ``url`` is rebuilt from the parts that were checked.

    ``timeout`` is how many seconds may pass before the first token, or between two; ``jobs`` is the number of concurrent requests.
    Raises OptionError for a URL or a value that is refused.
    """

    url: str
    allow_remote: bool = False
    key: str | None = field(default=None, repr=False)
    timeout: float = DEFAULT_TIMEOUT
    jobs: int = DEFAULT_JOBS

    def __post_init__(self) -> None:
        expect(self.url, str, "the endpoint must be a URL such as http://127.0.0.1:8000/v1")
        expect(self.key, (str, type(None)), "the API key must be a string")
        if not (isinstance(self.timeout, int | float) and 0 < self.timeout <= 86_400):
            raise OptionError("timeout must be above 0 and at most 86400 seconds")
        if not (isinstance(self.jobs, int) and 1 <= self.jobs <= 1024):
            raise OptionError("jobs must be a whole number from 1 to 1024")
        object.__setattr__(self, "url", _checked(self.url, self.allow_remote))
        if self.key is not None:
            check_key(self.key, "the API key")

    @property
    def host(self) -> str:
        """Scheme, host and port, by which messages and reports name the server."""
        return "/".join(self.url.split("/")[:3])


def _checked(url: str, allow_remote: bool) -> str:
    """The URL, rebuilt from its parts. Plain http is allowed for this machine only."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or not _PLAIN.fullmatch(url) or parts.scheme not in {"http", "https"}:
        raise OptionError("the endpoint must be a URL such as http://127.0.0.1:8000/v1, without a password, a query or spaces")
    local = is_loopback(host)
    if not (local or allow_remote):
        raise OptionError(
            f"pictures and notes would be sent to another machine, {host}; to allow this, give --allow-remote (allow_remote=True)"
        )
    if not local and parts.scheme != "https":
        raise OptionError(
            f"pictures and notes would be sent to another machine, {host}, without encryption; use https, or a tunnel: "
            f"ssh -L 8000:127.0.0.1:{port or 80} {host}"
        )
    named = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{named}{'' if port is None else f':{port}'}{parts.path.rstrip('/') or '/v1'}"


def is_loopback(host: str | None) -> bool:
    """Whether ``host`` is this machine. Names are not resolved, since a name may later point elsewhere."""
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"


def read_key(path: Path | None) -> str | None:
    """The key in the file, else the one in the environment, else None. No message shows it. Raises InputError, OptionError."""
    if path is None:
        key = os.environ.get(KEY_VARIABLE, "").strip()
        return check_key(key, KEY_VARIABLE) if key else None
    try:
        with path.open("rb") as file:
            key = file.read(_LONGEST_KEY + 1).decode("ascii", errors="replace").strip()
    except OSError as error:
        raise InputError(f"cannot read the key file {path.name}: {error.strerror}") from error
    return check_key(key, path.name)


def check_key(key: str, where: str) -> str:
    """The key; raises OptionError, which does not show it."""
    if not 0 < len(key) <= _LONGEST_KEY or not all("!" <= letter <= "~" for letter in key):
        raise OptionError(f"{where} must hold one key: a single line of ASCII characters without spaces")
    return key
