"""The notes of an invented visit as JSON, as somebody would type them, and as a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from medgemma_app.demo.visits import Chance, Visit, pairs, random_visit

Form = Literal["json", "text", "dialogue"]
KEYS = {
    "complaint": ("chief_complaint", "complaint", "reason for visit", "presenting complaint", "cc"),
    "history": ("history", "past medical history", "medical_history"),
    "medications": ("medications", "medication", "current_medications", "meds"),
    "allergies": ("allergies", "allergy"),
    "vitals": ("vitals", "vital_signs", "vital signs"),
    "exam": ("exam", "examination", "physical exam"),
    "labs": ("labs", "results", "lab_results"),
    "assessment": ("assessment", "diagnosis", "impression", "dx"),
    "plan": ("plan", "treatment plan"),
}
# Labels in typed notes; the first row is for notes in sentences.
LABEL_SETS = (
    {"medications": "Takes", "history": "History of", "exam": "On examination:", "assessment": "This is", "plan": "Plan:"},
    {"complaint": "CC:", "history": "PMH:", "medications": "Meds:", "allergies": "Allergies:", "vitals": "Obs:", "exam": "O/E:",
     "labs": "Bloods:", "assessment": "Dx:", "plan": "Plan:"},
    {"complaint": "Complaint:", "history": "History:", "medications": "Medications:", "allergies": "Allergies:", "vitals": "Vitals:",
     "exam": "Exam:", "labs": "Labs:", "assessment": "Assessment:", "plan": "Plan:"},
    {"history": "Hx", "medications": "Rx", "allergies": "Allergies:", "assessment": "A:", "plan": "P:"},
)  # fmt: skip


def write_notes(seed: int, *, form: Form = "json", invented: float = 0.0, words: Sequence[str] = ()) -> tuple[Any, str]:
    """Notes of an invented visit, and the SOAP note that is right for them.

    The notes are a JSON object; a text with ``form="text"``; a list of turns, or an object that holds one, with ``form="dialogue"``.
    ``invented`` is the share of complaints, drugs, signs and other names that are made-up words, some of them from ``words``: they have to
    be copied, and are the hardest to get right.
    """
    chance = Chance(np.random.default_rng([seed, 3]), words)
    visit = random_visit(chance, invented, long_names=form == "dialogue")
    return {"json": as_json, "text": as_text, "dialogue": as_dialogue}[form](visit, chance), visit.note()


def as_json(visit: Visit, chance: Chance) -> dict[str, Any]:
    """An object whose keys and values are written in one of several usual ways."""
    notes: dict[str, Any] = {}
    if visit.who:
        notes |= {"patient": visit.who} if chance.often(0.25) else {"age": visit.age, "sex": visit.sex}
    medications, signs, plan = list(visit.medications), list(visit.signs), [step.written for step in visit.plan]
    values = {
        "complaint": visit.noted_complaint,
        "history": visit.history,
        "medications": medications if chance.often(0.6) else "; ".join(medications),
        "allergies": visit.allergies,
        "vitals": dict(visit.vitals) if chance.often(0.6) else "; ".join(pairs(visit.vitals)),
        "exam": signs if chance.often(0.4) else "; ".join(signs),
        "labs": dict(visit.labs) if chance.often(0.5) else "; ".join(pairs(visit.labs)),
        "assessment": visit.diagnosis,
        "plan": plan if chance.often(0.5) else "; ".join(plan),
    }
    return notes | {chance.one_of(KEYS[name]): value for name, value in values.items() if value}


def as_text(visit: Visit, chance: Chance) -> str:
    """Sentences, or parts with labels, each on a line of its own or one after another."""
    labels, comma = chance.one_of(LABEL_SETS), chance.one_of((", ", "; "))
    in_sentences = labels is LABEL_SETS[0]
    complaint, who = visit.noted_complaint, visit.who
    if chance.often(0.3):
        who = who.replace("-year-old", " yo")
    if in_sentences:
        complaint = f"{who or 'Patient'} with {complaint}" if complaint else who
    values = {
        "complaint": complaint,
        "history": visit.history,
        "medications": (" and " if in_sentences else comma).join(visit.medications),
        "allergies": _allergies(visit.allergies) if in_sentences else visit.allergies,
        "vitals": comma.join(pairs(visit.vitals)),
        "exam": comma.join(map(spoken, visit.signs)),
        "labs": comma.join(pairs(visit.labs)),
        "assessment": spoken(visit.diagnosis) if in_sentences else visit.diagnosis,
        "plan": comma.join(spoken(step.written) for step in visit.plan),
    }
    said = [f"{labels.get(name, '')} {value}".strip() for name, value in values.items() if value]
    if in_sentences:
        return " ".join(f"{sentence}." for sentence in said)
    separator: str = chance.one_of(("\n", ". "))
    return separator.join([who, *said] if who else said)


def _allergies(allergies: str) -> str:
    return "No known allergies" if allergies == "none" else f"Allergic to {allergies}" if allergies else ""


def spoken(text: str) -> str:
    """The text as it stands inside a sentence; abbreviations such as ECG keep their capitals."""
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


def as_dialogue(visit: Visit, chance: Chance) -> list[dict[str, str]] | dict[str, Any]:
    """The turns of the conversation; with age and sex beside it where the notes say who the patient is."""
    turns = [*_questions(visit, chance), *(("Doctor", said) for said in _findings(visit, chance) + _advice(visit, chance))]
    if chance.often(0.5):
        turns.append(("Patient", "Thank you, doctor."))
    told = [{"speaker": who, "text": said} for who, said in turns]
    return {"age": visit.age, "sex": visit.sex, "transcript": told} if visit.who else told


def _questions(visit: Visit, chance: Chance) -> list[tuple[str, str]]:
    turns = []
    if visit.complaint:
        question = chance.one_of(("Good morning. What brings you in today?", "Hello, how can I help you?", "What is the matter?"))
        turns.append(("Doctor", question))
        since = chance.one_of((f" for {visit.lasting}.", f". It started {visit.lasting} ago.")) if visit.lasting else "."
        begins = ("I have had", "I've had") if since.startswith(" for") else ("I have had", "I've had", "I have", "It is")
        turns.append(("Patient", f"{chance.one_of(begins)} {visit.complaint}{since}"))
    if visit.history:
        answer = chance.one_of(("Yes,", "I have", "Only"))
        turns += [("Doctor", "Do you have any other illnesses?"), ("Patient", f"{answer} {visit.history}.")]
    if visit.medications:
        question = chance.one_of(("Which medicines do you take?", "Do you take any medication?"))
        turns += [("Doctor", question), ("Patient", f"{chance.one_of(('I take', 'Just'))} {' and '.join(visit.medications)}.")]
    if visit.allergies:
        answer = "No, none." if visit.allergies == "none" else f"Yes, to {visit.allergies}."
        turns += [("Doctor", "Do you have any allergies?"), ("Patient", answer)]
    return turns


def _findings(visit: Visit, chance: Chance) -> list[str]:
    vitals = [f"your {spoken(name)} is {value}" for name, value in visit.vitals]
    labs = [f"your {name} is {value}" for name, value in visit.labs]
    signs = [chance.one_of(("On examination:", "The examination shows:", "I find"))] if visit.signs else []
    said = [_listed(vitals), " ".join([*signs, _listed([spoken(sign) for sign in visit.signs])]), _listed(labs)]
    return [f"{sentence[0].upper()}{sentence[1:]}." for sentence in said if sentence]


def _advice(visit: Visit, chance: Chance) -> list[str]:
    said = []
    if visit.diagnosis:
        begins = chance.one_of(("You have", "This is", "It looks like", "I think it is"))
        said.append(f"{begins} {_with_article(spoken(visit.diagnosis))}.")
    return said + [f"{chance.one_of(('Please', 'I would like you to'))} {step.spoken}." for step in visit.plan]


def _listed(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _with_article(diagnosis: str) -> str:
    """As it is said to a patient: "a kidney stone", but "gout"."""
    if not diagnosis.endswith(("infection", "stone", "strain", "exacerbation", "headache")):
        return diagnosis
    return f"{'an' if diagnosis[0] in 'aeiou' else 'a'} {diagnosis}"
