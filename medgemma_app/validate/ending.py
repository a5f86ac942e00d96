"""Whether a text was cut off in the middle."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from medgemma_app.validate.common import Issue, Report, excerpt, without_tokens

# Words that need another one after them. Left out are those that end a sentence in clinical English:
# "follow up", "ruled out", "turned on", "carried over", "vitamin A".
_NEEDS_MORE = frozenset(
    """a an the and or nor but with without of for from to into in at by as than that which who whose while because if when where
    is are was were be been being am has have had will would should could can may might must his her its their our my your
    between within during per via versus vs due either very more consistent suggestive compatible""".split()  # noqa: SIM905
)
# A phrase without a full stop is complete where its last word can end one, as in "No acute disease".
_LAST_SYLLABLES = tuple(
    """ment tion sion itis oma osis emia ema thorax thorace ity itie megaly pathy ance ence ness ing ure ectomy otomy phy scopy
    therapy graph gram logy able ible ally less cted ated ized sed ked ned red wed ded ged ied med ted ved phragm contour stinum""".split()  # noqa: SIM905
)
_LAST_WORDS = frozenset(
    """disease change process chest spine aorta study exam infiltrate mass nodule lesion lobe base side lung heart film view report limit
    size silhouette volume diaphragm fluid air tissue hernia osteophyte prior region image body bodie scar rib catheter tube cyst stone
    line tip lead device level zone apex apice angle space airspace shadow marking vessel bone abdomen colon artifact syndrome injury
    injurie shift stripe infarct artery vein trachea carina hilum ventricle atrium stomach pneumonia atelectasis surgery history
    clear unclear normal intact positive negative low seen given shown midline borderline none present prn
    right left today above below visit clinic well adult age symptom time day week month year hour daily weekly pain plan patient
    regimen strain knee diabetes test result lab issue problem concern relief diet exercise home work care health ago""".split()  # noqa: SIM905
)
_ABBREVIATION = re.compile(r"(?:XXXX)+|(?!X+$)[A-Z]{2,5}s?")
LONGEST_TAIL = 70
_SHORTEST_PROSE = 3
_MOST_SENTENCES = 3
_CLOSERS = "\"'”’)]}*_` \t"
_CLOSED = re.compile(r"[.!?…。]$")
_SENTENCE_END = re.compile(r"[a-z)\]%][.!?](?=\s|$)", re.IGNORECASE)
_NOT_A_RULE = re.compile(r"\w|^\s*[-*•+]\s*$")
_LONE_BULLET = re.compile(r"[-*•+]|\d{1,2}[.)]")
_SIGNATURE = re.compile(
    r"^(?:electronically |digitally )?(?:sign(?:ed|ature)|dictated|reported by|dr\.? )|, ?(?:MD|DO|NP|PA|RN)$", re.IGNORECASE
)
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


def truncated(report: Report) -> Iterator[Issue]:
    """The generation was stopped before its end, or the last line reads as if it was."""
    end = excerpt(report.text.rstrip()[-LONGEST_TAIL:])
    if report.finish_reason == "length":
        yield Issue("truncated", "error", "the token budget ran out before the report was complete; raise --max-tokens", end)
    elif report.finish_reason == "cancelled":
        yield Issue("truncated", "error", "the generation was stopped before the report was complete; run it again", end)
    elif _hangs(report) or _stops(report):
        yield Issue("truncated", "error", "the text stops in mid-sentence; raise --max-tokens, or do not use it as it is", end)


def _hangs(report: Report) -> bool:
    """Whether the last thing in the text is a heading."""
    last = report.parsed.sections[-1] if report.parsed.sections else None
    return last is not None and not last.body and report.text.rstrip(_CLOSERS + ":-\n").endswith(last.heading)


def _stops(report: Report) -> bool:
    """Whether the last line breaks off: by a sign of its own, before a section that never came, or unlike all other lines."""
    lines = [line for line in without_tokens(report.text).splitlines() if _NOT_A_RULE.search(line)]
    last = " ".join(lines[-1].split()) if lines else ""
    bare = last.rstrip(_CLOSERS)
    if not bare or _CLOSED.search(bare) or _SIGNATURE.search(last) or _LONE_BULLET.fullmatch(last):
        return _LONE_BULLET.fullmatch(last) is not None
    if _broken(last, bare) or _is_value(last, bare):
        return _broken(last, bare)
    return _unfinished(report) or (_habit(lines, _last_body(report)).full_stops and not _is_phrase(report))


def _broken(last: str, bare: str) -> bool:
    """Signs that need no comparison: a mark or a word that wants more, a bracket or bold passage left open."""
    word = bare.rsplit(maxsplit=1)[-1]
    wants_more = bare[-1] in ",;:-–—/(&+[<=" or word in _NEEDS_MORE
    return wants_more or last.count("(") > last.count(")") or last.count("**") % 2 == 1


def _is_value(last: str, bare: str) -> bool:
    """Whether the open last line ends in a quotation or a measured value."""
    sentence = re.split(r"[.!?]\s", bare)[-1]
    end = sentence.rsplit(maxsplit=1)[-1]
    measured = any(char.isdigit() for char in end) and (":" in sentence or "/" in end or "%" in end or sentence == end)
    return last != bare or measured


def _unfinished(report: Report) -> bool:
    """Whether a section that comes after the last one is missing."""
    present, sections = report.parsed.texts(), report.parsed.sections
    known = [report.required.index(key) for key in sections[-1].keys if key in report.required] if sections else []
    return bool(known) and any(key not in present for key in report.required[max(known) :])


def _last_body(report: Report) -> str:
    return without_tokens(report.parsed.sections[-1].body if report.parsed.sections else report.text)


def _is_phrase(report: Report) -> bool:
    """Whether the last section is short and ends in a phrase that a reader takes for complete."""
    body = _last_body(report)
    if len(_SENTENCE_END.findall(body)) > _MOST_SENTENCES:
        return False
    words = body.rstrip(_CLOSERS).rpartition("\n")[2].split()
    return bool(words) and (_ABBREVIATION.fullmatch(words[-1]) is not None or _can_end(words[-1].casefold()))


def _can_end(word: str) -> bool:
    """Whether a word, or what it is the plural of, can end a phrase."""
    forms = (word, word.removesuffix("s"), word.removesuffix("es"))
    return not _LAST_WORDS.isdisjoint(forms) or any(form.endswith(_LAST_SYLLABLES) for form in forms)


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
