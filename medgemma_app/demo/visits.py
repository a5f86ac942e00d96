"""Made-up visit notes, and the SOAP note that is right for each: what the notes say, section by section, nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

SILENT = "Not documented."
COMPLAINTS = (
    "cough", "fever", "headache", "back pain", "chest pain", "sore throat", "knee pain", "dizziness", "nausea", "rash", "fatigue",
    "shortness of breath", "abdominal pain", "ear pain", "wheezing", "palpitations", "swollen ankles", "neck pain", "diarrhea",
    "blurred vision", "shoulder pain", "heartburn", "runny nose", "hip pain",
)  # fmt: skip
HISTORIES = (
    "asthma", "hypertension", "type 2 diabetes", "migraine", "gout", "COPD", "eczema", "heart failure", "arthritis", "reflux",
    "anxiety", "high cholesterol", "stroke", "kidney stones",
)  # fmt: skip
DRUGS = (
    "lisinopril", "metformin", "aspirin", "amlodipine", "ibuprofen", "omeprazole", "salbutamol", "sertraline", "atorvastatin",
    "levothyroxine", "paracetamol", "furosemide", "bisoprolol", "ramipril", "insulin", "prednisone", "allopurinol", "warfarin",
    "gabapentin", "losartan",
)  # fmt: skip
UNITS = ("mg", "mg", "mg", "mg", "mcg", "units")
FREQUENCIES = ("daily", "twice daily", "at night", "as needed", "every 8 hours", "weekly")
ALLERGIES = ("none", "penicillin", "latex", "nuts", "sulfa", "eggs", "pollen", "codeine")
EXAMS = (
    "Lungs clear", "Wheeze on both sides", "Crackles at the left base", "Crackles at the right base", "Throat red", "Abdomen soft",
    "Abdomen tender", "Heart sounds normal", "Right knee swollen", "Left knee swollen", "Ankles swollen", "Skin red and dry",
    "Ear drum red", "Neck stiff", "Back tender", "No rash", "Pulse irregular", "Throat normal", "Gait normal", "Reflexes normal",
)  # fmt: skip
# Name, unit, lowest and highest value, and whether a decimal follows.
LABS = (
    ("CRP", "mg/L", 1, 199, False), ("Hb", "g/L", 80, 170, False), ("Glucose", "mmol/L", 4, 19, True),
    ("Creatinine", "umol/L", 50, 250, False), ("Potassium", "mmol/L", 3, 6, True), ("Sodium", "mmol/L", 125, 150, False),
)  # fmt: skip
DIAGNOSES = (
    "Acute bronchitis", "Pneumonia", "Tension headache", "Migraine", "Back strain", "Viral infection", "Gastritis", "Asthma",
    "Hypertension", "Heart failure", "Arthritis", "Gout", "Eczema", "Ear infection", "Tonsillitis", "Anxiety", "Anemia", "Reflux",
    "Sinusitis", "Atrial fibrillation", "Type 2 diabetes", "Knee sprain", "Kidney stones", "COPD",
)  # fmt: skip
ORDERS = (
    "Rest and fluids", "Chest X-ray", "Blood tests", "ECG", "Low salt diet", "Physiotherapy", "Stop smoking", "Refer to cardiology",
    "Ice and rest", "Urine test", "Weight control", "Refer to neurology",
)  # fmt: skip
KEYS = {
    "complaint": ("chief_complaint", "complaint", "reason for visit"),
    "medications": ("medications", "medication"),
    "vitals": ("vitals", "vital_signs", "vital signs"),
    "exam": ("exam", "examination", "physical exam"),
    "labs": ("labs", "results"),
    "assessment": ("assessment", "diagnosis"),
}


def write_notes(seed: int, *, invented: float = 0.0) -> tuple[dict[str, Any], str]:
    """Notes of a made-up visit as notes.json would hold them, and the SOAP note that is right for them.

    ``invented`` is the share of drugs with a name that is in no list: such names teach the demo to copy, and are the hardest to get right.
    """
    return Visit(np.random.default_rng([seed, 3]), invented).written()


class Visit:
    """Builds the notes and the SOAP note side by side, so that every value stands in both."""

    def __init__(self, rng: np.random.Generator, invented: float) -> None:
        self.rng, self.invented = rng, invented
        self.notes: dict[str, Any] = {}

    def written(self) -> tuple[dict[str, Any], str]:
        sections = (self._subjective(), self._objective(), self._assessment(), self._plan())
        if len(self.notes) < 2:  # too little to write a note from: draw another visit
            return self.written()
        names = ("SUBJECTIVE", "OBJECTIVE", "ASSESSMENT", "PLAN")
        return self.notes, "\n\n".join(f"{name}:\n{text or SILENT}" for name, text in zip(names, sections, strict=True))

    def _subjective(self) -> str:
        who, complaint = self._who(), self._complaint()
        first = f"{who or 'Patient'} with {complaint}." if complaint else f"{who}." if who else ""
        return " ".join(filter(None, (first, self._history(), self._medications(), self._allergies())))

    def _who(self) -> str:
        if not self._chance(0.75):
            return ""
        age, sex = self._number(18, 95), self._one_of(("female", "male"))
        if self._chance(0.25):
            self.notes["patient"] = f"{age}-year-old {sex}"
        else:
            self.notes |= {"age": age, "sex": sex}
        return f"{age}-year-old {sex}"

    def _complaint(self) -> str:
        if not self._chance(0.8):
            return ""
        number, unit = self._number(2, 14), self._one_of(("days", "weeks", "months", "hours"))
        text = f"{self._one_of(COMPLAINTS)} for {number} {unit}"
        self._note("complaint", text)
        return text

    def _history(self) -> str:
        if not self._chance(0.35):
            return ""
        self.notes["history"] = self._one_of(HISTORIES)
        return f"History of {self.notes['history']}."

    def _medications(self) -> str:
        if not self._chance(0.55):
            return ""
        drugs = [self._prescription() for _ in range(self._number(1, 2))]
        self._note("medications", drugs if self._chance(0.6) else "; ".join(drugs))
        return f"Medications: {'; '.join(drugs)}."

    def _prescription(self) -> str:
        drug = self._invented_word() if self._chance(self.invented) else self._one_of(DRUGS)
        whole, decimal = self._number(0, 9), self._number(1, 9)
        dose = self._one_of((self._number(1, 9) * 5, self._number(1, 20) * 50, self._number(1, 99), f"{whole}.{decimal}"))
        return f"{drug} {dose} {self._one_of(UNITS)} {self._one_of(FREQUENCIES)}"

    def _invented_word(self) -> str:
        """A name that is in no list, so that names are copied rather than remembered."""
        return "".join(self._one_of("bcdfglmnprstvz") + self._one_of("aeiou") for _ in range(self._number(2, 4)))

    def _allergies(self) -> str:
        if not self._chance(0.35):
            return ""
        self.notes["allergies"] = self._one_of(ALLERGIES)
        return f"Allergies: {self.notes['allergies']}."

    def _objective(self) -> str:
        return " ".join(filter(None, (self._vitals(), self._exam(), self._labs())))

    def _vitals(self) -> str:
        if not self._chance(0.75):
            return ""
        vitals = {name: value for name, value in self._all_vitals().items() if self._chance(0.55)}
        if not vitals:
            return ""
        text = "; ".join(f"{name} {value}" for name, value in vitals.items())
        self._note("vitals", vitals if self._chance(0.6) else text)
        return f"{text}."

    def _all_vitals(self) -> dict[str, str]:
        pressure, pulse, heat = ("BP", "HR", "Temp") if self._chance(0.6) else ("Blood pressure", "Heart rate", "Temperature")
        return {
            pressure: f"{self._number(90, 190)}/{self._number(50, 110)} mmHg",
            pulse: f"{self._number(45, 130)} bpm",
            heat: f"{self._number(35, 40)}.{self._number(0, 9)} °C",
            "SpO2": f"{self._number(85, 100)}%",
            "Weight": f"{self._number(45, 120)} kg",
        }

    def _exam(self) -> str:
        if not self._chance(0.65):
            return ""
        signs = self._some_of(EXAMS, self._number(1, 2))
        self._note("exam", signs if self._chance(0.3) else "; ".join(signs))
        return f"{'; '.join(signs)}."

    def _labs(self) -> str:
        if not self._chance(0.3):
            return ""
        name, unit, low, high, decimal = self._one_of(LABS)
        value = f"{self._number(low, high)}{f'.{self._number(0, 9)}' if decimal else ''} {unit}"
        text = f"{name} {value}"
        self._note("labs", {name: value} if self._chance(0.5) else text)
        return f"{text}."

    def _assessment(self) -> str:
        if not self._chance(0.75):
            return ""
        text = self._one_of(DIAGNOSES)
        self._note("assessment", text)
        return f"{text}."

    def _plan(self) -> str:
        if not self._chance(0.75):
            return ""
        steps = [self._step() for _ in range(self._number(1, 2))]
        self.notes["plan"] = steps if self._chance(0.5) else "; ".join(steps)
        return f"{'; '.join(steps)}."

    def _step(self) -> str:
        if self._chance(0.35):
            return f"Review in {self._number(2, 14)} {self._one_of(('days', 'weeks', 'months'))}"
        if self._chance(0.4):
            return f"Start {self._prescription()}"
        return str(self._one_of(ORDERS))

    def _note(self, key: str, value: Any) -> None:
        self.notes[self._one_of(KEYS[key])] = value

    def _chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def _number(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def _one_of(self, choices: Sequence[Any]) -> Any:
        return choices[self._number(0, len(choices) - 1)]

    def _some_of(self, choices: Sequence[Any], count: int) -> list[Any]:
        return [choices[int(index)] for index in self.rng.permutation(len(choices))[:count]]
