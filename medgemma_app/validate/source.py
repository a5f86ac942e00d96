"""The checks that hold a text against what it was written from."""

from __future__ import annotations

from medgemma_app.validate.core import Check
from medgemma_app.validate.medications import (
    dose_mismatch,
    duration_mismatch,
    frequency_mismatch,
    status_mismatch,
    unnamed_medication,
)
from medgemma_app.validate.narrative import (
    omitted_allergy,
    side_mismatch,
    symptom_mismatch,
    unmentioned_denial,
    unmentioned_exam,
    unnamed_diagnosis,
)
from medgemma_app.validate.person import wrong_age, wrong_sex
from medgemma_app.validate.values import invented_height, invented_value

# Of the patient: also a findings report is held against its indication and its header.
PERSON_CHECKS: tuple[Check, ...] = (wrong_sex, wrong_age)
SOURCE_CHECKS: tuple[Check, ...] = (
    invented_value,
    invented_height,
    dose_mismatch,
    frequency_mismatch,
    duration_mismatch,
    status_mismatch,
    *PERSON_CHECKS,
    unnamed_medication,
    unnamed_diagnosis,
    side_mismatch,
    symptom_mismatch,
    unmentioned_exam,
    unmentioned_denial,
    omitted_allergy,
)
