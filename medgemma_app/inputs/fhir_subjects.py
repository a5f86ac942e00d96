"""Whose the resources of a FHIR record are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from medgemma_app.inputs.demographics import MOST_COMPARED, Demographics, can_choose, several_births_or_sexes
from medgemma_app.inputs.fhir_record import SUBJECTS, Entry, References, Resource, address_of, references
from medgemma_app.inputs.patient_values import SeveralPatients, is_called, no_such_patient

_PATIENT = re.compile(r"(?:^|/)Patient/[^/]+(?:/_history/.*)?$")
# What a patient may do for another one: a mother who pays for her child or tells of it.
_OTHER_ROLES = frozenset((
    "asserter", "author", "informant", "informationSource", "link", "performer", "policyHolder", "recorder", "sender", "subscriber",
))  # fmt: skip


class Subjects:
    """Whose resources these are."""

    def __init__(self, record: list[Entry]) -> None:
        self._record = record
        self._references = References(record)
        self._people: dict[str, str] = {}  # a key of a person -> the key that stands for all of them
        self._patients = [entry for entry in record if entry.kind == "Patient"]
        for entry in self._patients:
            self._unite(self._names(entry))

    def _names(self, entry: Entry) -> Iterator[str]:
        """The keys of a Patient: its resource, address, identifiers, and those of the Patients that it is linked to."""
        resource = entry.resource
        yield _inside(resource)
        yield from _identifiers(resource)
        if entry.is_contained and resource.get("birthDate"):  # each resource may contain its own copy of the patient
            yield json.dumps([resource.get("name"), resource["birthDate"]], sort_keys=True)
        elif not entry.is_contained and isinstance(resource.get("id"), str):
            yield f"{entry.base}Patient/{resource['id']}"
        links = resource.get("link")
        for link in links if isinstance(links, list) else ():
            if isinstance(link, Mapping) and (key := self._key(link.get("other"), entry)):
                yield key

    def _unite(self, names: Iterable[str]) -> None:
        first, *others = names
        for name in others:
            self._people[self._person(name)] = self._person(first)

    def _person(self, key: str) -> str:
        """The key that stands for all keys of a person."""
        while (above := self._people.get(key, key)) != key:
            self._people[key] = self._people.get(above, above)
            key = above
        return key

    def _key(self, subject: Any, by: Entry) -> str:
        """The key of the patient whom a reference means; "" where it means no patient."""
        if isinstance(subject, list):
            return next((key for one in subject if (key := self._key(one, by))), "")
        if not isinstance(subject, Mapping):
            return ""
        reference = subject.get("reference")
        if isinstance(reference, str) and reference:
            meant = [one for one in self._references.meant(reference, by) if one.get("resourceType") == "Patient"]
            if meant:
                return _inside(meant[0])
            is_other = re.search(r"(?:^|/)(?!Patient/)[A-Z]\w+/[^/]+(/_history/.*)?$", reference)
            return "" if is_other or subject.get("type", "Patient") != "Patient" else address_of(reference, by)
        identifier = _identifiers({"identifier": subject.get("identifier")})
        words = sorted(re.findall(r"\w+", _text(subject.get("display")).lower()))
        return identifier[0] if identifier else f"called {' '.join(words)}" if words else ""

    def of(self, entry: Entry) -> str:
        """Whose this resource is; "" where it names nobody."""
        if entry.kind == "Patient":
            return self._person(_inside(entry.resource))
        named = (key for name in SUBJECTS if (key := self._key(entry.resource.get(name), entry)))
        key = next(named, "") or next(self._patients_within(entry), "")
        return self._person(key) if key else ""

    def _patients_within(self, entry: Entry) -> Iterator[str]:
        """The keys of the Patients that elements refer to: Appointment.participant.actor, QuestionnaireResponse.source."""
        told = {key: one for key, one in entry.resource.items() if key not in _OTHER_ROLES}
        for reference in references(told):
            meant = self._references.meant(reference, entry)
            if _PATIENT.search(reference) or any(one.get("resourceType") == "Patient" for one in meant):
                yield self._key({"reference": reference}, entry)

    def _owners(self) -> dict[int, str]:
        """Whose each resource is. Where only one patient can be meant by a name or a bare id, it is that one."""
        owners = {at: self.of(entry) for at, entry in enumerate(self._record)}
        placed: dict[str, set[str]] = {}
        for person in set(owners.values()):
            placed.setdefault("/".join(person.split("/")[-2:]), set()).add(person)
        one_server = {bare: next(iter(full - {bare})) for bare, full in placed.items() if len(full) == 2 and bare in full}
        owners = {at: one_server.get(person, person) for at, person in owners.items()}  # Patient/1 and https://example.org/fhir/Patient/1
        certain = {person for person in owners.values() if person and not person.startswith("called ")}
        if len(self._patients) == 1 and len(certain) == 2 and not isinstance(self._patients[0].resource.get("id"), str):
            only = self.of(self._patients[0])  # a Patient without an id
            owners = {at: only if person in certain else person for at, person in owners.items()}
            certain = {only}
        if len(certain) == 1:
            known = self.demographics(self._record) or self._named_in_references()
            named = {person: Demographics(names=(person.removeprefix("called "),)) for person in set(owners.values()) - certain - {""}}
            same = {person for person, one in named.items() if not any(one.differ(other) for other in known)}
            owners = {at: next(iter(certain)) if person in same else person for at, person in owners.items()}
        return owners

    def demographics(self, record: Iterable[Entry]) -> list[Demographics]:
        """What the Patients in a record say of themselves, as far as it differs and as others can be compared with it."""
        return list(dict.fromkeys(_demographics(entry.resource) for entry in record if entry.kind == "Patient"))[:MOST_COMPARED]

    def _named_in_references(self) -> list[Demographics]:
        """The names that references to a patient give beside the address."""
        subjects = (entry.resource.get(key) for entry in self._record for key in SUBJECTS)
        told = (one.get("display") for one in subjects if isinstance(one, Mapping) and one.get("reference"))
        return [Demographics(names=(name,)) for name in dict.fromkeys(one for one in told if isinstance(one, str))][:MOST_COMPARED]

    def can_choose(self) -> bool:
        """Whether each of the patients has a name or an id that no other one has, and no id that two different people have."""
        return can_choose(self._called(set(self._owners().values()) - {""}).values()) and not self._mixed()

    def _mixed(self) -> set[str]:
        """The patients who have two birth dates or sexes."""
        known: dict[str, list[Demographics]] = {}
        for entry in self._patients:
            known.setdefault(self.of(entry), []).append(_demographics(entry.resource))
        return {person for person, some in known.items() if several_births_or_sexes(some)}

    def chosen(self, name: str, patient: str | None) -> tuple[list[Entry], list[str]]:
        """The resources of the one patient, or of the one chosen; and what was left out. Raises SeveralPatients, InputError."""
        owners = self._owners()
        people = set(owners.values()) - {""}
        if patient is None:
            if len(people) > 1 or self._mixed():
                raise SeveralPatients(name, max(2, len(people)), can_choose=self.can_choose())
            return self._record, []
        wanted = {person for person, names in self._called(people).items() if is_called(patient, names)}
        if len(wanted) != 1:
            raise no_such_patient(name)
        if wanted & self._mixed():
            raise SeveralPatients(name, 2, can_choose=False)
        if people == wanted:
            return self._record, []
        kept = {at for at, person in owners.items() if person in wanted}
        kept |= self._referred_to(kept, {at for at, person in owners.items() if not person})
        others = sum(1 for at, person in owners.items() if person and at not in kept)
        nobody = [self._record[at].kind for at, person in owners.items() if not person and at not in kept]
        told = [f"{others} resource{'s' * (others != 1)} of other patients", *(f"{kind} that names no patient" for kind in nobody)]
        return [entry for at, entry in enumerate(self._record) if at in kept], told

    def _called(self, people: Iterable[str]) -> dict[str, set[str]]:
        """For each patient the ids, addresses and identifiers that a user may call them by."""
        known = {person: {person} for person in people}
        for name in self._people:
            known.get(self._person(name), set()).add(name)
        for entry in self._patients:
            resource = entry.resource
            ids = [] if entry.is_contained else [str(resource.get("id")), entry.address or ""]
            known.get(self.of(entry), set()).update([*ids, *_identifiers(resource), *_names(resource)])
        return {person: {called for name in names for called in _ways_to_call(name)} - {"", "None"} for person, names in known.items()}

    def _referred_to(self, kept: set[int], nobodys: set[int]) -> set[int]:
        """The resources without a patient that those kept refer to, and those contained in them."""
        found: set[int] = set()
        places = {id(entry.resource): at for at, entry in enumerate(self._record)}
        asking = list(kept)
        while asking:
            entry = self._record[asking.pop()]
            meant = [one for reference in references(entry.resource) for one in self._references.meant(reference, entry)]
            new = {places[id(one)] for one in meant if id(one) in places} & nobodys - found
            found |= new
            asking += new
        return found

    def apart(self, entry: Entry) -> str:
        """Whom a resource is about where that is somebody else than the record's patient, such as a relative or a newborn."""
        for key in SUBJECTS:
            subject = entry.resource.get(key)
            if isinstance(subject, Mapping) and not self._key(subject, entry):
                told = subject.get("display") or subject.get("reference")
                if isinstance(told, str):
                    return told
        return ""


def _identifiers(resource: Mapping[str, Any]) -> list[str]:
    held = resource.get("identifier")
    return [
        f"{one.get('system')}|{one['value']}"
        for one in (held if isinstance(held, list) else [held])
        if isinstance(one, Mapping) and isinstance(one.get("value"), str) and isinstance(one.get("system"), str | None)
    ]


def _names(patient: Resource) -> Iterator[str]:
    """The names of a Patient, each as its text and as its given and family name."""
    held = patient.get("name")
    for one in held if isinstance(held, list) else [held]:
        if isinstance(one, Mapping):
            yield from (said for said in (_text(one.get("text")), f"{_text(one.get('given'))} {_text(one.get('family'))}".strip()) if said)


def _demographics(patient: Resource) -> Demographics:
    ids = (one.rpartition("|") for one in _identifiers(patient))
    born, sex = patient.get("birthDate"), patient.get("gender")
    return Demographics(
        frozenset((issuer.removeprefix("urn:oid:").replace("None", ""), number) for issuer, _, number in ids),
        tuple(_names(patient)),
        born if isinstance(born, str) else "",
        sex if isinstance(sex, str) else "",
    )


def _text(value: Any) -> str:
    return " ".join(map(_text, value)) if isinstance(value, list) else value if isinstance(value, str) else ""


def _inside(resource: Resource) -> str:
    """What a Patient is called in here, whom no name or id may tell from others."""
    return f"\0{id(resource)}"


def _ways_to_call(name: str) -> tuple[str, ...]:
    """An address, an identifier with its system, or a name, as a user might write it; none for an internal key."""
    if name.startswith(("\0", "[")):
        return ()
    last = re.split(r"[/|]", name)[-1]
    return name, last, f"Patient/{last}", name.removeprefix("urn:uuid:"), name.removeprefix("called ")
