"""The medications of a note against its source: doses of another drug, tenfold doses, and drugs that the source takes back."""

import pytest
from drafts import note

from medgemma_app.validate import validate_soap


def found(plan, source):
    """The codes of a note whose plan says something."""
    return {issue.code for issue in validate_soap(note(objective="Normal.", plan=plan), source=source).issues}


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
        ("naproxen 500 mg BID, metformin 1000 mg", "Naproxen 500 mg twice daily (1000 mg/day).", False),
        ("naproxen 500 mg BID, metformin 1000 mg", "Naproxen 1000 mg.", True),
        ("augmentin 875 mg, pregabalin 125 mg", "Augmentin 875/125 mg.", False),
        ("augmentin 875 mg, pregabalin 125 mg", "Augmentin 125 mg.", True),
        ("naproxen 500 mg, metformin 1000 mg", "Naproxen at most 1000 mg.", True),
        ("naproxen 500 mg, metformin 1000 mg", "Naproxen up to 1000 mg.", False),
        ("toma metformina 850 mg y losartán, furosemida 40 mg", "Metformina 40 mg.", True),
        ("Metformin 1.000 mg, Ibuprofen 1 mg", "Metformin 1000 mg.", False),
    ],
)
def test_a_dose_is_that_of_its_drug(source, plan, wrong):
    assert ("dose-mismatch" in found(plan, source)) is wrong


@pytest.mark.parametrize(
    ("source", "plan", "wrong"),
    [
        ("Takes warfarin 5 mg.", "Continue warfarin 50 mg.", True),
        ("Takes warfarin 50 mg.", "Continue warfarin 5 mg.", True),
        ("Takes warfarin 5 mg.", "Continue warfarin 5 mg.", False),
        ("Takes warfarin 5 mg.", "Increase warfarin to 10 mg.", False),
        ("Takes warfarin 5 mg. Later 50 mg.", "Warfarin 50 mg.", False),
        ("Warfarin 2.5 mg on Mondays, else 5 mg.", "Warfarin 25 mg.", True),
        ("Takes metformin 0.5 g.", "Metformin 500 mg.", False),
        ("Takes metformin 0.5 g.", "Metformin 5000 mg.", True),
        ("Levothyroxine 100 mcg.", "Levothyroxine 1 mg.", True),
        ("insulin glargine 20 units at night", "Insulin glargine 200 units.", True),
        ("Lactulose 15 mL.", "Lactulose 150 mg.", False),
        ("Ibuprofen 10 mg/kg, weight 10 kg.", "Ibuprofen 100 mg.", False),
        ("Methotrexate, ten 2.5 mg tablets a week.", "Methotrexate 25 mg.", False),
        ("Methotrexate 2.5 mg, 10 tablets a week.", "Methotrexate 25 mg.", False),
        ("Methotrexate 2.5 mg x 10 a week.", "Methotrexate 25 mg.", False),
        ("Cephalexin two fifty milligrams per five mils, ten mils.", "Cephalexin 500 mg.", False),
        ("Takes lisinopril 0 mg.", "Lisinopril 5 mg.", False),
        ("Takes lisinopril 20 mg and warfarin 5 mg.", "Lisinopril 50 mg.", False),
    ],
)
def test_a_dose_is_not_ten_times_or_a_tenth_of_the_one_in_the_source(source, plan, wrong):
    assert ("dose-mismatch" in found(plan, source)) is wrong


@pytest.mark.parametrize("mark", ["REFUTED", "NOT DONE", "NOT TAKEN", "STOPPED", "DO NOT PERFORM"])
def test_what_a_source_takes_back_supports_nothing_affirmed(mark):
    assert found("HR 99.", f"a cough\n{mark}: HR 99") == {"invented-value"}
    assert found("Metformin 500 mg.", f"a cough\n{mark}: metformin 500 mg") == {"stopped-medication"}
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
    assert ("stopped-medication" in found(plan, source)) == is_found


def test_an_issue_says_where_it_is_and_what_the_source_says_instead():
    source = "a cough , bronchitis , lungs . Amoxicillin 875 mg BID. Lisinopril 500 mg."
    text = note(objective="Normal.", plan="Amoxicillin 500 mg BID.")
    (issue,) = validate_soap(text, source=source).issues
    assert (issue.code, issue.found, issue.expected) == ("dose-mismatch", "Amoxicillin 500 mg", "875 mg")
    assert text[issue.start : issue.end] == "Amoxicillin 500 mg"
    assert source[issue.source_start : issue.source_end] == "Amoxicillin 875 mg"
    assert issue.message == "the note says Amoxicillin 500 mg, the source 875 mg"


def test_the_message_about_a_tenfold_dose_names_the_drug_and_both_doses():
    source = "Warfarin 2.5 mg on Mondays, else 5 mg."
    (issue,) = validate_soap(note(objective="Normal.", plan="Warfarin 50 mg."), source=source).issues
    assert (issue.severity, issue.message) == ("warning", "the note says Warfarin 50 mg, the source 5 mg")
    assert source[issue.source_start : issue.source_end] == "Warfarin 2.5 mg on Mondays, else 5 mg"
