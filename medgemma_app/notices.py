"""The notices that every user sees, and how text is made safe to print."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

NOTICE = "Research use only. Outputs are drafts that need independent verification. Not a medical device."
BOX_NOTICE = "Boxes are for anatomy only, and every box needs validation."
DEMO_NOTICE = "The demo model was trained on drawn phantoms and synthetic notes only: its output has no clinical meaning."
TERMS = "MedGemma's weights come under the Health AI Developer Foundations terms of use."
BLIND_SPOT = (
    "The checks compare text with text. They cannot see whether a sentence is true of the picture or of the patient: "
    "a missed nodule reads as well as a found one."
)

SEVERITIES = ("error", "warning", "info")  # of issues, worst first
MOST_NAMED = 20  # in one message
NOTHING_FOUND = "the text checks found nothing, which does not mean that the content is right"

# Control characters (C0 and C1) control a terminal, bidirectional overrides reorder its text, lone surrogates cannot be encoded.
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """``text`` with every unsafe character replaced by one U+FFFD, so that offsets do not change."""
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", text)


def printable_value(value: Any) -> Any:
    """A JSON value with printable strings only: the characters that JSON escapes would reach the terminal of whoever prints a field."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {printable(str(name)): printable_value(each) for name, each in value.items()}
    return [printable_value(each) for each in value] if isinstance(value, list | tuple) else value


def issue_counts(severities: Sequence[str]) -> str:
    """What the checks found, such as "2 errors, 1 warning"."""
    counts = {severity: severities.count(severity) for severity in SEVERITIES if severity in severities}
    return ", ".join(f"{count} info" if word == "info" else counted(count, word) for word, count in counts.items()) or NOTHING_FOUND


def counted(number: int, word: str) -> str:
    """The number with the word in its singular or plural: "1 study", "2 studies"."""
    return f"{number} {word if number == 1 else word.replace('study', 'studie') + 's'}"


def first_of(names: Sequence[str]) -> str:
    """The first names of a list, and how many more there are."""
    return ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")


def say(line: str) -> None:
    """Prints one line on stderr."""
    print(printable(line), file=sys.stderr, flush=True)
