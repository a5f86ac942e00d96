"""The checks that hold a text against what it was written from."""

from __future__ import annotations

from medgemma_app.validate.core import Check
from medgemma_app.validate.doses import dose_of_another
from medgemma_app.validate.frequencies import frequency_of_another
from medgemma_app.validate.names import unnamed_diagnosis, unnamed_medication
from medgemma_app.validate.person import wrong_age, wrong_sex
from medgemma_app.validate.silence import (
    omitted_allergy,
    omitted_complaint,
    omitted_medication,
    omitted_vital,
    unmentioned_denial,
    unmentioned_exam,
)
from medgemma_app.validate.values import implausible_vital, invented_height, invented_value

# Of the patient: also a findings report is held against its indication and its header.
PERSON_CHECKS: tuple[Check, ...] = (wrong_sex, wrong_age)
SOURCE_CHECKS: tuple[Check, ...] = (
    invented_value,
    invented_height,
    dose_of_another,
    frequency_of_another,
    *PERSON_CHECKS,
    implausible_vital,
    unnamed_medication,
    unnamed_diagnosis,
    unmentioned_exam,
    unmentioned_denial,
    omitted_medication,
    omitted_allergy,
    omitted_vital,
    omitted_complaint,
)
