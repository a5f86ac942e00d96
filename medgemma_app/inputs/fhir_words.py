"""FHIR elements in words: values as written, with their units, and the names of what resources refer to."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from medgemma_app.inputs.attachments import attachment_text, html_text, is_encoded
from medgemma_app.inputs.fhir_references import References, Resource, Told

HEADS = ("code", "medicationCodeableConcept", "medicationReference", "medication", "vaccineCode", "type", "class", "title", "name")
LEFT_OUT = frozenset((
    "id", "meta", "implicitRules", "language", "identifier", "link", "subject", "patient", "encounter", "telecom", "address", "photo",
    "contact", "managingOrganization", "custodian", "system", "version", "userSelected", "fullUrl", "search", "request", "response", "hash",
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
_ATTACHMENT = "contentType language data url size hash title creation height width frames duration pages id extension"


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

    def __init__(self, record: list[Told]) -> None:
        self.record = record
        self.left_out: set[str] = set()
        self._references = References(record)
        self._by = Told({})  # the resource that is being told
        self._told: list[Resource] = []  # binaries that an attachment has told
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
            ("div", "div status", lambda one: html_text(self.say(one["div"]))),
            ("contentType", None, self._attachment),
            ("data", _ATTACHMENT, self._attachment),
            ("url", None, self._extension),
        )

    def kind(self, told: Told) -> str:
        return _words(told.resource["resourceType"]).capitalize()

    def line(self, told: Told) -> str:
        """One resource: what kind it is, what it is about, and everything else it says; "" for a binary told before."""
        self._by, resource = told, told.resource
        self.left_out |= set(told.beside)
        if resource["resourceType"] == "Binary":
            return "" if any(resource is one for one in self._told) else self._labelled(told, self._attachment(resource))
        skipped = ("resourceType", "contained") if holds_resources(resource) else ("resourceType",)
        narrative = resource.get("text")
        if not (isinstance(narrative, Mapping) and narrative.get("status") == "generated"):
            return self._labelled(told, self._fields(resource, skipped))
        # A generated text may go where it repeats the elements, word for word.
        elements, text = self._fields(resource, (*skipped, "text")), self._part("text", narrative)
        more = _new_words(self.say(narrative), elements)
        return self._labelled(told, _joined([elements, text]) if more else elements)

    def _labelled(self, told: Told, said: str) -> str:
        return f"{self.kind(told)}: {said}"

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
        if key in LEFT_OUT or key.endswith("Base64Binary") or (key == "data" and is_encoded(value)):
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
        """The name of what is referred to: as given, or as its resource has it where it is one."""
        reference = str(value["reference"])
        names = {_named(_head(target)) for target in self._references.meant(reference, self._by)}
        return self.say(value.get("display")) or (names.pop() if len(names) == 1 else "") or self.say(reference)

    def _attachment(self, value: Mapping[str, Any]) -> str:
        told = ("resourceType", "contentType", "data")
        held, kind = self._binary(value) or value, self.say(value.get("contentType"))
        rest = _joined(self._part(key, value[key]) for key in value if key not in (*told, *(("url",) if held is not value else ())))
        if held.get("data") is None:
            return _joined([kind, rest])
        text = self._text(held, kind)
        if text is None:
            kind = self.say(held.get("contentType")) or kind
            self.left_out |= {f"{kind} attachment".lstrip()}
            return _joined([f"{kind} attachment, not read".lstrip(), rest])
        return _joined([text, rest])

    def _binary(self, attachment: Mapping[str, Any]) -> Resource | None:
        """The binary that an attachment refers to, where the record holds that one."""
        url = attachment.get("url")
        found = list(self._references.meant(url, self._by)) if isinstance(url, str) and attachment.get("data") is None else []
        if len(found) != 1 or found[0].get("resourceType") != "Binary":
            return None
        self._told.append(found[0])
        return found[0]

    def _text(self, held: Mapping[str, Any], kind: str = "") -> str | None:
        return attachment_text(str(held.get("contentType") or kind), str(held.get("data") or ""))

    def _extension(self, value: Mapping[str, Any]) -> str:
        """An extension's address says what it is; other things with an address are attachments, if that is all they hold."""
        if {"url"} < set(value) - {"id", "extension"} <= set(_ATTACHMENT.split()) or self._binary(value):
            return self._attachment(value)
        label = _words(self.say(value["url"]).rstrip("/").rsplit("/", 1)[-1])
        return f"{label}: {self._fields(value, ('url',))}"


class ContentTeller(Teller):
    """Tells the values alone that a note could be written from."""

    def _labelled(self, told: Told, said: str) -> str:
        return "" if told.resource["resourceType"] in _OFFICE else said

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
        held = self._binary(value) or value
        return _joined([self._text(held, super().say(value.get("contentType"))) or "", self.say(value.get("title"))])

    def _extension(self, value: Mapping[str, Any]) -> str:
        return self._fields(value, ("url",))


def _new_words(narrative: str, elements: str) -> set[str]:
    """The words that the elements lack."""
    words, told = (set(_WORD.findall(text.lower())) for text in (narrative, elements))
    return words - told


def _fits(value: Mapping[str, Any], needed: str, allowed: str | None) -> bool:
    return needed in value and (allowed is None or set(value) <= set(allowed.split()))


def _head(resource: Resource) -> Mapping[str, Any] | None:
    return next((resource[key] for key in HEADS if isinstance(resource.get(key), Mapping) and "reference" not in resource[key]), None)


def _named(concept: Mapping[str, Any] | None) -> str:
    """The text or first display of a concept, without following references: they may run in circles."""
    if concept is None:
        return ""
    coding = concept.get("coding")
    first = coding[0] if isinstance(coding, list) and coding and isinstance(coding[0], Mapping) else {}
    return next((name for name in (concept.get("text"), first.get("display"), first.get("code")) if isinstance(name, str)), "")
