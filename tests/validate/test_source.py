"""What a note says of the patient, against what its source says: one table a rule, with cases that must and cases that must not fire."""

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
WRITTEN = """58 y/o M with fever and R knee pain x 3 d after a fall. No chest pain. Allergies: penicillin (hives).
Meds: metformin 500 mg BID, lisinopril 20 mg daily, ASA 81.
BP 128/88, HR 72, T 98.4, SpO2 97%. R knee swollen. L hip normal. Lungs clear.
A: knee effusion. P: start naproxen 500 mg BID x 7 d. Stop metformin. Recheck in 2 wk."""
NOTE = {"subjective": "Cough.", "objective": "Lungs are clear.", "assessment": "Acute bronchitis.", "plan": "Rest."}


def note(**sections):
    return "\n\n".join(f"{key.upper()}:\n{body}" for key, body in {**NOTE, **sections}.items())


def found(plan, source, *, severity=("error", "warning")):
    """The codes of a note whose plan says something."""
    text = note(subjective="Knee pain.", objective="Normal.", assessment="Effusion.", plan=plan)
    return {issue.code for issue in validate_soap(text, source=source).issues if issue.severity in severity}


def fires(code, table, source=WRITTEN):
    """The lines of a table, "1 | text" where the code must fire and "0 | text" where it must not, that go wrong."""
    lines = [line.strip().split(" | ") for line in table.strip().splitlines()]
    return [line for line in lines if (code in found(line[1], line[2] if len(line) > 2 else source)) != (line[0] == "1")]


def test_a_value_in_the_note_is_that_of_the_same_thing_in_the_source():
    assert (
        fires(
            "invented-value",
            """
            0 | BP 128/88, pulse 72, temperature 98.4 F, SpO2 97%.
            0 | T: 36.9 °C. HR: 72 bpm.
            1 | BP 138/88.
            1 | HR 99.
            0 | Weight 79 kg, a gain of 8 kg. | weight 79 kg, booking 71 kg
            0 | Skin temperature left 32.4 °C, right 30.6 °C. | T 36.8. skin temp L 32.4 R 30.6
            0 | Weight 3,250 g. | he has a weight of 3,250, and that is fine
            0 | FEV1 72% of predicted.
            0 | 1. Two units of red cells. | give two units of blood
            0 | 1. 2 units of red cells. | give 2 units of blood
            1 | SpO2 98%.
            1 | Temperature 101.2 F.
            1 | Potassium 4.1.
            1 | Lisinopril 40 mg daily.
            0 | A 3/6 systolic murmur.
            0 | Goal BP below 130/80. Lose 10 pounds.
            0 | BP 130/70. | TA 13/7, fièvre
            0 | HR 102, BP 142/78. | 102 - 24 - 142/78
            0 | Naproxen 500 mg twice daily (1000 mg/day).
            0 | Seen on 03/14/2021. COVID-19 swab. C5-6 is normal. Strength 5/5.
            """,
        )
        == []
    )


def test_a_vital_sign_that_nobody_measured_is_an_error_and_a_dose_that_may_be_a_total_is_a_warning():
    assert found("HR 99.", WRITTEN, severity=("error",)) == {"invented-value"}
    assert found("Lisinopril 40 mg daily.", WRITTEN, severity=("warning",)) == {"invented-value"}


@pytest.mark.parametrize(
    ("plan", "source", "expected"),
    [
        ("Amoxicillin 500 mg.", "Amoxicillin 875 mg twice a day.", "875 mg"),
        ("Amoxicillin 500 mg.", "Start Amoxil tablets 875 mg. Amoxicillin 875 mg BID, cetirizine 10 mg.", "875 mg"),
        ("Amoxicillin 500 mg.", "Amoxicillin 875 mg, then amoxicillin 250 mg.", None),
        ("Amoxicillin 500 mg.", "Amoxicillin 250 mg. Increase amoxicillin to 875 mg.", None),
        ("Amoxicillin 500 mcg.", "Amoxicillin 875 mg.", None),
        ("Amoxicillin 500 mg.", "Amoxicillin, cetirizine 10 mg.", None),
        ("Amoxicillin 500 mg.", "No amoxicillin. Cetirizine 10 mg.", None),
        ("Amoxicillin 500 mg.", "Amoxicillin\ncetirizine 10 mg", None),
        ("Amoxicillin 500 mg.", "Amoxicillin or cetirizine 10 mg", None),
        ("Amoxicillin 500 mg.", "[doctor] amoxicillin 875 mg for the ear .\n[patient] thank you doctor .", None),
    ],
)
def test_a_dose_that_is_not_in_the_source_is_beside_the_only_one_that_it_gives_this_drug(plan, source, expected):
    [issue] = [one for one in validate_soap(note(plan=plan), source=source).issues if one.code == "invented-value"]
    assert issue.expected == expected
    assert issue.message.endswith(f"the source {expected}" if expected else "which the source does not give")
    assert (source[issue.source_start : issue.source_end] if expected else issue.source_start) == expected


def test_spoken_values_are_those_of_the_note():
    assert (
        fires(
            "invented-value",
            """
            0 | Blood pressure 128/88, pulse 72, temperature 97.7 F. Weight 63.5 kg. A1c 7.2%. Creatinine 0.9 mg/dL.
            0 | Aspirin 81 mg.
            1 | Blood pressure 128/86.
            1 | Heart rate 84.
            1 | Hemoglobin A1c 9.4.
            """,
            DIALOGUE,
        )
        == []
    )


def test_a_decimal_comma_is_a_decimal_point():
    german = "Patient mit Husten seit 3 Tagen. Kreatinin 0,9 mg/dl, Temp 38,2 °C, RR 130/80. Metoprolol 47,5 mg und Metformin 1.000 mg."
    assert (
        fires(
            "invented-value",
            """
            0 | Creatinine 0.9 mg/dL, T 38.2 °C, BP 130/80. Metoprolol 47.5 mg. Metformin 1000 mg.
            0 | Kreatinin 0,9 mg/dl. Metoprolol 47,5 mg.
            1 | Creatinine 9 mg/dL.
            1 | T 39.2 °C.
            0 | Fosfomycin 3 g.
            """,
            german,
        )
        == []
    )


def test_in_another_language_only_what_the_source_names_in_digits_is_checked():
    german = "Arzt: Guten Tag.\nPatientin: Ich nehme Ibuprofen vierhundert.\nArzt: Der Blutdruck ist 128 zu 84.\nPatientin: Gut."
    assert (
        fires(
            "invented-value",
            """
            0 | Ibuprofen 400 mg.
            0 | RR 128/84 mmHg.
            1 | Blutdruck 182/84.
            """,
            german,
        )
        == []
    )


@pytest.mark.parametrize(
    ("source", "plan", "wrong"),
    [
        ("metformin 1000 mg BID, lisinopril 20 mg daily", "Metformin 1000 mg. Lisinopril 20 mg.", False),
        ("metformin 1000 mg BID, lisinopril 20 mg daily", "Metformin 20 mg. Lisinopril 1000 mg.", True),
        ("20 mg of lasix and 10 mg of lisinopril", "Lasix 10 mg.", True),
        ("20 mg of lasix and 10 mg of lisinopril", "Furosemide 20 mg.", False),
        ("pantoprazole 40 daily, ferrous sulfate 325 daily", "Pantoprazole 325 mg.", True),
        ("levothyroxine 125 mcg daily. Go to 137 if still high.", "Levothyroxine 137 mcg.", False),
        ("i take ibuprofen six hundred six hundred milligrams and aspirin eighty one milligrams", "Ibuprofen 600 mg.", False),
        ("i take ibuprofen six hundred six hundred milligrams and aspirin eighty one milligrams", "Ibuprofen 81 mg.", True),
        ("take tamsulosin point four milligrams , and ondansetron four milligrams as you need", "Tamsulosin 4 mg.", True),
        ("take half a tablet of the metoprolol fifty milligrams", "Metoprolol 25 mg.", False),
        ("enoxaparin 1 mg/kg bd, weight 70 kg, lisinopril 20 mg", "Enoxaparin 70 mg twice daily.", False),
        ("amlodipine 5 mg, metoprolol 25 mg; up the amlodipine by 5 mg", "Amlodipine 10 mg.", False),
    ],
)
def test_a_dose_is_that_of_its_drug(source, plan, wrong):
    assert ("dose-mismatch" in found(plan, source)) is wrong


def test_a_number_with_a_label_that_no_list_has_may_be_any_value():
    source = (
        "59F. K 4.1, AG 28, bili 0.5, PCT 0.4, lac 1.9, Mg 1.8. Gewicht 82,4 kg. BP 140s-150s over 70s. Wt 79.3 (80.0 in May). T 99.1 F."
    )
    assert (
        fires(
            "invented-value",
            f"""
            0 | Anion gap 28, bilirubin 0.5, procalcitonin 0.4, lactate 1.9, magnesium 1.8. | {source}
            0 | Weight 82.4 kg (BMI 27.1). Weight change -0.7 kg. A1c +0.6. | {source}
            0 | Temperature 99.1 F (37.3 C). A 59F. | {source}
            0 | Compression stockings 20-30 mmHg. Pain 8/10. | stockings 20-30, pain 8
            1 | Potassium 4.9. | {source}
            1 | Lactate 2.7. | {source}
            1 | Weight 84.2 kg. | {source}
            """,
        )
        == []
    )


@pytest.mark.parametrize(
    ("source", "subjective", "code"),
    [
        (DIALOGUE, "A 52-year-old woman.", None),
        (DIALOGUE, "A 57-year-old woman.", "wrong-age"),
        (DIALOGUE, "A 52-year-old male.", "wrong-sex"),
        ("Mr. Abara is a thirty nine year old man", "Mr. Abara is a 39-year-old woman.", "wrong-sex"),
        (DIALOGUE, "A 52-year-old woman. Her husband is a 60-year-old man. He drove.", None),
        (DIALOGUE, "A 52-year-old woman. She coughs. He sleeps badly.", None),
        (WRITTEN, "58M with knee pain.", None),
        (WRITTEN, "85M with knee pain.", "wrong-age"),
        (WRITTEN, "58-year-old woman with knee pain.", "wrong-sex"),
        ("age: 9 mo, sex: F", "A 19-month-old girl.", "wrong-age"),
        ("2-year-old boy with a rash", "A 27-month-old boy with a rash.", None),
        ("2-year-old boy with a rash", "A 40-month-old boy with a rash.", "wrong-age"),
        ("Sex: F. Age: 41.", "A 41-year-old woman.", None),
        ("my 5-year-old son has a cough", "A 44-year-old man.", None),
        ("a cough since i was eight years old , you know", "A 25-year-old woman.", None),
        ("T 98.6 F, a 45 year old male", "John coughs. He is tired.", None),
    ],
)
def test_sex_and_age_are_those_of_the_source(source, subjective, code):
    issues = validate_soap(note(subjective=subjective), source=source).issues
    assert {issue.code for issue in issues} & {"wrong-age", "wrong-sex"} == ({code} if code else set())


def test_a_drug_is_named_in_the_source_by_one_of_its_names():
    assert (
        fires(
            "unnamed-medication",
            """
            0 | Zestril daily. Glucophage. Aspirin.
            0 | Give lisinoprill.
            1 | Start metoprolol.
            0 | Avoid NSAIDs.
            1 | Begin Zoloft.
            1 | Start somethingprazole.
            1 | Allergic to codeine.
            0 | Continue insulin. | you take lantus , you know
            0 | Continue acetaminophen. | you take two percocets , you know
            0 | Metformina 850. | Metformin 850 mg
            0 | Co-amoxiclav, piperacillin-tazobactam and dexamethasone. | on co-amox, pip-taz, dex 6.6
            """,
        )
        == []
    )


def test_a_normal_examination_or_a_denial_needs_a_word_in_the_source():
    assert (
        fires(
            "unmentioned-exam",
            """
            1 | Abdomen is soft, non-tender.
            0 | Lungs are clear. No wheezes.
            0 | Alert and oriented.
            1 | Neck supple.
            0 | No cyanosis. | no cyanosis seen
            """,
        )
        == []
    )
    assert (
        fires(
            "unmentioned-denial",
            """
            1 | Denies dysuria and cough.
            0 | Denies fever and chest pain.
            0 | Denies dysuria. | no burning when i pee , you know
            """,
        )
        == []
    )


def test_one_warning_names_all_denials_that_the_source_does_not_speak_of():
    (issue,) = (
        one for one in validate_soap(note(plan="Denies dysuria. Denies rash."), source=DIALOGUE).issues if one.code == "unmentioned-denial"
    )
    assert issue.found == "dysuria, rash"


@pytest.mark.parametrize("mark", ["REFUTED", "NOT DONE", "NOT TAKEN", "STOPPED", "DO NOT PERFORM"])
def test_what_a_source_takes_back_supports_nothing_affirmed(mark):
    assert found("Metformin 500 mg.", f"a cough\n{mark}: metformin 500 mg") & {"invented-value", "unnamed-medication"}
    assert found("Metformin 500 mg.", "a cough\nTaken: metformin 500 mg") == set()


@pytest.mark.parametrize(
    ("plan", "is_found"),
    [
        ("Continue warfarin.", True),
        ("Warfarin was stopped.", False),
        ("Do not restart warfarin; continue ramipril.", False),
        ("Warfarin was stopped. Continue warfarin.", True),
        ("Ramipril was stopped. Continue warfarin.", True),
        ("Stop ramipril; continue warfarin.", True),
    ],
)
def test_a_drug_that_the_source_takes_back_may_be_named_only_as_such(plan, is_found):
    source = "a cough\nSTOPPED: Medication request: Warfarin\nramipril"
    assert ("unnamed-medication" in found(plan, source)) == is_found


def test_several_sources_are_one():
    text = note(objective="BP 120/80. Lungs are clear.", plan="Lisinopril 20 mg.")
    assert validate_soap(text, source=["cough , bronchitis , lungs clear , BP 120/80", "lisinopril 20 mg"]).issues == ()


def test_without_a_source_nothing_is_compared():
    assert validate_soap(note(objective="Heart rate 84.", plan="Start warfarin 7 mg.")).issues == ()


def test_an_issue_says_where_it_is_and_what_the_source_says_instead():
    source = "a cough , bronchitis , lungs . Amoxicillin 875 mg BID. Lisinopril 500 mg."
    text = note(plan="Amoxicillin 500 mg BID.")
    (issue,) = (one for one in validate_soap(text, source=source).issues if one.severity == "warning")
    assert (issue.code, issue.found, issue.expected) == ("dose-mismatch", "Amoxicillin 500 mg", "875 mg")
    assert text[issue.start : issue.end] == "Amoxicillin 500 mg"
    assert source[issue.source_start : issue.source_end] == "Amoxicillin 875 mg"
    assert issue.message == "the note says Amoxicillin 500 mg, the source 875 mg"


def test_a_text_of_no_natural_length_is_not_compared_and_says_so():
    assert "not-checked" in {issue.code for issue in validate_soap(note(), source="cough " * 50_000).issues}


PIECES = [
    "one",
    "hundred",
    "120/80",
    "BP",
    " ",
    "\n",
    "point",
    ".5",
    "0,5",
    "mg",
    "½",
    "²",
    "٣",
    "lisinopril",
    "denies",
    "cough",
    "9" * 400,
    "-",
]
PIECES += ["year-old", "left", "knee", "for 7 days", "twice a day", "allergic to", "start", "he", "x3d", "STOPPED:"]
TEXTS = st.text(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=30).map(" ".join) | st.lists(st.sampled_from(PIECES)).map("".join)


@settings(max_examples=150, deadline=None)
@given(TEXTS, TEXTS)
def test_any_text_and_any_source_get_an_answer(text, source):
    for issue in validate_soap(note(objective=text), source=source).issues:
        assert "\n" not in issue.message
        assert len(issue.excerpt) <= 80


@pytest.mark.parametrize(
    ("source", "age", "wrong"),
    [
        ("An eighteen month old boy has a cough.", "18-month-old", False),
        ("An eighteen month old boy has a cough.", "18-year-old", True),
        ("A forty year old man has a cough.", "40-year-old", False),
        ("A forty year old man has a cough.", "45-year-old", True),
    ],
)
def test_an_age_in_words_has_its_unit(source, age, wrong):
    note = f"SUBJECTIVE: {age} with a cough.\n\nOBJECTIVE: Well.\n\nASSESSMENT: Cough.\n\nPLAN: Rest."
    assert ("wrong-age" in {issue.code for issue in validate_soap(note, source=source).errors}) == wrong
