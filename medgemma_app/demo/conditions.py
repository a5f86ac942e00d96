"""What the invented visits are about: conditions with their complaints, signs and treatments, and drugs in doses that exist.

The tables make the demo's notes read like real ones. They are not a guideline, and nothing in them is advice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Bounds = tuple[int, int]  # lowest and highest value, both included

# Systolic and diastolic pressure in mmHg, pulse per minute, temperature in tenths of a degree, oxygen saturation in percent, weight in kg.
NORMAL: dict[str, Bounds] = {
    "systolic": (105, 138), "diastolic": (62, 86), "pulse": (58, 92), "temperature": (362, 372), "oxygen": (96, 100), "weight": (50, 105),
}  # fmt: skip
FEVER: dict[str, Bounds] = {"temperature": (381, 397), "pulse": (92, 118)}


@dataclass(frozen=True)
class Condition:
    """One diagnosis. ``{side}`` stands for the same side in complaints and signs; ``labs`` names rows of LABS with this range."""

    diagnosis: str
    complaints: tuple[str, ...]  # as a patient says them, with the article
    lasting: tuple[int, int, str]
    signs: tuple[str, ...]
    treatments: tuple[str, ...]  # drugs
    orders: tuple[str, ...]
    review: tuple[int, int, str]
    labs: Mapping[str, Bounds] = field(default_factory=dict)
    vitals: Mapping[str, Bounds] = field(default_factory=dict)  # those that differ from NORMAL
    ages: Bounds = (18, 90)
    sex: str = ""  # either
    histories: tuple[str, ...] = ()  # the only ones it comes with; () for any
    needs: Literal["", "BP", "labs"] = ""  # the measurement without which nobody makes this diagnosis


# Unit, and whether a value is in tenths.
LABS: dict[str, tuple[str, bool]] = {
    "CRP": ("mg/L", False), "Hb": ("g/L", False), "Ferritin": ("ug/L", False), "Glucose": ("mmol/L", True), "HbA1c": ("mmol/mol", False),
    "Creatinine": ("umol/L", False), "Potassium": ("mmol/L", True), "TSH": ("mU/L", True), "Urate": ("umol/L", False),
    "NT-proBNP": ("ng/L", False),
}  # fmt: skip

# Doses in which a drug is taken, and how often.
DRUGS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "allopurinol": (("100 mg", "200 mg", "300 mg"), ("daily",)),
    "alendronate": (("70 mg",), ("weekly",)),
    "amlodipine": (("5 mg", "10 mg"), ("daily",)),
    "amoxicillin": (("500 mg", "1000 mg"), ("every 8 hours",)),
    "apixaban": (("2.5 mg", "5 mg"), ("twice daily",)),
    "aspirin": (("75 mg", "100 mg"), ("daily",)),
    "atorvastatin": (("10 mg", "20 mg", "40 mg", "80 mg"), ("at night", "daily")),
    "bisoprolol": (("1.25 mg", "2.5 mg", "5 mg", "10 mg"), ("daily",)),
    "budesonide": (("200 mcg", "400 mcg"), ("twice daily",)),
    "cefalexin": (("500 mg",), ("every 8 hours",)),
    "cetirizine": (("10 mg",), ("daily", "at night")),
    "colchicine": (("0.5 mg",), ("twice daily",)),
    "doxycycline": (("100 mg",), ("twice daily", "daily")),
    "ferrous sulfate": (("200 mg",), ("daily", "twice daily")),
    "furosemide": (("20 mg", "40 mg", "80 mg"), ("daily", "in the morning")),
    "gabapentin": (("100 mg", "300 mg"), ("at night", "every 8 hours")),
    "gliclazide": (("40 mg", "80 mg"), ("daily", "twice daily")),
    "ibuprofen": (("200 mg", "400 mg"), ("every 8 hours", "as needed")),
    "insulin glargine": (tuple(f"{units} units" for units in range(8, 42)), ("at night", "daily")),
    "levothyroxine": (("25 mcg", "50 mcg", "75 mcg", "100 mcg", "125 mcg"), ("daily", "in the morning")),
    "lisinopril": (("2.5 mg", "5 mg", "10 mg", "20 mg"), ("daily",)),
    "losartan": (("25 mg", "50 mg", "100 mg"), ("daily",)),
    "metformin": (("500 mg", "850 mg", "1000 mg"), ("twice daily", "daily")),
    "methotrexate": (("7.5 mg", "10 mg", "15 mg", "20 mg"), ("weekly",)),
    "mometasone": (("50 mcg", "100 mcg"), ("daily",)),
    "naproxen": (("250 mg", "500 mg"), ("twice daily",)),
    "nitrofurantoin": (("100 mg",), ("twice daily",)),
    "omeprazole": (("20 mg", "40 mg"), ("daily", "in the morning")),
    "ondansetron": (("4 mg", "8 mg"), ("every 8 hours", "as needed")),
    "paracetamol": (("500 mg", "1000 mg"), ("every 6 hours", "as needed")),
    "penicillin V": (("500 mg",), ("every 6 hours",)),
    "prednisolone": (("30 mg", "40 mg"), ("daily", "in the morning")),
    "propranolol": (("40 mg", "80 mg"), ("twice daily",)),
    "ramipril": (("1.25 mg", "2.5 mg", "5 mg", "10 mg"), ("daily",)),
    "salbutamol": (("100 mcg", "200 mcg"), ("as needed",)),
    "sertraline": (("50 mg", "100 mg", "150 mg"), ("daily",)),
    "spironolactone": (("25 mg", "50 mg"), ("daily",)),
    "sumatriptan": (("50 mg", "100 mg"), ("as needed",)),
    "tamsulosin": (("0.4 mg",), ("daily",)),
    "tiotropium": (("18 mcg",), ("daily",)),
    "trimethoprim": (("200 mg",), ("twice daily",)),
}

# Drugs whose dose is raised step by step: they are started with the first of their doses.
RAISED = frozenset((
    "amlodipine", "atorvastatin", "bisoprolol", "furosemide", "levothyroxine", "lisinopril", "losartan", "metformin", "ramipril",
    "sertraline", "spironolactone",
))  # fmt: skip
# Drugs of which a patient takes one at most: they act on the same hormone.
ALTERNATIVES = frozenset(("lisinopril", "losartan", "ramipril"))

# What a patient may have had before: from which age on, and the drugs that are taken for it.
HISTORIES: dict[str, tuple[int, tuple[str, ...]]] = {
    "asthma": (18, ("salbutamol", "budesonide")),
    "hypertension": (35, ("lisinopril", "amlodipine", "losartan", "ramipril")),
    "type 2 diabetes": (35, ("metformin", "gliclazide", "insulin glargine")),
    "migraine": (18, ("propranolol", "sumatriptan")),
    "gout": (40, ("allopurinol",)),
    "COPD": (50, ("tiotropium", "salbutamol")),
    "heart failure": (55, ("furosemide", "bisoprolol", "spironolactone", "ramipril")),
    "atrial fibrillation": (55, ("apixaban", "bisoprolol")),
    "stroke": (50, ("aspirin", "atorvastatin")),
    "high cholesterol": (35, ("atorvastatin",)),
    "hypothyroidism": (25, ("levothyroxine",)),
    "reflux": (18, ("omeprazole",)),
    "depression": (18, ("sertraline",)),
    "rheumatoid arthritis": (30, ("methotrexate",)),
    "osteoporosis": (60, ("alendronate",)),
    "shingles": (50, ("gabapentin", "paracetamol")),
}
ALLERGIES = ("none", "none", "penicillin", "latex", "nuts", "eggs", "pollen", "codeine", "iodine")
_NSAID = frozenset(("hypertension", "heart failure", "atrial fibrillation", "stroke", "asthma", "COPD", "reflux", "rheumatoid arthritis"))
# Histories and allergies with which a drug is not started.
UNSUITABLE: dict[str, frozenset[str]] = {
    "amoxicillin": frozenset(("penicillin", "rheumatoid arthritis")), "penicillin V": frozenset(("penicillin", "rheumatoid arthritis")),
    "cefalexin": frozenset(("penicillin",)), "trimethoprim": frozenset(("rheumatoid arthritis", "heart failure", "hypertension")),
    "ibuprofen": _NSAID, "naproxen": _NSAID, "sumatriptan": frozenset(("hypertension", "stroke", "depression")),
    "bisoprolol": frozenset(("asthma", "COPD", "migraine")), "sertraline": frozenset(("depression", "migraine")),
    "lisinopril": frozenset(("heart failure",)), "losartan": frozenset(("heart failure",)), "ramipril": frozenset(("heart failure",)),
    "colchicine": frozenset(("stroke", "high cholesterol")), "spironolactone": frozenset(("hypertension",)),
    "ondansetron": frozenset(("depression", "heart failure")), "apixaban": frozenset(("stroke",)),
    "amlodipine": frozenset(("heart failure",)), "tamsulosin": frozenset(("heart failure",)),
    "doxycycline": frozenset(("reflux",)), "levothyroxine": frozenset(("atrial fibrillation",)),
}  # fmt: skip

# How an order stands in a note, and how it is told to the patient.
ORDERS = {
    "Avoid late meals": "avoid late meals",
    "Avoid pollen": "avoid pollen where you can",
    "Blood pressure diary": "keep a blood pressure diary",
    "Blood tests": "have blood tests",
    "CT of the abdomen": "have a CT of the abdomen",
    "Chest X-ray": "have a chest X-ray",
    "Daily weights": "weigh yourself every day",
    "ECG": "have an ECG",
    "Echocardiogram": "have an echocardiogram",
    "Eye screening": "have your eyes checked",
    "Gastroscopy": "have a gastroscopy",
    "Headache diary": "keep a headache diary",
    "Ice and rest": "rest it and put ice on it",
    "Inhaler training": "see the nurse for inhaler training",
    "Knee X-ray": "have a knee X-ray",
    "Low-purine diet": "keep to a low-purine diet",
    "Low-salt diet": "keep to a low-salt diet",
    "Low-sugar diet": "keep to a low-sugar diet",
    "Moisturizer": "use a moisturizer",
    "Nasal rinses": "rinse your nose with salt water",
    "Peak flow diary": "keep a peak flow diary",
    "Physiotherapy": "see a physiotherapist",
    "Plenty of fluids": "drink plenty of fluids",
    "Refer to cardiology": "see a cardiologist",
    "Relaxation exercises": "do relaxation exercises",
    "Rest and fluids": "rest and drink plenty of fluids",
    "Stay active": "stay active",
    "Stool culture": "bring a stool sample for culture",
    "Stop smoking": "stop smoking",
    "Talking therapy": "see a therapist",
    "Urine culture": "leave a urine sample for culture",
    "Weight reduction": "try to lose weight",
}

CONDITIONS = (
    Condition(
        "Pneumonia", ("a cough", "a fever", "shortness of breath"), (2, 10, "days"),
        ("Crackles at the {side} base", "Reduced breath sounds at the {side} base"), ("amoxicillin", "doxycycline"),
        ("Chest X-ray", "Rest and fluids"), (2, 7, "days"), {"CRP": (60, 240)}, {**FEVER, "oxygen": (89, 94)},
    ),
    Condition(
        "Acute bronchitis", ("a cough", "a productive cough"), (3, 14, "days"), ("Scattered wheeze", "No crackles"), ("paracetamol",),
        ("Rest and fluids", "Stop smoking"), (5, 14, "days"), {"CRP": (5, 30)}, {"temperature": (368, 378)},
    ),
    Condition(
        "Asthma exacerbation", ("wheezing", "shortness of breath", "a cough"), (1, 5, "days"),
        ("Wheeze on both sides", "Prolonged expiration"), ("prednisolone", "salbutamol", "budesonide"),
        ("Peak flow diary", "Inhaler training"), (2, 5, "days"), {}, {"pulse": (95, 118), "oxygen": (91, 95)}, (18, 60), "", ("asthma",),
    ),
    Condition(
        "COPD exacerbation", ("shortness of breath", "a productive cough"), (2, 7, "days"),
        ("Wheeze on both sides", "Reduced breath sounds on both sides"), ("prednisolone", "doxycycline"),
        ("Stop smoking", "Chest X-ray", "Inhaler training"), (2, 7, "days"), {"CRP": (10, 80)},
        {"pulse": (88, 112), "oxygen": (86, 92)}, (50, 88), "", ("COPD",),
    ),
    Condition(
        "Heart failure", ("shortness of breath", "swollen ankles", "fatigue"), (1, 8, "weeks"),
        ("Crackles at both bases", "Swollen ankles", "Raised jugular venous pressure"), ("furosemide", "spironolactone"),
        ("ECG", "Echocardiogram", "Low-salt diet", "Daily weights"), (1, 2, "weeks"), {"NT-proBNP": (900, 6000)},
        {"pulse": (85, 110), "oxygen": (91, 95)}, (55, 90),
    ),
    Condition(
        "Atrial fibrillation", ("palpitations", "dizziness", "fatigue"), (2, 14, "days"), ("Irregular pulse", "Clear lungs"),
        ("apixaban", "bisoprolol"), ("ECG", "Echocardiogram", "Refer to cardiology"), (1, 2, "weeks"), {"TSH": (8, 39)},
        {"pulse": (105, 140)}, (55, 90),
    ),
    Condition(
        "Hypertension", ("a headache", "dizziness"), (2, 8, "weeks"), ("Normal heart sounds", "Clear lungs"),
        ("amlodipine", "lisinopril", "ramipril", "losartan"), ("Low-salt diet", "Blood pressure diary", "ECG"), (2, 6, "weeks"),
        {"Creatinine": (60, 110), "Potassium": (36, 49)}, {"systolic": (152, 189), "diastolic": (94, 109)}, (35, 85), needs="BP",
    ),
    Condition(
        "Type 2 diabetes", ("increased thirst", "fatigue", "blurred vision", "frequent urination"), (1, 6, "months"),
        ("Normal foot pulses", "Normal foot sensation"), ("metformin",), ("Low-sugar diet", "Eye screening", "Weight reduction"),
        (4, 12, "weeks"), {"Glucose": (115, 199), "HbA1c": (58, 96)}, {"weight": (85, 125)}, (35, 80), needs="labs",
    ),
    Condition(
        "Migraine", ("a headache", "a headache with nausea"), (4, 48, "hours"), ("Normal neurological examination", "No neck stiffness"),
        ("sumatriptan", "ibuprofen", "naproxen"), ("Headache diary",), (4, 6, "weeks"), {}, {}, (18, 55),
    ),
    Condition(
        "Tension headache", ("a headache", "neck pain"), (2, 10, "days"), ("Tender neck muscles", "Normal neurological examination"),
        ("paracetamol", "ibuprofen"), ("Relaxation exercises", "Physiotherapy", "Headache diary"), (2, 4, "weeks"), {}, {}, (18, 65),
    ),
    Condition(
        "Low back strain", ("back pain", "low back pain"), (2, 14, "days"), ("Tender lower back", "Normal leg reflexes"),
        ("ibuprofen", "naproxen", "paracetamol"), ("Stay active", "Physiotherapy"), (2, 4, "weeks"), {}, {}, (18, 70),
    ),
    Condition(
        "Acute gout", ("{side} toe pain", "a swollen {side} toe"), (1, 4, "days"), ("Red and swollen {side} toe",),
        ("colchicine", "naproxen"), ("Low-purine diet", "Ice and rest"), (1, 2, "weeks"), {"Urate": (480, 680)}, {}, (40, 85),
    ),
    Condition(
        "Knee osteoarthritis", ("{side} knee pain", "a stiff {side} knee"), (2, 11, "months"),
        ("Crepitus of the {side} knee", "Swollen {side} knee"), ("paracetamol", "naproxen"),
        ("Physiotherapy", "Weight reduction", "Knee X-ray"), (6, 12, "weeks"), {}, {"weight": (70, 115)}, (50, 85),
    ),
    Condition(
        "Rotator cuff tendinopathy", ("{side} shoulder pain",), (3, 12, "weeks"), ("Painful abduction of the {side} arm",),
        ("naproxen", "paracetamol"), ("Physiotherapy", "Ice and rest"), (4, 8, "weeks"), {}, {}, (30, 75),
    ),
    Condition(
        "Cystitis", ("painful urination", "frequent urination"), (1, 5, "days"), ("Suprapubic tenderness", "No flank tenderness"),
        ("nitrofurantoin", "trimethoprim"), ("Urine culture", "Plenty of fluids"), (3, 7, "days"), {"CRP": (3, 15)}, {}, (18, 85), "female",
    ),
    Condition(
        "Pyelonephritis", ("{side} flank pain", "a fever"), (1, 4, "days"), ("Tender {side} flank",), ("cefalexin",),
        ("Urine culture", "Blood tests", "Plenty of fluids"), (1, 3, "days"), {"CRP": (80, 220), "Creatinine": (60, 120)}, FEVER,
    ),
    Condition(
        "Kidney stone", ("{side} flank pain",), (3, 24, "hours"), ("Tender {side} flank", "Soft abdomen"), ("naproxen", "tamsulosin"),
        ("CT of the abdomen", "Urine culture", "Plenty of fluids"), (1, 2, "weeks"), {"Creatinine": (70, 130)}, {"pulse": (88, 110)},
        (20, 70),
    ),
    Condition(
        "Tonsillitis", ("a sore throat", "painful swallowing"), (2, 6, "days"), ("Red tonsils with exudate", "Swollen neck glands"),
        ("penicillin V", "paracetamol"), ("Rest and fluids",), (3, 7, "days"), {"CRP": (25, 90)}, FEVER, (18, 45),
    ),
    Condition(
        "Viral infection", ("a runny nose", "a sore throat", "a cough"), (1, 6, "days"), ("Red throat", "Clear lungs"), ("paracetamol",),
        ("Rest and fluids",), (5, 10, "days"), {"CRP": (1, 12)}, {"temperature": (369, 379)},
    ),
    Condition(
        "Sinusitis", ("facial pain", "a blocked nose"), (5, 14, "days"), ("Tender sinuses", "Normal throat"),
        ("mometasone", "paracetamol", "doxycycline"), ("Nasal rinses",), (1, 2, "weeks"), {}, {"temperature": (368, 378)}, (18, 70),
    ),
    Condition(
        "Allergic rhinitis", ("a runny nose", "sneezing", "itchy eyes"), (2, 8, "weeks"), ("Pale nasal lining", "Clear lungs"),
        ("cetirizine", "mometasone"), ("Avoid pollen", "Nasal rinses"), (4, 8, "weeks"), {}, {}, (18, 60),
    ),
    Condition(
        "Otitis media", ("{side} ear pain",), (1, 5, "days"), ("Red {side} ear drum", "Normal throat"), ("amoxicillin", "paracetamol"),
        ("Rest and fluids",), (2, 5, "days"), {}, {"temperature": (372, 389)}, (18, 60),
    ),
    Condition(
        "Gastroesophageal reflux", ("heartburn", "a sour taste"), (2, 12, "weeks"), ("Soft abdomen", "Mild epigastric tenderness"),
        ("omeprazole",), ("Avoid late meals", "Weight reduction", "Stop smoking"), (4, 8, "weeks"),
    ),
    Condition(
        "Gastroenteritis", ("diarrhea", "vomiting", "nausea"), (1, 4, "days"), ("Soft abdomen", "Dry tongue"), ("ondansetron",),
        ("Rest and fluids", "Stool culture"), (2, 5, "days"), {"Potassium": (32, 38)}, {"pulse": (88, 110), "temperature": (368, 380)},
    ),
    Condition(
        "Iron deficiency anemia", ("fatigue", "dizziness", "shortness of breath"), (1, 6, "months"), ("Pale conjunctivae", "Clear lungs"),
        ("ferrous sulfate",), ("Blood tests", "Gastroscopy"), (4, 8, "weeks"), {"Hb": (78, 108), "Ferritin": (3, 14)}, {"pulse": (82, 102)},
        needs="labs",
    ),
    Condition(
        "Hypothyroidism", ("fatigue", "weight gain", "constipation"), (2, 8, "months"), ("Dry skin", "Slow reflexes"), ("levothyroxine",),
        ("Blood tests",), (6, 8, "weeks"), {"TSH": (120, 600)}, {"pulse": (48, 62)}, (25, 85), needs="labs",
    ),
    Condition(
        "Eczema", ("an itchy rash", "a dry rash"), (1, 8, "weeks"), ("Red and dry skin", "No blisters"), ("cetirizine",), ("Moisturizer",),
        (2, 6, "weeks"), {}, {}, (18, 80),
    ),
    Condition(
        "Anxiety", ("palpitations", "poor sleep", "restlessness"), (1, 6, "months"), ("Normal heart sounds", "Regular pulse"),
        ("sertraline",), ("Talking therapy", "Relaxation exercises", "Blood tests"), (2, 6, "weeks"), {"TSH": (8, 39)},
        {"pulse": (80, 104)}, (18, 70),
    ),
)  # fmt: skip
