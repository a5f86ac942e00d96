"""Symptoms with what patients call them, and normal examinations with what a source must say for them.

The symptoms are those of a review of systems (Bates' Guide to Physical Examination), one group a line: what in the source is
about the same is support for all of the line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from medgemma_app.validate.terms import Lexicon

# Names with commas between; after a bar, what else in a source is about them.
_SYMPTOMS = """
fever, fevers, chills, febrile | temperature, feverish
night sweats, sweats, sweating, diaphoresis | sweat, sweaty
weight loss, weight gain | weight, pounds, appetite
fatigue, malaise, tiredness, weakness | tired, energy, weak, exhausted, fatigued
chest pain, chest tightness, chest pressure, chest pains | chest
palpitations | palpitation, racing, fluttering, heart rate
shortness of breath, dyspnea, sob, difficulty breathing, trouble breathing | breath, breathing, winded, wheeze
orthopnea, paroxysmal nocturnal dyspnea | lying, flat, pillows, breath
cough, hemoptysis, wheezing, sputum | coughing, phlegm, wheeze, mucus, breath
edema, leg swelling, swelling | swollen, swell, legs, ankles, fluid
nausea, vomiting, emesis | nauseous, nauseated, throwing up, threw up, vomit, stomach, sick, queasy
diarrhea, constipation, change in bowel habits | bowel, stool, stools, poop, bathroom
abdominal pain | stomach, belly, abdomen, abdominal, tummy, cramps
heartburn, dysphagia, difficulty swallowing | swallow, swallowing, reflux, throat
blood in stool, bloody stools, melena, hematochezia, rectal bleeding | stool, stools, blood, bleeding, bowel
dysuria, hematuria, urinary frequency, urinary urgency | urine, urinating, urinate, pee, peeing, burning, bladder, urinary, urination
headache, headaches | head, migraine, migraines
dizziness, lightheadedness, vertigo, syncope | dizzy, lightheaded, faint, fainting, passed out, spinning
numbness, tingling, paresthesia | numb, tingle, sensation, feeling, pins
vision changes, blurred vision, blurry vision, visual changes | vision, eyes, eye, blurry
hearing loss, ear pain, tinnitus | ear, ears, hearing
sore throat, nasal congestion, rhinorrhea, runny nose | throat, nose, congestion, nasal, sinus, stuffy
rash, itching, pruritus, skin lesions | skin, itchy, itch, rashes
joint pain, joint swelling, myalgias, muscle aches, muscle pain | joint, joints, muscle, muscles, aches, aching, arthritis
back pain, neck pain | back, neck, spine
depression, anxiety, suicidal ideation, homicidal ideation | mood, depressed, anxious, harm, hurting, hurt, suicidal, stress
insomnia | sleep, sleeping
bruising, bleeding | bruise, bleed, blood
seizures, seizure | seize, epilepsy
loss of consciousness | conscious, passed out, black out, blacked, concussion
trauma, injury, falls | trauma, happened, happen, fall, fell, injure, injured, hit, hurt, accident, injuries
"""
# What a note says of a normal examination, and which words in the source show that the part was examined or spoken of.
_EXAMS = (
    (r"lungs?(?: fields?)?(?: are| is|:)? clear|clear to auscultation|no (?:wheez|rales|rhonchi|crackles)"
     r"|breath sounds (?:are )?(?:normal|equal)",
     "lung breath wheez rales rhonchi crackl auscult chest respirat"),
    (r"regular rate(?:,? and)? rhythm|\brrr\b|no (?:murmurs?|gallops?|rubs?)|normal s1|heart sounds (?:are )?normal",
     "heart cardi murmur rhythm s1 gallop auscult"),
    (r"abdomen(?: is|:)? (?:soft|non-?tender|benign)|soft,? non-?tender|bowel sounds (?:are )?(?:normal|present)|no (?:rebound|guarding)",
     "abd belly stomach bowel"),
    (r"cranial nerves|no focal (?:neurologic\w* )?(?:deficits?|weakness)|alert and oriented"
     r"|neurologically intact|reflexes (?:are )?(?:normal|intact)",
     "neuro cranial nerve orient alert reflex strength sensation sensory numb"),
    (r"skin(?: is|:)? (?:warm|intact|dry|clear|normal)|no (?:rash|rashes|skin lesions)", "skin rash lesion wound bruis incision"),
    (r"pupils (?:are )?equal|perrl\w*|mucous membranes (?:are )?moist|oropharynx (?:is )?clear"
     r"|tympanic membranes? (?:are |is )?(?:clear|normal|intact)",
     "throat ears eyes pupil mouth nose oral sinus"),
    (r"neck(?: is|:)? supple|no (?:cervical )?lymphadenopathy|no (?:jugular venous distention|jvd|thyromegaly|carotid bruits?)",
     "neck lymph jugular thyroid node carotid bruit gland"),
    (r"no (?:cyanosis|clubbing|(?:pedal |peripheral |lower extremity |pitting )?edema)",
     "edema swell swollen legs ankle extremit feet fluid"),
    (r"normal gait|gait (?:is )?normal|full range of motion|range of motion (?:is )?(?:full|normal)",
     "gait walk motion bend flex raise moving"),
)  # fmt: skip
EXAMS = tuple(
    (re.compile(pattern), re.compile(rf"\b(?:{support.replace(' ', '|')})"))
    for pattern, support in _EXAMS  # of texts in lower case
)


def _groups() -> tuple[Mapping[str, int], tuple[tuple[str, ...], ...]]:
    names: dict[str, int] = {}
    support: list[tuple[str, ...]] = []
    for index, line in enumerate(_SYMPTOMS.strip().splitlines()):
        own, _, other = line.partition("|")
        mine = [name.strip() for name in own.split(",")]
        names.update(dict.fromkeys(mine, index))
        support.append(tuple(mine + [word.strip() for word in other.split(",") if word.strip()]))
    return MappingProxyType(names), tuple(support)


SYMPTOMS, SUPPORT = _groups()
LEXICON = Lexicon(SYMPTOMS)
