"""A report that contradicts itself: affirmed here and denied there, abnormal here and normal there, small here and large there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from medgemma_app.validate.core import Issue, Text, excerpt
from medgemma_app.validate.negation import Polarity, polarity, scopes, sentences

# What CheXpert's labeler (Irvin et al. 2019) and the report's usual denials name; spellings of one thing on one line.
THINGS: Mapping[str, str] = {
    "pneumothorax": r"pneumothora(?:x|ces)|hydropneumothorax",
    "effusion": r"(?:pleural )?effusions?|pleural fluid|hydrothorax",
    "consolidation": r"consolidations?|air ?space (?:disease|opacit(?:y|ies)|process)|infiltrates?|pneumonias?",
    "nodule": r"nodules?|mass(?:es)?|tumou?rs?|metastas[ei]s",
    "edema": r"(?:pulmonary |interstitial |alveolar )?(?:o?edema)|congestive failure|vascular congestion",
    "fracture": r"fractures?",
    "cardiomegaly": r"cardiomegaly|enlarged (?:heart|cardiac silhouette|cardiomediastinal silhouette)"
    r"|(?:heart|cardiac silhouette)(?: size)?(?: is)? (?:\w+ )?enlarged",
    "free air": r"free (?:intraperitoneal |subdiaphragmatic |peritoneal )?(?:air|gas)|pneumoperitoneum",
    "hernia": r"hernias?",
    "atelectasis": r"atelecta\w+",
    "stones": r"gall ?stones?|cholelithiasis|calcul(?:us|i)|urolithiasis|nephrolithiasis",
    "thrombosis": r"thromb(?:us|i|osis)|dvt",
    "embolism": r"(?:pulmonary )?embol(?:ism|us|i)(?! coils)|filling defects?",
    "lymphadenopathy": r"(?:lymph)?adenopathy|enlarged (?:\w+ )?(?:lymph )?nodes?",
    "hemorrhage": r"ha?ematomas?|ha?emorrhages?",
    "dislocation": r"dislocations?",
    "hydronephrosis": r"hydronephrosis",
    "aneurysm": r"aneurysms?",
}
_THING = re.compile("|".join(rf"(?P<{name.replace(' ', '_')}>\b(?:{words})\b)" for name, words in THINGS.items()), re.IGNORECASE)
# A denial with one of these before the thing denies such things only.
_QUALIFIERS = (
    r"large|big|significant|sizable|new|acute|displaced|left|right|obvious|overt|definite|other|additional|further|suspicious|recurrent"
    r"|residual|tension|frank|gross|interval|dominant|discrete|lobar|superimposed|associated|confluent|dense|compression|rib|hilar"
    r"|mediastinal|concerning|parenchymal|active|prominent|bilateral|complicating|underlying|more|measurable|substantial|XXXX|alveolar"
    r"|interstitial|apical|upper|lower|layering|healing|spinal|intrathoracic|moderate|noncalcified|increas\w+|patchy|pulmonary"
)
_QUALIFIER = re.compile(rf"\b(?:{_QUALIFIERS}|focal)\b", re.IGNORECASE)
# "Of the femur", "on the left": a denial of one place is none of another.
_PLACE_WORD = re.compile(r"\bleft\b|\bright\b|(?<=of the )[a-z]{4,20}\b(?! (?:lung|chest|thorax|abdomen))")
_BETWEEN = re.compile(r"\b(?:\w+\W+){1,3}$")
MOST_COMPARED = 100
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
_REACH = 60
# An impression that says this, and what does not go with it.
_NORMAL_STUDY = re.compile(
    r"^\W{0,9}(?:[0-9][.)]\W{0,3})?(?:(?:grossly|essentially|completely|entirely) )?"
    r"(?:(?:normal|unremarkable|negative|healthy) (?:[\w-]+ ){0,4}?(?:chest|stud(?:y|ies)|radiographs?|exam|examination|films?|x-?rays?"
    r"|ct|mri|ultrasound|scan|lungs?|head|brain|abdomen)\b|(?:nad|normal|unremarkable)\W{0,3}$|clear lungs"
    r"|(?:both )?lungs (?:are )?(?:clear|normal)\b)",
    re.IGNORECASE,
)
_NOTHING_ACUTE = re.compile(
    r"^\W{0,9}(?:[0-9][.)]\W{0,3})?no (?:evidence of |radiographic evidence of )?(?:an )?(?:acute|active) "
    r"(?:[\w-]+ ){0,2}?(?:disease|process|findings?|abnormalit\w+|patholog\w+)",
    re.IGNORECASE,
)
_ABNORMAL = frozenset(THINGS) - {"hernia", "atelectasis", "stones", "aneurysm", "lymphadenopathy"} | {"a shadow"}
_SHADOW = re.compile(r"\b(?:opacit(?:y|ies)|opacification|cavit\w+|white-?out|collapse|rupture|herniation)\b", re.IGNORECASE)
_ACUTE = frozenset(["pneumothorax", "free air", "hemorrhage", "dislocation", "thrombosis", "embolism"])
_GREAT = r"large|massive|huge|gross|extensive|severe|marked|complete|tension"
_LITTLE = r"tiny|trace|minimal|small|mild|slight|minor|mildly|slightly|sliver"
_GREAT_OR_ACUTE = re.compile(rf"\b(?:{_GREAT}|dense|acute|displaced|comminuted)\b", re.IGNORECASE)
_AMOUNT = re.compile(rf"\b(?:(?P<great>{_GREAT})|(?P<little>{_LITTLE}))\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Mention:
    thing: str
    polarity: Polarity
    partial: bool  # of an old one, or said of the rest only
    qualifiers: frozenset[str]  # of a denial: what such a thing would have to be to be denied
    sentence: str


def affirmed_and_denied(report: Text) -> Iterator[Issue]:
    """What a report denies altogether it does not affirm elsewhere: no effusion, and a small left effusion."""
    found = [one for key in report.required for one in _mentions(report.sections.texts().get(key, ""))]
    denied = [one for one in found if one.polarity == "denied" and not one.partial]
    affirmed = [one for one in found if one.polarity == "affirmed" and not one.partial]
    for one in affirmed[:MOST_COMPARED]:
        for no in denied[:MOST_COMPARED]:
            if one.thing == no.thing and all(word in one.sentence.lower() for word in no.qualifiers):
                message = f"{one.thing} is affirmed here and denied elsewhere: {excerpt(no.sentence)}"
                yield Issue("contradiction", "warning", message, excerpt(one.sentence))
                return


@lru_cache(maxsize=4)
def _mentions(text: str) -> Sequence[_Mention]:
    """What a text names, each thing once a sentence for every way it is spoken of."""
    return tuple(one for _, sentence in sentences(text) for one in dict.fromkeys((*_named(sentence), *_sound(sentence))))


def _named(sentence: str) -> Iterator[_Mention]:
    stretches, old = scopes(sentence), _OLD.search(sentence) is not None
    for found in islice(_THING.finditer(sentence), MOST_COMPARED):
        thing, state = (found.lastgroup or "").replace("_", " "), polarity(stretches, found.start())
        before = sentence[max(0, found.start() - _REACH) : found.start()] if state == "denied" else ""
        partial = _OTHERWISE.search(before) is not None if state == "denied" else old
        places = frozenset(_PLACE_WORD.findall(sentence.lower())) if state == "denied" else frozenset()
        yield _Mention(thing, state, partial, _qualifiers(thing, before) | places, sentence)


def _sound(sentence: str) -> Iterator[_Mention]:
    """What is denied by saying that all is well."""
    if _NORMAL_HEART.search(sentence) and not _UPPER.search(sentence):
        yield _Mention("cardiomegaly", "denied", False, frozenset(), sentence)
    for thing, sound in _SOUND:
        if sound.search(sentence) and not _OF_ONE_SIDE.search(sentence):
            yield _Mention(thing, "denied", False, frozenset(), sentence)


def _qualifiers(thing: str, before: str) -> frozenset[str]:
    """The words that narrow down a denial, as "large" does in "no large effusion"; "no focal consolidation" is no such one."""
    said = _BETWEEN.search(before)
    words = _QUALIFIER.findall(said[0].lower()) if said else []
    return frozenset(words) - ({"focal"} if thing == "consolidation" else set())


def abnormal_and_normal(report: Text) -> Iterator[Issue]:
    """An impression that calls the study normal, or free of anything acute, goes with findings that are."""
    texts = report.sections.texts()
    impression = texts.get("impression", "")
    normal, nothing_acute = _NORMAL_STUDY.search(impression), _NOTHING_ACUTE.search(impression)
    if not (normal or nothing_acute) or any(one.polarity != "denied" for one in _mentions(impression)):
        return
    for one in (*_mentions(texts.get("findings", "")), *(_shadows(texts.get("findings", "")) if normal else ())):
        if one.polarity == "affirmed" and not one.partial and one.thing in _ABNORMAL and (normal or _is_acute(one)):
            message = f"the impression says that nothing is wrong, and the findings have {one.thing}"
            yield Issue("contradiction", "warning", message, excerpt(one.sentence))
            return


def _shadows(text: str) -> Iterator[_Mention]:
    """What has no name yet and is abnormal all the same."""
    for _, sentence in sentences(text):
        found = _SHADOW.search(sentence)
        if found:
            yield _Mention("a shadow", polarity(scopes(sentence), found.start()), _OLD.search(sentence) is not None, frozenset(), sentence)


def _is_acute(one: _Mention) -> bool:
    return one.thing in _ACUTE or _GREAT_OR_ACUTE.search(one.sentence) is not None


def great_and_little(report: Text) -> Iterator[Issue]:
    """What is small in the findings is not large in the impression, nor the other way round."""
    texts = report.sections.texts()
    found, concluded = _amounts(texts.get("findings", "")), _amounts(texts.get("impression", ""))
    for thing, (amounts, sentence) in concluded.items():
        if thing in found and len(amounts) == len(found[thing][0]) == 1 and amounts != found[thing][0]:
            message = f"{thing} has another size in the findings: {excerpt(found[thing][1])}"
            yield Issue("contradiction", "warning", message, excerpt(sentence))
            return


def _amounts(text: str) -> Mapping[str, tuple[set[str], str]]:
    """Thing -> whether it is great or little (or both, where there are several), and where it says so."""
    found: dict[str, tuple[set[str], str]] = {}
    for one in _mentions(text):
        said = {amount.lastgroup or "" for amount in _AMOUNT.finditer(one.sentence)} if one.polarity == "affirmed" else set()
        if said:
            found.setdefault(one.thing, (set(), one.sentence))[0].update(said)
    return found
