"""Who may use the server: hosts, origins, keys; and what it says when it does not start."""

from __future__ import annotations

import asyncio
import socket

import httpx2
import pytest
from commands import run

from medgemma_app.errors import OptionError
from medgemma_app.remote.endpoint import KEY_VARIABLE
from medgemma_app.serve.access import BindAddress, Guard, chosen_key

SECRET = "Mrs Whittlethorpe"
FINDINGS, SOAP, CHAT = "/v1/findings", "/v1/soap", "/v1/chat/completions"


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
    assert BindAddress(host="127.0.0.2", port=0, key=None).loopback


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
    result = run("serve", "--model", "demo", "--port", "0", *arguments)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "key" in result.stderr
    assert SECRET not in result.stderr


def test_a_port_that_is_taken_is_a_usage_error():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run("serve", "--model", "demo", "--port", str(taken.getsockname()[1]))
    assert result.exit_code == 2
    assert "choose another --port" in result.stderr
