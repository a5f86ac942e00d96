"""The names of units and drugs, and the words of a source, including misspelled ones."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from functools import lru_cache
from operator import add
from typing import NamedTuple

from medgemma_app.validate.lists import entries, lines

WORDS = {key: frozenset(listed) for key, listed in entries("cues").items()}
UNITS, _FACTORS, VITALS, LABS, INITIALS = (
    {name: kind.partition(" ")[2] for kind, listed in entries("units").items() if kind.startswith(sort) for name in listed}
    for sort in ("unit", "factor", "vital", "lab", "initial")
)
_WORD = re.compile(r"([^\W_]+)(?:['’][a-z]{1,2}\b)?")


def factor(unit: str) -> float:
    """The size of a unit in the first unit of its kind: milligrams, millilitres, pounds."""
    return float(_FACTORS.get(unit, 1))


class Source(NamedTuple):
    """What a text was written from: as given, without the lines it retracts, whether it is speech, and whether it is English."""

    raw: str
    told: str
    spoken: bool
    english: bool


# Words that mark a line of a source that is not true of the patient.
_TAKEN_BACK = re.compile(r"(?m)^[^\w\n]*(?:REFUTED|NOT DONE|NOT TAKEN|STOPPED|DO NOT PERFORM):.*$")
_BABY_ASPIRIN = re.compile(r"\b(?:baby|low[- ]dose) aspirin\b", re.IGNORECASE)  # 81 mg in the United States
_SPEAKER = re.compile(r"(?m)^\W{0,2}([^\W\d_][\w. ]{0,24})[\]:)]")
_TALK_SHARE, _MOST_SPEAKERS, _LINES_OF_SPEAKERS = 0.03, 6, 0.5


@lru_cache(maxsize=2)
def read_source(source: str) -> Source:
    """A source; ``told`` has blanks for the lines that it retracts, and the dose of a baby aspirin. Notes in keywords count as English."""
    said = Counter(_WORD.findall(source.lower()))
    english = sum(said[word] for word in WORDS["foreign"]) <= sum(said[word] for word in WORDS["english"])
    told = _TAKEN_BACK.sub(lambda found: " " * len(found[0]), source)
    told = _BABY_ASPIRIN.sub(lambda found: "asa 81 mg".ljust(len(found[0])), told)
    return Source(source, told, is_dialogue(source), english)


def is_dialogue(source: str) -> bool:
    """Whether a source is speech, in which a drug and its dose may be far apart."""
    said = re.findall(r"[\w']+", source.lower())
    names = Counter(name.lower() for name in _SPEAKER.findall(source))
    lines = source.count("\n") + 1
    spoken = 0 < len(names) <= _MOST_SPEAKERS and names.total() >= max(4, _LINES_OF_SPEAKERS * lines)
    return spoken or sum(word in WORDS["talk"] for word in said) > _TALK_SHARE * max(1, len(said))


# --- drugs


class Mention(NamedTuple):
    """A drug named in a text: its place, the name used, and the generic names it may mean."""

    start: int
    end: int
    name: str
    drugs: frozenset[str]


_ROWS = [[*map(str.strip, line.split(","))] for line in lines("drugs")]
_DRUG_ENDING = re.compile(rf"[a-z]{{3,25}}(?:{'|'.join(name[1:] for row in _ROWS for name in row if name.startswith('-'))})")
DRUGS: dict[str, frozenset[str]] = {}
for _row in _ROWS:
    DRUGS.update((name, DRUGS.get(name, frozenset()) | {_row[0]}) for name in _row)
_SHORTEST_FOREIGN, _MOST_WORDS = 7, max(name.count(" ") + 1 for name in DRUGS)
_BARE = {name.rstrip("aeos"): drugs for name, drugs in DRUGS.items() if len(name) >= _SHORTEST_FOREIGN}
_NO_DRUGS = frozenset("april protocol cortisol alcohol control patrol cholesterol".split())  # noqa: SIM905


@lru_cache(maxsize=4096)
def drugs_of(word: str) -> frozenset[str]:
    """The generic names of a word in lower case; a drug that is recognised by its ending only is its own generic name."""
    found = DRUGS.get(word) or DRUGS.get(word.removesuffix("s")) or frozenset()
    if not found and len(word) >= _SHORTEST_FOREIGN:  # "metformina", "amoxicilline", "pantoprazol"
        found = _BARE.get(word.rstrip("aeos"), found)
    return found or frozenset([word] if word not in _NO_DRUGS and _DRUG_ENDING.fullmatch(word) else [])


@lru_cache(maxsize=4)
def mentions(text: str) -> Sequence[Mention]:
    """All drug names in a text, the longest at each place."""
    said = list(_WORD.finditer(text))
    words = [one[1].lower() for one in said]
    found: list[Mention] = []
    for at, one in enumerate(said):
        if found and one.start() < found[-1].end:
            continue
        names = (" ".join(words[at : at + count]) for count in range(_MOST_WORDS, 1, -1))
        name = next((name for name in names if name in DRUGS), words[at])
        if drugs := drugs_of(name):
            found.append(Mention(one.start(), said[at + name.count(" ")].end(1), name, drugs))
    return found


# --- the words of a source

_SHORTEST_ALIKE, _SHORTEST_STUB, _ALIKE, _MOST_ALIKE = 5, 3, 0.75, 50


class Heard:
    """The words of a text, to be looked up as written, split ("meto prolol") or misspelled ("mellocksicam")."""

    def __init__(self, text: str) -> None:
        self._said: list[str] = _WORD.findall(text.lower())
        self._text = f" {' '.join(self._said)} "
        pairs = list(map(add, self._said, self._said[1:]))
        self._joined = dict.fromkeys((*self._said, *pairs, *map(add, pairs, self._said[2:])))

    def has(self, names: Iterable[str]) -> bool:
        """Whether one of the names is in the text: as written, in the plural, or split in two or three."""
        return any(
            f" {one} " in self._text or f" {one}s " in self._text or (len(one) >= _SHORTEST_ALIKE and one in self._joined) for one in names
        )

    def begins(self, name: str) -> bool:
        """Whether the longest word of a name begins a word of the text, or a word of the text ("amox") begins it."""
        longest = max(name.split(), key=len)
        return any(word.startswith(longest) or (len(word) >= _SHORTEST_STUB and longest.startswith(word)) for word in self._said)

    def alike(self, names: Iterable[str]) -> list[str]:
        """The words of the text that may be misspellings of one of the names."""
        found: list[str] = []
        for name in (name.replace(" ", "") for name in names if len(name) >= _SHORTEST_ALIKE):
            near = (word for word in self._joined if abs(len(word) - len(name)) <= len(name) // 4)
            shared = [word for word in near if 2 * len(set(word) & set(name)) > len(set(name))]
            found += get_close_matches(name, shared, _MOST_ALIKE, _ALIKE)
        return found


@lru_cache(maxsize=2)
def heard(text: str) -> Heard:
    """The words of a text; several checks ask for the same one."""
    return Heard(text)
