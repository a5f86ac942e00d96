"""Sizes in a radiology report: where they may stand, and that both sections give the same."""

from __future__ import annotations

import re
from collections.abc import Iterator

from medgemma_app.validate.core import Issue, Text, excerpt
from medgemma_app.validate.numbers import SMALL

# "1.2 cm", "3 x 4 mm", "1.2 x 3.4 x 2 cm"
_SPELLED = {word: value for word, value in SMALL.items() if value and word not in ("o", "oh")}
_SIZE = re.compile(
    rf"\b((?:{'|'.join(_SPELLED)})(?=[ -])"
    r"|[0-9]{1,4}(?:\.[0-9]{1,3})?(?:[ -]?(?:x|×|by|to|-)[ -]?[0-9]{1,4}(?:\.[0-9]{1,3})?){0,2})"
    r"[ -]?(mm|cm|millimet(?:er|re)s?|centimet(?:er|re)s?)\b",
    re.IGNORECASE,
)
_CHANGE = re.compile(
    r"\b[0-9.]{1,5} ?(?:mm|cm) (?:of )?(?:growth|increase|decrease|larger|smaller|bigger|longer|interval|change)"
    r"|\b(?:by|grown|shrunk) [0-9.]{1,5} ?(?:mm|cm)",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,3})?")
_SAME = 0.5  # mm; and a tenth of the size, for rounding


def unscaled_measurement(report: Text) -> Iterator[Issue]:
    """A picture without pixel spacing cannot be measured (DICOM PS3.3 C.7.6.3: Pixel Spacing, Imager Pixel Spacing)."""
    if report.header is None or report.header.pixel_spacing:
        return
    for section in report.required:
        found = _SIZE.search(report.sections.texts().get(section, ""))
        if found:
            message = "a size is given, and the picture has no scale to measure by; take it out"
            yield Issue("unscaled-measurement", "warning", message, excerpt(found.group()))
            return


def measurement_mismatch(report: Text) -> Iterator[Issue]:
    """A size in the impression is one of those in the findings, as far as these give any."""
    texts = report.sections.texts()
    measured = [size for size, _ in _sizes(texts.get("findings", ""))]
    for size, written in _sizes(_CHANGE.sub(" ", texts.get("impression", ""))) if measured else ():
        if not any(abs(size - other) <= max(_SAME, 0.1 * other) for other in measured[:100]):
            yield Issue("measurement-mismatch", "warning", "the impression gives a size that the findings do not", excerpt(written))
            return


def _sizes(text: str) -> Iterator[tuple[float, str]]:
    """(millimetres, as written) of every size."""
    for found in _SIZE.finditer(text):
        factor = 10.0 if found[2].lower().startswith("c") else 1.0
        spelled = _SPELLED.get(found[1].lower())
        for number in _NUMBER.findall(found[1]) if spelled is None else (spelled,):
            yield factor * float(number), found.group()
