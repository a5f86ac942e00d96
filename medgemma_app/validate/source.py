"""The checks that hold a text against what it was written from."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from medgemma_app.validate import medications, narrative, person, values
from medgemma_app.validate.core import Check, Issue, Text
from medgemma_app.validate.terms import Source, read_source


def _with_source(check: Callable[[Text, Source], Iterator[Issue]], *, in_english: bool = False) -> Check:
    """A check that says nothing where there is no source, or none in the language of its word lists."""

    def checked(text: Text) -> Iterator[Issue]:
        source = None if text.source is None else read_source(text.source)
        if source and (source.english or not in_english):
            yield from check(text, source)

    return checked


_DRUGS = (medications.dose_mismatch, medications.frequency_mismatch, medications.duration_mismatch, medications.status_mismatch)
_ENGLISH = (
    narrative.side_mismatch,
    narrative.unmentioned_exam,
    narrative.unmentioned_denial,
)
# Of the patient: also a findings report is held against its indication and its header.
PERSON_CHECKS: tuple[Check, ...] = (_with_source(person.wrong_sex), _with_source(person.wrong_age))
SOURCE_CHECKS: tuple[Check, ...] = (
    *map(_with_source, (values.invented_value, *_DRUGS)),
    *PERSON_CHECKS,
    *map(_with_source, (medications.unnamed_medication, narrative.omitted_allergy)),
    *(_with_source(check, in_english=True) for check in _ENGLISH),
)
