"""FHIR elements in words: values as written, with their units, and the names of what resources refer to."""

from __future__ import annotations

import base64
import binascii
import html
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

HEADS = ("code", "medicationCodeableConcept", "medicationReference", "medication", "vaccineCode", "type", "class", "title", "name")
LEFT_OUT = frozenset((
    "id", "meta", "implicitRules", "language", "identifier", "link", "subject", "patient", "encounter", "telecom", "address", "photo",
    "contact", "managingOrganization", "custodian", "system", "version", "userSelected", "fullUrl", "search", "request", "response",
))  # fmt: skip
# What is told, but is no content to write a note from: who is concerned, and how a record was handled.
_OFFICE = frozenset(("Patient", "Practitioner", "PractitionerRole", "Organization", "Location", "RelatedPerson", "Coverage"))
_HANDLING = frozenset((
    "status", "docStatus", "clinicalStatus", "verificationStatus", "intent", "priority", "criticality", "use", "mode", "category", "class",
    "period", "author", "authenticator", "performer", "requester", "recorder", "asserter", "informationSource", "participant", "location",
    "serviceProvider", "date", "issued", "authoredOn", "dateAsserted", "recordedDate", "statusHistory", "classHistory", "length",
))  # fmt: skip
_VISIT = frozenset(("reasonCode", "reasonReference", "diagnosis", "text", "note", "extension", "contained"))  # what an encounter is about
_DATE = re.compile(r"(\d{4}(-\d\d){0,2}(T[\d:.+Z-]*)?)?( to )?")  # or what is left of a period without its dates
_WORD = re.compile(r"[^\W_]+")
# Elements that FHIR spells with their type at the end: valueQuantity, onsetDateTime, ...
_TYPED = re.compile(
    r"(value|onset|abatement|effective|performed|occurrence|deceased|medication|multipleBirth|asNeeded|born|timing|reported"
    r"|serviced|scheduled|product|collected|allowed|rate|dose)[A-Z]\w*"
)
_TAG = re.compile(r"<[^<>]*>")


def is_fhir(value: Any) -> bool:
    """True for an object that says which FHIR resource it is."""
    return isinstance(value, Mapping) and isinstance(value.get("resourceType"), str)


def holds_resources(value: Mapping[str, Any]) -> bool:
    return isinstance(value.get("contained"), list) and all(map(is_fhir, value["contained"]))


def _words(name: str) -> str:
    typed = _TYPED.fullmatch(name)
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", typed[1] if typed else name).lower()


def _joined(parts: Iterable[str], between: str = "; ") -> str:
    return between.join(part for part in parts if part)


class Teller:
    """Tells resources in words, remembers what it leaves out, and names what resources refer to."""

    def __init__(self, resources: list[Mapping[str, Any]]) -> None:
        self.resources = resources
        self.left_out: set[str] = set()
        self._known: dict[str, Mapping[str, Any]] = {}
        for one in resources:
            names = (one.get("fullUrl"), f"{one['resourceType']}/{one.get('id')}", f"#{one.get('id')}")
            self._known |= {name: one for name in names if isinstance(name, str)}
        # What an object is, told by its keys: those it must have, those it may have (None: any), and how to say it.
        self._shapes: tuple[tuple[str, str | None, Callable[[Mapping[str, Any]], str]], ...] = (
            ("coding", None, self._concept),
            ("text", None, self._concept),
            ("reference", None, self._reference),
            ("code", "code display system version userSelected", self._coding),
            ("display", "code display system version userSelected", self._coding),
            ("value", "value unit code system comparator", self._quantity),
            ("numerator", "numerator denominator", lambda one: f"{self.say(one['numerator'])}/{self.say(one.get('denominator'))}"),
            ("low", "low high", lambda one: f"{self.say(one['low'])} to {self.say(one.get('high'))}"),
            ("start", "start end", lambda one: f"{self.say(one['start'])} to {self.say(one.get('end'))}"),
            ("div", "div status", lambda one: html.unescape(_TAG.sub(" ", self.say(one["div"]))).strip()),
            ("contentType", None, self._attachment),
            ("url", None, self._extension),
        )

    def line(self, resource: Mapping[str, Any]) -> str:
        """One resource: what kind it is, what it is about, and everything else it says."""
        told = ("resourceType", "contained") if holds_resources(resource) else ("resourceType",)
        narrative = resource.get("text")
        if not (isinstance(narrative, Mapping) and narrative.get("status") == "generated"):
            return self._labelled(resource, self._fields(resource, told))
        # A generated text may go where it repeats the elements, word for word.
        elements, text = self._fields(resource, (*told, "text")), self._part("text", narrative)
        more = _new_words(self.say(narrative), elements)
        return self._labelled(resource, _joined([elements, text]) if more else elements)

    def _labelled(self, resource: Mapping[str, Any], said: str) -> str:
        return f"{_words(resource['resourceType']).capitalize()}: {said}"

    def say(self, value: Any) -> str:
        """Any FHIR element in words; numbers as the file wrote them."""
        if isinstance(value, list):
            return _joined(map(self.say, value))
        if isinstance(value, Mapping):
            return next((say for needed, allowed, say in self._shapes if _fits(value, needed, allowed)), self._fields)(value)
        if isinstance(value, bool):
            return "yes" if value else "no"
        return "" if value is None else str(value).strip()

    def _fields(self, value: Mapping[str, Any], told: tuple[str, ...] = ()) -> str:
        """The head and its value first ("Body temperature: 37.20 Cel"), then every other element with its name."""
        heads = [key for key in HEADS if key in value and key not in told][:1]
        heads += [key for key in value if heads and key.startswith("value")]
        rest = (self._part(key, value[key]) for key in value if key not in (*heads, *told))
        return _joined([_joined((self.say(value[key]) for key in heads), ": "), *rest])

    def _part(self, key: str, value: Any) -> str:
        if key in LEFT_OUT:
            self.left_out |= set() if value is None else {key}
            return ""
        said = self.say(value)
        return f"{_words(key)}: {said}" if said else ""

    def _concept(self, value: Mapping[str, Any]) -> str:
        """The text, and the name the code system gives it where that is another one."""
        text, names = self.say(value.get("text")), self.say(value.get("coding"))
        more = _joined(self._part(key, value[key]) for key in value if key not in ("text", "coding"))
        said = f"{text} ({names})" if text and names and text.lower() != names.lower() else text or names
        return _joined([said, more])

    def _coding(self, value: Mapping[str, Any]) -> str:
        self.left_out |= {"code"} if value.get("display") and "code" in value else set()
        self.left_out |= {"system"} if "system" in value else set()
        return self.say(value.get("display")) or self.say(value.get("code"))

    def _quantity(self, value: Mapping[str, Any]) -> str:
        unit = self.say(value.get("unit")) or self.say(value.get("code"))
        return _joined([self.say(value.get("comparator")) + self.say(value["value"]), unit], " ")

    def _reference(self, value: Mapping[str, Any]) -> str:
        """The name of what is referred to: as given, or as its resource has it."""
        target = self._known.get(str(value["reference"]), {})
        concept = next((target[key] for key in HEADS if isinstance(target.get(key), Mapping) and "reference" not in target[key]), None)
        return self.say(value.get("display")) or _named(concept) or self.say(value["reference"])

    def _attachment(self, value: Mapping[str, Any]) -> str:
        kind, data = self.say(value["contentType"]), value.get("data")
        rest = _joined(self._part(key, value[key]) for key in value if key not in ("contentType", "data"))
        if data is None:
            return _joined([kind, rest])
        text = _attached(kind, str(data))
        if text is None:
            self.left_out |= {f"{kind} attachment"}
            return _joined([f"{kind} attachment, not read", rest])
        return _joined([text, rest])

    def _extension(self, value: Mapping[str, Any]) -> str:
        """An extension's address says what it is."""
        label = _words(self.say(value["url"]).rstrip("/").rsplit("/", 1)[-1])
        return f"{label}: {self._fields(value, ('url',))}"


class ContentTeller(Teller):
    """Tells the values alone that a note could be written from."""

    def _labelled(self, resource: Mapping[str, Any], said: str) -> str:
        return "" if resource["resourceType"] in _OFFICE else said

    def _fields(self, value: Mapping[str, Any], told: tuple[str, ...] = ()) -> str:
        kind = value.get("resourceType")
        skipped = {key for key in value if key in _HANDLING or key in LEFT_OUT or (kind == "Encounter" and key not in _VISIT)}
        return _joined(self.say(value[key]) for key in value if key not in skipped | set(told))

    def _part(self, key: str, value: Any) -> str:
        return "" if key in LEFT_OUT | _HANDLING else self.say(value)

    def say(self, value: Any) -> str:
        said = super().say(value)
        return "" if _DATE.fullmatch(said) else said

    def _coding(self, value: Mapping[str, Any]) -> str:
        return self.say(value.get("display"))

    def _reference(self, value: Mapping[str, Any]) -> str:
        said = super()._reference(value)
        return "" if said == str(value["reference"]) else said

    def _attachment(self, value: Mapping[str, Any]) -> str:
        return _joined([_attached(super().say(value["contentType"]), str(value.get("data") or "")) or "", self.say(value.get("title"))])

    def _extension(self, value: Mapping[str, Any]) -> str:
        return self._fields(value, ("url",))


def _new_words(narrative: str, elements: str) -> set[str]:
    """The words that the elements lack."""
    words, told = (set(_WORD.findall(text.lower())) for text in (narrative, elements))
    return words - told


def _fits(value: Mapping[str, Any], needed: str, allowed: str | None) -> bool:
    return needed in value and (allowed is None or set(value) <= set(allowed.split()))


def _named(concept: Mapping[str, Any] | None) -> str:
    """The text or first display of a concept, without following references: they may run in circles."""
    if concept is None:
        return ""
    coding = concept.get("coding")
    first = coding[0] if isinstance(coding, list) and coding and isinstance(coding[0], Mapping) else {}
    return next((name for name in (concept.get("text"), first.get("display"), first.get("code")) if isinstance(name, str)), "")


def _attached(kind: str, data: str) -> str | None:
    """The text of an attachment; None where it is none."""
    text = _decoded(data) if kind.lower().startswith("text/") else None
    return text and html.unescape(_TAG.sub(" ", text)).strip() if "html" in kind.lower() else text


def _decoded(data: str) -> str | None:
    try:
        return base64.b64decode(data, validate=False).decode("utf-8")
    except (binascii.Error, ValueError):
        return None
