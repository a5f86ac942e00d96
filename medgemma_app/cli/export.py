"""``medgemma export``: the record of an earlier report, with the pictures and notes that it was written from, in another format."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgemma_app.cli.check import read_records, read_text
from medgemma_app.cli.output import check_output
from medgemma_app.errors import InputError, OptionError
from medgemma_app.inputs.files import shown_name

if TYPE_CHECKING:
    from PIL.Image import Image

    from medgemma_app.inputs.images import Scan, Series

ONE_RECORD = "the output of findings --json or soap --json"
SHOWN_IN = (".html", ".pdf")  # the formats that show pictures and notes


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
    from medgemma_app.export import check_applies, ending_of, render, table, write_whole
    from medgemma_app.export.record import check_record, damage_as_input_error

    ending = ending_of(to)
    check_output(to, "--to", [record, *scans, *filter(None, [notes])], force=force)
    if notes is not None and ending not in SHOWN_IN:
        raise OptionError(f"--source is for {' and '.join(SHOWN_IN)} only; leave it out")
    chosen = _chosen(record, line, is_table=ending == ".csv")
    if ending == ".csv":
        check_applies(ending, scan=scans or None, subject=subject, study=study)
        write_whole(to, table(chosen).encode(errors="replace"))
    elif ending in SHOWN_IN:
        check_record(chosen[0])
        with damage_as_input_error():
            images, source = pictures_of(chosen[0], scans) if scans else (), notes and notes_of(chosen[0], notes, patient)
        write_whole(to, render(chosen[0], ending, images=images, source=source, subject=subject, study=study))
    else:
        if ending in (".dcm", ".sr.dcm"):
            from medgemma_app.export.dicom import check_source

            check_record(chosen[0])
            with damage_as_input_error():
                check_source(chosen[0], scans or None, "--scan")
        write_whole(to, render(chosen[0], ending, scan=scans or None, subject=subject, study=study))


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
    """The captioned pictures that the report was written from, read again in the same way from ``scans``, files and folders.

    Raises InputError unless these are exactly the files whose digests are in the record, and give the same pictures.
    """
    from medgemma_app.inputs.files import by_digest, digests_in
    from medgemma_app.questions import captioned_each
    from medgemma_app.reports import captioned

    inputs = record.get("input") or {}
    studies = [*(inputs.get("scans") or ()), *filter(None, [inputs.get("scan")])]
    others = [*filter(None, [inputs.get("prior")]), *(inputs.get("views") or ())]
    wanted = {digest: name for facts in (*studies, *others) for digest, name in digests_in(facts).items()}
    found = by_digest(scans, wanted.values())
    if lacking := [str(name) for digest, name in wanted.items() if digest not in found]:
        raise InputError(f"{lacking[0]} is missing or has changed since the report was written from it; give it with --scan")
    for scan in scans:
        if not wanted.keys() & by_digest([scan], wanted.values()).keys():
            raise InputError(f"the report was not written from {shown_name(scan)}; leave it out")
    read = [_read_again(facts, found, scans) for facts in studies]
    if record.get("kind") == "ask":
        return captioned_each(read)
    prior, *views = [_read_again(facts, found, scans) if facts else None for facts in (inputs.get("prior"), *(inputs.get("views") or ()))]
    return captioned(read[0], prior, views)  # type: ignore[arg-type]


def _read_again(facts: Mapping[str, Any], found: Mapping[str, Path], scans: Sequence[str]) -> Scan | Series:
    """The picture or the series that ``facts`` describe. Raises InputError where it is not read as it was then."""
    from medgemma_app.inputs.files import digests_in
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
        raise InputError(f"{name} is not read as it was when the report was written, so it cannot be shown; leave out --scan")
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
    if notes.facts["sha256"] != facts.get("sha256"):
        raise InputError(f"the report was not written from {shown_name(file)}, or the file has changed since; give the same notes")
    if {**notes.facts, "name": ""} != {**facts, "name": ""}:
        raise InputError(
            f"{shown_name(file)} is not read as it was when the report was written; give the same --patient, or leave out --source"
        )
    return notes.text
