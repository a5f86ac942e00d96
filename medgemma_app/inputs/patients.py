"""Whose notes are they? Two patients are never one record: what differs is refused, or one patient is chosen."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from medgemma_app.errors import InputError
from medgemma_app.inputs.lines import key_words

Identity: TypeAlias = dict[str, str]  # what a visit says of its patient: "id mrn", "name", "born", "sex"

_IDS = frozenset((
    "patient id", "patient identifier", "patient number", "patient no", "patient mrn", "mrn", "medical record number", "record number",
    "nhs number", "ssn", "social security number", "subject id", "person id", "chart number", "hospital number",
    "pid", "pat id", "client id", "member id",
))  # fmt: skip
_NAMES = frozenset(("patient name", "full name"))
_PARTS_OF_A_NAME = frozenset(("first name", "given name", "last name", "family name", "surname"))
_BORN = frozenset(("dob", "date of birth", "birth date", "birthdate", "birthday", "patient dob"))
_SEXES = frozenset(("sex", "gender", "patient sex", "patient gender"))
_PATIENT = frozenset(("patient", "subject", "demographics", "patient info", "patient information", "patient details"))
_OF_VISITS = frozenset((
    "visits", "visit", "encounters", "encounter", "patients", "records", "record", "notes", "cases", "data", "results", "entries", "items",
    "documents", "history", "consultations",
))  # fmt: skip
_OF_PEOPLE = frozenset(("visits", "encounters", "patients", "records", "cases"))
_OF_A_PERSON = frozenset(("age", "note", "notes", "chief complaint", "complaint", "hpi", "history", "symptoms", "diagnosis"))
_SPEAKING = frozenset(("patient", "doctor", "clinician", "physician", "nurse", "provider", "time", "turn", "interviewer", "gp", "dr"))
_DATES = ("date", "visit date", "encounter date", "date of visit", "service date", "datetime", "timestamp", "created", "day")
_MOST = 100
_AGED = re.compile(r"\b(\d{1,3})[- ]?(?:years?|yrs?|y/?o|[MF])\b", re.IGNORECASE)
_SEX_WORD = re.compile(r"\b(?:wom[ae]n|female|girl|man|male|boy)\b", re.IGNORECASE)
_MOST_YEARS = 5  # between two visits of one patient
_WORD = re.compile(r"[^\W_]+")
_RECORD_NUMBER = re.compile(
    r"(?im)^\W*(mrn|patient (?:id|number|name)|medical record (?:number|no)|nhs (?:number|no)|hospital (?:number|no))\.?\s*[:#]\s*"
    r"([^\W_][\w ,.'/-]{0,40}?)[ \t]{0,9}(?:$|;|\||\t|  )"
)


class SeveralPatients(InputError):
    """The notes are about more than one patient; ``can_choose`` where each of them can be told by a name or an id."""

    def __init__(self, name: str, number: int, *, can_choose: bool = True) -> None:
        way = "give one file for each" + (", or choose one with --patient ID" if can_choose else "")
        super().__init__(f"{name} holds the notes of {number} patients; {way}")


def is_called(patient: str, names: Iterable[str]) -> bool:
    """Whether what a user calls a patient by is one of their ids, in any case, or their name, in any order of its words."""
    called = _folded(patient)
    return bool(called) and called in map(_folded, names)


def _folded(called: str) -> str:
    words = _WORD.findall(called.casefold())
    return " ".join(called.casefold().split()) if re.search(r"\d", called) else " ".join(sorted(words))


def no_such_patient(name: str) -> InputError:
    """The error for a ``patient`` that the notes do not name."""
    return InputError(f"{name} names no patient with the ID that was given; give the ID, record number or name as the file writes it")


def one_patient(value: Any, name: str, patient: str | None) -> tuple[Any, list[str]]:
    """The visits of the only patient, or of the one chosen, and what is left out. Raises SeveralPatients, InputError."""
    if patient is not None:
        chosen, dropped = _chosen_visits(value, name, patient)
        return chosen, [f"{dropped} {'entry' if dropped == 1 else 'entries'} of another patient, or of none"] if dropped else []
    people = _people(identity for _, identity in _visits(value))
    if len(people) > 1:
        raise SeveralPatients(name, len(people), can_choose=all(map(_ways_to_call, people)))
    return value, []


def refuse_several_numbers(text: str, name: str) -> str:
    """The text as it is. Raises SeveralPatients where it gives different record numbers, each on a line of its own."""
    found = [{f"id {label.lower()}": _plain(number)} for label, number in _RECORD_NUMBER.findall(text)]
    number = max((len(_people([one for one in found if kind in one])) for kind in {kind for one in found for kind in one}), default=1)
    if number > 1:
        raise SeveralPatients(name, number, can_choose=False)
    return text


def _chosen_visits(value: Any, name: str, patient: str) -> tuple[Any, int]:
    """What the visits of one patient say, and how many entries are left out. Raises InputError where none is the patient's."""
    visits = list(_visits(value))
    chosen = _people(identity for _, identity in visits if is_called(patient, _ways_to_call(identity)))
    if len(chosen) != 1:
        raise no_such_patient(name)
    theirs = {id(visit) for visit, identity in visits if identity.keys() & chosen[0].keys() - {"sex"} and not _differ(identity, chosen[0])}
    if not any(_differ(identity, chosen[0]) for _, identity in visits):
        return value, 0
    dropped = 0

    def kept(inner: Any) -> Any:
        nonlocal dropped
        if isinstance(inner, Mapping):
            return {key: kept(one) for key, one in inner.items() if not is_other(one)}
        if isinstance(inner, list):
            mixed = any(id(one) in known for one in inner)
            staying = [one for one in inner if id(one) in theirs or (id(one) not in known and not mixed)]
            dropped += len(inner) - len(staying)
            return [kept(one) for one in staying]
        return inner

    def is_other(inner: Any) -> bool:
        nonlocal dropped
        other = id(inner) in known and id(inner) not in theirs
        dropped += other
        return other

    known = {id(visit) for visit, _ in visits if visit is not value}
    return kept(value), dropped


def _ways_to_call(identity: Identity) -> list[str]:
    return [said for kind, said in identity.items() if kind in ("name", "patient") or kind.startswith("id ")]


def day_of(item: Any) -> str:
    """The date of an entry as it writes it, "" where it has none."""
    told = {key_words(key): value for key, value in item.items() if isinstance(value, str)} if isinstance(item, Mapping) else {}
    return next((told[key].strip() for key in _DATES if key in told), "")


def _visits(value: Any, above: str = "", depth: int = 0) -> Iterator[tuple[Mapping[str, Any], Identity]]:
    """The objects that say whose they are: the outermost, entries of lists of visits, and others that name a patient."""
    if depth > 6:
        return
    if isinstance(value, Mapping):
        told = {key_words(key) for key in value}
        if not (told <= _SPEAKING and len(told) > 1):
            has_name = above in _OF_PEOPLE and bool(told & (_OF_A_PERSON | _SEXES | _BORN))
            identity = _identity(value, depth == 0 or above in _OF_VISITS, person=above == "patients" or has_name)
            if identity:
                yield value, identity
        numbered = sum(re.fullmatch(r"(patient|case|record|visit)( ?#?\w{1,4})?", key) is not None for key in told) > 1
        if above in _OF_PEOPLE and all(isinstance(inner, Mapping) for inner in value.values()):  # {"visits": {"1": {...}, "2": {...}}}
            for inner in value.values():
                yield from _visits(inner, above, depth + 1)
            return
        for key, inner in value.items():
            yield from _visits(inner, "patients" if numbered and key_words(key).startswith("patient") else key_words(key), depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _visits(inner, above or "visits", depth + 1)


def _identity(value: Mapping[str, Any], is_visit: bool, *, person: bool = False) -> Identity:
    found: Identity = {}
    parts = [_plain(inner) for key, inner in value.items() if key_words(key) in _PARTS_OF_A_NAME and isinstance(inner, str)]
    if person and parts:
        found["name"] = " ".join(parts)
    for key, inner in value.items():
        name = key_words(key)
        if name in _PATIENT and isinstance(inner, Mapping):
            found |= _identity(inner, True, person=True)
        elif name in _PATIENT and isinstance(inner, str) and _AGED.search(inner):
            found |= {"aged": aged[1]} if (aged := _AGED.search(inner)) else {}
            found |= {"sex": "f" if sex[0][0].lower() in "wfg" else "m"} if (sex := _SEX_WORD.search(inner)) else {}
        elif name in _PATIENT and isinstance(inner, str) and len(inner.split()) <= 6 and not inner.rstrip().endswith((".", "?", "!")):
            found["patient"] = _plain(inner)
        elif isinstance(inner, str) and (said := _plain(inner)):
            kind = _kind(name, person)
            if kind and (is_visit or kind.startswith("id ") or kind == "name"):
                found[kind] = said if kind != "sex" else said[:1].replace("w", "f")
    return found if found.get("sex", "f") in "fm" else {kind: said for kind, said in found.items() if kind != "sex"}


def _kind(name: str, person: bool) -> str:
    if name in _IDS or (person and name in ("id", "identifier", "number", "reference")):
        return f"id {name}"
    if name in _NAMES or (person and name == "name"):
        return "name"
    return "born" if name in _BORN else "sex" if name in _SEXES else ""


def _people(identities: Any) -> list[Identity]:
    """What is known of each patient; visits that differ are of different patients. At most ``_MOST`` are told apart."""
    people: list[Identity] = []
    for identity in identities:
        person = next((person for person in people if not _differ(person, identity)), None)
        if person is None:
            people.append(dict(identity))
            if len(people) == _MOST:
                break
        else:
            for kind, said in identity.items():
                person[kind] = person.get(kind, said)
    return people


def _differ(one: Identity, other: Identity) -> bool:
    shared = [kind for kind in one if kind in other]
    if any(kind.startswith("id ") and one[kind] == other[kind] for kind in shared):
        return False
    return any(not _may_be_one(kind, one[kind], other[kind]) for kind in shared)


def _may_be_one(kind: str, one: str, other: str) -> bool:
    """Names may be written with more or fewer words, and in another order; patients grow older."""
    if kind == "aged":
        return abs(int(one) - int(other)) <= _MOST_YEARS
    if kind not in ("name", "patient"):
        return one == other
    words, others = set(_WORD.findall(one)), set(_WORD.findall(other))
    return words <= others or others <= words


def _plain(said: str) -> str:
    return " ".join(said.lower().split())
