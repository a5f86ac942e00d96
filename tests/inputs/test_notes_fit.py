"""Notes that do not fit: the oldest goes first, by the dates of visits."""

from pathlib import Path
from typing import Any

import pytest
from resources import SAID, write

from medgemma_app.inputs.json_notes import newest_first
from medgemma_app.inputs.lines import sortable_days
from medgemma_app.inputs.notes import NotesText, read_notes


def fitted(value: Any, share: float) -> tuple[str, str]:
    notes = read_notes(value)
    return notes.fit(len, int(len(notes.text) * share))


def test_notes_that_fit_are_whole() -> None:
    assert fitted({"plan": "rest", "note": SAID}, 1) == (f"Plan: rest\nNote: {SAID}", "")


@pytest.mark.parametrize(
    "value",
    [
        {"past_medical_history": "Old trouble. " * 60, "note": "Today: chest pain. " * 20},
        {"previous_visits": ["Old trouble. " * 60], "dialogue": [{"speaker": "Patient", "text": "Today: chest pain. " * 20}]},
        [{"date": "2019-01-01", "note": "Old trouble. " * 60}, {"date": "2024-05-06", "note": "Today: chest pain. " * 20}],
        {"visits": [{"date": "2019-01-01", "note": "Old trouble. " * 60}, {"date": "2024-05-06", "note": "Today: chest pain. " * 20}]},
        {"2019-01-01": "Old trouble. " * 60, "2024-05-06": "Today: chest pain. " * 20},
        {"encounters": {"2019-01-01": {"note": "Old trouble. " * 60}, "2024-05-06": {"note": "Today: chest pain. " * 20}}},
        {"name": "Jane", "notes": {"03-Mar-2019": "Old trouble. " * 60, "06-May-2024": "Today: chest pain. " * 20}},
        [{"date": "13/06/2023", "note": "Old trouble. " * 60}, {"date": "01/05/2024", "note": "Today: chest pain. " * 20}],
        [{"date": "Jun 3, 2019", "note": "Old trouble. " * 60}, {"date": "6 May 2024", "note": "Today: chest pain. " * 20}],
        "Jane, 45.\n\n2019-01-01\n" + "Old trouble. " * 60 + "\n\n2024-05-06\n" + "Today: chest pain. " * 20,
    ],
    ids=[
        "history and note",
        "visits and dialogue",
        "dated visits",
        "dated visits in an object",
        "dates as keys",
        "dates as keys of an inner object",
        "months by name as keys",
        "days first",
        "months by name",
        "dated text",
    ],
)
def test_where_notes_do_not_fit_the_oldest_history_goes_first(tmp_path: Path, value: Any) -> None:
    kept, sentence = read_notes(write(tmp_path, value)).fit(len, 600)
    assert kept.count("Today: chest pain.") == 20
    assert 0 < kept.count("Old trouble.") < 60
    assert len(kept) <= 600
    assert "words were left out" in sentence


@pytest.mark.parametrize(
    "key",
    [
        "note_date",
        "created_at",
        "dos",
        "admission_date",
        "admitdate",
        "charttime",
        "start",
        "period",
        "noteDateTime",
        "dateOfVisit",
        "DAY",
        "when",
        "Fecha",
    ],
)
def test_any_key_of_a_date_puts_visits_in_order(key: str) -> None:
    first, last = ({"start": said} if key == "period" else said for said in ("03-Mar-2019", "2024-05-06T10:00:00Z"))
    about = {"type": "visit", "birth_date": "1979-01-01"}
    visits = [{**about, key: first, "note": "Old trouble. " * 60}, {**about, key: last, "note": "Today: chest pain. " * 20}]
    for value in (visits, {"notes": visits}):
        kept, _ = read_notes(value).fit(len, 600)
        assert kept.count("Today: chest pain.") == 20 and 0 < kept.count("Old trouble.") < 60


@pytest.mark.parametrize(
    "value",
    [
        [{"dose": "2 mg", "time": "morning"}, {"dose": "1 mg", "time": "evening"}],
        [{"start": "2019-01-01", "drug": "aspirin"}, {"drug": "metformin"}],
        [{"wbc": "2010"}, {"wbc": "2015"}],
        {"4711": "cough", "4712": "fever", "120 mg": "aspirin"},
    ],
)
def test_entries_without_dates_stay_in_order(value: Any) -> None:
    doubts: set[str] = set()
    assert str(newest_first(value, doubts)) == str(value) and not doubts


@pytest.mark.parametrize(
    "heading",
    [
        "Visite du {}",
        "Besuch am {}",
        "Consulta del {}",
        "Visit {}",
        "## Follow-up visit 2: {}",
        "**Date of visit:** {}",
        "Seen on {}",
        "Date of service: {}",
        "[{}]",
        "=== {} ===",
        "Konsultation vom {}",
        "Admitted {}",
        "Encounter date: {}, 10:30",
        "Labor und Kontrolle: {}",
        "Kontrolle {}: Husten",
    ],
)
@pytest.mark.parametrize(
    ("first", "last"),
    [
        ("2019-01-01", "2024-06-06"), ("13/06/2023", "01/05/2024"), ("3 June 2019", "6 May 2024"), ("June 3, 2019", "May 6, 2024"),
        ("Mon 3 Jun 2019", "Tuesday, 7 May 2024"), ("12/31/98", "05/07/24"), ("03. März 2019", "07. Mai 2024"),
        ("3 août 2019", "3 déc. 2019"), ("3 mai 2018", "3 juin 2024"), ("3 de junio de 2019", "4 de mayo del 2024"),
        ("1er mai 2019", "1er juin 2019"), ("Montag, 3. Juni 2019", "Mittwoch, 5. Juni 2019"), ("lundi 3 juin 2019", "samedi 1 juin 2024"),
        ("miércoles, 5 de junio de 2019", "domingo 2 de junio de 2024"), ("03-Mar-2019", "06-May-2024"), ("03-MAR-99", "06-MAY-24"),
        ("3rd March 2019", "May 6th, 2024"), ("2019/03/03", "2024/05/06"), ("2019-03-03T10:30:00Z", "2024-05-06T09:00:00Z"),
        ("Montag, den 3. Juni 2019", "Mittwoch, den 5. Juni 2019"),
    ],
)  # fmt: skip
def test_text_written_oldest_first_loses_its_oldest_visit(tmp_path: Path, heading: str, first: str, last: str) -> None:
    old, new = "Old trouble. " * 60, "Today: chest pain. " * 20 + "\n- 2015-02-03 appendectomy\nPlan: aspirin"
    text = f"Jane, 45.\nDate of birth: 01/02/1979\nWard 7 2024\n\n{heading.format(first)}\n{old}\n\n{heading.format(last)}\n{new}"
    kept, _ = read_notes(write(tmp_path, text.encode())).fit(len, 700)
    assert kept.startswith("Jane, 45.\nDate of birth") and kept.endswith(new) and 0 < kept.count("Old trouble.") < 60


@pytest.mark.parametrize(
    "line", ["CT chest 03/03/2019: no nodule", "CT chest 03/03/2019", "Geburtsdatum: 03.03.1979", "* 2019-03-03 CT", "CT head 03/03/2019"]
)
def test_a_date_in_a_note_begins_no_visit(line: str) -> None:
    note = f"Encounter date: 06-May-2024\n{line}\nCT head 05/05/2024\n{line}\nPlan: aspirin"
    assert [len(read_notes(NotesText(text)).lines) for text in (note, f"{note}\n\nEncounter date: 01-May-2024\nFever")] == [1, 2]


@pytest.mark.parametrize(
    "months",
    [
        "January February March April May June July August September October November December",
        "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
        "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
        "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
        "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec",
        "janv févr mars avr mai juin juil août sept oct nov déc",
        "jänner fevrier marzo abr may jun jul aout sep okt nov decembre",
    ],
)
def test_the_months_of_four_languages_are_known(months: str) -> None:
    written = [f"3 {month} 2019" for month in months.split()]
    assert sortable_days(written) == [f"2019-{number:02}-03" for number in range(1, 13)]
    assert sortable_days(["3 jui 2019"]) == sortable_days(["1. Sepsis 2019"]) == []


@pytest.mark.parametrize(
    ("first", "last", "warned"),
    [
        ("3 May 2019", "3 czerwca 2024", True), ("Wizyta visit 3 maja 2019", "Visit 3 czerwca 2024: cough", True),
        ("3 czerwca 2019", "Seen well", False), ("3 May 2019", "1. Metformin 2000 mg", False),
        ("Wizyta 3 maja 2019", "Wizyta 3 czerwca 2024", True), ("3 May 2019", "Review: 1. Metformin 1000 mg", False),
        ("3 May 2019", "Take 1. Metformin 1000", False), ("3 May 2019", "3 June 2024", False),
    ],
)  # fmt: skip
def test_a_date_of_a_visit_that_cannot_be_read_is_warned_of(tmp_path: Path, first: str, last: str, warned: bool) -> None:
    warnings = read_notes(write(tmp_path, f"{first}\nCough for weeks\n\n{last}\nFever".encode())).warnings
    assert ["some dates of visits cannot be read" in warning for warning in warnings] == [True] * warned


@pytest.mark.parametrize(
    ("first", "last", "warned"),
    [
        ("05/06/2023", "06/05/2023", True),
        ("05/06/2023", "06/05/2024", False),
        ("13/06/2023", "06/07/2023", False),
        ("5.6.2023", "6.5.2023", False),
    ],
)
def test_a_warning_says_that_ambiguous_dates_were_read_month_first(tmp_path: Path, first: str, last: str, warned: bool) -> None:
    visits = [{"date": first, "note": "Cough"}, {"date": last, "note": "Fever"}]
    for content in (visits, {one["date"]: one["note"] for one in visits}, f"{first}\nCough\n\n{last}\nFever".encode()):
        warnings = read_notes(write(tmp_path, content)).warnings
        assert [warning.startswith("notes.json: dates such as 05/06/2024") for warning in warnings] == [True] * warned


def test_what_was_left_out_is_named_by_labels_that_hold_no_patient() -> None:
    value = {"plan": "rest", "history": "Old trouble. " * 99, "jane doe 1970": "Old trouble. " * 99, "note": "Chest pain. " * 30}
    kept, sentence = fitted(value, 0.05)
    assert kept.startswith("Plan: rest\nNote: Chest pain.")
    assert sentence.endswith("words were left out (all of History, 1 more; part of Note)")
