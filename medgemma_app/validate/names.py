"""Medications, allergies and diagnoses of a note that its source does not name."""

from __future__ import annotations

from collections.abc import Iterator

from medgemma_app.validate.common import Issue, Report
from medgemma_app.validate.conditions import LEXICON, NAMES, SUPPORT, by_ending
from medgemma_app.validate.drugs import OTHER_NAMES, drug
from medgemma_app.validate.negation import polarity, scopes, sentences
from medgemma_app.validate.terms import heard, words

MOST_ISSUES = 20


def unnamed_medication(report: Report) -> Iterator[Issue]:
    """A medication or an allergy to one is in the source, by its generic name, a brand, or a misspelling of either."""
    if report.source is None:
        return
    source = heard(report.source)
    named = {found: word for word in heard(report.text).said if (found := drug(word))}
    for found, written in list(named.items())[:MOST_ISSUES]:
        if not any(source.has(name) or source.sounds_like(name) for name in (written, *OTHER_NAMES.get(found, ()))):
            yield Issue("unnamed-medication", "warning", f"the source does not name {written}; check it", written)


def unnamed_diagnosis(report: Report) -> Iterator[Issue]:
    """A diagnosis the note affirms is in the source, in the words of clinicians or of patients, or follows from what is there."""
    if report.source is None:
        return
    source = heard(report.source)
    affirmed = {support: name for name, support in _affirmed(report.text)}
    for support, name in list(affirmed.items())[:MOST_ISSUES]:
        if not any(map(source.has, support)) and not source.sounds_like(name):
            yield Issue("unnamed-diagnosis", "warning", f"the source does not name {name}; check it", name)


def _affirmed(text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(name, what a source may say for it) of the diagnoses a text does not deny."""
    for _, sentence in sentences(text):
        said, no = words(sentence), scopes(sentence)
        listed = list(LEXICON.mentions(said))
        inside = {at for _, first, last in listed for at in range(first, last)}
        ended = [(word.text, at, at + 1) for at, word in enumerate(said) if at not in inside and by_ending(word.text)]
        for name, first, _ in [*listed, *ended]:
            if polarity(no, said[first].start) in ("affirmed", "doubtful"):
                yield name, SUPPORT[NAMES[name]] if name in NAMES else (name,)
