"""Whether DICOM headers are of one patient. Of what names a patient only digests are kept, and they are never written anywhere."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pydicom import Dataset

READ = ("PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientName")
WHAT_DIFFERS = "PatientID, its issuer, birth date or name"


class PatientDigests(NamedTuple):
    """SHA-256 digests of the elements of ``READ``; None where the header says nothing."""

    patient_id: str | None
    issuer: str | None
    birth_date: str | None
    name: str | None


def take_identity(header: Dataset) -> PatientDigests:
    """The identity in a header, which then holds those elements no longer."""
    patient_id, issuer, birth_date, name = (str(header.get(keyword) or "").strip() for keyword in READ)
    for keyword in READ:
        header.pop(keyword, None)
    words = " ".join(re.findall(r"\w+", name.casefold()))  # "DOE^JANE^^" is "Doe^Jane"
    return PatientDigests(*(_digest(text) for text in (patient_id, issuer, birth_date, words)))


def _digest(text: str) -> str | None:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest() if text else None


def are_several(identities: Iterable[PatientDigests | None]) -> bool:
    """True where two ids, issuers of ids, or birth dates differ.

    Names count only where an id is missing: those of one patient are spelt in many ways.
    """
    known = [identity for identity in identities if identity]
    if not known:
        return False
    *certain, names = (set(values) for values in zip(*known, strict=True))
    nameless = None in certain[0]
    return any(len(values - {None}) > 1 for values in (*certain, *(names,) * nameless))
