"""Medications, allergies and diagnoses of a note that its source does not name."""

from __future__ import annotations

import re
from collections.abc import Iterator

from medgemma_app.validate.conditions import LEXICON, NAMES, SUPPORT, by_ending
from medgemma_app.validate.core import Issue, Text
from medgemma_app.validate.drugs import OTHER_NAMES, drug
from medgemma_app.validate.negation import polarity, scopes, sentences
from medgemma_app.validate.terms import heard, words

MOST_ISSUES = 20
_PLACES = re.compile(
    r"\b(?P<dosed>[a-z]{6,30})(?: of)? [0-9][0-9.,]{0,7} ?(?:mg|mcg|g|gm|units?|milligrams?|micrograms?|grams?|iu)\b(?!/)"
    r"|\ballerg(?:ic|y) to (?:the )?(?P<allergen>[a-z]{5,30})\b",
    re.IGNORECASE,
)
# Words that stand there and name nothing.
_NO_NAMES = frozenset(
    """dosage dosages tablet tablets capsule capsules another increase increased decrease decreased reduced lowered currently approximately
    strength additional total around medication medications between higher previous starting greater glucose protein carbohydrates sodium
    multiple several certain seasonal environmental unknown medicine anything insulin maximum weekly nightly once-daily twice""".split()  # noqa: SIM905
)
_EPONYM = re.compile(r"\b(?P<name>[A-Z][a-z]{2,20}(?:-[A-Z][a-z]{2,20})?)(?:['’]s)? (?:syndrome|disease|palsy|phenomenon)\b")


def unnamed_medication(report: Text) -> Iterator[Issue]:
    """A medication or an allergy to one is in the source, by its generic name, a brand, or a misspelling of either."""
    if report.source is None:
        return
    source = heard(report.source)
    named = {found: word for word in heard(report.text).said if (found := drug(word))}
    named.update((word, word) for word in _by_place(report.text) if drug(word) is None)
    for found, written in list(named.items())[:MOST_ISSUES]:
        spellings = (written, *OTHER_NAMES.get(found, ()))
        if not any(map(source.has, spellings)) and not source.shortened(written) and not any(map(source.sounds_like, spellings)):
            yield Issue("unnamed-medication", "warning", f"the source does not name {written}; check it", written)


def _by_place(text: str) -> Iterator[str]:
    """What must be a medication, or an allergen, by where it stands: before a dose, or after "allergic to"."""
    for found in _PLACES.finditer(text):
        word = (found["dosed"] or found["allergen"]).lower()
        if word not in _NO_NAMES:
            yield word


def unnamed_diagnosis(report: Text) -> Iterator[Issue]:
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
        for name, start in _diagnoses(sentence):
            if polarity(scopes(sentence), start) in ("affirmed", "doubtful"):
                yield name, SUPPORT[NAMES[name]] if name in NAMES else (name, *name.split("-"))


def _diagnoses(sentence: str) -> Iterator[tuple[str, int]]:
    """(name, where it starts) of the diagnoses a sentence names: by the list, by their ending, or after a person."""
    said, starts, _ = words(sentence)
    listed = list(LEXICON.mentions(said))
    yield from ((name, starts[first]) for name, first, _ in listed)
    inside = {starts[at] for _, first, last in listed for at in range(first, last)}
    yield from ((word, start) for word, start in zip(said, starts, strict=True) if by_ending(word) and start not in inside)
    yield from ((one["name"].lower(), one.start()) for one in _EPONYM.finditer(sentence) if one.start() not in inside)
