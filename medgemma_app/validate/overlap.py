"""One section that says again what another has said; how much real notes and reports repeat was counted in the corpora."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations

from medgemma_app.validate.core import Issue, Text, excerpt

_WORD = re.compile(r"[^\W_]+")
_WINDOW = 5
# Real notes open the assessment with the first sentence of the history, and an impression may be one sentence of the findings.
_FEWEST_WORDS = 20
_SHARE = 0.6
MOST_SECTIONS = 12


def repeated_section(report: Text) -> Iterator[Issue]:
    """Most of one section is repeated word for word in another; a combined section counts once."""
    bodies = [section.body for section in report.sections.sections if len(_WORD.findall(section.body)) >= _FEWEST_WORDS]
    windows = [_windows(_WORD.findall(body.casefold())) for body in bodies[:MOST_SECTIONS]]
    for (first, one), (second, other) in combinations(enumerate(windows), 2):
        small, where = (one, first) if one.total() <= other.total() else (other, second)
        if (one & other).total() >= _SHARE * small.total():
            yield Issue("repeated-section", "warning", "a section repeats most of another; it should say its own", excerpt(bodies[where]))
            return


def _windows(words: Sequence[str]) -> Counter[int]:
    return Counter(hash(tuple(words[at : at + _WINDOW])) for at in range(len(words) - _WINDOW + 1))
