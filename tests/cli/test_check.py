"""``medgemma check``: what it reads, what it says, and its exit code."""

import json
import subprocess
import sys

import pytest
from commands import run
from hypothesis import given, settings
from hypothesis import strategies as st

from medgemma_app.cli.records import guess_kind
from medgemma_app.notices import NOTHING_FOUND

FINDINGS = "FINDINGS:\nThe heart is normal in size. The lungs are clear.\n\nIMPRESSION:\nNo acute disease."
NOTE = "S: Cough.\nO: Lungs are clear. Pulse 72.\nA: Bronchitis.\nP: Rest."
NOTES = json.dumps({"dialogue": "a cough , your lungs are clear , pulse seventy two , it is bronchitis , rest"})
HEADER = {"Modality": "CT", "PatientSex": "F", "PatientAge": "058Y", "PixelSpacing": ["0.1", "0.1"]}


def check(*arguments, **kwargs):
    return run("check", *arguments, **kwargs)


def put(folder, content, name="report.txt"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def codes(result):
    return [line.split(": ")[1] for line in result.stdout.splitlines()]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (FINDINGS, "findings"),
        ("Indication: cough.\nFINDINGS: Clear.\nIMPRESSION: Normal.", "findings"),
        ("IMPRESSION: Normal.", "findings"),
        (NOTE, "soap"),
        ("HISTORY OF PRESENT ILLNESS\nCough.\nEXAM\nClear.\nIMPRESSION\nBronchitis.\nPLAN\nRest.", "soap"),
        ("ASSESSMENT AND PLAN\nRest.", "soap"),
        ("no heading at all", "findings"),
    ],
)
def test_the_headings_decide_the_kind(text, kind):
    assert guess_kind(text) == kind


@pytest.mark.parametrize("text", [FINDINGS, NOTE])
def test_a_good_report_gives_nothing_on_stdout_a_verdict_on_stderr_and_exit_0(tmp_path, text):
    result = check(put(tmp_path, text))
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith("report.txt, checked as a ")
    assert result.stderr.endswith(f": {NOTHING_FOUND}\n")


def test_an_issue_is_a_line_and_an_error_exits_with_3():
    result = check("-", input=f"{FINDINGS[:-9]}\x1b[31m {FINDINGS[-9:-3]}")
    assert (result.exit_code, codes(result)) == (3, ["truncated"])
    assert "\x1b" not in result.stdout
    assert "acute" not in result.stderr


def test_a_warning_alone_exits_with_0(tmp_path):
    report = put(tmp_path, FINDINGS.replace("clear", "clear, with an unchanged nodule of 8 mm"))
    assert codes(check(report)) == ["invented-prior"]
    assert codes(check(report, "--has-prior")) == []
    assert (check(report).exit_code, check(report, "--strict").exit_code) == (0, 3)


def test_a_note_is_compared_with_its_source(tmp_path):
    report, notes = put(tmp_path, NOTE.replace("72", "88")), put(tmp_path, NOTES, "notes.json")
    assert codes(check(report)) == []
    assert (codes(check(report, "--source", notes)), check(report, "--source", notes).exit_code) == (["invented-value"], 3)
    assert codes(check(put(tmp_path, NOTE), "--source", notes)) == []


def test_a_report_is_compared_with_the_facts_about_its_picture(tmp_path):
    report = put(tmp_path, FINDINGS.replace("The heart", "A 61-year-old man. The heart"))
    assert codes(check(report, "--indication", "58-year-old woman")) == ["wrong-age", "wrong-sex"]


def test_json_is_one_object_with_everything(tmp_path):
    result = check(put(tmp_path, FINDINGS[:-3]), "--json")
    record = json.loads(result.stdout)
    assert (record["report"], record["kind"], record["valid"]) == ("report.txt", "findings", False)
    assert [issue["code"] for issue in record["issues"]] == ["truncated"]
    assert record["sections"]["impression"] == "No acute disea"


def record(**changed):
    scan = {"header": HEADER}
    told = {"kind": "findings", "finish_reason": "stop", "input": {"scan": scan, "prior": None, "indication": None}}
    return json.dumps({"text": FINDINGS, **told, **changed})


def test_the_facts_in_a_record_are_used(tmp_path):
    text = FINDINGS.replace("clear", "clear. A 61-year-old man. There is a nodule of 8 mm, unchanged")
    assert sorted(codes(check(put(tmp_path, record(text=text))))) == ["invented-prior", "wrong-age", "wrong-sex"]
    bare = record(text=text, input={"scan": {"header": {}}, "prior": {"name": "old.png"}})
    assert codes(check(put(tmp_path, bare))) == ["unscaled-measurement"]
    assert codes(check(put(tmp_path, record(finish_reason="length")))) == ["truncated"]
    assert codes(check(put(tmp_path, record(text="", thought="hm")))) == ["thought-only"]
    assert "checked as a SOAP note" in check(put(tmp_path, json.dumps({"text": NOTE, "kind": "soap"}, indent=1))).stderr


def test_a_file_of_results_is_checked_line_by_line(tmp_path):
    failed = json.dumps({"study": "b.png", "error": "unreadable"})
    lines = [record(study="a.png"), failed, json.dumps({"kind": "ask", "text": "Yes."}), record(study="c.png", text="FINDINGS: Clear.")]
    result = check(put(tmp_path, "\n".join(lines)))
    assert (result.exit_code, result.stdout) == (2, "c.png: error: missing-section: the impression section is missing\n")
    assert "b.png has no report: the run failed on it" in result.stderr and "line 3 of report.txt is an answer" in result.stderr


def test_several_reports_are_named_and_one_that_cannot_be_read_does_not_stop_the_next(tmp_path):
    result = check(put(tmp_path, FINDINGS), tmp_path / "none", put(tmp_path, "FINDINGS: Clear.", "b.txt"))
    assert (result.exit_code, result.stdout.split(":")[0], "none does not exist" in result.stderr) == (2, "b.txt", True)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\x00\xfe",
        b"\x89PNG\r\n\x1a\n\0",
        b"a\0b",
        b'{"text": []}',
        b'{"issues": []}',
        b'{"text": "',
        b'{"a":' * 9999,
        b"a" * 10_000_001,
    ],
    ids=range(9),
)
def test_anything_but_a_report_is_one_line_and_exit_2(tmp_path, content):
    result = check(put(tmp_path, content))
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)
    assert result.stderr.startswith("medgemma: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["-", "--source", "-"],
        ["-", "--source", "no-such-file.json"],
        ["-", "--source", "notes.json", "--kind", "findings"],
        ["-", "--kind", "soap", "--indication", "cough"],
        ["-", "--kind", "letter"],
        ["https://example.org/report.txt"],
        [],
    ],
)
def test_bad_usage_exits_with_2(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    put(tmp_path, NOTES, "notes.json")
    assert check(*arguments, input=FINDINGS).exit_code == 2


ODD = st.none() | st.integers() | st.text(max_size=9) | st.lists(st.integers(), max_size=2) | st.just(HEADER)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["text", "kind", "finish_reason", "thought", "input", "study", "error"]),
        ODD
        | st.dictionaries(
            st.sampled_from(["scan", "prior", "indication"]),
            ODD | st.just({"header": {"PatientAge": "x", "Modality": 1, "PatientSex": []}}),
        ),
    )
)
def test_any_record_gets_an_answer(record):
    result = check("-", input=json.dumps(record))
    assert result.exit_code in (0, 2, 3)
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_a_check_loads_no_model(tmp_path):
    code = (
        "import sys, medgemma_app.cli\n"
        "try: medgemma_app.cli.main()\n"
        "except SystemExit: print(*{name.split('.')[0] for name in sys.modules})"
    )
    report = put(tmp_path, record())
    ran = subprocess.run([sys.executable, "-c", code, "check", str(report)], capture_output=True, text=True, check=True)
    assert not {"mlx", "mlx_vlm", "transformers", "torch", "PIL", "numpy"} & set(ran.stdout.split())


def test_an_array_of_results_is_checked_one_by_one(tmp_path):
    result = check(put(tmp_path, json.dumps([{"text": FINDINGS, "kind": "findings"}, {"text": NOTE, "kind": "soap"}])), "--json")
    assert (result.exit_code, [json.loads(line)["kind"] for line in result.stdout.splitlines()]) == (0, ["findings", "soap"])
    assert "report 2 of report.txt, checked as a SOAP note" in result.stderr
    assert check(put(tmp_path, '[{"text": "x"}, 3]')).exit_code == 2


def test_a_transcript_need_not_be_json(tmp_path):
    report, source = put(tmp_path, NOTE), put(tmp_path, "[doctor] pulse eighty , lungs clear , bronchitis , rest , a cough", "said.txt")
    assert codes(check(report, "--source", source)) == ["invented-value"]


def test_a_findings_report_takes_no_source(tmp_path):
    result = check(put(tmp_path, FINDINGS), "--source", put(tmp_path, "a cough", "said.txt"))
    assert (result.exit_code, "--source does not apply" in result.stderr) == (2, True)


@pytest.mark.parametrize("nothing", ["", "[]"])
def test_an_empty_input_is_refused(nothing):
    assert check("-", input=nothing).exit_code == 2


def test_standard_input_is_read_once():
    result = check("-", "-", input=FINDINGS)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
