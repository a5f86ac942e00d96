"""The segments of HL7 version 2 messages, the statements that are made of them, and which of those still stand."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from medgemma_app.inputs.demographics import iso_day
from medgemma_app.inputs.lines import ON_HOLD, STOPPED, Line

RELEASED = "released"  # an order that was on hold
_MOST_CORRECTIONS = 100  # that one result is compared with: hostile messages must not take hours
_PLACER_OF_FILLED = "placer of an order with a filler number"


class Segment:
    """One segment of a message: its fields by their numbers."""

    def __init__(self, text: str, separators: str) -> None:
        self._field, self._component, self._repetition, self._escape = list(separators.ljust(5, "\0")[:4])
        self._fields = text.split(self._field)

    def raw(self, number: int) -> str:
        """A field as it is written; "" if there is none."""
        return self._fields[number] if number < len(self._fields) else ""

    def parts(self, number: int) -> list[str]:
        """The components of a field."""
        return self.raw(number).split(self._component)

    def repetitions(self, number: int) -> list[list[str]]:
        """The components of each repetition of a field."""
        return [one.split(self._component) for one in self.raw(number).split(self._repetition)]

    def ids(self, *numbers: int) -> Iterator[tuple[str, str]]:
        """The issuer ("" if unknown) and the number of each id in some fields."""
        for parts in (one for number in numbers for one in self.repetitions(number)):
            if parts[0].strip():
                issuer = parts[3].split("&") if len(parts) > 3 else [""]
                yield next(filter(None, issuer), "").strip(), parts[0].strip()

    def day(self, *numbers: int) -> str:
        """The first of some fields that holds a date, as ISO writes it."""
        return next(filter(None, (iso_day(self.raw(number)) for number in numbers)), "")

    def words(self, number: int, *components: int) -> str:
        """The first of the given components that is not empty, or all of them if none are given, with escapes resolved."""
        texts = []
        for parts in self.repetitions(number):
            chosen = [parts[at] for at in components if at < len(parts) and parts[at].strip()][:1] if components else filter(None, parts)
            texts.append(" ".join(chosen))
        return self.resolved("; ".join(filter(None, texts)))

    def resolved(self, text: str) -> str:
        """A text with the escapes of separators and of line breaks resolved."""
        plain = {"F": self._field, "S": self._component, "R": self._repetition, "E": self._escape, "T": "&"}

        def resolve(found: re.Match[str]) -> str:
            layout = "\n" if found[1][1:3].lower() in ("br", "sp", "ce") else " "
            return layout if found[1].startswith(".") else plain.get(found[1], "")

        return re.sub(rf"{re.escape(self._escape)}([^\\\n]{{1,20}}?){re.escape(self._escape)}", resolve, text).strip()


@dataclass
class Statement:
    """What a message says about the patient, or what withdraws earlier statements (``takes_back`` says why)."""

    label: str = ""
    texts: list[str] = field(default_factory=list)  # one for each segment that continues it
    mark: str = ""  # how its line begins
    placer: str = ""  # the order number of the one who placed it
    filler: str = ""  # the order number of the one who fills it
    service: str = ""  # the panel or examination that the order or the report is of
    document: str = ""  # its number
    result: str = ""  # what was observed
    time: str = ""
    takes_back: str = ""
    rank: int = 0
    comments: list[str] = field(default_factory=list, init=False)  # on a result

    def lines(self) -> Iterator[Line]:
        """The statement as a line of the notes, and a line for each comment on it."""
        for label, said in ((self.label, "\n".join(self.texts)), *(("Comment", one) for one in self.comments)):
            yield Line(f"{self.mark}{label}: {said}", label, self.rank)

    def known_by(self) -> list[tuple[str, str]]:
        """The numbers under which a later statement looks for this one."""
        placer = _PLACER_OF_FILLED if self.filler else "placer"
        return [one for one in (("document", self.document), ("filler", self.filler), (placer, self.placer)) if one[1]]

    def looks_for(self) -> list[tuple[str, str]]:
        """The numbers of the statements that this one withdraws. Placer numbers count only if one of the two has no filler number."""
        of_filled = "" if self.filler else self.placer
        numbers = ("document", self.document), ("filler", self.filler), ("placer", self.placer), (_PLACER_OF_FILLED, of_filled)
        return [one for one in numbers if one[1]]

    def may_be(self, other: Statement) -> bool:
        """Whether two results are of the same order and time, as far as both state them."""
        if self.filler and other.filler:
            is_other = self.filler != other.filler
        else:
            is_other = bool((self.placer or self.filler) and (other.placer or other.filler)) and self.placer != other.placer
        return not is_other and (self.time.startswith(other.time) or other.time.startswith(self.time))


def standing(statements: Sequence[Statement], left_out: Counter[str]) -> list[Statement]:
    """The statements that no later one withdraws; the others are counted. Drugs that were stopped or are on hold are marked."""
    corrections: defaultdict[str, list[Statement]] = defaultdict(list)  # by result
    cancelled: defaultdict[tuple[str, str], dict[str, str]] = defaultdict(dict)  # number -> service -> why
    stopped: defaultdict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    holds = [one for one in statements if one.takes_back in (ON_HOLD, RELEASED)]
    held = {number: one.takes_back.replace(RELEASED, "") for one in holds for number in one.looks_for()}  # the last mark of each order
    kept = []
    for one in reversed(statements):  # so that a withdrawal is known before the statement
        if one.takes_back in (ON_HOLD, RELEASED):
            continue
        if one.takes_back and one.result:
            corrections[one.result].append(one)
        elif one.takes_back:
            for number in one.looks_for():
                (stopped if one.takes_back == STOPPED else cancelled)[number][one.service] = one.takes_back
        elif why := _corrected(one, corrections[one.result]) or _taken_back(one, cancelled):
            left_out[why] += 1 + len(one.comments)
        else:
            if one.label == "Medication" and one.mark != STOPPED:
                one.mark = _taken_back(one, stopped) or next((held[number] for number in one.known_by() if number in held), one.mark)
            kept.append(one)
    return kept[::-1]


def _corrected(result: Statement, corrections: list[Statement]) -> str:
    """Why a result is withdrawn, by its first correction, which is then used up; "" if it stands."""
    for place in range(len(corrections) - 1, max(-1, len(corrections) - 1 - _MOST_CORRECTIONS), -1):
        if corrections[place].may_be(result):
            return corrections.pop(place).takes_back
    return ""


def _taken_back(one: Statement, taken: Mapping[tuple[str, str], Mapping[str, str]]) -> str:
    """Why a statement is withdrawn by one of its numbers; if both name a service, it must be the same."""
    for services in (taken[number] for number in one.known_by() if number in taken):
        named = (one.service, "") if one.service else services
        if why := next((services[service] for service in named if service in services), ""):
            return why
    return ""
