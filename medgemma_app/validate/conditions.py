"""Names of diagnoses, each with what patients and clinicians say for it.

The list covers the commonest diagnoses of American ambulatory and emergency care (CDC's NAMCS and NHAMCS) and those a model is
quick to invent; lay words follow MedlinePlus. What the list does not know, the endings of diagnoses (-itis, -osis, -oma) tell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from medgemma_app.validate.terms import Lexicon

# Names with commas between; after a bar, what in a source is reason enough to make the diagnosis.
_GROUPS = """
hypertension, hypertensive, high blood pressure, htn, elevated blood pressure | blood pressure
hyperlipidemia, dyslipidemia, hypercholesterolemia, high cholesterol, hld | cholesterol, lipid, statin, triglycerides
type 2 diabetes, type ii diabetes, diabetes mellitus, diabetes, diabetic, t2dm, dm2 | type two diabetes, metformin, a1c, blood sugar, sugars
type 1 diabetes | type one, insulin, diabetes
prediabetes, prediabetic, insulin resistance | sugar, a1c, diabetes
hypoglycemia | low sugar, blood sugar
hyperglycemia | blood sugar, sugar, glucose, diabetes
hypothyroidism, hypothyroid, hashimoto | thyroid
hyperthyroidism, hyperthyroid, graves | thyroid
goiter, thyroid nodule | thyroid
obesity, obese, morbid obesity | weight, bmi, overweight
congestive heart failure, heart failure, chf, hfref, hfpef, cardiomyopathy | ejection fraction, fluid, weak heart, pumping
coronary artery disease, cad, ischemic heart disease, coronary disease | heart attack, stent, bypass, coronary, clogged
myocardial infarction, heart attack, nstemi, stemi, acute coronary syndrome | infarct
angina | chest pain
atrial fibrillation, afib, a fib, atrial flutter | irregular, fibrillation
supraventricular tachycardia, svt | palpitations, tachycardia
peripheral arterial disease, peripheral artery disease, peripheral vascular disease, pad, pvd, claudication | circulation
deep vein thrombosis, deep venous thrombosis, dvt, blood clot | clot, thrombosis
pulmonary embolism, pulmonary emboli, pulmonary embolus | clot, embolism
aortic aneurysm, aortic dissection, aneurysm | aneurysms
aortic stenosis | valve
mitral regurgitation, valvular heart disease | valve, mitral, murmur
pericarditis, myocarditis, endocarditis | heart infection
stroke, cerebrovascular accident, transient ischemic attack, tia | mini stroke
subarachnoid hemorrhage, intracranial hemorrhage, subdural hematoma | bleed
epilepsy, seizure disorder, seizure, seizures | epileptic, convulsion
migraine, migraines | headache, headaches
parkinson, parkinsons, parkinsonism
dementia, alzheimer, alzheimers | memory
multiple sclerosis | ms
peripheral neuropathy, neuropathy, diabetic neuropathy | numb, numbness, tingling, nerves
carpal tunnel syndrome, carpal tunnel | median nerve
concussion | hit head, head injury
vertigo, bppv | dizzy, dizziness, spinning
meningitis, encephalitis
asthma, asthmatic | inhaler, wheeze, wheezing
copd, chronic obstructive pulmonary disease, emphysema, chronic bronchitis | obstructive
pneumonia, community acquired pneumonia | lung infection, infiltrate, consolidation
bronchitis, acute bronchitis | cough
upper respiratory infection, uri, viral syndrome, viral illness, common cold | cold, viral, virus, congestion, sore throat, cough
covid, sars cov 2 | vaccine, vaccinated, coronavirus, pandemic
influenza, flu
tuberculosis, tb
pulmonary fibrosis, interstitial lung disease, sarcoidosis | scarring
pleural effusion | fluid
pneumothorax | collapsed lung
sleep apnea, osa | snore, snoring, cpap, apnea
sinusitis, rhinosinusitis | sinus
allergic rhinitis, seasonal allergies, hay fever | allergies, allergy, pollen, congestion
otitis media, otitis externa, ear infection | ear
pharyngitis, strep throat, tonsillitis | throat, strep
gerd, gastroesophageal reflux disease, acid reflux, reflux, esophagitis | heartburn, indigestion
gastritis | stomach, epigastric, reflux, nausea
peptic ulcer disease, peptic ulcer, gastric ulcer, duodenal ulcer | ulcer
gastrointestinal bleed, gi bleed, gastrointestinal bleeding | bleeding, blood in, black stool, dark stool, tarry, colonoscopy, endoscopy
irritable bowel syndrome, ibs | bowel
inflammatory bowel disease, crohn, crohns, ulcerative colitis, colitis | bowel
celiac disease | gluten
diverticulitis, diverticulosis | diverticular, diverticula
appendicitis | appendix
cholecystitis, cholelithiasis, gallstones | gallbladder, gallstone
pancreatitis | pancreas
hepatitis | liver enzymes
cirrhosis, fatty liver, liver disease | cirrhotic
bowel obstruction, small bowel obstruction | obstruction
hernia, inguinal hernia, hiatal hernia | bulge
hemorrhoids | hemorrhoid, rectal
constipation | bowel movement, constipated, stool
gastroenteritis | diarrhea, vomiting, stomach bug
chronic kidney disease, ckd, renal insufficiency, kidney disease | kidney problems, kidneys
acute kidney injury, renal failure, kidney failure, aki | kidney function, creatinine
nephrolithiasis, kidney stone, kidney stones, renal calculi, ureteral stone, urolithiasis, renal colic | stone, stones
urinary tract infection, uti, cystitis, bladder infection | urine, urinating, pee, burning
pyelonephritis, kidney infection | kidney
benign prostatic hyperplasia, bph, enlarged prostate, prostatitis | prostate
erectile dysfunction | erection, erections, viagra, cialis
hypogonadism | testosterone
urinary incontinence | urine, leak, leaking
endometriosis, polycystic ovary syndrome, pcos
uterine fibroids, fibroids | fibroid
menopause | hot flashes, menopausal
anemia, iron deficiency anemia, anemic | hemoglobin, iron, blood count
thrombocytopenia | platelets, platelet
leukemia, lymphoma, multiple myeloma
breast cancer, breast carcinoma | breast
prostate cancer | prostate
lung cancer | lung
colon cancer, colorectal cancer | colon, colonoscopy
ovarian cancer | ovarian, ovaries
skin cancer, melanoma, basal cell carcinoma, squamous cell carcinoma | skin, mole, biopsy
thyroid cancer | thyroid
pancreatic cancer | pancreas
metastatic disease, metastases, metastasis | cancer, spread
osteoarthritis, degenerative joint disease, arthritis, oa | joint, degenerative, wear and tear
rheumatoid arthritis | rheumatoid, ra
lupus, systemic lupus erythematosus, sle
gout, gouty arthritis | uric
fibromyalgia, polymyalgia rheumatica
osteoporosis, osteopenia | bone density, dexa
degenerative disc disease, spinal stenosis, spondylosis | disc, degenerative, back, neck, spine
herniated disc, disc herniation, lumbar radiculopathy, radiculopathy, sciatica | disc, radiating, radiates, shoots, nerve, back, neck, numb
rotator cuff tear, rotator cuff tendinopathy, rotator cuff | shoulder
adhesive capsulitis, frozen shoulder | shoulder
lateral epicondylitis, tennis elbow, medial epicondylitis | elbow
tendinitis, tendonitis, tendinopathy | tendon, overuse, inflammation, pain
bursitis | bursa, hip, shoulder, elbow
plantar fasciitis | foot, heel, plantar
achilles tendon rupture, achilles tendonitis | achilles
meniscal tear, meniscus tear | meniscus, knee
acl tear, ligament tear | acl, ligament, knee
fracture, fractures | broke, broken, break, crack
ankle sprain, sprain | twisted, rolled, ligament, sprained, ankle
dislocation | dislocated, popped out
septic arthritis, osteomyelitis | joint, bone
scoliosis
trigger finger | finger
cellulitis | skin infection, redness, infected
abscess | boil, pus
eczema, atopic dermatitis, dermatitis | rash, itchy, skin
psoriasis, psoriatic arthritis | rash, scaly, skin
shingles, herpes zoster | rash
acne, rosacea, urticaria, hives | rash, skin
lyme disease | tick
sepsis, septic shock, bacteremia
hiv, aids | human immunodeficiency virus
hepatitis c, hepatitis b | hepatitis
depression, major depressive disorder, depressive disorder | depressed, depressive
anxiety, generalized anxiety disorder, anxiety disorder | anxious, nervous, worry, stress
panic disorder | panic
bipolar disorder, bipolar | manic
schizophrenia, psychosis
ptsd, post-traumatic stress disorder | trauma
adhd, attention deficit | attention
insomnia | sleep, sleeping
alcohol use disorder, alcoholism, alcohol abuse | alcoholic, alcohol
opioid use disorder, substance abuse | drugs, opioid
tobacco use disorder, nicotine dependence | smoke, smoking, smoker, cigarettes, tobacco
glaucoma | eye pressure
cataract, cataracts | eye
macular degeneration, retinopathy | eye
conjunctivitis, pink eye | eye
preeclampsia, gestational diabetes | pregnant, pregnancy
ectopic pregnancy, miscarriage | pregnant, pregnancy
hyponatremia | sodium
hyperkalemia, hypokalemia | potassium
vitamin d deficiency | vitamin d
vitamin b12 deficiency | b12
dehydration | dehydrated, fluids
anaphylaxis | allergic
syncope, syncopal episode | passed out, fainted, faint
cushing syndrome, addison disease, adrenal insufficiency | adrenal, cortisol
"""
_ENDINGS = re.compile(r"[a-z]{3,24}(?:itis|osis|emia|oma|opathy|ectasis|plegia|lepsy|asthenia|derma|neuralgia|trophy)")
# What ends so and is no diagnosis, or no more than a sign.
_NO_DIAGNOSES = frozenset(
    """diagnosis prognosis osmosis ecchymosis cyanosis stenosis ptosis fibrosis symptoma coma diploma stoma aroma hematoma lordosis kyphosis
    academia""".split()  # noqa: SIM905
)


def _groups() -> tuple[Mapping[str, int], tuple[tuple[str, ...], ...]]:
    names: dict[str, int] = {}
    support: list[tuple[str, ...]] = []
    for index, line in enumerate(_GROUPS.strip().splitlines()):
        own, _, reasons = line.partition("|")
        mine = [name.strip() for name in own.split(",")]
        names.update(dict.fromkeys(mine, index))
        support.append(tuple(mine + [reason.strip() for reason in reasons.split(",") if reason.strip()]))
    return MappingProxyType(names), tuple(support)


NAMES, SUPPORT = _groups()
LEXICON = Lexicon(NAMES)


def by_ending(word: str) -> bool:
    """Whether a word in lower case is a diagnosis by its ending."""
    return len(word) <= 30 and word not in _NO_DIAGNOSES and _ENDINGS.fullmatch(word) is not None
