"""Doses bound to their drug: forty milligrams are right for one drug of a source and wrong for another."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import replace

from medgemma_app.validate.core import Issue, Text, excerpt
from medgemma_app.validate.derived import multiples
from medgemma_app.validate.drugs import mentions
from medgemma_app.validate.quantities import Quantity, spoken_quantities, written_quantities
from medgemma_app.validate.values import with_known_doses

_DOSES = {"mass", "units"}
# Letters between a drug and its dose in a note, and how far around a drug a dialogue may speak of its dose.
_DIRECTLY = 30
_AROUND = 300
MOST_ISSUES = 10
MOST_MENTIONS = 500


def dose_of_another(report: Text) -> Iterator[Issue]:
    """Where the source gives a drug's dose, the note gives that drug this dose."""
    written = [one for one in written_quantities(report.text) if one.kind in _DOSES] if report.source else []
    said = _doses(report.source or "") if written else {}
    found = 0
    for name, dose in _dosed(report.text, written):
        doses = said.get(name, ())
        if any(one.kind in _DOSES for one in doses) and not any(round(one.value, 3) == round(dose.value, 3) for one in doses):
            shown = excerpt(report.text[max(0, dose.start - 30) : dose.end + 15])
            yield Issue("dose-mismatch", "warning", f"the source gives another dose of {name}; compare it with the notes", shown)
            found += 1
            if found >= MOST_ISSUES:
                return


def _dosed(text: str, written: list[Quantity]) -> Iterator[tuple[str, Quantity]]:
    """(generic name, dose) where a dose follows its drug directly."""
    drugs = mentions(text)
    ends = [end for _, end, _ in drugs]
    for dose in written:
        at = bisect_left(ends, dose.start + 1) - 1
        if at >= 0 and dose.start - ends[at] <= _DIRECTLY and "." not in text[ends[at] : dose.start]:
            yield drugs[at][2], dose


def _doses(source: str) -> Mapping[str, list[Quantity]]:
    """Generic name -> every number the source has around it."""
    source = with_known_doses(source)
    said = spoken_quantities(source)
    counted = (replace(one, kind="") for one in multiples(said, nearby=True))  # which no source states, but may mean
    numbers = sorted((*said, *counted), key=lambda one: one.start)
    starts = [one.start for one in numbers]
    around: dict[str, list[Quantity]] = {}
    for _, end, name in mentions(source)[:MOST_MENTIONS]:
        around.setdefault(name, []).extend(numbers[bisect_left(starts, end - _AROUND) : bisect_left(starts, end + _AROUND)])
    return around
