"""What can go wrong, one class per thing a user can do about it.

Every error carries the exit code of the command line and a message of one line that says what to do.
No message holds text from a note or a header: they may name a patient. The errors of a generation, which carry
what had been generated, are in ``medgemma_app.model.generation``.
"""

from __future__ import annotations


class MedGemmaError(Exception):
    """Base of every error this package raises on purpose."""

    exit_code = 1


class InputError(MedGemmaError):
    """A file the user gave cannot be used: give another one."""

    exit_code = 2


class OptionError(InputError, ValueError):
    """An option has a value outside its range: change it."""


class ContextError(InputError):
    """The prompt does not fit the model's context: shorten it. ``tokens`` against ``limit``."""

    def __init__(self, message: str, *, tokens: int, limit: int) -> None:
        super().__init__(message)
        self.tokens = tokens
        self.limit = limit


class OutputError(MedGemmaError):
    """The output file cannot be written: choose another place."""

    exit_code = 2


class PromptError(MedGemmaError):
    """A prompt file is missing or names variables it does not have: mend the file."""

    exit_code = 2


class ModelError(MedGemmaError):
    """The model cannot be loaded: the message says what is missing."""


def expect(value: object, kinds: type | tuple[type, ...], sentence: str) -> None:
    """Raises TypeError with ``sentence`` and the type that was given, unless ``value`` is one of ``kinds``."""
    if not isinstance(value, kinds):
        raise TypeError(f"{sentence}, not {type(value).__name__}")
