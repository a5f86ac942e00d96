"""Reads HL7 version 2 messages (text) as lines of notes, without what later messages withdraw."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from medgemma_app.inputs.cda import read_attachment
from medgemma_app.inputs.demographics import (
    SEXES,
    Demographics,
    Record,
    can_choose,
    people_of,
    refuse_other_patients,
    several_births_or_sexes,
)
from medgemma_app.inputs.hl7_statements import RELEASED, Segment, Statement, standing
from medgemma_app.inputs.json_notes import text_says_something
from medgemma_app.inputs.lines import NOT_DONE, ON_HOLD, STOPPED, Line, with_counts
from medgemma_app.inputs.patient_values import SeveralPatients, is_called, no_such_patient

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
# Segments with one statement: the label, the fields of its content, of its day, and of the action that may delete it.
_SIMPLE: Mapping[str, tuple[str, Sequence[int], Sequence[int], Sequence[int]]] = {
    "PV1": ("Encounter", (), (44,), ()), "PV2": ("Reason", (3,), (), ()),
    "DG1": ("Diagnosis", (3, 4), (), (21,)), "PR1": ("Procedure", (3, 4), (5,), (20,)),
}  # fmt: skip
_ALLERGY_TYPES = {"DA": "drug", "FA": "food", "MA": "other", "MC": "contraindication", "EA": "environment"}
# Lines from which alone no note can be written.
_NOT_CLINICAL = ("Patient", "Encounter", "Report", "Observation without a value", "Document")


@dataclass
class _Message:
    """What has been read so far of a message, or of the part of it that is about one patient."""

    separators: str
    cancelled: str = ""  # why the message or the document is left out
    event: str = ""
    day: str = ""  # when it was sent: the oldest messages are left out first
    of_earlier: list[Statement] = field(default_factory=list)  # statements that withdraw statements of earlier messages only
    statements: list[Statement] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    patient: Demographics = field(default_factory=Demographics)
    has_others: bool = False  # whether an attachment is of another patient
    mark: str = ""  # of the order that the segments belong to
    order: str = ""  # why the order that the segments belong to is left out
    report: str = ""  # why the results that follow are left out
    result: str = ""  # why the comments that follow are left out
    commented: Statement | None = None  # the result that the comments that follow are on
    unfinished: str = ""  # the observation that the next segment may continue
    numbers: tuple[str, str] = ("", "")  # placer and filler of the last ORC segment
    corrected: set[str] = field(default_factory=set)  # the observations of this report that have withdrawn earlier ones
    about: Statement = field(default_factory=Statement)  # the order, the document and the time that the segments belong to

    @property
    def skipping(self) -> str:
        """Why the statements that follow are left out."""
        return self.cancelled or self.order or self.report

    def state(self, label: str, *parts: str, gone: str = "", mark: str = "") -> Statement | None:
        """Adds a statement, unless it is empty or withdrawn."""
        said = "; ".join(filter(None, parts))
        if why := gone or self.skipping:
            self.left_out[why] += 1
            return None
        mark = mark or (self.mark if self.mark != ON_HOLD or label == "Medication" else "")
        return self.add(replace(self.about, label=label, texts=[said], mark=mark)) if said else None

    def add(self, statement: Statement) -> Statement:
        """Adds a statement, or one that withdraws earlier ones. The next segment cannot continue a text before it."""
        self.statements.append(statement)
        self.unfinished = ""
        return statement


def is_hl7(text: str) -> bool:
    """True for an HL7 version 2 message or batch."""
    return re.match(r"[\s\x0b\x1c]*(MSH|FHS|BHS)[^\w\s]", text) is not None


def read_hl7(text: str, name: str, patient: str | None = None) -> Record:
    """The statements of HL7 version 2 messages of one patient. Raises SeveralPatients, InputError."""
    messages = re.split(r"(?m)^(?=MSH\W)", re.sub(r"\r\n?", "\n", text.replace("\x0b", "").replace("\x1c", "")))
    read = [part for message in messages if message.startswith("MSH") for part in _read_message(message)]
    chosen = _chosen(read, name, patient)
    left_out = sum((part.left_out for part in chosen), Counter[str]())
    ranks = {day: rank for rank, day in enumerate(sorted({part.day for part in chosen}, reverse=True))}
    statements = []
    for part in chosen:
        for one in part.statements:
            one.rank = ranks[part.day]
        statements += [*part.of_earlier, *part.statements]
    lines: dict[str, Line] = {}
    for line in (line for one in standing(statements, left_out) for line in one.lines()):
        lines[line.text] = min(line, lines.get(line.text, line), key=lambda same: same.rank)  # a repeated line is kept once
    left_out["messages of other patients"] += len(read) - len(chosen)
    says_something = text_says_something(
        "\n".join(text.partition(": ")[2] for text, line in lines.items() if line.label not in _NOT_CLINICAL)
    )
    patients = list(dict.fromkeys(part.patient for part in chosen))
    refuse_other_patients((line for line in lines.values() if line.label != "Patient"), patients, name)
    return Record(list(lines.values()), "HL7 v2", says_something, with_counts(left_out), patients=patients)


def _chosen(read: list[_Message], name: str, patient: str | None) -> list[_Message]:
    """The messages of the only patient, or of the one chosen."""
    people = people_of(part.patient for part in read)
    called = [{name for one in some for name in one.called()} for some in people]
    if patient is None:
        if len(people) > 1 or any(part.has_others for part in read) or several_births_or_sexes(part.patient for part in read):
            raise SeveralPatients(name, max(2, len(people)), can_choose=can_choose(called))
        return read
    wanted = [set(some) for some, names in zip(people, called, strict=True) if is_called(patient, names)]
    if len(wanted) != 1:
        raise no_such_patient(name)
    return [part for part in read if part.patient in wanted[0]]


def _read_message(raw: str) -> list[_Message]:
    """The parts of a message, one for each of its patients."""
    parts = [message := _Message(raw[3:8])]
    for text in re.split(rf"\n(?=[A-Z][A-Z\d]{{2}}{re.escape(raw[3])})", raw):  # other lines continue the text before them
        kind = text[:3]
        if kind == "PID" and message.patient != Demographics():
            parts.append(message := _Message(message.separators, message.cancelled, message.event, message.day))
        if kind != "NTE":
            message.result, message.commented = "", None
        if kind in _SEGMENTS:
            _SEGMENTS[kind](message, Segment(text.rstrip("\n"), message.separators))
        elif kind not in _OFFICE and kind.isalnum():
            message.left_out[f"segment {kind}"] += 1
    return parts


def _header(message: _Message, one: Segment) -> None:
    message.day, message.event = one.raw(6)[:8], one.raw(8)[4:7]
    message.cancelled = "message that cancels" if message.event in _CANCELLING_EVENTS else ""


def _named(label: str, said: str) -> str:
    return f"{label}: {said}" if said else ""


def _patient(message: _Message, one: Segment) -> None:
    name = f"{one.words(5, 1)} {one.words(5, 0)}".strip()
    born, sex = one.day(7), SEXES.get(one.repetitions(8)[0][0], "")
    message.patient = Demographics(frozenset(one.ids(2, 3, 4)), (name,) if name else (), born, sex)
    if described := "; ".join(filter(None, [sex, _named("birth date", born)])):
        message.add(Statement("Patient", [described]))


def _order(message: _Message, one: Segment) -> None:
    control = _ORDER_CONTROL.get(one.raw(1)) or _ORDER_STATUS.get(one.raw(5), "")
    message.mark = control if control in (STOPPED, ON_HOLD) else ""
    message.order = f"order ({control})" if control not in ("", STOPPED, ON_HOLD, RELEASED) else ""
    message.report = ""
    message.numbers = one.raw(2), one.raw(3)
    message.about = replace(message.about, placer=one.raw(2), filler=one.raw(3), service="", time="")
    if control:
        message.add(replace(message.about, document="", takes_back=message.order or control))


def _report(message: _Message, one: Segment) -> None:
    """A cancelled report withdraws results of earlier messages, and within its own message only those with the same filler number."""
    message.report = "report (cancelled)" if one.raw(25) == "X" else ""
    placer, filler = one.raw(2) or message.numbers[0], one.raw(3) or message.numbers[1]
    message.about = replace(message.about, placer=placer, filler=filler, service=one.repetitions(4)[0][0] or one.raw(4), time=one.raw(7))
    message.corrected.clear()
    if message.report:
        cancelled = replace(message.about, document="", takes_back=message.report)
        message.of_earlier.append(cancelled)
        message.add(replace(cancelled, placer=""))
    message.state("Report", one.words(4, 1, 4, 0), _named("date", one.day(7, 22)))
    if reason := one.words(31, 1, 0):
        message.state("Reason", reason)


def _finding(message: _Message, one: Segment) -> None:
    kind, about, status = one.raw(2), one.words(3, 1, 4, 0), _FINDING_STATUS.get(one.raw(11), "")
    value, unread = ("", "") if status or message.skipping else _attached(message, one) if kind == "ED" else (_value(one, kind), "")
    which = f"{kind}{one.raw(3)}#{one.raw(4)}"
    if value and kind in ("TX", "FT", "ST") and message.unfinished == which:  # it continues the segment before
        message.commented = message.statements[-1]
        message.commented.texts.append(value)
        return
    this = replace(message.about, result=f"{one.raw(3)}#{one.raw(4)}", time=one.raw(14) or message.about.time)
    if (why := _WITHDRAWING.get(one.raw(11))) and this.result not in message.corrected:
        message.corrected.add(this.result)
        message.add(replace(this, takes_back=f"result ({why})"))
    text, gone = f"{about}: {value} {one.words(6, 0, 1)}".rstrip(), f"result ({status})" if status else unread
    parts = _named("reference range", one.words(7)), _named("flag", one.words(8, 0))
    label = "Observation" if value or parts[1] else "Observation without a value"
    message.commented = message.state(label, text if value else about, *parts, gone=gone)
    if message.commented:
        message.commented.result, message.commented.time, message.unfinished = this.result, this.time, which
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
    if message.commented and not why:
        message.commented.comments += filter(None, [one.words(3)])
        message.unfinished = ""
    else:
        message.state("Comment", one.words(3), gone=f"comment on {why}" if why else "")


def _simple(message: _Message, one: Segment) -> None:
    label, said, day, action = _SIMPLE[one.raw(0)]
    text = next(filter(None, (one.words(number, 1, 0) for number in said)), "")
    message.state(label, text, one.day(*day), gone=f"{label.lower()} (deleted)" * any(one.raw(number) == "D" for number in action))


def _allergy(message: _Message, one: Segment) -> None:
    what, kind = one.words(3, 1, 0), _ALLERGY_TYPES.get(one.words(2, 0), "")
    action, status = (one.raw(6)[:1], one.raw(17)[:1]) if one.raw(0) == "IAM" else ("", "")
    gone = "allergy (deleted)" if action == "D" else "allergy (entered in error)" if status == "E" else ""
    message.state("Allergy", what, kind, _named("reaction", one.words(5, 1, 0)), gone=gone)


def _drug(message: _Message, one: Segment) -> None:
    """RXO, RXE, RXA: the drug that is ordered or given, and how much."""
    given = one.raw(0) == "RXA"
    code, amount, unit = (5, 6, 7) if given else (1, 2, 4) if one.raw(0) == "RXO" else (2, 3, 5)
    said = " ".join(filter(None, [one.words(code, 1, 0), one.words(amount), one.words(unit, 1, 0)]))
    mark, gone = NOT_DONE * (given and one.raw(20) in ("RE", "NA")), "given (deleted)" * (given and one.raw(21) == "D")
    message.state("Given" if given else "Medication", said, gone=gone, mark=mark)


def _document(message: _Message, one: Segment) -> None:
    status = _DOCUMENT_STATUS.get(one.raw(19), "")
    message.about = replace(message.about, document=one.raw(12))
    if number := one.raw(_DOCUMENT_TAKEN_BACK.get(message.event, 99)):
        message.add(Statement(document=number, takes_back="document (withdrawn)"))
    if status:
        message.add(Statement(document=one.raw(12), takes_back=f"document ({status})"))
    message.cancelled = message.cancelled or (f"document ({status})" if status else "")
    message.state("Document", one.words(2, 1, 0), one.day(4))


_SEGMENTS = {
    "MSH": _header, "PID": _patient, "ORC": _order, "OBR": _report, "OBX": _finding, "NTE": _comment,
    "AL1": _allergy, "IAM": _allergy, "RXO": _drug, "RXE": _drug, "RXA": _drug, "TXA": _document,
    **dict.fromkeys(_SIMPLE, _simple),
}  # fmt: skip
