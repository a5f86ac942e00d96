"""Turns a finished report into a file that people can open, send and archive. The ending of its name decides the format.

Everything here works on ``report.to_dict()``, so that a record written earlier can be exported too.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import secrets
import stat
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgemma_app.errors import OptionError, OutputError
from medgemma_app.export import dicom, fhir, html, pdf
from medgemma_app.export.record import box_lines, check_record, damage_as_input_error, ordered, summary
from medgemma_app.notices import NOTICE, printable, printable_value

if TYPE_CHECKING:
    from PIL.Image import Image

    from medgemma_app.export.dicom import Scans

ENDINGS = (".html", ".pdf", ".fhir.json", ".sr.dcm", ".dcm", ".json", ".csv", ".txt")
APPLIES_TO = {"scan": (".dcm", ".sr.dcm"), "subject": (".fhir.json",), "study": (".fhir.json",)}
COLUMNS = ("study", "kind", "exit_code", "errors", "warnings", "issues", "error", "text", "model", "prompt_sha256", "notice")


def ending_of(path: Path) -> str:
    """The format that the ending of a file's name stands for. Raises OutputError for an unknown ending."""
    found = next((ending for ending in ENDINGS if path.name.lower().endswith(ending)), None)
    if found is None:
        raise OutputError(f"{path.name}: unknown format; use a name that ends in one of {', '.join(ENDINGS)}")
    return found


def check_applies(ending: str, **given: object) -> None:
    """Raises OptionError for an option that is given and has no effect on the format ``ending``."""
    for name, value in given.items():
        if value is not None and ending not in APPLIES_TO[name]:
            raise OptionError(f"--{name} ({name}=) is for {', '.join(APPLIES_TO[name])} only; leave it out")


def check_export(ending: str, kind: str, scans: Sequence[str], *, subject: str | None, study: str | None) -> None:
    """Raises OptionError or InputError before generation if a report of this ``kind`` could not be written."""
    check_applies(ending, subject=subject, study=study)
    if ending in (".dcm", ".sr.dcm"):
        dicom.check_scan(scans, kind)
    if ending == ".fhir.json":
        fhir.check_kind(kind)
        fhir.check_references(kind, subject, study)


def write_whole(path: Path, content: bytes) -> None:
    """Writes to a temporary file and renames it, so that nobody ever sees half a file. A symbolic link is followed."""
    try:
        if path.exists() and not path.is_file():  # a pipe or a device cannot be replaced
            path.write_bytes(content)
            return
        target = Path(os.path.realpath(path))
        temporary = target.with_name(f".{secrets.token_hex(8)}.part")
        try:
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
                if target.exists():
                    temporary.chmod(stat.S_IMODE(target.stat().st_mode))
                file.write(content)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {path.name}: {reason(error)}") from error


def reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__


def render(
    record: Mapping[str, Any],
    ending: str,
    *,
    images: Sequence[tuple[str, Image]] = (),
    source: str | None = None,
    scan: Scans | None = None,
    subject: str | None = None,
    study: str | None = None,
) -> bytes:
    """The content of a file in the format that ``ending`` stands for.

    ``images`` are the captioned pictures that the model saw and ``source`` the notes it was given, for HTML and PDF. ``scan`` is the
    DICOM file, the list of files, or the folder of slices that the report is about, for ``.dcm`` (Encapsulated PDF) and ``.sr.dcm``
    (Basic Text SR). ``subject`` and ``study`` are references such as "Patient/123" and "ImagingStudy/123", for FHIR. Raises
    OptionError for an argument that does not apply to the format, InputError for a record or a scan that cannot be used, OutputError
    where a package is missing.
    """
    check_applies(ending, scan=scan, subject=subject, study=study)
    check_record(record)
    with damage_as_input_error():
        record, source = printable_value(record), source and printable(source)
        if ending == ".html":
            return html.page(record, images=images, source=source).encode(errors="replace")
        if ending == ".pdf":
            return pdf.render_pdf(record, images=images, source=source)
        if ending == ".fhir.json":
            return _json(fhir.bundle(record, subject=subject, study=study))
        if ending in (".dcm", ".sr.dcm"):
            given = dicom.check_source(record, scan)
            if ending == ".sr.dcm":
                return dicom.structured_report(record, scan=given)
            return dicom.encapsulated_pdf(record, scan=given, images=images)
        if ending == ".csv":
            return table([record]).encode(errors="replace")
        if ending == ".json":
            return _json(record)
        return plain(record).encode(errors="replace")


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=2).encode(errors="replace") + b"\n"


def plain(record: Mapping[str, Any]) -> str:
    """The text with the draft notice before it and the checks after it."""
    record = printable_value(record)
    issues = ordered(record)
    boxes = f"{box_lines(record)}\n\n" if record.get("kind") == "locate" else ""
    checks = "".join(f"{issue['severity']}: {issue['message']}\n" for issue in issues)
    return f"DRAFT. {NOTICE}\n\n{record['text']}\n\n{boxes}{summary(issues)}\n{checks}"


_CHECKS = re.compile(r"(?:the text checks found nothing|\d+ (?:error|warning)).*\n(?:(?:error|warning|info): .*\n)*", re.IGNORECASE)


def text_of_plain(text: str) -> str:
    """The report within a text that ``plain`` wrote; any other text is returned unchanged."""
    head = f"DRAFT. {NOTICE}\n\n"
    if not text.startswith(head):
        return text
    report, _, checks = text.removeprefix(head).rpartition("\n\n")
    return report if _CHECKS.fullmatch(checks) else text.removeprefix(head)


def study_names(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of the studies; a name that several studies share is followed by the ``study_id``."""
    names = [str(record.get("study", "")) for record in records]
    counts = Counter(names)
    return [
        f"{name} ({record['study_id']})" if counts[name] > 1 and "study_id" in record else name
        for name, record in zip(names, records, strict=True)
    ]


@damage_as_input_error()
def table(records: Iterable[Mapping[str, Any]]) -> str:
    """CSV with one line for each study. A cell that a spreadsheet would read as a formula gets a leading apostrophe. Raises InputError."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    shown = [printable_value(record) for record in records]
    for number, (record, name) in enumerate(zip(shown, study_names(shown), strict=True), 1):
        if "text" in record or "error" not in record:  # a study that failed has an error and no text
            check_record(record, f"record {number}")
        issues = ordered(record)
        severities, checked = [issue["severity"] for issue in issues], "text" in record
        counts = [severities.count(severity) if checked else "" for severity in ("error", "warning")]
        cells = (
            name, record.get("kind", ""), record.get("exit_code", ""), *counts,
            " ".join(issue["code"] for issue in issues), record.get("error", ""), record.get("text", ""),
            (record.get("model") or {}).get("id", ""), (record.get("prompt") or {}).get("sha256", ""), NOTICE,
        )  # fmt: skip
        writer.writerow([f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell for cell in cells])
    return file.getvalue()
