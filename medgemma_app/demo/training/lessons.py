"""What the demo checkpoint is taught: the project's own prompts, now and then worded differently, and the right answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from string import Template
from typing import Any

import numpy as np
from PIL import Image

from medgemma_app.demo.visits import ALLERGIES, COMPLAINTS, DIAGNOSES, DRUGS, EXAMS, HISTORIES, ORDERS, write_notes
from medgemma_app.inputs.json_notes import notes_text
from medgemma_app.prompts import Prompt, PromptFile, findings_prompt, read_prompt, soap_prompt

REWORDED = 0.25  # the share of prompts whose wording is changed
INVENTED = 0.08  # the share of drugs whose names have to be copied, since no list holds them
VERY_SHORT = 0.3  # the share of those that shrink to a few words
UNSEEN = "I cannot see an image. Please provide one."
BLANK = Image.new("RGB", (8, 8))  # stands in for a picture where only the text of a prompt is made
INDICATIONS = (
    "cough", "fever", "chest pain", "shortness of breath", "cough and fever", "weight loss", "trauma", "pre-operative", "follow-up",
    "heart failure", "suspected pneumonia", "hemoptysis", "dyspnea on exertion", "night sweats", "smoker with cough", "line placement",
    "fall", "leg swelling", "abnormal breath sounds", "routine check",
)  # fmt: skip
SYNONYMS = {
    "X-ray": ("radiograph", "image", "chest X-ray"), "Describe": ("Report", "Read", "Interpret"), "Report": ("Write", "Describe"),
    "radiologist": ("doctor", "expert"), "short": ("brief",), "headings": ("sections", "titles"), "Answer": ("Reply", "Respond"),
    "Write": ("Make", "Draft"), "visit": ("consultation",), "draft": ("proposal",), "notes": ("records",), "only": ("just",),
    "clinician": ("doctor",), "image": ("picture",), "colleague": ("physician",), "compare": ("match",),
}  # fmt: skip
WORDS = sorted({word for text in (*COMPLAINTS, *HISTORIES, *DRUGS, *EXAMS, *DIAGNOSES, *ORDERS, *ALLERGIES) for word in text.split()})
SHORT = {
    "findings.md": ("Describe this X-ray.", "Describe this X-ray\nIndication: $indication"),
    "findings_prior.md": ("Compare the second X-ray with the first.",),
    "soap.md": ("Write a SOAP note from these notes.\n\n$notes", "$notes\n\nSOAP note:"),
}
HEADERS = (
    "modality DX, body part CHEST, view PA",
    "modality CR, body part CHEST, view AP, female, 58 years",
    "modality CR, male, 71 years",
    "modality DX, view PA, male, 6 months",
)


@dataclass(frozen=True)
class Lesson:
    """One question, the answer to learn, and the rows of its pictures in the picture store."""

    prompt: Prompt
    answer: str
    pictures: tuple[int, ...] = ()


def findings_lesson(
    report: str, pictures: tuple[int, ...], rng: np.random.Generator, *, reword: float = REWORDED, short: float = VERY_SHORT
) -> Lesson:
    """A report on the last of one or two pictures; the indication is chance, and never changes the answer."""
    indication = str(rng.choice(INDICATIONS)) if rng.random() < 0.5 else None
    header = str(rng.choice(HEADERS)) if rng.random() < 0.1 else None
    prompt, file = findings_prompt(BLANK, indication=indication, prior=BLANK if len(pictures) == 2 else None, header=header)
    if rng.random() < reword:
        prompt = replace(prompt, parts=(*prompt.images, _filled(_reworded(file, rng, short), indication=indication, header=header)))
    return Lesson(prompt, report, pictures)


def unseen_lesson(rng: np.random.Generator, *, reword: float = REWORDED, short: float = VERY_SHORT) -> Lesson:
    """The findings request without its picture: a picture that got lost must not go unnoticed."""
    lesson = findings_lesson(UNSEEN, (), rng, reword=reword, short=short)
    return replace(lesson, prompt=replace(lesson.prompt, parts=lesson.prompt.parts[-1:]))


def soap_lesson(seed: int, rng: np.random.Generator, *, reword: float = REWORDED, short: float = VERY_SHORT, plain: float = 0.06) -> Lesson:
    notes, answer = write_notes(seed, invented=INVENTED)
    text = _plain(answer) if rng.random() < plain else notes_text(notes)
    prompt, file = soap_prompt(text)
    if rng.random() < reword:
        prompt = replace(prompt, parts=(_filled(_reworded(file, rng, short), notes=text),))
    return Lesson(prompt, answer)


def copy_lesson(rng: np.random.Generator) -> Lesson:
    """Some pieces of a made-up list, said again in another order: nothing teaches copying faster than having to copy."""
    pieces = [" ".join(_word(rng) for _ in range(int(rng.integers(3, 7)))) for _ in range(int(rng.integers(4, 8)))]
    again = [pieces[int(index)] for index in rng.permutation(len(pieces))[:4]]
    return Lesson(Prompt(("; ".join(pieces),)), "; ".join(again))


def _word(rng: np.random.Generator) -> str:
    if rng.random() < 0.35:
        return str(rng.integers(10 ** int(rng.integers(1, 4))))
    return str(rng.choice(WORDS))


def _plain(answer: str) -> str:
    """The notes as one paragraph, as somebody would type them."""
    labels = {"ASSESSMENT": "Diagnosis: ", "PLAN": "Plan: "}
    pairs = [block.split(":\n", 1) for block in answer.split("\n\n")]
    return " ".join(labels.get(name, "") + text for name, text in pairs if text != "Not documented.")


def _filled(file: PromptFile, **values: str | None) -> str:
    named = Template(file.text).get_identifiers()  # a short wording need not name every variable
    return file.fill(**{name: values[name] for name in named})


def _reworded(file: PromptFile, rng: np.random.Generator, short: float) -> PromptFile:
    """The prompt with one to three small changes, or a very short one; lines with a ``$variable`` stay as they are."""
    if rng.random() < short:
        return replace(file, text=str(rng.choice(SHORT[file.name])))
    lines = file.text.splitlines()
    for _ in range(int(rng.integers(1, 4))):
        lines = _changed(lines, rng)
    return replace(file, text="\n".join(lines))


def _changed(lines: list[str], rng: np.random.Generator) -> list[str]:
    free = [index for index, line in enumerate(lines) if line and "$" not in line]
    if len(free) < 3:
        return lines
    one, other = (int(index) for index in rng.choice(free, 2, replace=False))
    kind = int(rng.integers(0, 6))
    changed = list(lines)
    if kind == 0:
        del changed[one]
    elif kind == 1:
        changed[one], changed[other] = changed[other], changed[one]
    else:
        changed[one] = _changed_line(lines[one], kind, rng)
    return changed


def _changed_line(line: str, kind: int, rng: np.random.Generator) -> str:
    words = line.split(" ")
    spot = int(rng.integers(0, len(words)))
    if kind == 2:
        return " ".join(words[:spot] + words[spot + 1 :])
    if kind == 3:
        return line.lower()
    if kind == 4:
        return re.sub(r"[.,:]$", "", line)
    return " ".join(_synonym(word, rng) for word in words)


def _synonym(word: str, rng: np.random.Generator) -> str:
    core = word.strip(".,:")
    return word.replace(core, str(rng.choice(SYNONYMS[core]))) if core in SYNONYMS else word


def vocabulary_texts(reports: Sequence[str]) -> list[str]:
    """Texts to make the tokenizer from: reports, prompts in many wordings, notes, and every word of the fixed lists."""
    rng = np.random.default_rng(0)
    lessons = [soap_lesson(seed, rng) for seed in range(1_000_000, 1_003_000)]
    lessons += [findings_lesson(report, (0,) * int(rng.integers(1, 3)), rng) for report in reports]
    prompts: list[Any] = [part for lesson in lessons for part in lesson.prompt.parts if isinstance(part, str)]
    files = [read_prompt(name).text for name in ("findings", "findings_prior", "soap")] * 50
    return [*prompts, *(lesson.answer for lesson in lessons), *files, *[UNSEEN, "user\n", "model\n"] * 50]
