"""What every validator shares: issues, the report under check, and the checks on its sections and its answer.

A check is one function ``(Text) -> Iterator[Issue]``; a kind of report is a tuple of them. Validators report and the
caller decides: nothing here raises on any text, and nothing mends it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from medgemma_app.inputs.header import ImageHeader
from medgemma_app.validate.sections import OTHER, Parsed

Severity: TypeAlias = Literal["error", "warning", "info"]
# Of any text; of findings reports; of a text and what it was written from.
FormCode: TypeAlias = Literal[
    "no-answer",
    "thought-only",
    "not-checked",
    "special-token",
    "refusal",
    "gibberish",
    "repetition",
    "doubled-text",
    "unfilled-template",
    "truncated",
    "missing-section",
    "empty-section",
    "section-order",
    "duplicate-section",
    "repeated-section",
    "foreign-script",
    "other-language",
]
FindingsCode: TypeAlias = Literal[
    "invented-prior",
    "implied-prior",
    "missed-comparison",
    "contradiction",
    "unscaled-measurement",
    "measurement-mismatch",
    "contradicting-side",
    "wrong-side",
    "wrong-modality",
    "wrong-body-part",
]
SourceCode: TypeAlias = Literal[
    "invented-value",
    "dose-mismatch",
    "frequency-mismatch",
    "duration-mismatch",
    "side-mismatch",
    "symptom-mismatch",
    "status-mismatch",
    "wrong-age",
    "wrong-sex",
    "unnamed-medication",
    "unnamed-diagnosis",
    "unmentioned-exam",
    "unmentioned-denial",
    "omitted-allergy",
]
Code: TypeAlias = FormCode | FindingsCode | SourceCode
FinishReason: TypeAlias = Literal["stop", "length", "repetition", "cancelled"]
LONGEST_EXCERPT = 80
# Ten times what a report or the notes of a visit come to.
LONGEST_TEXT = 40_000
LONGEST_SOURCE = 150_000


@dataclass(frozen=True, slots=True)
class Issue:
    """One thing to know about a report: an "error" means that it is not valid.

    ``start`` and ``end`` say where in the text it is, ``source_start`` and ``source_end`` where the source says otherwise;
    ``found`` and ``expected`` are the two values in words ("amoxicillin 500 mg", "875 mg"). None where unknown.
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
    """What the checks found, and the sections they saw."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A text under check, with what is known of how it came about; several sources are joined by a blank line."""

    text: str
    sections: Parsed
    required: tuple[str, ...]
    finish_reason: FinishReason = "stop"
    has_thought: bool = False
    has_prior: bool = False
    indication: str | None = None
    source: str | None = None
    header: ImageHeader | None = None

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
        """An issue about a stretch of the text, with that stretch as its excerpt."""
        start, end = span
        source_start, source_end = source_span or (None, None)
        return Issue(code, severity, message, excerpt(self.text[start:end]), start, end, source_start, source_end, found, expected)


Check: TypeAlias = Callable[[Text], Iterator[Issue]]

# What the prompts say under each heading: a model that repeats it has not answered. Compared without case and marks.
PROMPT_LINES = (
    "what this image shows, one short sentence for each finding, with its side and zone",
    "what the current image shows, one short sentence for each finding, with its side and zone, and what has changed since the prior",
    "the conclusion, in order of importance",
    "the complaint, the history and the medications",
    "vital signs, examination and results",
    "the diagnosis",
    "what will be done",
)
_ECHOES = frozenset(" ".join(re.findall(r"\w+", line.casefold())) for line in PROMPT_LINES)
_PLACEHOLDER = re.compile(r"\W{0,9}(?:[\[<{][^\[\]<>{}]{0,200}[\]>}]|\d{1,2}[.)])\W{0,9}")
_OPEN_THOUGHT = re.compile(r"\s*<unused94>(?!.*<unused95>)", re.DOTALL)
_SPECIAL = re.compile(
    r"<(?:unused\d{1,5}|(?:start|end)_of_(?:turn|image)|image_soft_token|pad|bos|eos|unk|mask|/?s|/?think|0x[0-9A-F]{2})>"
    r"|<\|[a-z_]{1,30}\|>|\[/?INST\]|▁|</?(?:EOS|BOS|PAD|UNK)>|\[(?:PAD|UNK|CLS|SEP|MASK|BOS|EOS)\]"
    r"|(?m:^#{2,3} (?:Human|Assistant|User|Instruction|Response):)"
)


def run(report: Text, form: tuple[Check, ...], content: tuple[Check, ...]) -> Validation:
    """All issues of a report in the order of the checks; where there is no answer, that is the only one.

    What a text of no natural length says is not checked; a remark says so.
    """
    fits = len(report.text) <= LONGEST_TEXT and len(report.source or "") <= LONGEST_SOURCE
    checks = (*form, *content) if fits else (*form, not_checked)
    issues = tuple(no_answer(report)) or tuple(issue for check in checks for issue in check(report))
    return Validation(issues, report.sections.texts())


def not_checked(report: Text) -> Iterator[Issue]:
    """A text or a source too long to be compared in a moment: a book, or a loop."""
    longest = f"{LONGEST_TEXT:,} and {LONGEST_SOURCE:,} characters"
    yield Issue("not-checked", "info", f"the text or its source is too long: what they say was not compared (at most {longest})")


def excerpt(text: str) -> str:
    """The text on one line, cut to what an issue may carry."""
    line = " ".join(text[: 4 * LONGEST_EXCERPT].split())
    return line if len(line) <= LONGEST_EXCERPT else line[: LONGEST_EXCERPT - 1] + "…"


def without_tokens(text: str) -> str:
    """The text with control strings taken out, so that other checks judge the words."""
    return _SPECIAL.sub(" ", text)


def no_answer(report: Text) -> Iterator[Issue]:
    """No text at all, or a thought that never came to an answer."""
    opened = _OPEN_THOUGHT.match(report.text)
    if opened or (report.has_thought and not report.text.strip()):
        message = "the token budget ran out inside the model's thought, so there is no answer; raise --max-tokens"
        yield Issue("thought-only", "error", message, excerpt(report.text[opened.end() :]) if opened else "")
    elif not without_tokens(report.text).strip():
        yield Issue("no-answer", "error", "the model wrote no text; set --temperature above 0 to get another answer", excerpt(report.text))


def special_token(report: Text) -> Iterator[Issue]:
    """Control strings of the model's own format have no place in a report."""
    found = _SPECIAL.search(report.text)
    if found:
        message = f"a control token was left in the text: {found.group()}"
        yield Issue("special-token", "error", message, excerpt(report.text[max(0, found.start() - 20) : found.end() + 20]))


def missing_section(report: Text) -> Iterator[Issue]:
    """Every required section has a heading, or one that stands for it."""
    present = report.sections.texts()
    for key in report.required:
        if key not in present:
            yield Issue("missing-section", "error", f"the {key} section is missing")


def empty_section(report: Text) -> Iterator[Issue]:
    """A section says something: "Not documented." does, punctuation, a list number, a placeholder or the prompt's own line does not."""
    for key in report.required:
        bodies = report.sections.bodies(key)
        if bodies and not any(says_something(body) for body in bodies):
            yield Issue("empty-section", "error", f"the {key} section has no content", excerpt(" ".join(bodies)))


def says_something(body: str) -> bool:
    """Whether a section's text holds words of its own."""
    words = re.findall(r"\w+", without_tokens(body).replace("_", " ").casefold())
    return bool(words) and " ".join(words) not in _ECHOES and not _PLACEHOLDER.fullmatch(body)


def section_order(report: Text) -> Iterator[Issue]:
    """The sections come in the order the reader expects."""
    first = list(dict.fromkeys(key for section in report.sections.sections for key in section.keys if key in report.required))
    if first != sorted(first, key=report.required.index):
        yield Issue("section-order", "warning", f"the sections stand in an unusual order: {', '.join(first)}")


def duplicate_section(report: Text) -> Iterator[Issue]:
    """A heading is given once; a second one often begins a second report."""
    seen: set[tuple[str, ...]] = set()
    for section in report.sections.sections:
        if section.rank < 2 and section.keys in seen and OTHER not in section.keys:
            yield Issue("duplicate-section", "warning", f"the heading {excerpt(section.heading)} is given more than once")
            return
        seen.add(section.keys)
