"""What a text says of each medication: its dose, how often and how long, and whether it is started or stopped.

A dose belongs to the drug that it directly follows or leads ("lisinopril 20 mg", "20 mg of lisinopril"). In speech the two may
stand far apart, so there what is said around a drug counts too, unless it is another drug's.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

from medgemma_app.validate.core import Code, Issue, Text
from medgemma_app.validate.lists import finder
from medgemma_app.validate.quantities import DOSES, Quantity, spoken_quantities, written_quantities
from medgemma_app.validate.terms import DRUGS, WORDS, Mention, Source, heard, mentions
from medgemma_app.validate.values import is_derived, known_doses, said_in

_CLAUSE_END = re.compile(r"\.\s|[;\n•]")
_LEADS = re.compile(
    r"[^\S\n]*(?:(?:tablets?|capsules?|pills?|tabs?|caps?|doses?)\s+)?(of\s+)?(?:(?:the|your|her|his|oral|iv|po|daily)\s+)?", re.IGNORECASE
)
_NEXT_TO = re.compile(r"\W*(?:(?:at|is|of|to|the|take|about|like|uh|um|just|dose|from|on)\W+){0,3}", re.IGNORECASE)
_ANOTHER = re.compile(r",|\band\b|[0-9]", re.IGNORECASE)
_DIRECTLY, _TO_FREQUENCY, _OF_A_COURSE, _AROUND = 40, 60, 80, 300  # characters
_LEAST_SPOKEN = 5  # "spironolactone, one issue is"
MOST_ISSUES, MOST_MENTIONS = 10, 500


class Fact(NamedTuple):
    """Something said of a drug: what, and where."""

    drug: Mention
    value: Any
    start: int
    end: int


_Spans: TypeAlias = Iterable[tuple[Any, int, int]]
_Agrees: TypeAlias = Callable[[Any, Any], bool]


def _owned(text: str, spans: _Spans, farthest: int) -> list[Fact]:
    """What a text says directly of its drugs."""
    drugs = mentions(text)[:MOST_MENTIONS]
    starts = [drug.start for drug in drugs]
    facts = []
    for value, start, end in spans:
        at = bisect_left(starts, start)
        before, after = drugs[at - 1] if at else None, drugs[at] if at < len(drugs) else None
        gap = text[before.end : start] if before and before.end <= start and start - before.end <= farthest else None
        follows = gap is not None and not _CLAUSE_END.search(gap)
        leads = _LEADS.fullmatch(text, end, after.start) if after and after.start - end <= _DIRECTLY else None
        if after and leads and (leads[1] or not follows or _ANOTHER.search(gap or "")):
            facts.append(Fact(after, value, start, end))
        elif before and follows:
            facts.append(Fact(before, value, start, end))
    return facts


def _around(source: str, spans: _Spans, facts: Sequence[Fact]) -> list[Fact]:
    """What speech says anywhere near its drugs, but for what belongs to another drug."""
    owner = {fact.start: fact.drug.drugs for fact in facts}
    said = sorted(spans, key=lambda one: one[1])
    starts = [start for _, start, _ in said]
    near = ((drug, said[bisect_left(starts, drug.start - _AROUND) : bisect_left(starts, drug.end + _AROUND)]) for drug in mentions(source))
    return [Fact(drug, *one) for drug, some in islice(near, MOST_MENTIONS) for one in some if drug.drugs & owner.get(one[1], drug.drugs)]


def _compare(text: Text, code: Code, facts: Iterable[Fact], said: list[Fact], near: list[Fact], agrees: _Agrees) -> Iterator[Issue]:
    """A warning for each fact of a note with which nothing agrees that its source says of the same drug."""
    by_drug: dict[str, list[Fact]] = {}
    for one in (*said, *near):
        for name in one.drug.drugs:
            by_drug.setdefault(name, []).append(one)
    known = ((fact, [one for name in sorted(fact.drug.drugs) for one in by_drug.get(name, ())]) for fact in facts)
    wrong = (fact for fact, some in known if some and not any(agrees(fact.value, one.value) for one in some))
    for fact in islice(wrong, MOST_ISSUES):
        other = next((one for one in said if one.drug.drugs & fact.drug.drugs), None)
        drug, value = text.text[fact.drug.start : fact.drug.end], text.text[fact.start : fact.end]
        found = f"{value} {drug}" if code == "status-mismatch" else f"{drug} {value}"
        expected = (text.source or "")[other.start : other.end] if other else None
        place = (min(other.drug.start, other.start), max(other.drug.end, other.end)) if other else None
        span = (min(fact.drug.start, fact.start), max(fact.drug.end, fact.end))
        message = f"the note says {found}, the source {expected or 'does not'}"
        yield text.issue(code, "warning", message, span, source_span=place, found=found, expected=expected)


# --- dose


def dose_mismatch(text: Text, source: Source) -> Iterator[Issue]:
    """Where the source gives a drug a dose, the note gives this drug that dose; what no drug has in the source is an invented value."""
    numbers, said = spoken_quantities(known_doses(source.told)), said_in(source)
    spans = [(one, one.start, one.reach) for one in numbers if one.kind in DOSES or not one.kind]
    least = _LEAST_SPOKEN if source.spoken else 0
    owned = [one for one in _owned(source.told, spans, _DIRECTLY) if one.value.kind or _is_next(source.told, one, least)]
    taken = {one.start for one in owned}
    near = _around(source.told, ((one, one.start, one.reach) for one in numbers), owned) if source.spoken else []
    free = [] if source.spoken else [one for one, start, _ in spans if start not in taken]  # the dose of any drug
    dosed = {name for one in (*owned, *near) if one.value.kind in DOSES or one.start in taken for name in one.drug.drugs}
    written = _owned(text.text, ((one, one.start, one.reach) for one in written_quantities(text.text) if one.kind in DOSES), _DIRECTLY)
    facts = (one for one in written if dosed & one.drug.drugs and said.gives(one.value) and not is_derived(text.text, one.value))
    bound = (one for one in facts if not any(_is_same(one.value, other) for other in free))
    yield from _compare(text, "dose-mismatch", bound, owned, near, _is_same)


def _is_next(source: str, fact: Fact, least: float) -> bool:
    """Whether a number without a unit is a dose all the same: "lasix 40"."""
    return bool(_NEXT_TO.fullmatch(source, fact.drug.end, fact.start)) and fact.value.value >= least


def _is_same(dose: Quantity, other: Quantity) -> bool:
    return round(other.value, 3) == round(dose.value, 3) or (not other.unit and round(other.value, 3) == round(dose.number, 3))


# --- frequency

_COUNTS = {"once": 1, "twice": 2, "thrice": 3, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
_HOURS = {"four": 4, "six": 6, "eight": 8, "twelve": 12}
_CODES = {"bid": 2, "bd": 2, "tid": 3, "tds": 3, "qid": 4, "qds": 4}
_COUNT, _EVERY = rf"(?:{'|'.join(_COUNTS)}|[1-6])", rf"(?:{'|'.join(_HOURS)}|[1-9]|1[02]|24)"
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
_MISSED = re.compile(r"\b(?:miss|skip|forg)\w*\b[^.;\n]*$", re.IGNORECASE)


def frequency_mismatch(text: Text, source: Source) -> Iterator[Issue]:
    """A drug is taken as often as its source says; in speech, as often as it says near the drug."""
    spans = [(_times(found), *found.span()) for found in _FREQUENCY.finditer(source.told)]
    said = _owned(source.told, spans, _TO_FREQUENCY)
    near = _around(source.told, spans, said) if source.spoken else []
    direct = {name for one in said for name in one.drug.drugs}
    written = _owned(text.text, ((_times(found), *found.span()) for found in _FREQUENCY.finditer(text.text)), _TO_FREQUENCY)
    once = Counter(one.drug for one in written)
    facts = (one for one in written if once[one.drug] == 1 == len(one.value) and (one.value[0] > 1 or one.drug.drugs & direct))
    taken = (one for one in facts if not _MISSED.search(text.text[max(0, one.start - _OF_A_COURSE) : one.start]))
    yield from _compare(text, "frequency-mismatch", taken, said, near, lambda one, other: one[0] in other)


def _times(found: re.Match[str]) -> tuple[float, ...]:
    """How often a day: several numbers for "two or three times"."""
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


# --- duration

_COURSE = re.compile(
    r"(?:\b(?:for|x|course of|complete|over|für|durante|por|pendant|pdt)\W{0,2}(?:the |a |an |next |another |a total of |about )?|×\s?)$",
    re.IGNORECASE,
)
_DAYS = {
    unit: days for name, days in (("hour", 1 / 24), ("day", 1.0), ("week", 7.0), ("month", 30.0), ("year", 365.0)) for unit in WORDS[name]
}
_ONE = re.compile(r"\b(?:an?|one|last|next|this|past|per|each|every|the|previous) (hour|day|week|month|year)\b", re.IGNORECASE)
_NOT_SO_LONG = re.compile(r" (?:in total|total|more|further|additional|before|after|ago|prior)", re.IGNORECASE)
_ABOUT, _LONG = 0.08, 28  # four weeks are a month


def duration_mismatch(text: Text, source: Source) -> Iterator[Issue]:
    """A drug is taken as long as its source says; any other stretch of time is one that the source gives, in this unit or another."""
    said, courses = _courses(source.told), _courses(text.text)
    yield from _compare(text, "duration-mismatch", courses, said, [], _is_as_long)
    compared = {one.start for one in courses if any(one.drug.drugs & other.drug.drugs for other in said)}
    numbers = spoken_quantities(source.told)
    known = [one.value * _days(one) for one in numbers if _days(one)] + [_DAYS[one[1].lower()] for one in _ONE.finditer(source.told)]
    bare = {round(one.value, 3) for one in numbers if not one.kind} if source.spoken else set()
    for one in written_quantities(text.text) if source.english else ():
        if not _days(one) or one.start in compared or round(one.value, 3) in bare:
            continue
        behind, value = text.text[one.reach : one.reach + 12], text.text[one.start : one.reach]
        lasting = _lasts(text.text, one) or behind.lower().startswith((" history", "-history"))
        if lasting and not _NOT_SO_LONG.match(behind) and not any(_is_as_long(one.value * _days(one), other) for other in known):
            message = f"the note says {value}, which the source does not give"
            yield text.issue("duration-mismatch", "warning", message, (one.start, one.reach), found=value)


def _courses(text: str) -> list[Fact]:
    """For how many days each drug is taken: "for 7 days", "x 7 d"."""
    times = (one for one in spoken_quantities(text) if _days(one) and _lasts(text, one))
    return _owned(text, ((one.value * _days(one), one.start, one.reach) for one in times), _OF_A_COURSE)


def _lasts(text: str, one: Quantity) -> bool:
    return _COURSE.search(text[max(0, one.start - 30) : one.start]) is not None


def _days(one: Quantity) -> float:
    """How many days the unit of a quantity has; 0 where it is not a unit of time."""
    return _DAYS.get(one.unit.rstrip("s"), _DAYS.get(one.unit, 0)) if one.kind == "time" else 0


def _is_as_long(days: float, other: float) -> bool:
    longer = max(days, other)
    return abs(days - other) <= (_ABOUT * longer if longer >= _LONG else 0.01)


# --- started or stopped

_OPPOSITES = {"start": ["stop"], "stop": ["start", "continue", "increase"], "continue": ["stop"], "increase": ["stop", "decrease"]}
_OPPOSITES["decrease"] = ["increase"]
_LATER = re.compile(r"\W+(?:once|when|if|until|after|unless)\b", re.IGNORECASE)
_UNDONE = re.compile(r"(?:\b(?:not?|never|if|without|before|unless|instead of|until|when|prior to|rather than)\b|n['’]t\b)", re.IGNORECASE)


def status_mismatch(text: Text, source: Source) -> Iterator[Issue]:
    """A drug that the source starts is not stopped in the note, and a drug that it stops is not started."""
    facts, said = _statuses(text.text), list(_statuses(source.told))
    yield from _compare(text, "status-mismatch", facts, said, [], lambda one, other: other not in _OPPOSITES[one])


def _statuses(text: str) -> Iterator[Fact]:
    """Whether each drug is started, stopped, continued, increased or decreased, by the last verb before it in its clause."""
    drugs = mentions(text)[:MOST_MENTIONS]
    starts, after = [drug.start for drug in drugs], len(text)
    for verb in reversed(list(finder("cues", *_OPPOSITES).finditer(text))):
        at, limit, after = bisect_left(starts, verb.end()), min(after, verb.end() + _DIRECTLY), verb.start()
        gap = text[verb.end() : drugs[at].start] if at < len(drugs) and drugs[at].start < limit else ","
        undone = _UNDONE.search(text[max(0, verb.start() - 25) : verb.start()])
        if not (_CLAUSE_END.search(gap) or _ANOTHER.search(gap) or undone or _LATER.match(text, drugs[at].end)):
            yield Fact(drugs[at], verb.lastgroup, *verb.span())


# --- unnamed


_NOT_TAKEN = re.compile(
    r"\b(?:no|not|never|avoid\w*|ceas\w*|contraindicated|declin\w*|den[iy]\w*|discontinu\w*|exclud\w*|former\w*|h[eo]ld|holding|past|previous\w*"
    r"|refus\w*|refut\w*|ruled out|stop\w*|withh\w*)\b|n['’]t\b",
    re.IGNORECASE,
)


def unnamed_medication(text: Text, source: Source) -> Iterator[Issue]:
    """A medication or an allergy to one is in the source, by its generic name, a brand, or a misspelling of either.

    What the source names only in lines that it takes back, such as drugs that were stopped, the note may name as such only.
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
    """Whether a source may name a drug by a word that is misspelled, or that is only the beginning of its name."""
    said = heard(source)
    names = (one.name, *(other for other in DRUGS if DRUGS[other] & one.drugs)) if one.name in DRUGS else (one.name,)
    return said.has(names) or said.begins(one.name) or any(word not in DRUGS for word in said.alike(names))


def _sentence(text: str, one: Mention) -> str:
    """The sentence or the line around a mention, or as much of it as is near."""
    before, after = text[max(0, one.start - _AROUND) : one.start], text[one.end : one.end + _AROUND]
    return f"{_CLAUSE_END.split(before)[-1]} {_CLAUSE_END.split(after)[0]}"
