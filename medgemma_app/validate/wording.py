"""Text that is no language, or that drifts into another one, by Unicode's scripts and the endings of English words."""

from __future__ import annotations

import re
from collections.abc import Iterator

from medgemma_app.validate.core import Issue, Text, excerpt, without_tokens
from medgemma_app.validate.terms import WORD_ENDS

_WORD = re.compile(r"[^\W\d_]+")
_LATIN_OR_GREEK = re.compile(r"[a-z\u00aa-\u03ff\u1d00-\u1fff\u2c60-\u2c7f\ua720-\ua7ff\ufb00-\ufb06\uff21-\uff5a]", re.IGNORECASE)
# The longest word in a medical dictionary, pneumonoultramicroscopicsilicovolcanoconiosis, has 45 letters.
LONGEST_WORD = 60
_FOREIGN_SHARE = 0.2
_LETTER_SHARE = 0.5
_LONG = 4
_FEWEST_WORDS = 5
_WORDLIKE_SHARE = 0.4


def gibberish(report: Text) -> Iterator[Issue]:
    """The text is no language: no words, mostly symbols, endless words, or alphabets mixed within words or throughout."""
    text = without_tokens("\n".join([report.sections.preamble, *(section.body for section in report.sections.sections)]))
    reason, sample = _nonsense(text, _WORD.findall(text))
    if reason:
        yield Issue("gibberish", "error", f"the text is not readable: {reason}; discard it", excerpt(sample))


def _nonsense(text: str, words: list[str]) -> tuple[str, str]:
    """(what is wrong, a sample of it), both empty for readable text."""
    marks, letters = len(re.sub(r"\s+", "", text)), len(re.sub(r"[\W_]+", "", text))
    foreign = _foreign(words)
    rules = (
        ("it has no words", "" if any(len(word) > 1 for word in words) else text),
        ("most of it is symbols", text if letters < _LETTER_SHARE * marks else ""),
        ("a word never ends", next((word for word in words if len(word) > LONGEST_WORD), "")),
        ("a word mixes alphabets", next((word for word in words if _mixed(word)), "")),
        ("its words are none", text if _invented(words) else ""),
        ("it mixes languages", foreign[0] if foreign and _FOREIGN_SHARE <= len(foreign) / len(words) <= 1 - _FOREIGN_SHARE else ""),
    )
    return next(((reason, sample) for reason, sample in rules if sample), ("", ""))


def _invented(words: list[str]) -> bool:
    """Whether hardly a word ends as words in Latin letters do: keys struck at random."""
    long = [word.lower() for word in words if len(word) >= _LONG and word.isascii() and not word.isupper()]
    return len(long) >= _FEWEST_WORDS and sum(word[-2:] in WORD_ENDS for word in long) < _WORDLIKE_SHARE * len(long)


def foreign_script(report: Text) -> Iterator[Issue]:
    """A word in another alphabet amid Latin text: a name perhaps, or a model that drifts into another language."""
    words = _WORD.findall(without_tokens(report.text))
    foreign = _foreign(words)
    if foreign and len(foreign) < _FOREIGN_SHARE * len(words):
        yield Issue("foreign-script", "warning", "a word is written in another alphabet; check it", excerpt(foreign[0]))


def _foreign(words: list[str]) -> list[str]:
    return [word for word in words if not word.isascii() and not _LATIN_OR_GREEK.search(word) and word.isalpha() and len(word) > 1]


def _mixed(word: str) -> bool:
    """Letters of two alphabets in one word; Greek ones are spared, as in TNFα or µg."""
    return not word.isascii() and 0 < len(_LATIN_OR_GREEK.findall(word)) < sum(map(str.isalpha, word))
