"""Text that repeats itself: a phrase in an endless loop, or a long passage that appears twice.

Greedy decoding tends to loop (Holtzman et al. 2020). The limits come from counts in real reports and notes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from medgemma_app.validate.core import LONGEST_TEXT, WORD, Draft, Issue, excerpt

# Lengths in words of the n-grams that are compared: short ones find loops of short phrases; long ones, phrases that repeat their own words.
_LENGTHS = (4, 16, 64, 256)
# 20% of real notes contain a sentence twice and 1% three times, but not in a row.
_ALLOWED_IN_A_ROW = ((1, 7), (2, 4), (7, 3), (400, 2))  # (longest phrase in words, repetitions allowed)
_PATIENCE = 24  # a generation is stopped only for loops of at least this many words
_CERTAIN = 100  # a generation ends after this many consecutive words that appeared before; clinicians' notes have at most 32
_PASSAGE = 35  # words; clinicians repeat shorter passages of the history in the assessment
_BLANKS = {"xxxx"}  # marks removed identifiers, so a row of them is not a loop
# Before two words or more: "1. No", "2. No" answer a list of questions.
_NUMBERING = re.compile(r"(?:^|(?<=[.\s]))\d{1,3}[.)](?=\s+[^\W\d_]+[ \t-]+[^\W\d_])", re.MULTILINE)
_GRADE = re.compile(r"\b[0-9]{1,2}/[0-9]{1,2}\b")  # muscle strength: "5/5 5/5 5/5 5/5"
_UNSPACED = 300  # characters of one short pattern; ruled lines in reports are shorter


def repetition(draft: Draft) -> Iterator[Issue]:
    """Flags a generation that ended in a loop, a text that contains one, and a long passage that appears twice."""
    text = _GRADE.sub(" ", _NUMBERING.sub(" ", draft.text))
    phrase = loop(text) or unspaced_loop(draft.text)
    if not phrase and len(draft.text) <= LONGEST_TEXT and (span := doubled(draft.text)):
        words = len(WORD.findall(draft.text[slice(*span)]))
        yield draft.issue(
            "doubled-text", "error", f"these {words} words already appear earlier in the text; remove one of the two passages", span
        )
    elif phrase or draft.finish_reason == "repetition":
        message = "the text repeats itself in a loop; try --repetition-penalty 1.1"
        yield Issue("repetition", "error", message, excerpt(phrase or draft.text[-60:]))


def doubled(text: str) -> tuple[int, int] | None:
    """The span of the first passage of at least 35 words that appeared before, anywhere in the text."""
    words = list(WORD.finditer(text))
    said = [word.group().casefold() for word in words]
    seen: dict[tuple[str, ...], int] = {}
    for at in range(len(said) - _PASSAGE + 1):
        first = seen.setdefault(tuple(said[at : at + _PASSAGE]), at)
        if at - first >= _PASSAGE:
            length = next((more for more in range(_PASSAGE, len(said) - at) if said[first + more] != said[at + more]), len(said) - at)
            return words[at].start(), words[at + length - 1].end()
    return None


def loop(text: str) -> str:
    """The phrase that a text repeats too often in a row, or "". Runs in linear time."""
    repeats = _Repeats()
    found = (phrase for word in WORD.findall(text.casefold()) if (phrase := repeats.add(word)))
    return " ".join(next(found, ()))


def unspaced_loop(text: str) -> str:
    """The first 300 characters that repeat a pattern of up to 24, or "", such as "肺肺肺". Ruled lines and blanks do not count."""
    parts = (text[at : at + _UNSPACED] for at in range(0, len(text) - _UNSPACED + 1, _UNSPACED // 2))
    return next((part for part in parts if _is_one_pattern(part) and any(map(str.isalnum, part))), "")


def _is_one_pattern(part: str) -> bool:
    """Whether 300 characters repeat one pattern; a row of XXXX only marks removed identifiers."""
    repeats = any(part[unit:] == part[:-unit] for unit in range(1, 25))
    return repeats and set(part.casefold()) not in ({"x"}, {"x", " "})


class _Repeats:
    """Words in order, and for each length of n-grams, how many of them in a row have repeated at the same distance."""

    def __init__(self, *, least: int = 0, most: float = math.inf) -> None:
        self._least, self._most = least, most  # fewest repeated words to report, and the number that is always too many
        self._words: list[str] = []
        self._last: dict[tuple[int, int], int] = {}  # length and hash of an n-gram -> its last place
        self._runs = dict.fromkeys(_LENGTHS, (0, 0))  # period, and how many n-grams in a row it has held for

    def add(self, word: str) -> list[str]:
        """The phrase that this word repeats once too often, or an empty list."""
        self._words.append(word)
        at = len(self._words)
        for length in _LENGTHS:
            if at < length:
                break
            key = length, hash(tuple(self._words[-length:]))
            period = at - self._last.get(key, at)
            self._last[key] = at
            held = self._runs[length][1] + 1 if period == self._runs[length][0] else 1
            self._runs[length] = period, held
            allowed = next((period * times for longest, times in _ALLOWED_IN_A_ROW if period <= longest), math.inf)
            if period and held + length > max(min(allowed, self._most), self._least):
                phrase = self._words[-period:]
                return phrase if set(phrase) - _BLANKS else []
        return []


class LoopWatch:
    """Detects a loop while text is generated; the work for each piece does not depend on the length of the text so far.

    It waits longer than ``loop``, because a generation that was stopped cannot be resumed.
    """

    def __init__(self) -> None:
        self._pending: list[str] = []  # the unfinished word
        self._tail = ""
        self._repeats = _Repeats(least=_PATIENCE, most=_CERTAIN)

    def feed(self, piece: str) -> bool:
        """Whether the text loops, now that this piece has been added."""
        self._tail = (self._tail + piece)[-_UNSPACED:]
        if len(self._tail) == _UNSPACED and _is_one_pattern(self._tail):
            return True
        end = max((at for at, char in enumerate(piece, 1) if char.isspace()), default=0)
        whole = "".join([*self._pending, piece[:end]]) if end else ""
        if end:
            self._pending.clear()
        self._pending.append(piece[end:])
        return any(self._repeats.add(word) for word in WORD.findall(_NUMBERING.sub(" ", whole).casefold()))
