"""The checks that hold a text against what it was written from."""

from __future__ import annotations

from medgemma_app.validate import medications, narrative, person, values
from medgemma_app.validate.core import Check

# Of the patient: also a findings report is held against its indication and its header.
PERSON_CHECKS: tuple[Check, ...] = (person.wrong_sex, person.wrong_age)
SOURCE_CHECKS: tuple[Check, ...] = (
    values.invented_value,
    medications.dose_mismatch,
    medications.frequency_mismatch,
    medications.duration_mismatch,
    medications.status_mismatch,
    *PERSON_CHECKS,
    medications.unnamed_medication,
    narrative.unnamed_diagnosis,
    narrative.side_mismatch,
    narrative.symptom_mismatch,
    narrative.unmentioned_exam,
    narrative.unmentioned_denial,
    narrative.omitted_allergy,
)
