"""Which resource of a record a FHIR reference means (R4, "Resolving references in Bundles" and "Contained resources")."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Resource: TypeAlias = Mapping[str, Any]

# https://example.org/fhir/Medication/9/_history/1: the base is missing in a relative one.
_ADDRESS = re.compile(r"(?P<base>(?:https?://.*/)?)(?P<name>[A-Za-z]+/[A-Za-z0-9.-]{1,64})(?:/_history/(?P<version>[A-Za-z0-9.-]{1,64}))?")


@dataclass(frozen=True)
class Told:
    """One resource of a record, the address of its entry, what else its entry says, and the resources whose #ids hold in it."""

    resource: Resource
    address: str | None = None
    beside: tuple[str, ...] = ()
    contained: Sequence[Resource] = field(default=())

    @property
    def base(self) -> str:
        """The address of the server it is from; "" where that is not said."""
        found = _ADDRESS.fullmatch(self.address or "")
        return found["base"] if found else ""


class References:
    """Finds what the references of a record's resources mean."""

    def __init__(self, record: Sequence[Told]) -> None:
        self._at: dict[str, list[Told]] = {}
        self._named: dict[str, list[Told]] = {}
        for one in record:
            self._at.setdefault(one.address or "", []).append(one)
            self._named.setdefault(f"{one.resource['resourceType']}/{one.resource.get('id')}", []).append(one)

    def meant(self, reference: str, by: Told) -> Iterator[Resource]:
        """What ``reference`` may mean in the resource ``by``: nothing, one resource, or several where the record leaves it open."""
        if reference.startswith("#"):
            yield from (one for one in by.contained if one.get("id") == reference[1:])
            return
        found = _ADDRESS.fullmatch(reference)
        known = self._placed(found, by) if found else self._at.get(reference, []) if reference else []
        version = found and found["version"]
        exact = [one for one in known if version and _version(one.resource) == version]
        yield from (one.resource for one in exact or known)

    def _placed(self, found: re.Match[str], by: Told) -> list[Told]:
        """The resources at the address; else those of that name whose entries do not say where they are from."""
        base = found["base"] or by.base
        named = self._named.get(found["name"], [])
        at = self._at.get(base + found["name"], []) if base else named
        return at or [one for one in named if not one.base]


def _version(resource: Resource) -> str | None:
    meta = resource.get("meta")
    return str(meta.get("versionId")) if isinstance(meta, Mapping) else None
