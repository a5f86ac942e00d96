"""``medgemma check``: reports from anywhere -> their issues, without a model."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from typing import Any, Literal, TypeAlias, get_args

from medgemma_app.cli.batch import FROM_BEST_TO_WORST, VALIDATION_FAILED
from medgemma_app.cli.output import json_line, utf8
from medgemma_app.cli.terminal import by_severity, issue_line
from medgemma_app.errors import InputError, OptionError
from medgemma_app.inputs.files import open_input, refuse_url, shown_name
from medgemma_app.inputs.header import ImageHeader
from medgemma_app.inputs.json_notes import parse_notes
from medgemma_app.notices import say, verdict
from medgemma_app.validate import FinishReason, Issue, Validation, parse_findings, parse_soap, validate_findings, validate_soap

Kind: TypeAlias = Literal["findings", "soap"]
NAMES: Mapping[Kind, str] = {"findings": "findings report", "soap": "SOAP note"}
LARGEST_BYTES = 10_000_000
_OBJECT = re.compile(r'\s*\{\s*"')
_ARRAY = re.compile(r"\s*\[\s*(?:\{|\]\s*$)")
ONE_REPORT = "the text of a report, or what findings --json or soap --json printed"


@dataclass(frozen=True, slots=True)
class Written:
    """A report to check: ``kind`` None where it does not say, ``known`` what the validator is told besides."""

    name: str
    text: str
    kind: Kind | None = None
    known: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Checked:
    """A report's name, what it was checked as, and what was found."""

    name: str
    kind: Kind
    validation: Validation

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: what ``findings --json`` says of a report's text, under the same names."""
        found = self.validation
        issues = [asdict(issue) for issue in found.issues]
        return {"report": self.name, "kind": self.kind, "valid": found.ok, "issues": issues, "sections": found.sections}


def check_all(sources: Sequence[str], told: Mapping[str, Any], *, kind: Kind | None, as_json: bool, strict: bool) -> int:
    """Prints the issues of every report, a verdict on each on standard error, and returns the worst exit code."""
    codes = []
    for result in chain.from_iterable(_results(source, told, kind) for source in sources):
        if isinstance(result, InputError):
            say(f"medgemma: {result}")
            codes.append(result.exit_code)
            continue
        issues = by_severity(result.validation.issues)
        if as_json:
            print(json_line(result.to_dict(), ascii=not utf8(sys.stdout)), flush=True)
        else:
            _print_issues(issues, f"{result.name}: " if len(sources) > 1 or codes else "")
        say(f"{result.name}, checked as a {NAMES[result.kind]}: {verdict([issue.severity for issue in issues])}")
        failed = not result.validation.ok or (strict and result.validation.warnings)
        codes.append(VALIDATION_FAILED if failed else 0)
    return max(codes, key=FROM_BEST_TO_WORST.index)


def _print_issues(issues: Sequence[Issue], prefix: str) -> None:
    for issue in issues:
        excerpt = f" [{issue.excerpt}]" if issue.excerpt else ""
        print(issue_line(issue.severity, f"{issue.code}: {issue.message}{excerpt}", sys.stdout, prefix=prefix), flush=True)


def _results(source: str, told: Mapping[str, Any], kind: Kind | None) -> Iterator[Checked | InputError]:
    try:
        for written in read_reports(source):
            yield written if isinstance(written, InputError) else check(written, told, kind)
    except InputError as error:
        yield error


def read_reports(source: str) -> Iterator[Written | InputError]:
    """The report of a file or of ``-``, or one for each line or element of results, where one may be an error.

    Raises InputError for what cannot be read, and for what is neither text nor the JSON of a report.
    """
    name, text = read_text(source)
    if not _OBJECT.match(text) and not _ARRAY.match(text):
        yield Written(name, text)
        return
    for where, record in _records(text, name):
        study = record.get("study")
        shown = shown_name(study) if isinstance(study, str) else where
        if "error" in record and "text" not in record:
            yield InputError(f"{shown} has no report: the run that wrote {name} failed on it")
        else:
            yield _written(record, shown)


def _records(text: str, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(where it stands, record) of results: one object, one a line, or an array of them."""
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) > 1 and all(map(_OBJECT.match, lines)):
        for number, line in enumerate(lines, 1):
            where = f"line {number} of {name}"
            yield where, parse_notes(line.encode(errors="replace"), where)
        return
    parsed = parse_notes(text.encode(errors="replace"), name)
    if parsed == []:
        raise InputError(f"{name} holds no report; give {ONE_REPORT}")
    for number, record in enumerate(parsed if isinstance(parsed, list) else [parsed], 1):
        where = f"report {number} of {name}" if isinstance(parsed, list) else name
        if not isinstance(record, Mapping):
            raise InputError(f"{where} is not a report; give {ONE_REPORT}")
        yield where, record


def check(written: Written, told: Mapping[str, Any], kind: Kind | None = None) -> Checked:
    """Judges a report. ``told`` holds the arguments of its validator, which go before what the report knows of itself.

    Raises OptionError where something is told that a report of this kind has no use for.
    """
    kind = kind or written.kind or guess_kind(written.text, likely="soap" if "source" in told else "findings")
    wrong = ", ".join(f"--{name.replace('_', '-')}" for name in told if (name == "source") == (kind == "findings"))
    if wrong:
        raise OptionError(f"{wrong} does not apply to {written.name}, a {NAMES[kind]}; leave it out, or give another --kind")
    validate = validate_findings if kind == "findings" else validate_soap
    known = {**(written.known if written.kind == kind else {}), **told}
    spacing = known.pop("spacing", None)
    if spacing is not None or "header" in told:  # words say nothing of a scale: there may be one
        known["header"] = replace(known.get("header") or ImageHeader(), pixel_spacing=None if spacing is False else (1.0, 1.0))
    return Checked(written.name, kind, validate(written.text, **known))


def guess_kind(text: str, *, likely: Kind = "findings") -> Kind:
    """The kind of which a text has the larger share of sections, the likely one where it has as much of both."""
    soap, findings = len(parse_soap(text)) / 4, len(parse_findings(text)) / 2
    return likely if soap == findings else "soap" if soap > findings else "findings"


def read_text(source: str) -> tuple[str, str]:
    """The shown name of a file or of standard input, and its text. Raises InputError."""
    if source == "-":
        name, raw = "standard input", sys.stdin.buffer.read(LARGEST_BYTES + 1)
        if not raw:
            raise InputError(f"standard input is empty; give {ONE_REPORT}")
    else:
        refuse_url(source)
        name = shown_name(source)
        with open_input(source, what=ONE_REPORT) as file:
            raw = file.read(LARGEST_BYTES + 1)
    if len(raw) > LARGEST_BYTES:
        raise InputError(f"{name} is larger than {LARGEST_BYTES // 10**6} MB; give {ONE_REPORT}")
    try:
        text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is not UTF-8 text; give {ONE_REPORT}") from error
    if "\0" in text:
        raise InputError(f"{name} is not text; give {ONE_REPORT}")
    return name, text


def _written(record: Mapping[str, Any], name: str) -> Written:
    """A report and what its record says of how it came about; of a hostile record, what has the form it must have."""
    text, kind = record.get("text"), record.get("kind")
    if not isinstance(text, str):
        raise InputError(f"{name} is JSON without the text of a report; give {ONE_REPORT}")
    if kind in ("ask", "locate"):
        raise InputError(f"{name} is an answer to a question; only findings reports and SOAP notes can be checked")
    reason, known = record.get("finish_reason"), dict[str, Any](has_thought=bool(record.get("thought")))
    if reason in get_args(FinishReason):
        known["finish_reason"] = reason
    known |= _prompt_sections(record.get("prompt"))
    if kind == "findings":
        return Written(name, text, "findings", {**known, **_picture(record.get("input"))})
    return Written(name, text, "soap" if kind == "soap" else None, known)


def _prompt_sections(prompt: Any) -> dict[str, Any]:
    """The sections that the prompt file asked for."""
    told = prompt if isinstance(prompt, Mapping) else {}
    listed = (told.get(name) for name in ("sections", "optional"))
    sections, optional = ([each for each in found if isinstance(each, str)] if isinstance(found, list) else [] for found in listed)
    return {"sections": sections, "optional": optional} if sections else {}


def _picture(inputs: Any) -> dict[str, Any]:
    """What a findings report was told of its picture."""
    told = inputs if isinstance(inputs, Mapping) else {}
    scan, indication = told.get("scan"), told.get("indication")
    header = scan.get("header") if isinstance(scan, Mapping) else None
    return {
        "has_prior": told.get("prior") is not None,
        "indication": indication if isinstance(indication, str) else None,
        "header": ImageHeader.from_dict(header if isinstance(header, Mapping) else {}),
    }
