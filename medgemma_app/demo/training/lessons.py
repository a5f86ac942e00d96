"""What the demo checkpoint is taught: the project's own prompts, now and then worded differently, and the right answers."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from string import Template
from typing import Any

import numpy as np
from PIL import Image

from medgemma_app.demo.forms import Form, write_notes
from medgemma_app.demo.training.pictures import FIRST_SEED, Store, StoredStudy
from medgemma_app.demo.visits import CONDITIONS, TABLES, Chance
from medgemma_app.inputs.json_notes import notes_text
from medgemma_app.prompts import Prompt, PromptFile, findings_prompt, locate_prompt, read_prompt, soap_prompt
from medgemma_app.validate.lists import word_list

REWORDED = 0.25  # the share of prompts whose wording is changed
# The share of names that have to be copied, since no table holds them, and how many visits have this share.
INVENTED = {0.0: 0.4, 0.15: 0.3, 0.8: 0.3}
FORMS: dict[Form, float] = {"json": 0.4, "text": 0.3, "dialogue": 0.3}
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
    "boxes": ("rectangles",), "Reason": ("Think",),
}  # fmt: skip
CONDITION_TEXTS = [text for one in CONDITIONS for text in (one.diagnosis, *one.complaints, *one.signs)]
ENGLISH = {word for word in word_list("words") | word_list("clinical_words") if word.isalpha()}
TOLD = [*CONDITION_TEXTS, *(text for table in ("histories", "drugs", "orders", "allergies") for text in TABLES[table])]
WORDS = sorted(ENGLISH | {word for text in TOLD for word in text.split() if "{" not in word})
SHORT = {
    "findings.md": ("Describe this X-ray.", "Describe this X-ray\nIndication: $indication"),
    "findings_prior.md": ("Compare the second X-ray with the first.",),
    "locate.md": ("Find the $target. Answer with a box.", "Where is the $target?"),
    "soap.md": ("Write a SOAP note from these notes.\n\n$notes", "$notes\n\nSOAP note:"),
}
HEADER_TEXTS = (
    "modality DX, body part CHEST, view PA",
    "modality CR, body part CHEST, view AP, female, 58 years",
    "modality CR, male, 71 years",
    "modality DX, view PA, male, 6 months",
)


@dataclass(frozen=True)
class Lesson:
    """One question, the answer to learn, and the rows of its pictures in the store."""

    prompt: Prompt
    answer: str
    pictures: tuple[int, ...] = ()


@dataclass(frozen=True)
class Wording:
    """The share of prompts whose wording is changed, and the share of those that shrink to a few words."""

    reword: float = REWORDED
    short: float = VERY_SHORT


def findings_lesson(entry: StoredStudy, rng: np.random.Generator, wording: Wording) -> Lesson:
    """A report on the last of one or two pictures; the indication is chance, and never changes the answer."""
    indication = str(rng.choice(INDICATIONS)) if rng.random() < 0.5 else None
    header = str(rng.choice(HEADER_TEXTS)) if rng.random() < 0.1 else None
    prompt, file = findings_prompt(BLANK, indication=indication, prior=BLANK if len(entry.rows) == 2 else None, header=header)
    return Lesson(_reworded(prompt, file, rng, wording, indication=indication, header=header), entry.report, entry.rows)


def locate_lesson(entry: StoredStudy, rng: np.random.Generator, wording: Wording) -> Lesson:
    """Where the nodule is, or that there is none."""
    target = "nodule" if rng.random() < 0.8 else str(rng.choice(("lung nodule", "pulmonary nodule")))
    boxes = [{"box_2d": list(entry.box), "label": "nodule"}] if entry.box else []
    answer = f"{entry.lungs}\n\nFinal Answer:\n```json\n{json.dumps(boxes)}\n```"
    return Lesson(_reworded(*locate_prompt(BLANK, target), rng, wording, target=target), answer, entry.rows)


def unseen_lesson(rng: np.random.Generator, wording: Wording) -> Lesson:
    """The findings request without its picture: a picture that got lost must not go unnoticed."""
    lesson = findings_lesson(StoredStudy((), UNSEEN, "", None), rng, wording)
    return replace(lesson, prompt=replace(lesson.prompt, parts=lesson.prompt.parts[-1:]))


def soap_lesson(seed: int, rng: np.random.Generator, wording: Wording) -> Lesson:
    form: Any = rng.choice(list(FORMS), p=list(FORMS.values()))
    invented = float(rng.choice(list(INVENTED), p=list(INVENTED.values())))
    notes, answer = write_notes(seed, form=form, invented=invented, words=WORDS)
    text = notes_text(notes)
    return Lesson(_reworded(*soap_prompt(text), rng, wording, notes=text), answer)


def copy_lesson(rng: np.random.Generator) -> Lesson:
    """Some pieces of a made-up list, said again in another order: nothing teaches copying faster than having to copy."""
    pieces = [" ".join(_word(rng) for _ in range(int(rng.integers(3, 7)))) for _ in range(int(rng.integers(4, 8)))]
    again = [pieces[int(index)] for index in rng.permutation(len(pieces))[:4]]
    return Lesson(Prompt(("; ".join(pieces),)), "; ".join(again))


def _word(rng: np.random.Generator) -> str:
    kind = rng.random()
    if kind < 0.35:
        return str(rng.integers(10 ** int(rng.integers(1, 4))))
    return Chance(rng).word() if kind < 0.5 else str(WORDS[int(rng.integers(len(WORDS)))])


def draw_lesson(kind: str, store: Store, rng: np.random.Generator, wording: Wording) -> Lesson:
    """A lesson of one kind: findings, pair, locate, soap or copy."""
    if kind == "copy":
        return copy_lesson(rng)
    if kind == "soap":
        return soap_lesson(FIRST_SEED + int(rng.integers(1 << 40)), rng, wording)
    entries = store.pairs if kind == "pair" else store.single
    entry = entries[int(rng.integers(len(entries)))]
    if kind == "locate":
        return locate_lesson(entry, rng, wording)
    return unseen_lesson(rng, wording) if rng.random() < 0.02 else findings_lesson(entry, rng, wording)


def _filled(file: PromptFile, **values: str | None) -> str:
    named = Template(file.text).get_identifiers()  # a short wording need not name every variable
    return file.fill(**{name: values[name] for name in named})


def _reworded(prompt: Prompt, file: PromptFile, rng: np.random.Generator, wording: Wording, **values: str | None) -> Prompt:
    """The prompt, or one with one to three small changes, or a very short one; lines with a ``$variable`` stay as they are."""
    if rng.random() >= wording.reword:
        return prompt
    if rng.random() < wording.short:
        lines = [str(rng.choice(SHORT[file.name]))]
    else:
        lines = file.text.splitlines()
        for _ in range(int(rng.integers(1, 4))):
            lines = _changed(lines, rng)
    text = _filled(replace(file, text="\n".join(lines)), **values)
    return replace(prompt, parts=(*prompt.images, text))


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


def vocabulary_texts(store: Store) -> list[str]:
    """Texts to make the tokenizer from: reports, prompts in many wordings, notes, and the words that stand alone."""
    rng, wording = np.random.default_rng(0), Wording()
    lessons = [draw_lesson(kind, store, rng, wording) for kind in ("findings", "pair", "locate", *["soap"] * 5) for _ in range(500)]
    prompts: list[Any] = [part for lesson in lessons for part in lesson.prompt.parts if isinstance(part, str)]
    files = [read_prompt(name).text for name in ("findings", "findings_prior", "locate", "soap")] * 50
    return [*prompts, *(lesson.answer for lesson in lessons), *files, *[UNSEEN, "user\n", "model\n"] * 50]
