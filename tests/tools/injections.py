"""Errors put into real texts, each from a seed: what a validator must catch."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from medgemma_app.inputs.header import ImageHeader


@dataclass(frozen=True)
class Case:
    """A text with one error in it, and what its validator is told besides."""

    text: str
    known: dict[str, Any] = field(default_factory=dict)


Row: TypeAlias = dict[str, str]
Injector: TypeAlias = Callable[[Row, random.Random], "Case | None"]

PRIORS = (
    "Compared with the previous radiograph, the opacity has increased.",
    "The appearance is unchanged since the last examination.",
    "There has been interval improvement in aeration.",
    "The left effusion has decreased in size from the prior study.",
    "The previously seen nodule is no longer visible.",
    "Worsening airspace opacity at the right base.",
    "No significant change from the prior chest film.",
    "Heart size is again noted to be at the upper limit.",
    "The consolidation has resolved.",
    "Stable when compared to the study of last year.",
    "The right lower lobe infiltrate has cleared since the prior exam.",
    "In the interval, a chest tube has been placed.",
    "Compared to 03/02/2021, the cardiac silhouette is larger.",
    "Unchanged left basilar scarring.",
    "The edema is less pronounced than on the earlier film.",
    "New small left pleural effusion since the last study.",
    "Previously noted atelectasis persists.",
    "Interval removal of the endotracheal tube.",
)
AFFIRMED = {
    "pneumothorax": "There is a small left apical pneumothorax.",
    "effusion": "Small right pleural effusion.",
    "consolidation": "Left lower lobe consolidation.",
    "cardiomegaly": "The heart is enlarged.",
    "fracture": "There is a fracture of the right clavicle.",
}
DENIED = {
    "pneumothorax": "There is no pneumothorax.",
    "effusion": "No pleural effusion.",
    "consolidation": "No consolidation.",
    "cardiomegaly": "The heart size is normal.",
    "fracture": "No fracture is seen.",
}
SAYS_NO = {
    "pneumothorax": r"\bno (?:\w+ ){0,4}?(?:or )?pneumothorax",
    "effusion": r"\bno (?:\w+ ){0,4}?(?:or )?effusion",
    "consolidation": r"\bno (?:\w+ ){0,2}?consolidation",
    "cardiomegaly": r"heart (?:size )?(?:is )?(?:within )?normal",
    "fracture": r"\bno fracture",
}
SAYS_YES = {
    "effusion": r"(?:small|moderate|large|left|right) pleural effusion",
    "cardiomegaly": r"(?:^|\. )(?:Mild |Stable )?[Cc]ardiomegaly",
}
MEDICATIONS = tuple(
    """metoprolol 25 mg;warfarin 5 mg;sertraline 50 mg;gabapentin 300 mg;amlodipine 5 mg;prednisone 20 mg;omeprazole 20 mg;Eliquis 5 mg
    levothyroxine 50 mcg;ciprofloxacin 500 mg;Zoloft 50 mg;rosuvastatin 10 mg;insulin glargine 10 units;Xarelto 20 mg
    hydrochlorothiazide 25 mg;tamsulosin 0.4 mg;albuterol;clonazepam 0.5 mg;lamotrigine 100 mg;doxycycline 100 mg""".replace(
        "\n", ";"
    ).split(";")
)
DIAGNOSES = tuple(
    """atrial fibrillation;pulmonary embolism;chronic obstructive pulmonary disease;pneumonia;rheumatoid arthritis;hypothyroidism;gout
    acute pancreatitis;deep vein thrombosis;bipolar disorder;multiple sclerosis;cirrhosis;peptic ulcer disease;osteoporosis;sepsis
    coronary artery disease;major depressive disorder;chronic kidney disease;type 2 diabetes mellitus;migraine;asthma;lupus;appendicitis
    heart failure;sarcoidosis;endocarditis;hyperlipidemia;sleep apnea;cellulitis;stroke""".replace("\n", ";").split(";")
)
# Neither list was looked at when the validators' own were written.
RARE_MEDICATIONS = tuple(
    """dupilumab 300 mg;mesalamine 800 mg;ursodiol 300 mg;pentoxifylline 400 mg;bosentan 125 mg;octreotide 100 mcg;teriflunomide 14 mg
    sevelamer 800 mg;cinacalcet 30 mg;methenamine 1 g;trospium 20 mg;fingolimod 0.5 mg;apremilast 30 mg;baricitinib 2 mg;pirfenidone 267 mg
    deferasirox 500 mg;glatiramer 40 mg;lanthanum 500 mg;sacubitril;nintedanib 150 mg""".replace("\n", ";").split(";")
)
RARE_DIAGNOSES = tuple(
    """myasthenia gravis;ankylosing spondylitis;Guillain-Barre syndrome;hemochromatosis;trigeminal neuralgia;Raynaud phenomenon
    amyotrophic lateral sclerosis;polycythemia vera;aplastic anemia;Meniere disease;temporal arteritis;Bell palsy;narcolepsy;cystic fibrosis
    Marfan syndrome;primary biliary cholangitis;hidradenitis suppurativa;Wilson disease;sickle cell disease;scleroderma""".replace(
        "\n", ";"
    ).split(";")
)
SWAP = {
    "male": "female", "female": "male", "man": "woman", "woman": "man", "he": "she", "she": "he", "his": "her", "her": "his",
    "him": "her", "himself": "herself", "herself": "himself", "gentleman": "lady", "mr": "ms", "mrs": "mr", "ms": "mr",
}  # fmt: skip
VALUE = re.compile(
    r"(?P<before>(?:blood pressure|heart rate|pulse|respirat\w+|temperature"
    r"|saturation|spo2|a1c|hemoglobin|creatinine|potassium|weight(?!-)|glucose)(?! monitor)"
    r"\W+(?:\w+ ){0,3})(?P<vital>[0-9]+(?:\.[0-9]+)?)|(?P<dose>[0-9]+(?:\.[0-9]+)?)(?= ?(?:mg|mcg|g|ml|units)\b)",
    re.IGNORECASE,
)


def report_text(row: Row) -> str:
    """A radiology report as the prompts ask for it."""
    return f"FINDINGS:\n{row['findings']}\n\nIMPRESSION:\n{row['impression']}"


def _with(row: Row, *, findings: str = "", impression: str = "") -> str:
    return report_text(
        {**row, "findings": f"{row['findings']} {findings}".strip(), "impression": f"{row['impression']} {impression}".strip()}
    )


def as_markdown(row: Row) -> Row:
    """A note with its headings and bullets as models write them."""
    headed = re.sub(r"(?m)^([A-Z][A-Z ]{3,40})$", lambda found: f"**{found[1].title().replace(' And ', ' and ')}:**", row["note"])
    return {**row, "note": re.sub(r"(?m)^• ?", "* ", headed)}


def has_prior(row: Row) -> bool:
    """Whether a report was written with an earlier study at hand."""
    return not (row["comparison"] or "none").lower().startswith("non")


def invented_prior(row: Row, rng: random.Random) -> Case | None:
    """A report without a comparison gets a sentence that compares."""
    return None if has_prior(row) else Case(_with(row, **{rng.choice(["findings", "impression"]): rng.choice(PRIORS)}))


def added_size(row: Row, rng: random.Random) -> Case:
    """A size, in a report of a picture without a scale."""
    size = rng.choice(["1.4 cm", "8 mm", "12 x 9 mm", "2-cm", "3.5 centimeters"])
    return Case(_with(row, findings=f"There is a {size} nodule in the right upper lobe."), {"header": ImageHeader()})


def changed_size(row: Row, rng: random.Random) -> Case:
    """A size that differs between the sections."""
    millimetres = rng.randrange(4, 40)
    other = millimetres * rng.choice([2, 3]) if rng.random() < 0.5 else max(1, millimetres // 2)
    return Case(_with(row, findings=f"A {millimetres} mm nodule is seen.", impression=f"Nodule of {other / 10} cm."))


def flipped_side(row: Row, rng: random.Random) -> Case | None:
    """The side in an impression that names one, and whose findings name the same one, is turned round."""
    sides = {side for side in ("left", "right") if re.search(rf"\b{side}\b", row["impression"], re.IGNORECASE)}
    if len(sides) != 1 or not re.search(rf"\b{min(sides)}\b", row["findings"], re.IGNORECASE):
        return None
    flip = {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}
    return Case(report_text({**row, "impression": re.sub(r"\b(?:[Ll]eft|[Rr]ight)\b", lambda found: flip[found[0]], row["impression"])}))


def contradiction(row: Row, rng: random.Random) -> Case | None:
    """Something the report denies is affirmed in its impression, or the other way round."""
    body = f"{row['findings']}\n{row['impression']}"
    choices = [AFFIRMED[thing] for thing, words in SAYS_NO.items() if re.search(words, body, re.IGNORECASE)]
    choices += [DENIED[thing] for thing, words in SAYS_YES.items() if re.search(words, body)]
    return Case(_with(row, impression=rng.choice(choices))) if choices else None


def repeated_report(row: Row, rng: random.Random) -> Case | None:
    """The findings stand in the impression once more."""
    return Case(_with(row, impression=row["findings"])) if len(row["findings"].split()) >= 20 else None


def changed_value(row: Row, rng: random.Random) -> Case | None:
    """A dose, vital sign or lab value of a note gets another number."""
    found = [match for match in VALUE.finditer(row["note"]) if not re.match(r"\W*(?:year|month|week|day|hour)", row["note"][match.end() :])]
    if not found:
        return None
    match = rng.choice(found)
    name = "dose" if match["dose"] else "vital"
    old = float(match[name])
    new = rng.choice([old * 2, old * 1.5, old * 3, old + 7, max(old - 6, 1)])
    written = f"{new:.1f}" if "." in match[name] else str(round(new))
    return None if float(written) == old else Case(row["note"][: match.start(name)] + written + row["note"][match.end(name) :])


def _anywhere(note: str, sentence: str, rng: random.Random) -> str:
    ends = [found.end() for found in re.finditer(r"[a-z]\.(?=\n)", note)]
    at = rng.choice(ends) if ends else len(note)
    return f"{note[:at]} {sentence}{note[at:]}"


def added_value(row: Row, rng: random.Random) -> Case:
    """A vital sign or lab value that nobody measured."""
    value = rng.choice(["Blood pressure 163/97", "Heart rate 113", "Oxygen saturation is 87%", "Temperature 102.9", "Creatinine of 3.4"])
    more = rng.choice(["Potassium 6.3", "Hemoglobin 6.1", "Glucose 417 mg/dL", "Respiratory rate 31", "Weight is 241 lb", "INR 3.7"])
    return Case(_anywhere(row["note"], f"{rng.choice([value, more])}.", rng))


def _unheard(row: Row, names: tuple[str, ...], rng: random.Random) -> str:
    """A name neither the note nor its source has a word of."""
    said = (row["note"] + row["dialogue"]).lower()
    return rng.choice([name for name in map(str.strip, names) if not any(word in said for word in name.lower().split() if word.isalpha())])


def invented_medication(row: Row, rng: random.Random, names: tuple[str, ...] = MEDICATIONS) -> Case:
    """A medication that nobody spoke of."""
    drug = _unheard(row, names, rng)
    return Case(
        _anywhere(row["note"], rng.choice([f"Start {drug} daily.", f"The patient takes {drug}.", f"Allergic to {drug.split()[0]}."]), rng)
    )


def rare_medication(row: Row, rng: random.Random) -> Case:
    """A rarer one."""
    return invented_medication(row, rng, RARE_MEDICATIONS)


def rare_diagnosis(row: Row, rng: random.Random) -> Case:
    """A rarer one."""
    return invented_diagnosis(row, rng, RARE_DIAGNOSES)


def invented_diagnosis(row: Row, rng: random.Random, names: tuple[str, ...] = DIAGNOSES) -> Case:
    """A diagnosis that nobody spoke of."""
    name = _unheard(row, names, rng)
    return Case(
        _anywhere(row["note"], rng.choice([f"History of {name}.", f"{name.capitalize()}.", f"Findings consistent with {name}."]), rng)
    )


def swapped_sex(row: Row, rng: random.Random) -> Case | None:
    """The patient becomes the other sex, where the source states it."""
    if not re.search(r"old[ -](?:\w+ ){0,2}(?:fe)?male|\bm(?:r|rs|s)\. ", row["dialogue"], re.IGNORECASE):
        return None
    pattern = rf"\b(?:{'|'.join(SWAP)})\b"
    return Case(re.sub(pattern, lambda found: SWAP[found[0].lower()], row["note"], flags=re.IGNORECASE))


def changed_age(row: Row, rng: random.Random) -> Case | None:
    """The patient's age changes, where the source states it."""
    found = re.search(r"\b([0-9]{2})(?=[- ]year)", row["note"])
    if not found or not re.search(rf"\b{found[1]} ?-?year", row["dialogue"]):
        return None
    age = int(found[1]) + rng.choice([-11, -7, 9, 13])
    return Case(row["note"].replace(f"{found[1]}-year", f"{age}-year"))


FREQUENCY = re.compile(
    r"\b(?P<drug>[A-Za-z]{6,20}) [0-9.]+ ?(?:mg|mcg|units)[^.;\n]{0,12}? (?P<often>(?:once|twice|three times|four times) (?:a day|daily))"
)
OFTEN = ("twice a day", "three times a day", "four times a day", "every 4 hours")


def changed_frequency(row: Row, rng: random.Random) -> Case | None:
    """A drug of the note is taken more often than it says."""
    found = list(FREQUENCY.finditer(row["note"]))
    if not found:
        return None
    one = rng.choice(found)
    other = rng.choice([often for often in OFTEN if often.split()[0] != one["often"].split()[0]])
    return Case(row["note"][: one.start("often")] + other + row["note"][one.end("often") :])


def note_contradiction(row: Row, rng: random.Random) -> Case | None:
    """A symptom the note denies is reported, or the other way round."""
    denied = re.search(r"[Dd]enies (?:any )?(chest pain|fevers?|nausea|shortness of breath|headaches?|cough)", row["note"])
    reports = re.search(r"(?:[Rr]eports|[Ee]ndorses) (chest pain|fevers?|nausea|shortness of breath|headaches?|cough|fatigue)", row["note"])
    choices = ([f"The patient reports {denied[1]}."] if denied else []) + ([f"Denies {reports[1]}."] if reports else [])
    return Case(_anywhere(row["note"], rng.choice(choices), rng)) if choices else None


def repeated_section(row: Row, rng: random.Random) -> Case:
    """The history stands once more in the plan."""
    history = max(re.split(r"\n[A-Z ]{4,}\n", row["note"]), key=len)
    return Case(f"SUBJECTIVE:\n{history}\n\nOBJECTIVE:\nLungs clear.\n\nASSESSMENT:\nAs above.\n\nPLAN:\n{history}\nReturn in one week.")


def cut(row: Row, rng: random.Random) -> Case:
    """The text ends in the middle of a word."""
    text = row["note"].rstrip() if "note" in row else report_text(row)
    places = [found.start() + 2 for found in re.finditer(r"\b[a-z]{5,}", text) if found.start() > len(text) // 2]
    return Case(text[: rng.choice(places)] if places else text[:-4])


def cut_between_words(row: Row, rng: random.Random) -> Case | None:
    """The text ends between two words of one sentence."""
    text = row["note"].rstrip() if "note" in row else report_text(row)
    places = [found.start() for found in re.finditer(r"(?<=[a-z0-9,]) (?=[a-z0-9])", text) if found.start() > len(text) // 2]
    return Case(text[: rng.choice(places)]) if places else None


def looped(row: Row, rng: random.Random) -> Case:
    """One sentence without end."""
    text = row.get("note") or report_text(row)
    sentences = [part for part in re.split(r"(?<=[a-z]\.)\s", text) if 3 <= len(part.split()) <= 20] or ["The lungs are clear."]
    return Case(f"{text}\n" + f"{rng.choice(sentences)} " * 8)


def refused(row: Row, rng: random.Random) -> Case:
    """The model declines."""
    answers = [
        "I'm sorry, but I can't help with that.",
        "As an AI language model, I cannot interpret images.",
        "I am unable to write this note.",
    ]
    return Case(rng.choice(answers))


def left_token(row: Row, rng: random.Random) -> Case:
    """A control token stands in the text."""
    text = row.get("note") or report_text(row)
    at = rng.randrange(len(text))
    return Case(f"{text[:at]}{rng.choice(['<end_of_turn>', '<unused94>', '<pad>', '<start_of_image>'])}{text[at:]}")


def without_section(row: Row, rng: random.Random) -> Case:
    """One section is not there."""
    if "note" not in row:
        return Case(rng.choice(report_text(row).split("\n\n")))
    return Case("SUBJECTIVE:\nCough.\n\nOBJECTIVE:\nLungs clear.\n\nPLAN:\nRest.")


# Row of the table, injector, codes that count as caught (none: any new issue), and the share wanted.
REPORTS: tuple[tuple[str, Injector, tuple[str, ...], float], ...] = (
    ("invented prior", invented_prior, ("invented-prior",), 0.9),
    ("flipped side", flipped_side, ("contradicting-side", "contradiction"), 0.6),
    ("size without a scale", added_size, ("unscaled-measurement",), 0.9),
    ("size changed between sections", changed_size, ("measurement-mismatch",), 0.9),
    ("contradiction", contradiction, ("contradiction",), 0.6),
    ("findings repeated in the impression", repeated_report, ("repeated-section", "repetition"), 0.95),
    ("cut in a word", cut, ("truncated", "missing-section", "empty-section"), 0.95),
    ("cut between two words", cut_between_words, ("truncated", "missing-section", "empty-section"), 0.95),
    ("loop", looped, ("repetition",), 0.95),
    ("refusal", refused, ("refusal",), 0.95),
    ("control token", left_token, ("special-token",), 0.95),
    ("section missing", without_section, ("missing-section",), 0.95),
)
NOTES: tuple[tuple[str, Injector, tuple[str, ...], float], ...] = (
    ("value changed", changed_value, ("invented-value", "dose-mismatch", "implausible-vital"), 0.9),
    ("value invented", added_value, ("invented-value",), 0.9),
    ("medication invented", invented_medication, ("unnamed-medication",), 0.7),
    ("diagnosis invented", invented_diagnosis, ("unnamed-diagnosis",), 0.7),
    ("rare medication invented", rare_medication, ("unnamed-medication",), 0.7),
    ("rare diagnosis invented", rare_diagnosis, ("unnamed-diagnosis",), 0.7),
    ("sex swapped", swapped_sex, ("wrong-sex",), 0.9),
    ("age changed", changed_age, ("wrong-age",), 0.9),
    ("frequency changed", changed_frequency, ("frequency-mismatch",), 0.6),
    ("contradiction", note_contradiction, ("contradiction",), 0.6),
    ("history repeated in the plan", repeated_section, ("repeated-section",), 0.95),
    ("cut in a word", cut, ("truncated", "missing-section", "empty-section"), 0.95),
    ("cut between two words", cut_between_words, ("truncated", "missing-section", "empty-section"), 0.95),
    ("loop", looped, ("repetition",), 0.95),
    ("refusal", refused, ("refusal",), 0.95),
    ("control token", left_token, ("special-token",), 0.95),
    ("section missing", without_section, ("missing-section",), 0.95),
)
