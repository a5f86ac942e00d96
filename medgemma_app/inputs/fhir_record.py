"""A FHIR record: its resources, what references among them mean, and whose they are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from medgemma_app.inputs.demographics import MOST_COMPARED, Demographics, can_choose, several_births_or_sexes
from medgemma_app.inputs.lines import inside
from medgemma_app.inputs.patient_values import SeveralPatients, is_called, no_such_patient, objects

Resource: TypeAlias = Mapping[str, Any]

SUBJECTS = ("subject", "patient", "beneficiary", "for")
# https://example.org/fhir/Medication/9/_history/1: the base is missing in a relative one.
ADDRESS = re.compile(r"(?P<base>(?:https?://.*/)?)(?P<name>[A-Za-z]+/[A-Za-z0-9.-]{1,64})(?:/_history/[A-Za-z0-9.-]{1,64})?")
_PATIENT = re.compile(r"(?:^|/)Patient/[^/]+(?:/_history/.*)?$")
# Roles of one patient for another: a mother who pays for her child, or gives the history.
_OTHER_ROLES = frozenset((
    "asserter", "author", "informant", "informationSource", "link", "performer", "policyHolder", "recorder", "sender", "subscriber",
))  # fmt: skip
_MOST_OF_A_NAME = 10  # resources that one reference may mean: hostile records must not take hours


def is_fhir(value: Any) -> bool:
    """True for an object with a resourceType."""
    return isinstance(value, Mapping) and isinstance(value.get("resourceType"), str)


def holds_resources(value: Mapping[str, Any]) -> bool:
    """True for a resource with others contained in it."""
    return isinstance(value.get("contained"), list) and all(map(is_fhir, value["contained"]))


@dataclass(frozen=True)
class Entry:
    """One resource of a record, the address and the other keys of its entry, and the resources that its #ids refer to."""

    resource: Resource
    address: str | None = None
    beside: tuple[str, ...] = ()
    contained: Sequence[Resource] = ()
    is_contained: bool = False
    mark: str = ""  # how its lines begin: "STOPPED: "
    taken_back: str = ""  # why it is left out

    @property
    def kind(self) -> str:
        """The type of the resource."""
        return str(self.resource["resourceType"])

    @property
    def base(self) -> str:
        """The address of its server; "" if unknown."""
        found = ADDRESS.fullmatch(self.address or "")
        return found["base"] if found else ""


class References:
    """Resolves references to resources of a record (R4, "Resolving references in Bundles" and "Contained resources")."""

    def __init__(self, record: Sequence[Entry]) -> None:
        self._at: dict[str, list[Entry]] = {}
        self._named: dict[str, list[Entry]] = {}
        for one in record:
            for index, name in ((self._at, one.address), (self._named, f"{one.kind}/{one.resource.get('id')}")):
                if name and len(same := index.setdefault(name, [])) < _MOST_OF_A_NAME:
                    same.append(one)

    def meant(self, reference: str, by: Entry) -> list[Resource]:
        """The resources that ``reference`` may mean in the resource ``by``: none, one, or several if the record leaves it open.

        Resources at the exact address come first, then those whose server is unknown.
        """
        if reference.startswith("#"):
            return [one for one in by.contained if one.get("id") == reference[1:]]
        found = ADDRESS.fullmatch(reference)
        if not found:
            return [one.resource for one in self._at.get(reference, [])]
        base, named = found["base"] or by.base, self._named.get(found["name"], [])
        at = self._at.get(base + found["name"], []) if base else named
        return [one.resource for one in at or named if at or not one.base]


def references(value: Any) -> Iterator[str]:
    """Every reference in a resource."""
    if isinstance(value, Mapping):
        yield from (said for key in ("reference", "url") if isinstance(said := value.get(key), str))
    for inner in inside(value):
        yield from references(inner)


class Subjects:
    """The patients of a record's resources, and which resources belong to the same patient."""

    def __init__(self, record: list[Entry]) -> None:
        self._record = record
        self._references = References(record)
        self._people: dict[str, str] = {}  # a key of a person -> another key of the same person
        self._patients = [entry for entry in record if entry.kind == "Patient"]
        for entry in self._patients:
            self._unite(self._names(entry))
        people = [self.of(entry) for entry in record]
        self._unite_what_can_only_be_one(set(people) - {""})
        self._owners = [self._person(person) if person else "" for person in people]  # whose each resource is

    def _names(self, entry: Entry) -> Iterator[str]:
        """The keys of a Patient: its resource, address, identifiers, and those of the Patients that it is linked to."""
        resource = entry.resource
        yield _inside(resource)
        yield from _identifiers(resource)
        if entry.is_contained and resource.get("birthDate"):  # each resource may contain its own copy of the patient
            yield f"[{resource.get('name')} {resource['birthDate']}"
        elif not entry.is_contained and isinstance(resource.get("id"), str):
            yield f"{entry.base}Patient/{resource['id']}"
        yield from filter(None, (self._key(link.get("other"), entry) for link in objects(resource.get("link"))))

    def _unite(self, names: Iterable[str]) -> None:
        first, *others = names
        for name in others:
            self._people[self._person(name)] = self._person(first)

    def _person(self, key: str) -> str:
        """The common key that all keys of a person lead to."""
        while (above := self._people.get(key, key)) != key:
            self._people[key] = self._people.get(above, above)
            key = above
        return key

    def _key(self, subject: Any, by: Entry) -> str:
        """The key of the patient that a reference means; "" if it means no patient."""
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
            if is_other or subject.get("type", "Patient") != "Patient":
                return ""
            found = ADDRESS.fullmatch(reference)
            return (found["base"] or by.base) + found["name"] if found else reference
        identifier = _identifiers({"identifier": subject.get("identifier")})
        words = sorted(re.findall(r"\w+", _text(subject.get("display")).lower()))
        return identifier[0] if identifier else f"called {' '.join(words)}" if words else ""

    def of(self, entry: Entry) -> str:
        """The key of the patient that a resource is about; "" if it names nobody."""
        if entry.kind == "Patient":
            return self._person(_inside(entry.resource))
        named = (self._key(entry.resource.get(name), entry) for name in SUBJECTS)
        key = next(filter(None, named), "") or next(self._patients_within(entry), "")
        return self._person(key) if key else ""

    def _patients_within(self, entry: Entry) -> Iterator[str]:
        """The keys of the Patients that elements refer to: Appointment.participant.actor, QuestionnaireResponse.source."""
        elements = {key: one for key, one in entry.resource.items() if key not in _OTHER_ROLES}
        for reference in references(elements):
            meant = self._references.meant(reference, entry)
            if _PATIENT.search(reference) or any(one.get("resourceType") == "Patient" for one in meant):
                yield self._key({"reference": reference}, entry)

    def _unite_what_can_only_be_one(self, people: set[str]) -> None:
        """Names and bare ids that can mean only one of the patients are keys of that patient."""
        placed: dict[str, set[str]] = {}
        for person in people:
            placed.setdefault("/".join(person.split("/")[-2:]), set()).add(person)
        for bare, same in placed.items():  # Patient/1 and https://example.org/fhir/Patient/1
            if len(same) == 2 and bare in same:
                self._unite(same)
        certain = {self._person(person) for person in people if not person.startswith("called ")}
        if len(self._patients) == 1 and len(certain) == 2 and not isinstance(self._patients[0].resource.get("id"), str):
            self._unite(certain)  # a Patient without an id
        elif len(certain) != 1:
            return
        known = self.demographics(self._record) or self._named_in_references()
        for person in people - certain:
            named = Demographics(names=(person.removeprefix("called "),))
            if not any(named.differ(other) for other in known):
                self._unite((*certain, person))

    def demographics(self, record: Iterable[Entry]) -> list[Demographics]:
        """The different descriptions of the patient in a record, at most ``MOST_COMPARED``."""
        return list(dict.fromkeys(_demographics(entry.resource) for entry in record if entry.kind == "Patient"))[:MOST_COMPARED]

    def _named_in_references(self) -> list[Demographics]:
        """The names that stand beside references to a patient."""
        subjects = (entry.resource.get(key) for entry in self._record for key in SUBJECTS)
        displays = (one.get("display") for one in subjects if isinstance(one, Mapping) and one.get("reference"))
        return [Demographics(names=(name,)) for name in dict.fromkeys(one for one in displays if isinstance(one, str))][:MOST_COMPARED]

    def can_choose(self) -> bool:
        """Whether each patient has a name or an id of their own, and none has two birth dates or sexes."""
        return can_choose(self._called(set(self._owners) - {""}).values()) and not self._mixed()

    def _mixed(self) -> set[str]:
        """The patients who have two birth dates or sexes."""
        known: dict[str, list[Demographics]] = {}
        for entry in self._patients:
            known.setdefault(self.of(entry), []).append(_demographics(entry.resource))
        return {person for person, some in known.items() if several_births_or_sexes(some)}

    def chosen(self, name: str, patient: str | None) -> tuple[list[Entry], list[str]]:
        """The resources of the one patient, or of the one chosen; and what was left out. Raises SeveralPatients, InputError."""
        people = set(self._owners) - {""}
        wanted = people
        if patient is not None:
            wanted = {person for person, names in self._called(people).items() if is_called(patient, names)}
            if len(wanted) != 1:
                raise no_such_patient(name)
        if len(wanted) > 1 or wanted & self._mixed():
            raise SeveralPatients(name, max(2, len(wanted)), can_choose=patient is None and self.can_choose())
        if people == wanted:
            return self._record, []
        kept = self._with_parts({at for at, person in enumerate(self._owners) if person in wanted})
        left_out = [
            "resource of another patient" if person else f"{entry.kind} that names no patient"
            for at, (person, entry) in enumerate(zip(self._owners, self._record, strict=True))
            if at not in kept
        ]
        return [self._record[at] for at in sorted(kept)], left_out

    def _called(self, people: Iterable[str]) -> dict[str, set[str]]:
        """For each patient, the ids, addresses, identifiers and names by which a user may choose them."""
        known = {person: {person} for person in people}
        for key in self._people:
            known.get(self._person(key), set()).add(key)
        for entry in self._patients:
            address = "" if entry.is_contained else entry.address or ""
            known.get(self.of(entry), set()).update((address, *_names(entry.resource)))
        return {person: {way for key in keys if key[:1] not in ("\0", "[") for way in _ways_to_call(key)} for person, keys in known.items()}

    def _with_parts(self, kept: set[int]) -> set[int]:
        """The positions of some resources, and of the resources without a patient that they refer to."""
        places = {id(entry.resource): at for at, entry in enumerate(self._record) if not self._owners[at]}
        asking = list(kept)
        while asking:
            entry = self._record[asking.pop()]
            meant = [one for reference in references(entry.resource) for one in self._references.meant(reference, entry)]
            new = {places[id(one)] for one in meant if id(one) in places} - kept
            kept = kept | new
            asking += new
        return kept

    def apart(self, entry: Entry) -> str:
        """Who a resource is about if not the record's patient, such as a relative or a newborn; otherwise ""."""
        for key in SUBJECTS:
            subject = entry.resource.get(key)
            if isinstance(subject, Mapping) and not self._key(subject, entry):
                return _text(subject.get("display")) or _text(subject.get("reference"))
        return ""


def _identifiers(resource: Mapping[str, Any]) -> list[str]:
    return [
        f"{one.get('system')}|{one['value']}"
        for one in objects(resource.get("identifier"))
        if isinstance(one.get("value"), str) and isinstance(one.get("system"), str | None)
    ]


def _names(patient: Resource) -> Iterator[str]:
    """The names of a Patient, each as its text and as its given and family name."""
    for one in objects(patient.get("name")):
        yield from filter(None, (_text(one.get("text")), f"{_text(one.get('given'))} {_text(one.get('family'))}".strip()))


def _demographics(patient: Resource) -> Demographics:
    ids = (one.rpartition("|") for one in _identifiers(patient))
    return Demographics(
        frozenset((issuer.removeprefix("urn:oid:").replace("None", ""), number) for issuer, _, number in ids),
        tuple(_names(patient)),
        _text(patient.get("birthDate")),
        _text(patient.get("gender")),
    )


def _text(value: Any) -> str:
    return " ".join(map(_text, value)) if isinstance(value, list) else value if isinstance(value, str) else ""


def _inside(resource: Resource) -> str:
    """A key for a Patient resource that may have neither name nor id."""
    return f"\0{id(resource)}"


def _ways_to_call(key: str) -> tuple[str, ...]:
    """The key of a patient as a user might write it, with and without server, register or type."""
    return key, re.split(r"[/|]|urn:uuid:|called ", key)[-1], re.sub(r".*/(?=Patient/)", "", key)
