"""Two patients are never one record: in texts and tables."""

from contextlib import nullcontext

import pytest
from resources import docx, read

from medgemma_app.errors import InputError
from medgemma_app.inputs.patient_values import agree, plain_value

COUGH, KNEE = "Cough for three days.", "Knee pain after a fall."


TWO_LABELS = [
    ("Name: John Smith\nDOB: 01/01/1950", "Name: Jane Doe\nDOB: 01/01/1990", "birth dates"),
    ("Patient: Smith, John | Ward 7", "Patient: Doe, Jane | Ward 7", "names"),
    ("Patient: JOHN SMITH (54 M)", "Patient: JANE DOE (39 F)", "names"),
    ("Pt:\tSmith, J.\tRoom: 5", "Pt:\tDoe, J.\tRoom: 5", "names"),
    ("MRN: 111 DOB: 1/1/1950", "MRN: 222 DOB: 1/1/1950", "record numbers"),
    ("MRN 111", "MRN 222", "record numbers"),
    ("Smith, John  MR#: 111", "Doe, Jane  MR#: 222", "record numbers"),
    ("[Hosp no. 55-1]", "[Hosp no. 55-2]", "record numbers"),
    ("NHS No: 943 476 5919", "NHS No: 943 476 5920", "record numbers"),
    ("**Patient Name:** Li Wei", "**Patient Name:** Ana Souza", "names"),
    ("Patient Name\nLi Wei", "Patient Name\nAna Souza", "names"),
    ("# Patient 1", "# Patient 2", "record numbers"),
    ("Pt A: 54M", "Pt B: 31F", "record numbers"),
    ("geb. 12.03.1950", "geb. 13.03.1950", "birth dates"),
    ("First name: Ann\nLast name: Lee", "First name: Bob\nLast name: Ray", "names"),
    ("| MRN | Note |\n|---|---|\n| 111 | stable |", "| 222 | stable |", "record numbers"),
    ("Patient | Complaint\nAnn Lee | x", "Bob Ray | x", "names"),
    ("1) Patient name - Ann Lee", "2) Patient name - Bob Ray", "names"),
    ("1) Patient: Ann Lee. Stable.", "2) Patient: Bob Ray. Stable.", "names"),
    ("Name;Ann Lee", "Name;Bob Ray", "names"),
    ("Patient Name    Li Wei", "Patient Name    Ana Souza", "names"),
    ("Name: Ann Lee Age 70", "Name: Bob Ray Age 39", "names"),
    ("Name: Ann Lee Ward: West", "Name: Bob Ray Ward: West", "names"),
    ("Seen with his wife. MRN: 111", "Seen with her son. MRN: 222", "record numbers"),
    ("Pt name: Ann Lee; stable. Pt name: Ann Lee", "Pt name: Ann Lee; stable. Pt name: Bob Ray", "names"),
    ("Beds\nName | Problem\nAnn Lee | x", "Bob Ray | x", "names"),
    ("M.R.N. 1001", "M.R.N. 1002", "record numbers"),
    ("Patienten-ID: H1001", "Patienten-ID: H1002", "record numbers"),
    ("=== PATIENT 1 OF 2 ===", "=== PATIENT 2 OF 2 ===", "record numbers"),
    ("Patient One:", "Patient Two:", "record numbers"),
    ("- Patient: Ann Lee – stable", "- Patient: Bob Ray – stable", "names"),
    ("Patient 1 (Ann Lee)", "Patient 2 (Bob Ray)", "record numbers"),
    ("Obstetric ward, MRN: 111", "Stepped on a nail, MRN: 222", "record numbers"),
    ("Centro Médico\nNombre: Ana Ruiz", "Centro Médico\nNombre: Luz Gil", "names"),
    ("PID: 40015", "PID: 40016", "record numbers"),
    ("Cartella n. 1001", "Cartella n. 1002", "record numbers"),
    ("Nº de prontuário: 5511", "Nº de prontuário: 5512", "record numbers"),
    ("и/б № 3342, история болезни № 3342", "история болезни № 3350", "record numbers"),
    ("病历号:M1001", "病历号:M1002", "record numbers"),
    ("患者氏名:佐藤 花子", "患者氏名:田中 一郎", "names"),
    ("Imię i nazwisko: Anna Nowak", "Imię i nazwisko: Jan Lis", "names"),
    ("Data di nascita 03/05/1961", "Data di nascita 04/05/1961", "birth dates"),
    ("Prénom : Zoé\nNom de famille : Petit", "Prenom : Paul\nNom de famille : Roux", "names"),
    ("Name      MRN   Problem\nAnn Lee   111   x", "Bob Ray   222   x", "names|record numbers"),
    ("1. LEE, Ann  70F", "2. RAY, Bob  39M", "names"),
    ("Mrs A. Lee – stable", "Mr B. Ray – stable", "names"),
    ("Bed 1: stable", "Bed 2: stable", "record numbers"),
    ("name: ann lee", "name: bob ray", "names"),
    ("A 64-year-old retired man", "A 33 yo woman", "ages"),
    ("Homme de 34 ans", "Femme, 88 ans", "ages"),
    ("62岁男性", "男,35岁", "ages"),
]


@pytest.mark.parametrize(("first", "second", "differ"), TWO_LABELS)
def test_a_text_that_names_two_patients_is_refused_and_none_can_be_chosen(first: str, second: str, differ: str) -> None:
    text = f"{first}\n{COUGH}\n{second}\n{KNEE}"
    for patient in (None, "111", "Li Wei"):
        with pytest.raises(InputError, match=rf"2 patients \(({differ}) differ\); give one file for each, or if .* add --patient same$"):
            read(text, patient=patient)
    assert read(f"{first}\n{COUGH}\n{first}\n{KNEE}").text


def test_the_user_can_say_that_labels_which_differ_are_one_patients() -> None:
    text, table = f"MRN: 111\n{COUGH}\nMRN: 222\n{KNEE}", [{"mrn": "111", "note": COUGH}, {"mrn": "222", "note": KNEE}]
    for content in (text, table):
        notes = read(content, patient="same")
        assert COUGH in notes.text and KNEE in notes.text
        assert notes.warnings == ("visit: its labels belong to more than one patient; all of it was used because of --patient same",)
    assert read(f"MRN: 111\n{COUGH}", patient="same").warnings == ()
    bundle = {"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "Patient", "id": one}} for one in ("a", "b")]}
    with pytest.raises(InputError, match="2 patients"):  # a record says for certain whose it is
        read(bundle, patient="same")


@pytest.mark.parametrize(
    "content",
    [
        f"<html><table><tr><td>MRN</td><td>111</td></tr></table>{COUGH}<table><tr><td>MRN</td><td>222</td></tr></table>{KNEE}</html>",
        "<table><tr><th>Patient<th>Complaint</tr><tr><td>Ann Lee<td>Cough</tr><tr><td>Bob Ray<td>Fall</tr></table>",
        docx("".join(f"<w:p><w:r><w:t>{line}</w:t></w:r></w:p>" for line in ("MRN: 111", COUGH, "MRN: 222", KNEE))),
    ],
    ids=["HTML rows", "HTML columns", "DOCX"],
)
def test_documents_that_name_two_patients_are_refused(content: str | bytes) -> None:
    with pytest.raises(InputError, match="2 patients"):
        read(content)


@pytest.mark.parametrize(
    "text",
    [
        "Patient: Lopez, Maria\nDOB: 03.05.1961\n{}\nPatient: Mrs. MARÍA A. LOPEZ\nDate of birth: May 3, 1961",
        "DOB: 4/5/1961\n{}\nDOB: 1961-04-05\nDOB: 5 April 1961\nDOB: 05-Apr-61\nborn: 1961",
        "MRN: 00412\n{}\nMRN 412\nVisit #: 88123\nAccession: 5512\nOrder No: 7781\nPhone: 555-1234",
        "Patient ID: 7 | MRN: 5567 | SSN: 219-09-9999\n{}",
        "Name: Ann Lee\nMother's DOB: 1/2/1950\nDOB: 5/6/1985\nFather: Bob Lee, DOB 2/2/1948\n{}\nBaby DOB: 1/1/2024",
        "Name: Ann Lee\n{}\n\nEmergency contact:\nName: Bob Ray\nPhone: 555-1234",
        "Name: Ann Lee\n{}\nPharmacy\nName: Corner Drug Store",
        "Name: Ann Lee\n{}\nName: Dr. Paul Miller\nProvider: Susan Wong\nReferring: Eva Hall\nFacility Name: North Side",
        "Medications\nName: Metformin 500 mg\nName: Warfarin Sodium\n{}",
        "Name: Warfarin Sodium\nDose: 5 mg\nName: Insulin Glargine\nDose: 10 U\n{}\nVaccines\nName: Tdap Booster\nName: Zoster Vero",
        "Doctor: Hello.\nPatient: Good Morning, Doctor.\nDoctor: What hurts?\nPatient: My Left Knee.\n{}",
        "Patient: 54-year-old man\n{}\nPatient: Denies Pain\nPatient 2 days later: better. Case 3 days ago",
        "Old MRN: 11\nMRN: 55\n{}",
        "Patient: Hans Weber\n{}\nHausarzt:\nName: Anna Schmidt",
        "Patient: Jean Petit\n{}\nMédecin traitant :\nNom : Anne Martin\nPersonne de confiance :\nNom : Luc Petit",
        "DOB: 1/2/1990\n{}\nAnsprechpartner:\nName: Anna Schmidt, DOB: 3/4/1960\nMédico responsable:\nNombre: Ana Ruiz",
        "Name: Ann Lee\nDOB: 1/2/1990\n{}\nNext of kin:\n\nName: Bob Ray\nNiece DOB: 5/6/2010\nPOA:\nName: Eva Hall, DOB: 3/4/1960",
        "DOB: 1/2/1990\n{}\nMaternal DOB: 1/1/1960\nStepfather: Tom Ray, DOB: 1/1/1961\nParent/Guardian: Eva Ray, DOB: 1/1/1962",
        "Patient: Ann Lee\nDOB: 1/2/1990\n{}\nObstetric history:\n1. DOB 3/4/2015, normal\n2. DOB 5/6/2018, caesarean",
        "Patient: Hans Weber\n{}\nName: Marcumar Forte\nDosis: 3 mg\nName: Ramipril Comp\nPosologie : 5 mg",
        "Patient name: Ann Lee\nPatient name: verified\nPatient name: as above\n{}",
        "MRN: 55123 (previously MRN: 44321, merged with MRN: 7). Outside hospital MRN: 99887, OSH MRN 123456\n{}",
        "54-year-old man, seen since 2015\n{}\nBrother is 61 years old. 2021: 60-year-old man, 14-year history of gout, wife 49 years ago",
        "NAUSEA, VOMITING | 2 days\n{}\nPT, OT, 3 times\nALLERGIES, ADVERSE REACTIONS, ALERTS (2)\nTYLENOL, ASPIRIN  daily",
        "DOB: 1/2/1990\n{}\nEncounter 49eeb78d-297a-4a25-a553-bd416201b29b",
        "Patient is a 34-year-old man\n{}\nFamily history: mother 65-year-old woman with breast cancer.\nSeen with a 60 yo woman, his wife",
        "65 yo M. PMH: MI at 50 yo. Son 30 yo M healthy.\n{}\nFamily history\nHealthy 39 yo F\n\nNext of kin: Tom Lee, 60 F",
        "48-year-old man\n{}\nLiterature: a case report of a 33-year-old woman",
        "Account #: 1001, Fallnummer: 77\n{}\nAccount #: 1002, Fallnummer: 78",
        "Mr. Lee came with a cough.\n{}\nMr. John Lee is stable.",
        "Baby Boy Lee  MRN: 501\n{}\nMaternal data: Ann Lee, MRN: 77",
        "Pacjent: Jan Maj, ur. 11.11.1988\n{}\nMatka: Ewa Maj, ur. 02.05.1962",
        "PMH: PID 2015, recurrent PID 2019\nIPP : 20 mg/j\nIPP : 40 mg/j\n{}",
        "Patient Name: ____\nMRN: ____\nDOB: __/__/__\n{}\nPatient Name: [redacted]",
        "Name | Relationship\nBob Lee | Son\nEva Lee | Wife\n{}",
        "Provider | Name\nPCP | Ann Lee\nSurgeon | Bob Ray\n{}",
        "Patient: Ann Lee\n{}\nName: Bob Ray\nTitle: Cardiologist",
        "Doctor: Hi\nPatient: Good Morning\nDoctor: Pain?\nPatient: My left knee\nPatient: Saint Mary\nPatient: Since last week\n{}",
    ],
)
def test_one_patient_beside_relatives_staff_drugs_and_other_numbers_is_one_record(text: str) -> None:
    assert COUGH in read(text.format(COUGH)).text


@pytest.mark.parametrize(
    ("text", "patient", "is_theirs"),
    [
        ("MRN: 0111\nName: Smith, John", "111", True), ("MRN: 0111\nName: Smith, John", "john smith", True),
        ("MRN: AB-12/3", "AB-12/3", True), ("MRN: 111", "7", False), ("Cough for 7 days", "7", False),
        ("Seen with Jane Roe", "Jane Roe", False),
    ],
)  # fmt: skip
def test_a_text_is_the_chosen_patients_only_if_a_label_says_so(text: str, patient: str, is_theirs: bool) -> None:
    with nullcontext() if is_theirs else pytest.raises(InputError, match="names no patient"):
        assert read(f"{text}\n{COUGH}", patient=patient).text.endswith(COUGH)


@pytest.mark.parametrize(
    "table",
    [
        f"mrn,note\n111,{COUGH}\n222,{KNEE}",
        f'MRN\tAge\tNote\n111\t70\t"{COUGH}\n\nMore."\n222\t39\t{KNEE}',
        f"patient;note\n111;{COUGH}\n222;{KNEE}\n",
        f"id,note\n111,{COUGH}\n222,{KNEE}",
        f'mrn, note\n111, "{COUGH} Fever, too"\n222, "{KNEE}"',
        f'"MRN","Complaint"\n"111","{COUGH}"\n"222","{KNEE}"',
        f"Ward list, 3 May\nmrn,age,note\n111,70,{COUGH}\n222,39,{KNEE}",
        f"mrn,age,note\n111,70,{COUGH}, fever\n222,39,{KNEE}\n223\n",
        f"Patient;Alter;Befund\n111;70;{COUGH}\n222;39;{KNEE}",
        f"Subject,Sex,YOB,Note\n111,F,1950,{COUGH}\n222,M,1990,{KNEE}",
        f"Edad,Paciente,Motivo\n70,111,{COUGH}\n39,222,{KNEE}",
    ],
)
def test_each_row_of_a_table_is_of_its_patient(table: str) -> None:
    with pytest.raises(InputError, match=r"2 patients \([a-z ]+ differ\); give one file for each, or choose one with --patient ID, or if"):
        read(table)
    notes = read(table, patient="222")
    assert KNEE in notes.text and COUGH not in notes.text
    assert notes.facts["format"] == "table"


KEYS = (
    "name", "Name", "pt", "pt_name", "Pt. Name", "client", "person", "resident", "MRN#", "MR#", "Patient #", "hospital_no", "Hospital No.",
    "NHS No", "UHID", "patient_uuid", "patientKey", "patient_ref", "chi_number", "emr_id", "ID", "Patient ID", "full_name", "dob",
)  # fmt: skip


def test_lines_above_a_table_and_in_it_are_told() -> None:
    assert read(f"Ward list\nmrn,age,note\n111,70,{COUGH}, 2,5 mg\n111,70,{KNEE}\nSeen by night staff").text == (
        f"Row: Ward list\nMrn: 111; Age: 70; Note: {COUGH}, 2,5 mg\nMrn: 111; Age: 70; Note: {KNEE}\nRow: Seen by night staff"
    )


def test_a_text_that_begins_like_a_table_is_none() -> None:
    text = f"Patient, alert, oriented.\n{COUGH}, no fever, no chills.\nAnn Lee, her sister, was there"
    assert read(text).text == text


def test_one_of_many_patients_in_a_table_is_found() -> None:
    table = "mrn,note\n" + "".join(f"{number},Cough for {number + 2} days\n" for number in range(300))
    assert read(table, patient="250").text == "Mrn: 250; Note: Cough for 252 days"
    with pytest.raises(InputError, match="100 or more patients"):
        read(table)


@pytest.mark.parametrize("key", KEYS)
def test_keys_of_patients_are_known_in_any_spelling(key: str) -> None:
    first, second = ("1950-01-01", "1990-01-01") if key == "dob" else ("Ann Lee", "Bob Ray") if "ame" in key else ("111", "222")
    entries = [{key: first, "text": COUGH}, {key: second, "text": KNEE}]
    with pytest.raises(InputError, match="2 patients"):
        read(entries)
    assert read([entries[0], {**entries[1], key: first}]).text
    if key != "dob":
        notes = read(entries, patient=second)
        assert KNEE in notes.text and COUGH not in notes.text


@pytest.mark.parametrize(
    ("kind", "one", "other", "same"),
    [
        ("born", "03.05.1961", "May 3, 1961", True), ("born", "3rd May 1961", "1961-05-03", True), ("born", "05/03/61", "19610305", True),
        ("born", "1961", "3 May 1961", True), ("born", "13.05.1961", "14.05.1961", False), ("born", "1962", "3 May 1961", False),
        ("name", "Smith, John", "Mr. JOHN SMITH Jr.", True), ("name", "J. Smith", "John Smith", True),
        ("name", "O’Brien, Zoë", "zoe obrien", True), ("name", "John Smith", "Jane Smith", False),
        ("name", "J. Smith", "Jane Doe", False), ("id mrn", "00-12", "12", True), ("id mrn", "0", "1", False),
        ("id mrn", "12", "21", False),
    ],
)  # fmt: skip
def test_spellings_of_one_value_agree(kind: str, one: str, other: str, same: bool) -> None:
    assert agree(kind, plain_value(kind, one), plain_value(kind, other)) == same
