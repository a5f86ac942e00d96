"""What a text says of each medication: its dose, how often and how long, and whether it is started or stopped.

A dose belongs to the drug that it directly follows or leads ("lisinopril 20 mg", "20 mg of lisinopril"). In speech the two may
stand far apart, so there the numbers around a drug count too, unless they are another drug's.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from medgemma_app.validate.core import Code, Issue, Text
from medgemma_app.validate.quantities import Quantity, spoken_quantities, written_quantities
from medgemma_app.validate.terms import DRUGS, Mention, affirmed, drugs_of, heard, is_dialogue, is_english, mentions
from medgemma_app.validate.values import is_sum, known_doses, multiples, said_in

_PLACES = re.compile(
    r"\b(?P<dosed>[a-z]{6,30})(?: of)? (?P<dose>[0-9][0-9.,]{0,7} ?(?:mg|mcg|g|gm|units?|milligrams?|micrograms?|grams?|iu)\b)(?!/)"
    r"|\ballerg(?:ic|y) to (?:the )?(?P<allergen>[a-z]{5,30})\b",
    re.IGNORECASE,
)
# Words that stand there and name nothing.
_NO_NAMES = frozenset(
    """dosage dosages tablet tablets capsule capsules another increase increased decrease decreased reduced lowered currently approximately
    strength additional total around medication medications between higher previous starting greater glucose protein carbohydrates sodium
    multiple several certain seasonal environmental unknown medicine anything insulin maximum weekly nightly once-daily twice increasing
    decreasing titrated current initial loading single release calories fluids fluid caffeine fiber ounces continue ferritin""".split()  # noqa: SIM905
)
_CLAUSE_END = re.compile(r"\.\s|[;\n•]")
_LEADS = re.compile(
    r"[^\S\n]*(?:(?:tablets?|capsules?|pills?|tabs?|caps?|doses?)\s+)?(of\s+)?(?:(?:the|your|her|his|oral|iv|po|daily)\s+)?", re.IGNORECASE
)
_NEXT_TO = re.compile(r"\W*(?:(?:at|is|of|to|the|take|about|like|uh|um|just|dose|from|on)\W+){0,3}", re.IGNORECASE)
_ANOTHER = re.compile(r",|\band\b|[0-9]", re.IGNORECASE)
_DOSES = {"mass", "units", "equivalents"}
_DIRECTLY, _OF_A_COURSE, _AROUND = 40, 80, 300
_LEAST_SPOKEN = 5  # "spironolactone, one issue is"
_LONG_WORD = 6
MOST_ISSUES, MOST_MENTIONS = 10, 500

_COUNTS = {"once": 1, "twice": 2, "thrice": 3, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
_COUNT = rf"(?:{'|'.join(_COUNTS)}|[1-6])"
_HOURS = {"four": 4, "six": 6, "eight": 8, "twelve": 12}
_CODES = {"bid": 2, "bd": 2, "tid": 3, "tds": 3, "qid": 4, "qds": 4}
_EVERY = rf"(?:{'|'.join(_HOURS)}|[1-9]|1[02]|24)"
_FREQUENCY = re.compile(
    rf"(?<![0-9.,])(?P<count>{_COUNT})(?:,? ?(?:or|to|-) ?(?P<more>{_COUNT}))?"
    r"(?:(?: times| ?x| (?:tablet|pill|capsule|tab|cap|puff|drop|spray)s?)|(?<![0-9]))"
    r"[ /](?:(?:a|per|each|every|in a)[ -])?(?P<period>day|daily|week|weekly|month|monthly)\b"
    rf"|\b(?:every |q\.? ?)(?P<hours>{_EVERY})(?:(?: to |-| or )(?P<to>{_EVERY}))?"
    r"(?: ?(?:h|hrs?|hours?)|(?<=q[0-9])|(?<=q[0-9][0-9])|(?<=-[0-9]))\b"
    r"|\b(?P<code>b\.?i\.?d|t\.?i\.?d|q\.?i\.?d|bd|tds|qds)\b|\b(?P<weekly>weekly|every week)\b"
    r"|\b(?P<daytimes>[012]-[012]-[012](?:-[012])?)(?![-0-9])"
    r"|\b(?:daily|a day|per day|qd|od|every day|nightly|qhs|qam|qpm|(?:every|in the|each|at) (?:morning|evening|night|bedtime))\b",
    re.IGNORECASE,
)
_PERIODS = {"w": 7, "m": 30}
_OPEN = re.compile(r"\b(?:meals?|breakfast|morning|evening|night|bedtime|needed|prn|taper|directed|schedule)\b", re.IGNORECASE)
_COURSE = re.compile(
    r"(?:\b(?:for|x|course of|complete|over|für|durante|por|pendant|pdt)\W{0,2}(?:the |a |an |next |another |a total of |about )?|×\s?)$",
    re.IGNORECASE,
)
_OF_COURSE = re.compile(r"[\s-]+(?:course|supply|of\b|total\b)", re.IGNORECASE)
_DAYS = {
    **dict.fromkeys("d day tag tage tagen jour día dia".split(), 1.0),  # noqa: SIM905
    **dict.fromkeys("w wk week woche wochen semaine semana".split(), 7.0),  # noqa: SIM905
    **dict.fromkeys("mo month monat monate moi mois mes mese".split(), 30.0),  # noqa: SIM905
    **dict.fromkeys("y yr year jahr jahre an año".split(), 365.0),  # noqa: SIM905
    **dict.fromkeys("h hr hour stunde stunden heure hora".split(), 1 / 24),  # noqa: SIM905
}
_ONE = re.compile(r"\b(?:an?|one|last|next|this|past|per|each|every|the|previous) (hour|day|week|month|year)\b", re.IGNORECASE)
_NO_STRETCH = re.compile(r"(?:\b(?:every|each|q|per|past|age)|\() ?(?:[0-9]+ ?(?:-|–|to) ?)?$", re.IGNORECASE)  # how often, or computed
_STRETCH = re.compile(r"(?!few|couple)(?!.*\.\s)[^\n]+", re.IGNORECASE)
_ABOUT = 0.08  # four weeks are a month

_VERBS = {
    "start": "start(?:ed|ing|s)?|begin(?:ning|s)?|began|initiat(?:e|ed|es|ing)|add(?:ed|ing)?|commenc(?:e|ed|ing)",
    "stop": "stop(?:ped|ping|s)?|discontinu(?:e|ed|ing|es)|hold(?:ing)?|held|ceas(?:e|ed)|withhold",
    "continue": "continu(?:e|ed|es|ing)|keep taking|resum(?:e|ed|ing)|stay on|remain on",
    "increase": "increas(?:e|ed|ing)|go up on|doubl(?:e|ed|ing)",
    "decrease": "decreas(?:e|ed|ing)|reduc(?:e|ed|ing)|lower(?:ed|ing)?|cut(?:ting)? back on|wean(?:ed|ing)?",
}
_VERB = re.compile(rf"\b(?:{'|'.join(f'(?P<{name}>{verbs})' for name, verbs in _VERBS.items())})\b", re.IGNORECASE)
_OPPOSITE = {
    "start": {"stop"},
    "continue": {"stop"},
    "stop": {"start", "continue", "increase"},
    "increase": {"decrease", "stop"},
    "decrease": {"increase"},
}
_UNDONE = re.compile(
    r"\b(?:not?|n't|never|don't|if|without|before|unless|instead of|until|when|prior to|rather than)\b|n't\b", re.IGNORECASE
)


class Fact(NamedTuple):
    """Something said of a drug: what, and where."""

    drug: Mention
    value: object
    start: int
    end: int


def _owner(text: str, drugs: Sequence[Mention], starts: Sequence[int], start: int, end: int, farthest: int) -> Mention | None:
    """The drug that what stands from start to end directly follows or leads."""
    at = bisect_left(starts, start)
    before, after = drugs[at - 1] if at else None, drugs[at] if at < len(drugs) else None
    gap = text[before.end : start] if before and before.end <= start and start - before.end <= farthest else None
    follows = gap is not None and not _CLAUSE_END.search(gap)
    leads = _LEADS.fullmatch(text, end, after.start) if after and after.start - end <= _DIRECTLY else None
    if leads and (leads[1] or not follows or _ANOTHER.search(gap or "")):
        return after
    return before if follows else None


def _owned(text: str, spans: Iterable[tuple[object, int, int]], farthest: int) -> list[Fact]:
    drugs = mentions(text)[:MOST_MENTIONS]
    starts = [drug.start for drug in drugs]
    owners = ((_owner(text, drugs, starts, start, end, farthest), value, start, end) for value, start, end in spans)
    return [Fact(owner, value, start, end) for owner, value, start, end in owners if owner]


@lru_cache(maxsize=4)
def _doses(text: str, *, written: bool) -> list[Fact]:
    """The doses that a text gives its drugs directly; a source may leave out their unit right behind the drug."""
    numbers = written_quantities(text) if written else spoken_quantities(known_doses(text))
    facts = _owned(
        text, ((one, one.start, one.reach) for one in numbers if one.kind in _DOSES or (not written and not one.kind)), _DIRECTLY
    )
    return [one for one in facts if _kind(one) or _NEXT_TO.fullmatch(text, one.drug.end, one.start)]


def _kind(fact: Fact) -> str:
    return fact.value.kind if isinstance(fact.value, Quantity) else ""


def dose_mismatch(text: Text) -> Iterator[Issue]:
    """Where the source gives a drug a dose, the note gives this drug that dose; what no drug has in the source is an invented value."""
    if text.source is None:
        return
    source = affirmed(text.source)
    said, facts, issues = said_in(source), _doses(source, written=False), 0
    near_drugs, unowned = (_around(source, facts), []) if is_dialogue(source) else ({}, _unowned(source, facts))
    for fact in _doses(text.text, written=True):
        dose = fact.value
        if not isinstance(dose, Quantity) or not said.has(dose) or is_sum(text.text, dose):
            continue
        direct = [one for one in facts if one.drug.drugs & fact.drug.drugs and (_kind(one) or not near_drugs or _is_sizeable(one))]
        near = [one for name in sorted(fact.drug.drugs) for one in near_drugs.get(name, ())] + unowned
        known = [one.value for one in direct if isinstance(one.value, Quantity)] + near
        if (direct or any(one.kind in _DOSES for one in near_drugs.get(min(fact.drug.drugs), ()))) and not any(
            _is_same(dose, one) for one in known
        ):
            other = next((one for one in direct if _kind(one)), direct[0] if direct else None)
            yield _mismatch(text, "dose-mismatch", fact, text.text[dose.start : dose.reach], other)
            issues += 1
            if issues >= MOST_ISSUES:
                return


def _is_same(dose: Quantity, other: Quantity) -> bool:
    return round(other.value, 3) == round(dose.value, 3) or (not other.unit and round(other.value, 3) == round(dose.number, 3))


def _is_sizeable(fact: Fact) -> bool:
    return isinstance(fact.value, Quantity) and fact.value.value >= _LEAST_SPOKEN


def _unowned(source: str, facts: Sequence[Fact]) -> list[Quantity]:
    """The numbers of a written source that may be the dose of any drug."""
    owned = {fact.start for fact in facts}
    return [one for one in spoken_quantities(known_doses(source)) if one.start not in owned and (not one.kind or one.kind in _DOSES)]


def _around(source: str, facts: Sequence[Fact]) -> dict[str, list[Quantity]]:
    """Drug -> the numbers around it in speech, but for those that belong to another drug, and what tablets are counted out."""
    said = spoken_quantities(known_doses(source))
    owner = {fact.start: fact.drug.drugs for fact in facts if _kind(fact)}
    counted = (replace(one, kind="") for one in multiples(said, nearby=True))
    numbers = sorted((*said, *counted), key=lambda one: one.start)
    starts = [one.start for one in numbers]
    found: dict[str, list[Quantity]] = {}
    for drug in mentions(source)[:MOST_MENTIONS]:
        near = numbers[bisect_left(starts, drug.end - _AROUND) : bisect_left(starts, drug.end + _AROUND)]
        for name in drug.drugs:
            found.setdefault(name, []).extend(one for one in near if name in owner.get(one.start, drug.drugs))
    return found


def _mismatch(text: Text, code: Code, fact: Fact, value: str, other: Fact | None, expected: str = "") -> Issue:
    """A warning that a note says one thing of a drug and its source another."""
    source, drug = text.source or "", text.text[fact.drug.start : fact.drug.end]
    expected = expected or (source[other.start : other.end] if other else "")
    told = f"the source {expected}" if expected else "the source gives another one"
    place = (min(other.drug.start, other.start), max(other.drug.end, other.end)) if other else None
    span = (min(fact.drug.start, fact.start), max(fact.drug.end, fact.end))
    found = f"{drug} {value}"
    return text.issue(code, "warning", f"the note says {found}, {told}", span, source_span=place, found=found, expected=expected or None)


@lru_cache(maxsize=4)
def _frequencies(text: str) -> list[Fact]:
    """How many times a day each drug is taken; several where the text leaves that open."""
    return _owned(text, ((_times(found), *found.span()) for found in _FREQUENCY.finditer(text)), 60)


_MISSED = re.compile(r"\b(?:miss|skip|forg)\w*\b[^.;\n]*$", re.IGNORECASE)


def _times(found: re.Match[str]) -> tuple[float, ...]:
    if found["count"]:
        days = _PERIODS.get(found["period"][0].lower(), 1)
        return tuple(round((_COUNTS.get(one.lower(), 0) or int(one)) / days, 3) for one in (found["count"], found["more"]) if one)
    if found["hours"]:
        return tuple(24 / (_HOURS.get(one.lower(), 0) or int(one)) for one in (found["hours"], found["to"]) if one)
    if found["daytimes"]:
        return (float(sum(one != "0" for one in found["daytimes"][::2])),)
    if found["weekly"]:
        return (round(1 / 7, 3),)
    return (float(_CODES[found["code"].lower().replace(".", "")]),) if found["code"] else (1.0,)


def frequency_mismatch(text: Text) -> Iterator[Issue]:
    """A drug is taken as often as its source says; in speech, as often as it says near the drug."""
    if text.source is None:
        return
    source = affirmed(text.source)
    facts, spoken = _frequencies(source), is_dialogue(source)
    near = _frequencies_around(source, facts) if spoken else {}
    written = _frequencies(text.text)
    for fact in written:
        times = fact.value
        several = sum(one.drug == fact.drug for one in written) > 1
        if not isinstance(times, tuple) or len(times) != 1 or several or _MISSED.search(text.text[max(0, fact.start - 80) : fact.start]):
            continue
        direct = [one for one in facts if one.drug.drugs & fact.drug.drugs]
        parts = [
            source[max(0, one.start - _AROUND) : one.end + _AROUND]
            for one in mentions(source)[:MOST_MENTIONS]
            if one.drugs & fact.drug.drugs
        ]
        known = {one for other in direct for one in (other.value if isinstance(other.value, tuple) else ())}
        known |= near.get(min(fact.drug.drugs), set())
        if known and times[0] not in known and (times[0] > 1 or direct) and not (spoken and any(map(_OPEN.search, parts))):
            yield _mismatch(text, "frequency-mismatch", fact, text.text[fact.start : fact.end], direct[0] if direct else None)


def _frequencies_around(source: str, facts: Sequence[Fact]) -> dict[str, set[float]]:
    """Drug -> how often something is taken near it in speech, but for what belongs to another drug."""
    owner = {fact.start: fact.drug.drugs for fact in facts}
    said = [(found.start(), _times(found)) for found in _FREQUENCY.finditer(source)]
    starts = [start for start, _ in said]
    around: dict[str, set[float]] = {}
    for drug in mentions(source)[:MOST_MENTIONS]:
        for start, times in said[bisect_left(starts, drug.start - _AROUND) : bisect_left(starts, drug.end + _AROUND)]:
            for name in drug.drugs & owner.get(start, drug.drugs):
                around.setdefault(name, set()).update(times)
    return around


@lru_cache(maxsize=4)
def _times_said(text: str) -> list[tuple[float, Quantity]]:
    """The stretches of time of a text, in days; of readings that overlap, the first."""
    found: list[tuple[float, Quantity]] = []
    for one in spoken_quantities(text):
        days = _unit_days(one)
        if days and (not found or one.start >= found[-1][1].end) and _STRETCH.fullmatch(text, one.start, one.end):
            found.append((one.value * days, one))
    return found


def _unit_days(one: Quantity) -> float:
    """How many days the unit of a quantity has, 0 where it is no time."""
    return _DAYS.get(one.unit.rstrip("s"), _DAYS.get(one.unit, 0)) if one.kind == "time" else 0


def duration_mismatch(text: Text) -> Iterator[Issue]:
    """A stretch of time in the note is one that the source gives, and that of a drug is the one the source gives this drug."""
    if text.source is None:
        return
    source = affirmed(text.source)
    said = [one.value * days for one in spoken_quantities(source) if (days := _unit_days(one))] + [
        _DAYS[one[1].lower()] for one in _ONE.finditer(source)
    ]
    bare = {round(one.value, 3) for one in spoken_quantities(source) if one.kind in ("", "count", "age")} if is_dialogue(source) else set()
    facts, checked = _courses(source), is_english(source)
    owned = {one.start: one for one in _courses(text.text)}
    for days, one in _times_said(text.text):
        fact, value = owned.get(one.start), text.text[one.start : one.reach]
        known = [other for other in facts if fact and other.drug.drugs & fact.drug.drugs]
        if fact and known:
            if not any(_is_as_long(days, other.value) for other in known if isinstance(other.value, float)):
                yield _mismatch(text, "duration-mismatch", fact, f"for {value}", known[0])
            continue
        is_stretch = checked and one.reach > one.end and not _NO_STRETCH.search(text.text[max(0, one.start - 20) : one.start])
        if is_stretch and not any(_is_as_long(days, other) for other in said) and round(one.value, 3) not in bare:
            message = f"the note says {value}, which the source does not give"
            yield text.issue("duration-mismatch", "warning", message, (one.start, one.reach), found=value)


def _is_as_long(days: float, other: float) -> bool:
    longer = max(days, other)
    return abs(days - other) <= (_ABOUT * longer if longer >= _DAYS["week"] * 4 else 0.01)


@lru_cache(maxsize=4)
def _courses(text: str) -> list[Fact]:
    """For how many days each drug is taken."""
    times = _times_said(text)
    spans = (
        (days, one.start, one.reach)
        for days, one in times
        if _COURSE.search(text[max(0, one.start - 30) : one.start]) or _OF_COURSE.match(text, one.reach)
    )
    return _owned(text, spans, _OF_A_COURSE)


@lru_cache(maxsize=4)
def _statuses(text: str) -> list[Fact]:
    """Whether each drug is started, stopped, continued, increased or decreased, by the verb before it in its clause, or behind it."""
    found = list(_VERB.finditer(text))
    drugs = mentions(text)[:MOST_MENTIONS]
    starts = [drug.start for drug in drugs]
    facts: list[Fact] = []
    for at, verb in enumerate(found):
        after = found[at + 1].start() if at + 1 < len(found) else len(text)
        limit = min(after, verb.end() + _DIRECTLY)
        stop = _CLAUSE_END.search(text, verb.end(), limit)
        limit = stop.start() if stop else limit
        if not _UNDONE.search(text[max(0, verb.start() - 25) : verb.start()]):
            owned = drugs[bisect_left(starts, verb.end()) : bisect_left(starts, limit)]
            facts += [Fact(drug, verb.lastgroup, verb.start(), verb.end()) for drug in owned[:1]]
    return facts


def status_mismatch(text: Text) -> Iterator[Issue]:
    """A drug that the source starts is not stopped in the note, nor the other way round."""
    if text.source is None:
        return
    facts = _statuses(affirmed(text.source))
    for fact in _statuses(text.text):
        known = [one for one in facts if one.drug.drugs & fact.drug.drugs]
        if known and all(one.value in _OPPOSITE[str(fact.value)] for one in known):
            drug = text.text[fact.drug.start : fact.drug.end]
            place, span = (known[0].start, known[0].drug.end), (fact.start, fact.drug.end)
            found, expected = f"{fact.value} {drug}", str(known[0].value)
            message = f"the note says {found}, the source {expected}"
            yield text.issue("status-mismatch", "warning", message, span, source_span=place, found=found, expected=expected)


def unnamed_medication(text: Text) -> Iterator[Issue]:
    """A medication or an allergy to one is in the source, by its generic name, a brand, or a misspelling of either."""
    if text.source is None:
        return
    said = heard(text.source)
    known = frozenset(name for one in mentions(text.source) for name in one.drugs)
    unsaid: dict[frozenset[str], tuple[str, int, int]] = {}
    values = {one.start for one in written_quantities(text.text) if said_in(text.source).has(one)}
    for start, end, name, drugs in _named(text.text, values):
        if drugs.isdisjoint(known) and drugs not in unsaid:
            names = (name, *(other for other in DRUGS if DRUGS[other] & drugs)) if name in DRUGS else (name,)
            names = (*names, *(word for word in name.split() if len(word) > _LONG_WORD and name != word))
            if not any(map(said.has, names)) and not said.begins(name) and not any(_misspelled(said.alike(one)) for one in names):
                unsaid[drugs] = (name, start, end)
    for name, start, end in list(unsaid.values())[:MOST_ISSUES]:
        yield text.issue("unnamed-medication", "warning", f"the source does not name {name}", (start, end), found=name)


def _misspelled(alike: Iterable[str]) -> bool:
    """Whether a word of the source is like a name, and not that of another drug."""
    return any(not drugs_of(word) for word in alike)


def _named(text: str, values: Container[int]) -> Iterator[Mention]:
    """The drugs of a text: by their names, and what must be one by where it stands, after "allergic to"
    or before a dose that the source does not give."""
    yield from mentions(text)
    for found in _PLACES.finditer(text):
        group = "dosed" if found["dosed"] else "allergen"
        word, span = found[group].lower(), found.span(group)
        if (
            word not in _NO_NAMES
            and found.start("dose") not in values
            and not any(one.start <= span[0] < one.end for one in mentions(text))
        ):
            yield Mention(*span, word, frozenset([word]))
