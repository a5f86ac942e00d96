"""A server that does not see pictures, or not all of them, is noticed."""

from __future__ import annotations

import json

import pytest
from scripted_server import chunk, pictures, says, usage
from tiny import picture

from medgemma_app import Prompt
from medgemma_app.model.generation import EndpointError, GenerationError
from medgemma_app.remote.messages import messages


def refuses_pictures(status, message):
    def chat(handler, body):
        if pictures(body):
            handler.json(status, {"error": {"message": message}}, retry_after="0")
        else:
            says("Clear.")(handler, body)

    return chat


@pytest.mark.parametrize(
    "chat",
    [
        says("Clear.", picture_tokens=5),
        refuses_pictures(400, "med is not a multimodal model"),
        refuses_pictures(500, "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj"),
        refuses_pictures(500, "No image was provided"),
    ],
    ids=["a word in its place", "refused", "failed", "dropped"],
)
def test_a_text_only_server_is_noticed_before_a_picture_is_sent_to_it(connect, server, chat):
    server.chat = chat
    with pytest.raises(EndpointError, match="does not see pictures"):
        connect().generate(Prompt((picture(1), "Describe it.")))
    assert [pictures(body) for body in server.requests] == [0, 1]
    assert json.dumps(messages(Prompt((picture(1),)))[0]["content"][0]) not in json.dumps(server.requests)


def test_a_busy_server_is_asked_again_whether_it_sees_pictures(connect, server):
    def chat(handler, body):
        if pictures(body) and len(server.requests) < 4:
            handler.json(503, {"error": {"message": "loading"}}, retry_after="0")
        else:
            says("Clear.")(handler, body)

    server.chat = chat
    assert connect().generate(Prompt((picture(1), "Describe it."))).text == "Clear."
    assert [pictures(body) for body in server.requests] == [0, 1, 1, 1, 1]


def test_a_request_with_a_picture_that_is_refused_for_another_reason_is_sent_once(connect, server):
    server.chat = refuses_pictures(401, "wrong key")
    with pytest.raises(EndpointError, match="refuses the key"):
        connect().generate(Prompt((picture(1), "Describe it.")))
    assert [pictures(body) for body in server.requests] == [0, 1]


def test_a_server_that_drops_one_of_two_pictures_is_noticed(connect, server):
    def chat(handler, body):
        handler.stream([chunk("Clear."), chunk(finish="stop"), usage(10 + 256 * min(1, pictures(body)), 1)])

    server.chat = chat
    model = connect()
    assert model.generate(Prompt((picture(1), "Describe it."))).text == "Clear."
    with pytest.raises(GenerationError, match="did not see all pictures") as caught:
        model.generate(Prompt((picture(1), picture(2), "Compare them.")))
    assert caught.value.partial.text == "Clear."
