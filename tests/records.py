"""Records of reports, as exports are given them."""

from __future__ import annotations

import hashlib

from medgemma_app.export import ending_of, render, write_whole

TEXT = "FINDINGS:\nThe heart is <large> & unchanged.\n\nIMPRESSION:\nEnlarged heart on the left."
CREATED = "2026-01-02T23:04:05+00:00"
SOURCE = "Takes metformin 500 mg twice a day."
NOTE = "SUBJECTIVE:\nTakes metformin 850 mg.\n\nPLAN:\nReview."


def issue(text, words, *, code="invented-prior", severity="warning", message="compares with an earlier picture", **more):
    start = text.index(words)
    return {"code": code, "severity": severity, "message": message, "excerpt": words, "start": start, "end": start + len(words), **more}


def findings_record(**more):
    return {
        "text": TEXT, "kind": "findings", "created": CREATED,
        "issues": [issue(TEXT, "unchanged")], "warnings": ["scan.dcm has writing burnt in"],
        "sections": {"findings": "The heart is <large> & unchanged.", "impression": "Enlarged heart on the left."},
        "model": {"id": "demo", "revision": None}, "prompt": {"file": "findings.md", "sha256": "ab" * 32},
        "versions": {"medgemma-app": "0.2.0"}, "input": {"scan": {"name": "scan.dcm"}}, **more,
    }  # fmt: skip


def soap_record():
    at = SOURCE.index("500 mg")
    message = "the note says 850 mg, the source 500 mg"
    found = issue(NOTE, "metformin 850 mg", code="dose-mismatch", message=message, source_start=at, source_end=at + 6)
    return {
        "text": NOTE, "kind": "soap", "created": CREATED, "issues": [found],
        "sections": {"subjective": "Takes metformin 850 mg.", "plan": "Review."},
    }  # fmt: skip


def of(scan, **more):
    digest = hashlib.sha256(scan.read_bytes()).hexdigest()
    return findings_record(input={"scan": {"name": "scan.dcm", "sha256": digest}}, **more)


def needs_scan(ending, scan):
    """``scan`` for the formats that are filed with a picture."""
    return scan if ending.endswith(".dcm") else None


def saved(record, path, **given):
    """Writes an export of ``record`` to ``path``."""
    write_whole(path, render(record, ending_of(path), **given))
