"""Which words of a sentence are denied or in doubt: a compact NegEx (Chapman et al. 2001) with ConText's scopes (Harkema et al. 2009)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

Polarity: TypeAlias = Literal["affirmed", "denied", "doubtful", "aside"]

# What opens a scope; it reaches to the end of its clause.
_NO = (
    r"no|not|denie[sd]|deny|denying|without|negative|absent|absence of|free of|free from|never|nor|neither|rather than|ruled? out"
    r"|rules out|clear of|don't|doesn't|didn't|isn't|aren't|wasn't|weren't|hasn't"
    r"|haven't|cannot|none|lack of|unremarkable for"
)
_MAYBE = (
    r"versus|vs|possibl[ey]|probabl[ey]|concern(?:s|ed|ing)? for|could|may|might|suspect\w*|suggest\w*|likely|question\w*|history of|prior"
    r"|previous\w*|or|appears?|consider|due to|sequela|related|consistent|compatible|XXXX|represent\w*"
)
# What is said of another person, of another time, or of what is not known yet.
_ASIDE = (
    r"if|should|would be|risks?|prevent\w*|screen(?:ing)? for|unlikely|family history|mother|father|brother|sister|resolved|evaluate|rule"
    r"|exclude|differential|when|vaccin\w+|test(?:ed|ing)? for"
)
# What ends it.
_BUT = (
    r"but|however|except|although|though|yet|aside from|other than|apart from|besides|endorses|reports|admits|complains|states|presents"
    r"|positive|with the exception|there (?:is|are)"
)
# What denies the whole clause from behind.
_LATER = re.compile(
    r"(?:is|are|was|were|has been|have been|had) (?:\w+ )?(?:absent|negative|denied|excluded|resolved|ruled out|not|unlikely|less likely)\b"
    r"|:[*_ ]{1,4}(?:no|none|negative|absent|denies|denied)\b",
    re.IGNORECASE,
)
_OPEN = re.compile(
    r"\b(?:can ?not|can['’]t|could not|not|difficult to|hard to) (?:be )?(?:\w+ly )?(?:exclude|rule|evaluate|assess|confirm)", re.IGNORECASE
)
_SENTENCE = re.compile(r"[^.!?;\n•]+(?:[.](?=\S)[^.!?;\n•]+)*")
_CUE = re.compile(rf"\b(?:(?P<no>{_NO})|(?P<aside>{_ASIDE})|(?P<maybe>{_MAYBE})|(?P<but>{_BUT}))\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Scope:
    """A stretch of a sentence that is denied or in doubt."""

    start: int
    end: int
    polarity: Polarity


def sentences(text: str) -> Iterator[tuple[int, str]]:
    """(start, sentence) of every sentence, list item or line."""
    return ((found.start(), found.group()) for found in _SENTENCE.finditer(text))


@lru_cache(maxsize=1024)
def scopes(sentence: str) -> Sequence[Scope]:
    """The denied and doubtful stretches of a sentence, in its order; a doubt inside a denial changes nothing."""
    if _OPEN.search(sentence):
        return (Scope(0, len(sentence), "doubtful"),)
    if _LATER.search(sentence):
        return (Scope(0, len(sentence), "denied"),)
    found: list[Scope] = []
    begun: tuple[int, Polarity] | None = None
    for cue in _CUE.finditer(sentence):
        kind: Polarity | None = "denied" if cue["no"] else "aside" if cue["aside"] else "doubtful" if cue["maybe"] else None
        if begun and (kind is None or (begun[1] == "doubtful" and kind != "doubtful")):
            found.append(Scope(begun[0], cue.start(), begun[1]))
            begun = None
        if begun is None and kind:
            begun = (cue.end(), kind)
    return (*found, Scope(begun[0], len(sentence), begun[1])) if begun else tuple(found)


def polarity(stretches: Sequence[Scope], at: int) -> Polarity:
    """Whether a place in a sentence is denied, doubtful or neither."""
    return next((scope.polarity for scope in stretches if scope.start <= at < scope.end), "affirmed")
