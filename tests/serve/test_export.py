"""POST /v1/export: the report of a request as a file."""

from __future__ import annotations

import hashlib
import io
import json

import pytest
from dicoms import made, written
from pydicom import dcmread
from serving import png

from medgemma_app.demo import draw_phantom

RECORD = {"text": "FINDINGS:\nClear.", "kind": "findings", "issues": [], "sections": {}, "notice": "x"}


@pytest.mark.parametrize(
    ("fields", "status", "begins"),
    [
        ({"record": json.dumps(RECORD), "to": ".html"}, 200, b"<!doctype html>"),
        ({"record": json.dumps(RECORD), "to": ".pdf"}, 200, b"%PDF"),
        ({"record": json.dumps(RECORD), "to": ".doc"}, 422, b'{"error"'),
        ({"record": "[]", "to": ".html"}, 422, b'{"error"'),
        ({"record": "{", "to": ".html"}, 400, b'{"error"'),
        ({"record": json.dumps({**RECORD, "issues": 5}), "to": ".html"}, 422, b'{"error"'),
        ({"record": json.dumps(RECORD), "to": ".dcm"}, 422, b'{"error"'),
        ({"record": json.dumps(RECORD), "to": ".pdf", "images": "x"}, 422, b'{"error"'),
        ({"record": json.dumps(RECORD), "to": ".dcm", "scan": "x"}, 422, b'{"error"'),
        ({"record": '{"text": "Buy milk"}', "to": ".html"}, 422, b'{"error"'),
    ],
    ids=map(str, range(10)),
)
def test_a_record_is_exported_or_refused_in_one_line(client, fields, status, begins):
    answer = client.post("/v1/export", files={name: (None, value) for name, value in fields.items()})
    assert (answer.status_code, answer.content[: len(begins)]) == (status, begins)


def test_an_exported_report_has_the_pictures_and_the_notes_that_are_sent_with_it(client):
    parts = [("images", (f"{name}.png", png(draw_phantom(seed)[0]), "image/png")) for seed, name in enumerate(["current", "prior"])]
    fields = {"record": json.dumps(RECORD), "to": ".html", "source": "Cough for 3 days."}
    answer = client.post("/v1/export", files=[*parts, *((name, (None, value)) for name, value in fields.items())])
    assert [answer.text.count(said) for said in ("<figcaption>Current", "<figcaption>Prior", "Cough for 3 days.")] == [1, 1, 1]


def test_a_report_on_several_views_is_filed_with_the_files_that_are_sent(client, tmp_path):
    header = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4"}
    views = [written(tmp_path, made(**header, InstanceNumber=number), f"{number}.dcm").read_bytes() for number in (1, 2)]
    scan, view = ({"sha256": hashlib.sha256(raw).hexdigest()} for raw in views)
    record = {**RECORD, "created": "2026-01-02T03:04:05+00:00", "input": {"scan": scan, "views": [view]}}
    fields = [("record", (None, json.dumps(record))), ("to", (None, ".sr.dcm"))]
    answers = [client.post("/v1/export", files=[*fields, *(("scan", ("a.dcm", raw)) for raw in some)]) for some in (views, views[:1])]
    assert [answer.status_code for answer in answers] == [200, 422]
    named = [one for one in dcmread(io.BytesIO(answers[0].content)).iterall() if one.keyword == "ReferencedSOPInstanceUID"]
    assert len(named) == 2
