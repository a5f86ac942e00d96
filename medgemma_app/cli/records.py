"""``medgemma check`` and ``medgemma export`` check or convert reports that were written earlier, without a model."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from medgemma_app.cli.batch import FROM_BEST_TO_WORST, VALIDATION_FAILED
from medgemma_app.cli.output import check_output, json_line, utf8
from medgemma_app.cli.terminal import print_issues
from medgemma_app.errors import InputError, OptionError
from medgemma_app.export import check_applies, ending_of, render, table, text_of_plain, write_whole
from medgemma_app.export.record import ONE_RECORD, check_record, damage_as_input_error, ordered
from medgemma_app.inputs.files import by_digest, digests_in, open_input, read_standard_input, refuse_url, shown_name
from medgemma_app.inputs.header import ImageHeader
from medgemma_app.model.generation import FinishReason
from medgemma_app.notices import NOTICE, issue_counts, say
from medgemma_app.prompts import ReportKind
from medgemma_app.validate import Validation, parse_findings, parse_soap, validate_findings, validate_soap

if TYPE_CHECKING:
    from PIL.Image import Image

    from medgemma_app.inputs.images import Scan, Series

REPORT_NAMES: Mapping[ReportKind, str] = {"findings": "findings report", "soap": "SOAP note"}
LARGEST_REPORT_FILE = 10_000_000
ONE_REPORT = f"the text of a report, or {ONE_RECORD}"
SHOWN_IN = (".html", ".pdf")  # the formats that show pictures and notes
_OBJECT = re.compile(r'\s*\{\s*"')
_ARRAY = re.compile(r"\s*\[\s*(?:\{|\]\s*$)")
_STUDY = re.compile(rf"^(?=# .*\nDRAFT\. {re.escape(NOTICE)}\n\n)", re.MULTILINE)  # where each of several begins in a text file


@dataclass(frozen=True, slots=True)
class ReportText:
    """A report to check. ``kind`` is None where its source does not state it; ``known`` are further arguments of the validator."""

    name: str
    text: str
    kind: ReportKind | None = None
    known: Mapping[str, Any] = field(default_factory=dict)


def check_all(sources: Sequence[str], arguments: Mapping[str, Any], *, kind: ReportKind | None, as_json: bool, strict: bool) -> int:
    """Prints the issues of every report, and their number on standard error; returns the worst exit code."""
    codes, reports = [], [*chain.from_iterable(map(read_reports, sources))]
    for report in reports:
        try:
            if isinstance(report, InputError):
                raise report
            checked_as, found = check(report, arguments, kind)
        except InputError as error:
            say(f"medgemma: {error}")
            codes.append(error.exit_code)
            continue
        record = {"report": report.name, "kind": checked_as, "valid": found.ok, "issues": [asdict(issue) for issue in found.issues]}
        if as_json:
            print(json_line({**record, "sections": found.sections}, ascii=not utf8(sys.stdout)), flush=True)
        else:
            print_issues(ordered(record), sys.stdout, prefix=f"{report.name}: " if len(reports) > 1 else "")
        say(f"{report.name}, checked as a {REPORT_NAMES[checked_as]}: {issue_counts([issue.severity for issue in found.issues])}")
        codes.append(VALIDATION_FAILED if not found.ok or (strict and found.warnings) else 0)
    return max(codes, key=FROM_BEST_TO_WORST.index)


def read_reports(source: str) -> Iterator[ReportText | InputError]:
    """Yields the reports in a file or on standard input (``-``), as text or JSON, and an InputError for each that cannot be read."""
    try:
        name, text = read_text(source)
        if not _OBJECT.match(text) and not _ARRAY.match(text):
            yield from _texts(name, text)
            return
        for where, record in read_records(text, name):
            study = record.get("study")
            try:
                yield _report(record, shown_name(study) if isinstance(study, str) else where)
            except InputError as error:  # the other records are still checked
                yield error
    except InputError as error:
        yield error


def _texts(name: str, text: str) -> Iterator[ReportText]:
    """The report in a text, or the reports in a text file that this program wrote, each under the heading of its study."""
    if not _STUDY.match(text):
        yield ReportText(name, text_of_plain(text))
        return
    for study in filter(None, _STUDY.split(text)):
        heading, _, report = study.partition("\n")
        yield ReportText(shown_name(heading.removeprefix("# ")), text_of_plain(report.rstrip("\n") + "\n"))


def read_records(text: str, name: str, *, what: str = ONE_REPORT) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields (place, record) for each report in JSON: an object, one per line, or an array. Raises InputError, which asks for ``what``."""
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


def check(report: ReportText, arguments: Mapping[str, Any], kind: ReportKind | None = None) -> tuple[ReportKind, Validation]:
    """Validates a report, and returns the kind it was checked as. ``arguments`` are for its validator, and override its record.

    Raises OptionError for an argument that does not apply to this kind of report.
    """
    kind = kind or report.kind or guess_kind(report.text, likely="soap" if "source" in arguments else "findings")
    for name in ("source",) if kind == "findings" else ("indication", "has_prior"):
        if name in arguments:
            option = f"--{name.replace('_', '-')}"
            raise OptionError(f"{option} does not apply to {report.name}, a {REPORT_NAMES[kind]}; leave it out, or give another --kind")
    validate = validate_findings if kind == "findings" else validate_soap
    return kind, validate(report.text, **{**(report.known if report.kind == kind else {}), **arguments})


def guess_kind(text: str, *, likely: ReportKind = "findings") -> ReportKind:
    """The kind of report that more of the text's sections belong to; ``likely`` if both have equally many."""
    soap, findings = len(parse_soap(text)) / 4, len(parse_findings(text)) / 2
    return likely if soap == findings else "soap" if soap > findings else "findings"


def read_text(source: str, *, what: str = ONE_REPORT) -> tuple[str, str]:
    """The name of a file or of standard input for messages, and its text. Raises InputError, which asks for ``what``."""
    if source == "-":
        name, raw = "standard input", read_standard_input(LARGEST_REPORT_FILE + 1, what)
        if not raw:
            raise InputError(f"standard input is empty; give {what}")
    else:
        refuse_url(source)
        name = shown_name(source)
        with open_input(source, what=what) as file:
            raw = file.read(LARGEST_REPORT_FILE + 1)
    if len(raw) > LARGEST_REPORT_FILE:
        raise InputError(f"{name} is larger than {LARGEST_REPORT_FILE // 10**6} MB; give {what}")
    try:
        text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is not UTF-8 text; give {what}") from error
    if "\0" in text:
        raise InputError(f"{name} is not text; give {what}")
    return name, text


def _report(record: Mapping[str, Any], name: str) -> ReportText:
    """A report, and what its record says about its generation. Values of a wrong type in the record are ignored."""
    text, kind, reason = (record.get(field) for field in ("text", "kind", "finish_reason"))
    if not isinstance(text, str):
        failed = "error" in record and text is None
        raise InputError(f"{name} has no report: {'the run failed on it' if failed else 'its text is missing'}; give {ONE_REPORT}")
    if kind in ("ask", "locate"):
        raise InputError(f"{name} is an answer to a question; only findings reports and SOAP notes can be checked")
    known: dict[str, Any] = {"has_thought": bool(record.get("thought"))}
    if reason in get_args(FinishReason):
        known["finish_reason"] = reason
    prompt = _mapping(record.get("prompt"))
    if sections := _strings(prompt.get("sections")):
        known |= {"sections": sections, "optional": _strings(prompt.get("optional"))}
    if kind == "findings":
        inputs = _mapping(record.get("input"))
        indication, header = inputs.get("indication"), _mapping(_mapping(inputs.get("scan")).get("header"))
        known |= {"has_prior": inputs.get("prior") is not None, "indication": indication if isinstance(indication, str) else None}
        return ReportText(name, text, "findings", {**known, "header": ImageHeader.from_dict(header)})
    return ReportText(name, text, "soap" if kind == "soap" else None, known)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _strings(value: Any) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def export_record(
    record: str,
    to: Path,
    *,
    line: int | None,
    scans: Sequence[str],
    notes: str | None,
    patient: str | None,
    subject: str | None,
    study: str | None,
    force: bool,
) -> None:
    """Writes the report in the file ``record``, or all of them where ``to`` is a .csv file. Raises InputError, OptionError, OutputError."""
    ending = ending_of(to)
    check_output(to, "--to", [record, *scans, *filter(None, [notes])], force=force)
    if notes is not None and ending not in SHOWN_IN:
        raise OptionError(f"--source is for {' and '.join(SHOWN_IN)} only; leave it out")
    chosen = _chosen(record, line, is_table=ending == ".csv")
    given: dict[str, Any] = {"subject": subject, "study": study}
    if ending in SHOWN_IN:
        check_record(chosen[0])
        with damage_as_input_error():
            given["images"] = pictures_of(chosen[0], scans) if scans else ()
            given["source"] = notes and notes_of(chosen[0], notes, patient)
    else:
        given["scan"] = scans or None
    check_applies(ending, scan=given.get("scan"), subject=subject, study=study)
    write_whole(to, table(chosen).encode(errors="replace") if ending == ".csv" else render(chosen[0], ending, **given))


def _chosen(file: str, line: int | None, *, is_table: bool) -> list[dict[str, Any]]:
    """The one report of ``file`` that ``line`` chooses; all of them for a table. Raises InputError and OptionError."""
    name, text = read_text(file, what=ONE_RECORD)
    records = [record for _, record in read_records(text, name, what=ONE_RECORD)]
    if line is not None and not 1 <= line <= len(records):
        raise OptionError(f"{name} has no report number {line}; it holds {len(records)}, counted from 1")
    chosen = records if line is None else [records[line - 1]]
    if len(chosen) != 1 and not is_table:
        raise OptionError(f"{name} holds {len(chosen)} reports; choose one with --line, or write all of them to a .csv file")
    return chosen


def pictures_of(record: Mapping[str, Any], scans: Sequence[str]) -> tuple[tuple[str, Image], ...]:
    """The captioned pictures that the report was written from, read again in the same way from ``scans`` (files and folders).

    Raises InputError unless these are exactly the files whose digests are in the record, and give the same pictures.
    """
    from medgemma_app.questions import captioned_each
    from medgemma_app.reports import captioned

    inputs = record.get("input") or {}
    studies = [*(inputs.get("scans") or ()), *filter(None, [inputs.get("scan")])]
    others = [*filter(None, [inputs.get("prior")]), *(inputs.get("views") or ())]
    wanted = {digest: name for facts in (*studies, *others) for digest, name in digests_in(facts).items()}
    found = by_digest(scans, wanted.values())
    if lacking := [str(name) for digest, name in wanted.items() if digest not in found]:
        raise InputError(f"{lacking[0]} is missing or has changed since the report was written from it; give it with --scan")
    if foreign := [scan for scan in scans if wanted.keys().isdisjoint(by_digest([scan], wanted.values()))]:
        raise InputError(f"the report was not written from {shown_name(foreign[0])}; leave it out")
    read = [_read_again(facts, found, scans) for facts in studies]
    if record.get("kind") == "ask":
        return captioned_each(read)
    prior, *views = [_read_again(facts, found, scans) if facts else None for facts in (inputs.get("prior"), *(inputs.get("views") or ()))]
    return captioned(read[0], prior, views)  # type: ignore[arg-type]


def _read_again(facts: Mapping[str, Any], found: Mapping[str, Path], scans: Sequence[str]) -> Scan | Series:
    """The picture or the series that ``facts`` describe. Raises InputError if it is read differently now."""
    from medgemma_app.inputs.studies import read_study

    path, name = found[next(iter(digests_in(facts)))], str(facts.get("name"))
    series = re.match(r"series (\S+)", name) if "files" in facts else None
    used, window = facts.get("slices_used"), facts.get("window") or {}
    again = read_study(
        next(scan for scan in scans if path.is_relative_to(scan)) if series else path,
        pad=facts.get("padding") is not None,
        frame=facts["frame"] if facts.get("frames", 1) > 1 else None,
        window=f"{window['center']}/{window['width']}" if window.get("from") == "option" else None,
        slices=len(used) if used else None,
        series=series[1] if series else None,
    )
    now = json.loads(json.dumps(dict(again.facts)))
    if {**now, "name": name} != {**facts, "name": name}:
        raise InputError(f"{name} is read differently now than when the report was written, so it cannot be shown; leave out --scan")
    return again


def notes_of(record: Mapping[str, Any], file: str, patient: str | None) -> str:
    """The notes that the report was written from, read again from ``file``. Raises InputError unless they are the same."""
    from medgemma_app.inputs.notes import count_parts, read_notes

    facts = (record.get("input") or {}).get("notes")
    if not facts:
        raise InputError("the report was not written from notes; leave out --source")
    if facts.get("truncated"):
        raise InputError("the model saw only part of the notes (--truncate), so they cannot be shown beside the report; leave out --source")
    part = re.search(r" line (\d+)$", str(facts.get("name")))
    notes = read_notes(file, patient=patient, part=int(part[1]) if part and count_parts(file) > 1 else None)
    if {**notes.facts, "name": ""} != {**facts, "name": ""}:
        raise InputError(
            f"{shown_name(file)} is not what the report was written from, or is read differently now; give the same notes and --patient"
        )
    return notes.text
