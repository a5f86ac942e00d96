"""The errors of this package, one class for each remedy. Those of a generation are in ``medgemma_app.model.generation``.

Every error carries the exit code of the command and a one-line message that says what to do. No message contains text from a note or
a header, which may name a patient.
"""

from __future__ import annotations

import copyreg
from typing import Any


class MedGemmaError(Exception):
    """The base class of all errors that this package raises."""

    exit_code = 1

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle, which otherwise calls the constructor with the message as its only argument."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class InputError(MedGemmaError):
    """An input cannot be used: give another one."""

    exit_code = 2


class OptionError(InputError, ValueError):
    """The value of an option cannot be used: change it."""


class ContextError(InputError):
    """The prompt does not fit the model's context: shorten it. It has ``tokens``, and may have ``limit``."""

    def __init__(self, message: str, *, tokens: int, limit: int) -> None:
        super().__init__(message)
        self.tokens = tokens
        self.limit = limit


class OutputError(MedGemmaError):
    """The output file cannot be written: choose another one."""

    exit_code = 2


class PromptError(MedGemmaError):
    """A prompt file is missing or invalid: correct the file."""

    exit_code = 2


class ModelError(MedGemmaError):
    """The model cannot be loaded; the message says what is missing."""


def expect(value: object, kinds: type | tuple[type, ...], sentence: str) -> None:
    """Raises TypeError, with ``sentence`` and the type of ``value``, unless ``value`` is of one of ``kinds``."""
    if not isinstance(value, kinds):
        raise TypeError(f"{sentence}, not {type(value).__name__}")
