"""How often a drug is taken: "twice a day", bid and q12h are the same, and four times a day is another.

The abbreviations are those of prescriptions in the United States and Britain (bd, tds, qds).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from medgemma_app.validate.core import Issue, Text, excerpt
from medgemma_app.validate.drugs import mentions

_COUNTS = {"once": 1, "twice": 2, "thrice": 3, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
_COUNT = rf"(?:{'|'.join(_COUNTS)}|[1-6])"
_HOURS = {"four": 4, "six": 6, "eight": 8, "twelve": 12}
_CODES = {"bid": 2, "bd": 2, "tid": 3, "tds": 3, "qid": 4, "qds": 4}
_OF_THEM = "(?: times| ?x| (?:tablet|pill|capsule|tab|cap|puff|drop|spray)s?)"
_EVERY = rf"(?:{'|'.join(_HOURS)}|4|6|8|12)"
_FREQUENCY = re.compile(
    rf"(?<![0-9.,])(?P<count>{_COUNT})(?:,? ?(?:or|to|-) ?(?P<more>{_COUNT}))?(?:{_OF_THEM}|(?<![0-9]))"
    r"[ /](?:(?:a|per|each|every|in a)[ -])?(?:day|daily)\b"
    rf"|\b(?:every |q\.? ?)(?P<hours>{_EVERY})(?:(?: to |-| or )(?P<to>{_EVERY}))? ?(?:h\b|hrs?\b|hours?\b)"
    r"|\b(?P<code>b\.?i\.?d|t\.?i\.?d|q\.?i\.?d|bd|tds|qds)\b"
    r"|\b(?:daily|a day|per day|qd|od|every day|nightly|qhs|qam|qpm|(?:every|in the|each|at) (?:morning|evening|night|bedtime))\b",
    re.IGNORECASE,
)
_OPEN = re.compile(r"\b(?:meals?|breakfast|morning|evening|night|bedtime|needed|prn|taper|directed|schedule)\b", re.IGNORECASE)
_DIRECTLY = 60  # letters between a drug and how often it is taken, in a note
_AROUND = 300  # and in a dialogue
_END = re.compile(r"\.\s|[\n;•]")
MOST_DOSES, MOST_AROUND = 20, 10
MOST_MENTIONS = 500


def frequency_of_another(report: Text) -> Iterator[Issue]:
    """A drug is taken as often as its source says; where the source says nothing of this drug, as often as it says of any.

    Once a day is what goes without saying.
    """
    source = report.source or ""
    written = [one for one in _written(report.text) if one[3] > 1][:MOST_DOSES] if source else []
    drugs = mentions(source)[:MOST_MENTIONS] if written else ()
    for name, start, end, times in written:
        around = [source[max(0, at - _AROUND) : at + _AROUND] for at, _, of in drugs if of == name][:MOST_AROUND]
        said = {one for part in around for one in _said(part)}
        if times not in said and not any(map(_OPEN.search, around)) and (said or times not in _said(source)):
            message = f"the source does not say that {name} is taken so often; compare it with the notes"
            yield Issue("frequency-mismatch", "warning", message, excerpt(report.text[start:end]))
            return


def _said(text: str) -> set[int]:
    return {times for found in _FREQUENCY.finditer(text) for times in _times(found)}


def _written(text: str) -> Iterator[tuple[str, int, int, int]]:
    """(generic name, start, end, times a day) where a note says behind a drug how often it is taken."""
    drugs = mentions(text)
    for at, (start, end, name) in enumerate(drugs):
        limit = min(end + _DIRECTLY, drugs[at + 1][0] if at + 1 < len(drugs) else len(text))
        stop = _END.search(text, end, limit)
        found = list(_FREQUENCY.finditer(text, end, stop.start() + 1 if stop else limit))
        if len(found) == 1 and len(times := _times(found[0])) == 1:
            yield name, start, found[0].end(), times[0]


def _times(found: re.Match[str]) -> list[int]:
    """How many times a day; several where it leaves that open."""
    if found["count"]:
        return [_COUNTS.get(one.lower(), 0) or int(one) for one in (found["count"], found["more"]) if one]
    if found["hours"]:
        return [24 // (_HOURS.get(one.lower(), 0) or int(one)) for one in (found["hours"], found["to"]) if one]
    return [_CODES[found["code"].lower().replace(".", "")] if found["code"] else 1]
