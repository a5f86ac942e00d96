"""Arguments of the wrong kind: a sentence at the door, in every public function, and never an AttributeError from inside."""

from __future__ import annotations

from pathlib import Path

import pytest

from medgemma_app import (
    InputError,
    MedGemma,
    ModelError,
    OptionError,
    Prompt,
    connect,
    findings,
    findings_many,
    soap,
    soap_many,
    validate_findings,
    validate_soap,
)
from medgemma_app.demo import draw_phantom

NOTES = "Jane Roe, 45F, cough"


WRONG = [
    (lambda demo: soap(demo, NOTES), InputError, "pass it as text="),
    (lambda demo: soap(demo, "Jane Roe 45F\ncough.txt"), InputError, "pass it as text="),
    (lambda demo: soap(demo), TypeError, "either notes or text="),
    (lambda demo: soap(demo, {"history": "cough for 3 days"}, text="x"), TypeError, "either notes or text="),
    (lambda demo: soap(demo, 5), TypeError, "notes are given as a path"),
    (lambda demo: soap(demo, b"Jane Roe"), TypeError, "notes are given as a path"),
    (lambda demo: soap(demo, text=b"Jane Roe"), TypeError, "text= must be a string"),
    *(
        (lambda demo, views=views: findings(demo, draw_phantom(0)[0], views=views), TypeError, r"views must be a list; .* \[picture\]")
        for views in ("a.png", Path("a.png"), draw_phantom(0)[0], 5, b"x")
    ),
    *((lambda demo, scans=scans: findings_many(demo, scans), TypeError, "scans must be a list") for scans in ("a.png", None, b"x")),
    (lambda demo: soap_many(demo, {"history": "Jane Roe"}), TypeError, "notes must be a list"),
    (lambda demo: soap_many("demo", []), TypeError, "not str"),
    (lambda demo: findings_many(demo, [draw_phantom(0)[0]], retries=-1), OptionError, "retries must be a whole number"),
    (lambda demo: list(findings_many(demo, [draw_phantom(0)[0]], batch_size=0)), OptionError, "batch_size must be a whole number"),
    (lambda demo: findings(demo, draw_phantom(0)[0], retries="3"), OptionError, "retries must be a whole number"),
    (lambda demo: findings(demo, draw_phantom(0)[0], on_token="print"), TypeError, "on_token must be a function"),
    *((lambda demo, wrong=wrong: findings(demo, wrong), InputError, "a picture is given as") for wrong in (5, None, [])),
    (lambda demo: findings(demo, draw_phantom(0)[0], prior=5), InputError, "a picture is given as"),
    (lambda demo: Prompt(None), TypeError, "made of strings and PIL images"),
    (lambda demo: Prompt(("hello",), system=5), TypeError, "the system text must be a string"),
    (lambda demo: demo.generate_many(Prompt(("hi",))), TypeError, "must be a list of Prompts"),
    (lambda demo: demo.generate_many([], batch_size="x"), OptionError, "batch_size must be a whole number"),
    (lambda demo: demo.estimate("hi"), TypeError, "give a Prompt"),
    (lambda demo: MedGemma.load(5), TypeError, "the model must be a hub id"),
    (lambda demo: MedGemma.load("demo", revision=5), TypeError, "revision must be"),
    (lambda demo: MedGemma.load("demo", adapter=5), TypeError, "the adapter must be a folder"),
    (lambda demo: MedGemma.load(Path("/nowhere")), ModelError, "no checkpoint folder"),
    *((lambda demo, wrong=wrong: validate_findings(wrong), TypeError, "the report must be a string") for wrong in (5, None, b"x")),
    (lambda demo: validate_findings("x", header="CT"), TypeError, "header must be an ImageHeader"),
    (lambda demo: validate_findings("x", indication=5), TypeError, "indication must be a string"),
    *((lambda demo, wrong=wrong: validate_soap(wrong), TypeError, "the note must be a string") for wrong in (5, None, b"x")),
    (lambda demo: validate_soap("x", source=5), TypeError, "source must be a string"),
    (lambda demo: connect(5), TypeError, "the endpoint must be a URL"),
    (lambda demo: connect("http://127.0.0.1:9/v1", model=5), TypeError, "model must be the model's name"),
    (lambda demo: connect("http://127.0.0.1:9/v1", api_key=5), TypeError, "the API key must be a string"),
    (lambda demo: findings(demo, draw_phantom(0)[0], indication=b"cough"), TypeError, "indication must be a string"),
    (lambda demo: findings(demo, draw_phantom(0)[0], options={"seed": 1}), TypeError, "options must be Options"),
    (lambda demo: findings("demo", draw_phantom(0)[0]), TypeError, "not str"),
    (lambda demo: Prompt("hello"), TypeError, "made of strings and PIL images"),
    (lambda demo: Prompt((1, "hello")), TypeError, "strings and PIL images, not int"),
    (lambda demo: demo.generate("hi"), TypeError, "give a Prompt"),
    (lambda demo: demo.stream("hi"), TypeError, "give a Prompt"),
    (lambda demo: demo.tokenize(["hi"]), TypeError, "give a Prompt"),
    (lambda demo: list(demo.generate_many(["hi"])), TypeError, "give a Prompt"),
    (lambda demo: demo.generate(Prompt(("hi",)), {"max_tokens": 3}), TypeError, "options must be Options"),
    (lambda demo: demo.encode_image("scan.png"), TypeError, "give a PIL image"),
]


@pytest.mark.parametrize(("call", "kind", "message"), WRONG, ids=map(str, range(len(WRONG))))
def test_an_argument_of_the_wrong_kind_is_told_in_a_sentence_without_patient_text(demo, call, kind, message):
    with pytest.raises(kind, match=message) as caught:
        call(demo)
    assert "Roe" not in str(caught.value)
