"""What all checks share: issues, the draft to check, its words and its sentences.

A check is a function ``(Draft) -> Iterator[Issue]``, or ``(Draft, Source) -> Iterator[Issue]``. Checks only report problems: they never
raise on any text and never change it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from medgemma_app.inputs.header import ImageHeader
from medgemma_app.model.generation import FinishReason
from medgemma_app.validate.sections import OTHER, Section, Sections

Severity: TypeAlias = Literal["error", "warning", "info"]
Code: TypeAlias = Literal[
    # of any text
    "no-answer", "thought-only", "not-checked", "special-token", "refusal", "gibberish", "repetition", "doubled-text", "unfilled-template",
    "truncated", "missing-section", "empty-section", "section-order",
    # of a findings report
    "invented-prior", "unscaled-measurement", "wrong-side",
    # of a text compared with its source
    "invented-value", "dose-mismatch", "wrong-age", "wrong-sex", "stopped-medication", "unmentioned-exam",
    # of boxes
    "malformed-boxes", "impossible-box", "box-scale", "no-box",
]  # fmt: skip
LONGEST_EXCERPT = 80
LONGEST_TEXT = 40_000  # about ten times the length of a usual report


@dataclass(frozen=True, slots=True)
class Issue:
    """One problem in a report; an "error" means that the report is not valid.

    ``start`` and ``end`` give its place in the text, ``source_start`` and ``source_end`` the place in the source that disagrees.
    ``found`` and ``expected`` are the two values in words ("amoxicillin 500 mg", "875 mg"). Each is None where it is not known.
    """

    code: Code
    severity: Severity
    message: str
    excerpt: str = ""
    start: int | None = None
    end: int | None = None
    source_start: int | None = None
    source_end: int | None = None
    found: str | None = None
    expected: str | None = None


@dataclass(frozen=True, slots=True)
class Validation:
    """The issues of a report, and its sections."""

    issues: tuple[Issue, ...]
    sections: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether no issue is an error."""
        return not self.errors

    @property
    def errors(self) -> tuple[Issue, ...]:
        """The issues that make the report invalid."""
        return tuple(issue for issue in self.issues if issue.severity == "error")

    @property
    def warnings(self) -> tuple[Issue, ...]:
        """The issues a reader should look at."""
        return tuple(issue for issue in self.issues if issue.severity == "warning")


@dataclass(frozen=True, slots=True)
class Draft:
    """A text to check, and what is known about how it was written; several sources are joined by a blank line.

    ``own`` says whether the caller named the sections; ``prompt`` is the text of a prompt file that the model was given.
    """

    text: str
    sections: Sections
    required: tuple[str, ...]
    finish_reason: FinishReason = "stop"
    has_thought: bool = False
    has_prior: bool = False
    source: str | None = None
    header: ImageHeader | None = None
    own: bool = False
    prompt: str = ""

    def answers(self) -> list[Section]:
        """The sections of the report itself, without disclaimers and the like."""
        return [section for section in self.sections.sections if OTHER not in section.keys]

    def issue(
        self,
        code: Code,
        severity: Severity,
        message: str,
        span: tuple[int, int],
        *,
        source_span: tuple[int, int] | None = None,
        found: str | None = None,
        expected: str | None = None,
    ) -> Issue:
        """An issue about a span of the text, with that span as its excerpt."""
        start, end = span
        source_start, source_end = source_span or (None, None)
        return Issue(code, severity, message, excerpt(self.text[start:end]), start, end, source_start, source_end, found, expected)


WORD = re.compile(r"[^\W_]+")
_SENTENCE = re.compile(r"[^.!?;\n•]+(?:[.!?](?=\S)[^.!?;\n•]+)*[.!?;]?")
SPECIAL_TOKEN = re.compile(
    r"<(?:unused\d{1,5}|(?:start|end)_of_(?:turn|image)|image_soft_token|pad|bos|eos|unk|mask|/?s|/?think|0x[0-9A-F]{2})>"
    r"|<\|[a-z_]{1,30}\|>|\[/?INST\]|▁|</?(?:EOS|BOS|PAD|UNK)>|\[(?:PAD|UNK|CLS|SEP|MASK|BOS|EOS)\]"
    r"|(?m:^#{2,3} (?:Human|Assistant|User):)"
)


def excerpt(text: str) -> str:
    """The text on one line, cut to the length of an excerpt."""
    line = " ".join(text[: 4 * LONGEST_EXCERPT].split())
    return line if len(line) <= LONGEST_EXCERPT else line[: LONGEST_EXCERPT - 1] + "…"


def without_tokens(text: str) -> str:
    """The text without control tokens, so that other checks see only words."""
    return SPECIAL_TOKEN.sub(" ", text)


def sentence_spans(text: str, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
    """The spans of the sentences, list items and lines between ``start`` and ``end``, without the space around them."""
    for found in _SENTENCE.finditer(text, start, len(text) if end is None else end):
        written = found.group()
        if written.strip():
            yield found.start() + len(written) - len(written.lstrip()), found.start() + len(written.rstrip())
