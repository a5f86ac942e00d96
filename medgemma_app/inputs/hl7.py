"""HL7 version 2 messages (text) -> the lines of notes, without what messages take back."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from medgemma_app.inputs.cda import SEXES, encoded_text, iso_day
from medgemma_app.inputs.json_notes import text_is_clinical
from medgemma_app.inputs.lines import Line, Reading, SeveralPatients, counted, is_called, no_such_patient

_FINDING_STATUS = {"D": "deleted", "W": "entered in error", "X": "cancelled", "N": "not asked for"}
_ORDER_CONTROL = {"CA": "cancelled", "OC": "cancelled", "CR": "cancelled", "DC": "STOPPED: ", "OD": "STOPPED: "}
_ORDER_STATUS = {"CA": "cancelled", "RP": "replaced", "DC": "STOPPED: "}
_DOCUMENT_STATUS = {"CA": "cancelled", "OB": "superseded"}
_CANCELLING_EVENTS = frozenset(("A11", "A12", "A13", "A25", "A27", "A38", "T11", "S15"))
_OFFICE = frozenset("EVN PD1 NK1 IN1 IN2 GT1 ROL SPM SFT UAC FTS BTS TQ1 ZDS".split())  # noqa: SIM905
_ALLERGY_TYPES = {"DA": "drug", "FA": "food", "MA": "other", "MC": "contraindication", "EA": "environment"}


@dataclass
class _Message:
    """What has been read so far of a message, or of the part of it that is about one patient."""

    lines: list[Line] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    patient: set[str] = field(default_factory=set)  # the ids; the name where there is none
    name: str = ""
    said: list[str] = field(default_factory=list)  # what a note could be written from
    mark: str = ""  # of the order that the segments belong to
    cancelled: str = ""  # why the message or the document is left out
    order: str = ""  # why the order that the segments belong to is left out
    report: str = ""  # why the results that follow are left out
    result: str = ""  # why the comments that follow are left out
    last: str = ""  # the observation that the line before is of
    separators: str = "|^~\\&"

    @property
    def skipping(self) -> str:
        """Why what follows is left out."""
        return self.cancelled or self.order or self.report


def is_hl7(text: str) -> bool:
    """True for an HL7 version 2 message or batch."""
    return re.match(r"[\s\x0b\x1c]*(MSH|FHS|BHS)[^\w\s]", text) is not None


def read_hl7(text: str, name: str, patient: str | None = None) -> Reading:
    """The segments of version 2 messages that say something of a patient. Raises SeveralPatients, InputError."""
    messages = re.split(r"(?m)^(?=MSH\W)", re.sub(r"\r\n?", "\n", text.replace("\x0b", "").replace("\x1c", "")))
    read = [part for message in messages if message.startswith("MSH") for part in _read_message(message.split("\n"))]
    people: dict[str, int] = {}  # an id -> the place of its patient
    for place, ids in enumerate(part.patient for part in read):
        known = min((people[one] for one in ids if one in people), default=place)
        people |= dict.fromkeys(ids, known)
    chosen = read
    if patient is not None:
        wanted = {people[one] for part in read if is_called(patient, {*part.patient, part.name}) for one in part.patient}
        if len(wanted) != 1:
            raise no_such_patient(name)
        chosen = [part for part in read if wanted & {people[one] for one in part.patient}]
    elif (number := len(set(people.values()))) > 1:
        raise SeveralPatients(name, number)
    lines = list(dict.fromkeys(line for part in chosen for line in part.lines))
    left_out = sum((part.left_out for part in chosen), Counter[str]())
    left_out["messages of other patients"] += len(read) - len(chosen)
    return Reading(lines, "HL7 v2", text_is_clinical("\n".join(said for part in chosen for said in part.said)), counted(left_out))


def _read_message(segments: Sequence[str]) -> list[_Message]:
    """The parts of a message, one for each of its patients."""
    parts = [message := _Message()]
    for segment in segments:
        kind = segment[:3]
        if kind == "MSH":
            message.separators = segment[3:8] if len(segment) > 8 else message.separators
            event = segment.split(message.separators[0])[8:9]
            message.cancelled = "message that cancels" if event and event[0][4:7] in _CANCELLING_EVENTS else ""
            continue
        if kind == "PID" and message.patient:
            parts.append(message := _Message(separators=message.separators, cancelled=message.cancelled))
        if kind != "NTE":
            message.result = ""
        fields = segment.split(message.separators[0])
        if kind in _SEGMENTS:
            _SEGMENTS[kind](message, [*fields, *[""] * 30])
        elif kind not in _OFFICE and kind.isalnum():
            message.left_out[f"segment {kind}"] += 1
    return parts


def _words(message: _Message, value: str, *components: int) -> str:
    """The first of some components of a field that says something (all of them without any), its escapes resolved."""
    component, repetition, escape = list(message.separators.ljust(5, "\0")[1:4])
    told = []
    for one in value.split(repetition):
        parts = one.split(component)
        found = (
            next((parts[at] for at in components if at < len(parts) and parts[at].strip()), "")
            if components
            else " ".join(filter(None, parts))
        )
        told.append(found)
    said = "; ".join(filter(None, told))
    plain = {"F": message.separators[0], "S": component, "R": repetition, "E": escape, "T": "&", "H": "", "N": ""}

    def resolved(found: re.Match[str]) -> str:
        code = found[1]
        if code.startswith("."):
            return "\n" if code[1:3].lower() in ("br", "sp", "ce") else " "
        return plain.get(code, "")

    return re.sub(rf"{re.escape(escape)}([^\\\n]{{1,20}}?){re.escape(escape)}", resolved, said).strip()


def _add(message: _Message, label: str, parts: Sequence[str], said: str, mark: str = "") -> None:
    told = "; ".join(filter(None, parts))
    if told:
        message.lines.append(Line(f"{mark or message.mark}{label}: {told}", label))
        message.said.append(said)
        message.last = ""


def _pid(message: _Message, f: list[str]) -> None:
    component, repetition = list(message.separators[1:3])
    ids = {one.split(component)[0] for number in (2, 3, 4) for one in f[number].split(repetition)} - {""}
    message.name = f"{_words(message, f[5], 1)} {_words(message, f[5], 0)}".strip()
    message.patient = ids or {message.name} - {""}
    born = iso_day(f[7])
    sex = SEXES.get(f[8].split(component)[0], "")
    told = "; ".join(filter(None, [sex, f"birth date: {born}" if born else ""]))
    message.lines += [Line(f"Patient: {told}", "Patient")] if told else []


def _order(message: _Message, f: list[str]) -> None:
    control = _ORDER_CONTROL.get(f[1]) or _ORDER_STATUS.get(f[5], "")
    stopped = control.startswith("STOPPED")
    message.mark, message.order, message.report = control if stopped else "", f"order ({control})" if control and not stopped else "", ""


def _request(message: _Message, f: list[str]) -> None:
    message.report = "report (cancelled)" if f[25] == "X" else ""
    if message.skipping:
        message.left_out[message.skipping] += 1
        return
    day, reason = iso_day(f[7] or f[22]), _words(message, f[31] if len(f) > 31 else "", 1, 0)
    parts = [_words(message, f[4], 1, 4, 0), f"date: {day}" if day else "", f"reason: {reason}" if reason else ""]
    _add(message, "Report", parts, reason)


def _finding(message: _Message, f: list[str]) -> None:
    status = _FINDING_STATUS.get(f[11], "")
    if status or message.skipping:
        message.result = message.skipping or f"result ({status})"
        message.left_out[message.result] += 1
        return
    about, value = _words(message, f[3], 1, 4, 0), _value(message, f[2], f[5])
    continues = f"{f[3]}#{f[4]}"
    if f[2] in ("TX", "FT", "ST") and message.last == f"{f[2]}{continues}" and message.lines:
        message.lines[-1] = Line(f"{message.lines[-1].text}\n{value}", "Observation")
        message.said.append(value)
        return
    if f[2] == "ED" and not value:
        message.left_out["attachment"] += 1
        return
    said = " ".join(filter(None, [value, _words(message, f[6], 0, 1)]))
    range_, flag = f"reference range: {_words(message, f[7])}" if f[7] else "", f"flag: {_words(message, f[8], 0)}" if f[8] else ""
    _add(message, "Observation", [f"{about}: {said}" if said else about, range_, flag], f"{about} {said}" if said else "")
    message.last = f"{f[2]}{continues}"


def _value(message: _Message, kind: str, value: str) -> str:
    component = message.separators[1]
    if kind == "ED":
        parts = [*value.split(component), *[""] * 5]
        return (
            (encoded_text(parts[4], f"{parts[1]}/{parts[2]}".lower()) or "") if parts[3].lower() == "base64" else _words(message, parts[4])
        )
    if kind == "SN":  # >^100, 1^:^128
        return "".join(value.split(component))
    return _words(message, value, 1, 0) if kind in ("CE", "CWE", "CNE") else _words(message, value)


def _note(message: _Message, f: list[str]) -> None:
    said = _words(message, f[3])
    if why := message.skipping or message.result:
        message.left_out[f"comment on {why}"] += 1
    else:
        _add(message, "Comment", [said], said)


def _diagnosis(message: _Message, f: list[str]) -> None:
    said = _words(message, f[3], 1, 0) or _words(message, f[4])
    _taken(message, "Diagnosis", said, said, gone=f[21] == "D")


def _allergy(message: _Message, f: list[str]) -> None:
    kind, what = _ALLERGY_TYPES.get(_words(message, f[2], 0), ""), _words(message, f[3], 1, 0)
    reaction, gone = _words(message, f[5], 1, 0), f[0] == "IAM" and f[6].startswith("D")
    _taken(message, "Allergy", "; ".join(filter(None, [what, kind, f"reaction: {reaction}" if reaction else ""])), what, gone=gone)


def _drug(message: _Message, f: list[str]) -> None:
    """RXO, RXE, RXA: what is asked for, or given, and how much."""
    given = f[0] == "RXA"
    code, amount, unit = (5, 6, 7) if given else (1, 2, 4) if f[0] == "RXO" else (2, 3, 5)
    said = " ".join(filter(None, [_words(message, f[code], 1, 0), _words(message, f[amount]), _words(message, f[unit], 1, 0)]))
    mark = "NOT DONE: " if given and f[20] in ("RE", "NA") else ""
    _taken(message, "Given" if given else "Medication", said, said, gone=given and f[21] == "D", mark=mark)


def _procedure(message: _Message, f: list[str]) -> None:
    said = _words(message, f[3], 1, 0) or _words(message, f[4])
    _taken(message, "Procedure", "; ".join(filter(None, [said, iso_day(f[5])])), said, gone=f[20] == "D")


def _taken(message: _Message, label: str, told: str, said: str, *, gone: bool, mark: str = "") -> None:
    if gone or message.skipping:
        message.left_out[message.skipping or f"{label.lower()} (deleted)"] += 1
    else:
        _add(message, label, [told], said, mark)


def _visit(message: _Message, f: list[str]) -> None:
    day = iso_day(f[44] if len(f) > 44 else "")
    message.lines += [Line(f"Encounter: {day}", "Encounter")] if day else []


def _document(message: _Message, f: list[str]) -> None:
    status = _DOCUMENT_STATUS.get(f[19], "")
    message.cancelled = message.cancelled or (f"document ({status})" if status else "")
    _taken(message, "Document", "; ".join(filter(None, [_words(message, f[2], 1, 0), iso_day(f[4])])), "", gone=False)


def _reason(message: _Message, f: list[str]) -> None:
    said = _words(message, f[3], 1, 0)
    _add(message, "Reason", [said], said)


_SEGMENTS = {
    "PID": _pid, "PV1": _visit, "PV2": _reason, "ORC": _order, "OBR": _request, "OBX": _finding, "NTE": _note, "DG1": _diagnosis,
    "AL1": _allergy, "IAM": _allergy, "RXO": _drug, "RXE": _drug, "RXA": _drug, "PR1": _procedure, "TXA": _document,
}  # fmt: skip
