"""Whether a text was cut off in the middle, by rules made and measured on real notes and reports that were cut at random places."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from medgemma_app.validate.core import Issue, Text, excerpt, without_tokens
from medgemma_app.validate.last_words import INFLECTIONS, SHORTEST_BEGINNING, awaits_more, can_end, is_cut
from medgemma_app.validate.terms import words

_ABBREVIATION = re.compile(
    r"(?:XXXX)+|\??(?!X+$)[A-Z]{2,5}s?|[A-Za-z]{1,4}(?:/[A-Z][A-Za-z]{0,4}){1,2}|[A-Za-z]/[A-Za-z]|#|q\.?[0-9-]{0,3}\.?(?:h|hs|d|am|pm|mo|wk)|[bt]ds|[oq]d",
    re.ASCII,
)
LONGEST_TAIL = 70
_SHORTEST_PROSE = 3
_MOST_SENTENCES = 3
_LONGEST_PHRASE = 8
_SHORTEST_FRAGMENT, _LONGEST_FRAGMENT = 2, 6
# A fragment without an article or an auxiliary verb is in the style of telegrams, which have no full stops: "RTC 2 wks".
_OF_SENTENCES = re.compile(
    r"\b(?:the|an?|is|are|was|were|be|been|has|have|had|will|would|should|there|this|that|which|patient)\b", re.IGNORECASE
)
_TELEGRAPHIC = 0.34  # of the sentences before it, so many at most are whole ones
_MEASURED = re.compile(r"[0-9][ -]?(?:mm|cm|mg|mcg|m?[lL]|units?|wks?|weeks?|days?|mos?|months?|yrs?|years?|hrs?|hours?|min|minutes?|d|h)$")
_GRADED = re.compile(
    r"\b(?:(?:BI|LI|PI|TI|Lung|O)-?RADS|grade|stage|type|class|category|level|score|Bosniak)(?: of)? ?[0-9IV]{1,3}[a-c]?$", re.I
)
_CLOSERS = "\"'”’)]}*_` \t"
_CLOSED = re.compile(r"[.!?…。]$")
_SENTENCE_END = re.compile(r"[a-z)\]%][.!?](?=\s|$)", re.IGNORECASE)
_SENTENCE_BREAK = re.compile(r"(?<=[.!?;])\s|\n")
_NOT_A_RULE = re.compile(r"\w|^\s*[-*•+]\s*$")
_LONE_BULLET = re.compile(r"[-*•+]|\d{1,2}[.)]")
_SIGNATURE = re.compile(
    r"^\W*(?:electronically |digitally )?(?:sign(?:ed|ature)|dictated|transcribed|reported by|dr\.? |disclaimer)\b"
    r"|^\W*(?:note: )?(?:this|ai-generated|draft)\b"
    r"|\b(?:dictated|transcribed|signed|reported|read) by\b[^.]{0,40}$"
    r"|\b(?-i:M\.?D|D\.?O|N\.?P|P\.?A(?:-C)?|R\.?N|MBBS)\.?$",
    re.IGNORECASE,
)
_LINES_OF_SIGNATURE = 3
_BULLET = re.compile(r"\s*(?:[-*•+]|\d{1,2}[.)])\s")
_CONSISTENT = 0.8
_FEWEST_CLOSED = 1


@dataclass(frozen=True, slots=True)
class _Habit:
    """How the lines before the last one end."""

    closed: int
    open: int

    @property
    def full_stops(self) -> bool:
        """Whether this text closes its sentences, so that an open one at the end stands out."""
        return self.closed >= _FEWEST_CLOSED and self.closed >= _CONSISTENT * (self.closed + self.open)


def truncated(report: Text) -> Iterator[Issue]:
    """The generation was stopped before its end, or the last line reads as if it was."""
    end = excerpt(report.text.rstrip()[-LONGEST_TAIL:])
    if report.finish_reason == "length":
        yield Issue("truncated", "error", "the token budget ran out before the report was complete; raise --max-tokens", end)
    elif report.finish_reason == "cancelled":
        yield Issue("truncated", "error", "the generation was stopped before the report was complete; run it again", end)
    elif _hangs(report) or _stops(report):
        yield Issue("truncated", "error", "the text stops in mid-sentence; raise --max-tokens, or do not use it as it is", end)


def _hangs(report: Text) -> bool:
    """Whether the last thing in the text is a heading."""
    last = report.sections.sections[-1] if report.sections.sections else None
    return last is not None and not last.body and report.text.rstrip(_CLOSERS + ":-\n").endswith(last.heading)


def _stops(report: Text) -> bool:
    """Whether the last line breaks off: by a sign of its own, before a section that never came, or unlike all other lines."""
    lines = _lines(without_tokens(report.text))
    last = " ".join(lines[-1].split()) if lines else ""
    bare = last.rstrip(_CLOSERS)
    if _LONE_BULLET.fullmatch(last) or last.endswith((" Dr.", " Drs.")) or _lacks_cells(lines):
        return True
    if not bare or _CLOSED.search(bare) or any(_SIGNATURE.search(line.strip()) for line in lines[-_LINES_OF_SIGNATURE:]):
        return False
    if _broken(last, bare) or _within_a_word(report, bare):
        return True
    if _is_value(last, bare):
        return False
    return _unfinished(report) or (_habit(lines, _last_body(report)).full_stops and not _is_phrase(report))


def _lacks_cells(lines: list[str]) -> bool:
    """Whether the last row of a table is shorter than the one before it."""
    return len(lines) > 1 and lines[-1].lstrip()[:1] == lines[-2].lstrip()[:1] == "|" and lines[-1].count("|") < lines[-2].count("|")


def _lines(text: str) -> list[str]:
    """The lines that are more than a rule or a fence."""
    return [line for line in text.splitlines() if _NOT_A_RULE.search(line)]


def _broken(last: str, bare: str) -> bool:
    """Signs that need no comparison: a mark or a word that wants more, a count of nothing, a bracket or bold passage left open."""
    return bare[-1] in ",;:-–—/(&+[<=" or awaits_more(last) or last.count("(") > last.count(")") or last.count("**") % 2 == 1


def _within_a_word(report: Text, bare: str) -> bool:
    """Whether the last word is none, or the beginning of one that the text or its source has."""
    before, _, written = bare.rpartition(" ")
    written = written.lstrip("*_(\"'“")
    if not (written.isascii() and written.isalpha()):
        return False
    is_long = len(written) > SHORTEST_BEGINNING and not before[-1:].isdigit()
    return is_cut(written, after=before) or (is_long and _begins_another(report, written.casefold(), bare))


def _begins_another(report: Text, word: str, bare: str) -> bool:
    """Whether a word is nowhere else in the text or its source, and a longer one with this beginning is."""
    text = report.text[: report.text.rfind(bare.rpartition(" ")[2])]
    said = {one for part in (text, report.source or "") for one in words(part).texts}
    longer = any(one.startswith(word) and one[len(word) :] not in INFLECTIONS for one in said)
    return longer and word not in said and not can_end(word)


def _is_value(last: str, bare: str) -> bool:
    """Whether the open last line ends in a quotation or a measured value."""
    sentence = re.split(r"[.!?]\s", bare)[-1]
    end = sentence.rsplit(maxsplit=1)[-1]
    if _GRADED.search(sentence):
        return True
    measured = any(char.isdigit() for char in end) and (":" in sentence or "/" in end or "%" in end or sentence == end)
    return last != bare or measured


def _unfinished(report: Text) -> bool:
    """Whether a section that comes after the last one is missing."""
    present, sections = report.sections.texts(), report.sections.sections
    known = [report.required.index(key) for key in sections[-1].keys if key in report.required] if sections else []
    return bool(known) and any(key not in present for key in report.required[max(known) :])


def _last_body(report: Text) -> str:
    return "\n".join(_lines(without_tokens(report.sections.sections[-1].body if report.sections.sections else report.text)))


def _is_phrase(report: Text) -> bool:
    """Whether the last section is short and ends in a phrase that a reader takes for complete."""
    body = _last_body(report)
    closed = len(_SENTENCE_END.findall(body))
    last = _SENTENCE_END.split(body.rstrip(_CLOSERS).rpartition("\n")[2])[-1]
    words = _BULLET.sub("", last, count=1).split()
    if not closed and _SHORTEST_FRAGMENT <= len(words) <= _LONGEST_FRAGMENT and _is_telegraphic(report.text, last):
        return True
    if closed > _MOST_SENTENCES or (closed and len(words) > _LONGEST_PHRASE):
        return False
    is_unit = _MEASURED.search(last) is not None
    return bool(words) and (is_unit or _ABBREVIATION.fullmatch(words[-1]) is not None or can_end(words[-1].casefold()))


def _is_telegraphic(text: str, last: str) -> bool:
    """Whether a fragment is no sentence, and hardly a sentence of the text is a whole one."""
    if _OF_SENTENCES.search(last):
        return False
    said = [part for part in _SENTENCE_BREAK.split(text) if len(part.split()) >= _SHORTEST_PROSE]
    return sum(_OF_SENTENCES.search(part) is not None for part in said) <= _TELEGRAPHIC * len(said)


def _habit(lines: list[str], body: str) -> _Habit:
    """The ends of the other lines of the last section; where it has only one line, those of all sentences."""
    inside = [line for line in body.splitlines() if _BULLET.match(line) or len(line.split()) >= _SHORTEST_PROSE][:-1]
    nearest = [line for line in inside if _BULLET.match(line)] if _BULLET.match(lines[-1]) else inside
    if nearest:
        closed = sum(map(_ends_closed, nearest))
        return _Habit(closed + len(_SENTENCE_END.findall(lines[-1])), len(nearest) - closed)
    closed = sum(len(_SENTENCE_END.findall(line)) for line in lines)
    return _Habit(closed, sum(not _ends_closed(line) and len(line.split()) >= _SHORTEST_PROSE for line in lines[:-1]))


def _ends_closed(line: str) -> bool:
    return _CLOSED.search(line.rstrip(_CLOSERS)) is not None
