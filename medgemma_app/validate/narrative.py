"""What a note says in words: symptoms and denials, examinations, diagnoses, sides and allergies, against what its source says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from medgemma_app.validate.core import Issue, Text
from medgemma_app.validate.negation import polarity, scopes, sentences
from medgemma_app.validate.terms import DRUGS, WORDS, Lexicon, Source, drugs_of, heard, rows, words

MOST_ISSUES = 10
_FILLERS = frozenset("is are was were the a".split())  # noqa: SIM905
_COMMON = frozenset("no normal clear to and of non full soft warm dry present equal".split())  # noqa: SIM905


_ROWS = [([name.split("/") for name in names], reasons) for names, reasons in rows("symptoms")]
_SUPPORT = {
    spelling: (*(one for others in row for one in others), *reasons) for row, reasons in _ROWS for names in row for spelling in names
}
_SYMPTOMS = Lexicon(_SUPPORT)
_EXAMS = [(Lexicon(names), reasons) for names, reasons in rows("exams")]
_REASONS = {name: (*names, *reasons) for names, reasons in rows("conditions") for name in names}
_DIAGNOSES = Lexicon(_REASONS)
_PARTS = Lexicon(name for names, _ in rows("anatomy") for name in names)

_DENIAL = re.compile(r"\b(?:den(?:y|ies|ied|ying)|negative for|no|without)\b", re.IGNORECASE)
_ALLERGY = re.compile(r"\ballerg(?:y|ies|ic) to\s{1,3}(?:the )?([^\W\d_]{4,30})\b", re.IGNORECASE)
_ALLERGIES = re.compile(  # what stands under the heading, up to the end of the sentence
    r"(?:\b(?i:allergies|allergy|allergic|allg|allergien?|alergias?)\b ?(?:\([\w ]{1,20}\) ?)?"
    r"(?:[\"']?[:=*]+[ \"']?|\?\s*(?:\[?[\w ]{1,20}[\]:])?)|\bAll:)"
    r"[^\S\n]*([^\n.|\"]{3,150})"
)
_ITEM = re.compile(r"\([^()]*\)?|[,;/&]|\b(?:and|und|et|y|ni)\b")
_ASKED = re.compile(
    r"\b(?:are you|is (?:he|she)|any|not|no|never|if|whether|have you|do you)\b[^.]{0,20}$|n['’]t\b[^.]{0,20}$", re.IGNORECASE
)
_NO_ALLERGIES = re.compile(
    r"\bno known (?:\w+ ){0,2}allerg|\bnkd?a\b|\bno (?:\w+ )?allergies"
    r"|\ballerg\w*[:*]* {0,2}[*]*(?:none|nil|no\b|keine|ninguna|aucune|no conocidas)"
    r"|\bdenies (?:any )?(?:\w+ )?allerg",
    re.IGNORECASE,
)


def unmentioned_denial(text: Text, source: Source) -> Iterator[Issue]:
    """A symptom the patient denies is one the source speaks of; one warning names all that are not."""
    said = heard(source.raw)
    silent: dict[tuple[str, ...], tuple[str, int, int]] = {}
    for at, sentence in sentences(text.text):
        denial = _DENIAL.search(sentence)
        for name, start, end in _SYMPTOMS.find(sentence) if denial else ():
            if denial and start >= denial.end() and not any(map(said.has, _SUPPORT[name])):
                silent.setdefault(_SUPPORT[name], (name, at + start, at + end))
    if silent:
        names, (_, start, end) = ", ".join(name for name, _, _ in silent.values()), next(iter(silent.values()))
        message = f"the note denies what the source does not speak of: {names}"
        yield text.issue("unmentioned-denial", "warning", message, (start, end), found=names)


def unmentioned_exam(text: Text, source: Source) -> Iterator[Issue]:
    """A normal examination is of a part the source speaks of."""
    said, starts, ends = words(text.text)
    kept = [at for at, word in enumerate(said) if word not in _FILLERS]
    shown = [said[at] for at in kept]
    heard_words = " " + " ".join(heard(source.raw).words)
    for lexicon, support in _EXAMS:
        for name, first, last in islice(lexicon.mentions(shown), 1):
            own = (word for word in name.split() if word not in _COMMON)
            if not any(f" {word}" in heard_words for word in (*support, *own)):
                span = (starts[kept[first]], ends[kept[last - 1]])
                yield text.issue("unmentioned-exam", "warning", f"the source mentions no such examination: {name}", span, found=name)


def unnamed_diagnosis(text: Text, source: Source) -> Iterator[Issue]:
    """A diagnosis the note affirms is in the source, in the words of clinicians or of patients, or follows from what is there."""
    said = heard(source.told)
    unsaid: dict[tuple[str, ...], tuple[str, int, int]] = {}
    for at, sentence in sentences(text.text):
        for name, start, end in _DIAGNOSES.find(sentence):
            support = _REASONS[name]
            told = polarity(scopes(sentence), start) in ("affirmed", "doubtful") and support not in unsaid
            if told and not any(map(said.has, support)) and not any(said.alike([name])):
                unsaid[support] = (name, at + start, at + end)
    for name, start, end in list(unsaid.values())[:MOST_ISSUES]:
        yield text.issue("unnamed-diagnosis", "info", f"the source does not name {name}", (start, end), found=name)


_SIDES = {word: side for side in ("left", "right", "both") for word in WORDS[side]}
_OTHER_SIDE = {"left": "right", "right": "left"}
_QUADRANTS = {"rlq": "right", "ruq": "right", "llq": "left", "luq": "left"}
_NO_SIDE = frozenset(["handed", "now", "away", "here", "there"])
_BEHIND = re.compile(r"[\s(]{1,2}(?:(?:on|in|of) (?:the |your |his |her |that )?)?(left|right|L|R|bilat\w*)\b(?! \w+)")
_STOP = re.compile(r"[.;)\n]|, ")
_BEFORE, _WIDE_BEFORE, _WIDE_AFTER = 4, 8, 5


def side_mismatch(text: Text, source: Source) -> Iterator[Issue]:
    """A part of the body is on the side that the source gives it."""
    known = _sides(source.told, wide=source.spoken)
    for (part, side), span in _sides(text.text, wide=False).items():
        other = _OTHER_SIDE.get(side, "")
        if (part, other) in known and (part, side) not in known and (part, "both") not in known:
            found, expected, place = f"{side} {part}", f"{other} {part}", known[part, other]
            message = f"the note says {found}, the source {expected}"
            yield text.issue("side-mismatch", "warning", message, span, source_span=place, found=found, expected=expected)


def _sides(text: str, *, wide: bool) -> dict[tuple[str, str], tuple[int, int]]:
    """(part of the body, side) -> where a text first says so: right before or behind the part, or in speech anywhere near."""
    said, before = words(text), 0
    found: dict[tuple[str, str], tuple[int, int]] = {}
    follow = [*said.texts[1:], ""]
    sides = [
        _SIDES.get(text[start:end], "") if after not in _NO_SIDE else ""
        for start, end, after in zip(said.starts, said.ends, follow, strict=False)
    ]
    for name, first, last in _PARTS.mentions(said.texts):
        part = name if name.endswith("ss") else name.removesuffix("s")
        start, end = said.starts[first], said.ends[last - 1]
        ahead = range(first - 1, max(before, first - 1 - (_WIDE_BEFORE if wide else _BEFORE)) - 1, -1)
        near = [at for at in ahead if sides[at] and (wide or not _STOP.search(text, said.ends[at], start))]
        near = [*near, *(at for at in range(last, min(len(sides), last + _WIDE_AFTER)) if sides[at])] if wide else near[:1]
        for at in near:
            found.setdefault((part, sides[at]), (min(start, said.starts[at]), max(end, said.ends[at])))
        if name in _QUADRANTS:
            found.setdefault(("quadrant", _QUADRANTS[name]), (start, end))
        elif not near and (behind := _BEHIND.match(text, end)):
            found.setdefault((part, _SIDES.get(behind[1], "both")), (start, behind.end()))
        before = last if wide else 0  # what is left of another part is not of this one
    return found


def omitted_allergy(text: Text, source: Source) -> Iterator[Issue]:
    """An allergy the source names is in the note, and a note that denies any has a source that names none."""
    note = heard(text.text)
    denied = _NO_ALLERGIES.search(text.text)
    for allergen, place in sorted(_allergens(source.told).items(), key=lambda one: one[1])[:MOST_ISSUES]:
        drugs = drugs_of(allergen)
        names = (allergen, *(name for name in DRUGS if DRUGS[name] & drugs))
        if denied and not _NO_ALLERGIES.search(source.told):
            message = f"the source names an allergy to {allergen}, the note denies any"
            yield text.issue("omitted-allergy", "warning", message, denied.span(), source_span=place, found=denied[0], expected=allergen)
            return
        if source.english and not any(map(note.has, names)) and not note.begins(allergen.rstrip("s")) and not any(note.alike([allergen])):
            message = f"the source names an allergy to {allergen}, the note does not"
            yield Issue("omitted-allergy", "warning", message, allergen, source_start=place[0], source_end=place[1], expected=allergen)


def _allergens(source: str) -> dict[str, tuple[int, int]]:
    """What a source says the patient is allergic to, the first word of each, and where."""
    found = {
        one[1].lower(): one.span(1)
        for one in reversed(list(_ALLERGY.finditer(source))[:50])
        if not _ASKED.search(source[max(0, one.start() - 30) : one.start()])
    }
    for heading in _ALLERGIES.finditer(source):
        start, items = heading.start(1), _ITEM.split(heading[1])
        for item in items if WORDS["no allergens"].isdisjoint(words(items[0]).texts[:1]) else ():
            at = source.find(item, start)
            start = at + len(item)
            said = words(item)
            if said.texts and len(said.texts[0]) >= 3 and said.texts[0].isalpha() and WORDS["no allergens"].isdisjoint(said.texts):
                found.setdefault(said.texts[0], (at + said.starts[0], at + said.ends[0]))
    return {name: place for name, place in found.items() if name not in WORDS["no allergens"]}
