"""The medications of a note: doses that the source gives to another drug, tenfold doses, and drugs that the source lists as stopped.

A dose belongs to the drug that it directly follows or precedes ("lisinopril 20 mg", "20 mg of lisinopril"). In speech the two may be
far apart, so there a dose is accepted anywhere near the drug, unless it belongs to another drug.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from math import isclose
from typing import NamedTuple

from medgemma_app.validate.core import Draft, Issue
from medgemma_app.validate.lists import lines
from medgemma_app.validate.quantities import DOSES, Quantity, spoken_quantities, written_quantities
from medgemma_app.validate.source import Source, is_derived

# --- the names of drugs

_WORD = re.compile(r"([^\W_]+)(?:['’][a-z]{1,2}\b)?")
_DRUGS: dict[str, frozenset[str]] = {}  # a name -> the generic names it may mean
for _line in lines("drugs"):
    _names = [name.strip() for name in _line.split(",")]
    _DRUGS.update((name, _DRUGS.get(name, frozenset()) | {_names[0]}) for name in _names)
_SHORTEST_FOREIGN, _MOST_WORDS = 7, max(name.count(" ") + 1 for name in _DRUGS)
_BARE = {name.rstrip("aeos"): drugs for name, drugs in _DRUGS.items() if len(name) >= _SHORTEST_FOREIGN}


class Mention(NamedTuple):
    """A drug named in a text: its place, the name used, and the generic names it may mean."""

    start: int
    end: int
    name: str
    drugs: frozenset[str]


@lru_cache(maxsize=4)
def mentions(text: str) -> Sequence[Mention]:
    """All drug names in a text, the longest at each place."""
    said = list(_WORD.finditer(text))
    words = [one[1].lower() for one in said]
    found: list[Mention] = []
    for at, one in enumerate(said):
        if found and one.start() < found[-1].end:
            continue
        names = (" ".join(words[at : at + count]) for count in range(_MOST_WORDS, 1, -1))
        name = next((name for name in names if name in _DRUGS), words[at])
        if drugs := _drugs_of(name):
            found.append(Mention(one.start(), said[at + name.count(" ")].end(1), name, drugs))
    return found


def _drugs_of(word: str) -> frozenset[str]:
    """The generic names of a word in lower case, also in the plural and in other languages ("metformina", "pantoprazol")."""
    found = _DRUGS.get(word) or _DRUGS.get(word.removesuffix("s"))
    return found or (_BARE.get(word.rstrip("aeos")) if len(word) >= _SHORTEST_FOREIGN else None) or frozenset()


# --- doses

_CLAUSE_END = re.compile(r"\.\s|[;\n•]")
_LEADS = re.compile(
    r"[^\S\n]*(?:(?:tablets?|capsules?|pills?|tabs?|caps?|doses?)\s+)?(of\s+)?(?:(?:the|your|her|his|oral|iv|po|daily)\s+)?", re.IGNORECASE
)
_NEXT_TO = re.compile(r"\W*(?:(?:at|is|of|to|the|take|about|like|uh|um|just|dose|from|on)\W+){0,3}", re.IGNORECASE)
_A_DAY = re.compile(r" ?(?:mg|mcg|g|units?|ml)?,? ?(?:/|per |a |in |total)", re.IGNORECASE)
_SECOND_PART = re.compile(r" ?(?:mg)? ?[/-] ?$")
_DIRECTLY, _AROUND = 40, 300  # characters
_TIMES_TEN = re.compile(r"\b(?:10|ten) ?(?:x\b|×|cap|comp|pill|tab|(?<= )[0-9])|[x×] ?10\b", re.IGNORECASE)  # "ten 2.5 mg tablets"
_MOST_ISSUES, _MOST_MENTIONS = 10, 500


class DrugDose(NamedTuple):
    """A drug and its dose."""

    drug: Mention
    dose: Quantity

    @property
    def span(self) -> tuple[int, int]:
        """The place of both together."""
        return min(self.drug.start, self.dose.start), max(self.drug.end, self.dose.reach)


def dose_mismatch(note: Draft, source: Source) -> Iterator[Issue]:
    """Flags a drug with a dose that the source gives only to another drug, or ten times or a tenth of a dose that it gives to this one."""
    for one, other in islice(_mismatches(note, source), _MOST_ISSUES):
        found = f"{note.text[one.drug.start : one.drug.end]} {note.text[one.dose.start : one.dose.reach]}"
        expected = source.standing[other.dose.start : other.dose.reach]
        message = f"the note says {found}, the source {expected}"
        yield note.issue("dose-mismatch", "warning", message, one.span, source_span=other.span, found=found, expected=expected)


def _mismatches(note: Draft, source: Source) -> Iterator[tuple[DrugDose, DrugDose]]:
    """The doses of the note that are another drug's or tenfold, each with the dose that the source gives to this drug."""
    numbers = spoken_quantities(source.standing)
    stated = [one for one in _doses(source.standing, numbers) if _is_dose(source.standing, one)]
    known: defaultdict[str, set[float]] = defaultdict(set)
    for one in (*stated, *(_around(source.standing, numbers, stated) if source.spoken else ())):
        for name in one.drug.drugs:
            known[name] |= one.dose.readings
    given = {reading for one in numbers if not one.kind or one.kind in DOSES for reading in one.readings}
    for one in _doses(note.text, (one for one in written_quantities(note.text) if one.kind in DOSES)):
        of_drug = next((other for other in stated if other.drug.drugs & one.drug.drugs), None)
        is_known = any(known[name] & one.dose.readings for name in one.drug.drugs)
        if not of_drug or is_known or _is_total(note.text, one.dose):
            continue
        if _is_of_another(one, stated):
            yield one, of_drug
        elif given.isdisjoint(one.dose.readings) and (
            other := next((each for each in stated if _is_tenfold(one, each, source.standing)), None)
        ):
            yield one, other


def _is_tenfold(one: DrugDose, other: DrugDose, source: str) -> bool:
    """Whether a dose is ten times, or a tenth of, a dose of the same drug that the source gives in digits and with a unit.

    A strength of which ten tablets are taken and a dose per kilogram do not count.
    """
    written, stated = one.dose, other.dose
    is_ratio = isclose(written.value, 10 * stated.value) or isclose(stated.value, 10 * written.value)
    is_same = bool(one.drug.drugs & other.drug.drugs) and written.kind == stated.kind and source[stated.start].isdigit()
    is_single = not _TIMES_TEN.search(source, max(0, stated.start - 12), stated.reach + 30)
    return is_ratio and is_same and is_single and not _is_total(source, stated)


def _is_of_another(one: DrugDose, stated: Iterable[DrugDose]) -> bool:
    """Whether the source gives this dose to a drug that is not this one."""
    return any(other.dose.readings & one.dose.readings and other.drug.drugs - one.drug.drugs for other in stated)


def _doses(text: str, quantities: Iterable[Quantity]) -> list[DrugDose]:
    """The quantities that directly follow or precede a drug."""
    drugs = mentions(text)[:_MOST_MENTIONS]
    starts = [drug.start for drug in drugs]
    found = []
    for one in quantities:
        at = bisect_left(starts, one.start)
        before, after = drugs[at - 1] if at else None, drugs[at] if at < len(drugs) else None
        follows = before and 0 <= one.start - before.end <= _DIRECTLY and not _CLAUSE_END.search(text, before.end, one.start)
        leads = _LEADS.fullmatch(text, one.reach, after.start) if after and after.start - one.reach <= _DIRECTLY else None
        if after and leads and (leads[1] or not follows):
            found.append(DrugDose(after, one))
        elif before and follows:
            found.append(DrugDose(before, one))
    return found


def _around(source: str, quantities: Iterable[Quantity], stated: Iterable[DrugDose]) -> Iterator[DrugDose]:
    """In speech, the quantities near each drug that do not belong to another drug."""
    owner = {one.dose.start: one.drug.drugs for one in stated}
    said = sorted(quantities, key=lambda one: one.start)
    starts = [one.start for one in said]
    for drug in mentions(source)[:_MOST_MENTIONS]:
        near = said[bisect_left(starts, drug.start - _AROUND) : bisect_left(starts, drug.end + _AROUND)]
        yield from (DrugDose(drug, one) for one in near if drug.drugs & owner.get(one.start, drug.drugs))


def _is_dose(source: str, one: DrugDose) -> bool:
    """Whether the quantity beside a drug is a dose; without a unit, only right after the drug: "lasix 40"."""
    is_next = _NEXT_TO.fullmatch(source, one.drug.end, one.dose.start) is not None
    return one.dose.kind in DOSES or (not one.dose.kind and is_next)


def _is_total(text: str, dose: Quantity) -> bool:
    """Whether a dose is a daily total ("1000 mg/day"), the second part of a combined dose ("875/125 mg"), a limit, or a change."""
    a_day = _A_DAY.match(text, dose.end, dose.end + 25)
    return a_day is not None or _SECOND_PART.search(text[max(0, dose.start - 9) : dose.start]) is not None or is_derived(text, dose)


# --- drugs that the source lists as stopped

_NOT_TAKEN = re.compile(
    r"\b(?:no|not|never|avoid\w*|ceas\w*|contraindicated|declin\w*|den[iy]\w*|discontinu\w*|exclud\w*|former\w*|h[eo]ld|holding|past|previous\w*"
    r"|refus\w*|refut\w*|ruled out|stop\w*|withh\w*)\b|n['’]t\b",
    re.IGNORECASE,
)


def stopped_medication(note: Draft, source: Source) -> Iterator[Issue]:
    """Flags a drug that the source names only in retracted lines, unless the note also calls it stopped, not taken or the like."""
    standing, raw = (frozenset(name for one in mentions(text) for name in one.drugs) for text in (source.standing, source.raw))
    stopped: dict[frozenset[str], Mention] = {}
    for one in mentions(note.text) if standing != raw else ():
        if one.drugs & raw and not one.drugs & standing and not _NOT_TAKEN.search(_sentence(note.text, one)):
            stopped.setdefault(one.drugs, one)
    for one in islice(stopped.values(), _MOST_ISSUES):
        message = f"the source lists {one.name} only as stopped, refuted, not taken or not to be given"
        yield note.issue("stopped-medication", "warning", message, (one.start, one.end), found=one.name)


def _sentence(text: str, one: Mention) -> str:
    """The sentence or the line around a mention, up to a limit on each side."""
    before, after = text[max(0, one.start - _AROUND) : one.start], text[one.end : one.end + _AROUND]
    return f"{_CLAUSE_END.split(before)[-1]} {_CLAUSE_END.split(after)[0]}"
