"""Any JSON, any bytes and any words as notes."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from resources import write

from medgemma_app.errors import InputError
from medgemma_app.inputs.json_notes import notes_text
from medgemma_app.inputs.notes import load_notes

NAMES = st.sampled_from((
    "text", "note", "speaker", "role", "code", "coding", "value", "valueQuantity", "unit", "reference", "display", "url", "contained",
    "entry", "resource", "contentType", "data", "div", "low", "start", "numerator", "id", "status", "extension",
    "fullUrl", "meta", "title",
))  # fmt: skip


KINDS = st.sampled_from(["Bundle", "Observation", "X", "Binary"])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["Bundle", "X/1", "#1", "text/html", "Binary/1"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(NAMES | st.text(max_size=5), inner, max_size=5)
        | st.builds(lambda kind, rest: {**rest, "resourceType": kind}, KINDS, st.dictionaries(NAMES, inner, max_size=5))
    ),
    max_leaves=25,
)


@settings(max_examples=300, deadline=None)
@given(JSON)
def test_any_json_gives_text_or_an_input_error(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = write(tmp_path_factory.getbasetemp(), json.dumps(value).encode())
    try:
        text = load_notes(path)
    except InputError:
        return
    text.encode("utf-8")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_text_or_an_input_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    try:
        assert isinstance(load_notes(write(tmp_path_factory.getbasetemp(), content)), str)
    except InputError:
        return


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=20) | st.lists(st.text(max_size=9), max_size=4), max_size=6))
def test_every_word_of_plain_notes_reaches_the_text(value: dict[str, Any]) -> None:
    text = notes_text(value)
    leaves = [leaf for item in value.values() for leaf in (item if isinstance(item, list) else [item])]
    assert all(leaf.strip() in text for leaf in leaves)
