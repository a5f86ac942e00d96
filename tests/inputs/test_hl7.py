"""HL7 version 2 messages: what they say, for whom, and what later ones take back."""

import base64

import pytest
from resources import read

from medgemma_app.errors import InputError

SAID = "Cough for two weeks."


def message(*segments, number="12345"):
    head = ["MSH|^~\\&|LAB|H|EHR|H|20240506||ORU^R01|1|P|2.5", f"PID|1||{number}^^^H^MR||DOE^JANE||19700203|F"]
    return "\r".join([*head, *segments]) + "\r"


def test_a_message_is_told_segment_by_segment_without_what_it_takes_back():
    notes = read(message(
        "OBR|1|||^Glucose panel|||202405060900||||||||||||||||||F",
        "OBX|1|NM|2345-7^Glucose^LN||182|mg/dL|70-99|H|||F",
        "OBX|2|NM|2823-3^Potassium^LN||8.9|mmol/L|3.5-5.1|HH|||W",
        "OBX|3|SN|6301-6^INR^LN||>^2.5||||||F",
        "OBX|4|TX|1^Comment||First line||||||F", "OBX|5|TX|1^Comment||and \\T\\ last\\.br\\one||||||F",
        "NTE|1||Repeat fasting", "DG1|1||E11.9^Type 2 diabetes^I10", "AL1|1|DA|^Penicillin||Rash",
        "ORC|CA|1", "RXE||^Heparin|5||mg", "ORC|DC|2", "RXE||^Warfarin|5||mg", "ORC|NW|3", "RXE||^Ramipril|2.5||mg", "ZZZ|1|x",
    ))  # fmt: skip
    assert notes.text.splitlines() == [
        "Patient: female; birth date: 1970-02-03",
        "Report: Glucose panel; date: 2024-05-06",
        "Observation: Glucose: 182 mg/dL; reference range: 70-99; flag: H",
        "Observation: INR: >2.5",
        "Observation: Comment: First line",
        "and & last",
        "one",
        "Comment: Repeat fasting",
        "Diagnosis: Type 2 diabetes",
        "Allergy: Penicillin; drug; reaction: Rash",
        "STOPPED: Medication: Warfarin 5 mg",
        "Medication: Ramipril 2.5 mg",
    ]
    assert notes.facts["left_out"] == ["order (cancelled)", "result (entered in error)", "segment ZZZ"]


def test_what_an_order_a_report_or_a_result_takes_back_goes_with_all_that_belongs_to_it():
    report, result = "OBR|{}|||^{}|||202405060900||||||||||||||||||{}", "OBX|1|NM|1^{}||{}|mg/dL|||||{}"
    notes = read(message(
        report.format(1, "Chemistry", "X"), result.format("Sodium", 199, "F"), "NTE|1||clotted",
        report.format(2, "Chemistry", "F"), result.format("Glucose", 182, "F"), "NTE|1||fasting",
        result.format("Potassium", "8.9", "W"), "NTE|1||potassium is 8.9",
        "ORC|SC|1|||CA", "RXE||^Heparin|5||mg", "ORC|SC|1|||DC", "RXE||^Warfarin|5||mg", "TXA|1|OP^Sepsis||20240506|||||||||||||||CA",
    ))  # fmt: skip
    assert notes.text.splitlines()[1:] == [
        "Report: Chemistry; date: 2024-05-06", "Observation: Glucose: 182 mg/dL", "Comment: fasting", "STOPPED: Medication: Warfarin 5 mg",
    ]  # fmt: skip
    assert notes.facts["left_out"] == [
        "comment on report (cancelled)", "comment on result (entered in error)", "document (cancelled)", "order (cancelled)",
        "report (cancelled), 2 times", "result (entered in error)",
    ]  # fmt: skip


def test_visits_procedures_and_attached_text_of_a_message_are_told():
    said = base64.b64encode(SAID.encode()).decode()
    notes = read(message(
        "PV1|1" + "|" * 43 + "202405061030", "PR1|1||44950^Appendectomy||20240507", "PR1|2||1^Biopsy" + "|" * 17 + "D",
        f"OBX|1|ED|1^Letter||^TEXT^plain^Base64^{said}||||||F", "OBX|2|ED|1^Scan||^IM^png^Base64^iVBORw0KGgo=||||||F",
    ))  # fmt: skip
    assert notes.text.splitlines()[1:] == ["Encounter: 2024-05-06", "Procedure: Appendectomy; 2024-05-07", f"Observation: Letter: {SAID}"]
    assert notes.facts["left_out"] == ["attachment", "procedure (deleted)"]


@pytest.mark.parametrize("called", ["678", "Roe, John", "john roe"])
def test_one_of_the_two_patients_of_a_message_can_be_chosen(called):
    first, second = (f"OBX|1|NM|1^{name}||1|mg/dL|||||F" for name in ("Sodium", "Glucose"))
    both = message(first, "PID|1||678^^^H^MR||ROE^JOHN||19800203|M", second)
    with pytest.raises(InputError, match=r"2 patients.*--patient"):
        read(both)
    assert read(both, patient=called).text.splitlines() == ["Patient: male; birth date: 1980-02-03", "Observation: Glucose: 1 mg/dL"]
    same_name = both.replace("ROE^JOHN", "DOE^JANE")
    for way in ({}, {"patient": "Jane Doe"}):
        with pytest.raises(InputError):
            read(same_name, **way)
    nameless = both.replace("ROE^JOHN", "")
    with pytest.raises(InputError, match="names no patient"):
        read(nameless, patient=" ")


def test_messages_of_two_patients_are_refused_and_one_can_be_chosen():
    sugar = "OBX|1|NM|1^Glucose||{}|mg/dL|||||F"
    both = message(sugar.format(111)) + message(sugar.format(222), number="678")
    with pytest.raises(InputError, match="2 patients"):
        read(both)
    notes = read(both, patient="678")
    assert "222" in notes.text and "111" not in notes.text and "messages of other patients" in notes.facts["left_out"]
    assert "111" in read(message(sugar.format(111)) + message(sugar.format(222))).text


def of(person, value, number="", name=""):
    born, sex = person
    return message(f"OBX|1|NM|1^Glucose||{value}|mg/dL|||||F").replace(
        "12345^^^H^MR||DOE^JANE||19700203|F", f"{number}||{name}||{born}|{sex}"
    )


ONE, OTHER = ("19500101", "M"), ("19900101", "F")


@pytest.mark.parametrize(
    ("first", "second", "called"),
    [
        (of(ONE, 1, "111^^^HA", "SMITH^JOHN"), of(OTHER, 2, "111^^^HB", "DOE^JANE"), "john smith"),
        (of(ONE, 1, "111^^^HA", "SMITH^JOHN"), of(OTHER, 2, "111^^^HA", "SMITH^JOHN"), None),
        (of(ONE, 1), of(OTHER, 2), None),
        (of(ONE, 1, "", "SMITH^JOHN"), of(("19500101", "F"), 2, "", "SMITH^JOHN"), None),
    ],
    ids=["an id of two issuers", "one id", "neither id nor name", "one name"],
)
def test_what_differs_in_issuer_birth_date_or_sex_is_of_two_patients(first, second, called):
    way = "2 patients; give one file for each" + (", or choose" if called else "$")
    with pytest.raises(InputError, match=way):
        read(first + second)
    if called:
        assert read(first + second, patient=called).text.splitlines()[1:] == ["Observation: Glucose: 1 mg/dL"]
    else:
        with pytest.raises(InputError):
            read(first + second, patient="SMITH JOHN")


def test_an_id_is_of_one_patient_where_its_issuer_and_the_year_of_birth_agree_as_far_as_they_are_given():
    messages = of(ONE, 1, "111^^^HA&1.2&ISO", "SMITH^JOHN") + of(("1950", "U"), 2, "111", "SMITH^J")
    assert read(messages).text.count("Glucose") == 2


def test_a_message_that_cancels_another_tells_nothing():
    with pytest.raises(InputError, match="nothing to write"):
        read(message("DG1|1||^Type 2 diabetes", "PV2|||^Cough for two weeks now").replace("ORU^R01", "ADT^A11"))


POTASSIUM = "OBX|1|NM|2823-3^Potassium||{}|mmol/L|||||{}"
PANEL, DRUG = "OBR|1|{}||^Panel|||{}", "RXE||^Warfarin|5||mg"
REPORT = "OBR|{}|{}|{}|{}|||202405" + "|" * 18 + "{}"
SUGAR, GOUT = "OBX|1|NM|2345-7^Glucose||182|mg/dL|||||{}", "OBX|1|NM|3084-1^Urate||9.1|mg/dL|||||F"
LETTER = ["TXA|1|OP||20240506||||||||doc7", "OBX|1|TX|1^Letter||Sepsis||||||F"]


@pytest.mark.parametrize(
    ("earlier", "later", "told", "left_out"),
    [
        ([POTASSIUM.format(8.9, "F")], [POTASSIUM.format("", "W")], [], ["result (entered in error), 2 times"]),
        ([POTASSIUM.format(8.9, "F"), "NTE|1||high"], [POTASSIUM.format(4.2, "C")], ["Observation: Potassium: 4.2 mmol/L"],
         ["result (corrected), 2 times"]),
        ([POTASSIUM.format(8.9, "F"), POTASSIUM.format("", "D")], [], [], ["result (deleted), 2 times"]),
        ([PANEL.format("a", 2023), POTASSIUM.format(4.0, "F"), PANEL.format("b", 2024), POTASSIUM.format(8.9, "F")],
         [PANEL.format("b", 2024), POTASSIUM.format(4.2, "C")],
         ["Report: Panel; date: 2023", "Observation: Potassium: 4.0 mmol/L", "Report: Panel; date: 2024",
          "Observation: Potassium: 4.2 mmol/L"], ["result (corrected)"]),
        ([PANEL.format("a", 2023), POTASSIUM.format(4.0, "F")], [PANEL.format("a", 2024), POTASSIUM.format(8.9, "W")],
         ["Report: Panel; date: 2023", "Observation: Potassium: 4.0 mmol/L", "Report: Panel; date: 2024"],
         ["result (entered in error)"]),
        ([POTASSIUM.format(4.0, "F"), POTASSIUM.format(8.9, "F"), "NTE|1||high", "DG1|2||^Gout"], [POTASSIUM.format("", "W")],
         ["Observation: Potassium: 4.0 mmol/L", "Diagnosis: Gout"], ["result (entered in error), 3 times"]),
        (["OBX|1|TX|1^Text||First||||||F", "OBX|2|TX|1^Text||line||||||F"],
         ["OBX|1|TX|1^Text||Another||||||C", "OBX|2|TX|1^Text||text||||||C"], ["Observation: Text: Another", "text"],
         ["result (corrected)"]),
        ([POTASSIUM.format(8.9, "F|||202301")], [POTASSIUM.format("", "W|||202401")], ["Observation: Potassium: 8.9 mmol/L"],
         ["result (entered in error)"]),
        (["OBR|1|a|f||||2023", SUGAR.format("F")], ["OBR|1|a|g||||2023", SUGAR.format("W")],
         ["Report: date: 2023", "Observation: Glucose: 182 mg/dL"], ["result (entered in error)"]),
        (["OBR|1|a", POTASSIUM.format(8.9, "F"), "OBR|1|b", POTASSIUM.format(8.8, "F")],
         ["OBR|1|a", POTASSIUM.format(4.2, "C"), "OBR|1|b", POTASSIUM.format(4.1, "C")],
         ["Observation: Potassium: 4.2 mmol/L", "Observation: Potassium: 4.1 mmol/L"], ["result (corrected), 2 times"]),
        (["OBX|1|TX|1^Text||First||||||F", "ORC|DC|9", "OBX|1|TX|1^Text||Second||||||F"], [], ["Observation: Text: First",
         "STOPPED: Observation: Text: Second"], []),
        (["ORC|NW|9", DRUG], ["ORC|CA|9", DRUG], [], ["order (cancelled), 2 times"]),
        (["ORC|NW|9", DRUG, "ORC|DC|9"], ["ORC|DC|9", "ORC|CA|9"], [], ["order (cancelled)"]),
        (["ORC|NW|9", DRUG], ["ORC|UA|9"], [], ["order (not accepted)"]),
        (["ORC|NW|9", DRUG], ["ORC|DC|9", DRUG], ["STOPPED: Medication: Warfarin 5 mg"], []),
        (["ORC|NW|9", DRUG], ["ORC|HD|9"], ["ON HOLD: Medication: Warfarin 5 mg"], []),
        (["ORC|HD", DRUG, "DG1|2||^Gout"], [], ["ON HOLD: Medication: Warfarin 5 mg", "Diagnosis: Gout"], []),
        (["ORC|NW|9", DRUG, "ORC|HD|9"], ["ORC|RE|9", DRUG], ["ON HOLD: Medication: Warfarin 5 mg"], []),
        (["ORC|NW|9", DRUG], ["ORC|SC|9|||HD", DRUG], ["ON HOLD: Medication: Warfarin 5 mg"], []),
        (["ORC|NW|9", DRUG, "ORC|OH|9"], ["ORC|RL|9"], ["Medication: Warfarin 5 mg"], []),
        (["ORC|NW|9", DRUG, "ORC|HR|9"], ["ORC|DC|9"], ["STOPPED: Medication: Warfarin 5 mg"], []),
        (["ORC|NW|9", DRUG, "ORC|DC|9"], ["ORC|OE|9"], ["STOPPED: Medication: Warfarin 5 mg"], []),
        (["ORC|NW|9", DRUG, "ORC|HD|9"], ["ORC|CA|9"], [], ["order (cancelled)"]),
        (["ORC|NW|9", DRUG], ["ORC|DR|9"], ["STOPPED: Medication: Warfarin 5 mg"], []),
        (["ORC|NW|9", DRUG], ["ORC|CA|8"], ["Medication: Warfarin 5 mg"], []),
        ([POTASSIUM.format("", "F"), "NTE|1||not enough blood"], [],
         ["Observation without a value: Potassium", "Comment: not enough blood"], []),
        (["AL1|1|DA|^Latex"], ["IAM|1|DA|^Penicillin||||||||||||||E^Erroneous"], ["Allergy: Latex; drug"], ["allergy (entered in error)"]),
    ],
)  # fmt: skip
def test_a_later_message_takes_back_what_an_earlier_one_says(earlier, later, told, left_out):
    notes = read(message("DG1|1||^Cough", *earlier) + message(*later))
    assert notes.text.splitlines()[2:] == told
    assert notes.facts["left_out"] == left_out


def test_a_correction_takes_no_comment_of_another_message():
    later = message("NTE|1||Allergic to penicillin", POTASSIUM.format(4.2, "C")).replace("||19700203|F", "")
    notes = read(message(POTASSIUM.format(8.9, "F"), "NTE|1||high") + later)
    assert notes.text.splitlines()[1:] == ["Comment: Allergic to penicillin", "Observation: Potassium: 4.2 mmol/L"]


@pytest.mark.parametrize(
    ("earlier", "later", "told"),
    [
        ((100, "A", "", "F"), (100, "B", "", "X"), True),
        ((100, "A", "", "F"), (100, "A", "", "X"), False),
        ((100, "A", "", "F"), ("", "A", "", "X"), False),
        ((100, "A", "", "F"), (100, "", "", "X"), False),
        ((100, "", "", "F"), (100, "B", "", "X"), False),
        ((100, "", "24323-8^Panel", "F"), (100, "", "24331-1^Lipids", "X"), True),
        ((100, "", "24323-8^Panel", "F"), (100, "", "24323-8^Chemistry", "X"), False),
        ((100, "A", "24323-8", "F"), (100, "A", "24331-1", "X"), True),
        ((100, "A", "", "F"), (100, "A", "24331-1", "X"), False),
        ((100, "A", "24323-8", "F"), (100, "A", "", "X"), False),
        ((100, "A", "", "F"), (200, "", "", "X"), True),
        (("", "", "", "F"), ("", "", "", "X"), True),
    ],
)
def test_a_cancelled_report_takes_back_the_results_of_that_report_alone(earlier, later, told):
    notes = read(message("DG1|1||^Cough", REPORT.format(1, *earlier), SUGAR.format("F")) + message(REPORT.format(1, *later), GOUT))
    assert ("182" in notes.text, "9.1" in notes.text) == (told, False)


@pytest.mark.parametrize(("filler", "told"), [("A", False), ("B", True), ("", True)])
def test_of_the_reports_of_one_message_one_that_is_cancelled_takes_back_only_those_of_its_filler_number(filler, told):
    notes = read(message("DG1|1||^Cough", REPORT.format(1, 100, "A", "", "F"), SUGAR.format("F"), REPORT.format(2, 100, filler, "", "X")))
    assert ("182" in notes.text) == told


def test_a_report_without_a_filler_number_has_that_of_its_order():
    first, second = (["ORC|RE|100|" + filler, REPORT.format(1, 100, "", "", status)] for filler, status in (("A", "F"), ("B", "X")))
    assert "182" in read(message("DG1|1||^Cough", *first, SUGAR.format("F")) + message(*second)).text


def test_each_patient_of_a_message_that_cancels_is_left_out():
    segments = ["DG1|1||^Cough", "PID|1||678^^^H^MR||ROE^JOHN||19800203|M", "DG1|1||^Gout"]
    with pytest.raises(InputError, match="nothing to write"):
        read(message(*segments).replace("ORU^R01", "ADT^A11"), patient="678")


@pytest.mark.parametrize(
    ("event", "segments", "told"),
    [
        ("T11", LETTER[:1], []),
        ("T11", ["TXA|1|OP||20240506||||||||doc8"], ["Observation: Letter: Sepsis"]),
        ("T10", ["TXA|1|OP||20240506||||||||doc8|doc7", "OBX|1|TX|1^Letter||Gout||||||F"], ["Observation: Letter: Gout"]),
        ("T02", [f"{LETTER[0]}|||||||CA"], []),
        ("T02", [f"{LETTER[0]}|||||||OB", "OBX|1|TX|1^Letter||Gout||||||F"], []),
        ("T02", [f"{LETTER[0]}|||||||LA", "OBX|2|TX|2^Letter||Gout||||||F"], ["Observation: Letter: Sepsis", "Observation: Letter: Gout"]),
        ("T08", [LETTER[0], "OBX|1|TX|1^Letter||Gout||||||F"], ["Observation: Letter: Gout"]),
    ],
)
def test_a_document_that_a_later_message_takes_back_is_left_out(event, segments, told):
    notes = read(message("DG1|1||^Cough", *LETTER).replace("ORU^R01", "MDM^T02") + message(*segments).replace("ORU^R01", f"MDM^{event}"))
    assert [line for line in notes.text.splitlines() if "Letter" in line] == told


def test_lines_within_a_field_of_a_message_are_kept():
    said = "Chest pain for 2 hours.\nNo fever.\n\n- on warfarin 5 mg\n"
    notes = read(message(f"OBX|1|TX|1^Text||{said}||||||F", "DG1|1||^Cough"))
    assert notes.text.splitlines()[1:] == [f"Observation: Text: {said.splitlines()[0]}", *said.splitlines()[1:], "Diagnosis: Cough"]
    with pytest.raises(InputError, match="nothing to write"):
        read(message(f"OBX|1|TX|1^Text||{said}||||||W\n"))


def test_where_messages_do_not_fit_the_oldest_goes_first():
    old, new = message("DG1|1||^Old trouble").replace("20240506", "20200506"), message("DG1|1||^Chest pain")
    for both in (old + new, new + old):
        assert read(both).fit(len, 70)[0].splitlines() == ["Patient: female; birth date: 1970-02-03", "Diagnosis: Chest pain"]
