"""Any request gets one clear line, nothing of it is kept, and the status is never 500."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import socket
from types import SimpleNamespace

import pytest
from fastapi import Request
from hypothesis import HealthCheck, Phase, given, settings
from PIL import Image
from serving import chat, encoded

from medgemma_app.demo import draw_phantom, write_notes
from medgemma_app.inputs.images import png
from medgemma_app.serve import transfer
from medgemma_app.serve.access import BindAddress, Guard, Refused, error_response
from medgemma_app.serve.app import build
from medgemma_app.serve.limits import LEAST_MEMORY, Budget, Held, Readers
from medgemma_app.serve.server import plain_logs

SCAN = encoded(draw_phantom(0)[0])
READERS = Readers(LEAST_MEMORY)
JSON = {"content-type": "application/json"}
SECRET = "Mrs Whittlethorpe"
DEEP = "[" * 100_000
TWO_PATIENTS = [{"mrn": "4711", "note": "Cough and fever for three days."}, {"mrn": "4712", "note": "Chest pain since Monday."}]
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
    (FINDINGS, {"scan": SCAN, SECRET: 1}, 422, "the request has an unknown field; its fields are model, options,"),
    (FINDINGS, {"scan": SCAN, "options": {SECRET: 1}}, 422, "options has an unknown field"),
    (FINDINGS, {"scan": 5}, 422, "scan: send one picture"),
    (FINDINGS, {"scan": SECRET}, 422, "the picture is not base64"),
    (FINDINGS, {"scan": base64.b64encode(SECRET.encode()).decode()}, 422, "the scan is not a picture that can be read"),
    (FINDINGS, {"scan": "http://127.0.0.1:1/x.png"}, 422, "the picture is a URL, but this server fetches nothing"),
    (FINDINGS, {"scan": "file:///etc/passwd"}, 422, "the picture is a URL, but this server fetches nothing"),
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
    (SOAP, {"notes": {}}, 422, "the text of the notes has nothing to write a note from; give the notes of a visit"),
    (SOAP, {"notes": "/etc/passwd"}, 422, "the text of the notes has nothing to write"),
    (SOAP, {"notes": "word " * 9000}, 400, "the notes have"),
    (SOAP, {"notes": TWO_PATIENTS}, 422, "the text of the notes holds the notes of 2 patients"),
    (SOAP, {"notes": TWO_PATIENTS, "patient": "4713"}, 422, "the text of the notes names no patient with the given ID"),
    (SOAP, {"notes": TWO_PATIENTS, "patient": 4711}, 422, "patient: input should be a valid string"),
    (SOAP, {"notes": "\n\n".join("MRN: {mrn}\nHPI: {note}".format_map(one) for one in TWO_PATIENTS)}, 422, "the text of the notes holds"),
    (SOAP, '{"notes": ' + "[" * 200 + "1" + "]" * 200 + "}", 422, "the request is nested too deeply"),
    (CHAT, url("https://example.org/x.png"), 422, "picture 1 is a URL, but this server fetches nothing"),
    (CHAT, url("/etc/passwd"), 422, "picture 1 is not"),
    (CHAT, url(f"data:image/png;base64,{SECRET}"), 422, "picture 1 is not base64"),
    (CHAT, url("data:text/plain,hello"), 422, "picture 1 is a data URL that is not base64"),
    (CHAT, said("user", "user"), 422, "messages must be an optional system message, then user and assistant in turn"),
    (CHAT, said("assistant"), 422, "messages must be an optional system message"),
    (CHAT, said("system"), 422, "messages must be an optional system message"),
    (CHAT, said(f"{SECRET}\n"), 422, "messages.0: role must be one of these: 'system', 'developer',"),
    (CHAT, said("user", tools=[]), 422, "the request has the unknown field tools; its fields are max_tokens, temperature, top_k,"),
    (SOAP, {"notes": "x", "max_tokens": 5}, 422, "the request has the unknown field max_tokens; its fields are model, options,"),
    (FINDINGS, {"scan": SCAN, "options": {"stop": 1}}, 422, "options has the unknown field stop; its fields are those in /openapi.json"),
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
        ({"files": [("scan", b"x"), ("scan", b"y")]}, 422, "scan: send one picture"),
        ({"files": {"scan": png(draw_phantom(0)[0])}, "data": {"frame": "one"}}, 422, "frame is not a JSON value"),
        ({"files": {"scan": png(draw_phantom(0)[0])}, "data": {"options": "{}", "x": ""}}, 422, "the request has the unknown field x"),
    ],
)
def test_a_bad_form_is_refused(client, how, status, message):
    answer = client.post(FINDINGS, **how)
    assert (answer.status_code, answer.json()["error"]["message"][: len(message)]) == (status, message)


@pytest.mark.parametrize("declared", [True, False], ids=["with its length", "in chunks"])
def test_a_body_that_is_too_large_is_refused_and_the_client_is_told_why(client, monkeypatch, declared):
    monkeypatch.setattr(transfer, "LARGEST_REQUEST", 100_000)
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
                await transfer.read_body(Request(scope, receive), Held(Budget(transfer.LARGEST_REQUEST)))
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


def test_a_log_line_says_what_its_author_wrote_and_nothing_of_a_patient(capsys):
    with plain_logs():
        logger = logging.getLogger("mlx_vlm.server")
        logger.warning("Request failed: error=%s", SECRET)
        try:
            raise ValueError(SECRET)
        except ValueError:
            logger.exception("Error in generation thread: %s", SECRET)
    assert capsys.readouterr().err == "medgemma: Error in generation thread: ... (ValueError)\n"


def test_the_description_says_where_a_key_is_asked_for_and_has_every_schema_it_refers_to():
    engine = SimpleNamespace(is_ready=True)
    described = build(engine, READERS, key="k").app.openapi()
    assert described["components"]["securitySchemes"][next(iter(described["security"][0]))] == {"type": "http", "scheme": "bearer"}
    assert [path for path, route in described["paths"].items() if next(iter(route.values())).get("security") == []] == ["/health", "/ready"]
    assert "security" not in build(engine, READERS).app.openapi()
    referred = {ref.rsplit("/", 1)[1] for ref in re.findall(r'"\$ref": "([^"]+)"', json.dumps(described))}
    assert {"ReportModel", "Sampling", "TextPart"} <= referred <= set(described["components"]["schemas"])


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


def test_the_page_is_static_needs_no_key_and_allows_nothing_from_elsewhere(client):
    for path in ("/", "/page/page.js", "/page/page.css", "/page/report.css"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert not re.search(r"https?://", answer.text)
    assert client.get("/page/../app.py").status_code == 404
    assert client.get("/page/app.py").status_code == 404
    assert client.get("/", headers={"host": "rebound.example"}).status_code == 403
