"""What a note says although its source is silent, and what it leaves out although the source says it.

Hallucinations and omissions are what evaluations of generated notes count (Ben Abacha et al. 2023).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from medgemma_app.validate.core import Issue, Severity, Text, excerpt
from medgemma_app.validate.drugs import OTHER_NAMES, drug
from medgemma_app.validate.negation import sentences
from medgemma_app.validate.quantities import spoken_quantities, written_quantities
from medgemma_app.validate.symptoms import EXAMS, LEXICON, SUPPORT, SYMPTOMS
from medgemma_app.validate.terms import heard, words
from medgemma_app.validate.units import VITALS

_DENIAL = re.compile(r"\b(?:den(?:ies|ied|ying)|negative for|no|without)\b", re.IGNORECASE)
_VITAL_KINDS = frozenset(VITALS.values()) - {"height", "weight"}
_COMPLAINT = re.compile(r"(?im)^\W{0,3}(?:chief |presenting )?(?:complaint|reason for visit)s?\s{0,3}:([^\n]{3,200})")
_ALLERGY = re.compile(r"\ballerg(?:y|ies|ic)(?: to|:)\s{1,3}(?:the )?([a-z]{4,30})\b", re.IGNORECASE)
_ASKED = re.compile(
    r"\b(?:are you|is (?:he|she)|any|not|no|never|if|whether|have you|do you)\b[^.]{0,20}$|n['’]t\b[^.]{0,20}$", re.IGNORECASE
)
_NO_ALLERGIES = re.compile(
    r"\bno known (?:drug |medication |food )?allerg|\bnkd?a\b|\ballergies: ?none|\bdenies (?:any )?allerg", re.IGNORECASE
)
_NO_ALLERGENS = frozenset(
    """none known nkda that this them those these anything some medications medication medicine medicines drugs foods food""".split()  # noqa: SIM905
)
MOST_ISSUES = 10
_FEWEST_LETTERS = 4


def unmentioned_exam(report: Text) -> Iterator[Issue]:
    """A normal examination is of a part the source speaks of."""
    if report.source is None:
        return
    text, source = report.text.lower(), report.source.lower()
    for pattern, support in EXAMS:
        found = pattern.search(text)
        if found and not support.search(source):
            yield Issue(
                "unmentioned-exam",
                "warning",
                "the source mentions no such examination; check it",
                excerpt(report.text[slice(*found.span())]),
            )


def unmentioned_denial(report: Text) -> Iterator[Issue]:
    """A symptom the patient denies is one the source speaks of."""
    if report.source is None:
        return
    source = heard(report.source)
    denials = ((name, sentence) for sentence in _denials(report.text) for name, _, _ in LEXICON.mentions(words(sentence).texts))
    first = {SYMPTOMS[name]: (name, sentence) for name, sentence in denials}
    silent = [found for group, found in first.items() if not any(map(source.has, SUPPORT[group]))]
    for name, sentence in silent[:MOST_ISSUES]:
        yield Issue("unmentioned-denial", "warning", f"the source does not speak of {name}; check it", excerpt(sentence))


def _denials(text: str) -> Iterator[str]:
    """The parts of sentences that a denial begins."""
    for _, sentence in sentences(text):
        found = _DENIAL.search(sentence)
        if found:
            yield sentence[found.end() :]


def omitted_medication(report: Text) -> Iterator[Issue]:
    """A medication of the source is in the note, by any of its names."""
    note = heard(report.text)
    said = dict.fromkeys(found for word in heard(report.source or "").said if (found := drug(word)))
    missing = (name for name in said if not any(map(note.has, (name, *OTHER_NAMES.get(name, ())))))
    for name in islice(missing, MOST_ISSUES):
        yield Issue("omitted-medication", "info", f"the source speaks of {name}, the note does not", name)


def omitted_allergy(report: Text) -> Iterator[Issue]:
    """An allergy the source names is in the note."""
    note, source = heard(report.text), report.source or ""
    found = list(_ALLERGY.finditer(source))[:50]
    named = dict.fromkeys(one[1].lower() for one in found if not _ASKED.search(source[max(0, one.start() - 30) : one.start()]))
    for allergy in named:
        if allergy not in _NO_ALLERGENS and not any(map(note.has, (allergy, *OTHER_NAMES.get(drug(allergy) or "", ())))):
            denied = _NO_ALLERGIES.search(report.text) is not None
            severity: Severity = "warning" if denied else "info"
            message = f"the source speaks of an allergy to {allergy}, the note {'denies any' if denied else 'does not'}"
            yield Issue("omitted-allergy", severity, message, allergy)


def omitted_vital(report: Text) -> Iterator[Issue]:
    """A vital sign the source gives a value for is in the note."""
    written = {one.kind for one in written_quantities(report.text)}
    for kind in dict.fromkeys(one.kind for one in spoken_quantities(report.source or "") if one.kind in _VITAL_KINDS):
        if kind not in written:
            yield Issue("omitted-vital", "info", f"the source gives the {kind}, the note does not", kind)


def omitted_complaint(report: Text) -> Iterator[Issue]:
    """The complaint a source names under that heading is in the note."""
    found = _COMPLAINT.search(report.source or "")
    if found:
        note = {word[:_FEWEST_LETTERS] for word in heard(report.text).said}
        said = {word[:_FEWEST_LETTERS] for word in words(found[1]).texts if len(word) >= _FEWEST_LETTERS}
        if said and said.isdisjoint(note):
            yield Issue("omitted-complaint", "info", "the complaint in the source is not in the note", excerpt(found[1]))
