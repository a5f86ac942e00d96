"""Finding listed names in a text, as sequences of words, and telling whether another text has them, misspelled perhaps."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property, lru_cache
from operator import add
from typing import NamedTuple

_WORD = re.compile(r"([^\W_]+)(?:['’][a-z]{1,2}\b)?")
_CONSONANTS = str.maketrans({**dict.fromkeys("aeiouyw"), "c": "k", "q": "k", "z": "s", "x": "ks"})
_REPEATS = re.compile(r"(.)\1+")
_SHORTEST_SOUND = 4
_PREFIX = 7
LONGEST_WORD = 40
_SHORTEST_JOINED = 4


class Word(NamedTuple):
    """A word in lower case with its place in the text."""

    text: str
    start: int
    end: int


def words(text: str) -> list[Word]:
    """The words of a text, without possessive and contracted endings."""
    return [Word(found[1].lower(), found.start(), found.end(1)) for found in _WORD.finditer(text)]


def mentions(text: Sequence[Word], names: Collection[str], longest: int) -> Iterator[tuple[str, int, int]]:
    """(name, first word, after its last word) of every listed name, longest names first, none inside another."""
    at = 0
    while at < len(text):
        for count in range(min(longest, len(text) - at), 0, -1):
            name = " ".join(word.text for word in text[at : at + count])
            if name in names:
                yield name, at, at + count
                at += count - 1
                break
        at += 1


class Heard:
    """The words of a text in their order, looked up as written, joined ("a fib"), or by their sound ("mellocksicam")."""

    def __init__(self, text: str) -> None:
        self.all = words(text)
        self._said = [word.text for word in self.all]
        self._words = set(self._said)
        self._text = f" {' '.join(self._said)} "

    @cached_property
    def _joined(self) -> set[str]:
        """Words alone and run together with their neighbours."""
        said, pairs = self._said, list(map(add, self._said, self._said[1:]))
        return self._words.union(pairs, map(add, pairs, said[2:]))

    @cached_property
    def _sounds(self) -> set[str]:
        return {_sound(word) for word in self._joined if len(word) <= LONGEST_WORD}

    @cached_property
    def _prefixes(self) -> set[str]:
        return {word[:_PREFIX] for word in self._words}

    def has(self, name: str) -> bool:
        """Whether a name of one or more words was said as written, or run together."""
        return f" {name} " in self._text if " " in name else name in self._words or (len(name) > _SHORTEST_JOINED and name in self._joined)

    def sounds_like(self, name: str) -> bool:
        """Whether something was said that sounds like a name, or begins like it."""
        joined = name.replace(" ", "")
        if len(name) > _PREFIX and name[:_PREFIX] in self._prefixes:
            return True
        sound = _sound(joined)
        return len(sound) >= _SHORTEST_SOUND and sound in self._sounds


@lru_cache(maxsize=2)
def heard(text: str) -> Heard:
    """The words of a text; several checks ask for the same one."""
    return Heard(text)


def _sound(word: str) -> str:
    """A word without vowels, its consonants by their sound; the first letter stays."""
    return _REPEATS.sub(r"\1", word[:1] + word[1:].translate(_CONSONANTS)).replace("ph", "f")
