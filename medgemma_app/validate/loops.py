"""Text that repeats itself: a phrase without end, in a row or all over the text, or a passage that stands twice.

Greedy decoding runs into loops (Holtzman et al. 2020); what is allowed was counted in real reports and notes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from medgemma_app.validate.core import LONGEST_TEXT, Issue, Text, excerpt

# Windows of so many words, doubled from one to the next: the short ones find loops of short phrases, the long ones
# loops of phrases that repeat something within themselves.
_DOUBLINGS = 8
_SEARCHED = (4, 16, 64, 256)
# Real notes repeat a sentence twice in 20 % of cases and three times in 1 %, but not in a row.
_ALLOWED_IN_A_ROW = ((1, 7), (2, 4), (7, 3))  # up to so many words in the phrase: so many times
_ALLOWED_LONG = 2
_LONGEST_PERIOD = 400
_PASSAGE = 35  # words: clinicians' notes repeat shorter passages, from the history to the assessment
_PATIENCE = 24  # words that a loop must have before a generation is stopped for it
_BLANKS = {"xxxx"}  # a row of them is de-identification, no loop
_WORD = re.compile(r"[^\W_]+")
_NUMBERING = re.compile(r"(?:^|(?<=[.\s]))\d{1,3}[.)](?=\s)", re.MULTILINE)
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s|\n")
_GRADE = re.compile(r"\b[0-9]{1,2}/[0-9]{1,2}\b")  # "5/5 5/5 5/5 5/5" is a strength
_LABEL = re.compile(r"[^\s:]{1,12}(?: [^\s:]{1,12}){0,2}: ")
_COUNTER = re.compile(r"[0-9]+")
_COUNTING = 12
_SPACE = re.compile(r"\s")
_DRONE = 300  # characters in which nothing but the same few come back: no ruled line of a report is as long
_SAME_LETTERS = re.compile(r"([^\W\d_xX])\1{19}")


def repetition(report: Text) -> Iterator[Issue]:
    """The model got stuck: it said so, or the text shows it; or a passage stands twice."""
    text = _GRADE.sub(" ", _NUMBERING.sub(" ", report.text))
    phrase = loop(text) or refrain(text)
    if phrase is not None or report.finish_reason == "repetition":
        message = "the text repeats itself in a loop; set --repetition-penalty, to 1.1 for a start"
        yield Issue("repetition", "error", message, excerpt(phrase or report.text[-60:]))
    elif len(report.text) <= LONGEST_TEXT and (span := doubled(report.text)):
        yield report.issue("doubled-text", "error", "this passage already stands further up; take one of the two out", span)


def doubled(text: str) -> tuple[int, int] | None:
    """Where the first passage stands that repeats so many words said before, whatever stands between the two."""
    words = list(_WORD.finditer(text))
    said = [word.group().casefold() for word in words]
    seen: dict[tuple[str, ...], int] = {}
    for at in range(len(said) - _PASSAGE + 1):
        first = seen.setdefault(tuple(said[at : at + _PASSAGE]), at)
        if at - first >= _PASSAGE:
            length = next((more for more in range(_PASSAGE, len(said) - at) if said[first + more] != said[at + more]), len(said) - at)
            return words[at].start(), words[at + length - 1].end()
    return None


def loop(text: str) -> str | None:
    """The phrase that a text repeats too often in a row, or None. Time is linear in the text.

    A stretch of period p shows as a run of windows that each stood p words before; the last place of every window is enough.
    Once all windows of a length differ, so do all longer ones.
    """
    stutter = _SAME_LETTERS.search(text)
    if stutter:
        return stutter.group()
    words = _WORD.findall(text.casefold())
    codes, window = list(map(hash, words)), 1
    for _ in range(_DOUBLINGS):
        codes, window = list(map(hash, zip(codes, codes[window:], strict=False))), 2 * window
        if len(set(codes)) == len(codes):
            return None
        found = _periodic(codes, window) if window in _SEARCHED else None
        phrase = words[found[0] : sum(found)] if found else []
        if set(phrase) - _BLANKS:
            return " ".join(phrase)
    return None


def _periodic(codes: list[int], window: int) -> tuple[int, int] | None:
    """(start, period) of the first stretch that repeats too often, as the codes of windows of so many words show it."""
    stretch = _Stretch(window)
    for at, code in enumerate(codes):
        if period := stretch.feed(code):
            return at - period, period
    return None


class _Stretch:
    """The windows, one after the other, as long as each stood a constant number of words before; ``least`` words make a loop."""

    def __init__(self, window: int, *, least: int = 0) -> None:
        self._window, self._least = window, least
        self._at, self._run, self._period = 0, 0, 0
        self._last: dict[int, int] = {}

    def feed(self, code: int) -> int:
        """The number of words after which the text repeats itself, once it has done so too often; else 0."""
        distance = self._at - self._last.get(code, self._at)
        self._last[code] = self._at
        self._at += 1
        self._run = self._run + 1 if distance == self._period else 1
        self._period = distance
        too_often = 0 < distance <= _LONGEST_PERIOD and self._run + self._window > max(distance * _allowed(distance), self._least)
        return distance if too_often else 0


class LoopWatch:
    """Sees a loop as it forms, in text that comes in pieces; the work for a piece does not grow with the text before it.

    More patient than ``loop``: what is stopped cannot be judged again, and some words more cost nothing.
    """

    def __init__(self) -> None:
        self._pending: list[str] = []  # the word under way
        self._tail = ""
        self._words: list[str] = []
        self._stretches = {window: _Stretch(window, least=_PATIENCE) for window in _SEARCHED}

    def feed(self, piece: str) -> bool:
        """True as soon as the text turns in circles with this piece."""
        self._tail = (self._tail + piece)[-_DRONE:]
        if len(self._tail) == _DRONE and any(self._tail[unit:] == self._tail[:-unit] for unit in range(1, 25)):
            return set(self._tail.casefold()) not in ({"x"}, {"x", " "})  # a row of XXXX is de-identification
        *whole, rest = _SPACE.split(piece)
        if not whole:
            self._pending.append(piece)
            return False
        text = "".join([*self._pending, " ".join(whole), "\n" if "\n" in piece else " "])
        self._pending = [rest]
        return any(self._add(word) for word in _WORD.findall(_NUMBERING.sub(" ", text).casefold()))

    def _add(self, word: str) -> bool:
        self._words.append(word)
        for window, stretch in self._stretches.items():
            if len(self._words) >= window and (period := stretch.feed(hash(tuple(self._words[-window:])))):
                return bool(set(self._words[-period:]) - _BLANKS)
        return False


def _allowed(period: int) -> int:
    return next((times for longest, times in _ALLOWED_IN_A_ROW if period <= longest), _ALLOWED_LONG)


def refrain(text: str) -> str | None:
    """A sentence that, with others like it, comes back so often that they make up half the text, or None.

    Four times will do, but eight for a short one: all four sections of a note may say "Not documented." Sentences that differ in
    their numbers only ("in 4 weeks", "in 5 weeks") are a loop that counts, if there are more of them than any table has.
    """
    sentences = [" ".join(part.split()) for part in _SENTENCE_END.split(text.casefold())]
    return _refrain(sentences, 4, 8) or _refrain([_COUNTER.sub("0", sentence) for sentence in sentences], _COUNTING, 2 * _COUNTING)


def _refrain(sentences: list[str], fewest: int, fewest_short: int) -> str | None:
    """The sentence that makes up most, if it and its likes make up half; ``fewest`` times, ``fewest_short`` if of up to three words."""
    counts = Counter(sentence for sentence in sentences if sentence)
    repeated = {sentence: count for sentence, count in counts.items() if count >= (fewest if sentence.count(" ") > 2 else fewest_short)}
    covered = sum(len(sentence) * count for sentence, count in repeated.items())
    # What is said anew of each level or organ moves on: every turn begins with another label.
    labelled = sum(count == 1 and _LABEL.match(sentence) is not None for sentence, count in counts.items())
    if not repeated or labelled >= max(repeated.values()) or 2 * covered < sum(len(sentence) * count for sentence, count in counts.items()):
        return None
    return max(repeated, key=lambda sentence: len(sentence) * repeated[sentence])
