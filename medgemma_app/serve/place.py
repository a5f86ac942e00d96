"""Where to listen, settled before anything that takes long is imported."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from medgemma_app.errors import InputError, OptionError
from medgemma_app.remote.endpoint import KEY_VARIABLE, check_key, read_key

LOOPBACK = {"127.0.0.1", "localhost", "::1"}


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where to listen. Raises OptionError where others could reach a server that asks for no key."""

    host: str
    port: int
    key: str | None

    def __post_init__(self) -> None:
        if self.key is not None:
            check_key(self.key, "--api-key")
        if not self.loopback and self.key is None:
            raise OptionError(
                f"--host {self.host} lets other machines ask; set {KEY_VARIABLE} to a key that they must send, or give --api-key-file"
            )

    @property
    def loopback(self) -> bool:
        return self.host in LOOPBACK

    def listen(self) -> socket.socket:
        """An open port, before a model is loaded for it."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            return socket.create_server((self.host, self.port), family=family, backlog=128)
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no such port"
            raise InputError(f"cannot listen on {self.host} port {self.port}: {reason}; choose another --port or --host") from error

    def url(self, port: int) -> str:
        """Of the ``port`` that is really listened on."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{port}"


def chosen_key(given: str | None, file: Path | None) -> str | None:
    """The key on the command line or in ``file``, else that of the environment; None without one. Raises InputError, OptionError."""
    if given is None:
        return read_key(file)
    if file is not None:
        raise OptionError("--api-key and --api-key-file both name a key; give one of them")
    return given
