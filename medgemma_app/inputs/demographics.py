"""Who the patient of a record is, as far as it says, and whether two records are of different patients."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from medgemma_app.inputs.lines import Line, Reading
from medgemma_app.inputs.patient_labels import labelled
from medgemma_app.inputs.patient_values import SeveralPatients, agree, plain_value
from medgemma_app.inputs.patients import is_of_several

SEXES = {"M": "male", "F": "female", "UN": "undifferentiated", "O": "other", "U": "unknown", "A": "ambiguous"}
MOST_COMPARED = 20  # descriptions of a patient: hostile records must not take hours
_WORD = re.compile(r"[^\W\d_]+")
_NOT_A_NAME = frozenset(("patient", "the"))


@dataclass(frozen=True)
class Demographics:
    """The ids, each with its issuer ("" if unknown), the names, the birth date in ISO format, and the sex in words.

    Ids from a text have its labels as issuers ("id mrn"). A birth date from a text has a two-digit year, and day and month in any order.
    """

    ids: frozenset[tuple[str, str]] = frozenset()
    names: tuple[str, ...] = ()
    born: str = ""
    sex: str = ""
    born_in_text: str = ""

    def differ(self, other: Demographics) -> bool:
        """Whether the two cannot be one patient, or have different ids and too little else in common.

        If the ids are from two issuers, name and birth date must both be equal; if one id is from a text and one from a record, either
        of them; ids from two texts need nothing else, since their labels differ.
        """
        if several_births_or_sexes((self, other)):
            return True
        births = [one.born_in_text or one.born[2:] for one in (self, other)]
        if all(births) and not agree("born", *births):
            return True
        few, many = sorted((self, other), key=lambda one: len(one.ids))
        if any(_may_be_one(issuer, its) for issuer, number in few.ids for its in many._issuers_of.get(plain_value("id", number), ())):
            return False
        if self._issuers & other._issuers:
            return True
        ours, theirs = self._words, other._words
        if ours and theirs and _agreeing(ours, theirs) < min(2, len(ours), len(theirs)):
            return True
        agreeing, labels = sum(map(all, ((ours, theirs), births))), _is_label(*self._issuers) + _is_label(*other._issuers)
        return bool(self.ids and other.ids) and agreeing < 2 - labels

    def called(self) -> set[str]:
        """The ids and names by which a user may choose the patient."""
        return {*self.names, *(number for _, number in self.ids)}

    @cached_property
    def _issuers_of(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for issuer, number in self.ids:
            found.setdefault(plain_value("id", number), set()).add(issuer)
        return found

    @cached_property
    def _issuers(self) -> set[str]:
        return {issuer for issuer, _ in self.ids}

    @cached_property
    def _words(self) -> set[str]:
        """The words of all names. An additional middle name or title does not make another patient."""
        return {word for name in self.names for word in _WORD.findall(name.casefold())} - _NOT_A_NAME


def _agreeing(ours: set[str], theirs: set[str]) -> int:
    """How many words two names share. An initial agrees with a first name if only one word of its name is in full: "Smith, J."."""
    initials = {
        initial
        for some, others in ((ours - theirs, theirs - ours), (theirs - ours, ours - theirs))
        for initial in some
        if len(initial) == 1 and any(other.startswith(initial) for other in others)
    }
    is_short = any(sum(len(word) > 1 for word in words) < 2 for words in (ours, theirs))
    return len(ours & theirs) + (len(initials) if is_short else 0)


def _may_be_one(issuer: str, other: str) -> bool:
    return issuer == other or not issuer or not other or _is_label(issuer) != _is_label(other)


def _is_label(*issuers: str) -> bool:
    return any(issuer.startswith("id ") for issuer in issuers)


@dataclass(frozen=True)
class Record(Reading):
    """A reading that also says whose it is."""

    patients: Sequence[Demographics] = ()


def labelled_demographics(text: str) -> Demographics:
    """What a text says about its patient in labels such as "MRN: 111"."""
    labels = dict(labelled(text))
    return Demographics(
        frozenset((kind, number) for kind, number in labels.items() if kind.startswith("id ") and kind != "id label"),
        (labels["name"],) if "name" in labels else (),
        born_in_text=labels.get("born", ""),
    )


def refuse_several_patients(text: str, name: str) -> None:
    """Raises SeveralPatients where the labels in a text of a record differ."""
    if is_of_several(text):
        raise SeveralPatients(name, 2, can_choose=False)


def refuse_other_patients(lines: Iterable[Line], known: Iterable[Demographics], name: str) -> None:
    """Raises SeveralPatients if labels in the text of a record, such as "MRN: 111", belong to another patient than the record's."""
    text = "\n".join(line.text for line in lines)
    refuse_several_patients(text, name)
    labels = labelled_demographics(text)
    if any(labels.differ(one) for one in list(known)[:MOST_COMPARED]):
        raise SeveralPatients(name, 2, can_choose=False)


def iso_day(written: str) -> str:
    """An HL7 date in ISO format: 202405061030 becomes 2024-05-06."""
    found = re.match(r"(\d{4})(\d\d)?(\d\d)?", written)
    return "-".join(part for part in found.groups() if part) if found else ""


def people_of(known: Iterable[Demographics]) -> list[list[Demographics]]:
    """Descriptions grouped by patient: those of one share a number, or a name if they have none, and do not differ."""
    people: list[list[Demographics]] = []
    named: dict[str, list[Demographics]] = {}
    for one in dict.fromkeys(known):
        called = {number for _, number in one.ids} or set(one.names)
        some = (named[name] for name in called if name in named)
        person = next((person for person in some if not any(map(one.differ, person[:MOST_COMPARED]))), None)
        if person is None and called:
            people.append(person := [])
        if person is not None:
            person.append(one)
            named |= dict.fromkeys(called, person)
    return people


def several_births_or_sexes(known: Iterable[Demographics]) -> bool:
    """Whether records give more than one birth date or sex. A bare year agrees with every day in it."""
    some = list(known)
    births = sorted({one.born for one in some} - {""})
    is_same = all(later.startswith(earlier) for earlier, later in pairwise(births))
    return not is_same or {"male", "female"} <= {one.sex for one in some}


def can_choose(called: Collection[set[str]]) -> bool:
    """Whether each of several patients, given by their names and ids, has a name or id that no other patient has."""
    times = Counter(name for names in called for name in names)
    return bool(called) and all(any(times[name] == 1 for name in names) for names in called)
