"""A report that contradicts itself: affirmed here and denied there, left here and right there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from medgemma_app.validate.common import Issue, Report, excerpt
from medgemma_app.validate.negation import Polarity, polarity, scopes, sentences

# What CheXpert's labeler (Irvin et al. 2019) and the report's usual denials name; spellings of one thing on one line.
_THINGS: Mapping[str, str] = {
    "pneumothorax": r"pneumothora(?:x|ces)|hydropneumothorax",
    "effusion": r"(?:pleural )?effusions?|pleural fluid|hydrothorax",
    "consolidation": r"consolidations?|air ?space (?:disease|opacit(?:y|ies)|process)|infiltrates?|pneumonias?",
    "nodule": r"nodules?|mass(?:es)?",
    "edema": r"(?:pulmonary |interstitial |alveolar )?(?:o?edema)|congestive failure|vascular congestion",
    "fracture": r"fractures?",
    "cardiomegaly": r"cardiomegaly|enlarged (?:heart|cardiac silhouette|cardiomediastinal silhouette)"
    r"|(?:heart|cardiac silhouette)(?: size)? is (?:\w+ )?enlarged",
    "free air": r"free (?:intraperitoneal |subdiaphragmatic |peritoneal )?air|pneumoperitoneum",
    "hernia": r"hernias?",
    "atelectasis": r"atelecta\w+",
}
_PLACED: Mapping[str, str] = {
    **{name: _THINGS[name] for name in ("pneumothorax", "effusion", "nodule", "fracture")},
    "opacity": r"opacit\w+|densit\w+|consolidations?|infiltrates?|pneumonias?|atelecta\w+|air ?space|scar\w*|fibros\w+",
    "device": r"catheter|picc|port|tube|line|pacemaker|aicd",
    "granuloma": r"granuloma\w*|calcifi\w+",
}
_THING = re.compile("|".join(rf"(?P<{name.replace(' ', '_')}>\b(?:{words})\b)" for name, words in _THINGS.items()), re.IGNORECASE)
_PLACE = re.compile("|".join(rf"(?P<{name}>\b(?:{words})\b)" for name, words in _PLACED.items()), re.IGNORECASE)
# A denial with one of these before the thing is no denial of every such thing. "No focal consolidation" is one of consolidation.
_WORDS_BETWEEN = r"\W+(?:\w+\W+){0,2}$"
_QUALIFIERS = (
    r"large|big|significant|sizable|new|acute|displaced|left|right|obvious|overt|definite|other|additional|further|suspicious|recurrent"
    r"|residual|tension|frank|gross|interval|dominant|discrete|lobar|superimposed|associated|confluent|dense|compression|rib|hilar"
    r"|mediastinal|concerning|parenchymal|active|prominent|bilateral|complicating|underlying|more|measurable|substantial|XXXX|alveolar"
    r"|interstitial|apical|upper|lower|layering|healing|spinal|intrathoracic|moderate|noncalcified|increas\w+|patchy|pulmonary"
)
_PARTIAL = re.compile(rf"\b(?:{_QUALIFIERS}|focal){_WORDS_BETWEEN}", re.IGNORECASE)
_PARTIAL_OF_FOCAL = re.compile(rf"\b(?:{_QUALIFIERS}){_WORDS_BETWEEN}", re.IGNORECASE)
_OTHERWISE = re.compile(r"\b(?:otherwise|elsewhere|remain\w*)\b", re.IGNORECASE)
_OLD = re.compile(
    r"\b(?:old|healed|healing|remote|prior|previous|chronic|post\w*|resolved|history|risk|trace|tiny|calcified|scar\w*)\b", re.I
)
_NORMAL_HEART = re.compile(
    r"\b(?:heart|cardiac silhouette|cardiac)(?: size)?(?: and \w+(?: \w+)?)? (?:is|are|appears?)? ?(?:within |at )?(?:the )?normal\b"
    r"|\bnormal (?:heart|cardiac)(?: size| silhouette)?\b|\bheart size(?: is)? normal\b",
    re.IGNORECASE,
)
# What says of a whole part that nothing is wrong denies what would be: infiltrates in clear lungs, breaks in intact bones.
_SOUND = (
    (
        "consolidation",
        re.compile(r"\blungs(?: fields| and pleural spaces)?:? (?:(?:are|appear|remain|both|grossly) ){0,2}clear\b|\bclear lungs\b", re.I),
    ),
    (
        "fracture",
        re.compile(r"\b(?:bones|osseous structures|bony (?:thorax|structures)|ribs):? (?:(?:are|appear|grossly) ){0,2}intact\b", re.I),
    ),
)
_OF_ONE_SIDE = re.compile(
    r"\b(?:right|left|[rl]|otherwise|elsewhere|remainder|rest|remaining|except|visuali[sz]ed|upper|lower|apart|but|where)\b", re.I
)
_UPPER = re.compile(r"\bupper|borderline|otherwise|top\b", re.IGNORECASE)
_SIDE = re.compile(
    r"\b(?:(?P<left>left|lll|lul)|(?P<right>right|rll|rul|rml)|(?P<both>bilateral\w*|both|bibasilar|biapical|bibasal))\b"
    r"(?!(?:[- ]sided)? (?:heart|atri\w+|ventric\w+|main\w*|aort\w+|arch|paratracheal|side of the heart))",
    re.IGNORECASE,
)
_REACH = 60
_OPPOSITE = {"left": "right", "right": "left"}


@dataclass(frozen=True, slots=True)
class _Mention:
    thing: str
    polarity: Polarity
    partial: bool  # of some such things only, or of an old one
    sentence: str


def affirmed_and_denied(report: Report) -> Iterator[Issue]:
    """What a report denies altogether it does not affirm elsewhere: no effusion, and a small left effusion."""
    found = [one for key in report.required for one in _mentions(report.parsed.texts().get(key, ""))]
    denied = {one.thing: one.sentence for one in found if one.polarity == "denied" and not one.partial}
    for one in found:
        if one.polarity == "affirmed" and not one.partial and one.thing in denied:
            message = f"{one.thing} is affirmed here and denied elsewhere: {excerpt(denied[one.thing])}"
            yield Issue("contradiction", "warning", message, excerpt(one.sentence))
            return


def _mentions(text: str) -> Iterator[_Mention]:
    for _, sentence in sentences(text):
        stretches = scopes(sentence)
        for found in _THING.finditer(sentence):
            thing = (found.lastgroup or "").replace("_", " ")
            state = polarity(stretches, found.start())
            before = sentence[max(0, found.start() - _REACH) : found.start()]
            partial = _is_partial(thing, before) if state == "denied" else _OLD.search(sentence) is not None
            yield _Mention(thing, state, partial, sentence)
        normal = _NORMAL_HEART.search(sentence)
        if normal and not _UPPER.search(sentence):
            yield _Mention("cardiomegaly", "denied", False, sentence)
        for thing, sound in _SOUND:
            if sound.search(sentence) and not _OF_ONE_SIDE.search(sentence):
                yield _Mention(thing, "denied", False, sentence)


def _is_partial(thing: str, before: str) -> bool:
    return _OTHERWISE.search(before) is not None or (_PARTIAL_OF_FOCAL if thing == "consolidation" else _PARTIAL).search(before) is not None


def contradicting_side(report: Report) -> Iterator[Issue]:
    """A thing on one side in the impression is on that side in the findings too, as far as these give a side."""
    texts = report.parsed.texts()
    findings, impression = texts.get("findings", ""), texts.get("impression", "")
    if findings == impression:
        return
    placed = _placed(findings)
    every: set[str] = set().union(*placed.values())
    for _, sentence in sentences(impression):
        sides = _sides(sentence)
        if len(sides) != 1 or sides == {"both"}:
            continue
        (side,) = sides
        for thing in {found.lastgroup or "" for found in _PLACE.finditer(sentence)} or {""}:
            if (placed.get(thing) or every) == {_OPPOSITE[side]}:
                yield Issue("contradicting-side", "warning", f"the findings say {_OPPOSITE[side]}", excerpt(sentence))
                return


def _placed(text: str) -> Mapping[str, set[str]]:
    """Thing -> the sides a text gives it; "" for a sentence that names none of them. What is denied is on no side."""
    placed: dict[str, set[str]] = {}
    for _, sentence in sentences(text):
        sides, stretches = _sides(sentence), scopes(sentence)
        found = list(_PLACE.finditer(sentence)) if sides else []
        said = [one.lastgroup or "" for one in found if polarity(stretches, one.start()) != "denied"]
        for thing in said if found else [""]:
            placed.setdefault(thing, set()).update(sides)
    return placed


def _sides(text: str) -> frozenset[str]:
    return frozenset(found.lastgroup or "" for found in _SIDE.finditer(text))
