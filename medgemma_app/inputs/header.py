"""The facts of a DICOM header, in a form that cannot name a person; and whether two headers are of one patient.

Free text in a coded field could hold a name. A value is kept only if it is a term in use for that field
(``data/*.txt``), a code or a number. Elements that name the patient are kept as digests only, which are never written anywhere.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from medgemma_app.inputs.lines import list_words
from medgemma_app.notices import counted

if TYPE_CHECKING:
    from pydicom import Dataset

# Fields by their DICOM keywords, under which the JSON record has them.
KEYWORDS = {
    "modality": "Modality", "body_part": "BodyPartExamined", "view": "ViewPosition", "laterality": "Laterality", "sex": "PatientSex",
    "age": "PatientAge", "study_date": "StudyDate", "pixel_spacing": "PixelSpacing",
    "photometric_interpretation": "PhotometricInterpretation", "burned_in_annotation": "BurnedInAnnotation",
    "presentation_intent": "PresentationIntentType",
}  # fmt: skip
SECOND_KEYWORDS = {"laterality": "ImageLaterality", "pixel_spacing": "ImagerPixelSpacing"}
OF_PATIENT = ("PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientName")
WHAT_DIFFERS = "PatientID, its issuer, birth date or name"
HEADER_KEYWORDS = (*KEYWORDS.values(), *SECOND_KEYWORDS.values())
PICTURE_FIELDS = {"modality": "modality", "body part": "body_part", "view": "view", "laterality": "laterality"}
LATERALITIES = {
    "L": "L", "R": "R", "U": "U", "B": "B", "LEFT": "L", "RIGHT": "R", "LT": "L", "RT": "R", "UNPAIRED": "U", "BOTH": "B", "BILATERAL": "B",
}  # fmt: skip
SEX_WORDS = {"F": "female", "M": "male"}
AGES = {"D": "day", "W": "week", "M": "month", "Y": "year"}


@dataclass(frozen=True, kw_only=True)
class ImageHeader:
    """The facts of a header; None where a fact is missing or not in its safe form.

    ``age`` is as DICOM writes it ("058Y"), ``study_date`` is YYYYMMDD, ``pixel_spacing`` is rows and columns in mm.
    """

    modality: str | None = None
    body_part: str | None = None
    view: str | None = None
    laterality: str | None = None
    sex: str | None = None
    age: str | None = None
    study_date: str | None = None
    pixel_spacing: tuple[float, float] | None = None
    photometric_interpretation: str | None = None
    burned_in_annotation: str | None = None
    presentation_intent: str | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ImageHeader:
        """From DICOM keywords and values: a JSON record, or a pydicom Dataset. Values of another form are left out."""
        found: dict[str, Any] = {}
        for field, keyword in KEYWORDS.items():
            value = _safe(field, values.get(keyword))
            found[field] = _safe(field, values.get(SECOND_KEYWORDS.get(field, ""))) if value is None else value
        return cls(**found)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, by DICOM keywords."""
        spacing = None if self.pixel_spacing is None else list(self.pixel_spacing)
        return {keyword: spacing if field == "pixel_spacing" else getattr(self, field) for field, keyword in KEYWORDS.items()}

    def describe(self) -> str | None:
        """The words in the prompt: "modality DX, body part CHEST, view PA, female, 58 years"; no date."""
        return ", ".join(filter(None, (self.describe_picture(), self.describe_patient()))) or None

    def describe_picture(self) -> str:
        """How the picture was taken."""
        return ", ".join(f"{label} {value}" for label, field in PICTURE_FIELDS.items() if (value := getattr(self, field)))

    def describe_patient(self) -> str:
        """Sex and age."""
        return ", ".join(word for word in (SEX_WORDS.get(self.sex or ""), _age_in_words(self.age)) if word)


def describe_all(headers: Sequence[ImageHeader], *, patient: ImageHeader) -> str | None:
    """Describes several pictures by their positions in the prompt, and the patient once."""
    parts = [f"image {number}: {how}" for number, header in enumerate(headers, 1) if (how := header.describe_picture())]
    return "; ".join(filter(None, (*parts, patient.describe_patient()))) or None


def _age_in_words(age: str | None) -> str | None:
    """ "058Y" -> "58 years"."""
    return counted(int(age[:-1]), AGES[age[-1]]) if age else None


def _safe(field: str, value: Any) -> Any:
    """The value in its safe form, or None."""
    if field == "pixel_spacing":
        return _spacing(value)
    text = str(value or "").strip().upper()
    if field == "laterality":
        return LATERALITIES.get(text)
    return text if _forms()[field](text) else None


def _spacing(value: Any) -> tuple[float, float] | None:
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
        return None
    try:
        down, across = (float(number) for number in value)
    except (TypeError, ValueError):
        return None
    return (down, across) if 0 < down < math.inf and 0 < across < math.inf else None


@cache
def _forms() -> dict[str, Callable[[str], object]]:
    """For each field, a test of whether a value in capitals is safe to repeat (DICOM PS3.5, value representations CS, AS, DA)."""
    modalities, parts, words = ("|".join(list_words(name)) for name in ("modalities", "body_parts", "views"))
    views = rf"{words}|[1-9][\W_]?VIEWS?|[1-9]V"
    return {
        "modality": re.compile(modalities).fullmatch,
        "body_part": _made_of(f"{parts}|{views}"),
        "view": _made_of(views),
        "sex": re.compile("[MFO]").fullmatch,
        "age": re.compile(r"[0-9]{1,3}[DWMY]").fullmatch,
        "study_date": re.compile(r"(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])").fullmatch,
        "photometric_interpretation": re.compile(
            r"MONOCHROME[12]|PALETTE COLOR|RGB|YBR_(?:FULL|FULL_422|PARTIAL_42[02]|ICT|RCT)"
        ).fullmatch,
        "burned_in_annotation": re.compile("YES|NO").fullmatch,
        "presentation_intent": re.compile("FOR PRESENTATION|FOR PROCESSING").fullmatch,
    }  # fmt: skip


def _made_of(words: str) -> Callable[[str], object]:
    return re.compile(rf"(?=.{{1,32}}\Z)(?:{words})(?:[ _/-]+(?:{words})){{0,5}}").fullmatch


class PatientDigests(NamedTuple):
    """SHA-256 digests of the elements of ``OF_PATIENT``; None where the header says nothing."""

    patient_id: str | None
    issuer: str | None
    birth_date: str | None
    name: str | None


def take_patient(header: Dataset) -> PatientDigests:
    """Removes the elements that name the patient from a header, and returns their digests."""
    patient_id, issuer, birth_date, name = (str(header.get(keyword) or "").strip() for keyword in OF_PATIENT)
    for keyword in OF_PATIENT:
        header.pop(keyword, None)
    words = " ".join(re.findall(r"\w+", name.casefold()))  # "DOE^JANE^^" is "Doe^Jane"
    return PatientDigests(*(_digest(text) for text in (patient_id, issuer, birth_date, words)))


def _digest(text: str) -> str | None:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest() if text else None


def are_several(patients: Iterable[PatientDigests | None]) -> bool:
    """True where two ids, issuers of ids, or birth dates differ.

    Names count only if an id is missing, since one patient's name may be spelt in many ways.
    """
    known = [patient for patient in patients if patient]
    if not known:
        return False
    *certain, names = (set(values) for values in zip(*known, strict=True))
    nameless = None in certain[0]
    return any(len(values - {None}) > 1 for values in (*certain, *(names,) * nameless))
