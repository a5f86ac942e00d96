"""What HL7 version 2 messages say, and what later messages take back of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count

from medgemma_app.inputs.lines import STOPPED, Line

_MOST_RESULTS = 100  # of one kind that a correction is looked for among: hostile messages must not take hours


@dataclass(frozen=True)
class Entry:
    """A line, or what takes back earlier lines (``takes_back`` says why), and how the two find each other."""

    line: Line = field(default_factory=lambda: Line(""))
    said: str = ""  # what a note could be written from
    order: frozenset[str] = frozenset()  # its numbers
    document: str = ""  # its number
    result: str = ""  # what was observed
    time: str = ""
    takes_back: str = ""

    def ranked(self, rank: int) -> Entry:
        """The entry with a rank for its line."""
        return replace(self, line=replace(self.line, rank=rank))

    def known_by(self) -> Iterator[tuple[str, str]]:
        """What a later entry names to take this one back."""
        yield from [("result", self.result)] if self.result else []
        yield from [("document", self.document)] if self.document else []
        yield from (("order", number) for number in self.order)

    def may_be(self, earlier: Entry) -> bool:
        """Whether two results are of one order and time, as far as both of them say so."""
        is_other = self.order and earlier.order and self.order.isdisjoint(earlier.order)
        return not is_other and (self.time.startswith(earlier.time) or earlier.time.startswith(self.time))


def standing(entries: Iterable[Entry], left_out: Counter[str]) -> list[Entry]:
    """The entries without those that later ones take back, which are counted; the drugs of an order that was stopped are marked."""
    kept: dict[int, Entry] = {}
    places: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for place, entry in enumerate(entries):
        if not entry.takes_back:
            kept[place] = entry
            for key in entry.known_by():
                places[key].append(place)
        elif entry.result:  # the latest that it may be, with the comments on it
            earlier = (at for at in reversed(places["result", entry.result][-_MOST_RESULTS:]) if at in kept and entry.may_be(kept[at]))
            at = next(earlier, place)
            end = next(after for after in count(at + 1) if after not in kept or kept[after].line.label != "Comment")
            left_out[entry.takes_back] += sum(kept.pop(one, None) is not None for one in range(at, end))
        else:
            meant = {at for key in entry.known_by() for at in places.pop(key, ()) if at in kept}
            for at in meant:
                line = kept[at].line
                if entry.takes_back != STOPPED:
                    del kept[at]
                    left_out[entry.takes_back] += 1
                elif line.text.startswith("Medication: "):
                    kept[at] = replace(kept[at], line=replace(line, text=STOPPED + line.text))
    return list(kept.values())
