"""The segments of HL7 version 2 messages, the entries that are made of them, and what later messages take back."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count

from medgemma_app.inputs.demographics import iso_day
from medgemma_app.inputs.lines import ON_HOLD, STOPPED, Line

RELEASED = "released"  # an order that was on hold
_MOST_RESULTS = 100  # of one kind among which a correction is looked for: hostile messages must not take hours


class Segment:
    """One segment of a message: its fields by their numbers."""

    def __init__(self, text: str, separators: str) -> None:
        self._field, self._component, self._repetition, self._escape = list(separators.ljust(5, "\0")[:4])
        self._fields = text.split(self._field)

    def raw(self, number: int) -> str:
        """A field as it is written; "" where there is none."""
        return self._fields[number] if number < len(self._fields) else ""

    def codes(self, number: int) -> list[str]:
        """The first component of each repetition of a field."""
        return [one.split(self._component)[0] for one in self.raw(number).split(self._repetition)]

    def ids(self, *numbers: int) -> Iterator[tuple[str, str]]:
        """Who issued each of the ids in some fields ("" where that is not said), and the id."""
        for parts in (one.split(self._component) for number in numbers for one in self.raw(number).split(self._repetition)):
            if parts[0].strip():
                issuer = parts[3].split("&") if len(parts) > 3 else [""]
                yield next(filter(None, issuer), "").strip(), parts[0].strip()

    def parts(self, number: int) -> list[str]:
        """The components of a field."""
        return self.raw(number).split(self._component)

    def day(self, *numbers: int) -> str:
        """The first of some fields that holds a date, as ISO writes it."""
        return next(filter(None, (iso_day(self.raw(number)) for number in numbers)), "")

    def words(self, number: int, *components: int) -> str:
        """The first of some components of a field that says something (all of them without any), its escapes resolved."""
        told = []
        for parts in (one.split(self._component) for one in self.raw(number).split(self._repetition)):
            chosen = [parts[at] for at in components if at < len(parts) and parts[at].strip()][:1] if components else filter(None, parts)
            told.append(" ".join(chosen))
        return self.resolved("; ".join(filter(None, told)))

    def resolved(self, text: str) -> str:
        """A text without the escapes of separators and of the layout."""
        plain = {"F": self._field, "S": self._component, "R": self._repetition, "E": self._escape, "T": "&"}

        def resolve(found: re.Match[str]) -> str:
            layout = "\n" if found[1][1:3].lower() in ("br", "sp", "ce") else " "
            return layout if found[1].startswith(".") else plain.get(found[1], "")

        return re.sub(rf"{re.escape(self._escape)}([^\\\n]{{1,20}}?){re.escape(self._escape)}", resolve, text).strip()


@dataclass(frozen=True)
class Entry:
    """A line, or what takes back earlier lines (``takes_back`` says why), and how the two find each other."""

    line: Line = field(default_factory=lambda: Line(""))
    said: str = ""  # what a note could be written from
    placer: str = ""  # the number of the order at the one who placed it
    filler: str = ""  # the number of the order at the one who fills it
    service: str = ""  # the panel or examination that the order or the report is of
    document: str = ""  # its number
    result: str = ""  # what was observed
    comment_on: str = ""  # the result that a comment is on
    time: str = ""
    takes_back: str = ""
    further: list[str] = field(default_factory=list, init=False)  # the texts of the segments with which it goes on

    def ranked(self, rank: int) -> Entry:
        """The entry as a whole, with a rank for its line."""
        text, said = ("\n".join([first, *self.further]) for first in (self.line.text, self.said))
        return replace(self, line=replace(self.line, text=text, rank=rank), said=said)

    def known_by(self) -> Iterator[tuple[str, str]]:
        """The numbers under which a later entry looks for this one. Placer numbers count only where one of the two has no filler number."""
        yield from [("document", self.document)] if self.document else []
        yield from [("filler", self.filler)] if self.filler else []
        yield from [("placer of a filled order" if self.filler else "placer", self.placer)] if self.placer else []

    def looks_for(self) -> Iterator[tuple[str, str]]:
        """The numbers that entries are known by which this one takes back."""
        yield from [("document", self.document)] if self.document else []
        yield from [("filler", self.filler)] if self.filler else []
        yield from [("placer", self.placer)] if self.placer else []
        yield from [("placer of a filled order", self.placer)] if self.placer and not self.filler else []

    def may_be(self, earlier: Entry) -> bool:
        """Whether two results are of one order and time, as far as both of them say so."""
        if self.filler and earlier.filler:
            is_other = self.filler != earlier.filler
        else:
            is_other = bool((self.placer or self.filler) and (earlier.placer or earlier.filler)) and self.placer != earlier.placer
        return not is_other and (self.time.startswith(earlier.time) or earlier.time.startswith(self.time))


def standing(entries: Iterable[Entry], left_out: Counter[str]) -> list[Entry]:
    """The entries without those that later ones take back, which are counted; drugs that were stopped or are on hold are marked."""
    kept: dict[int, Entry] = {}
    results: defaultdict[str, list[int]] = defaultdict(list)
    places: defaultdict[tuple[str, str], dict[str, list[int]]] = defaultdict(dict)  # by number, then by service
    stopped: defaultdict[tuple[str, str], dict[str, list[int]]] = defaultdict(dict)  # of orders that may still be cancelled
    held: dict[tuple[str, str], tuple[int, bool]] = {}  # the last that was said of an order: when, and whether it is on hold
    for place, entry in enumerate(entries):
        if not entry.takes_back:
            kept[place] = entry
            results[entry.result].append(place)
            for key in entry.known_by():
                places[key].setdefault(entry.service, []).append(place)
        elif entry.result:  # the latest that it may be, with the comments on it
            earlier = (at for at in reversed(results[entry.result][-_MOST_RESULTS:]) if at in kept and entry.may_be(kept[at]))
            at = next(earlier, place)
            end = next(after for after in count(at + 1) if after not in kept or kept[after].comment_on != entry.result)
            left_out[entry.takes_back] += sum(kept.pop(one, None) is not None for one in range(at, end))
        elif entry.takes_back == STOPPED:
            for key in entry.looks_for():
                for service, at in _taken(places[key], entry.service):
                    stopped[key].setdefault(service, []).append(at)
                    if at in kept and (line := kept[at].line).text.startswith("Medication: "):
                        kept[at] = replace(kept[at], line=replace(line, text=STOPPED + line.text))
        elif entry.takes_back in (ON_HOLD, RELEASED):
            held |= dict.fromkeys(entry.looks_for(), (place, entry.takes_back == ON_HOLD))
        else:
            meant = {at for key in entry.looks_for() for of in (places, stopped) for _, at in _taken(of[key], entry.service)}
            left_out[entry.takes_back] += sum(kept.pop(at, None) is not None for at in meant)
    return [_marked(entry, held) for entry in kept.values()]


def _marked(entry: Entry, held: Mapping[tuple[str, str], tuple[int, bool]]) -> Entry:
    """A drug whose order is on hold begins so, unless it was stopped."""
    _, is_held = max((held[key] for key in entry.known_by() if key in held), default=(0, False))
    if not is_held or not entry.line.text.startswith("Medication: "):
        return entry
    return replace(entry, line=replace(entry.line, text=ON_HOLD + entry.line.text))


def _taken(places: dict[str, list[int]], service: str) -> list[tuple[str, int]]:
    """Takes out the places of one service, and those of none, or all where no service is named."""
    services = {service, ""} if service else set(places)
    return [(one, at) for one in services for at in places.pop(one, ())]
