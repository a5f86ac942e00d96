"""Many studies in one call: in order, a line each, and nothing lost or doubled when the run is cut off."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest
from commands import records
from dicoms import a_series

from medgemma_app.demo import draw_phantom, write_notes
from medgemma_app.inputs.studies import find_notes, find_studies
from medgemma_app.notices import NOTHING_FOUND

COUNT = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures 0 to 5, of which 2 is none, and one more in a folder below."""
    folder = tmp_path_factory.mktemp("studies")
    (folder / "below").mkdir()
    for seed in range(COUNT):
        draw_phantom(seed)[0].save(folder / f"{seed}.png")
    draw_phantom(9)[0].save(folder / "below" / "9.png")
    (folder / "2.png").write_text("no picture")
    (folder / "notes.json").write_text(json.dumps(write_notes(1)[0]))
    return folder


def paths(found):
    return [study.path for study in found.studies]


def test_a_folder_becomes_one_line_per_study_in_order_and_the_model_is_loaded_once(medgemma, folder, tmp_path):
    result = medgemma("findings", folder, "--output", tmp_path / "r.jsonl", "--batch-size", "3")
    found = records(tmp_path / "r.jsonl")
    assert [record["study"] for record in found] == [*(f"{n}.png" for n in range(COUNT)), "9.png"]
    assert [record.get("text") for record in found] == [None if seed == 2 else draw_phantom(seed)[1] for seed in (*range(COUNT), 9)]
    assert (found[2]["exit_code"], result.exit_code, result.loads, result.stdout) == (2, 2, 1, "")
    assert "2.png" in found[2]["error"]
    assert "7 of 7 studies" in result.stderr


def test_notes_of_many_visits_are_decoded_together(medgemma, demo, monkeypatch, tmp_path):
    monkeypatch.delattr(demo, "generate_many")
    for seed in range(3):
        (tmp_path / f"{seed}.json").write_text(json.dumps(write_notes(seed)[0]))
    result = medgemma("soap", tmp_path, "--json")
    assert [json.loads(line)["text"] for line in result.stdout.splitlines()] == [write_notes(seed)[1] for seed in range(3)]


def test_no_model_is_loaded_where_nothing_can_be_read(medgemma):
    result = medgemma("findings", "none.png", "nothing.png")
    assert (result.exit_code, result.loads, result.stderr.count("does not exist")) == (2, 0, 2)
    assert result.stderr.splitlines()[-1] == "2 studies: 2 could not be read or written"


@pytest.mark.slow
def test_kill_9_at_any_moment_loses_and_doubles_nothing(folder, tmp_path):
    path = tmp_path / "r.jsonl"
    studies = [str(folder / f"{seed}.png") for seed in (0, 1, 3, 4, 5)]
    command = [sys.executable, "-m", "medgemma_app", "findings", *studies, "--model", "demo", "--output", str(path), "--batch-size", "2"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as run:
        while run.poll() is None and not (path.exists() and path.stat().st_size):
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
    done = path.read_bytes().count(b"\n")
    assert 1 <= done < len(studies)
    subprocess.run([*command, "--resume"], stderr=subprocess.DEVNULL, check=True, timeout=120)
    assert [record["study"] for record in records(path)] == ["0.png", "1.png", "3.png", "4.png", "5.png"]


def test_a_folder_of_pictures_is_many_studies_and_one_of_dicom_is_one(tmp_path):
    for name in ("b.PNG", "a.jpg", ".hidden.png"):
        (tmp_path / name).write_bytes(b"\xff\xd8\xff\0" + name.encode())
    for name in ("visit.txt", "visit.json"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "ct").mkdir()
    a_series(tmp_path / "ct", 2)
    names = [str(tmp_path / name) for name in ("a.jpg", "b.PNG", "ct")]
    assert paths(find_studies([str(tmp_path)])) == names
    assert paths(find_studies([names[1], names[1], "missing"])) == [names[1], "missing"]
    assert paths(find_notes([str(tmp_path), "-"])) == [str(tmp_path / "visit.json"), str(tmp_path / "visit.txt"), "-"]


def test_a_folder_of_slices_is_named_in_its_result_alone(medgemma, folder, tmp_path):
    series = tmp_path / "Doe_Jane"
    series.mkdir()
    a_series(series, 2, BurnedInAnnotation="YES")
    studies = (folder / "0.png", series)
    text = medgemma("findings", *studies, "--max-tokens", "2")
    assert "# 0.png\n" in text.stdout and "# study 2\n" in text.stdout
    assert "study 2: warning: " in text.stderr
    medgemma("findings", *studies, "--max-tokens", "2", "--output", tmp_path / "r.jsonl")
    record = records(tmp_path / "r.jsonl")[1]
    assert record["study"] == "study 2"
    assert not any("Doe" in said for said in (text.stdout, text.stderr, json.dumps(record)))
    (series / "001").write_bytes((series / "001").read_bytes()[:500])
    failed = medgemma("findings", *studies, "--max-tokens", "2")
    assert "study 2: 001 is damaged, or is not a DICOM file" in failed.stderr and "Doe" not in failed.stderr


def test_a_log_gets_a_line_about_a_long_run_now_and_then(medgemma, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("medgemma_app.cli.terminal.LOGGED_EVERY", -1)
    result = medgemma("findings", folder / "0.png", folder / "1.png", "--output", tmp_path / "r.jsonl")
    assert "1 of 2 studies in " in result.stderr
    assert " left" in result.stderr
    quiet = medgemma("findings", folder / "0.png", folder / "1.png", "--output", tmp_path / "q.jsonl", "--quiet")
    assert " of 2 studies" not in quiet.stderr


def test_the_last_line_counts_issues_and_failed_studies(medgemma, folder):
    result = medgemma("findings", folder / "0.png", folder / "2.png")
    assert result.stderr.splitlines()[-1] == f"1 of 2 studies: {NOTHING_FOUND}; 1 could not be read or written"
    result = medgemma("findings", *(folder / f"{number}.png" for number in (0, 1, 2)))
    assert result.stderr.splitlines()[-1] == f"2 of 3 studies: {NOTHING_FOUND}; 1 could not be read or written"
    result = medgemma("findings", folder / "0.png", folder / "1.png", "--max-tokens", "4")
    assert result.stderr.splitlines()[-1] == "2 studies: 4 errors"


@pytest.mark.slow
def test_sigterm_keeps_the_studies_that_are_finished(folder, tmp_path):
    """Also of an answer in text, whose file is written at the end."""
    for seed in range(20, 60):
        draw_phantom(seed)[0].save(tmp_path / f"{seed}.png")
    studies = [str(folder / f"{seed}.png") for seed in (0, 1, 2)]  # the third one is damaged, which is said when its turn comes
    command = [sys.executable, "-m", "medgemma_app", "findings", *studies, str(tmp_path), "--model", "demo", "--batch-size", "1"]
    with subprocess.Popen([*command, "-o", str(tmp_path / "all.txt")], stderr=subprocess.PIPE, text=True) as run:
        assert any("2.png" in line for line in run.stderr)
        run.send_signal(signal.SIGTERM)
        said = run.stderr.read()
    assert (run.returncode, "Traceback" in said) == (130, False)
    assert 2 <= (tmp_path / "all.txt").read_text().count("FINDINGS") < 42


def test_a_folder_that_links_to_itself_is_read_once_and_what_is_left_out_is_said(medgemma, tmp_path):
    studies = tmp_path / "studies"
    studies.mkdir()
    for seed in (1, 2):
        draw_phantom(seed)[0].save(studies / f"{seed}.png")
    (studies / "again").symlink_to(studies)
    (studies / "up").symlink_to("..")
    result = medgemma("findings", studies, "--max-tokens", "2", "--json")
    assert [json.loads(line)["study"] for line in result.stdout.splitlines()] == ["1.png", "2.png"]
    a_series(studies, 2)
    result = medgemma("findings", studies, "--max-tokens", "2", "--json")
    assert "left out: " in result.stderr


def test_each_line_of_a_file_is_a_visit_and_a_folder_says_what_it_leaves_out(medgemma, tmp_path):
    visits = [write_notes(seed) for seed in (1, 2)]
    (tmp_path / "visits.jsonl").write_text("\n\n".join(json.dumps(notes) for notes, _ in visits) + "\n")
    draw_phantom(1)[0].save(tmp_path / "scan.png")
    path = tmp_path.parent / f"{tmp_path.name}.jsonl"
    result = medgemma("soap", tmp_path, "--output", path)
    assert [record["study"] for record in records(path)] == ["visits.jsonl line 1", "visits.jsonl line 2"]
    assert [record["text"] for record in records(path)] == [text for _, text in visits]
    assert "left out: 1 file without notes" in result.stderr
    visits.append(write_notes(3))
    (tmp_path / "visits.jsonl").write_text("\n".join(json.dumps(notes) for notes, _ in visits) + "\n")
    assert "already holds 2 of 3 studies" in medgemma("soap", tmp_path, "--output", path, "--resume").stderr
    assert [record["text"] for record in records(path)] == [text for _, text in visits]
    (tmp_path / "visits.jsonl").write_text("\n".join(json.dumps(notes) for notes, _ in reversed(visits)) + "\n")
    assert "2 studies changed" in medgemma("soap", tmp_path, "--output", path, "--resume").stderr
