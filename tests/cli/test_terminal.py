"""What is said on standard error, word for word."""

from __future__ import annotations

import io
from unittest.mock import Mock

import pytest

from medgemma_app.cli.terminal import Tally, by_severity, counted, duration, issue_line, say_issues
from medgemma_app.notices import NOTHING_FOUND, printable, verdict
from medgemma_app.validate import Issue, Validation


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("severities", "words"),
    [
        ([], NOTHING_FOUND),
        (["error"], "1 error"),
        (["warning", "error", "info", "error"], "2 errors, 1 warning, 1 info"),
        (["info", "info"], "2 info"),
    ],
)
def test_a_verdict_counts_and_never_says_valid(severities, words):
    assert verdict(severities) == words
    assert "valid" not in words


def test_issues_are_sorted_by_severity_and_else_stay_in_order():
    issues = [Issue("truncated", severity, str(n)) for n, severity in enumerate(["info", "error", "warning", "error"])]
    assert [issue.message for issue in by_severity(issues)] == ["1", "3", "2", "0"]


@pytest.mark.parametrize("columns", [41, 81])
def test_a_line_is_plain_in_a_pipe_and_wrapped_and_coloured_on_a_terminal(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    text = "code: " + "word " * 30
    assert "\n" not in issue_line("error", text, io.StringIO())
    shown = issue_line("error", text, Terminal())
    assert shown.startswith("\033[31merror\033[0m: code: word")
    assert max(len(line) for line in shown.splitlines()[1:]) == columns
    assert all(line.startswith("  ") for line in shown.splitlines()[1:])
    for variable, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            assert "\033" not in issue_line("error", text, Terminal())


def test_an_issue_is_one_line_whatever_its_text_holds():
    assert issue_line("error", "a\nb\x1b[31m\u202ec", io.StringIO(), prefix="x.png: ") == "x.png: error: a b\ufffd[31m\ufffdc"


def test_words_of_the_report_are_shown_on_a_terminal_and_not_in_a_log(monkeypatch):
    issue = Issue("dose-mismatch", "warning", "the source says 500 mg", excerpt="metformin 850 mg")
    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr("sys.stderr", stream)
        say_issues(Mock(validation=Validation((issue,)), warnings=()))
        assert ("[metformin 850 mg]" in " ".join(stream.getvalue().split()), "500 mg" in stream.getvalue()) == (shown, True)


def test_printable_text_keeps_its_length_and_its_letters():
    unsafe = "\x00\x07\x1b\r\x7f\x85\x9b\u202a\u202e\u2066\u2069\udce9"
    assert printable(unsafe) == "\ufffd" * len(unsafe)
    assert printable(safe := "°C\t\n日本 עברית \u200f👩‍⚕️") == safe


def test_the_tally_says_rate_and_time_left():
    tally = Tally(3)
    assert "left" in tally.count()
    tally.count()
    assert tally.count().startswith("3 of 3 studies") and "left" not in tally.text
    assert [duration(seconds) for seconds in (5, 600, 36_000)] == ["5 s", "10 min", "10.0 h"]


def test_counts_agree_in_number():
    assert [counted(1, "study"), counted(2, "study"), counted(2, "picture")] == ["1 study", "2 studies", "2 pictures"]
