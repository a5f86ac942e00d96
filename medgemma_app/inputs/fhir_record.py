"""A FHIR record: its resources, what references among them mean, what it takes back, and whose it is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from medgemma_app.inputs.lines import SeveralPatients, inside, no_such_patient

Resource: TypeAlias = Mapping[str, Any]

SUBJECTS = ("subject", "patient", "beneficiary", "for")
# https://example.org/fhir/Medication/9/_history/1: the base is missing in a relative one.
_ADDRESS = re.compile(r"(?P<base>(?:https?://.*/)?)(?P<name>[A-Za-z]+/[A-Za-z0-9.-]{1,64})(?:/_history/(?P<version>[A-Za-z0-9.-]{1,64}))?")
REFUTED, NOT_DONE, NOT_TAKEN, STOPPED, DO_NOT_PERFORM = "REFUTED: ", "NOT DONE: ", "NOT TAKEN: ", "STOPPED: ", "DO NOT PERFORM: "
_TAKEN_BACK = {
    "entered-in-error": "entered in error", "cancelled": "cancelled", "canceled": "cancelled", "superseded": "superseded",
    "nullified": "entered in error",
}  # fmt: skip
_MARKS = {
    "refuted": REFUTED, "not-done": NOT_DONE, "declined": NOT_DONE, "not-taken": NOT_TAKEN, "stopped": STOPPED, "discontinued": STOPPED,
    "revoked": STOPPED, "aborted": STOPPED, "abandoned": STOPPED, "terminated": STOPPED,
}  # fmt: skip
_FLAGS = {
    "doNotPerform": DO_NOT_PERFORM, "prohibited": DO_NOT_PERFORM, "notDone": NOT_DONE, "notGiven": NOT_DONE, "wasNotGiven": NOT_DONE,
    "wasNotTaken": NOT_TAKEN,
}  # fmt: skip


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


def as_bundle(value: Any) -> Any:
    """Resources that stand in a list or in an object of some other kind, as the Bundle they would be; anything else as it is."""
    if is_fhir(value):
        return value
    found, others = list(_found(value)), {}
    if isinstance(value, Mapping):
        others = {key: inner for key, inner in value.items() if not any(True for _ in _found(inner))}
    elif isinstance(value, list) and not all(any(True for _ in _found(inner)) for inner in value):
        others = {"entries": [inner for inner in value if not any(True for _ in _found(inner))]}
    if not found:
        return value
    return {"resourceType": "Bundle", "entry": [*({"resource": one} for one in found), *([others] if others else [])]}


def _found(value: Any, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    if is_fhir(value):
        yield value
    elif depth < 5:
        for inner in inside(value):
            yield from _found(inner, depth + 1)


def entries(value: Mapping[str, Any], entry: Mapping[str, Any] | None = None, container: Entry | None = None) -> Iterator[Entry]:
    """Every resource: of a bundle, of bundles in it, and those contained in others."""
    held = {"Bundle": "entry", "Parameters": "parameter"}.get(value["resourceType"])
    if held and isinstance(value.get(held), list):
        for inner in value[held]:
            if isinstance(inner, Mapping) and is_fhir(inner.get("resource")):
                yield from entries(inner["resource"], inner)
            else:  # what holds no resource is told as it is
                yield from entries({"resourceType": "Entry", "value": inner})
        return
    address = (entry or {}).get("fullUrl")
    contained = value["contained"] if holds_resources(value) else ()
    told = Entry(
        value,
        address if isinstance(address, str) else container.address if container else None,
        tuple(key for key in entry or () if key != "resource"),
        container.contained if container else contained,
    )
    if container is None and isinstance(request := (entry or {}).get("request"), Mapping) and request.get("method") == "DELETE":
        told = Entry({"resourceType": told.kind, "status": "cancelled"}, told.address, told.beside)
    yield told
    for inner in contained if told.resource is value and not status_mark(value)[1] else ():
        yield from entries(inner, container=told)


def status_mark(value: Mapping[str, Any]) -> tuple[str, str]:
    """The capitals that a line begins with because of its status ("" for none), and why it is taken back ("" if it is not)."""
    adherence = value.get("adherence")
    told = [code for key in ("status", "docStatus", "verificationStatus", "doNotPerform") for code in _codes(value.get(key))]
    taken_back = next((_TAKEN_BACK[code] for code in told if code in _TAKEN_BACK), "")
    marks = [mark for flag, mark in _FLAGS.items() if value.get(flag) is True or value.get(flag) == "true"]
    marks += [_MARKS[code] for code in told if code in _MARKS]
    marks += [NOT_TAKEN] if value.get("taken") == "n" else []
    for code in _codes(adherence.get("code")) if isinstance(adherence, Mapping) else ():
        marks += [NOT_TAKEN] if code.startswith("not-taking") else [STOPPED] if code.startswith("stopped") else []
    return (marks[0] if marks else ""), taken_back


def _codes(value: Any) -> Iterator[str]:
    """The codes of a status, as STU3 (a code) and later versions (a concept) write them."""
    if isinstance(value, str):
        yield value.lower()
    elif isinstance(value, Mapping):
        for key in ("coding", "code", "text"):
            yield from (code.replace(" ", "-") for code in _codes(value.get(key)))
    elif isinstance(value, list):
        for inner in value:
            yield from _codes(inner)


class Subjects:
    """Whose resources these are."""

    def __init__(self, record: list[Entry]) -> None:
        self._record = record
        self._references = References(record)
        self._people: dict[str, str] = {}  # what a person is called by -> the name that stands for all of those
        self._patients = [entry for entry in record if entry.kind == "Patient"]
        for entry in self._patients:
            self._unite(self._names(entry))

    def _names(self, entry: Entry) -> list[str]:
        """Everything that means this Patient: its resource, identifiers, and the patients it is linked to as the same person."""
        links = entry.resource.get("link")
        others = [link.get("other") for link in links if isinstance(link, Mapping)] if isinstance(links, list) else []
        linked = [self._key(other, entry) for other in others]
        return [str(id(entry.resource)), *_identifiers(entry.resource), *(key for key in linked if key), *self._same(entry)]

    def _same(self, entry: Entry) -> Iterator[str]:
        """The address of a Patient, which several versions share."""
        if isinstance(entry.resource.get("id"), str) and not entry.contained:
            yield f"{entry.base}Patient/{entry.resource['id']}"

    def _unite(self, names: Sequence[str]) -> None:
        known = {self._people[name] for name in names if name in self._people}
        chosen = min(known) if known else names[0]
        self._people.update({name: chosen for name, person in self._people.items() if person in known})
        self._people.update(dict.fromkeys(names, chosen))

    def _key(self, subject: Any, by: Entry) -> str:
        """One name for whom a reference means; "" where that is no patient, or nobody."""
        if isinstance(subject, list):
            return next((key for one in subject if (key := self._key(one, by))), "")
        if not isinstance(subject, Mapping):
            return ""
        reference = subject.get("reference")
        if isinstance(reference, str) and reference:
            meant = [one for one in self._references.meant(reference, by) if one.get("resourceType") == "Patient"]
            if meant:
                return str(id(meant[0]))
            is_other = re.search(r"(?:^|/)(?!Patient/)[A-Z]\w+/[^/]+(/_history/.*)?$", reference)
            return "" if is_other or subject.get("type", "Patient") != "Patient" else address_of(reference, by)
        identifier = _identifiers({"identifier": subject.get("identifier")})
        display = subject.get("display")
        return (
            identifier[0] if identifier else f"called {' '.join(display.lower().split())}" if isinstance(display, str) and display else ""
        )

    def of(self, entry: Entry) -> str:
        """Whose this resource is; "" where it names nobody."""
        if entry.kind == "Patient":
            return self._person(str(id(entry.resource)))
        return next((self._person(key) for name in SUBJECTS if (key := self._key(entry.resource.get(name), entry))), "")

    def _person(self, key: str) -> str:
        return self._people.get(key, key)

    def _owners(self) -> dict[int, str]:
        """Whose each resource is. Where only one patient can be meant by a name or a bare id, it is that one."""
        owners = {at: self.of(entry) for at, entry in enumerate(self._record)}
        for person in set(owners.values()):
            also = [one for one in owners.values() if one != person and one.endswith(f"/{person}")]
            if len(set(also)) == 1:  # "Patient/1" and "https://example.org/fhir/Patient/1"
                owners = {at: also[0] if one == person else one for at, one in owners.items()}
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
                raise SeveralPatients(name, len(people))
            return self._record, []
        wanted = {person for person in people if patient in self._called(person)}
        if len(wanted) != 1:
            raise no_such_patient(name)
        if people == wanted:
            return self._record, []
        kept = {at for at, person in owners.items() if person in wanted}
        kept |= self._referred_to(kept, {at for at, person in owners.items() if not person})
        others = sum(1 for at, person in owners.items() if person and at not in kept)
        nobody = [self._record[at].kind for at, person in owners.items() if not person and at not in kept]
        told = [f"{others} resources of other patients", *(f"{kind} that names no patient" for kind in nobody)]
        return [entry for at, entry in enumerate(self._record) if at in kept], told

    def _called(self, person: str) -> set[str]:
        """The ids, addresses and identifiers that a user may call a patient by."""
        names = {person, *(name for name, one in self._people.items() if one == person)}
        for entry in self._patients:
            if self.of(entry) == person:
                names |= {str(entry.resource.get("id")), entry.address or "", *_values(entry.resource)}
        short = {name.rsplit("/", 1)[-1] for name in names} | {name.rsplit("|", 1)[-1] for name in names}
        bare = {name.removeprefix(start) for name in names for start in ("urn:uuid:", "called ")}
        return (names | short | bare | {f"Patient/{name}" for name in short}) - {"", "None"}

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


def _values(resource: Mapping[str, Any]) -> list[str]:
    return [identifier.split("|", 1)[1] for identifier in _identifiers(resource)]


def references(value: Any) -> Iterator[str]:
    """Every reference in a resource."""
    if isinstance(value, Mapping):
        yield from (said for key in ("reference", "url") if isinstance(said := value.get(key), str))
    for inner in inside(value):
        yield from references(inner)
