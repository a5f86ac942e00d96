"""Denied symptoms and normal examinations of a note that its source does not mention."""

from __future__ import annotations

import re
from collections.abc import Iterator

from medgemma_app.validate.core import Issue, Text, sentence_spans
from medgemma_app.validate.lists import entries, finder
from medgemma_app.validate.terms import Source

_COMMON = frozenset("the and are was were normal clear full soft warm dry present equal non".split())  # noqa: SIM905
_DENIAL = re.compile(r"\b(?:den(?:y|ies|ied|ying)|negative for|no|without)\b", re.IGNORECASE)


def _keys(name: str) -> list[str]:
    """The keys of a list without those that end with "heard", which list other words of a source for the same thing."""
    return [key for key in entries(name) if key.islower() and not key.endswith(" heard")]


def unmentioned_denial(text: Text, source: Source) -> Iterator[Issue]:
    """The source mentions each symptom that the note denies; one warning lists those that it does not."""
    first: dict[str, tuple[int, int]] = {}
    for start, end in sentence_spans(text.text):
        denial = _DENIAL.search(text.text, start, end)
        for found in finder("symptoms", *_keys("symptoms")).finditer(text.text, denial.end(), end) if denial else ():
            first.setdefault((found.lastgroup or "").replace("_", " "), found.span())
    silent = [span for key, span in first.items() if not finder("symptoms", key, f"{key} heard").search(source.raw)]
    if silent:
        names, span = ", ".join(text.text[slice(*one)].lower() for one in silent), silent[0]
        message = f"the note denies symptoms that the source does not mention: {names}"
        yield text.issue("unmentioned-denial", "warning", message, span, found=names)


def unmentioned_exam(text: Text, source: Source) -> Iterator[Issue]:
    """The source mentions each part of the body whose examination the note calls normal."""
    plain, spoken = re.sub(r"[^\w\n.;]", " ", text.text), " " + " ".join(re.findall(r"\w+", source.raw.lower()))
    for key in _keys("exams"):
        found = finder("exams", key).search(plain)
        own = [word for word in re.findall("[a-z]{3,}", found[0].lower()) if word not in _COMMON] if found else []
        if found and not finder("exams", f"{key} heard").search(source.raw) and not any(f" {word}" in spoken for word in own):
            message = f"the source does not mention this examination: {' '.join(found[0].lower().split())}"
            yield text.issue("unmentioned-exam", "warning", message, found.span(), found=text.text[slice(*found.span())])
