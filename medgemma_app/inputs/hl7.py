"""HL7 version 2 messages (text) -> the lines of notes, without what messages take back."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from medgemma_app.inputs.cda import read_attachment
from medgemma_app.inputs.demographics import (
    MOST_COMPARED,
    SEXES,
    Demographics,
    Record,
    can_choose,
    refuse_other_patients,
    several_births_or_sexes,
)
from medgemma_app.inputs.hl7_entries import RELEASED, Entry, Segment, standing
from medgemma_app.inputs.json_notes import text_says_something
from medgemma_app.inputs.lines import ON_HOLD, STOPPED, Line, with_counts
from medgemma_app.inputs.patients import SeveralPatients, is_called, no_such_patient

_WITHDRAWING = {"C": "corrected", "D": "deleted", "W": "entered in error", "X": "cancelled"}  # an earlier result
_FINDING_STATUS = {"D": "deleted", "W": "entered in error", "X": "cancelled", "N": "not asked for"}
_ORDER_CONTROL = {
    "CA": "cancelled", "OC": "cancelled", "CR": "cancelled", "UA": "not accepted", "RP": "replaced", "RU": "replaced",
    "DC": STOPPED, "DR": STOPPED, "OD": STOPPED, "HD": ON_HOLD, "HR": ON_HOLD, "OH": ON_HOLD,
    "RL": RELEASED, "OE": RELEASED, "OR": RELEASED,
}  # fmt: skip
_ORDER_STATUS = {"CA": "cancelled", "RP": "replaced", "DC": STOPPED, "HD": ON_HOLD}
_DOCUMENT_STATUS = {"CA": "cancelled", "OB": "superseded"}
_CANCELLING_EVENTS = frozenset(("A11", "A12", "A13", "A25", "A27", "A38", "T11", "S15"))
_DOCUMENT_TAKEN_BACK = {"T08": 12, "T10": 13, "T11": 12}  # event -> the field of TXA with the number of the earlier document
_OFFICE = frozenset("EVN PD1 NK1 IN1 IN2 GT1 ROL SPM SFT UAC FTS BTS TQ1 ZDS".split())  # noqa: SIM905
_ALLERGY_TYPES = {"DA": "drug", "FA": "food", "MA": "other", "MC": "contraindication", "EA": "environment"}


@dataclass
class _Message:
    """What has been read so far of a message, or of the part of it that is about one patient."""

    separators: str = "|^~\\&"
    cancelled: str = ""  # why the message or the document is left out
    event: str = ""
    day: str = ""  # when it was sent; older messages are the first to be left out
    of_earlier: list[Entry] = field(default_factory=list)  # what takes back only what earlier messages say
    entries: list[Entry] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    patient: Demographics = field(default_factory=Demographics)
    has_others: bool = False  # whether an attachment is of another patient
    mark: str = ""  # of the order that the segments belong to
    order: str = ""  # why the order that the segments belong to is left out
    report: str = ""  # why the results that follow are left out
    result: str = ""  # why the comments that follow are left out
    last: str = ""  # the observation that the line before is of
    commented: str = ""  # the result that the comments that follow are on
    order_numbers: Entry = field(default_factory=Entry)  # those of the last ORC segment
    corrected: set[str] = field(default_factory=set)  # the observations of this report that have taken back earlier ones
    about: Entry = field(default_factory=Entry)  # the order, the document and the time that the segments belong to

    @property
    def skipping(self) -> str:
        """Why what follows is left out."""
        return self.cancelled or self.order or self.report

    def tell(self, label: str, *parts: str, said: str, gone: str = "", mark: str = "") -> bool:
        """Adds a line, unless it says nothing or is taken back; whether it did."""
        told = "; ".join(filter(None, parts))
        if why := gone or self.skipping:
            self.left_out[why] += 1
        elif told:
            self.entries.append(replace(self.about, line=Line(f"{mark or self.mark}{label}: {told}", label), said=said))
            self.last = ""
        return bool(told) and not why

    def take_back(self, entry: Entry) -> None:
        """Adds an entry that takes back earlier ones; text does not go on over it."""
        self.entries.append(entry)
        self.last = ""


def is_hl7(text: str) -> bool:
    """True for an HL7 version 2 message or batch."""
    return re.match(r"[\s\x0b\x1c]*(MSH|FHS|BHS)[^\w\s]", text) is not None


def read_hl7(text: str, name: str, patient: str | None = None) -> Record:
    """The segments of version 2 messages that say something of a patient. Raises SeveralPatients, InputError."""
    messages = re.split(r"(?m)^(?=MSH\W)", re.sub(r"\r\n?", "\n", text.replace("\x0b", "").replace("\x1c", "")))
    read = [part for message in messages if message.startswith("MSH") for part in _read_message(_segments(message))]
    people = _people(read)
    chosen = read
    if patient is not None:
        wanted = {person for part, person in zip(read, people, strict=True) if person >= 0 and is_called(patient, part.patient.called())}
        if len(wanted) != 1:
            raise no_such_patient(name)
        chosen = [part for part, person in zip(read, people, strict=True) if person in wanted]
    number = len(set(people) - {-1}) if patient is None else 1
    has_others = patient is None and any(part.has_others for part in read)
    if number > 1 or has_others or several_births_or_sexes(part.patient for part in chosen):
        raise SeveralPatients(name, max(2, number), can_choose=patient is None and _can_be_chosen(read, people))
    left_out = sum((part.left_out for part in chosen), Counter[str]())
    ranks = {day: rank for rank, day in enumerate(sorted({part.day for part in chosen}, reverse=True))}
    entries = standing((entry.ranked(ranks[part.day]) for part in chosen for entry in (*part.of_earlier, *part.entries)), left_out)
    lines: dict[str, Line] = {}
    for line in (entry.line for entry in entries):  # what several messages say stands once, where it was first said
        lines[line.text] = min(line, lines.get(line.text, line), key=lambda same: same.rank)
    left_out["messages of other patients"] += len(read) - len(chosen)
    is_clinical = text_says_something("\n".join(entry.said for entry in entries))
    patients = list(dict.fromkeys(part.patient for part in chosen))
    refuse_other_patients((line for line in lines.values() if line.label != "Patient"), patients[:MOST_COMPARED], name)
    return Record(list(lines.values()), "HL7 v2", is_clinical, with_counts(left_out), patients=patients)


def _people(read: Sequence[_Message]) -> list[int]:
    """A number for the patient of each message, -1 where it names nobody. An id that several issuers use counts with its issuer."""
    issuers: dict[str, set[str]] = {}
    for issuer, number in (one for part in read for one in part.patient.ids):
        issuers.setdefault(number, set()).add(issuer)
    places: dict[tuple[str, str], int] = {}
    found = []
    for place, part in enumerate(read):
        keys = [(issuer if len(issuers[number] - {""}) > 1 else "", number) for issuer, number in part.patient.ids]
        keys = keys or [("name", name) for name in part.patient.names]
        known = min((places[key] for key in keys if key in places), default=place if keys else -1)
        places |= dict.fromkeys(keys, known)
        found.append(keys)
    return [min((places[key] for key in keys), default=-1) for keys in found]


def _can_be_chosen(read: Sequence[_Message], people: Sequence[int]) -> bool:
    """Whether each patient has a name or an id of their own, and one birth date and sex."""
    known: dict[int, list[Demographics]] = {}
    for part, person in zip(read, people, strict=True):
        known.setdefault(person, []).append(part.patient)
    known.pop(-1, None)
    called = [{name for one in some for name in one.called()} for some in known.values()]
    return can_choose(called) and not any(map(several_births_or_sexes, known.values()))


def _segments(message: str) -> list[str]:
    """The segments of a message; a line that does not begin one goes on with the text before it."""
    return [text.rstrip("\n") for text in re.split(rf"\n(?=[A-Z][A-Z\d]{{2}}{re.escape(message[3])})", message)]


def _read_message(segments: Sequence[str]) -> list[_Message]:
    """The parts of a message, one for each of its patients."""
    parts = [message := _Message()]
    for text in segments:
        kind = text[:3]
        if kind == "MSH":
            message.separators = text[3:8] if len(text) > 8 else message.separators
            event = text.split(message.separators[0])[8:9]
            message.day = "".join(text.split(message.separators[0])[6:7])[:8]
            message.event = event[0][4:7] if event else ""
            message.cancelled = "message that cancels" if message.event in _CANCELLING_EVENTS else ""
            continue
        if kind == "PID" and message.patient != Demographics():
            parts.append(message := _Message(message.separators, message.cancelled, message.event, message.day))
        if kind != "NTE":
            message.result = message.commented = ""
        if kind in _SEGMENTS:
            _SEGMENTS[kind](message, Segment(text, message.separators))
        elif kind not in _OFFICE and kind.isalnum():
            message.left_out[f"segment {kind}"] += 1
    return parts


def _named(label: str, said: str) -> str:
    return f"{label}: {said}" if said else ""


def _patient(message: _Message, one: Segment) -> None:
    name = f"{one.words(5, 1)} {one.words(5, 0)}".strip()
    born, sex = one.day(7), SEXES.get(one.codes(8)[0], "")
    message.patient = Demographics(frozenset(one.ids(2, 3, 4)), (name,) if name else (), born, sex)
    told = "; ".join(filter(None, [sex, _named("birth date", born)]))
    message.entries += [Entry(Line(f"Patient: {told}", "Patient"))] if told else []


def _order(message: _Message, one: Segment) -> None:
    control = _ORDER_CONTROL.get(one.raw(1)) or _ORDER_STATUS.get(one.raw(5), "")
    is_nameless = not (one.raw(2) or one.raw(3))  # then nothing but what follows can be meant
    message.mark = control if control == STOPPED or (control == ON_HOLD and is_nameless) else ""
    message.order = f"order ({control})" if control not in ("", STOPPED, ON_HOLD, RELEASED) else ""
    message.report = ""
    message.order_numbers = Entry(placer=one.raw(2), filler=one.raw(3))
    message.about = replace(message.about, placer=one.raw(2), filler=one.raw(3), service="", time="")
    if control:
        message.take_back(replace(message.about, document="", takes_back=message.order or control))


def _report(message: _Message, one: Segment) -> None:
    """A report that is cancelled takes back only what earlier messages say, unless the filler number says that it is the same one."""
    message.report = "report (cancelled)" if one.raw(25) == "X" else ""
    placer, filler = one.raw(2) or message.order_numbers.placer, one.raw(3) or message.order_numbers.filler
    message.about = replace(message.about, placer=placer, filler=filler, service=one.codes(4)[0] or one.raw(4), time=one.raw(7))
    message.corrected.clear()
    if message.report:
        cancelled = replace(message.about, document="", takes_back=message.report)
        message.of_earlier.append(cancelled)
        message.take_back(replace(cancelled, placer=""))
    reason = one.words(31, 1, 0)
    message.tell("Report", one.words(4, 1, 4, 0), _named("date", one.day(7, 22)), _named("reason", reason), said=reason)


def _finding(message: _Message, one: Segment) -> None:
    kind, about, status = one.raw(2), one.words(3, 1, 4, 0), _FINDING_STATUS.get(one.raw(11), "")
    value, unread = ("", "") if status or message.skipping else _attached(message, one) if kind == "ED" else (_value(one, kind), "")
    which = f"{kind}{one.raw(3)}#{one.raw(4)}"
    if value and kind in ("TX", "FT", "ST") and message.last == which:  # the text of the segment before goes on
        message.entries[-1].further.append(value)
        message.commented = message.entries[-1].result
        return
    this = replace(message.about, result=f"{one.raw(3)}#{one.raw(4)}", time=one.raw(14) or message.about.time)
    if (why := _WITHDRAWING.get(one.raw(11))) and this.result not in message.corrected:
        message.corrected.add(this.result)
        message.take_back(replace(this, takes_back=f"result ({why})"))
    measured = " ".join(filter(None, [value, one.words(6, 0, 1)]))
    told = f"{about}: {measured}" if measured else about
    parts = told, _named("reference range", one.words(7)), _named("flag", one.words(8, 0))
    gone = f"result ({status})" if status else unread
    if message.tell("Observation", *parts, said=told if measured else "", gone=gone):
        message.last, message.commented = which, this.result
        message.entries[-1] = replace(message.entries[-1], result=this.result, time=this.time)
    else:
        message.result = message.skipping or gone


def _value(one: Segment, kind: str) -> str:
    if kind == "SN":  # >^100, 1^:^128
        return "".join(one.parts(5))
    return one.words(5, 1, 0) if kind in ("CE", "CWE", "CNE") else one.words(5)


def _attached(message: _Message, one: Segment) -> tuple[str, str]:
    """The text of an attachment, or "" and why it is left out."""
    _, family, subtype, encoding, data, *_ = [*one.parts(5), *[""] * 5]
    kind = f"{family}/{subtype}".lower()
    is_base64 = encoding.lower() == "base64"
    reading = read_attachment(data if is_base64 else one.resolved(data), kind, is_base64=is_base64)
    text = "\n".join(line.text for line in reading.lines) if reading else ""
    if not reading or not text or is_hl7(text):
        return "", "attachment"
    if any(message.patient.differ(other) for other in reading.patients):
        message.has_others = True
        return "", "attachment of another patient"
    message.left_out += Counter(reading.left_out)
    return text, ""


def _comment(message: _Message, one: Segment) -> None:
    why = message.skipping or message.result
    if message.tell("Comment", one.words(3), said=one.words(3), gone=f"comment on {why}" if why else ""):
        message.entries[-1] = replace(message.entries[-1], comment_on=message.commented)


def _diagnosis(message: _Message, one: Segment) -> None:
    said = one.words(3, 1, 0) or one.words(4)
    message.tell("Diagnosis", said, said=said, gone="diagnosis (deleted)" * (one.raw(21) == "D"))


def _allergy(message: _Message, one: Segment) -> None:
    what, kind = one.words(3, 1, 0), _ALLERGY_TYPES.get(one.words(2, 0), "")
    action, status = (one.raw(6)[:1], one.raw(17)[:1]) if one.raw(0) == "IAM" else ("", "")
    gone = "allergy (deleted)" if action == "D" else "allergy (entered in error)" if status == "E" else ""
    message.tell("Allergy", what, kind, _named("reaction", one.words(5, 1, 0)), said=what, gone=gone)


def _drug(message: _Message, one: Segment) -> None:
    """RXO, RXE, RXA: what is asked for, or given, and how much."""
    given = one.raw(0) == "RXA"
    code, amount, unit = (5, 6, 7) if given else (1, 2, 4) if one.raw(0) == "RXO" else (2, 3, 5)
    said = " ".join(filter(None, [one.words(code, 1, 0), one.words(amount), one.words(unit, 1, 0)]))
    mark, gone = "NOT DONE: " * (given and one.raw(20) in ("RE", "NA")), "given (deleted)" * (given and one.raw(21) == "D")
    message.tell("Given" if given else "Medication", said, said=said, gone=gone, mark=mark)


def _procedure(message: _Message, one: Segment) -> None:
    said = one.words(3, 1, 0) or one.words(4)
    message.tell("Procedure", said, one.day(5), said=said, gone="procedure (deleted)" * (one.raw(20) == "D"))


def _visit(message: _Message, one: Segment) -> None:
    message.tell("Encounter", one.day(44), said="")


def _reason(message: _Message, one: Segment) -> None:
    message.tell("Reason", one.words(3, 1, 0), said=one.words(3, 1, 0))


def _document(message: _Message, one: Segment) -> None:
    status = _DOCUMENT_STATUS.get(one.raw(19), "")
    message.about = replace(message.about, document=one.raw(12))
    if number := one.raw(_DOCUMENT_TAKEN_BACK.get(message.event, 99)):
        message.take_back(Entry(document=number, takes_back="document (taken back)"))
    if status:
        message.take_back(Entry(document=one.raw(12), takes_back=f"document ({status})"))
    message.cancelled = message.cancelled or (f"document ({status})" if status else "")
    message.tell("Document", one.words(2, 1, 0), one.day(4), said="")


_SEGMENTS = {
    "PID": _patient, "PV1": _visit, "PV2": _reason, "ORC": _order, "OBR": _report, "OBX": _finding, "NTE": _comment, "DG1": _diagnosis,
    "AL1": _allergy, "IAM": _allergy, "RXO": _drug, "RXE": _drug, "RXA": _drug, "PR1": _procedure, "TXA": _document,
}  # fmt: skip
