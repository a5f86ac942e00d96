"""An answer with a schema is JSON that follows it, whatever the weights; one that is cut is not said to be whole."""

from __future__ import annotations

import inspect
import json

import pytest
from cases import MIXED_PROMPTS
from mlx_vlm.structured import build_json_schema_logits_processor

from medgemma_app import OptionError, Options
from medgemma_app.demo import draw_phantom
from medgemma_app.model.answer import Answer
from medgemma_app.prompts import findings_prompt

SCHEMA = {
    "type": "object",
    "properties": {
        "finding": {"type": "string", "maxLength": 12},
        "side": {"enum": ["left", "right"]},
        "size_mm": {"type": "integer", "minimum": 0, "maximum": 99},
        "levels": {"type": "array", "items": {"type": "string", "pattern": "^[LTC][0-9]$"}, "maxItems": 2},
    },
    "required": ["finding", "side", "size_mm", "levels"],
    "additionalProperties": False,
}
GREEDY, SAMPLED = {}, {"temperature": 1.0, "seed": 7, "top_k": 40, "top_p": 0.9, "repetition_penalty": 1.2}


@pytest.mark.parametrize("how", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_an_answer_follows_its_schema_alone_and_in_a_batch(tiny_model, how):
    options = Options(schema=SCHEMA, max_tokens=200, **how)
    prompts = [MIXED_PROMPTS[0], MIXED_PROMPTS[2], MIXED_PROMPTS[5]]  # with one picture, three, and none
    alone = [tiny_model.generate(prompt, options) for prompt in prompts]
    assert {one.finish_reason for one in alone} == {"stop"}
    for one in alone:
        said = json.loads(one.text)
        assert set(said) == set(SCHEMA["properties"])
        assert (said["side"] in ("left", "right"), 0 <= said["size_mm"] <= 99, len(said["finding"]) <= 12) == (True, True, True)
    together = list(tiny_model.generate_many(prompts, options, batch_size=3))
    assert [one.token_ids for one in together] == [one.token_ids for one in alone]


def test_the_demo_ends_its_turn_after_the_last_brace_and_a_cut_answer_says_so(demo):
    prompt = findings_prompt(draw_phantom(0)[0])[0]
    whole = demo.generate(prompt, Options(schema=json.dumps(SCHEMA)))
    assert (whole.finish_reason, whole.text[-1], set(json.loads(whole.text))) == ("stop", "}", set(SCHEMA["properties"]))
    cut = demo.generate(prompt, Options(schema=SCHEMA, max_tokens=5))
    assert (cut.finish_reason, cut.text) == ("length", whole.text[: len(cut.text)])


def test_an_answer_may_repeat_itself_where_a_schema_decides():
    def loops(schema):
        answer = Answer(Options(schema=schema, max_tokens=2000))
        return any(answer.add(1, "clear ", 0.0) and answer.looping for _ in range(200))

    assert (loops(None), loops({"type": "array"})) == (True, False)


DEEP = {"type": "string"}
for _ in range(2000):
    DEEP = {"items": DEEP}

BAD = [
    (5, "schema must be a JSON schema"),
    ("{", "the schema is not JSON: EOF"),
    ("[1]", "the schema must be a JSON object"),
    ("true", "the schema must be a JSON object"),
    ("{\ud800", "the schema is not JSON"),
    ({"minimum": float("nan")}, "the schema is not JSON"),
    ({"enum": [{1}]}, "the schema is not JSON"),
    (DEEP, "the schema is not JSON"),
    ('{"items":' * 2000 + "{}" + "}" * 2000, "the schema is not JSON"),
    ({"enum": ["x" * 100_000]}, "the schema has more than 100000 characters"),
    ({"$ref": "http://127.0.0.1:1/x"}, "the schema is not supported: Resource"),
    ({"$ref": "file:///etc/passwd"}, "the schema is not supported: Resource"),
    ({"$ref": "#/nowhere"}, "the schema is not supported: Pointer"),
    ({"$ref": "#"}, "the schema is not supported: "),
    ({"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"$ref": "#"}}}, "the schema is not supported: "),
    ({"type": "text"}, "the schema is not supported: Invalid type"),
    ({"not": {"type": "string"}}, "the schema is not supported: Unimplemented keys"),
    ({"x-guidance": {"lenient": True}, "not": {}}, "the schema is not supported: Unimplemented keys"),
    ({"pattern": "("}, "the schema is not supported: regex parse error"),
    ({"anyOf": []}, "the schema is not supported: Unsatisfiable"),
]


@pytest.mark.parametrize(("schema", "message"), BAD, ids=range(len(BAD)))
def test_a_schema_that_cannot_be_followed_is_refused_in_one_line(schema, message):
    with pytest.raises(OptionError) as caught:
        Options(schema=schema)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_mlx_vlms_own_processor_still_supports_only_one_end_token():
    """Where this fails, look whether its processor can take the place of SchemaMask, on CPUs too."""
    assert "eos" not in inspect.getsource(build_json_schema_logits_processor)
