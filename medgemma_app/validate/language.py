"""An answer in another language than it was asked for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from medgemma_app.validate.core import Issue, Text, excerpt, without_tokens

# The commonest words of each language that are no words of the others and no clinical abbreviations.
_COMMON = {
    "English": "the of and with is are no was has in for to on this that not there patient normal",
    "Spanish": "el los las del una por se es está para que y su sin con paciente presenta derecho izquierdo",
    "French": "le les des une avec pour est sont et dans du la pas sans sur patiente droit gauche aucun",
    "German": "der die das und mit ist sind ein eine nicht kein keine im von bei zu patient rechts links",
    "Italian": "il lo gli della con è sono una nel di che senza nella paziente destro sinistro senza",
    "Portuguese": "os da com para não é uma sem em na dos das paciente direito esquerdo",
    "Dutch": "de het een en van niet geen voor zijn wordt patiënt rechts links",
}
_WORDS = {language: frozenset(words.split()) for language, words in _COMMON.items()}
_WORD = re.compile(r"[^\W\d_]+")
_LATIN = re.compile(r"[a-z\u00aa-\u024f\u0370-\u03ff]")
_FEWEST = 7
_SHARE = 0.12
_DISTINCT = 3  # one or two may be names or abbreviations


def other_language(report: Text) -> Iterator[Issue]:
    """A report is in English, as the prompts are, or in the language of its source."""
    text = without_tokens(report.text)
    found = _language(text)
    if found not in ("English", "") and found != _language(report.source or ""):
        yield Issue("other-language", "warning", f"the answer is in {found}; set --temperature above 0 to get another one", excerpt(text))


def _language(text: str) -> str:
    """The language whose common words a text uses most, "another alphabet" where most words are in one, "" where none stands out."""
    words = Counter(_WORD.findall(text.lower()))
    if 2 * sum(count for word, count in words.items() if not _LATIN.search(word)) > words.total():
        return "another alphabet"
    counts = {
        language: sum(words[word] for word in common) for language, common in _WORDS.items() if len(words.keys() & common) >= _DISTINCT
    }
    best = max(counts, key=lambda language: counts[language], default="")
    return best if best and words.total() >= _FEWEST and counts[best] >= _SHARE * words.total() else ""
