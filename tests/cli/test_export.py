"""``medgemma export`` with the pictures and notes of the report: the same page as at first, or a refusal."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from commands import run
from dicoms import a_series, made, written
from PIL import Image

from medgemma_app import Options, ask, findings, locate, soap
from medgemma_app.cli.records import pictures_of
from medgemma_app.demo import draw_phantom, write_notes
from medgemma_app.inputs.images import read_image
from medgemma_app.inputs.notes import read_notes
from medgemma_app.inputs.series import read_series

FEW = Options(max_tokens=4)


def export(record, to, *options):
    return run("export", record, "--to", to, *options)


@pytest.fixture
def files(tmp_path):
    """Pictures and notes of every kind, by name."""
    for seed in (1, 2, 3):
        draw_phantom(seed)[0].save(tmp_path / f"{seed}.png")
    wide = Image.fromarray(np.asarray(draw_phantom(4)[0])[:100])
    wide.save(tmp_path / "wide.png")
    wide.save(tmp_path / "pages.tiff", save_all=True, append_images=[draw_phantom(5)[0]])
    written(tmp_path, made(WindowCenter=40, WindowWidth=400))
    (tmp_path / "ct").mkdir()
    a_series(tmp_path / "ct", 5)
    visits = [json.dumps(write_notes(seed)[0]) for seed in (1, 2)]
    (tmp_path / "visit.json").write_text(visits[0])
    (tmp_path / "visits.jsonl").write_text("\n".join(visits))
    return tmp_path


REPORTS = {
    "views": (lambda demo, at: findings(demo, at / "1.png", prior=at / "2.png", views=[at / "3.png"], options=FEW), "1.png 2.png 3.png"),
    "stretched": (lambda demo, at: findings(demo, read_image(at / "wide.png", pad=False), options=FEW), "wide.png"),
    "a page": (lambda demo, at: findings(demo, read_image(at / "pages.tiff", frame=2), options=FEW), "pages.tiff"),
    "a window": (lambda demo, at: findings(demo, read_image(at / "scan.dcm", window="300/1500"), options=FEW), "scan.dcm"),
    "slices": (lambda demo, at: findings(demo, read_series(at / "ct", slices=3), options=FEW), "ct"),
    "a box": (lambda demo, at: locate(demo, at / "1.png", "right lung", options=FEW), "1.png"),
    "a question": (lambda demo, at: ask(demo, "?", at / "1.png", at / "ct", notes=at / "visit.json", options=FEW), "1.png ct visit.json"),
    "a note": (lambda demo, at: soap(demo, at / "visit.json", options=FEW), "visit.json"),
    "a line": (lambda demo, at: soap(demo, read_notes(at / "visits.jsonl", part=2), options=FEW), "visits.jsonl"),
}  # fmt: skip


@pytest.mark.parametrize("name", REPORTS)
def test_the_page_of_a_record_with_its_pictures_and_notes_is_that_of_the_report(demo, files, name):
    make, given = REPORTS[name]
    report = make(demo, files)
    for ending in (".json", ".html"):
        report.save(files / f"report{ending}")
    options = [word for file in given.split() for word in ("--source" if "visit" in file else "--scan", files / file)]
    result = export(files / "report.json", files / "again.html", *options)
    assert result.exit_code == 0, result.output
    assert (files / "again.html").read_bytes() == (files / "report.html").read_bytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--scan", "1.png"], "2.png is missing or has changed"),
        (["--scan", "1.png", "--scan", "changed/2.png"], "2.png is missing or has changed"),
        (["--scan", "1.png", "--scan", "2.png", "--scan", "3.png"], "was not written from 3.png"),
        (["--scan", "1.png", "--scan", "none.png"], "none.png does not exist"),
        (["--source", "visit.json"], "was not written from notes"),
        (["--source", "visit.json", "--to", "x.csv"], "--source is for .html and .pdf only"),
        (["--scan", "1.png", "--to", "x.csv"], "--scan (scan=) is for .dcm, .sr.dcm"),
        (["--subject", "Jane Roe"], "--subject (subject=) is for .fhir.json only"),
        (["--patient", "7"], "give --source"),
    ],
)
def test_pictures_that_the_report_was_not_written_from_are_refused(demo, files, options, words):
    findings(demo, files / "1.png", prior=files / "2.png", options=FEW).save(files / "report.json")
    (files / "changed").mkdir()
    draw_phantom(9)[0].save(files / "changed" / "2.png")
    to = files / (options[-1] if "--to" in options else "x.html")
    given = [files / word if "." in word else word for word in options if word not in ("--to", "x.csv")]
    result = export(files / "report.json", to, *given)
    assert (result.exit_code, words in result.stderr, result.stderr.count("\n"), to.exists()) == (2, True, 1, False), result.stderr


def test_notes_that_the_report_was_not_written_from_are_refused(demo, files):
    soap(demo, files / "visit.json", options=FEW).save(files / "report.json")
    record = json.loads((files / "report.json").read_text())
    (files / "other.json").write_text(json.dumps(write_notes(7)[0]))
    assert (
        "other.json is not what the report was written from"
        in export(files / "report.json", files / "x.html", "--source", files / "other.json").stderr
    )
    for facts, words in (({"truncated": True}, "only part of the notes"), ({"words": 1}, "visit.json is not what the report was")):
        changed = {**record, "input": {"notes": record["input"]["notes"] | facts}}
        (files / "changed.json").write_text(json.dumps(changed))
        result = export(files / "changed.json", files / "x.html", "--source", files / "visit.json")
        assert (result.exit_code, words in result.stderr) == (2, True), result.stderr


@pytest.mark.parametrize(
    "facts", [5, {"scan": 5}, {"scan": {"files": 3}}, {"scan": {"files": {"a": 1}}}, {"views": [3]}, {"prior": "x"}, []]
)
def test_a_record_with_damaged_facts_is_one_line(files, facts):
    (files / "report.json").write_text(json.dumps({"text": "x", "kind": "findings", "issues": [], "input": facts}))
    for to in ("x.html", "x.sr.dcm"):
        result = export(files / "report.json", files / to, "--scan", files / "scan.dcm")
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.output


def test_a_report_in_dicom_asks_for_the_picture_with_the_option_of_the_command(files):
    facts = {"text": "x", "kind": "findings", "issues": [], "input": {"scan": {"name": "scan.dcm", "format": "DICOM"}}}
    (files / "report.json").write_text(json.dumps(facts))
    assert export(files / "report.json", files / "x.dcm").stderr.endswith("give the file of the picture with --scan (scan=)\n")


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        ("FINDINGS: Clear.", None, "is not JSON; give the output of findings --json or soap --json"),
        ("{}", "0", "has no report number 0; it holds 1, counted from 1"),
        ("{}", "2", "has no report number 2; it holds 1, counted from 1"),
        ('[{"a": 1}, {"b": 2}]', None, "holds 2 reports; choose one with --line"),
    ],
)
def test_a_refusal_asks_for_what_an_export_can_use(tmp_path, content, line, words):
    (tmp_path / "f.json").write_text(content)
    result = export(tmp_path / "f.json", tmp_path / "x.html", *(["--line", line] if line else []))
    assert (result.exit_code, words in result.stderr, "text of a report" in result.stderr) == (2, True, False), result.stderr


def test_two_files_of_the_same_picture_are_both_taken(demo, files):
    copied = shutil.copy(files / "1.png", files / "copy.png")
    record = findings(demo, files / "1.png", prior=copied, options=FEW).to_dict()
    assert len(pictures_of(record, [str(files / "1.png"), str(copied)])) == 2
