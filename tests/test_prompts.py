"""Prompt files: checked variables, lines that go with their value, and the order of the parts."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from string import Template

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import picture

from medgemma_app import prompts
from medgemma_app.errors import InputError, PromptError
from medgemma_app.prompts import (
    PromptFile,
    choose_prompt,
    findings_prompt,
    locate_prompt,
    parse_prompt,
    read_prompt,
    series_prompt,
    soap_prompt,
)

FINDINGS = ["findings", "findings_prior", "findings_views", "findings_prior_views", "findings_series", "findings_by_region"]
NOTES = ["soap", "history_and_physical", "progress_note"]
VARIABLES = {name: {"indication", "header"} for name in FINDINGS} | {name: {"notes"} for name in NOTES} | {"locate": {"target"}}
VARIABLES["findings_series"] |= {"slices"}


@pytest.mark.parametrize(("name", "variables"), VARIABLES.items())
def test_every_prompt_file_uses_exactly_its_variables(name, variables):
    assert set(Template(read_prompt(name).text).get_identifiers()) == variables


def test_every_prompt_file_is_listed_here():
    assert {path.stem for path in prompts.prompt_paths()} == set(VARIABLES)


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


def test_no_indication_splits_the_prompt_of_a_series():
    prompt, _ = series_prompt([picture(1)], indication="head\0ache", header="modality\0CT")
    assert "Indication: head\0ache" in prompt.parts[0]
    assert prompt.parts[-1].startswith("SLICE 1\n\nBased on these slices") and "\0" not in prompt.parts[-1]


def test_a_line_without_a_value_is_left_out():
    with_it, without = (findings_prompt(picture(1), indication=text)[0].parts[1] for text in ("cough", None))
    assert "Indication: cough\n" in with_it
    assert "ndication" not in without
    assert with_it.replace("Indication: cough\n", "") == without


def test_a_dollar_in_a_value_stays_as_written():
    assert "costs $5, ${x} $$" in soap_prompt("costs $5, ${x} $$")[0].parts[0]


@pytest.mark.parametrize("name", [*FINDINGS, *NOTES])
def test_a_prompt_asks_for_its_sections_and_front_matter_is_not_sent_to_the_model(name):
    file = read_prompt(name)
    assert file.sections and set(file.optional) < set(file.sections)
    assert all(f"\n{section.upper()}:" in file.text for section in file.sections)
    assert "---" not in file.text and "kind:" not in file.text


def test_the_locate_prompt_follows_the_picture_and_asks_for_fenced_boxes():
    image = picture(1)
    prompt, file = locate_prompt(image, "right clavicle")
    assert prompt.parts[0] is image and file.kind == "locate"
    assert "Where is the right clavicle?" in prompt.parts[1]
    assert all(part in prompt.parts[1] for part in ("[y0, x0, y1, x1]", "0..1000", "Final Answer:\n```json\n[{", '"box_2d"', '"label"'))


@pytest.mark.parametrize("phrase", ['"Not documented."', "only what the notes say"])
@pytest.mark.parametrize("name", NOTES)
def test_prompts_for_notes_ask_for_nothing_invented(name, phrase):
    assert phrase in read_prompt(name).text


def test_values_that_a_prompt_does_not_name_are_an_error():
    for values in ({}, {"note": "a"}, {"notes": "a", "more": "b"}):
        with pytest.raises(PromptError, match=r"x\.md"):
            PromptFile("x.md", "about $notes", "").fill(**values)


OWN = b"---\nkind: soap\ntitle: Intake\nsections: HISTORY, ADVICE (optional), PLAN\n---\nFrom $notes write HISTORY, Advice and PLAN."


def test_a_prompt_file_of_the_user_says_its_kind_its_title_and_its_sections(tmp_path):
    (tmp_path / "own.md").write_bytes(b"\xef\xbb\xbf" + OWN.replace(b"\n", b"\r\n"))
    file = choose_prompt(tmp_path / "own.md", "soap")
    assert (file.name, file.kind, file.title, file.pictures) == ("own.md", "soap", "Intake", "one")
    assert (file.sections, file.optional) == (("history", "advice", "plan"), ("advice",))
    assert file.text == "From $notes write HISTORY, Advice and PLAN."
    assert choose_prompt("soap", "soap") == read_prompt("soap")


FOR_ANY = b"---\nkind: findings\nsections: FINDINGS\n---\nYou read X-rays. Question: $indication. Say FINDINGS.\nFile: $header"


@pytest.mark.parametrize(
    "line", ["$indication", "Indication: $indication", "- **Klinische Angaben:** ${indication}.", "Question (if there is one): $indication"]
)
def test_a_line_that_goes_with_its_value_holds_nothing_but_a_label_and_the_value(line):
    raw = FOR_ANY.replace(b"You read X-rays. Question: $indication. Say", f"You read X-rays.\n{line}\nSay".encode())
    assert parse_prompt(raw, "own.md").fill(indication=None, header=None) == "You read X-rays.\nSay FINDINGS."


@pytest.mark.parametrize(
    ("heading", "key"),
    [
        ("Subjektiv-Befund", "subjektiv-befund"),
        ("मुख्य शिकायत", "मुख्य शिकायत"),
        ("อาการสำคัญ", "อาการสำคัญ"),
        ("主诉", "主诉"),
        ("ÉVALUATION", "évaluation"),
        ("E\u0301VALUATION", "évaluation"),
    ],
)
def test_headings_of_any_script_are_sections_however_their_accents_are_written(heading, key):
    raw = f"---\nkind: soap\nsections: {heading}\n---\n$notes\n{heading}: ...".encode()
    assert parse_prompt(raw, "own.md").sections == (key,)


@pytest.mark.parametrize("comma", [",", "\N{ARABIC COMMA}", "\N{FULLWIDTH COMMA}", "\N{IDEOGRAPHIC COMMA}"])
def test_headings_are_separated_by_commas_of_any_script(comma):
    raw = f"---\nkind: soap\nsections: 主诉{comma}计划 (optional)\n---\n$notes\n主诉, 计划".encode()
    assert (parse_prompt(raw, "own.md").sections, parse_prompt(raw, "own.md").optional) == (("主诉", "计划"), ("计划",))


@pytest.mark.parametrize(
    ("raw", "message"),
    {
        "no front matter": (b"Describe this X-ray.", "must begin with a line of ---"),
        "empty": (b"", "must begin with a line of ---"),
        "never closed": (b"---\nkind: soap\n", "must begin with a line of ---"),
        "no kind": (OWN.replace(b"kind: soap\n", b""), "must have kind: with one of"),
        "unknown kind": (OWN.replace(b"soap", b"ode"), "must have kind: with one of"),
        "unknown pictures": (OWN.replace(b"title:", b"pictures:"), "must have pictures: with one of"),
        "pictures of notes": (OWN.replace(b"title: Intake", b"pictures: series"), "pictures: belongs only in prompts"),
        "unknown key": (OWN.replace(b"title", b"author"), "line 3: front matter may have"),
        "key twice": (OWN.replace(b"title: ", b"kind: "), "line 3: front matter may have"),
        "no value": (OWN.replace(b"Intake", b""), "line 3: front matter may have"),
        "control character": (OWN.replace(b"Intake", b"In\x1b[2Jtake"), "line 3: front matter may have"),
        "no sections": (OWN.replace(b"sections", b"title", 1).replace(b"title: Intake\n", b""), "needs sections"),
        "sections of boxes": (OWN.replace(b"soap", b"locate").replace(b"$notes", b"$target"), "locate has no sections"),
        "empty section": (OWN.replace(b"ADVICE (optional)", b" "), "'' in sections: is not a heading"),
        "option misspelled": (OWN.replace(b"optional", b"opt"), r"'ADVICE \(opt\)' in sections: is not a heading"),
        "section twice": (OWN.replace(b"ADVICE (optional)", b"history"), "sections: has the heading history twice"),
        "not asked for": (OWN.replace(b"Advice and", b""), "the prompt does not ask for the section ADVICE"),
        "a value among other words": (FOR_ANY, r"line 5: \$indication must be on a line of its own"),
        "a value after a sentence": (FOR_ANY.replace(b". Say", b"\nSay"), r"line 5: \$indication must be"),
        "two values on a line": (
            FOR_ANY.replace(b"You read X-rays. ", b"").replace(b". Say", b" ($header)\nSay"),
            r"line 5: \$indication must be on a line of its own",
        ),
        "asked for in a line that may go": (
            FOR_ANY.replace(b"You read X-rays. Question:", b"FINDINGS:").replace(b". Say FINDINGS.", b""),
            "the prompt does not ask for the section FINDINGS in a line that is always sent",
        ),
        "lone dollar": (OWN + b"\nIt costs $ 5.", "line 7: there is a lone \\$"),
        "NUL": (OWN + b"\0", "line 6: there is a lone \\$ or a control character"),
        "not UTF-8": (OWN + b"\xff", "is not UTF-8"),
        "unknown variable": (OWN + b"\nFor ${name}.", "line 7: \\$name is not a variable of this prompt, which must use \\$notes"),
        "missing variable": (OWN.replace(b"$notes", b"notes"), "does not use \\$notes"),
        "variable twice": (OWN + b"\n$notes", "line 7: \\$notes is already used on an earlier line"),
        "no slices": (
            OWN.replace(b"soap\ntitle: Intake", b"findings\npictures: series"),
            "line 6: .notes is not .*header, .*indication, .*slices",
        ),
        "too large": (OWN + b" " * 50_000, "too large"),
    }.values(),
)
def test_a_broken_prompt_file_is_an_error_that_names_the_file_and_what_is_wrong(raw, message):
    with pytest.raises(PromptError, match=rf"own\.md.*{message}"):
        parse_prompt(raw, "own.md")


@given(st.binary(max_size=300) | st.binary(max_size=60).map(lambda raw: OWN[:40] + raw + OWN[40:]))
def test_any_bytes_are_a_prompt_file_or_a_prompt_error(raw):
    with suppress(PromptError):
        assert parse_prompt(raw, "own.md").kind in prompts.VARIABLES


@pytest.mark.parametrize("source", ["no-such-file.md", "../prompts/soap", "https://example.org/own.md", "/etc"])
def test_a_prompt_that_cannot_be_read_is_an_input_error(source):
    with pytest.raises(InputError):
        choose_prompt(source, "soap")


def test_a_missing_or_broken_file_of_the_package_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(prompts, "FOLDERS", (tmp_path,))
    (tmp_path / "findings.md").write_bytes(b"\xff")
    for name in ("findings", "nothing"):
        with pytest.raises(PromptError):
            read_prompt(name)


def test_the_hash_is_that_of_the_file():
    raw = (prompts.FOLDERS[1] / "soap.md").read_bytes()
    assert read_prompt("soap").sha256 == hashlib.sha256(raw).hexdigest()
