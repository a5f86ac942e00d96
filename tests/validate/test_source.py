"""What a note says of the patient, against what its source says: one table a rule, with cases that must and cases that must not fire."""

import pytest
from drafts import note
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
            1 | SpO2 98%.
            1 | Temperature 101.2 F.
            1 | T 101.2 HR 72.
            0 | T 98.4 HR 72.
            1 | Potassium 4.1.
            0 | A 3/6 systolic murmur.
            0 | Goal BP below 130/80. Lose 10 pounds.
            0 | BP 130/70. | TA 13/7, fièvre
            0 | HR 102, BP 142/78. | 102 - 24 - 142/78
            0 | Seen on 03/14/2021. COVID-19 swab. C5-6 is normal. Strength 5/5.
            """,
        )
        == []
    )


@pytest.mark.parametrize(
    ("source", "expected", "message"),
    [
        (WRITTEN, "128/88", "the note says blood pressure 138/88, the source 128/88"),
        ("[doctor] BP 128/88 .\n" * 4, None, "the note says blood pressure 138/88, which the source does not give"),
        ("a cough", None, "the note says blood pressure 138/88, which the source does not give"),
    ],
    ids=["written", "dialogue", "without"],
)
def test_the_message_names_the_value_of_a_written_source(source, expected, message):
    (issue,) = (one for one in validate_soap(note(objective="BP 138/88."), source=source).errors if one.code == "invented-value")
    assert (issue.found, issue.expected, issue.message) == ("blood pressure 138/88", expected, message)
    assert (source[issue.source_start : issue.source_end] if expected else issue.source_start) == expected


def test_spoken_values_are_those_of_the_note():
    assert (
        fires(
            "invented-value",
            """
            0 | Blood pressure 128/88, pulse 72, temperature 97.7 F. Weight 63.5 kg. A1c 7.2%. Creatinine 0.9 mg/dL.
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
            0 | RR 128/84 mmHg.
            1 | Blutdruck 182/84.
            """,
            german,
        )
        == []
    )


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


def test_a_normal_examination_needs_a_word_in_the_source():
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


def test_several_sources_are_one():
    text = note(objective="BP 120/80. Lungs are clear.", plan="Lisinopril 20 mg.")
    assert validate_soap(text, source=["cough , bronchitis , lungs clear , BP 120/80", "lisinopril 20 mg"]).issues == ()


def test_without_a_source_nothing_is_compared():
    assert validate_soap(note(objective="Heart rate 84.", plan="Start warfarin 7 mg.")).issues == ()


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
    ("source", "age", "expected"),
    [
        ("An eighteen month old boy has a cough.", "18-month-old", None),
        ("An eighteen month old boy has a cough.", "18-year-old", ("18 years", "18 months")),
        ("A forty year old man has a cough.", "40-year-old", None),
        ("A forty year old man has a cough.", "45-year-old", ("45 years", "40 years")),
        ("A one year old girl has a cough.", "27-month-old", ("27 months", "1 year")),
        ("A 6-week-old girl has a cough.", "6-week-old", None),
        ("A 6-week-old girl has a cough.", "14-week-old", ("14 weeks", "6 weeks")),
        ("A 10-day-old girl has a cough.", "10-week-old", ("10 weeks", "10 days")),
        ("Hospital day three. Eighty one year old man.", "61-year-old", ("61 years", "81 years")),
    ],
)
def test_an_age_has_its_unit_and_is_told_in_it(source, age, expected):
    note = f"SUBJECTIVE: {age} with a cough.\n\nOBJECTIVE: Well.\n\nASSESSMENT: Cough.\n\nPLAN: Rest."
    wrong = [(issue.found, issue.expected) for issue in validate_soap(note, source=source).errors if issue.code == "wrong-age"]
    assert wrong == ([expected] if expected else [])
