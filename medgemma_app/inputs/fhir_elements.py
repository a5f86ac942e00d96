"""FHIR elements in words: values as written, with their units, and the names of what resources refer to."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from medgemma_app.errors import InputError
from medgemma_app.inputs.cda import read_attachment
from medgemma_app.inputs.demographics import MOST_COMPARED, Demographics, Record
from medgemma_app.inputs.documents import html_text
from medgemma_app.inputs.fhir_content import HEADS, LEFT_OUT, OFFICE, WITHDRAWN, head, lines_by_name, named, names_in
from medgemma_app.inputs.fhir_record import SUBJECTS, Entry, References, Resource, holds_resources, is_fhir, references
from medgemma_app.inputs.hl7 import is_hl7, read_hl7
from medgemma_app.inputs.lines import SAFE_LABEL, list_lines, status_mark

_LEFT_OUT = frozenset(list_lines("fhir_left_out")) - set(SUBJECTS)
# Resources that state nothing by themselves: they are written out where others refer to them.
PARTS = frozenset(("Medication", "MedicationKnowledge", "Substance", "Binary", "NutritionProduct"))
_PARTS_OF_REPORTS = ("entry", "result", "hasMember", "activity")
_MOST_PARTS = 100  # results of the reports of one section: hostile records must not take hours
_DEEPEST_PART = 3  # a request of a drug, of which a substance is a part
_WORD = re.compile(r"[^\W_]+")
_ENCODED = re.compile(r"[A-Za-z0-9+/\r\n]{24,}={0,2}\s*")
# Elements that FHIR spells with their type at the end: valueQuantity, onsetDateTime, ...
_TYPED = re.compile(
    r"(value|onset|abatement|effective|performed|occurrence|deceased|medication|multipleBirth|asNeeded|born|timing|reported"
    r"|serviced|scheduled|product|collected|allowed|rate|dose)[A-Z]\w*"
)
_ATTACHMENT = "contentType language data url size hash title creation height width frames duration pages id extension"


class ResourceWriter:
    """Puts resources into words, and remembers what it leaves out."""

    def __init__(self, record: Sequence[Entry], taken_back: Sequence[Entry], patients: Iterable[Demographics]) -> None:
        self.left_out: set[str] = set()
        self.taken_back: list[str] = []  # parts of resources and of attachments: "part of CarePlan (cancelled)"
        self.patients = list(patients)  # as the record and its attachments describe them
        self.of_others = 0  # attachments of another patient
        self.has_attachment = False  # whether the text of one is among the lines
        self._entries = {id(entry.resource): entry for entry in (*record, *taken_back)}
        self._references = References([*record, *taken_back])
        self._gone = {id(entry.resource) for entry in taken_back}
        self._by = Entry({"resourceType": ""})  # the resource that is being written
        self._apart: list[tuple[str, str]] = []  # marks and texts of its elements that get a line of their own
        self._depth = 0  # the nesting depth of parts
        self._written: set[int] = set()  # parts already written with a resource that refers to them
        self._gone_with: set[int] = set()  # parts that a withdrawn resource refers to
        for entry in taken_back:
            self._take_along(entry.resource, entry)
        # Kinds of objects by their keys: a required key, the allowed keys (None: any), and the function that puts them into words.
        self._shapes: tuple[tuple[str, str | None, Callable[[Mapping[str, Any]], str]], ...] = (
            ("coding", None, self._concept),
            ("text", None, self._concept),
            ("concept", "concept reference id extension", self._codeable_reference),
            ("reference", None, self._reference),
            ("code", "code display system version userSelected", self._coding),
            ("display", "code display system version userSelected", self._coding),
            ("value", "value unit code system comparator", self._quantity),
            ("numerator", "numerator denominator", lambda one: f"{self.say(one['numerator'])}/{self.say(one.get('denominator'))}"),
            ("low", "low high", lambda one: f"{self.say(one['low'])} to {self.say(one.get('high'))}"),
            ("start", "start end", self._period),
            ("div", "div status id extension", self._narrative),
            ("contentType", None, self._attachment),
            ("data", _ATTACHMENT, self._attachment),
            ("url", None, self._extension),
        )

    def _take_along(self, value: Any, by: Entry) -> None:
        meant = (one for reference in references(value) for one in self._references.meant(reference, by))
        self._gone_with |= {id(one) for one in meant if one.get("resourceType") in PARTS}

    def lines_of(self, entry: Entry, subject: str = "") -> list[str]:
        """The lines of one resource: its type, its subject, and everything else it says. Empty if it was already written."""
        self._by, self._apart, resource = entry, [], entry.resource
        if id(resource) in self._written:
            return []
        if id(resource) in self._gone_with:
            self._take_along(resource, entry)
            self.taken_back.append(f"{entry.kind} (only withdrawn resources refer to it)")
            return []
        self.left_out |= set(entry.beside)
        label = f"{element_words(entry.kind).capitalize()}: "
        said = join([self._resource(resource), f"subject: {subject}" if subject else ""])
        return [*([entry.mark + label + said] if said else []), *(f"{mark}{label}{apart}" for mark, apart in self._apart)]

    def _resource(self, resource: Resource) -> str:
        if resource.get("resourceType") == "Binary":
            return self._attachment(resource)
        resource = self._standing(resource)
        skipped = ("resourceType", *SUBJECTS, *(("contained",) if holds_resources(resource) else ()))
        self.left_out |= {key for key in SUBJECTS if key in resource}
        narrative = resource.get("text")
        if not (isinstance(narrative, Mapping) and narrative.get("status") == "generated"):
            return self._fields(resource, skipped)
        # A generated text is left out if each of its words is among the elements.
        elements, text = self._fields(resource, (*skipped, "text")), self._part("text", narrative)
        words, shown = (set(_WORD.findall(said.lower())) for said in (text.removeprefix("text: "), elements))
        return join([elements, text]) if words - shown else elements

    def _standing(self, holder: Mapping[str, Any]) -> Mapping[str, Any]:
        """A resource or section without the lines of its narrative that name entries which are denied, stopped or withdrawn.

        Denied and stopped ones get a line of their own. A section whose narrative does not name such an entry loses its narrative.
        """
        text, is_section = holder.get("text"), not is_fhir(holder)
        meant = list(self._meant([holder.get(key) for key in (("entry",) if is_section else ("section", *_PARTS_OF_REPORTS))], self._by))
        # A section of reports tells their results.
        parts = (part for one in tuple(meant) for part in self._meant([one.get(key) for key in _PARTS_OF_REPORTS], self._entry(one)))
        meant += islice(parts, _MOST_PARTS)
        entries = [(WITHDRAWN if id(one) in self._gone else status_mark(one)[0], self._names(one)) for one in meant]
        if not (isinstance(text, Mapping) and "div" in text and any(mark for mark, _ in entries)):
            return holder
        shown, is_struck = html_text(self.say(text["div"]))
        self.left_out |= {"text that is struck through"} if is_struck else set()
        title = self.say(holder.get("title")) if is_section else ""
        label = f"section {title}" if SAFE_LABEL.fullmatch(title) else "section" if is_section else self._by.kind
        lines, all_named = lines_by_name(shown.splitlines(), entries)
        if is_section and not all_named:
            self.taken_back.append(f"{label} with an entry that is denied, stopped or withdrawn, and not named in its text")
            lines = []
        self.taken_back += [f"{label}: {mark}" for mark, _ in lines if mark in LEFT_OUT]
        self._apart += [(mark, join([title, line], ": ")) for mark, line in lines if mark and mark not in LEFT_OUT]
        return {**holder, "text": " ".join(line for mark, line in lines if not mark)}

    def _meant(self, value: Any, by: Entry) -> Iterator[Resource]:
        """The resources that references certainly mean."""
        return (found[0] for one in references(value) if len(found := self._references.meant(one, by)) == 1)

    def _entry(self, resource: Resource) -> Entry:
        return self._entries.get(id(resource), self._by)

    def _names(self, resource: Resource) -> list[str]:
        """What a resource is called, or the drug that it refers to."""
        about = next((resource[key] for key in HEADS if key in resource), None)
        drugs = self._meant(about, self._entry(resource))
        return [*names_in(about), *(name for drug in drugs for name in names_in(drug.get("code")))]

    def say(self, value: Any) -> str:
        """Any FHIR element in words, with numbers as written in the file."""
        if isinstance(value, list):
            return join(map(self.say, value))
        if isinstance(value, Mapping):
            return self._object(value)
        if isinstance(value, bool):
            return "yes" if value else "no"
        return "" if value is None else str(value).strip()

    def _object(self, value: Mapping[str, Any]) -> str:
        """An element with others in it. Stopped or prohibited parts get a line of their own; withdrawn parts are left out."""
        mark, taken_back = status_mark(value)
        if taken_back:
            self.taken_back.append(f"part of {self._by.kind} ({taken_back})")
            self._take_along(value, self._by)
            return ""
        value = value if is_fhir(value) else self._standing(value)
        say = next((say for needed, allowed, say in self._shapes if _fits(value, needed, allowed)), self._fields)
        if mark and not is_fhir(value):
            self._apart.append((mark, say(value)))
            return ""
        return say(value)

    def _fields(self, value: Mapping[str, Any], skipped: tuple[str, ...] = ()) -> str:
        """The head and its value first ("Body temperature: 37.20 Cel"), then every other element with its name."""
        heads = [key for key in HEADS if key in value and key not in skipped][:1]
        heads += [key for key in value if heads and key.startswith("value")]
        rest = [self._part(key, value[key]) for key in value if key not in (*heads, *skipped)]
        return join([join((self.say(value[key]) for key in heads), ": "), *rest])

    def _part(self, key: str, value: Any) -> str:
        is_encoded = key == "data" and isinstance(value, str) and _ENCODED.fullmatch(value)
        if key in _LEFT_OUT or key.endswith("Base64Binary") or is_encoded:
            self.left_out |= set() if value is None else {key}
            return ""
        said = self.say(value)
        return f"{element_words(key)}: {said}" if said else ""

    def _concept(self, value: Mapping[str, Any]) -> str:
        """The text, and the name in the code system if it is different."""
        text, names = self.say(value.get("text")), self.say(value.get("coding"))
        more = join(self._part(key, value[key]) for key in value if key not in ("text", "coding"))
        said = f"{text} ({names})" if text and names and text.lower() != names.lower() else text or names
        return join([said, more])

    def _codeable_reference(self, value: Mapping[str, Any]) -> str:
        """R5: a concept, or a reference, or both."""
        return join([self.say(value["concept"]), self.say(value.get("reference"))])

    def _coding(self, value: Mapping[str, Any]) -> str:
        self.left_out |= {"code"} if value.get("display") and "code" in value else set()
        self.left_out |= {"system"} if "system" in value else set()
        return self.say(value.get("display")) or self.say(value.get("code"))

    def _quantity(self, value: Mapping[str, Any]) -> str:
        number = self.say(value.get("comparator")) + self.say(value["value"])
        return join([number, self.say(value.get("unit")) or self.say(value.get("code"))], " ")

    def _reference(self, value: Mapping[str, Any]) -> str:
        """The target of a reference: a drug or a file in full; otherwise the given name, or the name of the only possible resource."""
        reference = value["reference"]
        if not isinstance(reference, str):  # R5 writes {"reference": {"reference": "Medication/1"}}
            return join([self.say(reference), *(self._part(key, value[key]) for key in value if key != "reference")])
        meant = self._references.meant(reference, self._by)
        if len(meant) == 1 and id(meant[0]) in self._gone:
            return ""
        if len(meant) == 1 and (mark := status_mark(meant[0])[0]):  # without the mark, its name would read like a fact
            return f"{element_words(str(meant[0].get('resourceType')))} ({mark.rstrip(': ').lower()})"
        display, part = self.say(value.get("display")), self._in_full(meant[0]) if len(meant) == 1 else ""
        if part:
            return part if part.lower().startswith(display.lower()) else f"{display} ({part})"
        names = {named(head(target)) for target in meant}
        return display or (next(iter(names)) if len(names) == 1 else "") or self.say(reference)

    def _in_full(self, part: Resource) -> str:
        """A drug or a file in full the first time; "" later, for other resources, and below ``_DEEPEST_PART``."""
        if part.get("resourceType") not in PARTS or id(part) in self._written or self._depth == _DEEPEST_PART:
            return ""
        self._written.add(id(part))
        # The status of a drug's record must not read like that of the request.
        renamed = {f"{part['resourceType']} record" if key == "status" else key: value for key, value in part.items()}
        outer, self._by = self._by, self._entry(part)
        self._depth += 1
        said = self._resource(renamed)
        self._depth -= 1
        self._by = outer
        return said

    def _period(self, value: Mapping[str, Any]) -> str:
        start, end = self.say(value["start"]), self.say(value.get("end"))
        return f"{start} to {end}" if end else f"from {start}"

    def _narrative(self, value: Mapping[str, Any]) -> str:
        text, is_struck = html_text(self.say(value["div"]))
        self.left_out |= value.keys() & {"id", "extension"} | ({"text that is struck through"} if is_struck else set())
        return " ".join(text.split())

    def _attachment(self, value: Mapping[str, Any]) -> str:
        binary = self._binary(value)
        held = value if binary is None else binary
        kind = self.say(held.get("contentType")) or self.say(value.get("contentType"))
        skipped = ("resourceType", "contentType", "data", *(("url",) if binary else ()))
        rest = join(self._part(key, value[key]) for key in value if key not in skipped)
        if held.get("data") is None:
            return join([kind, rest])
        reading = _read_attachment(self.say(held["data"]), kind)
        of_another = reading is not None and any(one.differ(other) for one in self.patients for other in reading.patients)
        if reading is None or of_another:
            self.of_others += of_another
            self.left_out |= {f"{kind} attachment{' of another patient' * of_another}".lstrip()}
            return join([f"{kind} attachment, not read".lstrip(), rest])
        self.patients = [*self.patients, *(one for one in reading.patients if one not in self.patients)][:MOST_COMPARED]
        self.taken_back += reading.left_out
        text = "\n".join(line.text for line in reading.lines)
        self.has_attachment |= bool(text.strip()) and self._by.kind not in OFFICE
        return join([text, rest])

    def _binary(self, attachment: Mapping[str, Any]) -> Resource | None:
        """The binary that an attachment refers to, if it is in the record."""
        url = attachment.get("url")
        found = self._references.meant(url, self._by) if isinstance(url, str) and attachment.get("data") is None else []
        if len(found) != 1 or found[0].get("resourceType") != "Binary":
            return None
        self._written.add(id(found[0]))
        return found[0]

    def _extension(self, value: Mapping[str, Any]) -> str:
        """An extension is named by its address; an object that holds nothing but the keys of an attachment is one."""
        if {"url"} < set(value) - {"id", "extension"} <= set(_ATTACHMENT.split()) or self._binary(value):
            return self._attachment(value)
        label = element_words(self.say(value["url"]).rstrip("/").rsplit("/", 1)[-1])
        return f"{label}: {self._fields(value, ('url',))}"


def element_words(name: str) -> str:
    """The name of an element as words: "valueQuantity" is "value", "birthDate" is "birth date"."""
    typed = _TYPED.fullmatch(name)
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", typed[1] if typed else name).lower()


def join(parts: Iterable[str], between: str = "; ") -> str:
    """The parts that are not empty, joined."""
    return between.join(part for part in parts if part)


def _read_attachment(data: str, kind: str) -> Record | None:
    """An attachment in base64, which may be HL7 version 2; None if it holds no text."""
    reading = read_attachment(data, kind)
    try:
        return read_hl7(text, "the attachment") if reading and is_hl7(text := reading.lines[0].text) else reading
    except InputError:
        return None


def _fits(value: Mapping[str, Any], needed: str, allowed: str | None) -> bool:
    return needed in value and (allowed is None or set(value) <= set(allowed.split()))
