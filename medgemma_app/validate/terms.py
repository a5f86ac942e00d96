"""Finding listed names in a text, as sequences of words, and telling whether another text has them, misspelled perhaps."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from operator import add
from typing import NamedTuple

_WORD = re.compile(r"([^\W_]+)(?:['’][a-z]{1,2}\b)?")
_LETTERS = re.compile(r"\b(?:[a-z] ){2,9}[a-z]\b")  # "p c o s"
_CONSONANTS = str.maketrans({**dict.fromkeys("aeiouyw"), "c": "k", "q": "k", "z": "s", "x": "ks"})
_REPEATS = re.compile(r"(.)\1+")
# British spellings that American ones stand for: "anaemia", "oedema", "diarrhoea", "dyspnoea", "oesophagus".
_BRITISH = re.compile(
    r"ae(?=m)|(?<=p)ae(?=d)|(?<=n)ae(?=c|s)|(?<=c)ae(?=c|s)|(?<=f)ae(?=c)|oe(?=dem|soph|str)|(?<=rrh)oe|(?<=pn)oe|(?<=f)oe(?=t)"
)
_SHORTEST_SOUND = 4
_PREFIX = 7
LONGEST_WORD = 40
_SHORTEST_JOINED = 4

# The last two letters of English and medical words of four letters and more: none ends as "withou" or "zxcv" does.
WORD_ENDS = frozenset(
    first + second
    for first, seconds in (
        pair.split(":")
        for pair in """a:bcdhklmnprstwxy b:eosy c:aehikosty d:aesy e:acdefgklmnoprstwxyz f:efty g:aehmnosy h:aemnosty i:abcdeglmnoprstx
        k:esy l:abdefiklmopsty m:abeinopsy n:acdegkosty o:bdefgklmnoprstwxy p:aehosty r:abdeklmnopsty s:acehkmopsty t:aehosty
        u:bdeglmprstx v:aey w:lns x:at y:lmns z:aey""".split()  # noqa: SIM905
    )
    for second in seconds
)


class Words(NamedTuple):
    """The words of a text in lower case, and their places in it."""

    texts: Sequence[str]
    starts: Sequence[int]
    ends: Sequence[int]


@lru_cache(maxsize=1024)
def words(text: str) -> Words:
    """The words of a text, without possessive and contracted endings; several checks ask for those of the same sentence."""
    found = list(_WORD.finditer(text))
    return Words([_american(one[1].lower()) for one in found], [one.start() for one in found], [one.end(1) for one in found])


def _american(lower: str) -> str:
    """A word in lower case, in American spelling."""
    return _BRITISH.sub("e", lower) if "ae" in lower or "oe" in lower else lower


class Lexicon:
    """Names of one or more words, to be found in texts."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)
        self._longest: dict[str, int] = {}  # first word -> most words of a name that begins with it
        for name in self._names:
            first, *more = name.split(" ")
            self._longest[first] = max(self._longest.get(first, 0), 1 + len(more))

    def mentions(self, said: Sequence[str]) -> Iterator[tuple[str, int, int]]:
        """(name, first word, after its last word) of every name, longest names first, none inside another."""
        end = 0
        for at, word in enumerate(said):
            if word not in self._longest or at < end:
                continue
            for count in range(min(self._longest[word], len(said) - at), 0, -1):
                name = " ".join(said[at : at + count])
                if name in self._names:
                    end = at + count
                    yield name, at, end
                    break


class Heard:
    """The words of a text in their order, looked up as written, joined ("a fib"), or by their sound ("mellocksicam")."""

    def __init__(self, text: str) -> None:
        lower = text.lower()
        self.said: list[str] = list(map(_american, _WORD.findall(lower)))
        self._words = {*self.said, *(letters.replace(" ", "") for letters in _LETTERS.findall(lower))}
        self._text = f" {' '.join(self.said)} "
        self._by_initial: dict[str, set[str]] = {}

    @cached_property
    def _joined(self) -> set[str]:
        """Words alone and run together with their neighbours."""
        said, pairs = self.said, list(map(add, self.said, self.said[1:]))
        return self._words.union(pairs, map(add, pairs, said[2:]))

    def _sounds(self, initial: str) -> set[str]:
        """The sounds that begin with a letter."""
        if initial not in self._by_initial:
            alike = (word for word in self._joined if word[0] in (initial, "p" if initial == "f" else "") and len(word) <= LONGEST_WORD)
            self._by_initial[initial] = set(map(_sound, alike))
        return self._by_initial[initial]

    @cached_property
    def _prefixes(self) -> set[str]:
        return {word[:_PREFIX] for word in self._words}

    def has(self, name: str) -> bool:
        """Whether a name of one or more words was said as written, or run together."""
        return f" {name} " in self._text if " " in name else name in self._words or (len(name) > _SHORTEST_JOINED and name in self._joined)

    def shortened(self, name: str) -> bool:
        """Whether a name is the beginning of a word that was said, as "azithro" is."""
        return any(word.startswith(name) for word in self._words)

    def sounds_like(self, name: str) -> bool:
        """Whether something was said that sounds like a name, or begins like it."""
        joined = name.replace(" ", "")
        if len(name) > _PREFIX and name[:_PREFIX] in self._prefixes:
            return True
        sound = _sound(joined)
        return len(sound) >= _SHORTEST_SOUND and sound in self._sounds(sound[0])


@lru_cache(maxsize=2)
def heard(text: str) -> Heard:
    """The words of a text; several checks ask for the same one."""
    return Heard(text)


def _sound(word: str) -> str:
    """A word without vowels, its consonants by their sound; the first letter stays."""
    return _REPEATS.sub(r"\1", word[:1] + word[1:].translate(_CONSONANTS)).replace("ph", "f")
