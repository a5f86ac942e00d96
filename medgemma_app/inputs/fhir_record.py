"""A FHIR record: its resources, and what references among them mean."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from medgemma_app.inputs.lines import inside, status_mark

Resource: TypeAlias = Mapping[str, Any]

SUBJECTS = ("subject", "patient", "beneficiary", "for")
# https://example.org/fhir/Medication/9/_history/1: the base is missing in a relative one.
ADDRESS = re.compile(r"(?P<base>(?:https?://.*/)?)(?P<name>[A-Za-z]+/[A-Za-z0-9.-]{1,64})(?:/_history/(?P<version>[A-Za-z0-9.-]{1,64}))?")

_MOST_OF_A_NAME = 100  # that a reference may mean: hostile records must not take hours


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
    place: int = 0  # in a history, from its end

    @property
    def kind(self) -> str:
        """The type of the resource."""
        return str(self.resource["resourceType"])

    @property
    def base(self) -> str:
        """The address of the server it is from; "" where that is not said."""
        found = ADDRESS.fullmatch(self.address or "")
        return found["base"] if found else ""


class References:
    """Finds which resource of a record a reference means (R4, "Resolving references in Bundles" and "Contained resources")."""

    def __init__(self, record: Sequence[Entry]) -> None:
        self._at: dict[str, list[Entry]] = {}
        self._named: dict[str, list[Entry]] = {}
        for one in record:
            for index, name in ((self._at, one.address or ""), (self._named, f"{one.kind}/{one.resource.get('id')}")):
                if len(same := index.setdefault(name, [])) < _MOST_OF_A_NAME:
                    same.append(one)

    def meant(self, reference: str, by: Entry) -> Iterator[Resource]:
        """What ``reference`` may mean in the resource ``by``: nothing, one resource, or several where the record leaves it open."""
        if reference.startswith("#"):
            yield from (one for one in by.contained if one.get("id") == reference[1:])
            return
        found = ADDRESS.fullmatch(reference)
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
    found = ADDRESS.fullmatch(reference)
    return (found["base"] or by.base) + found["name"] if found else reference


def _version(resource: Resource) -> str | None:
    meta = resource.get("meta")
    return str(meta.get("versionId")) if isinstance(meta, Mapping) else None


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
