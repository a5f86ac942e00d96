"""The word lists of data/*.txt, their names in a text, and what a source says, misspelled perhaps."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from functools import cached_property, lru_cache
from itertools import islice
from operator import add
from typing import NamedTuple

from medgemma_app.validate.lists import entries, rows

WORDS = {key: frozenset(listed) for key, listed in entries("cues").items()}
_WORD = re.compile(r"([^\W_]+)(?:['’][a-z]{1,2}\b)?")
_LETTERS = re.compile(r"\b(?:[a-z] ){2,9}[a-z]\b")  # "p c o s"
# British spellings that American ones stand for: "anaemia", "oedema", "diarrhoea", "dyspnoea", "oesophagus".
_BRITISH = re.compile(
    r"ae(?=m)|(?<=p)ae(?=d)|(?<=n)ae(?=c|s)|(?<=c)ae(?=c|s)|(?<=f)ae(?=c)|oe(?=dem|soph|str)|(?<=rrh)oe|(?<=pn)oe|(?<=f)oe(?=t)"
)
# Words that begin a line of a source when what follows is no fact of the patient.
_TAKEN_BACK = re.compile(r"(?m)^[^\w\n]*(?:REFUTED|NOT DONE|NOT TAKEN|STOPPED|DO NOT PERFORM):.*$")
_SPEAKER = re.compile(r"(?m)^\W{0,2}([^\W\d_][\w. ]{0,24})[\]:)]")
_TALK_SHARE, _MOST_SPEAKERS, _LINES_OF_SPEAKERS = 0.03, 6, 0.5
_SHORTEST_ALIKE, _SHORTEST_STUB, _ALIKE, _MOST_COMPARED = 5, 4, 0.75, 400
_SAME_SOUND = str.maketrans("ckqzxfeiouy", "sssss" + "p" + "aaaaa")


def _units() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {"unit": {}, "factor": {}, "vital": {}, "lab": {}, "initial": {}}
    for key, listed in entries("units").items():
        sort, _, kind = key.partition(" ")
        found[sort].update(dict.fromkeys(listed, kind))
    return found


UNITS, _FACTORS, VITALS, LABS, INITIALS = _units().values()
FACTORS = {unit: float(factor) for unit, factor in _FACTORS.items()}


class Words(NamedTuple):
    """The words of a text in lower case, and their places in it."""

    texts: Sequence[str]
    starts: Sequence[int]
    ends: Sequence[int]


@lru_cache(maxsize=1024)
def words(text: str) -> Words:
    """The words of a text in American spelling, without possessive and contracted endings."""
    found = list(_WORD.finditer(text))
    return Words([_american(one[1].lower()) for one in found], [one.start() for one in found], [one.end(1) for one in found])


def _american(lower: str) -> str:
    return _BRITISH.sub("e", lower) if "ae" in lower or "oe" in lower else lower


class Lexicon:
    """Names of one or more words, to be found in texts."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)
        self._longest: dict[str, int] = {}  # first word -> most words of a name that begins with it
        for name in self._names:
            first, *more = name.split(" ")
            self._longest[first] = max(self._longest.get(first, 0), 1 + len(more))

    def find(self, text: str) -> Iterator[tuple[str, int, int]]:
        """(name, start, end) of every name in a text."""
        said, starts, ends = words(text)
        return ((name, starts[first], ends[last - 1]) for name, first, last in self.mentions(said))

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
    """The words of a source, looked up as written, joined ("a fib"), spelled ("p c o s") or misspelled ("mellocksicam")."""

    def __init__(self, text: str) -> None:
        lower = text.lower()
        self.said: list[str] = list(map(_american, _WORD.findall(lower)))
        self.words = dict.fromkeys((*self.said, *(letters.replace(" ", "") for letters in _LETTERS.findall(lower))))
        self._text = f" {' '.join(self.said)} "

    @cached_property
    def _joined(self) -> dict[str, None]:
        """Words alone and run together with their neighbours, in their order."""
        pairs = list(map(add, self.said, self.said[1:]))
        return dict.fromkeys((*self.words, *pairs, *map(add, pairs, self.said[2:])))

    def has(self, name: str) -> bool:
        """Whether a name of one or more words was said as written, or run together."""
        return (
            f" {name} " in self._text
            if " " in name
            else name in self.words or f"{name}s" in self.words or (len(name) >= _SHORTEST_ALIKE and name in self._joined)
        )

    def begins(self, name: str) -> bool:
        """Whether a name is the beginning of a word that was said, as "azithro" is, or the other way round."""
        return any(word.startswith(name) or (len(word) >= _SHORTEST_STUB and name.startswith(word)) for word in self.words)

    def alike(self, names: Iterable[str]) -> Iterator[str]:
        """The words that one of the names may be a misspelling of, as difflib compares them."""
        for name in (name.replace(" ", "") for name in names if len(name) >= _SHORTEST_ALIKE):
            initial, least, most = name[0].translate(_SAME_SOUND), len(name) - len(name) // 4, len(name) + len(name) // 4
            near = (word for word in self._joined if least <= len(word) <= most and word[0].translate(_SAME_SOUND) == initial)
            kept = islice((word for word in near if len(set(word) & set(name)) * 2 > len(set(name))), _MOST_COMPARED)
            yield from (word for word in kept if SequenceMatcher(None, word, name, autojunk=False).ratio() >= _ALIKE)


@lru_cache(maxsize=2)
def heard(text: str) -> Heard:
    """The words of a text; several checks ask for the same one."""
    return Heard(text)


class Source(NamedTuple):
    """What a text was written from: as it is, without what it takes back, and whether it is speech and in English."""

    raw: str
    told: str
    spoken: bool
    english: bool


@lru_cache(maxsize=2)
def is_dialogue(source: str) -> bool:
    """Whether a source is speech, in which a drug and its dose may stand far apart."""
    said = re.findall(r"[\w']+", source.lower())
    names = Counter(name.lower() for name in _SPEAKER.findall(source))
    lines = source.count("\n") + 1
    spoken = 0 < len(names) <= _MOST_SPEAKERS and names.total() >= max(4, _LINES_OF_SPEAKERS * lines)
    return spoken or sum(word in WORDS["talk"] for word in said) > _TALK_SHARE * max(1, len(said))


@lru_cache(maxsize=2)
def read_source(source: str) -> Source:
    """A source; the lines that it takes back are blank in what it tells. Notes in keywords count as English."""
    said = Counter(words(source).texts)
    english = sum(said[word] for word in WORDS["foreign"]) <= sum(said[word] for word in WORDS["english"])
    told = _TAKEN_BACK.sub(lambda found: " " * len(found[0]), source)
    return Source(source, told, is_dialogue(source), english)


class Mention(NamedTuple):
    """A drug named in a text: where, by which name, and the generic names it may stand for."""

    start: int
    end: int
    name: str
    drugs: frozenset[str]


_ROWS = [row for row, _ in rows("drugs")]
_DRUG_ENDING = re.compile(rf"[a-z]{{3,25}}(?:{'|'.join(name[1:] for row in _ROWS for name in row if name.startswith('-'))})")
DRUGS: dict[str, frozenset[str]] = {}
for _row in _ROWS:
    DRUGS.update((name, DRUGS.get(name, frozenset()) | {_row[0]}) for name in _row)
_DRUG_LEXICON = Lexicon(DRUGS)
_SHORTEST_FOREIGN = 7  # "metformina", "amoxicilline", "pantoprazol"
_BARE = {name.rstrip("aeos"): drugs for name, drugs in DRUGS.items() if len(name) >= _SHORTEST_FOREIGN}
_NO_DRUGS = frozenset("april protocol cortisol alcohol control patrol cholesterol".split())  # noqa: SIM905


@lru_cache(maxsize=4096)
def drugs_of(word: str) -> frozenset[str]:
    """The generic names that a word in lower case stands for; an unknown drug, known by its ending, stands for itself."""
    if word in DRUGS:
        return DRUGS[word]
    if word.endswith("s") and len(word) > _SHORTEST_ALIKE and word[:-1] in DRUGS:
        return DRUGS[word[:-1]]
    if len(word) >= _SHORTEST_FOREIGN and (bare := word.rstrip("aeos")) in _BARE:
        return _BARE[bare]
    return frozenset([word]) if word not in _NO_DRUGS and _DRUG_ENDING.fullmatch(word) else frozenset()


@lru_cache(maxsize=4)
def mentions(text: str) -> Sequence[Mention]:
    """Every drug that a text names."""
    said, starts, ends = words(text)
    listed = list(_DRUG_LEXICON.mentions(said))
    found = [Mention(starts[first], ends[last - 1], name, DRUGS[name]) for name, first, last in listed]
    taken = {at for _, first, last in listed for at in range(first, last)}
    found += [Mention(starts[at], ends[at], word, drugs) for at, word in enumerate(said) if at not in taken and (drugs := drugs_of(word))]
    return sorted(found)
