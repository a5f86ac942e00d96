"""The medications of a note: whether their doses are those of the source, and whether the source names them.

A dose belongs to the drug that it directly follows or precedes ("lisinopril 20 mg", "20 mg of lisinopril"). In speech the two may be
far apart, so there a dose is accepted anywhere near the drug, unless it belongs to another drug.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from medgemma_app.validate.core import Issue, Text
from medgemma_app.validate.quantities import DOSES, Quantity, spoken_quantities, written_quantities
from medgemma_app.validate.terms import DRUGS, Mention, Source, heard, mentions
from medgemma_app.validate.values import is_derived

_CLAUSE_END = re.compile(r"\.\s|[;\n•]")
_LEADS = re.compile(
    r"[^\S\n]*(?:(?:tablets?|capsules?|pills?|tabs?|caps?|doses?)\s+)?(of\s+)?(?:(?:the|your|her|his|oral|iv|po|daily)\s+)?", re.IGNORECASE
)
_NEXT_TO = re.compile(r"\W*(?:(?:at|is|of|to|the|take|about|like|uh|um|just|dose|from|on)\W+){0,3}", re.IGNORECASE)
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


def dose_mismatch(text: Text, source: Source) -> Iterator[Issue]:
    """A drug that has a dose in the source does not have a dose that the source gives only to another drug."""
    numbers = spoken_quantities(source.told)
    owned = [one for one in _owned(source.told, numbers) if one.dose.kind in DOSES or (not one.dose.kind and _is_bare_dose(one, source))]
    owners: defaultdict[float, set[str]] = defaultdict(set)
    known: defaultdict[str, set[float]] = defaultdict(set)
    for one in owned:
        for amount in _amounts(one.dose):
            owners[amount].update(one.drug.drugs)
    for one in (*owned, *(_around(source.told, numbers, owned) if source.spoken else ())):
        for name in one.drug.drugs:
            known[name].update(_amounts(one.dose))
    first = {name: one for one in reversed(owned) for name in one.drug.drugs}
    wrong = (
        one
        for one in _owned(text.text, (one for one in written_quantities(text.text) if one.kind in DOSES))
        if one.drug.drugs & first.keys()
        and any(owners[amount] - one.drug.drugs for amount in _amounts(one.dose))
        and not any(known[name] & _amounts(one.dose) for name in one.drug.drugs)
        and not is_derived(text.text, one.dose)
    )
    for one in islice(wrong, MOST_ISSUES):
        yield _other_dose(text, one, next(first[name] for name in sorted(one.drug.drugs) if name in first))


def _other_dose(text: Text, one: Fact, other: Fact) -> Issue:
    found = f"{text.text[one.drug.start : one.drug.end]} {text.text[one.dose.start : one.dose.reach]}"
    expected = (text.source or "")[other.dose.start : other.dose.reach]
    message = f"the note says {found}, the source {expected}"
    return text.issue("dose-mismatch", "warning", message, one.span, source_span=other.span, found=found, expected=expected)


def _is_bare_dose(one: Fact, source: Source) -> bool:
    """Whether a number without a unit is a dose: "lasix 40"."""
    is_next = _NEXT_TO.fullmatch(source.told, one.drug.end, one.dose.start) is not None
    return is_next and one.dose.value >= (_LEAST_SPOKEN if source.spoken else 0)


def _amounts(dose: Quantity) -> set[float]:
    """A dose in its own unit and in milligrams, so that it can be compared with a number without a unit."""
    return {round(dose.value, 3), round(dose.number, 3)}


_NOT_TAKEN = re.compile(
    r"\b(?:no|not|never|avoid\w*|ceas\w*|contraindicated|declin\w*|den[iy]\w*|discontinu\w*|exclud\w*|former\w*|h[eo]ld|holding|past|previous\w*"
    r"|refus\w*|refut\w*|ruled out|stop\w*|withh\w*)\b|n['’]t\b",
    re.IGNORECASE,
)


def unnamed_medication(text: Text, source: Source) -> Iterator[Issue]:
    """Each drug of the note is named in the source: by its generic name, by a brand, abbreviated, or misspelled.

    If the source names a drug only in lines that it retracts, such as drugs that were stopped, the note must say so too.
    """
    told, raw = (frozenset(name for one in mentions(said) for name in one.drugs) for said in (source.told, source.raw))
    unsaid: dict[frozenset[str], tuple[Mention, str]] = {}
    for one in mentions(text.text):
        if len(unsaid) == MOST_ISSUES:
            break
        if one.drugs in unsaid or one.drugs & told or _is_heard(one, source.told):
            continue
        if not (one.drugs & raw or _is_heard(one, source.raw)):
            unsaid[one.drugs] = one, f"the source does not name {one.name}"
        elif not _NOT_TAKEN.search(_sentence(text.text, one)):
            unsaid[one.drugs] = one, f"the source names {one.name} only as stopped, refuted, not taken or not to be given"
    for one, message in unsaid.values():
        yield text.issue("unnamed-medication", "warning", message, (one.start, one.end), found=one.name)


def _is_heard(one: Mention, source: str) -> bool:
    """Whether a source names a drug by another name, by a misspelling, or by the beginning of its name."""
    said = heard(source)
    names = (one.name, *(other for other in DRUGS if DRUGS[other] & one.drugs)) if one.name in DRUGS else (one.name,)
    return said.has(names) or said.begins(one.name) or any(word not in DRUGS for word in said.alike(names))


def _sentence(text: str, one: Mention) -> str:
    """The sentence or the line around a mention, up to a limit on each side."""
    before, after = text[max(0, one.start - _AROUND) : one.start], text[one.end : one.end + _AROUND]
    return f"{_CLAUSE_END.split(before)[-1]} {_CLAUSE_END.split(after)[0]}"
