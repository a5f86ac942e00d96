"""Small notes of every kind that the inputs read, for ``measure_inputs.py`` to damage."""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Iterator
from typing import Any

from reportlab.pdfgen import canvas


def small_notes() -> Iterator[Any]:
    """JSON values, and the bytes of files of other kinds."""
    yield {"complaint": "cough for three days", "vitals": {"temperature": 37.2}, "dialogue": [{"speaker": "Patient", "text": "no fever"}]}
    yield b'{"note": "cough"}\n{"note": "pain"}\n'
    yield b"MRN: 111  Name: Ann Smith\nCough for three days.\n"
    yield from _transcripts()
    yield from _records()
    yield from _documents()


def _transcripts() -> Iterator[Any]:
    word, no = {"start": 0.5, "end": 2.5, "confidence": 0.9}, {"speaker": "B"}
    said = {"text": "cough for three days", "tokens": [1, 2], "speaker": "A"}
    yield {"text": "cough", "segments": [{**word, **said, "words": [{**word, "word": "cough"}, {**word, "word": "days", **no}]}]}
    item = {"type": "pronunciation", "start_time": "0.5", "alternatives": [{"confidence": "0.9", "content": "cough"}]}
    yield {"results": {"items": [{**item, "speaker_label": "a"}], "transcripts": [{"transcript": "cough"}]}}
    channels = [{"channel_label": name, "items": [item]} for name in ("ch_0", "ch_1")]
    yield {"results": {"items": [item], "transcripts": [{"transcript": "cough"}], "channel_labels": {"channels": channels}}}
    yield {"results": [{"alternatives": [{"transcript": "cough", "words": [{"word": "cough", "speakerTag": 1}]}]}]}
    yield {"monologues": [{"speaker": 0, "elements": [{"type": "text", "value": "cough", "ts": 0.5}, {"type": "punct", "value": "."}]}]}
    yield {
        "job": {"duration": 95},
        "results": [{"start_time": 0.5, "type": "word", "alternatives": [{"content": "cough", "speaker": "S1"}]}],
    }
    yield {"language_code": "en", "text": "cough", "words": [{**word, "text": "cough", "type": "word", "speaker_id": "speaker_0"}]}
    yield b"1\n00:00:01,500 --> 00:00:03,000\nDoctor: Since when do you cough?\n"


def _records() -> Iterator[Any]:
    observation = {"resourceType": "Observation", "id": "o", "code": {"text": "Body temperature"}, "valueQuantity": {"value": 37.20}}
    yield {"resourceType": "Bundle", "entry": [{"resource": observation, "fullUrl": "urn:uuid:1"}]}
    deleted = {"request": {"method": "DELETE", "url": "Observation/o"}, "response": {"etag": 'W/"3"'}}
    cough = {"resourceType": "Condition", "code": {"text": "Cough"}, "subject": {"reference": "Patient/a", "display": "Ann Smith"}}
    versions = [{"resource": {**observation, "meta": {"versionId": number}}} for number in ("1", "4")]
    yield {"resourceType": "Bundle", "type": "history", "entry": [versions[1], deleted, versions[0], {"resource": cough}]}
    message = (
        b"MSH|^~\\&|L|H|E|H|||ORU^R01|1|P|2.5\rPID|1||7^^^H||SMITH^ANN||1990|F\rOBX|1|NM|1^Glucose||182|mg/dL|70-99|H||F\r"
        b"ORC|DC|2\rRXE||^Heparin|5||mg\rORC|HD|3\rRXE||^Warfarin|5||mg\r"
    )
    who = "<recordTarget><patientRole><id root='H' extension='7'/><patient><birthTime value='1990'/></patient></patientRole></recordTarget>"
    entry = "<entry><act><statusCode code='aborted'/><text><reference value='#a'/></text></act></entry>"
    section = f"<section><text><list><item ID='a'>Cough for three days</item></list></text>{entry}</section>"
    document = f"<ClinicalDocument>{who}<component><structuredBody>{section}</structuredBody></component></ClinicalDocument>".encode()
    yield message
    yield message + b"OBX|2|ED|1^Letter||^TEXT^XML^Base64^" + base64.b64encode(document) + b"||||||F\r"
    yield document
    patient = {"resourceType": "Patient", "id": "a", "birthDate": "1990", "name": [{"given": ["Ann"], "family": "Smith"}]}
    attachments = [{"attachment": {"data": base64.b64encode(raw).decode()}} for raw in (document, message, b"MRN: 7\nCough")]
    letter = {
        "resourceType": "DocumentReference",
        "content": attachments,
        "relatesTo": [{"code": "replaces", "target": {"reference": "x"}}],
    }
    yield {"resourceType": "Bundle", "entry": [{"resource": one} for one in (patient, cough, letter)]}


def _documents() -> Iterator[bytes]:
    yield rb"{\rtf1\ansi{\fonttbl{\f0 Arial;}}\f0\fs20 Cough for three days.\par Temp 38.2\'b0C.\par }"
    yield b"<html><body><p>Cough <s>and pain</s> for three days.</p><table><tr><td>MRN</td><td>7</td></tr></table></body></html>"
    document = io.BytesIO()
    with zipfile.ZipFile(document, "w") as archive:
        archive.writestr("word/document.xml", "<document><body><p><r><t>Cough for three days.</t></r></p></body></document>")
    yield document.getvalue()
    page = io.BytesIO()
    drawn = canvas.Canvas(page)
    drawn.drawString(72, 700, "Cough for three days.")
    drawn.save()
    yield page.getvalue()
