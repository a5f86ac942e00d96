"""The endpoint and its key are checked before any patient data is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgemma_app.errors import InputError, OptionError
from medgemma_app.remote.endpoint import KEY_VARIABLE, Endpoint, read_key

LOCAL = {
    "http://127.0.0.1:8000/v1": "http://127.0.0.1:8000/v1",
    "http://localhost:8000/v1/": "http://localhost:8000/v1",
    "http://LOCALHOST": "http://localhost/v1",
    "https://127.3.2.1/llm/v1": "https://127.3.2.1/llm/v1",
    "http://[::1]:9": "http://[::1]:9/v1",
}


@pytest.mark.parametrize("url", LOCAL)
def test_this_machine_can_be_reached_over_plain_http(url):
    assert Endpoint(url=url).url == LOCAL[url]


@pytest.mark.parametrize(
    "url",
    [
        "https://gpu.example.org/v1",
        "http://gpu.example.org/v1",
        "http://10.0.0.1:8000/v1",
        "http://localhost.example.org/v1",
        "http://127.0.0.1.example.org/v1",
        "http://2130706433/v1",
        "http://0x7f.1/v1",
        "http://0.0.0.0/v1",
        "http://127.1/v1",
        "http://localhost./v1",
        "http://[fe80::1]/v1",
        "http://example.org/127.0.0.1",
    ],
)
def test_any_other_host_is_another_machine_and_refused(url):
    with pytest.raises(OptionError, match="would be sent to another machine"):
        Endpoint(url=url)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1@example.org/v1",
        "http://user:secret@127.0.0.1/v1",
        "http://127.0.0.1\\@example.org/v1",
        "http://example.org\\.127.0.0.1/v1",
        "http://127.0.0.1#@example.org/",
        "http://127.0.0.1/v1?key=secret",
        "http://127.0.0.1 .example.org/v1",
        "http://127.0.0.1\n.example.org/v1",
        "http://ⓛocalhost/v1",
        "http://127.0.0.1:0x50/v1",
        "http://127.0.0.1:99999/v1",
        "http://[::1/v1",
        "ftp://127.0.0.1/v1",
        "127.0.0.1:8000",
        "//127.0.0.1/v1",
        "http:///v1",
        "",
    ],
)
def test_an_ambiguous_url_is_refused_and_not_repeated(url):
    with pytest.raises(OptionError, match="the endpoint must be a URL such as") as caught:
        Endpoint(url=url, allow_remote=True)
    assert "secret" not in str(caught.value)


def test_text_beside_the_brackets_of_an_address_never_names_the_host():
    try:
        url = Endpoint(url="http://[::1]example.org/v1").url
    except OptionError:
        return
    assert url == "http://[::1]/v1"


def test_another_machine_can_only_be_reached_over_https():
    assert Endpoint(url="https://gpu.example.org/v1", allow_remote=True).host == "https://gpu.example.org"
    with pytest.raises(OptionError, match=r"without encryption; use https, or a tunnel: ssh -L 8000:127\.0\.0\.1:9 10\.0\.0\.1"):
        Endpoint(url="http://10.0.0.1:9/v1", allow_remote=True)


@given(st.text(alphabet="htps:/@127.0lcaohste[]%#?\\x&=.\u2024", max_size=40))
def test_whatever_is_accepted_names_this_machine_to_any_parser(text):
    import httpx2

    try:
        url = Endpoint(url=f"http://{text}").url
    except OptionError:
        return
    host = httpx2.URL(url).host
    assert host == "localhost" or host.startswith("127.") or host == "::1"


@pytest.mark.parametrize("bad", [{"timeout": 0}, {"timeout": -1}, {"timeout": float("nan")}, {"jobs": 0}, {"jobs": 5000}])
def test_values_out_of_range_are_refused(bad):
    with pytest.raises(OptionError):
        Endpoint(url="http://127.0.0.1", **bad)


def test_the_key_comes_from_a_file_or_else_from_the_environment(tmp_path, monkeypatch):
    (tmp_path / "key").write_text("from-file\n")
    monkeypatch.setenv(KEY_VARIABLE, "from-environment")
    assert (read_key(tmp_path / "key"), read_key(None)) == ("from-file", "from-environment")
    monkeypatch.delenv(KEY_VARIABLE)
    assert read_key(None) is None


@pytest.mark.parametrize("content", [b"", b"two words", b"two\nlines", "schl\u00fcssel".encode(), b"x" * 10_000, b"a\x00b"])
def test_a_file_that_holds_no_key_is_an_error_that_does_not_show_it(tmp_path, content):
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(InputError, match="key must hold one key") as caught:
        read_key(tmp_path / "key")
    assert "two" not in str(caught.value)
    with pytest.raises(InputError, match="cannot read the key file none"):
        read_key(tmp_path / "none")


def test_the_key_is_not_in_what_an_endpoint_prints():
    assert "secret" not in repr(Endpoint(url="http://127.0.0.1", key="secret"))
