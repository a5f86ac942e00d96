"""A FHIR record: its resources, what references among them mean, and whose the resources are."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from medgemma_app.inputs.lines import inside, status_mark
from medgemma_app.inputs.patients import SeveralPatients, is_called, no_such_patient

Resource: TypeAlias = Mapping[str, Any]

SUBJECTS = ("subject", "patient", "beneficiary", "for")
# https://example.org/fhir/Medication/9/_history/1: the base is missing in a relative one.
_ADDRESS = re.compile(r"(?P<base>(?:https?://.*/)?)(?P<name>[A-Za-z]+/[A-Za-z0-9.-]{1,64})(?:/_history/(?P<version>[A-Za-z0-9.-]{1,64}))?")


def is_fhir(value: Any) -> bool:
    """True for an object that says which FHIR resource it is."""
    return isinstance(value, Mapping) and isinstance(value.get("resourceType"), str)


def holds_resources(value: Mapping[str, Any]) -> bool:
    """True for a resource with others contained in it."""
    return isinstance(value.get("contained"), list) and all(map(is_fhir, value["contained"]))


@dataclass(frozen=True)
class Entry:
    """One resource of a record, the address of its entry, what else its entry says, and the resources whose #ids hold in it."""

    resource: Resource
    address: str | None = None
    beside: tuple[str, ...] = ()
    contained: Sequence[Resource] = ()
    is_contained: bool = False
    mark: str = ""  # the capitals that its lines begin with
    taken_back: str = ""  # why it is left out

    @property
    def kind(self) -> str:
        """The type of the resource."""
        return str(self.resource["resourceType"])

    @property
    def base(self) -> str:
        """The address of the server it is from; "" where that is not said."""
        found = _ADDRESS.fullmatch(self.address or "")
        return found["base"] if found else ""


class References:
    """Finds which resource of a record a reference means (R4, "Resolving references in Bundles" and "Contained resources")."""

    def __init__(self, record: Sequence[Entry]) -> None:
        self._at: dict[str, list[Entry]] = {}
        self._named: dict[str, list[Entry]] = {}
        for one in record:
            self._at.setdefault(one.address or "", []).append(one)
            self._named.setdefault(f"{one.kind}/{one.resource.get('id')}", []).append(one)

    def meant(self, reference: str, by: Entry) -> Iterator[Resource]:
        """What ``reference`` may mean in the resource ``by``: nothing, one resource, or several where the record leaves it open."""
        if reference.startswith("#"):
            yield from (one for one in by.contained if one.get("id") == reference[1:])
            return
        found = _ADDRESS.fullmatch(reference)
        known = self._placed(found, by) if found else self._at.get(reference, []) if reference else []
        exact = [one for one in known if found and found["version"] and _version(one.resource) == found["version"]]
        yield from (one.resource for one in exact or known)

    def _placed(self, found: re.Match[str], by: Entry) -> list[Entry]:
        """The resources at the address; else those of that name whose entries do not say where they are from."""
        base = found["base"] or by.base
        named = self._named.get(found["name"], [])
        at = self._at.get(base + found["name"], []) if base else named
        return at or [one for one in named if not one.base]


def address_of(reference: str, by: Entry) -> str:
    """A reference without its version, and where it names its server with that."""
    found = _ADDRESS.fullmatch(reference)
    return (found["base"] or by.base) + found["name"] if found else reference


def _version(resource: Resource) -> str | None:
    meta = resource.get("meta")
    return str(meta.get("versionId")) if isinstance(meta, Mapping) else None


class Subjects:
    """Whose resources these are."""

    def __init__(self, record: list[Entry]) -> None:
        self._record = record
        self._references = References(record)
        self._people: dict[str, str] = {}  # what a person is called by -> the name that stands for all of those
        self._patients = [entry for entry in record if entry.kind == "Patient"]
        for entry in self._patients:
            self._unite(self._names(entry))

    def _names(self, entry: Entry) -> Iterator[str]:
        """Everything that means this Patient: its resource, address and identifiers, and what it is linked to as the same person."""
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
        """The name that stands for all names of a person."""
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
        display = subject.get("display")
        if identifier:
            return identifier[0]
        return f"called {' '.join(display.lower().split())}" if isinstance(display, str) and display else ""

    def of(self, entry: Entry) -> str:
        """Whose this resource is; "" where it names nobody."""
        if entry.kind == "Patient":
            return self._person(_inside(entry.resource))
        return next((self._person(key) for name in SUBJECTS if (key := self._key(entry.resource.get(name), entry))), "")

    def _owners(self) -> dict[int, str]:
        """Whose each resource is. Where only one patient can be meant by a name or a bare id, it is that one."""
        owners = {at: self.of(entry) for at, entry in enumerate(self._record)}
        placed: dict[str, set[str]] = {}
        for person in set(owners.values()):
            placed.setdefault("/".join(person.split("/")[-2:]), set()).add(person)
        one_server = {bare: next(iter(full - {bare})) for bare, full in placed.items() if len(full) == 2 and bare in full}
        owners = {at: one_server.get(person, person) for at, person in owners.items()}  # Patient/1 and https://example.org/fhir/Patient/1
        people = set(owners.values()) - {""}
        certain = {person for person in people if not person.startswith("called ")}
        if len(certain) == 1:
            owners = {at: next(iter(certain)) if person.startswith("called ") else person for at, person in owners.items()}
        if len(self._patients) == 1 and len(certain) == 2 and not isinstance(self._patients[0].resource.get("id"), str):
            owners = {at: self.of(self._patients[0]) if person else "" for at, person in owners.items()}  # a Patient without an id
        return owners

    def chosen(self, name: str, patient: str | None) -> tuple[list[Entry], list[str]]:
        """The resources of the one patient, or of the one chosen; and what was left out. Raises SeveralPatients, InputError."""
        owners = self._owners()
        people = set(owners.values()) - {""}
        if patient is None:
            if len(people) > 1:
                raise SeveralPatients(name, len(people), can_choose=self._can_choose(people))
            return self._record, []
        wanted = {person for person, names in self._called(people).items() if is_called(patient, names)}
        if len(wanted) != 1:
            raise no_such_patient(name)
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

    def _can_choose(self, people: Iterable[str]) -> bool:
        """Whether each of the patients has a name or an id that no other one has."""
        called = self._called(people)
        counted = Counter(name for names in called.values() for name in names)
        return all(any(counted[name] == 1 for name in names) for names in called.values())

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


def references(value: Any) -> Iterator[str]:
    """Every reference in a resource."""
    yield from (reference for reference, _, _ in links(value))


def links(value: Any, mark: str = "", taken_back: str = "") -> Iterator[tuple[str, str, str]]:
    """Every reference in a resource, with the mark of the element that it is in, and why that is taken back."""
    if isinstance(value, Mapping):
        own, gone = status_mark(value)
        mark, taken_back = mark or own, taken_back or gone
        yield from ((said, mark, taken_back) for key in ("reference", "url") if isinstance(said := value.get(key), str))
    for inner in inside(value):
        yield from links(inner, mark, taken_back)
