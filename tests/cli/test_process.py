"""Signals and standard streams: always a documented exit code, and never a traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medgemma_app.cli.app import run
from medgemma_app.cli.process import interruptible

CODES = {0, 1, 2, 3, 130}
# Sampling from the random checkpoint: words at once, and no end.
ENDLESS = ["--max-tokens", "5000", "--temperature", "2", "--seed", "1"]
COMMAND = [sys.executable, "-m", "medgemma_app"]


def start(*arguments, **how):
    return subprocess.Popen([*COMMAND, *arguments], **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | how)


def shell(line, **environment):
    """Runs ``medgemma`` in a line of shell."""
    line = line.replace("medgemma ", f"{sys.executable} -m medgemma_app ", 1)
    return subprocess.run(["bash", "-c", line], capture_output=True, env=os.environ | environment, timeout=60)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.slow
def test_a_signal_keeps_what_was_printed_and_exits_130(tiny_folder, scan, number):
    with start("findings", scan, "--model", str(tiny_folder), *ENDLESS) as run:
        first = run.stdout.read(1)
        run.send_signal(number)
        rest, stderr = run.communicate(timeout=60)
    assert run.returncode == 130
    assert (first + rest).strip()
    assert stderr.splitlines()[-1] == "medgemma: cancelled"
    assert "Traceback" not in stderr


@pytest.mark.slow
def test_a_reader_that_goes_away_ends_the_command_quietly(tiny_folder, scan):
    with start("findings", scan, "--model", str(tiny_folder), *ENDLESS) as run:
        run.stdout.read(1)
        run.stdout.close()
        stderr = run.stderr.read()
    assert run.returncode == 0
    assert not any(word in stderr for word in ("Traceback", "Broken pipe", "cancelled", "Error"))


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("medgemma --help >/dev/full", 2, "No space left on device"),
        ("medgemma --help | true; exit ${PIPESTATUS[0]}", 0, ""),
        ("medgemma prompts >/dev/full", 2, "No space left on device"),
        ("medgemma prompts | true; exit ${PIPESTATUS[0]}", 0, ""),
        ("medgemma --help >&-", 2, "standard output is closed"),
        ("medgemma --help 2>&-", 0, ""),
        ("medgemma --help <&-", 0, ""),
        ("medgemma findings NONE 2>&-", 2, ""),
        ("medgemma soap - <&-", 2, "standard input"),
        ("medgemma check - <&-", 2, "standard input is empty"),
        ("medgemma check - </dev/full", 2, ""),
        ("medgemma check REPORT >/dev/full", 2, "No space left on device"),
        ("medgemma findings SCAN --model demo >/dev/full", 2, "No space left on device"),
        pytest.param(
            "medgemma findings SCAN --model demo -o /dev/full", 2, "cannot write full: No space left on device", marks=pytest.mark.slow
        ),
        pytest.param("medgemma findings SCAN --model demo >&-", 2, "standard output is closed", marks=pytest.mark.slow),
        pytest.param("medgemma findings SCAN --model demo -o OUT >&-", 0, "", marks=pytest.mark.slow),
        pytest.param("medgemma findings SCAN --model demo --json >/dev/full", 2, "No space left on device", marks=pytest.mark.slow),
        pytest.param("medgemma findings SCAN SCAN NONE --model demo >/dev/full", 2, "No space left on device", marks=pytest.mark.slow),
        pytest.param("medgemma findings SCAN --model demo <&- >&- 2>&- -o OUT", 0, "", marks=pytest.mark.slow),
        pytest.param("medgemma findings SCAN --model demo --json | head -c 9; exit ${PIPESTATUS[0]}", 0, "", marks=pytest.mark.slow),
        pytest.param("medgemma findings SCAN --model demo 2>/dev/full", 0, "", marks=pytest.mark.slow),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_broken_streams(tmp_path, scan, line, code, said):
    (tmp_path / "report.txt").write_text("FINDINGS: Clear.\n")
    names = {"SCAN": scan, "OUT": tmp_path / "out.txt", "NONE": tmp_path / "none.png", "REPORT": tmp_path / "report.txt"}
    for name, path in names.items():
        line = line.replace(name, str(path))
    ran = shell(line)
    stderr = ran.stderr.decode(errors="replace")
    assert (ran.returncode, said in stderr) == (code, True), stderr
    assert not any(word in stderr for word in ("Traceback", "Exception ignored", "Errno"))


@pytest.mark.slow
def test_a_name_that_is_not_utf_8_and_a_sign_that_ascii_lacks(tmp_path, scan):
    odd = os.fsencode(tmp_path) + b"/caf\xe9.png"
    Path(os.fsdecode(odd)).write_bytes(scan.read_bytes() + b"\0")  # not a copy, which would be left out
    command = [*COMMAND, "findings", odd, scan, "--model", "demo"]
    for environment in {}, {"PYTHONIOENCODING": "ascii"}:
        ran = subprocess.run(command, capture_output=True, env=os.environ | environment, timeout=60)
        assert (ran.returncode, b"Traceback" in ran.stderr) == (0, False), ran.stderr
        assert ran.stdout.startswith(b"# caf")


def test_ascii_output_replaces_in_text_and_escapes_in_json(tmp_path):
    (tmp_path / "report.json").write_text(json.dumps({"text": "FINDINGS: 39 °C.\n\nIMPRESSION: Fever.", "kind": "findings"}))
    ran = shell(f"medgemma check {tmp_path}/report.json --json", PYTHONIOENCODING="ascii")
    assert "39 °C" in json.loads(ran.stdout)["sections"]["findings"]
    assert ran.stdout.isascii()


def test_a_second_signal_ends_the_command_at_once_and_the_first_one_is_an_interrupt():
    with pytest.raises(KeyboardInterrupt), interruptible():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    code = (
        "import os, signal, time\nfrom medgemma_app.cli.process import interruptible\n"
        "with interruptible():\n try:\n  os.kill(os.getpid(), 2); time.sleep(1)\n"
        " except KeyboardInterrupt:\n  os.kill(os.getpid(), 2); time.sleep(9)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=5)
    assert (ran.returncode, ran.stderr) == (130, b"medgemma: cancelled\n")


@pytest.mark.parametrize(
    "command",
    [["--help"], ["findings", "SCAN", "--model", "demo"], ["findings", "SCAN", "COPY", "--model", "demo", "-o", "OUT"], ["check", "-"]],
    ids=" ".join,
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.slow
def test_a_signal_at_any_moment_of_the_first_three_seconds(tmp_path, scan, command, number):
    """From the moment at which the handlers are set, the first thing that the command does. Before it a signal is the interpreter's."""
    os.link(scan, tmp_path / "copy.png")
    names = {"SCAN": scan, "COPY": str(tmp_path / "copy.png"), "OUT": str(tmp_path / "out.jsonl")}
    code = "import os; from medgemma_app.cli import main, process; process.prepare_signals(); os.write(2, b'.'); main()"
    for delay in range(0, 3001, 50 if number == signal.SIGINT else 150):  # both are handled by the same lines
        (tmp_path / "out.jsonl").unlink(missing_ok=True)
        arguments = [names.get(word, word) for word in command]
        pipe = dict.fromkeys(["stdin", "stdout", "stderr"], subprocess.PIPE)
        with subprocess.Popen([sys.executable, "-c", code, *arguments], text=True, **pipe) as run:
            run.stderr.read(1)
            time.sleep(delay / 1000)
            run.send_signal(number)
            stderr = run.communicate(timeout=60)[1]
        assert run.returncode in {0, 130}, (delay, run.returncode, stderr)
        assert not any(word in stderr for word in ("Traceback", "Exception ignored")), (delay, stderr)
        if "cancelled" not in stderr or (command[0] == "check" and delay > 600):
            break  # it had ended before, or waits for its input


LONG = "x" * 300  # longer than a file name may be


@pytest.mark.parametrize(
    "arguments",
    [
        ["findings", LONG],
        ["soap", LONG],
        ["check", LONG],
        ["export", LONG, "--to", "a.html"],
        ["findings", "SCAN", "--model", LONG],
        ["findings", "SCAN", "--output", f"{LONG}.html"],
        ["findings", "SCAN", "--prompt", LONG],
        ["locate", "SCAN", "nodule", "--save-boxes", f"{LONG}.png"],
    ],
    ids=lambda arguments: " ".join(arguments).replace(LONG, "LONG"),
)
def test_a_name_that_the_system_does_not_take_is_one_line(arguments, tmp_path, scan, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["medgemma", *(str(scan) if word == "SCAN" else word for word in arguments)])
    assert run() in {1, 2}
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("medgemma: ") and printed.err.count("\n") == 1
