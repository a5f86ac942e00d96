"""The medications of a note: whether their doses are those of the source, and whether the source takes them back.

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
from typing import NamedTuple

from medgemma_app.validate.core import Draft, Issue
from medgemma_app.validate.lists import lines
from medgemma_app.validate.quantities import DOSES, Quantity, spoken_quantities, written_quantities
from medgemma_app.validate.source import Source, is_derived

# --- the names of drugs

_WORD = re.compile(r"([^\W_]+)(?:['’][a-z]{1,2}\b)?")


class Mention(NamedTuple):
    """A drug named in a text: its place, the name used, and the generic names it may mean."""

    start: int
    end: int
    name: str
    drugs: frozenset[str]


_ROWS = [[*map(str.strip, line.split(","))] for line in lines("drugs")]
_DRUG_ENDING = re.compile(rf"[a-z]{{3,25}}(?:{'|'.join(name[1:] for row in _ROWS for name in row if name.startswith('-'))})")
_DRUGS: dict[str, frozenset[str]] = {}
for _row in _ROWS:
    _DRUGS.update((name, _DRUGS.get(name, frozenset()) | {_row[0]}) for name in _row)
_SHORTEST_FOREIGN, _MOST_WORDS = 7, max(name.count(" ") + 1 for name in _DRUGS)
_BARE = {name.rstrip("aeos"): drugs for name, drugs in _DRUGS.items() if len(name) >= _SHORTEST_FOREIGN}
_NO__DRUGS = frozenset("april protocol cortisol alcohol control patrol cholesterol".split())  # noqa: SIM905


@lru_cache(maxsize=4096)
def drugs_of(word: str) -> frozenset[str]:
    """The generic names of a word in lower case; a drug that is recognised by its ending only is its own generic name."""
    found = _DRUGS.get(word) or _DRUGS.get(word.removesuffix("s")) or frozenset()
    if not found and len(word) >= _SHORTEST_FOREIGN:  # "metformina", "amoxicilline", "pantoprazol"
        found = _BARE.get(word.rstrip("aeos"), found)
    return found or frozenset([word] if word not in _NO__DRUGS and _DRUG_ENDING.fullmatch(word) else [])


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
        if drugs := drugs_of(name):
            found.append(Mention(one.start(), said[at + name.count(" ")].end(1), name, drugs))
    return found


# --- doses

_CLAUSE_END = re.compile(r"\.\s|[;\n•]")
_LEADS = re.compile(
    r"[^\S\n]*(?:(?:tablets?|capsules?|pills?|tabs?|caps?|doses?)\s+)?(of\s+)?(?:(?:the|your|her|his|oral|iv|po|daily)\s+)?", re.IGNORECASE
)
_NEXT_TO = re.compile(r"\W*(?:(?:at|is|of|to|the|take|about|like|uh|um|just|dose|from|on)\W+){0,3}", re.IGNORECASE)
_A_DAY = re.compile(r" ?(?:mg|mcg|g|units?|ml)?,? ?(?:/|per |a |in |total)", re.IGNORECASE)
_SECOND_PART = re.compile(r" ?(?:mg)? ?[/-] ?$")
_DIRECTLY, _AROUND = 40, 300  # characters
_LEAST_SPOKEN = 5  # "spironolactone, one issue is"
MOST_ISSUES, MOST_MENTIONS = 10, 500


class Fact(NamedTuple):
    """A drug and its dose."""

    drug: Mention
    dose: Quantity

    @property
    def span(self) -> tuple[int, int]:
        """The place of both together."""
        return min(self.drug.start, self.dose.start), max(self.drug.end, self.dose.reach)


def _owned(text: str, doses: Iterable[Quantity]) -> list[Fact]:
    """The doses that directly follow or precede a drug."""
    drugs = mentions(text)[:MOST_MENTIONS]
    starts = [drug.start for drug in drugs]
    facts = []
    for dose in doses:
        at = bisect_left(starts, dose.start)
        before, after = drugs[at - 1] if at else None, drugs[at] if at < len(drugs) else None
        follows = before and 0 <= dose.start - before.end <= _DIRECTLY and not _CLAUSE_END.search(text, before.end, dose.start)
        leads = _LEADS.fullmatch(text, dose.reach, after.start) if after and after.start - dose.reach <= _DIRECTLY else None
        if after and leads and (leads[1] or not follows):
            facts.append(Fact(after, dose))
        elif before and follows:
            facts.append(Fact(before, dose))
    return facts


def _around(source: str, doses: Iterable[Quantity], facts: Sequence[Fact]) -> list[Fact]:
    """In speech, the doses near each drug that do not belong to another drug."""
    owner = {fact.dose.start: fact.drug.drugs for fact in facts}
    said = sorted(doses, key=lambda dose: dose.start)
    starts = [dose.start for dose in said]
    near = ((drug, said[bisect_left(starts, drug.start - _AROUND) : bisect_left(starts, drug.end + _AROUND)]) for drug in mentions(source))
    return [
        Fact(drug, dose) for drug, some in islice(near, MOST_MENTIONS) for dose in some if drug.drugs & owner.get(dose.start, drug.drugs)
    ]


def dose_mismatch(note: Draft, source: Source) -> Iterator[Issue]:
    """A drug that has a dose in the source does not have a dose that the source gives only to another drug."""
    numbers = spoken_quantities(source.told)
    owned = [one for one in _owned(source.told, numbers) if one.dose.kind in DOSES or (not one.dose.kind and _is_bare_dose(one, source))]
    owners: defaultdict[float, set[str]] = defaultdict(set)
    known: defaultdict[str, set[float]] = defaultdict(set)
    for one in owned:
        for amount in one.dose.readings:
            owners[amount].update(one.drug.drugs)
    for one in (*owned, *(_around(source.told, numbers, owned) if source.spoken else ())):
        for name in one.drug.drugs:
            known[name].update(one.dose.readings)
    first = {name: one for one in reversed(owned) for name in one.drug.drugs}
    wrong = (
        one
        for one in _owned(note.text, (one for one in written_quantities(note.text) if one.kind in DOSES))
        if one.drug.drugs & first.keys()
        and any(owners[amount] - one.drug.drugs for amount in one.dose.readings)
        and not any(known[name] & one.dose.readings for name in one.drug.drugs)
        and not _is_total(note.text, one.dose)
    )
    for one in islice(wrong, MOST_ISSUES):
        yield _other_dose(note, one, next(first[name] for name in sorted(one.drug.drugs) if name in first))


def _other_dose(note: Draft, one: Fact, other: Fact) -> Issue:
    found = f"{note.text[one.drug.start : one.drug.end]} {note.text[one.dose.start : one.dose.reach]}"
    expected = (note.source or "")[other.dose.start : other.dose.reach]
    message = f"the note says {found}, the source {expected}"
    return note.issue("dose-mismatch", "warning", message, one.span, source_span=other.span, found=found, expected=expected)


def _is_total(text: str, dose: Quantity) -> bool:
    """Whether a dose is that of a day ("1000 mg/day"), the second part of a combined one ("875/125 mg"), a limit, or a change."""
    a_day = _A_DAY.match(text, dose.end, dose.end + 25)
    return a_day is not None or _SECOND_PART.search(text[max(0, dose.start - 9) : dose.start]) is not None or is_derived(text, dose)


def _is_bare_dose(one: Fact, source: Source) -> bool:
    """Whether a number without a unit is a dose: "lasix 40"."""
    is_next = _NEXT_TO.fullmatch(source.told, one.drug.end, one.dose.start) is not None
    return is_next and one.dose.value >= (_LEAST_SPOKEN if source.spoken else 0)


# --- drugs that the source takes back

_NOT_TAKEN = re.compile(
    r"\b(?:no|not|never|avoid\w*|ceas\w*|contraindicated|declin\w*|den[iy]\w*|discontinu\w*|exclud\w*|former\w*|h[eo]ld|holding|past|previous\w*"
    r"|refus\w*|refut\w*|ruled out|stop\w*|withh\w*)\b|n['’]t\b",
    re.IGNORECASE,
)


def stopped_medication(note: Draft, source: Source) -> Iterator[Issue]:
    """A drug that the source names only in lines that it takes back is named in the note only as stopped, not taken or the like."""
    told, raw = (frozenset(name for one in mentions(said) for name in one.drugs) for said in (source.told, source.raw))
    stopped: dict[frozenset[str], Mention] = {}
    for one in mentions(note.text) if told != raw else ():
        if one.drugs & raw and not one.drugs & told and not _NOT_TAKEN.search(_sentence(note.text, one)):
            stopped.setdefault(one.drugs, one)
    for one in islice(stopped.values(), MOST_ISSUES):
        message = f"the source names {one.name} only as stopped, refuted, not taken or not to be given"
        yield note.issue("stopped-medication", "warning", message, (one.start, one.end), found=one.name)


def _sentence(text: str, one: Mention) -> str:
    """The sentence or the line around a mention, up to a limit on each side."""
    before, after = text[max(0, one.start - _AROUND) : one.start], text[one.end : one.end + _AROUND]
    return f"{_CLAUSE_END.split(before)[-1]} {_CLAUSE_END.split(after)[0]}"
