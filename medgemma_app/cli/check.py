"""``medgemma check``: finds the issues of reports, without a model."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from typing import Any, get_args

from medgemma_app.cli.batch import FROM_BEST_TO_WORST, VALIDATION_FAILED
from medgemma_app.cli.output import json_line, utf8
from medgemma_app.cli.terminal import print_issues
from medgemma_app.errors import InputError, OptionError
from medgemma_app.export import text_of_plain
from medgemma_app.inputs.files import open_input, refuse_url, shown_name
from medgemma_app.inputs.header import ImageHeader
from medgemma_app.model.generation import FinishReason
from medgemma_app.notices import issue_counts, say
from medgemma_app.prompts import ReportKind
from medgemma_app.validate import Validation, parse_findings, parse_soap, validate_findings, validate_soap

NAMES: Mapping[ReportKind, str] = {"findings": "findings report", "soap": "SOAP note"}
LARGEST_BYTES = 10_000_000
_OBJECT = re.compile(r'\s*\{\s*"')
_ARRAY = re.compile(r"\s*\[\s*(?:\{|\]\s*$)")
ONE_REPORT = "the text of a report, or the output of findings --json or soap --json"


@dataclass(frozen=True, slots=True)
class ReportText:
    """A report to check. ``kind`` is None where its source does not state it; ``known`` are further arguments of the validator."""

    name: str
    text: str
    kind: ReportKind | None = None
    known: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CheckedReport:
    """A report's name, the kind that it was checked as, and the result."""

    name: str
    kind: ReportKind
    validation: Validation

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with the same names as in ``findings --json``."""
        found = self.validation
        issues = [asdict(issue) for issue in found.issues]
        return {"report": self.name, "kind": self.kind, "valid": found.ok, "issues": issues, "sections": found.sections}


def check_all(sources: Sequence[str], arguments: Mapping[str, Any], *, kind: ReportKind | None, as_json: bool, strict: bool) -> int:
    """Prints the issues of every report, and a verdict for each on standard error; returns the worst exit code."""
    codes = []
    for result in chain.from_iterable(_results(source, arguments, kind) for source in sources):
        if isinstance(result, InputError):
            say(f"medgemma: {result}")
            codes.append(result.exit_code)
            continue
        issues = result.validation.issues
        if as_json:
            print(json_line(result.to_dict(), ascii=not utf8(sys.stdout)), flush=True)
        else:
            print_issues(issues, sys.stdout, prefix=f"{result.name}: " if len(sources) > 1 or codes else "")
        say(f"{result.name}, checked as a {NAMES[result.kind]}: {issue_counts([issue.severity for issue in issues])}")
        failed = not result.validation.ok or (strict and result.validation.warnings)
        codes.append(VALIDATION_FAILED if failed else 0)
    return max(codes, key=FROM_BEST_TO_WORST.index)


def _results(source: str, arguments: Mapping[str, Any], kind: ReportKind | None) -> Iterator[CheckedReport | InputError]:
    try:
        for report in read_reports(source):
            yield report if isinstance(report, InputError) else check(report, arguments, kind)
    except InputError as error:
        yield error


def read_reports(source: str) -> Iterator[ReportText | InputError]:
    """The report in a file or on standard input (``-``), or the report or error in each line or element of results.

    Raises InputError for a file that cannot be read, and for one that is neither text nor the JSON of a report.
    """
    name, text = read_text(source)
    if not _OBJECT.match(text) and not _ARRAY.match(text):
        yield ReportText(name, text_of_plain(text))
        return
    for where, record in read_records(text, name):
        study = record.get("study")
        shown = shown_name(study) if isinstance(study, str) else where
        if "error" in record and "text" not in record:
            yield InputError(f"{shown} has no report: the run that wrote {name} failed on it")
        else:
            yield _report(record, shown)


def read_records(text: str, name: str, *, what: str = ONE_REPORT) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where it is, record) for each report in JSON: one object, one per line, or an array of them. Raises InputError.

    ``what`` names the wanted thing in messages.
    """
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) > 1 and all(map(_OBJECT.match, lines)):
        for number, line in enumerate(lines, 1):
            where = f"line {number} of {name}"
            yield where, _parsed(line, where, what)
        return
    value = _parsed(text, name, what)
    if value == []:
        raise InputError(f"{name} holds no report; give {what}")
    for number, record in enumerate(value if isinstance(value, list) else [value], 1):
        where = f"report {number} of {name}" if isinstance(value, list) else name
        if not isinstance(record, dict):
            raise InputError(f"{where} is not a report; give {what}")
        yield where, record


def _parsed(text: str, name: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} is not JSON; give {what}") from error


def check(report: ReportText, arguments: Mapping[str, Any], kind: ReportKind | None = None) -> CheckedReport:
    """Validates a report. ``arguments`` are those of its validator, and replace what its record says.

    Raises OptionError for an argument that does not apply to this kind of report.
    """
    kind = kind or report.kind or guess_kind(report.text, likely="soap" if "source" in arguments else "findings")
    given = arguments.keys() - {"sections", "optional", "prompt"}  # of any kind
    wrong = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(given) if (name == "source") == (kind == "findings"))
    if wrong:
        raise OptionError(f"{wrong} does not apply to {report.name}, a {NAMES[kind]}; leave it out, or give another --kind")
    validate = validate_findings if kind == "findings" else validate_soap
    known = {**(report.known if report.kind == kind else {}), **arguments}
    spacing = known.pop("spacing", None)
    if spacing is not None or "header" in arguments:  # --header does not state a scale, so there may be one
        known["header"] = replace(known.get("header") or ImageHeader(), pixel_spacing=None if spacing is False else (1.0, 1.0))
    return CheckedReport(report.name, kind, validate(report.text, **known))


def guess_kind(text: str, *, likely: ReportKind = "findings") -> ReportKind:
    """The kind of report whose sections the text has more of; ``likely`` where there are as many of both."""
    soap, findings = len(parse_soap(text)) / 4, len(parse_findings(text)) / 2
    return likely if soap == findings else "soap" if soap > findings else "findings"


def read_text(source: str, *, what: str = ONE_REPORT) -> tuple[str, str]:
    """The name of a file or of standard input as messages show it, and its text; ``what`` is wanted. Raises InputError."""
    if source == "-":
        name, raw = "standard input", sys.stdin.buffer.read(LARGEST_BYTES + 1)
        if not raw:
            raise InputError(f"standard input is empty; give {what}")
    else:
        refuse_url(source)
        name = shown_name(source)
        with open_input(source, what=what) as file:
            raw = file.read(LARGEST_BYTES + 1)
    if len(raw) > LARGEST_BYTES:
        raise InputError(f"{name} is larger than {LARGEST_BYTES // 10**6} MB; give {what}")
    try:
        text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is not UTF-8 text; give {what}") from error
    if "\0" in text:
        raise InputError(f"{name} is not text; give {what}")
    return name, text


def _report(record: Mapping[str, Any], name: str) -> ReportText:
    """A report, and what its record says about its generation. Values of a wrong type in the record are ignored."""
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
        return ReportText(name, text, "findings", {**known, **_picture(record.get("input"))})
    return ReportText(name, text, "soap" if kind == "soap" else None, known)


def _prompt_sections(prompt: Any) -> dict[str, Any]:
    """The sections that the prompt file asked for."""
    file = prompt if isinstance(prompt, Mapping) else {}
    listed = (file.get(name) for name in ("sections", "optional"))
    sections, optional = ([each for each in found if isinstance(each, str)] if isinstance(found, list) else [] for found in listed)
    return {"sections": sections, "optional": optional} if sections else {}


def _picture(inputs: Any) -> dict[str, Any]:
    """What the record of a findings report says about its pictures."""
    record = inputs if isinstance(inputs, Mapping) else {}
    scan, indication = record.get("scan"), record.get("indication")
    header = scan.get("header") if isinstance(scan, Mapping) else None
    return {
        "has_prior": record.get("prior") is not None,
        "indication": indication if isinstance(indication, str) else None,
        "header": ImageHeader.from_dict(header if isinstance(header, Mapping) else {}),
    }
