"""What the arguments of a command name: studies in order, once each, with names that name nobody."""

from pathlib import Path

import pytest

from medgemma_app.inputs.studies import StudySource, find_notes, find_studies


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Doe_Jane/visit.json and Doe_Jane/old/scan.png, with the folder above as the current one."""
    (tmp_path / "Doe_Jane" / "old").mkdir(parents=True)
    (tmp_path / "Doe_Jane" / "visit.json").write_text("{}")
    (tmp_path / "Doe_Jane" / "old" / "scan.png").write_bytes(b"\x89PNG\r\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "Doe_Jane"


def test_a_study_named_by_several_paths_is_one(folder: Path) -> None:
    names = ["Doe_Jane/old/scan.png", "./Doe_Jane/old/../old/scan.png", str(folder), "-", "-"]
    assert [study.path for study in find_studies(names).studies] == [names[0], "-"]


def test_a_study_is_shown_without_the_folders_it_lies_in(folder: Path) -> None:
    found = find_studies([str(folder), "missing.png"]).studies
    assert [study.name for study in found] == ["scan.png", "missing.png"]
    assert StudySource("visits.jsonl", part=4).name == "visits.jsonl line 4"
    assert StudySource(str(folder), number=3).name == "study 3"


def test_the_key_of_a_study_is_the_same_by_every_path_and_names_nobody(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {find_studies([name]).studies[0].key for name in ("Doe_Jane", "./Doe_Jane/", str(folder))}
    monkeypatch.chdir(folder)
    keys |= {find_studies([name]).studies[0].key for name in (".", "../Doe_Jane")}
    assert len(keys) == 1
    assert "Doe" not in keys.pop()
    assert len({StudySource("a.jsonl", part=part).key for part in (1, 2, None)}) == 3


def test_notes_are_the_json_files_of_a_folder(folder: Path) -> None:
    assert [visit.name for visit in find_notes([str(folder)]).studies] == ["visit.json"]
