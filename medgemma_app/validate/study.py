"""Whether a report is about the study that was given: its modality, its body part, its side."""

from __future__ import annotations

import re
from collections.abc import Iterator

from medgemma_app.inputs.header import ImageHeader
from medgemma_app.validate.core import Issue, Text, excerpt
from medgemma_app.validate.negation import sentences

# DICOM PS3.3 C.7.3.1.1.1, as far as a report names them.
_MODALITIES = {
    "X-ray": ("cr", "dx", "dr", "rg", "rf", "xa", "px", "io"),
    "CT": ("ct",),
    "MRI": ("mr",),
    "ultrasound": ("us", "ivus"),
    "mammogram": ("mg",),
    "nuclear study": ("nm", "pt"),
}
_SELF = r"(?:this|the current|the present|the provided|present) (?:\w+ ){0,2}?"
_OF = r"(?:\w+ ){0,3}?(?:images?|slices?|sequences?|study|scan|examination|exam)? ?(?:of the \w+ )?(?:shows?|demonstrates?|reveals?)"
_CLAIMS = {
    "X-ray": re.compile(rf"\b(?:{_SELF}(?:radiograph|x-?ray)|(?:radiograph|x-?ray) {_OF})\b", re.IGNORECASE),
    "CT": re.compile(rf"\b(?:{_SELF}(?:ct\b|computed tomography)|ct {_OF}|hounsfield|axial (?:ct|slices?))\b", re.IGNORECASE),
    "MRI": re.compile(rf"\b(?:{_SELF}(?:mri\b|magnetic)|mri {_OF}|t[12][- ]weighted|flair|t2 hyperintens\w+)\b", re.IGNORECASE),
    "ultrasound": re.compile(rf"\b(?:{_SELF}(?:ultrasound|sonogram)|ultrasound {_OF}|hypoechoic|hyperechoic|anechoic)\b", re.IGNORECASE),
    "mammogram": re.compile(rf"\b(?:{_SELF}mammogram|mammogram {_OF}|bi-?rads)\b", re.IGNORECASE),
}
_ELSEWHERE = re.compile(
    r"\b(?:recommend\w*|suggest\w*|correlat\w*|further|prior|previous|compar\w*|if|could|would|may|consider|follow\w*)\b", re.I
)
_REGIONS = {
    "chest": r"lungs?|heart|cardiac|cardio\w+|pleura\w*|mediastin\w+|hil(?:ar|um)|ribs?|diaphragm|pneumo\w+|thora\w+|aort\w+"
    r"|chest|lobes?|pulmonary",
    "abdomen": r"liver|hepatic|spleen|bowel|kidneys?|renal|pancrea\w+|gallbladder|abdom\w+|colon|stomach|gastric",
    "head": r"brain|ventricles?|ventricular|intracranial|sulci|cerebr\w+|skull|sinuses|calvarium|midline shift|cranial",
    "spine": r"vertebra\w*|spin(?:e|al)|discs?|lumbar|cervical|lordosis|kyphosis|pedicles?|sacr\w+",
    "knee": r"knees?|patella\w*|tibia\w*|femor\w+|femur|menisc\w+|fibula\w*",
    "hand": r"wrists?|hands?|fingers?|metacarp\w+|carpal|phalan\w+|radius|ulna\w*|scaphoid|thumb",
    "foot": r"ankles?|foot|feet|metatars\w+|calcane\w+|talus|tarsal|toes?|malleol\w+|heel",
    "shoulder": r"shoulders?|humer\w+|scapula\w*|clavic\w+|glenoid|acromi\w+",
    "pelvis": r"pelvi[cs]|hips?|acetabul\w+|sacroiliac|femoral heads?|pubi[cs]|ili(?:ac|um)",
}
_WORDS = {region: re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE) for region, pattern in _REGIONS.items()}
_KEYS = {
    "thorax": "chest", "breast": "chest", "brain": "head", "skull": "head", "cspine": "spine", "lspine": "spine", "tspine": "spine",
    "wrist": "hand", "finger": "hand", "ankle": "foot", "toe": "foot", "hip": "pelvis", "clavicle": "shoulder", "leg": "knee",
}  # fmt: skip
_FEWEST_WORDS = 3


def wrong_modality(report: Text) -> Iterator[Issue]:
    """The report names the kind of picture that the header names."""
    given = (_header(report).modality or "").lower()
    kind = next((name for name, codes in _MODALITIES.items() if given in codes), None)
    for _, sentence in sentences(report.text) if kind else ():
        if _ELSEWHERE.search(sentence):
            continue
        for other, claim in _CLAIMS.items():
            found = claim.search(sentence) if other != kind else None
            if found:
                yield Issue(
                    "wrong-modality", "warning", f"the report speaks of another picture than the {kind} it is of", excerpt(sentence)
                )
                return


def wrong_body_part(report: Text) -> Iterator[Issue]:
    """The report is about the body part that the header names: it has words of it, or none of another."""
    given = (_header(report).body_part or "").lower().replace(" ", "")
    region = _KEYS.get(given, given)
    if region not in _WORDS or _WORDS[region].search(report.text):
        return
    for other, words in _WORDS.items():
        found = words.findall(report.text)
        if len(found) >= _FEWEST_WORDS:
            yield Issue("wrong-body-part", "warning", f"the picture is of the {region}, and the report of the {other}", excerpt(found[0]))
            return


def wrong_laterality(report: Text) -> Iterator[Issue]:
    """A picture of one side is not reported as the other."""
    given = _header(report).laterality
    if given not in ("L", "R"):
        return
    side, other = ("left", "right") if given == "L" else ("right", "left")
    if re.search(rf"\b{other}\b", report.text, re.IGNORECASE) and not re.search(rf"\b(?:{side}|bilateral)", report.text, re.IGNORECASE):
        yield Issue("wrong-side", "warning", f"the picture is of the {side} side, and the report of the {other}", other)


def _header(report: Text) -> ImageHeader:
    return report.header or ImageHeader()
