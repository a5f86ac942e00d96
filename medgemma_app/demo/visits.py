"""Invented visits, and the SOAP note that is right for each: what the notes say, section by section, nothing else.

The condition is chosen first; complaint, vital signs, examination, results and plan follow from it, and the drugs a patient takes follow
from the history. Then chance decides which of all that the notes mention. ``conditions.toml`` holds the tables and explains them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

SILENT = "Not documented."
LONG_NAMES = {"BP": "Blood pressure", "HR": "Heart rate", "Temp": "Temperature", "SpO2": "Oxygen saturation", "Weight": "Weight"}
FREQUENCIES = (
    "daily", "twice daily", "three times a day", "four times daily", "at bedtime", "every morning", "every 4 hours", "once", "weekly",
)  # fmt: skip
CONSONANTS, VOWELS = "bcdfglmnprstvz", "aeiou"


@dataclass(frozen=True)
class Drug:
    """The doses in which a drug is taken and how often, and histories and allergies with which it is not started."""

    doses: Sequence[str]
    frequencies: Sequence[str]
    raised: bool = False  # started with the first dose
    unsuitable: Sequence[str] = ()


@dataclass(frozen=True)
class Condition:
    """One diagnosis; ranges are the lowest and the highest value, both included."""

    diagnosis: str
    complaints: Sequence[str]
    lasting: tuple[int, int, str]
    signs: Sequence[str]
    treatments: Sequence[str]
    orders: Sequence[str]
    review: tuple[int, int, str]
    labs: Mapping[str, Sequence[int]] = field(default_factory=dict)
    vitals: Mapping[str, Sequence[int]] = field(default_factory=dict)
    ages: Sequence[int] = (18, 90)
    sex: str = ""  # either
    histories: Sequence[str] = ()  # any
    needs: str = ""  # "BP" or "labs"


TABLES: dict[str, Any] = tomllib.loads((Path(__file__).parent / "conditions.toml").read_text(encoding="utf-8"))
CONDITIONS = [Condition(**row) for row in TABLES["conditions"]]
DRUGS = {name: Drug(**row) for name, row in TABLES["drugs"].items()}
ALTERNATIVES = frozenset(TABLES["alternatives"])


class Chance:
    """What the visits need of a random generator. ``words`` are mixed into the invented names."""

    def __init__(self, rng: np.random.Generator, words: Sequence[str] = ()) -> None:
        self.rng, self.words = rng, words

    def often(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def number(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def one_of(self, choices: Sequence[Any]) -> Any:
        return choices[self.number(0, len(choices) - 1)]

    def some_of(self, choices: Sequence[Any], count: int) -> list[Any]:
        return [choices[int(index)] for index in self.rng.permutation(len(choices))[:count]]

    def word(self) -> str:
        """A word that no table of the visits has."""
        if self.words and self.often(0.7):
            return str(self.one_of(self.words))
        syllables = [self.one_of(CONSONANTS) + self.one_of(VOWELS) for _ in range(self.number(2, 4))]
        return "".join(syllables) + (self.one_of(CONSONANTS) if self.often(0.3) else "")

    def phrase(self) -> str:
        """A few such words, which mean nothing together."""
        return (", " if self.often(0.1) else " ").join(self.word() for _ in range(self.number(1, 3)))


@dataclass(frozen=True)
class Step:
    """One step of a plan, as it stands in a note and as the patient is told it."""

    written: str
    spoken: str


@dataclass(frozen=True)
class Visit:
    """What the notes of a visit say; "" and () where they are silent. ``vitals`` and ``labs`` are pairs of a name and a value."""

    age: int | None
    sex: str
    complaint: str  # with its article
    lasting: str
    history: str
    medications: tuple[str, ...]
    allergies: str
    vitals: tuple[tuple[str, str], ...]
    signs: tuple[str, ...]
    labs: tuple[tuple[str, str], ...]
    diagnosis: str
    plan: tuple[Step, ...]

    @property
    def who(self) -> str:
        return f"{self.age}-year-old {self.sex}" if self.age else ""

    @property
    def noted_complaint(self) -> str:
        return without_article(self.complaint) + (f" for {self.lasting}" if self.complaint and self.lasting else "")

    def note(self) -> str:
        """The SOAP note."""
        sections = {
            "SUBJECTIVE": self._subjective(),
            "OBJECTIVE": " ".join(f"{'; '.join(part)}." for part in (pairs(self.vitals), self.signs, pairs(self.labs)) if part),
            "ASSESSMENT": f"{self.diagnosis}." if self.diagnosis else "",
            "PLAN": f"{'; '.join(step.written for step in self.plan)}." if self.plan else "",
        }
        return "\n\n".join(f"{name}:\n{text or SILENT}" for name, text in sections.items())

    def _subjective(self) -> str:
        complaint = f"{self.who or 'Patient'} with {self.noted_complaint}." if self.complaint else f"{self.who}." if self.who else ""
        history = f"History of {self.history}." if self.history else ""
        medications = f"Medications: {'; '.join(self.medications)}." if self.medications else ""
        allergies = f"Allergies: {self.allergies}." if self.allergies else ""
        return " ".join(filter(None, (complaint, history, medications, allergies)))


def pairs(values: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(f"{name} {value}" for name, value in values)


def without_article(complaint: str) -> str:
    return complaint.removeprefix("a ").removeprefix("an ")


def random_visit(chance: Chance, invented: float = 0.0, *, long_names: bool = False) -> Visit:
    """A visit that says enough to write a note from; ``long_names`` writes "Blood pressure" for "BP"."""
    condition = chance.one_of(CONDITIONS)
    side = chance.one_of(("right", "left"))
    history = _history(condition, chance)
    first_age = TABLES["histories"][history]["from_age"]
    age = chance.number(max(condition.ages[0], first_age), max(condition.ages[1], first_age + 10))
    taken = chance.some_of(TABLES["histories"][history]["drugs"], chance.number(1, 2))
    if ALTERNATIVES.issuperset(taken):
        taken = taken[:1]
    allergy = chance.one_of([allergy for allergy in TABLES["allergies"] if not any(allergy in DRUGS[drug].unsuitable for drug in taken)])
    started = _treatments(condition, taken, {history, allergy})
    known = chance.often(0.75)  # age and sex
    signs = [sign.format(side=side) for sign in condition.signs]
    visit = Visit(
        age=age if known else None,
        sex=condition.sex or chance.one_of(("female", "male")) if known else "",
        complaint=_name(chance.one_of(condition.complaints).format(side=side), chance, invented) if chance.often(0.85) else "",
        lasting="" if chance.often(0.4 * invented) else _lasting(condition.lasting, chance),
        history=_name(history, chance, invented) if chance.often(0.4) else "",
        medications=tuple(_prescription(drug, chance, invented) for drug in taken) if chance.often(0.55) else (),
        allergies=allergy if chance.often(0.35) else "",
        vitals=_vitals(condition, chance, long_names=chance.often(0.3) or long_names) if chance.often(0.8) else (),
        signs=tuple(_written(sign, chance, invented) for sign in chance.some_of(signs, chance.number(1, 2))) if chance.often(0.65) else (),
        labs=_labs(condition, chance) if chance.often(0.5) else (),
        diagnosis=_name(condition.diagnosis, chance, invented) if chance.often(0.8) else "",
        plan=_plan(condition, started, chance, invented) if chance.often(0.8) else (),
    )
    said = (visit.who, visit.complaint, visit.history, visit.medications, visit.vitals, visit.signs, visit.diagnosis, visit.plan)
    if sum(map(bool, said)) > 1 and (not visit.diagnosis or _follows(visit, condition)):
        return visit
    return random_visit(chance, invented, long_names=long_names)


def _treatments(condition: Condition, taken: Sequence[str], reasons: set[str]) -> list[str]:
    """The drugs to start: none that is taken, none of which only one is taken, none that a history or an allergy speaks against."""
    forbidden = {*taken, *(ALTERNATIVES if ALTERNATIVES & set(taken) else ())}
    return [drug for drug in condition.treatments if drug not in forbidden and reasons.isdisjoint(DRUGS[drug].unsuitable)]


def _follows(visit: Visit, condition: Condition) -> bool:
    """Whether the notes say what the diagnosis is made from: a complaint or a sign, and the measurement that it needs."""
    measured = {"": True, "BP": "mmHg" in str(visit.vitals), "labs": bool(visit.labs)}
    return bool(visit.complaint or visit.signs) and measured[condition.needs]


def _history(condition: Condition, chance: Chance) -> str:
    oldest = condition.ages[1]
    ages = {name: row["from_age"] for name, row in TABLES["histories"].items()}
    others = [name for name, age in ages.items() if age <= oldest and name.lower() not in condition.diagnosis.lower()]
    return str(chance.one_of(condition.histories or others))


def _name(name: str, chance: Chance, invented: float) -> str:
    return chance.phrase() if chance.often(invented) else name


def _written(name: str, chance: Chance, invented: float) -> str:
    """As ``_name``, with a capital."""
    said = _name(name, chance, invented)
    return said[0].upper() + said[1:]


def _lasting(lasting: tuple[int, int, str], chance: Chance) -> str:
    number = chance.number(*lasting[:2])
    return f"{number} {lasting[2] if number > 1 else lasting[2].removesuffix('s')}"


def _prescription(drug: str, chance: Chance, invented: float, *, first: bool = False) -> str:
    """A drug with a dose and a frequency; ``first`` when it is being started."""
    doses, frequencies = DRUGS[drug].doses, DRUGS[drug].frequencies
    if first and DRUGS[drug].raised:
        doses = doses[:1]
    if chance.often(invented):
        drug, doses, frequencies = chance.word(), (f"{chance.number(1, 900)} {chance.one_of(('mg', 'mcg', 'units'))}",), FREQUENCIES
    return f"{drug} {chance.one_of(doses)} {chance.one_of(frequencies)}"


def _vitals(condition: Condition, chance: Chance, *, long_names: bool) -> tuple[tuple[str, str], ...]:
    value = {name: chance.number(*limits) for name, limits in {**TABLES["normal"], **condition.vitals}.items()}
    values = {
        "BP": f"{value['systolic']}/{value['diastolic']} mmHg",
        "HR": f"{value['pulse']} bpm",
        "Temp": f"{_tenths(value['temperature'])} °C",
        "SpO2": f"{value['oxygen']}%",
        "Weight": f"{value['weight']} kg",
    }
    return tuple((LONG_NAMES[name] if long_names else name, said) for name, said in values.items() if chance.often(0.55))


def _tenths(value: int) -> str:
    return f"{value // 10}.{value % 10}"


def _labs(condition: Condition, chance: Chance) -> tuple[tuple[str, str], ...]:
    found = []
    for name, limits in condition.labs.items():
        lab, value = TABLES["labs"][name], chance.number(*limits)
        found.append((name, f"{_tenths(value) if lab['in_tenths'] else value} {lab['unit']}"))
    return tuple(found)


def _plan(condition: Condition, drugs: Sequence[str], chance: Chance, invented: float) -> tuple[Step, ...]:
    steps = []
    if drugs and chance.often(0.7):
        drug = _prescription(chance.one_of(drugs), chance, invented, first=True)
        steps.append(Step(f"Start {drug}", f"start {drug}"))
    for order in chance.some_of(condition.orders, chance.number(0, 2)):
        written = _written(order, chance, invented)
        steps.append(Step(written, TABLES["orders"].get(written, written[0].lower() + written[1:])))
    if chance.often(0.5) or not steps:
        when = _lasting(condition.review, chance)
        steps.append(Step(f"Review in {when}", f"come back in {when}"))
    return tuple(steps)
