"""What a note says in words: denied symptoms, examinations, sides and allergies, against what its source says."""

from __future__ import annotations

import re
from collections.abc import Iterator

from medgemma_app.validate.core import Issue, Text, sentence_spans
from medgemma_app.validate.lists import entries, finder
from medgemma_app.validate.terms import DRUGS, Source, drugs_of, heard

MOST_ISSUES = 10
_COMMON = frozenset("the and are was were normal clear full soft warm dry present equal non".split())  # noqa: SIM905
_DENIAL = re.compile(r"\b(?:den(?:y|ies|ied|ying)|negative for|no|without)\b", re.IGNORECASE)


def _keys(name: str) -> list[str]:
    """The keys of a list that has for each of them what else in a source speaks of it."""
    return [key for key in entries(name) if key.islower() and not key.endswith(" heard")]


def unmentioned_denial(text: Text, source: Source) -> Iterator[Issue]:
    """Every symptom that the note denies is mentioned in the source; one warning lists those that are not."""
    first: dict[str, tuple[int, int]] = {}
    for start, end in sentence_spans(text.text):
        denial = _DENIAL.search(text.text, start, end)
        for found in finder("symptoms", *_keys("symptoms")).finditer(text.text, denial.end(), end) if denial else ():
            first.setdefault((found.lastgroup or "").replace("_", " "), found.span())
    silent = [span for key, span in first.items() if not finder("symptoms", key, f"{key} heard").search(source.raw)]
    if silent:
        names, span = ", ".join(text.text[slice(*one)].lower() for one in silent), silent[0]
        message = f"the note denies symptoms that the source does not mention: {names}"
        yield text.issue("unmentioned-denial", "warning", message, span, found=names)


def unmentioned_exam(text: Text, source: Source) -> Iterator[Issue]:
    """A normal examination is of a part of the body that the source mentions."""
    plain, spoken = re.sub(r"[^\w\n.;]", " ", text.text), " " + " ".join(re.findall(r"\w+", source.raw.lower()))
    for key in _keys("exams"):
        found = finder("exams", key).search(plain)
        own = [word for word in re.findall("[a-z]{3,}", found[0].lower()) if word not in _COMMON] if found else []
        if found and not finder("exams", f"{key} heard").search(source.raw) and not any(f" {word}" in spoken for word in own):
            message = f"the source does not mention this examination: {' '.join(found[0].lower().split())}"
            yield text.issue("unmentioned-exam", "warning", message, found.span(), found=text.text[slice(*found.span())])


# --- sides

_SIDE = r"\b(?P<side>(?i:left|right|bilateral\w*|bilat|both|either)|[RL]t?)\b(?! (?:handed|now|away|here|there))"
_BEFORE = re.compile(rf"{_SIDE}(?:[ -](?!(?i:left|right|[RL])\b)[\w/-]+){{0,3}}[ -]$")
_BEHIND = re.compile(rf"[\s(]{{1,2}}(?:(?:on|in|of) (?:the |your |his |her |that )?)?{_SIDE}(?! \w+)")
_QUADRANTS = {"rlq": "right", "ruq": "right", "llq": "left", "luq": "left"}
_OTHER_SIDE = {"left": "right", "right": "left"}


def side_mismatch(text: Text, source: Source) -> Iterator[Issue]:
    """A part of the body is on the side that the source gives it."""
    known = _sides(source.told)
    for (part, side), span in _sides(text.text).items():
        other = _OTHER_SIDE.get(side, "")
        if (part, other) in known and (part, side) not in known and (part, "both") not in known:
            found, expected, place = f"{side} {part}", f"{other} {part}", known[part, other]
            message = f"the note says {found}, the source {expected}"
            yield text.issue("side-mismatch", "warning", message, span, source_span=place, found=found, expected=expected)


def _sides(text: str) -> dict[tuple[str, str], tuple[int, int]]:
    """(part of the body, side) -> where a text first says so, the side right before or behind the part."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for part in finder("anatomy", "part").finditer(text):
        name = part[0].lower() if part[0].endswith("ss") else part[0].lower().removesuffix("s")
        if name in _QUADRANTS:
            found.setdefault(("quadrant", _QUADRANTS[name]), part.span())
        elif side := _BEFORE.search(text, max(0, part.start() - 50), part.start()) or _BEHIND.match(text, part.end()):
            key = {"l": "left", "r": "right"}.get(side["side"][0].lower(), "both")
            found.setdefault((name, key), (min(part.start(), side.start("side")), max(part.end(), side.end("side"))))
    return found


# --- allergies

_ALLERGY = re.compile(r"\ballerg(?:y|ies|ic) to\s{1,3}(?:the )?([^\W\d_]{4,30})\b", re.IGNORECASE)
_ALLERGIES = re.compile(  # what stands under the heading, up to the end of the sentence
    r"(?:\b(?i:allergies|allergy|allergic|allg|allergien?|alergias?)\b ?(?:\([\w ]{1,20}\) ?)?"
    r"(?:[\"']?[:=*]+[ \"'\[]*|\?\s*(?:\[?[\w ]{1,20}[\]:])?)|\bAll:)"
    r"[^\S\n]*([^\n.|\"]{3,150})"
)
_ITEM, _NO_ITEM = re.compile(r"(?<![^,])[\s*]*([^\W\d_]{3,30})[^,]*"), re.compile(r"\([^()]*\)?|[;/&]|\b(?:and|und|et|y|ni)\b")
_ASKED = re.compile(
    r"\b(?:are you|is (?:he|she)|any|not|no|never|if|whether|have you|do you)\b[^.]{0,20}$|n['’]t\b[^.]{0,20}$", re.IGNORECASE
)
_NO_ALLERGIES = re.compile(
    r"\bno known (?:\w+ ){0,2}allerg|\bnkd?a\b|\bno (?:\w+ )?allergies"
    r"|\ballerg\w*[:*]* {0,2}[*]*(?:none|nil|no\b|keine|ninguna|aucune|no conocidas)"
    r"|\bdenies (?:any )?(?:\w+ )?allerg",
    re.IGNORECASE,
)


def omitted_allergy(text: Text, source: Source) -> Iterator[Issue]:
    """An allergy in the source is also in the note, and a note denies allergies only if the source names none."""
    note, denied = heard(text.text), _NO_ALLERGIES.search(text.text)
    for place in _allergens(source.told)[:MOST_ISSUES]:
        allergen = source.told[slice(*place)].lower()
        if denied and not _NO_ALLERGIES.search(source.told):
            message = f"the source names an allergy to {allergen}, the note denies any"
            yield text.issue("omitted-allergy", "warning", message, denied.span(), source_span=place, found=denied[0], expected=allergen)
            return
        names = (allergen, *(name for name in DRUGS if DRUGS[name] & drugs_of(allergen)))
        if source.english and not (note.has(names) or note.begins(allergen.rstrip("s")) or note.alike([allergen])):
            message = f"the source names an allergy to {allergen}, the note does not"
            yield Issue("omitted-allergy", "warning", message, allergen, source_start=place[0], source_end=place[1], expected=allergen)


def _allergens(source: str) -> list[tuple[int, int]]:
    """Where a source says what the patient is allergic to, the first word of each."""
    told = [one.span(1) for one in _ALLERGY.finditer(source) if not _ASKED.search(source[max(0, one.start() - 30) : one.start()])]
    none = finder("cues", "no allergens")
    for heading in _ALLERGIES.finditer(source):
        if not none.match(heading[1].lstrip(" *[")):
            plain = _NO_ITEM.sub(lambda one: "," * len(one[0]), heading[1])
            items = (one for one in _ITEM.finditer(plain) if not none.search(one[0]))
            told += [(heading.start(1) + one.start(1), heading.start(1) + one.end(1)) for one in items]
    places = {source[slice(*place)].lower(): place for place in sorted(told, reverse=True)}
    return sorted(place for name, place in places.items() if not none.fullmatch(name))
