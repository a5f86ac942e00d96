"""What is said on standard error, word for word."""

from __future__ import annotations

import io
import pty
import termios
from dataclasses import asdict
from unittest.mock import Mock

import pytest

from medgemma_app.cli.terminal import pace, print_issues, say_issues
from medgemma_app.notices import NOTHING_FOUND, counted, first_of, issue_counts, printable
from medgemma_app.validate import Issue


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
def test_issues_are_counted_and_a_text_is_never_called_valid(severities, words):
    assert issue_counts(severities) == words
    assert "valid" not in words and "report" not in words  # it may be an answer


def shown(*issues, stream, **how):
    print_issues([asdict(issue) for issue in issues], stream, **how)
    return stream.getvalue()


def test_issues_and_warnings_about_the_input_are_sorted_by_severity_and_else_stay_in_order(capsys):
    issues = [Issue("truncated", severity, str(n)) for n, severity in enumerate(["info", "error", "warning", "error"])]
    say_issues(Mock(to_dict=lambda: {"issues": [asdict(issue) for issue in issues], "warnings": ["4"]}))
    assert [line[-1] for line in capsys.readouterr().err.splitlines()] == ["1", "3", "2", "4", "0"]


@pytest.mark.parametrize("columns", [41, 81])
def test_a_line_is_plain_in_a_pipe_and_wrapped_and_coloured_on_a_terminal(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    issue = Issue("truncated", "error", "word " * 30)
    assert shown(issue, stream=io.StringIO()).count("\n") == 1
    first, *rest = shown(issue, stream=Terminal()).splitlines()
    assert first.startswith("\033[31merror\033[0m: truncated: word")
    assert max(map(len, rest)) == columns
    assert all(line.startswith("  ") for line in rest)
    for variable, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            assert "\033" not in shown(issue, stream=Terminal())


def test_lines_are_as_wide_as_the_terminal_that_they_are_printed_on(monkeypatch):
    """Which is that of standard error, also where standard output is a pipe or another terminal."""
    monkeypatch.delenv("COLUMNS", raising=False)
    ours, other = pty.openpty()
    termios.tcsetwinsize(other, (24, 41))
    with open(ours, "rb") as screen, open(other, "w") as stream:
        print_issues([asdict(Issue("truncated", "info", "word " * 30))], stream)
        lines = screen.read(150).decode().splitlines()
    assert max(map(len, lines[1:])) == 41


def test_an_issue_is_one_line_whatever_its_text_holds():
    issue = Issue("truncated", "error", "a\nb\x1b[31m\u202ec")
    assert shown(issue, stream=io.StringIO(), prefix="x.png: ") == "x.png: error: truncated: a b\ufffd[31m\ufffdc\n"


def test_words_of_the_report_are_shown_on_a_terminal_and_not_in_a_log(monkeypatch):
    issue = Issue("dose-mismatch", "warning", "the source says 500 mg", excerpt="metformin 850 mg")
    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr("sys.stderr", stream)
        say_issues(Mock(to_dict=lambda: {"issues": [asdict(issue)]}))
        assert ("[metformin 850 mg]" in " ".join(stream.getvalue().split()), "500 mg" in stream.getvalue()) == (shown, True)


def test_printable_text_keeps_its_length_and_its_letters():
    unsafe = "\x00\x07\x1b\r\x7f\x85\x9b\u202a\u202e\u2066\u2069\udce9"
    assert printable(unsafe) == "\ufffd" * len(unsafe)
    assert printable(safe := "°C\t\n日本 עברית \u200f👩‍⚕️") == safe


@pytest.mark.parametrize(
    ("done", "words"),
    [
        (0, "0 of 3 studies in 0:02:00, 0.0 a minute"),
        (1, "1 of 3 studies in 0:02:00, 0.5 a minute, 0:04:00 left"),
        (3, "3 of 3 studies in 0:02:00, 1.5 a minute"),
    ],
)
def test_a_long_run_says_its_rate_and_the_time_left(done, words):
    assert pace(done, 3, 120) == words


def test_counts_agree_in_number():
    assert [counted(1, "study"), counted(2, "study"), counted(2, "picture")] == ["1 study", "2 studies", "2 pictures"]


def test_a_message_names_twenty_at_most():
    names = [f"s{number}" for number in range(22)]
    assert first_of(names[:2]) == "s0, s1"
    assert first_of(names).endswith("s19 and 2 more")
