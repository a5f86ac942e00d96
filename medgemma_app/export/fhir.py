"""Writes a report as a FHIR R4 Bundle: a DiagnosticReport for findings, a Composition for a SOAP note.

Resources are plain dicts in the form of https://hl7.org/fhir/R4. The report is preliminary, its author is a device, and
neither patient nor study is named unless the caller gives a reference.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from html import escape
from typing import Any

from medgemma_app.errors import InputError, OptionError
from medgemma_app.export.record import TITLES, created_at, ordered, summary, title_of
from medgemma_app.notices import BLIND_SPOT, NOTICE

LOINC, AGENTS = "http://loinc.org", "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
# Codes of LOINC: the document types, and the sections of a SOAP note.
REPORTS = {"findings": ("18748-4", "Diagnostic imaging study"), "soap": ("11506-3", "Progress note")}
SECTIONS = {
    "subjective": ("61150-9", "Subjective"),
    "objective": ("61149-1", "Objective"),
    "assessment": ("51848-0", "Evaluation note"),
    "plan": ("18776-5", "Plan of care note"),
}
# A resource on the same server or on another one (FHIR R4, Reference and id), or a URN.
FHIR_REFERENCE = re.compile(r"(https?://[^\s\"<>]+/)?[A-Z][A-Za-z]{1,40}/[A-Za-z0-9.\-]{1,64}|urn:uuid:[0-9a-f-]{36}|urn:oid:[0-9.]+")
EXTENSION = "urn:medgemma-app:issue-"  # followed by the name of a field of Issue
UNKNOWN = {"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}
EMPTY: tuple[Any, ...] = (None, "", [], {})
SEVERITY = {"error": "error", "warning": "warning", "info": "information"}  # of OperationOutcome.issue


def check_references(kind: str, subject: str | None, study: str | None) -> None:
    """Raises OptionError for a text that is not a FHIR reference, and for ``study`` where the report is not about pictures."""
    for name, resource, reference in (("subject", "Patient", subject), ("study", "ImagingStudy", study)):
        if reference is not None and not FHIR_REFERENCE.fullmatch(reference):
            example = f"{resource}/123 or https://example.org/fhir/{resource}/123"
            raise OptionError(f"--{name} ({name}=) must be a FHIR reference, such as {example}")
    if study is not None and kind != "findings":
        raise OptionError("--study (study=) is for findings reports only; leave it out")


def check_kind(kind: object) -> None:
    """Raises InputError for answers to questions and for boxes, which are not written as FHIR."""
    if kind in ("ask", "locate"):
        raise InputError("only findings reports and SOAP notes can be written as FHIR; use .html, .pdf or .json")


def bundle(record: Mapping[str, Any], *, subject: str | None = None, study: str | None = None) -> dict[str, Any]:
    """A Bundle of type collection (findings) or document (SOAP), whose resources refer to each other by urn:uuid."""
    check_kind(record.get("kind"))
    check_references(str(record.get("kind")), subject, study)
    names = {name: f"urn:uuid:{uuid.uuid4()}" for name in ("report", "device", "outcome", "provenance", "bundle")}
    is_findings = record.get("kind") == "findings"
    report = {
        **(_diagnostic_report(record) if is_findings else _composition(record, names["device"])),
        "text": _narrative(title_of(record), str(record.get("text", ""))),
        "status": "preliminary",
        **_time("issued" if is_findings else "date", record),
        "subject": {"reference": subject},
        "imagingStudy": [{"reference": study}],
    }
    resources = {"report": report, "device": _device(record), "outcome": _outcome(record), "provenance": _provenance(record, names)}
    made: dict[str, Any] = _without_empty({
        "resourceType": "Bundle",
        "type": "collection" if is_findings else "document",
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        "identifier": {} if is_findings else {"system": "urn:ietf:rfc:3986", "value": names["bundle"]},
        "entry": [{"fullUrl": names[name], "resource": resource} for name, resource in resources.items()],
    })  # fmt: skip
    return made


def _without_empty(value: Any) -> Any:
    """``value`` without its empty parts, which FHIR does not allow."""
    if isinstance(value, Mapping):
        parts = {name: _without_empty(part) for name, part in value.items()}
        return {name: part for name, part in parts.items() if part not in EMPTY}
    if isinstance(value, list):
        return [part for part in map(_without_empty, value) if part not in EMPTY]
    return value


def _time(name: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """The element ``name`` with the time at which the report was generated, or with the extension for an unknown time."""
    created = created_at(record)
    return {name: created.isoformat(timespec="seconds")} if created else {f"_{name}": {"extension": [UNKNOWN]}}


def _code(code: tuple[str, str]) -> dict[str, Any]:
    return {"coding": [{"system": LOINC, "code": code[0], "display": code[1]}], "text": code[1]}


def _narrative(title: str, text: str) -> dict[str, str]:
    """The text as XHTML, with the draft notice before it."""
    lines = "".join(f"<p>{escape(line, quote=False)}</p>" for line in text.splitlines() if line.strip())
    notice = f"<p><b>DRAFT. {escape(NOTICE, quote=False)}</b></p>"
    return {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml"><h1>{escape(title)}</h1>{notice}{lines}</div>'}


def _diagnostic_report(record: Mapping[str, Any]) -> dict[str, Any]:
    conclusion = (record.get("sections") or {}).get("impression")
    return {"resourceType": "DiagnosticReport", "code": _code(REPORTS["findings"]), "conclusion": conclusion}


def _composition(record: Mapping[str, Any], device: str) -> dict[str, Any]:
    title = title_of(record)
    return {
        "resourceType": "Composition",
        "type": _code(REPORTS["soap"]) if title == TITLES["soap"] else {"text": title},
        "author": [{"reference": device, "display": "medgemma-app"}],
        "title": f"{title} (draft, not verified)",
        "section": [
            {
                "title": name.capitalize(),
                "code": _code(SECTIONS[name]) if name in SECTIONS else None,
                "text": _narrative(name.capitalize(), text),
            }
            for name, text in (record.get("sections") or {}).items()
            if text
        ],
    }


def _device(record: Mapping[str, Any]) -> dict[str, Any]:
    model, versions = record.get("model") or {}, record.get("versions") or {}
    return {
        "resourceType": "Device",
        "deviceName": [{"name": f"medgemma-app with {model.get('id', 'an unnamed model')}", "type": "user-friendly-name"}],
        "version": [{"value": f"{name} {number}"} for name, number in versions.items() if number],
        "note": [{"text": NOTICE}],
    }


def _outcome(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the checks found, or else a summary, since an OperationOutcome may not be empty."""
    issues = ordered(record)
    found = [
        {
            "extension": _places(issue),
            "severity": SEVERITY[issue["severity"]],
            "code": "business-rule",
            "details": {"coding": [{"code": issue["code"]}], "text": issue["message"]},
            "diagnostics": BLIND_SPOT,
        }
        for issue in issues
    ]
    summarised = {"severity": "information", "code": "informational", "details": {"text": summary(issues)}, "diagnostics": BLIND_SPOT}
    return {"resourceType": "OperationOutcome", "issue": [*found, summarised]}


def _places(issue: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The place of the issue, as character offsets in the report's text and in its source, and the two values that differ."""
    numbers = [
        {"url": f"{EXTENSION}{name.replace('_', '-')}", "valueInteger": issue[name]}
        for name in ("start", "end", "source_start", "source_end")
        if isinstance(issue.get(name), int)
    ]
    values = [{"url": f"{EXTENSION}{name}", "valueString": issue[name]} for name in ("found", "expected") if issue.get(name)]
    return [*numbers, *values]


def _provenance(record: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    prompt = record.get("prompt") or {}
    return {
        "resourceType": "Provenance",
        "target": [{"reference": names["report"]}],
        **_time("recorded", record),
        "activity": {"text": f"generated by a language model with the prompt {prompt.get('file')}, sha256 {prompt.get('sha256')}"},
        "agent": [{"type": {"coding": [{"system": AGENTS, "code": "author"}]}, "who": {"reference": names["device"]}}],
    }
