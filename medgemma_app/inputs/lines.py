"""The lines that notes are made of: what a status means, the dates of visits, and what is kept if there is no room for everything.

Every reader of notes (JSON, FHIR, HL7, transcripts, documents) returns lines. ``read_notes`` joins them into the text that the model reads.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any


@cache
def list_lines(name: str, room: str = "inputs") -> tuple[str, ...]:
    """The lines of a word list in the ``data/`` of a room, in order, without comments (#) and blank ones."""
    text = (Path(__file__).parent.parent / room / "data" / f"{name}.txt").read_text(encoding="utf-8")
    return tuple(line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#"))


def list_words(name: str, room: str = "inputs") -> list[str]:
    """The words of all lines of a word list."""
    return [word for line in list_lines(name, room) for word in line.split()]


# Scripts that write without spaces are counted, and may be cut, by the character.
UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
_PIECE = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")
_SENTENCE_END = re.compile(r"(?<=[.!?;\u0964\u0965\u061f\u06d4])\s|(?<=[\u3002\uff01\uff1f\uff1b\uff61])|\n|\Z")
_WORD_END = re.compile(rf"\s+|(?<=[{UNSPACED}])|\Z")
SAFE_LABEL = re.compile(r"[^\W\d_]+(?:(?:, |[ _/-])[^\W\d_]+){0,7}")
_BETWEEN_WORDS = re.compile(r"[\s_-]+|(?<=[a-z])(?=[A-Z])")
_NUMBERED_DAY = re.compile(r"(\d{1,2})[./-](\d{1,2})[./-](\d{4}|\d\d)(?!\d)")
_WEEKDAY = rf"(?:(?:{'|'.join(list_lines('weekdays'))})\.?,? (?:den |le |el )?)?"
_MOST_LABELS = 12  # in a message
# A line that may begin a visit: a date, perhaps in a title, after words such as "Follow-up visit 2 on", or after up to three others.
_NAME = r"[^\W\d_]{3,10}"
_DAY = r"\d{1,2}(?:\.|er|st|nd|rd|th)?"
_DATE = (
    rf"(?:\d{{4}}[-/.]\d\d[-/.]\d\d|\d{{1,2}}[./-]\d{{1,2}}[./-](?:\d{{4}}|\d\d)|{_NAME}\.? {_DAY},? \d{{4}}"
    rf"|{_DAY}[ -](?:de )?{_NAME}(?:\.?[ -](?:del? )?\d{{4}}|-\d\d))"
)
_DATED = re.compile(
    r"(?im)^(?:#{1,6} |[*_=\[( ]{0,6}(?<![*] ))(?:(?P<heading>(?:[a-z-]{1,12} ){0,2}"
    rf"(?:date(?! of birth)|visit|encounter|note|seen|consultation|appointment|review|visite|besuch|consulta)\b"
    rf"(?: ?#?\d{{1,3}}\b)?[^\n\d]{{0,30}}?)|(?P<words>(?:[^\W\d_]+[^\w\n]{{1,4}}){{1,3}}?))??"
    rf"\b{_WEEKDAY}(?P<date>{_DATE})(?:\b|(?=T\d))(?P<alone>(?:[^\w\n]*T?\d\d?:\d\d[^\n]{{0,12}}|[^\w\n]*)$)?"
)
# The time of a recorder before a line.
_CLOCK = re.compile(r"\s*[\[(](\d{1,2}):\d{2}(?::\d{2})?(?:[.,]\d+)?(?:\s*-+>?\s*[\d:.,]+)?[\])]\s*")
# Half of a surrogate pair cannot be encoded; control characters cut strings short or control terminals.
NO_TEXT = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]")

# Marks for lines that do not state a fact about the patient, such as refuted problems.
MARKED_LINE = re.compile(r"(?m)^[^\w\n]*(?:REFUTED|NOT DONE|NOT TAKEN|STOPPED|DO NOT PERFORM):.*$")

REFUTED, NOT_DONE, NOT_TAKEN, STOPPED, DO_NOT_PERFORM = "REFUTED: ", "NOT DONE: ", "NOT TAKEN: ", "STOPPED: ", "DO NOT PERFORM: "
ON_HOLD = "ON HOLD: "  # the drug remains one of the patient's
_TAKEN_BACK = {
    "entered-in-error": "entered in error", "cancelled": "cancelled", "canceled": "cancelled", "superseded": "superseded",
    "nullified": "entered in error", "deprecated": "superseded", "deleted": "deleted",
}  # fmt: skip
_MARKS = {
    "refuted": REFUTED, "ruled-out": REFUTED, "not-done": NOT_DONE, "declined": NOT_DONE, "rejected": NOT_DONE, "noshow": NOT_DONE,
    "no-show": NOT_DONE, "failed": NOT_DONE, "not-taken": NOT_TAKEN, "not-taking": NOT_TAKEN, "stopped": STOPPED, "discontinued": STOPPED,
    "revoked": STOPPED, "aborted": STOPPED, "abandoned": STOPPED, "terminated": STOPPED,
}  # fmt: skip
STATUSES = ("status", "docStatus", "verificationStatus", "lifecycleStatus")
FLAGS = {
    "doNotPerform": DO_NOT_PERFORM, "prohibited": DO_NOT_PERFORM, "notDone": NOT_DONE, "notGiven": NOT_DONE, "wasNotGiven": NOT_DONE,
    "notPerformed": NOT_DONE, "wasNotTaken": NOT_TAKEN, "discontinued": STOPPED,
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One entry of the notes. ``label`` says what it is; lines of the highest ``rank`` are the first to be left out."""

    text: str
    label: str = ""
    rank: int = 0


@dataclass(frozen=True)
class Reading:
    """What a reader returns: the lines, the format, whether there is anything to write a note from, and what was left out."""

    lines: Sequence[Line]
    format: str
    says_something: bool
    left_out: Sequence[str] = ()
    warnings: Sequence[str] = ()


def clean(line: Line) -> Line:
    """The line without characters that could control a terminal. A marked entry becomes one line, so that its mark covers all of it."""
    text = NO_TEXT.sub("\N{REPLACEMENT CHARACTER}", line.text.replace("\r\n", "\n").replace("\r", "\n"))
    return replace(line, text=" ".join(text.split("\n")) if line.label and MARKED_LINE.match(text) else text)


def count_words(text: str) -> int:
    """The number of words, including numbers."""
    return len(_PIECE.findall(text))


def fit_lines(lines: Sequence[Line], count: Callable[[str], int], limit: int) -> tuple[str, str]:
    """As many of the lines as fit ``limit`` by ``count``, and a sentence on what was left out ("" for nothing).

    Lines are kept by rank, and the first that does not fit is cut after a sentence, or after a word where that would leave out
    too much. The kept lines stay in their order. The text is "" if not even one word fits.
    """
    order = sorted(range(len(lines)), key=lambda at: lines[at].rank)

    def shown(whole: int, part: str = "") -> str:
        kept = {at: lines[at].text for at in order[:whole]} | ({order[whole]: part} if part else {})
        return "\n".join(kept[at] for at in sorted(kept))

    if count(shown(len(lines))) <= limit:
        return shown(len(lines)), ""
    whole = max(0, bisect_right(range(len(lines)), limit, key=lambda number: count(shown(number))) - 1)
    cut = lines[order[whole]].text

    def fitting(boundary: re.Pattern[str]) -> str:
        ends = [match.end() for match in boundary.finditer(cut)]
        number = bisect_right(ends, limit, key=lambda end: count(shown(whole, cut[:end])))
        return cut[: ends[number - 1]].rstrip() if number else ""

    part = fitting(_SENTENCE_END)
    if not part or count(shown(whole, part)) < limit / 2:
        part = fitting(_WORD_END)
    kept = shown(whole, part)
    if not kept:
        return "", ""
    lost = [lines[at] for at in sorted(order[whole + bool(part) :])]
    return kept, _left_out(count_words(shown(len(lines))), count_words(kept), lost, lines[order[whole]] if part and part != cut else None)


def _left_out(all_words: int, kept_words: int, lost: Sequence[Line], cut: Line | None) -> str:
    named = (("all", lost), ("part", [cut] if cut else []))
    named_lines = "; ".join(
        f"{what} of {_listed([line.label for line in some])}" for what, some in named if any(line.label for line in some)
    )
    return f"the notes do not fit: {all_words - kept_words} of {all_words} words were left out" + (
        f" ({named_lines})" if named_lines else ""
    )


def _listed(labels: list[str]) -> str:
    """Each label once, with how often it occurs. Labels that might hold a patient's data are only counted."""
    counted = Counter(label if SAFE_LABEL.fullmatch(label) else "" for label in labels)
    others = counted.pop("", 0)
    named = [label if times == 1 else f"{label} ({times})" for label, times in counted.items()]
    others += sum(counted[label] for label in list(counted)[_MOST_LABELS:])
    return ", ".join(named[:_MOST_LABELS] + ([f"{others} more"] if others else []))


def sortable_days(written: Sequence[str]) -> list[str]:
    """The dates at the start of texts, in ISO format; an empty list if one of the texts does not begin with a date.

    The other dates decide how 05/06/2024 is read: 13/06/2024 shows that the day comes first, and so do dots. Without such a sign,
    the month comes first; see ``day_or_month``.
    """
    day_first = any(re.match(r"\d{1,2}\.|(1[3-9]|2\d|3[01])[/-]", said) for said in written)
    days = [_iso_day(said, day_first=day_first) for said in written]
    return days if all(days) else []


def _iso_day(said: str, *, day_first: bool) -> str:
    said = re.sub(rf"(?i)^{_WEEKDAY}", "", said)
    if found := re.match(r"(\d{4})[-/.]?(\d\d)?[-/.]?(\d\d)?(?!\d)", said):
        return "-".join(part for part in found.groups() if part)
    if found := _NUMBERED_DAY.match(said):
        month, day = (found[2], found[1]) if day_first else (found[1], found[2])
        return f"{_full_year(found[3])}-{month:0>2}-{day:0>2}"
    if found := re.match(rf"(?i)(?:({_DAY})[ -](?:de )?)?({_NAME})\.?[ -](?:({_DAY}),? |del? )?(\d{{4}}|(?<=-)\d\d\b)", said):
        begins = re.compile(rf"\b{found[2].lower()}")
        months = [number for number, names in enumerate(list_lines("months"), 1) if begins.search(names)]
        day = re.sub(r"\D", "", found[1] or found[3] or "0")
        return f"{_full_year(found[4])}-{months[0]:02}-{day:0>2}" if len(months) == 1 else ""
    return ""


def _full_year(said: str) -> str:
    return said if len(said) == 4 else f"{'19' if said > '68' else '20'}{said}"


def day_or_month(written: Sequence[str]) -> tuple[str, ...]:
    """A warning if dates such as 05/06/2024 would put visits in another order when read day first."""
    numbered = [found for said in written if (found := _NUMBERED_DAY.match(said))]
    if any("." in found[0] or max(int(found[1]), int(found[2])) > 12 for found in numbered):
        return ()
    either = [[_iso_day(said, day_first=day_first) for said in written] for day_first in (False, True)]
    orders = [sorted(range(len(days)), key=days.__getitem__) for days in either]
    warning = "dates such as 05/06/2024 do not say which is the month; they were read month first to put the visits in order"
    return (warning,) if orders[0] != orders[1] else ()


def visits_of(text: str) -> tuple[list[Line], tuple[str, ...]]:
    """Splits a text whose parts begin with dates into one line for each part, the oldest to be left out first; and warnings."""
    dated = _dated_lines(text)
    found = [match for match in dated if _iso_day(match["date"], day_first=False)]
    unread = [match for match in dated if not _iso_day(match["date"], day_first=False) and _looks_like_a_visit(match)]
    warning = "some dates of visits cannot be read, so a newer visit may be left out before an older one; write them as 2024-05-06"
    warnings = (warning,) * (bool(unread) and len(found) + len(unread) > 1)
    written = [match["date"] for match in found]
    starts = list(zip((match.start() for match in found), sortable_days(written), strict=False))
    days = {day: place for place, day in enumerate(sorted({day for _, day in starts}, reverse=True))}
    if len(days) < 2:
        return [Line(text)], warnings
    bounds = [*(start for start, _ in starts), len(text)]
    parts = [(text[begin:end], day) for (begin, day), end in zip(starts, bounds[1:], strict=True)]
    head = [Line(text[: bounds[0]].rstrip("\n"))] if text[: bounds[0]].strip() else []
    return [*head, *(Line(said.removesuffix("\n"), "visit", days[day]) for said, day in parts)], (*warnings, *day_or_month(written))


def _dated_lines(text: str) -> list[re.Match[str]]:
    """The lines that begin visits: those that name one, and those that begin with a date.

    If no line names a visit or is only a date, other words before a date count where they occur with several dates that stand apart.
    """
    dated = list(_DATED.finditer(text))
    plain = [match for match in dated if not match["words"]]
    if any((match["heading"] or match["alone"]) is not None and _iso_day(match["date"], day_first=False) for match in plain):
        return plain
    dates: dict[str, set[str]] = {}
    for match in dated:
        if match["words"] and (match["alone"] is not None or not text[max(0, match.start() - 2) : match.start()].strip()):
            dates.setdefault(match["words"].lower().strip(), set()).add(match["date"])
    return [match for match in dated if not match["words"] or len(dates.get(match["words"].lower().strip(), ())) > 1]


def without_times(text: str) -> str:
    """A text without the times in brackets that a recorder puts before each line: [00:12] Doctor: ..."""
    lines = [line for line in text.split("\n") if line.strip()]
    timed = [found for line in lines if (found := _CLOCK.match(line))]
    if len(timed) < 2 or len(timed) * 10 < len(lines) * 8 or int(timed[0][1]) > 4:
        return text
    return "\n".join(_CLOCK.sub("", line) for line in text.split("\n"))


def _looks_like_a_visit(match: re.Match[str]) -> bool:
    """True for a line that names a visit, or is only a date, even with an unknown month. "1. Metformin 1000 mg" is neither."""
    return (match["heading"] or match["words"] or match["alone"]) is not None and re.search(r"(?:19|20)\d\d$", match["date"]) is not None


@lru_cache(maxsize=4096)
def key_words(key: str) -> str:
    """A key as the words it is made of: chiefComplaint, chief_complaint and CHIEF-COMPLAINT are one."""
    return _BETWEEN_WORDS.sub(" ", key).strip().lower()


def inside(value: Any) -> Iterator[Any]:
    """What a JSON object or array holds directly."""
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def with_counts(left_out: Counter[str]) -> list[str]:
    """The kinds of things that were left out, each with its count."""
    return [what if times == 1 else f"{what}, {times} times" for what, times in sorted(left_out.items()) if times]


def status_mark(value: Mapping[str, Any]) -> tuple[str, str]:
    """The mark that a line begins with because of its status ("" for none), and why it is withdrawn ("" if it is not)."""
    adherence = value.get("adherence")
    statuses = [code for key in STATUSES for code in codes(value.get(key))]
    statuses += ["deleted"] if value.get("deleted") in (True, "true") else []
    taken_back = next((_TAKEN_BACK[code] for code in statuses if code in _TAKEN_BACK), "")
    marks = [mark for flag, mark in FLAGS.items() if value.get(flag) is True or value.get(flag) == "true"]
    if value.get("resourceType") != "QuestionnaireResponse":  # a stopped one still has answers
        marks += [_MARKS[code] for code in statuses if code in _MARKS]
    marks += [NOT_TAKEN] if value.get("taken") in ("n", "false", False) else []
    for code in codes(adherence.get("code")) if isinstance(adherence, Mapping) else ():
        marks += [NOT_TAKEN] if code.startswith("not-taking") else [STOPPED] if code.startswith("stopped") else []
    return (marks[0] if marks else ""), taken_back


def codes(value: Any) -> Iterator[str]:
    """The codes of a status, written as a code in STU3 and as a concept in later versions."""
    if isinstance(value, str):
        yield re.sub(r"[\s_]+", "-", value.strip().lower())
    elif isinstance(value, Mapping):
        for key in ("coding", "code", "text", "display"):
            yield from codes(value.get(key))
    elif isinstance(value, list):
        for inner in value:
            yield from codes(inner)
