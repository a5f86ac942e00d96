"""Resources of FHIR, files that hold them, and what is read of notes."""

import base64
import io
import json
import zipfile
from pathlib import Path
from typing import Any

from medgemma_app.inputs.notes import Notes, read_raw_notes

SAID = "cough for three days, no fever"


def read(content: Any, **how: Any) -> Notes:
    """What is read of text, bytes or JSON."""
    raw = content.encode() if isinstance(content, str) else content if isinstance(content, bytes) else json.dumps(content).encode()
    return read_raw_notes(raw, "visit", **how)


def docx(body: str, **parts: str) -> bytes:
    """A Word document with ``body`` and further parts, such as ``header1`` or ``customXml_item1``."""
    with zipfile.ZipFile(file := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", f'<w:document xmlns:w="http://word"><w:body>{body}</w:body></w:document>')
        for name, content in parts.items():
            archive.writestr(f"word/{name.replace('_', '/')}.xml", content)
    return file.getvalue()


def write(folder: Path, content: Any) -> Path:
    path = folder / "notes.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content, ensure_ascii=False).encode())
    return path


def concept(text: str) -> dict[str, Any]:
    return {"text": text}


def asked(reference: str, *contained: dict[str, Any], url: str | None = None, **more: Any) -> dict[str, Any]:
    """An entry that asks for a drug by reference."""
    request = {"resourceType": "MedicationRequest", "medicationReference": {"reference": reference}, "contained": list(contained), **more}
    return {"resource": request} | ({"fullUrl": url} if url else {})


def drug(name: str, number: str = "1", url: str | None = None, **more: Any) -> dict[str, Any]:
    resource = {"resourceType": "Medication", "id": number, "code": concept(name), **more}
    return {"resource": resource} | ({"fullUrl": url} if url else {})


A, B = "https://a.org/fhir/", "https://b.org/fhir/"


def attached(content: bytes, kind: str | None = "text/plain", **more: Any) -> dict[str, Any]:
    attachment = {"data": base64.b64encode(content).decode(), **({"contentType": kind} if kind else {}), **more}
    return {"resourceType": "DocumentReference", "content": [{"attachment": attachment}]}


def patient(number: str, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": number, **more}


def condition(name: str, of: str | None = None, **more: Any) -> dict[str, Any]:
    subject = {"subject": {"reference": of}} if of else {}
    return {"resourceType": "Condition", "code": concept(name), **subject, **more}


def bundle(*resources: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Bundle", "entry": [{"resource": resource} for resource in resources]}
