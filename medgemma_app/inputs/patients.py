"""Finds whose the notes are. Notes of several patients are refused, unless one of them is chosen."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from medgemma_app.inputs.lines import key_words
from medgemma_app.inputs.patient_labels import ages, described, is_relative, is_somebody_else, kind_of_key, labelled
from medgemma_app.inputs.patient_values import (
    MOST_PATIENTS,
    SAME_PATIENT,
    PatientFacts,
    SeveralPatients,
    agree,
    differ,
    identifiers,
    ids_of,
    is_person,
    may_be_name,
    no_such_patient,
    overlap,
    parts_of_name,
    plain_value,
)

_SEXES = frozenset(("sex", "gender", "patient sex", "patient gender"))
_DEMOGRAPHICS = frozenset(("age", "dob", *_SEXES))
_PATIENT = frozenset(("patient", "subject", "demographics", "patient info", "patient information", "patient details"))
_MAYBE_PATIENT = frozenset(("pt", "client", "person", "resident", "paciente", "name"))  # beside a patient, these may be somebody else
_BARE_IDS = frozenset(("id", "uuid", "identifier", "number", "reference"))
_WRAPPERS = frozenset(("edges", "node", "attributes", "fields"))  # keys that servers put around anything
_LAST = _MAYBE_PATIENT | _BARE_IDS
_PATIENTS = frozenset(("patients", "people", "persons", "clients", "residents"))
_PERSON = _PATIENTS | _PATIENT
_LIST = "[]"  # the path of the entries of a file that is one list
_OF_PEOPLE = frozenset((_LIST, "visits", "encounters", "records", "cases", *_PATIENTS))
_OF_A_PERSON = _DEMOGRAPHICS | {
    "note", "notes", "text", "chief complaint", "complaint", "hpi", "history", "symptoms", "diagnosis", "problem",
}  # fmt: skip
_PARTS = {"given": "name given", "first": "name given", "family": "name family", "last": "name family", "display": "name"}
_OF_NO_PATIENT = frozenset(("dose", "dosage", "strength", "frequency", "unit", "value", "relationship", "speaker", "role", "start"))
_SPEAKING = frozenset(("patient", "doctor", "clinician", "physician", "nurse", "provider", "time", "turn", "interviewer", "gp", "dr"))
_DATES = ("date", "visit date", "encounter date", "date of visit", "service date", "datetime", "timestamp", "created", "day")
_NUMBERED = re.compile(r"(patient|pt|client|resident|subject|case) ?#?(\d{1,4}|[a-z])")
_RECORD_NUMBER = re.compile(r"(?!(?:19|20)\d\d(?:[-/.]?\d\d){0,2}$)[A-Za-z]{0,5}[-/]?\d[\d-]{2,}")  # but not a date
_DIFFER = {
    "id entry": "entries", "id": "record numbers", "born": "birth dates", "name": "names", "sex": "sexes", "age": "ages", "aged": "ages",
}  # fmt: skip
_GONE = object()


def one_patient(value: Any, name: str, patient: str | None) -> tuple[Any, list[str]]:
    """The notes of the only patient, or of the one chosen, and what is left out. Raises SeveralPatients, InputError.

    ``value`` is text or JSON. A patient can be chosen unless one text, or one entry, names several. With
    ``SAME_PATIENT``, all of it is treated as one patient's.
    """
    if patient == SAME_PATIENT:
        return value, []
    said = list(_identities(value))
    known = list({tuple(sorted(identity.items())): identity for identities in said for identity in identities}.values())
    people = _people(_people(known, linked=True))
    mixed = next((some for identities in said if len(identities) > 1 and len(some := _people(identities)) > 1), None)
    if mixed or (len(people) > 1 and patient is None):
        can_choose = not mixed and all(map(_can_be_called, people))
        raise SeveralPatients(name, len(people), can_choose=can_choose, differ=_what_differs(mixed or people))
    if patient is None:
        return value, []
    chosen = _people(identity for identity in known if _is_called(patient, identity))
    if len(chosen) != 1:
        raise no_such_patient(name)
    if len(people) == 1:
        return value, []
    choice = _Choice(chosen[0], [identity for identity in known if differ(identity, chosen[0])])
    kept, number = choice.kept(value), choice.left_out
    return kept, [f"{number} {'entry' if number == 1 else 'entries'} of another patient, or of none"] if number else []


def doubts_about_the_patient(value: Any, name: str, patient: str | None) -> list[str]:
    """A warning if notes with different labels were treated as one patient's because the user said so."""
    if patient == SAME_PATIENT:
        try:
            one_patient(value, name, None)
        except SeveralPatients:
            return [f"its labels belong to more than one patient; all of it was used because of --patient {SAME_PATIENT}"]
    return []


def is_of_several(text: str) -> bool:
    """Whether the labels of a text are of more than one patient."""
    return len(_of_one_patient(labelled(text))) > 1


def _what_differs(people: list[PatientFacts]) -> str:
    one, other = people[:2]
    kind = next((kind for kind in one if kind in other and not agree(kind, one[kind], other[kind])), "label")
    return _DIFFER.get(kind) or _DIFFER.get(kind.split()[0], "labels")


def _can_be_called(person: PatientFacts) -> bool:
    return any(kind.startswith(("name", "id ")) and kind != "id entry" for kind in person)


def _is_called(patient: str, person: PatientFacts) -> bool:
    names = {word for kind, said in person.items() if kind.startswith("name") for word in said.split()}
    patient = found[2] if (found := _NUMBERED.fullmatch(key_words(patient))) else patient
    words = set(plain_value("name", patient).split())
    return (bool(words) and words <= names) or plain_value("id", patient) in ids_of(person)


@dataclass
class _Choice:
    """One of several patients; ``left_out`` counts the entries that are not certainly about them."""

    patient: PatientFacts
    others: list[PatientFacts]
    left_out: int = 0

    def kept(self, value: Any, path: str = "", named: PatientFacts | None = None, *, is_theirs: bool = False) -> Any:
        """The parts of a value that are about the patient, or ``_GONE``. A part that names nobody belongs with the entry that holds it."""
        for said in _said(value, path, named or {}):
            if differ(said, self.patient):
                is_theirs = False
            elif overlap(said, self.patient) and not any(overlap(said, other) and not differ(said, other) for other in self.others):
                is_theirs = True
        if not isinstance(value, Mapping | list) or not value:
            self.left_out += not is_theirs
            return value if is_theirs else _GONE
        inside, before = list(_inside(value, path)), self.left_out
        if isinstance(value, list):  # in a list of several patients, an entry that names nobody may belong to any of them
            is_theirs &= not any(differ(said, self.patient) for _, one, below, _ in inside for said in _said(one, below, {}))
        found = [(key, self.kept(one, below, whom, is_theirs=is_theirs)) for key, one, below, whom in inside]
        staying = [(key, one) for key, one in found if one is not _GONE]
        if not staying:
            self.left_out = before + 1
            return _GONE
        return dict(staying) if isinstance(value, Mapping) else [one for _, one in staying]


def _identities(value: Any, path: str = "", whose: PatientFacts | None = None) -> Iterator[list[PatientFacts]]:
    """What each part of the notes says about its patient, from the outer parts to the inner ones."""
    yield _said(value, path, whose or {})
    for _, inner, below, named in _inside(value, path):
        if isinstance(inner, Mapping | list) or named or isinstance(value, list):
            yield from _identities(inner, below, named)


def _inside(value: Any, path: str) -> Iterator[tuple[str, Any, str, PatientFacts]]:
    """For each entry of a value: its key, the entry, its path, and the patient whom the key names."""
    if isinstance(value, Mapping):
        keyed = _named_by_keys(value, _last(path))
        yield from (
            (
                key,
                inner,
                path if key_words(key) in _WRAPPERS else f"{path}/{'patient' if key in keyed else key_words(key)}",
                keyed.get(key, {}),
            )
            for key, inner in value.items()
        )
    elif isinstance(value, list):
        are_people = _last(path) in ("patients", "cases") and sum(map(_holds_notes, value)) > 1
        for place, inner in enumerate(value, 1):
            yield "", inner, path or _LIST, {"id entry": f"{path} {place}"} if are_people else {}


def _holds_notes(entry: Any) -> bool:
    """Whether an entry says more than who a person is."""
    about = _DEMOGRAPHICS | _BARE_IDS | _PATIENT | _MAYBE_PATIENT
    return any(key_words(key) not in about and not kind_of_key(key) for key in entry) if isinstance(entry, Mapping) else bool(entry)


def _describes_somebody(keys: Iterable[str]) -> bool:
    return any(key in _DEMOGRAPHICS or kind_of_key(key).startswith(("born", "id ", "patient")) for key in keys)


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def _named_by_keys(value: Mapping[str, Any], above: str) -> dict[str, PatientFacts]:
    """The patients that the keys of an object name: {"patient 1": ...}, {"Jane Doe": {"age": ...}}, {"4711": {"age": ...}}."""
    numbered = {key: {"id patient": found[2]} for key in value if (found := _NUMBERED.fullmatch(key_words(key)))}
    objects = [{key_words(key) for key in inner} for inner in value.values() if isinstance(inner, Mapping)]
    are_objects = len(objects) == len(value)
    hold_notes = above in ("", *_OF_PEOPLE) and all(keys & _OF_A_PERSON for keys in objects)
    are_people = len(value) > 1 and are_objects and (hold_notes or all(map(_describes_somebody, objects)))
    if not (above in _PATIENTS and are_objects) and not (
        are_people and (all(map(is_person, value)) or all(map(_RECORD_NUMBER.fullmatch, value)))
    ):
        return numbered if len(numbered) > 1 else {}
    return {key: {kind: plain_value(kind, key)} for key in value for kind in ["name" if is_person(key) else "id patient"]}


def _said(value: Any, path: str, whose: PatientFacts) -> list[PatientFacts]:
    """What a text, or an object and the texts in it, says of the patient; more than one identity if it names several."""
    if is_relative(path):
        return []
    found, texts = [whose], [value]
    if isinstance(value, Mapping):
        own = _of_one_patient(_said_by_keys(value, path))
        found = [whose | own[0]] if len(own) == 1 else [whose, *own]
        texts = [text for key, text in value.items() if not is_somebody_else(key_words(key))]
    found += [identity for text in texts if isinstance(text, str) for identity in _of_one_patient((*labelled(text), *described(text)))]
    return [identity for identity in found if identity]


def _of_one_patient(facts: Iterable[tuple[str, str]]) -> list[PatientFacts]:
    """The facts as one identity, or one identity for each of the values that differ most often."""
    values: dict[str, list[str]] = {}
    for kind, said in facts:
        known = values.setdefault(kind, [])
        if len(known) < MOST_PATIENTS and not any(agree(kind, said, other) for other in known):
            known.append(said)
    kind = max(values, key=lambda kind: len(values[kind]), default="")
    return [{kind: said} for said in values[kind]] if kind and len(values[kind]) > 1 else [{kind: one[0] for kind, one in values.items()}]


def _said_by_keys(value: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    """The kind and value of each key, but only the first key of a kind: "patient" comes before "resident", who may be a doctor."""
    if _last(path) in _PERSON:
        yield from identifiers(value)
        value = {key: inner for below, one in value.items() for key, inner in parts_of_name(below, one).items()}
    siblings = {key_words(key) for key in value}
    is_described = _describes_somebody(siblings)
    first: dict[str, str] = {}
    if siblings <= _SPEAKING and len(siblings) > 1:
        return
    for key in sorted(value, key=lambda key: key_words(key) in _LAST):
        inner, name = value[key], key_words(key)
        if name in _PATIENT | _MAYBE_PATIENT and isinstance(inner, Mapping) and (name == "patient" or not is_somebody_else(path)):
            yield from _said_by_keys(inner, f"{path}/patient")
        is_named = any(kind.startswith(("id ", "name")) for kind in first)
        is_column = isinstance(inner, Mapping) and all(map(str.isdigit, inner))  # {"mrn": {"0": "111", "1": "222"}}
        for said in inner.values() if is_column else inner if isinstance(inner, list) else [inner]:
            facts = _facts(key, said, path, siblings, is_described=is_described, is_named=is_named) if isinstance(said, str) else {}
            yield from ((kind, fact) for kind, fact in facts.items() if fact and first.setdefault(kind, key) == key)


def _facts(key: str, said: str, path: str, siblings: set[str], *, is_described: bool, is_named: bool) -> PatientFacts:
    """What a value says of a patient because of its key, the keys above it, and those beside it (``siblings``)."""
    name, kind, above = key_words(key), kind_of_key(key), _last(path)
    if name in _PATIENT and (aged := ages(said)):
        return {"aged": aged[0]}
    if name in _SEXES:
        sex = said.strip().lower()[:1].replace("w", "f")
        return {"sex": sex} if sex in "fm" and not is_somebody_else(path) else {}
    if name in ("age", "patient age") and above in _PERSON and (years := re.match(r"\d{1,3}(?=[.\d]*(?: *y.*)?$)", said.strip())):
        return {"age": years[0]}
    if name == "subject" and siblings & {"from", "to", "sender", "recipient", "body"}:
        return {}
    is_entry = (is_described or (above in ("", *_OF_PEOPLE) and bool(siblings & _OF_A_PERSON))) and not siblings & _OF_NO_PATIENT
    is_pair = is_entry and any(pair <= siblings for pair in ({"first", "last"}, {"given", "family"}))
    if name in _PARTS and (above in _PERSON or is_pair):
        return {_PARTS[name]: plain_value("name", said)}
    if name in _BARE_IDS:
        is_id = above in _PERSON or (above == _LIST and is_entry and not is_named and not siblings & set(_DATES))
        return {"id patient": plain_value("id", said)} if is_id else {}
    if kind == "patient" or name in _PATIENT | _MAYBE_PATIENT or kind.startswith("name"):
        is_text = len(said.split()) > 6 or said.rstrip().endswith((".", "?", "!"))
        is_own = name in ("patient", "full name") or kind == "name own" or above in _PERSON
        is_others = name != "patient" and kind != "name own" and is_somebody_else(path)
        is_other = is_others or (kind == "name" and not is_own and not is_entry)
        if is_text or is_other or not (is_own or is_described or may_be_name(said) or re.fullmatch(r"\w{0,3}\d+", said)):
            return {}
        kind = "id patient" if re.fullmatch(r"\S*\d\S*", said.strip()) else kind if kind in ("name family", "name given") else "name"
    return {kind: plain_value(kind, said)} if kind else {}


def _people(identities: Iterable[PatientFacts], *, linked: bool = False) -> list[PatientFacts]:
    """What is known of each patient; entries that differ are of different patients. At most ``MOST_PATIENTS`` are distinguished.

    With ``linked``, so are entries that have nothing in common, such as a name alone and a number alone.
    """
    people: list[PatientFacts] = []
    for identity in sorted(identities, key=len, reverse=True):
        person = next((person for person in people if not differ(person, identity) and (not linked or overlap(person, identity))), None)
        if person is None:
            people.append(dict(identity))
            if len(people) == MOST_PATIENTS:
                break
        else:
            for kind, said in identity.items():
                person[kind] = person.get(kind, said)
    return people
