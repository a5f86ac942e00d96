"""Many studies in one call: in order, a line each, and nothing lost or doubled when the run is cut off."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing

import pytest
from dicoms import a_series
from typer.testing import CliRunner

from medgemma_app import MedGemma
from medgemma_app.cli.app import app
from medgemma_app.cli.batch import Tally, duration
from medgemma_app.cli.results import Results
from medgemma_app.demo import draw_phantom, write_notes
from medgemma_app.errors import OutputError
from medgemma_app.inputs.studies import find_notes, find_studies

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


@pytest.fixture
def medgemma(demo, monkeypatch):
    loads = []
    monkeypatch.setattr(MedGemma, "load", lambda *_, **__: loads.append(1) or demo)

    def run(*arguments):
        result = CliRunner().invoke(app, [*map(str, arguments), "--model", "demo"])
        result.loads = len(loads)
        return result

    return run


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def paths(found):
    return [study.path for study in found.studies]


def test_a_folder_is_a_line_a_study_in_order_and_the_model_is_loaded_once(medgemma, folder, tmp_path):
    result = medgemma("findings", folder, "--output", tmp_path / "r.jsonl", "--batch-size", "3")
    records = lines(tmp_path / "r.jsonl")
    assert [os.path.relpath(record["study"], folder) for record in records] == [*(f"{n}.png" for n in range(COUNT)), "below/9.png"]
    assert [record.get("text") for record in records] == [None if seed == 2 else draw_phantom(seed)[1] for seed in (*range(COUNT), 9)]
    assert (records[2]["exit_code"], result.exit_code, result.loads, result.stdout) == (2, 2, 1, "")
    assert "2.png" in records[2]["error"]
    assert "7 of 7 studies" in result.stderr


def test_notes_of_many_visits_are_decoded_together(medgemma, folder, tmp_path):
    for seed in range(3):
        (tmp_path / f"{seed}.json").write_text(json.dumps(write_notes(seed)[0]))
    result = medgemma("soap", tmp_path, "--json")
    assert [json.loads(line)["text"] for line in result.stdout.splitlines()] == [write_notes(seed)[1] for seed in range(3)]


def test_no_model_is_loaded_where_nothing_can_be_read(medgemma):
    result = medgemma("findings", "none.png", "nothing.png")
    assert (result.exit_code, result.loads, result.stderr.count("does not exist")) == (2, 0, 2)


def test_resume_does_what_is_missing_and_leaves_the_rest(medgemma, folder, tmp_path):
    path = tmp_path / "r.jsonl"
    medgemma("findings", folder, "--output", path)
    whole = path.read_bytes()
    kept = whole.splitlines(keepends=True)
    path.write_bytes(b"".join(kept[:3]) + kept[3][:40])  # as a crash leaves it
    result = medgemma("findings", folder, "--output", path, "--resume")
    assert [record["study"] for record in lines(path)] == [json.loads(line)["study"] for line in kept]
    assert path.read_bytes().splitlines()[:3] == whole.splitlines()[:3]
    assert result.exit_code == 2  # the study that failed the first time counts still
    assert medgemma("findings", folder, "--output", path, "--resume").exit_code == 2


def test_results_are_never_written_over(medgemma, folder, tmp_path):
    (tmp_path / "r.jsonl").write_text("something\n")
    for more in (), ("--resume",):
        result = medgemma("findings", folder, "--output", tmp_path / "r.jsonl", *more)
        assert (result.exit_code, result.loads, result.stderr.count("\n")) == (2, 0, 1)
    assert (tmp_path / "r.jsonl").read_text() == "something\n"


def test_results_of_another_model_or_another_run_are_left_alone(tmp_path):
    first = Results(tmp_path / "r.jsonl", kind="soap", model="demo", resume=False)
    with pytest.raises(OutputError, match="another run"):
        Results(tmp_path / "r.jsonl", kind="soap", model="demo", resume=True)
    first.add({"study": "a", "exit_code": 0, "kind": "soap", "model": {"id": "demo"}})
    first.close()
    with closing(Results(tmp_path / "r.jsonl", kind="soap", model="demo", resume=True)) as again:
        assert again.done == {"a": 0}
    with pytest.raises(OutputError, match="another command or model"):
        Results(tmp_path / "r.jsonl", kind="soap", model="other", resume=True)


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
    assert [record["study"] for record in lines(path)] == studies


def test_a_folder_of_pictures_is_many_studies_and_one_of_dicom_is_one(tmp_path):
    for name in ("b.PNG", "a.jpg", ".hidden.png", "readme.txt", "visit.json"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "ct").mkdir()
    a_series(tmp_path / "ct", 2)
    names = [str(tmp_path / name) for name in ("a.jpg", "b.PNG", "ct")]
    assert paths(find_studies([str(tmp_path)])) == names
    assert paths(find_studies([names[1], names[1], "missing"])) == [names[1], "missing"]
    assert paths(find_notes([str(tmp_path), "-"])) == [str(tmp_path / "visit.json"), "-"]


def test_a_folder_of_slices_is_named_in_its_result_alone(medgemma, folder, tmp_path):
    series = tmp_path / "Doe_Jane"
    series.mkdir()
    a_series(series, 2, BurnedInAnnotation="YES")
    studies = (folder / "0.png", series)
    text = medgemma("findings", *studies, "--max-tokens", "2")
    assert "# 0.png\n" in text.stdout and "# study 2\n" in text.stdout
    assert "study 2: warning: " in text.stderr
    medgemma("findings", *studies, "--max-tokens", "2", "--output", tmp_path / "r.jsonl")
    record = lines(tmp_path / "r.jsonl")[1]
    assert record.pop("study") == str(series)
    assert not any("Doe" in said for said in (text.stdout, text.stderr, json.dumps(record)))
    (series / "001").write_bytes((series / "001").read_bytes()[:500])
    failed = medgemma("findings", *studies, "--max-tokens", "2")
    assert "study 2: 001 is a damaged DICOM file" in failed.stderr and "Doe" not in failed.stderr


def test_a_log_hears_of_a_long_run_now_and_then(medgemma, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("medgemma_app.cli.output.LOGGED_EVERY", -1)
    result = medgemma("findings", folder / "0.png", folder / "1.png", "--output", tmp_path / "r.jsonl")
    assert "1 of 2 studies in " in result.stderr
    assert " left" in result.stderr
    quiet = medgemma("findings", folder / "0.png", folder / "1.png", "--output", tmp_path / "q.jsonl", "--quiet")
    assert " of 2 studies" not in quiet.stderr


def test_the_tally_says_rate_and_time_left():
    tally = Tally(3)
    assert "left" in tally.count()
    tally.count()
    assert tally.count().startswith("3 of 3 studies") and "left" not in tally.text
    assert [duration(seconds) for seconds in (5, 600, 36_000)] == ["5 s", "10 min", "10.0 h"]
