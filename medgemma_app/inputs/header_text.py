"""What a header tells, in the words the model is told it by: how a picture was taken, of whom by sex and age; no name, no id, no date."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

Facts: TypeAlias = Mapping[str, Any]  # as header.facts_of gives them

LABELS = ("modality", "body part", "view", "laterality")
SEXES = {"F": "female", "M": "male"}
AGES = {"D": "day", "W": "week", "M": "month", "Y": "year"}


def header_text(header: Facts) -> str | None:
    """One picture: "modality DX, body part CHEST, view PA, female, 58 years"."""
    return ", ".join(filter(None, (_taken(header), _person(header)))) or None


def headers_text(headers: Sequence[Facts], *, of: Facts) -> str | None:
    """Several pictures by their places in the prompt, of the person that the header ``of`` tells of."""
    parts = [f"image {number}: {how}" for number, how in enumerate(map(_taken, headers), 1) if how]
    return "; ".join(filter(None, (*parts, _person(of)))) or None


def side_of(header: Facts) -> str | None:
    return header.get("Laterality") or header.get("ImageLaterality")


def _taken(header: Facts) -> str:
    known = (header.get("Modality"), header.get("BodyPartExamined"), header.get("ViewPosition"), side_of(header))
    return ", ".join(f"{label} {value}" for label, value in zip(LABELS, known, strict=True) if value)


def _person(header: Facts) -> str:
    return ", ".join(word for word in (SEXES.get(header.get("PatientSex") or ""), _age(header.get("PatientAge"))) if word)


def _age(value: str | None) -> str | None:
    """DICOM's "058Y" -> "58 years"."""
    return f"{int(value[:-1])} {AGES[value[-1]]}{'' if int(value[:-1]) == 1 else 's'}" if value else None
