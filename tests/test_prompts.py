"""Prompt files: checked variables, lines that go with their value, and the order of the parts."""

from __future__ import annotations

import hashlib
from string import Template

import pytest
from tiny import picture

from medgemma_app import prompts
from medgemma_app.errors import PromptError
from medgemma_app.prompts import PromptFile, findings_prompt, read_prompt, series_prompt, soap_prompt

FINDINGS = ["findings", "findings_prior", "findings_views", "findings_prior_views", "findings_series"]
VARIABLES = {name: {"indication", "header"} for name in FINDINGS} | {"soap": {"notes"}}
VARIABLES["findings_series"] |= {"slices"}


@pytest.mark.parametrize(("name", "variables"), VARIABLES.items())
def test_every_prompt_file_uses_exactly_its_variables(name, variables):
    assert set(Template(read_prompt(name).text).get_identifiers()) == variables


def test_every_prompt_file_is_listed_here():
    assert {path.stem for path in prompts.FOLDERS[1].glob("*.md")} == set(VARIABLES)


def test_the_pictures_come_before_the_request_and_the_prior_first():
    old, new = picture(1), picture(2)
    assert findings_prompt(new)[0].parts[0] is new
    assert findings_prompt(new, prior=old)[0].parts[:2] == (old, new)


def test_further_views_follow_the_current_picture():
    old, new, side = picture(1), picture(2), picture(3)
    assert findings_prompt(new, views=[side])[0].images == (new, side)
    prompt, file = findings_prompt(new, views=[side], prior=old)
    assert (prompt.images, file.name) == ((old, new, side), "findings_prior_views.md")


def test_every_slice_is_followed_by_its_number_and_the_question_comes_last():
    slices = [picture(seed) for seed in range(3)]
    prompt, file = series_prompt(slices, indication="headache")
    assert file.name == "findings_series.md"
    assert prompt.images == tuple(slices)
    assert prompt.parts[2::2][:2] == ("SLICE 1", "SLICE 2")
    assert prompt.parts[-1].startswith("SLICE 3\n\nBased on these slices")
    assert "Indication: headache" in prompt.parts[0]


def test_a_line_without_a_value_is_left_out():
    with_it, without = (findings_prompt(picture(1), indication=text)[0].parts[1] for text in ("cough", None))
    assert "Indication: cough\n" in with_it
    assert "ndication" not in without
    assert with_it.replace("Indication: cough\n", "") == without


def test_a_dollar_in_a_value_stays_as_written():
    assert "costs $5, ${x} $$" in soap_prompt("costs $5, ${x} $$")[0].parts[0]


@pytest.mark.parametrize("heading", ["FINDINGS", "IMPRESSION"])
@pytest.mark.parametrize("name", FINDINGS)
def test_findings_prompts_ask_for_both_sections(name, heading):
    assert f"\n{heading}:" in read_prompt(name).text


@pytest.mark.parametrize(
    "phrase", ["\nSUBJECTIVE:", "\nOBJECTIVE:", "\nASSESSMENT:", "\nPLAN:", '"Not documented."', "only what the notes say"]
)
def test_the_soap_prompt_asks_for_its_sections_and_nothing_invented(phrase):
    assert phrase in read_prompt("soap").text


def test_a_variable_too_many_or_too_few_is_an_error():
    file = PromptFile("x.md", "about $notes", "")
    for values in ({}, {"note": "a"}, {"notes": "a", "more": "b"}):
        with pytest.raises(PromptError, match=r"x\.md"):
            file.fill(**values)


def test_a_missing_or_broken_file_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(prompts, "FOLDERS", (tmp_path,))
    (tmp_path / "soap.md").write_text("costs $ 5")
    (tmp_path / "findings.md").write_bytes(b"\xff")
    for name in ("soap", "findings", "nothing"):
        with pytest.raises(PromptError):
            read_prompt(name)


def test_the_hash_is_that_of_the_file():
    raw = (prompts.FOLDERS[1] / "soap.md").read_bytes()
    assert read_prompt("soap").sha256 == hashlib.sha256(raw).hexdigest()
