"""Units, vital signs and analytes by their spellings. Units follow UCUM and the ISMP's list, analytes the usual panels (LOINC)."""

from __future__ import annotations

from collections.abc import Mapping


def _table(rows: str) -> Mapping[str, str]:
    """Spelling -> kind, from lines "kind: spelling spelling"."""
    pairs = (line.split(":", 1) for line in rows.strip().splitlines())
    return {word: kind.strip() for kind, words in pairs for word in words.split()}


UNITS = _table("""
    mass: mg mgs milligram milligrams mcg mcgs microgram micrograms μg µg ug g gm gms gram grams
    volume: ml mls milliliter milliliters millilitre millilitres cc ccs l liter liters litre litres tsp teaspoon teaspoons tbsp
    units: unit units iu
    equivalents: meq meqs
    percent: % percent
    pressure: mmhg
    rate: bpm beats
    breaths: breaths breath
    temperature: f fahrenheit celsius
    angle: ° degrees degree
    weight: lb lbs pound pounds kg kgs kilo kilos kilogram kilograms oz ounce ounces stone
    length: cm cms centimeter centimeters centimetre centimetres mm millimeter millimeters millimetre inch inches feet foot ft
    time: year years yr yrs month months week weeks wk wks day days hour hours h hr hrs minute minutes min mins second seconds
    time: am pm o'clock decade decades yo y
    count: tablet tablets tab tabs pill pills capsule capsules cap caps puff puffs drop drops spray sprays times time x
    count: dose doses view views pack packs cigarettes drinks pounds' refills session sessions visit visits steps miles mile blocks
    share: out
    concentration: mmol mol mmoles ng pg iu/l u/l μmol µmol umol nmol pmol meq/l
""")
FACTORS = {
    **dict.fromkeys("mcg mcgs microgram micrograms μg µg ug".split(), 0.001),  # noqa: SIM905
    **dict.fromkeys("g gm gms gram grams l liter liters litre litres".split(), 1000.0),  # noqa: SIM905
    **dict.fromkeys("tsp teaspoon teaspoons".split(), 5.0),  # noqa: SIM905
    "tbsp": 15.0,
    **dict.fromkeys("kg kgs kilo kilos kilogram kilograms".split(), 2.20462),  # noqa: SIM905
    **dict.fromkeys("oz ounce ounces".split(), 0.0625),  # noqa: SIM905
    "stone": 14.0,
}
VITALS = _table("""
    blood pressure: pressure pressures bp systolic diastolic
    heart rate: pulse hr heartrate tachycardic bradycardic
    respiratory rate: respirations respiration respiratory rr resp resps breathing tachypneic
    temperature: temperature temp temps febrile
    oxygen saturation: saturation saturations sat sats satting saturating spo2 sao2 o2 ox oximetry oxygen oxygenation
    weight: weight weighs weighing weighed wt
    bmi: bmi
    height: height ht tall
""")
LABS = _table("""
    a1c: a1c hba1c hgba1c
    hemoglobin: hemoglobin hgb hb haemoglobin
    hematocrit: hematocrit hct
    white cells: wbc wbcs leukocytes
    platelets: platelet platelets plt
    creatinine: creatinine cr
    urea: bun urea
    egfr: gfr egfr
    sodium: sodium na
    potassium: potassium k
    chloride: chloride
    bicarbonate: bicarbonate bicarb
    calcium: calcium
    magnesium: magnesium
    phosphorus: phosphorus phosphate
    glucose: glucose sugar sugars
    cholesterol: cholesterol
    ldl: ldl
    hdl: hdl
    triglycerides: triglycerides triglyceride
    tsh: tsh
    t4: t4
    psa: psa
    inr: inr
    bnp: bnp probnp
    troponin: troponin troponins
    ast: ast sgot
    alt: alt sgpt
    alkaline phosphatase: alp
    bilirubin: bilirubin
    albumin: albumin
    ferritin: ferritin
    iron: tibc
    ejection fraction: ef lvef fraction
    crp: crp
    esr: esr
    lactate: lactate lactic
    acidity: ph
    carbon dioxide: pco2 co2
    anion gap: gap
    vitamin b12: b12 cobalamin
    d-dimer: dimer
    lipase: lipase
    uric acid: uric
    vitamin d: 25oh
    testosterone: testosterone
""")
