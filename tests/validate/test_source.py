"""What a note may say that its source does not say word for word, and what it may not."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgemma_app.validate import validate_soap

DIALOGUE = """[doctor] so ruth is a fifty two year old female with high blood pressure . how are you ?
[patient] i have had a cough for three days . no fever . i take my lysinopril every day , and a baby aspirin .
[doctor] your blood pressure was one twenty eight over eighty eight and your pulse is seventy two . temperature ninety seven . seven .
[doctor] the last hemoglobin a1c was seven point two , and the creatinine point nine . you weigh a hundred and forty pounds .
[doctor] your lungs are clear and your heart sounds good . i hear no wheezing .
[doctor] i want you on lisinopril twenty milligrams twice a day , and amoxicillin five hundred milligrams for the bronchitis ."""
FORM = (
    "Vitals: Blood pressure: 110/77 mmHg; Heart rate: 101 bpm; Temp 37.0 °C; Weight 77 kg\nSex: F\nAge: 41\nMedications: Eliquis 5 mg bid"
)


def note(**sections):
    usual = {"subjective": "Cough for 3 days.", "objective": "Lungs are clear.", "assessment": "Acute bronchitis.", "plan": "Rest."}
    return "\n\n".join(f"{key.upper()}:\n{body}" for key, body in {**usual, **sections}.items())


def codes(text, source=DIALOGUE, *, severity=None):
    issues = validate_soap(text, source=source).issues
    return {issue.code for issue in issues if issue.severity in ((severity,) if severity else ("error", "warning"))}


@pytest.mark.parametrize(
    "objective",
    [
        "Blood pressure 128/88, pulse 72, temperature 97.7 F.",
        "BP: 128/88\nHR: 72\nT: 97.7",
        "Temp 36.5 °C. Weight 63.5 kg.",
        "Hemoglobin A1c of 7.2%. Creatinine 0.9 mg/dL.",
        "2/6 murmur. 5/5 strength. Seen on 03/14/2021. C5-6 is normal. Pain 8/10 in 2019. COVID-19 swab.",
    ],
)
def test_a_value_is_known_however_it_was_spoken(objective):
    assert codes(note(objective=objective)) <= {"unnamed-diagnosis"}


@pytest.mark.parametrize(
    ("objective", "source"),
    [
        ("Blood pressure 128/86.", DIALOGUE),
        ("Pulse 84.", DIALOGUE),
        ("Heart rate 128 bpm.", FORM),
        ("Heart rate 77 bpm.", FORM),
        ("Oxygen saturation 91%.", DIALOGUE),
        ("Hemoglobin A1c 9.4.", DIALOGUE),
        ("Potassium 5.9 mEq/L.", FORM),
        ("Temp 38.4 °C.", FORM),
        ("Weight 97 kg.", FORM),
        ("Lisinopril 35 mg daily.", DIALOGUE),
    ],
)
def test_a_value_that_nobody_gave_is_an_error(objective, source):
    (issue,) = (issue for issue in validate_soap(note(objective=objective), source=source).errors)
    assert issue.code == "invented-value"
    assert issue.excerpt


def test_without_a_source_nothing_is_compared():
    assert validate_soap(note(objective="Heart rate 84.", plan="Start warfarin 7 mg.")).issues == ()


@pytest.mark.parametrize("plan", ["Lisinopril 20 mg bid.", "Continue aspirin 81 mg.", "Amoxicillin 500 mg. Lisinopril 20 mg."])
def test_a_dose_is_the_one_its_drug_was_given(plan):
    assert codes(note(plan=plan)) == set()


def test_the_dose_of_another_drug_is_a_warning():
    source = (
        f"{DIALOGUE}\n{'we talked about the weather and about the family for a long while . ' * 8}\n[doctor] and lasix forty milligrams"
    )
    assert codes(note(plan="Lisinopril 40 mg daily."), source) == {"dose-mismatch"}
    assert codes(note(plan="Lasix 40 mg daily."), source) == set()


SPOKEN = "lisinopril twenty milligrams twice a day , and amoxicillin five hundred every eight hours . tylenol . it is bronchitis , a cough"


@pytest.mark.parametrize(
    ("plan", "wrong"),
    [
        ("Lisinopril 20 mg BID.", False),
        ("Lisinopril 20 mg 2x/day.", False),
        ("Lisinopril 20 mg q12h.", False),
        ("Amoxicillin 500 mg TDS.", False),
        ("Amoxicillin 500 mg three times daily for 7 days.", False),
        ("Lisinopril 5 mg daily.", False),
        ("Lisinopril 20 mg four times a day.", True),
        ("Amoxicillin 500 mg q.i.d.", True),
        ("Tylenol every 4 hours.", True),
    ],
)
def test_a_drug_is_taken_as_often_as_the_source_says(plan, wrong):
    assert ("frequency-mismatch" in codes(note(plan=plan), SPOKEN)) is wrong


@pytest.mark.parametrize("objective", ["Pulse 720.", "BP 1280/88.", "SpO2 108%.", "BP 80/120.", "Temperature 9.7 F.", "Respirations 160."])
def test_a_vital_sign_no_living_patient_has_is_a_warning(objective):
    assert "implausible-vital" in {issue.code for issue in validate_soap(note(objective=objective)).warnings}


@pytest.mark.parametrize(
    "objective", ["Pulse 38.", "BP 240/130.", "SpO2 61%.", "Temp 40.6 C.", "Flexed by 10 degrees.", "A1c in 3 months."]
)
def test_an_extreme_vital_sign_is_none_that_cannot_be(objective):
    assert validate_soap(note(objective=objective)).issues == ()


@pytest.mark.parametrize(
    "subjective", ["A 52-year-old male with cough.", "Sex: male. Cough.", "He coughs. He is tired. His son ails. He rests."]
)
def test_another_sex_than_the_sources_is_an_error(subjective):
    assert codes(note(subjective=subjective), severity="error") == {"wrong-sex"}


def test_kin_and_a_source_that_does_not_say_prove_no_other_sex():
    assert codes(note(subjective="A 52-year-old woman. Her husband is a 60-year-old man."), severity="error") == set()
    assert codes(note(subjective="A man with cough. He rests."), "[doctor] hello . my wife is a nurse", severity="error") == set()


@pytest.mark.parametrize(("age", "source", "wrong"), [(52, DIALOGUE, False), (57, DIALOGUE, True), (41, FORM, False), (14, FORM, True)])
def test_another_age_than_the_sources_is_an_error(age, source, wrong):
    assert ("wrong-age" in codes(note(subjective=f"A {age}-year-old with cough."), source)) is wrong


def test_an_age_the_source_does_not_give_is_no_contradiction():
    assert "wrong-age" not in codes(note(subjective="A 44-year-old with cough."), "[doctor] hello . a cough ? my 5-year-old son has it too")


@pytest.mark.parametrize("plan", ["Zestril daily.", "Continue lisinopril.", "Apixaban 5 mg.", "Give amoxicilin.", "Amoxic 500 mg."])
def test_a_medication_may_have_another_of_its_names(plan):
    assert "unnamed-medication" not in codes(note(plan=plan), f"{DIALOGUE}\n{FORM}")


@pytest.mark.parametrize(
    "plan",
    [
        "Start metoprolol.",
        "Begin Zoloft.",
        "Allergic to codeine.",
        "Start somethingprazole.",
        "Bosentan 125 mg daily.",
        "Allergic to shellfish.",
    ],
)
def test_a_medication_the_source_does_not_name_is_a_warning(plan):
    assert "unnamed-medication" in codes(note(plan=plan))


def test_an_insulin_is_insulin_and_a_brand_of_two_drugs_names_both():
    source = f"{DIALOGUE} you take lantus and percocet"
    assert codes(note(plan="Continue insulin. Continue acetaminophen. Increased 20 mg lisinopril."), source) == set()


@pytest.mark.parametrize(
    "assessment", ["Hypertension.", "Acute bronchitis.", "No evidence of pneumonia.", "Screening for osteoporosis.", "Diabetes."]
)
def test_a_diagnosis_may_follow_from_the_words_of_patients(assessment):
    assert codes(note(assessment=assessment)) == set()


@pytest.mark.parametrize(
    "assessment", ["Atrial fibrillation.", "History of gout.", "Likely pulmonary embolism.", "Uveitis.", "Marfan syndrome."]
)
def test_a_diagnosis_the_source_gives_no_reason_for_is_a_warning(assessment):
    assert codes(note(assessment=assessment)) == {"unnamed-diagnosis"}


@pytest.mark.parametrize(
    ("objective", "code"),
    [
        ("Abdomen soft, non-tender.", "unmentioned-exam"),
        ("Lungs are clear. No wheezes.", None),
        ("Denies dysuria.", "unmentioned-denial"),
        ("Denies fever.", None),
    ],
)
def test_a_normal_examination_or_a_denial_needs_a_word_in_the_source(objective, code):
    assert codes(note(objective=objective)) == ({code} if code else set())


@pytest.mark.parametrize(
    ("source", "text", "code"),
    [
        ("Medications: warfarin", note(), "omitted-medication"),
        ("Medications: Coumadin", note(plan="Continue warfarin."), None),
        ("Heart rate: 80", note(), "omitted-vital"),
        ("Heart rate: 80", note(objective="Pulse 80."), None),
        ("Chief complaint: dizziness", note(), "omitted-complaint"),
        ("Chief complaint: coughing", note(), None),
        ("She is allergic to shellfish .", note(), "omitted-allergy"),
        ("Allergies: none", note(), None),
    ],
)
def test_what_the_note_leaves_out_is_a_remark(source, text, code):
    assert codes(text, f"cough , lungs , bronchitis .\n{source}", severity="info") == ({code} if code else set())


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        ("Denies chest pain.", "She reports chest pain.", True),
        ("Denies chest pain.", "She reports chest pain last week.", False),
        ("Denies chest pain.", "She denies nausea, but reports cough.", False),
        ("No known drug allergies.", "Allergic to penicillin.", True),
        ("Lungs are clear.", "There are wheezes at the bases.", True),
        ("Lungs are clear.", "No wheezes.", False),
        ("No murmur.", "A murmur is heard.", True),
        ("Non-smoker.", "She smokes 10 cigarettes.", True),
        ("NKDA.", "Allergies: penicillin.", True),
        ("Lifelong nonsmoker.", "Smokes 1 pack per day.", True),
        ("Lifelong nonsmoker.", "Her husband smokes 1 pack per day.", False),
        ("Lungs: CTAB.", "Crackles at the right base.", True),
        ("No fever.", "Presents with fever for two days.", True),
        ("Abdomen: soft, nontender.", "Severe tenderness with guarding.", True),
        ("No history of diabetes.", "Diabetes mellitus type 2.", True),
        ("No history of diabetes.", "Mother: type 2 diabetes.", False),
        ("Does not drink alcohol.", "Drinks 3 beers nightly.", True),
    ],
)
def test_a_note_that_contradicts_itself_gets_a_warning(one, other, clash):
    found = {issue.code for issue in validate_soap(note(subjective=f"Cough. {one}", objective=other)).warnings}
    assert found == ({"contradiction"} if clash else set())


def test_a_section_given_again_under_another_heading_is_a_warning():
    history = "She has coughed for three days, mostly at night, with a little clear sputum, and she sleeps badly because of it all."
    assert codes(note(subjective=history, plan=f"{history} Rest."), None) == {"repeated-section"}
    assert (
        codes(
            note(subjective=history, plan="She has coughed for three days. Rest, fluids, and honey at night, as much as she likes of it."),
            None,
        )
        == set()
    )


def test_an_answer_in_another_language_is_a_warning_unless_the_source_is_in_it_too():
    spanish = "La paciente presenta tos desde hace tres días, sin fiebre. Los pulmones están claros y el corazón es normal."
    assert codes(note(subjective=spanish, objective=spanish), None) >= {"other-language"}
    assert "other-language" not in codes(note(subjective=spanish, objective=spanish), f"{spanish} {spanish}")


def test_a_text_of_no_natural_length_is_not_compared_and_says_so():
    assert "not-checked" in codes(note(), "cough " * 50_000, severity="info")


PIECES = [
    "one",
    "hundred",
    "120/80",
    "BP",
    " ",
    "\n",
    "point",
    ".5",
    "mg",
    "½",
    "²",
    "٣",
    "lisinopril",
    "denies",
    "cough",
    "9" * 400,
    "-",
    "year-old",
]
TEXTS = st.text(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=30).map(" ".join) | st.lists(st.sampled_from(PIECES)).map("".join)


@settings(max_examples=150, deadline=None)
@given(TEXTS, TEXTS)
def test_any_text_and_any_source_get_an_answer(text, source):
    for issue in validate_soap(note(objective=text), source=source).issues:
        assert "\n" not in issue.message
        assert len(issue.excerpt) <= 80


@pytest.mark.parametrize("trap", ["one ", "1/", "5 mg ", "denies chest pain ", "lisinopril 5 mg ", "no ", "a" * 29 + " ", "9", "twenty "])
def test_the_longest_texts_that_are_compared_take_seconds(trap):
    text, source = trap * (39_000 // len(trap)), trap * (149_000 // len(trap))
    begun = time.process_time()
    validate_soap(note(subjective=text), source=source)
    assert time.process_time() - begun < 20


def told(subjective, source, **sections):
    judged = validate_soap(note(subjective=subjective, **sections), source=f"a cough . lungs are clear . bronchitis . {source}")
    return {issue.code for issue in judged.issues if issue.severity != "info"}


def test_degrees_and_gauges_say_nothing_of_the_sex():
    assert (
        told("John is here. He coughs.", "you are a sixty five year old male , temperature ninety eight point six", objective="T 98.6 F.")
        == set()
    )
    assert told("63 y/o M with cough.", "you are a sixty three year old female", objective="T 98.6 F.") >= {"wrong-sex"}


@pytest.mark.parametrize(
    ("subjective", "code"),
    [
        ("45F with cough.", None),
        ("45F, G1P0, cough.", None),
        ("Age: 45. Cough.", None),
        ("54F with cough.", "wrong-age"),
        ("Age: 54. Cough.", "wrong-age"),
        ("Patient is 54 years of age.", "wrong-age"),
        ("45M with cough.", "wrong-sex"),
    ],
)
def test_sex_and_age_in_the_short_forms_of_clinicians(subjective, code):
    assert told(subjective, "a forty five year old female") == ({code} if code else set())


@pytest.mark.parametrize(
    "plan",
    [
        "INR goal 2-3.",
        "Goal A1c 7%.",
        "Goal SpO2 88-92%.",
        "Keep saturations 90% or above.",
        "Lose 10 pounds by next visit.",
        "Call if weight increases by 3 lb in a day or 5 lb in a week.",
    ],
)
def test_a_goal_or_a_threshold_is_no_error(plan):
    source = "the i n r is two point four , a one c eight point one , oxygen is ninety five percent , weight two hundred pounds , a cough"
    assert validate_soap(note(plan=plan), source=source).errors == ()


@pytest.mark.parametrize("text", ["Blood pressure is above goal at 150/95.", "Continue lisinopril (40 mg)."])
def test_what_is_held_against_a_goal_or_put_in_brackets_is_a_value_all_the_same(text):
    source = "a cough , bronchitis , lungs clear , b p one twenty over seventy , lisinopril ten milligrams"
    assert {issue.code for issue in validate_soap(note(objective=text), source=source).errors} == {"invented-value"}


def test_a_value_in_words_is_one_all_the_same():
    source = "b p one twenty over seventy , pulse seventy , ibuprofen six hundred milligrams"
    assert told("Cough.", source, objective="BP one twenty over seventy. Take six hundred milligrams of ibuprofen.") == set()
    assert "invented-value" in told("Cough.", source, objective="Heart rate of one hundred ten.")
    assert "invented-value" in told("Cough.", source, plan="Take two hundred milligrams of ibuprofen.")


def test_an_allergy_that_the_note_denies_is_a_warning():
    assert told("Allergies: NKDA. Cough.", "i am allergic to penicillin") == {"omitted-allergy"}
    assert told("Allergies: NKDA. Cough.", "are you allergic to penicillin ? no") == set()
