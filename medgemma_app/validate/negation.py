"""Which words of a sentence are denied: a compact NegEx (Chapman et al. 2001) with ConText's scopes (Harkema et al. 2009)."""

from __future__ import annotations

import re
from collections.abc import Iterator

# What begins a denial; it reaches to the end of its clause.
_BEFORE = (
    r"no|not|denies|denied|deny|denying|without|negative for|absent|absence of|free of|never|nor|neither|rather than|ruled? out|rules out"
    r"|rather than|resolved|clear of|don't|doesn't|didn't|isn't|aren't|wasn't|hasn't|haven't|n't|cannot|unlikely|family history of"
    r"|mother|father|brother|sister|if|should|risk of|risks?|prevent|screen(?:ing)? for|versus|possible|possibly|concern for|could|may|might"
)
_AFTER = r"(?:is|are|was|were|has been|have been|had) (?:\w+ )?(?:absent|negative|denied|excluded|resolved|ruled out|not|unlikely)|: (?:no|none|negative|absent|denies|denied)"
# What ends it.
_BUT = r"but|however|except|although|though|yet|aside from|other than|apart from|endorses|reports|admits|complains|states|presents|positive"
_SENTENCE = re.compile(r"[^.!?;\n•]+(?:[.](?=\S)[^.!?;\n•]+)*")
_SCOPE = re.compile(rf"\b(?:(?P<no>{_BEFORE})|(?P<but>{_BUT}))\b|(?P<nt>n['’]t\b)", re.IGNORECASE)
_LATER = re.compile(_AFTER, re.IGNORECASE)


def sentences(text: str) -> Iterator[tuple[int, str]]:
    """(start, sentence) of every sentence, list item or line."""
    return ((found.start(), found.group()) for found in _SENTENCE.finditer(text))


def denied(sentence: str) -> list[tuple[int, int]]:
    """The stretches of a sentence that a denial, a doubt or another person covers."""
    if _LATER.search(sentence):
        return [(0, len(sentence))]
    stretches: list[tuple[int, int]] = []
    begun: int | None = None
    for found in _SCOPE.finditer(sentence):
        if found["but"] and begun is not None:
            stretches.append((begun, found.start()))
            begun = None
        elif not found["but"] and begun is None:
            begun = found.end()
    return stretches if begun is None else [*stretches, (begun, len(sentence))]


def covers(stretches: list[tuple[int, int]], at: int) -> bool:
    """Whether a place lies in one of the stretches."""
    return any(start <= at < end for start, end in stretches)
