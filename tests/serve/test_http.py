"""Any request gets one clear line, nothing of it is kept, and the status is never 500."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import logging
import re
import socket
from types import SimpleNamespace

import httpx2
import pytest
from dicoms import made, written
from fastapi import Request
from hypothesis import HealthCheck, Phase, given, settings
from PIL import Image
from pydicom import dcmread
from serving import chat, encoded, png
from typer.testing import CliRunner

from medgemma_app.cli.app import app as command
from medgemma_app.demo import draw_phantom, write_notes
from medgemma_app.errors import OptionError
from medgemma_app.remote.endpoint import KEY_VARIABLE
from medgemma_app.serve import transfer
from medgemma_app.serve.access import BindAddress, Guard, chosen_key
from medgemma_app.serve.app import build
from medgemma_app.serve.limits import LEAST_MEMORY, Budget, Held, Readers
from medgemma_app.serve.responses import Refused, error_response
from medgemma_app.serve.server import plain_logs

SCAN = encoded(draw_phantom(0)[0])
READERS = Readers(LEAST_MEMORY)
JSON = {"content-type": "application/json"}
SECRET = "Mrs Whittlethorpe"
DEEP = "[" * 100_000
FINDINGS, SOAP, CHAT, TOKENIZE = "/v1/findings", "/v1/soap", "/v1/chat/completions", "/tokenize"


def blank():
    return encoded(Image.new("RGB", (80, 80)))


def url(address):
    return {"model": "demo", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": address}}]}]}


def schema(content):
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": content}}


def said(*roles, **more):
    return {"model": "demo", "messages": [{"role": role, "content": "Hello."} for role in roles], **more}


BAD = [
    (FINDINGS, "{", 400, "the request is not JSON: Expecting property name enclosed in double quotes at line 1, column 2"),
    (FINDINGS, b"\xff\xfe\xfa", 400, "the request is not"),
    (FINDINGS, DEEP, 400, "the request is nested too deeply"),
    (FINDINGS, '{"scan": NaN}', 400, "the request holds NaN, infinity or a number with thousands of digits"),
    (FINDINGS, '{"frame": ' + "9" * 5000 + "}", 400, "the request holds NaN, infinity or a number with thousands of digits"),
    (FINDINGS, "[]", 422, "the request is not a JSON object"),
    (FINDINGS, {}, 422, "scan: field required"),
    (FINDINGS, {"scan": SCAN, SECRET: 1}, 422, "the request has an unknown field"),
    (FINDINGS, {"scan": SCAN, "options": {SECRET: 1}}, 422, "options has an unknown field"),
    (FINDINGS, {"scan": 5}, 422, "scan: a picture is base64 text or a data URL"),
    (FINDINGS, {"scan": SECRET}, 422, "the picture is not base64"),
    (FINDINGS, {"scan": base64.b64encode(SECRET.encode()).decode()}, 422, "the scan is not a picture that can be read"),
    (FINDINGS, {"scan": "http://127.0.0.1:1/x.png"}, 422, "the picture is a URL, and this server fetches nothing"),
    (FINDINGS, {"scan": "file:///etc/passwd"}, 422, "the picture is a URL, and this server fetches nothing"),
    (FINDINGS, {"scan": "/etc/passwd"}, 422, "the"),
    (FINDINGS, {"scan": blank()}, 422, "the scan is blank or nearly so; give a picture that shows something"),
    (FINDINGS, {"scan": SCAN, "views": [SCAN, blank()]}, 422, "view 2 is blank or nearly so"),
    (FINDINGS, {"scan": SCAN, "frame": 7}, 422, "the scan has no frame 7; it has only frame 1"),
    (FINDINGS, {"scan": SCAN, "indication": f"{SECRET}\x00"}, 422, "indication: it holds control characters"),
    (FINDINGS, f'{{"scan": "{SCAN}", "indication": "\\ud800"}}', 422, "indication: it holds control characters"),
    (FINDINGS, {"scan": SCAN, "options": {"max_tokens": "5"}}, 422, "options.max_tokens: input should be a valid integer"),
    (FINDINGS, {"scan": SCAN, "options": {"max_tokens": 0}}, 422, "max_tokens must be a whole number of at least 1, not 0"),
    (FINDINGS, f'{{"scan": "{SCAN}", "options": {{"temperature": 1e999}}}}', 422, "temperature must be at least 0 and at most 10, not inf"),
    (FINDINGS, {"scan": SCAN, "model": "mlx-community/other"}, 404, "this server only serves demo"),
    (SOAP, {"notes": {}}, 422, "the text of the notes has nothing clinical to write a note from; give the notes of a visit"),
    (SOAP, {"notes": "/etc/passwd"}, 422, "the text of the notes has nothing clinical"),
    (SOAP, {"notes": "word " * 9000}, 400, "the notes have"),
    (SOAP, '{"notes": ' + "[" * 200 + "1" + "]" * 200 + "}", 422, "the request is nested too deeply"),
    (CHAT, url("https://example.org/x.png"), 422, "picture 1 is a URL, and this server fetches nothing"),
    (CHAT, url("/etc/passwd"), 422, "picture 1 is not"),
    (CHAT, url(f"data:image/png;base64,{SECRET}"), 422, "picture 1 is not base64"),
    (CHAT, url("data:text/plain,hello"), 422, "picture 1 is a data URL that is not base64"),
    (CHAT, said("user", "user"), 422, "messages must be those of the system, then user and assistant in turn"),
    (CHAT, said("assistant"), 422, "messages must be those of the system"),
    (CHAT, said("system"), 422, "messages must be those of the system"),
    (CHAT, said("tool"), 422, "messages.0: input tag 'tool'"),
    (CHAT, said("user", tools=[]), 422, "the request has an unknown field (tools); /openapi.json"),
    (SOAP, {"notes": "x", "max_tokens": 5}, 422, "the request has an unknown field (max_tokens);"),
    (SOAP, {"notes": "x", SECRET: 5}, 422, "the request has an unknown field; /openapi.json"),
    (CHAT, said("user", n=2), 422, "n: input should be 1"),
    (CHAT, said("user", response_format={"type": "xml"}), 422, "response_format.type: input should be"),
    (CHAT, said("user", response_format={"type": "json_schema"}), 422, "response_format needs a json_schema"),
    (CHAT, said("user", response_format=schema({"$ref": "http://127.0.0.1:1/x"})), 422, "the schema is not supported"),
    (CHAT, said("user", response_format=schema({"enum": ["x" * 100_000]})), 422, "the schema has more than"),
    (CHAT, {**said("user"), "model": "other"}, 404, "this server only serves demo"),
    (TOKENIZE, {"model": "demo"}, 422, "give either messages or a prompt to count"),
    (TOKENIZE, {"model": "demo", "prompt": SECRET, "messages": said("user")["messages"]}, 422, "give either messages or a prompt"),
    (CHAT, chat("word " * 9000), 400, "the prompt has"),
    (CHAT, chat("word " * 1_000_000), 422, "the text has 5000000 characters"),
    (TOKENIZE, {"model": "demo", "prompt": "word " * 1_000_000}, 422, "the text has 5000000 characters"),
    (SOAP, {"notes": "word " * 1_000_000, "truncate": True}, 422, "the text has"),
    (FINDINGS, {"scan": SCAN, "indication": "word " * 1_000_000}, 422, "the text has"),
]


@pytest.mark.parametrize(("path", "body", "status", "message"), BAD, ids=range(len(BAD)))
def test_bad_input_is_refused_in_one_line_that_does_not_repeat_it(client, path, body, status, message):
    answer = client.post(path, content=body if isinstance(body, str | bytes) else json.dumps(body), headers=JSON)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, status)
    assert error["message"].startswith(message)
    assert "\n" not in error["message"]
    assert SECRET not in answer.text


@pytest.mark.parametrize(
    ("how", "status", "message"),
    [
        ({"content": b"x", "headers": {"content-type": "text/plain"}}, 415, "send the request as application/json or multipart/form-data"),
        ({"content": b"x"}, 415, "send the request as"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "the form cannot be read"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=a"}}, 400, "the form cannot be read"),
        ({"files": {"other": b"x"}}, 422, "scan: field required"),
        ({"files": {"scan": ("a\nb.png", b"x")}}, 422, "a"),
        ({"files": [("scan", b"x"), ("scan", b"y")]}, 422, "scan: a picture is base64 text or a data URL"),
        ({"files": {"scan": png(draw_phantom(0)[0])}, "data": {"frame": "one"}}, 422, "frame is not a JSON value"),
        ({"files": {"scan": png(draw_phantom(0)[0])}, "data": {"options": "{}", "x": ""}}, 422, "the request has an unknown field"),
    ],
)
def test_a_bad_form_is_refused(client, how, status, message):
    answer = client.post(FINDINGS, **how)
    assert (answer.status_code, answer.json()["error"]["message"][: len(message)]) == (status, message)


@pytest.mark.parametrize("declared", [True, False], ids=["with its length", "in chunks"])
def test_a_body_that_is_too_large_is_refused_and_the_client_is_told_why(client, monkeypatch, declared):
    monkeypatch.setattr(transfer, "LARGEST_BODY", 100_000)
    content = b"x" * 300_000
    answer = client.post(FINDINGS, content=content if declared else iter([content[:150_000], content[150_000:]]), headers=JSON)
    assert answer.status_code == 413
    assert answer.json()["error"]["message"].startswith("the request is larger than")


def test_a_client_that_disconnects_while_sending_and_a_server_that_stops_are_not_failures():
    """Either would be a line about an exception on stderr, and a 500."""

    async def read(cancel, *messages):
        async def receive():
            return messages[0] if messages else await asyncio.sleep(60)

        async def reads(scope, receive, send):
            try:
                await transfer.read_body(Request(scope, receive), Held(Budget(transfer.LARGEST_BODY)))
            except Refused as refused:
                await error_response(refused)(scope, receive, send)

        sent = []

        async def send(message):
            sent.append(message)

        guard = Guard(reads, ready=lambda: True, key=None, loopback=False)
        asking = asyncio.ensure_future(guard({"type": "http", "method": "POST", "path": SOAP, "headers": []}, receive, send))
        await asyncio.sleep(0.01)
        if cancel:
            asking.cancel()
        await asking
        return sent[0]["status"]

    assert asyncio.run(read(False, {"type": "http.disconnect"})) == 499
    assert asyncio.run(read(True)) == 503


def test_routes_that_load_fetch_or_reveal_anything_do_not_exist(client):
    paths = [
        "/unload",
        "/v1/settings",
        "/metrics",
        "/v1/responses",
        "/v1/images/generations",
        "/v1/embeddings",
        "/chat/completions",
        "/docs",
    ]
    for path in paths:
        assert [client.request(method, path).status_code for method in ("GET", "POST")] == [404, 404]
    assert client.get("/v1/models", params={"model_dir": "/"}).json()["data"][0]["id"] == "demo"
    assert client.get("/v1/findings").status_code == 405


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost:1234"}, 200),
        ({"host": "[::1]"}, 200),
        ({"origin": "http://localhost:3000"}, 200),
        ({"host": "rebound.example"}, 403),
        ({"origin": "https://page.example"}, 403),
        ({"origin": "null"}, 403),
        ({"host": "[", "origin": "http://["}, 403),
    ],
)
def test_a_page_of_another_site_cannot_send_requests(client, headers, status):
    answer = client.get("/v1/models", headers=headers)
    assert (answer.status_code, "access-control-allow-origin" in answer.headers) == (status, False)


async def _answers(scope, receive, send):
    """An application that says that all is well."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body"})


def guarded(method, path, *, headers=(), **how):
    """The answer of a guarded application that all is well with."""
    guard = Guard(_answers, **{"ready": lambda: True, "key": None, "loopback": False, **how})

    async def ask():
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(guard), base_url="http://ward.example") as client:
            return await client.request(method, path, content=b"{}", headers=headers)

    return asyncio.run(ask())


@pytest.mark.parametrize("path", ["/v1/models", "/v1/export", "/nowhere", FINDINGS, SOAP, CHAT])
def test_a_key_is_asked_for_on_every_route_but_health(path):
    for given_key in (b"Bearer wrong", b"Bearer", b"right", b"Basic right", b"Bearer r\xefght", b"Bearer right right"):
        answer = guarded("POST", path, key="right", headers={"authorization": given_key})
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert guarded("GET", path, key="right").status_code == 401
    assert guarded("GET", path, key="right", headers={"authorization": "Bearer right"}).status_code == 200
    assert {guarded("GET", open_path, key="right").status_code for open_path in ("/health", "/ready", "/openapi.json")} == {200}


def test_a_page_of_another_site_cannot_use_a_server_that_others_can_reach():
    assert guarded("GET", "/v1/models", headers={"origin": "https://ward.example"}).status_code == 200
    assert guarded("GET", "/v1/models", headers={"origin": "https://page.example"}).status_code == 403


def test_a_server_that_is_loading_says_when_to_try_again():
    answer = guarded("POST", SOAP, ready=lambda: False)
    assert (answer.status_code, answer.headers["retry-after"].isdigit()) == (503, True)
    assert guarded("GET", "/health", ready=lambda: False).status_code == 200


@pytest.mark.parametrize("bad", [{"host": "0.0.0.0", "key": None}, {"host": "127.0.0.1", "key": "two words"}, {"host": "::", "key": None}])
def test_other_machines_are_let_in_only_with_a_key(bad):
    with pytest.raises(OptionError):
        BindAddress(port=0, **bad)
    assert not BindAddress(host="0.0.0.0", port=0, key="k").loopback


def test_the_key_comes_from_the_command_line_or_a_file_or_else_from_the_environment(tmp_path, monkeypatch):
    (tmp_path / "key").write_text("from-file\n")
    monkeypatch.setenv(KEY_VARIABLE, "from-environment")
    keys = chosen_key("given", None), chosen_key(None, tmp_path / "key"), chosen_key(None, None)
    assert keys == ("given", "from-file", "from-environment")
    monkeypatch.delenv(KEY_VARIABLE)
    assert chosen_key(None, None) is None


@pytest.mark.parametrize(
    "arguments",
    [
        ["--api-key", ""],
        ["--api-key", SECRET],
        ["--api-key", "k", "--api-key-file", "k"],
        ["--api-key-file", "none"],
        ["--host", "0.0.0.0"],
    ],
    ids=" ".join,
)
def test_a_server_does_not_start_with_an_invalid_key(arguments):
    result = CliRunner().invoke(command, ["serve", "--model", "demo", "--port", "0", *arguments])
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "key" in result.stderr
    assert SECRET not in result.stderr


def test_a_port_that_is_taken_is_a_usage_error():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = CliRunner().invoke(command, ["serve", "--model", "demo", "--port", str(taken.getsockname()[1])])
    assert result.exit_code == 2
    assert "choose another --port" in result.stderr


def test_a_log_line_says_what_its_author_wrote_and_nothing_of_a_patient(capsys):
    with plain_logs():
        logger = logging.getLogger("mlx_vlm.server")
        logger.warning("Request failed: error=%s", SECRET)
        try:
            raise ValueError(SECRET)
        except ValueError:
            logger.exception("Error in generation thread: %s", SECRET)
    assert capsys.readouterr().err == "medgemma: Error in generation thread: ... (ValueError)\n"


def test_the_description_says_where_a_key_is_asked_for():
    engine = SimpleNamespace(is_ready=True)
    described = build(engine, READERS, key="k").app.openapi()
    assert described["components"]["securitySchemes"][next(iter(described["security"][0]))] == {"type": "http", "scheme": "bearer"}
    assert [path for path, route in described["paths"].items() if next(iter(route.values())).get("security") == []] == ["/health", "/ready"]
    assert "security" not in build(engine, READERS).app.openapi()


@pytest.fixture(scope="module")
def described(client):
    import schemathesis

    return schemathesis.openapi.from_url(f"{client.base_url}/openapi.json")


@pytest.mark.parametrize("valid", [True, False], ids=["as described", "not as described"])
@pytest.mark.parametrize("path", [FINDINGS, SOAP, CHAT, TOKENIZE])
@pytest.mark.slow
def test_every_answer_is_as_openapi_describes_it(described, path, valid):
    """Bodies made from the schema. Those that keep to it may be refused all the same: no schema says what a picture is."""
    from schemathesis import GenerationMode, checks

    mode = GenerationMode.POSITIVE if valid else GenerationMode.NEGATIVE

    @given(case=described[path]["POST"].as_strategy(generation_mode=mode))
    @settings(
        max_examples=12,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case):
        if valid and isinstance(case.body, dict):
            case.body["model"] = "demo"
            if path == CHAT:
                case.body |= {"max_tokens": 2, "max_completion_tokens": 2}
            elif path != TOKENIZE:
                case.body["options"] = {"max_tokens": 2}
                case.body.pop("retries", None)
                case.body.setdefault("notes", write_notes(0)[0]) if path == SOAP else None
        case.validate_response(case.call(timeout=30), excluded_checks=[checks.positive_data_acceptance])

    ask()


def test_connections_send_small_answers_at_once():
    """Else each answer on a kept connection waits 40 ms for the client's acknowledgement."""
    with BindAddress(host="127.0.0.1", port=0, key=None).listen() as listening:
        assert listening.proto == socket.IPPROTO_TCP


def test_openapi_names_its_key_and_every_schema_it_refers_to():
    described = build(SimpleNamespace(served=None, is_ready=True, most=1), READERS, key="sesame").app.openapi()
    assert described["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    referred = {ref.rsplit("/", 1)[1] for ref in re.findall(r'"\$ref": "([^"]+)"', json.dumps(described))}
    assert referred <= set(described["components"]["schemas"])
    assert "ReportModel" in referred


def test_the_page_is_static_needs_no_key_and_allows_nothing_from_elsewhere(client):
    for path in ("/", "/page/page.js", "/page/page.css", "/page/report.css"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert not re.search(r"https?://", answer.text)
    assert client.get("/page/../app.py").status_code == 404
    assert client.get("/page/app.py").status_code == 404
    assert client.get("/", headers={"host": "rebound.example"}).status_code == 403


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
