"""What is an error in a findings report, and what only looks like one."""

import random
import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import lines, trained

from medgemma_app.validate import validate_findings
from medgemma_app.validate.loops import LoopWatch
from medgemma_app.validate.refusals import _weights

FINDINGS = "The heart is normal in size. The lungs are clear. No pleural effusion or pneumothorax."
GOOD = f"FINDINGS:\n{FINDINGS}\n\nIMPRESSION:\nNo acute cardiopulmonary disease."


def codes(text, **known):
    return {issue.code for issue in validate_findings(text, **known).issues}


def report(findings=FINDINGS, impression="No acute cardiopulmonary disease."):
    return f"FINDINGS:\n{findings}\n\nIMPRESSION:\n{impression}"


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        GOOD.rstrip("."),
        f"Here is the report.\n\n{GOOD}",
        report(impression="1. Mild scoliosis.\n2. Small hiatal hernia."),
        report(findings="- Heart size normal\n- Lungs clear", impression="Normal chest"),
        report(impression="1. Right PICC line tip in the SVC\n2. No pneumothorax"),
        report(impression="1. Scoliosis\n2. Tortuous arch with unrolling"),
        report(impression="Lungs clear. Follow-up film in 6 weeks"),
        report(impression="COPD"),
        report(impression="**No acute disease**"),
        report(impression='Read as "normal chest"'),
        report(impression="Right lower lobe nodule, 8/10"),
        report(impression="1. Scoliosis.\n2. PICC line in the axilla (see above.\n3. Clear lungs."),
        report(impression="Ratio of heart to chest: 0.55"),
        report(impression="Heart\nNormal.\n\nLungs\nNo acute disease"),
        f"{GOOD}\n\n---",
        f"```\n{GOOD}\n```",
        report(findings="The left lung base cannot be assessed. Pneumonia cannot be excluded.", impression="I cannot rule out pneumonia."),
        report(findings="The patient is unable to stand. " + FINDINGS, impression="No image of the lateral view was needed."),
        report(impression="Elevated TNFα and 5 µg of tracer; Müller's sign; 38 °C."),
        report(findings="XXXX XXXX XXXX XXXX XXXX XXXX XXXX XXXX XXXX XXXX are clear. " + FINDINGS),
    ],
)
def test_a_report_as_radiologists_write_it_has_no_issue(text):
    assert validate_findings(text).issues == ()


@pytest.mark.parametrize("text", ["", "  \n\t", "<eos>", "<end_of_turn>\n"])
def test_no_text_is_no_answer(text):
    assert codes(text) == {"no-answer"}


@pytest.mark.parametrize(("text", "known"), [("", {"has_thought": True}), ("<unused94>thought\nThe heart", {})])
def test_a_thought_without_an_answer_asks_for_more_tokens(text, known):
    (issue,) = validate_findings(text, **known).issues
    assert issue.code == "thought-only"
    assert "--max-tokens" in issue.message


def test_a_thought_before_a_report_is_no_issue():
    assert codes(GOOD, has_thought=True) == set()


@pytest.mark.parametrize(
    ("text", "missing"),
    [(f"FINDINGS: {FINDINGS}", "impression"), ("IMPRESSION: Clear.", "findings"), ("The chest is normal.", "findings")],
)
def test_a_missing_section_is_named(text, missing):
    assert missing in next(issue.message for issue in validate_findings(text).errors if issue.code == "missing-section")


@pytest.mark.parametrize("body", ["", ".", "-", "...", "**", "[Insert findings here]", "1.", "<findings>", "___"])
@pytest.mark.parametrize("which", ["findings", "impression"])
def test_a_section_without_words_is_empty(which, body):
    assert "empty-section" in codes(report(**{which: body}))


@pytest.mark.parametrize("body", ["None.", "XXXX", "Normal", "2.5", "N/A"])
def test_a_section_of_one_word_is_not_empty(body):
    assert "empty-section" not in codes(report(findings=body))


@pytest.mark.parametrize("name", ["findings.md", "findings_prior.md"])
def test_the_prompts_own_line_under_a_heading_is_no_content(name):
    prompt = (Path(__file__).parents[2] / "prompts" / name).read_text()
    lines = re.findall(r"^(?:FINDINGS|IMPRESSION): (.+)$", prompt, re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        assert "empty-section" in codes(report(findings=line))


@pytest.mark.parametrize("end", ["Opacity of the left lung and", "Heart,", "Small effusion (left", "**Normal"])
def test_a_sign_of_a_cut_needs_no_full_stops_elsewhere(end):
    assert "truncated" in codes(report(findings="Heart normal\nLungs clear", impression=end))


@pytest.mark.parametrize("end", ["Small effusion left of the hilum", "Left apical scarring", "COPD", "Seen by Dr. Lee"])
def test_a_report_that_never_ends_its_lines_may_end_with_any_word(end):
    assert codes(report(findings="- Heart size is normal\n- Both lungs are clear", impression=end)) == set()


@pytest.mark.parametrize("end", ["See the left hemidi", "Small r", "Follow up in 6", "Nodule, no", "Left basilar consolidati", "Heart si"])
def test_a_word_that_is_none_is_a_cut_whatever_the_other_lines_end_with(end):
    assert "truncated" in codes(report(findings="- Heart size is normal\n- Both lungs are clear", impression=end))


@pytest.mark.parametrize("finish_reason", ["length", "cancelled"])
def test_a_stopped_generation_is_truncated_however_it_ends(finish_reason):
    assert "truncated" in codes(GOOD, finish_reason=finish_reason)


@pytest.mark.parametrize(
    "end",
    [
        "No acute cardiopulm",
        "No acute disease,",
        "Opacity in the",
        "Opacity (probably",
        "Opacity of the left lung and",
        "1. Cardiomegaly.\n2.",
        "- Cardiomegaly.\n-",
        "**No acute",
        "No effusion. The lef",
        "",
        "Consistent with",
        "Opacity of the right -",
        "There are nodules. The largest has a size of 12",
        "Heart\nNormal. Not enlarged.\n\nLungs\nClear. No acute pulm",
        "Normal chest.\n•",
    ],
)
def test_a_text_that_stops_in_mid_sentence_is_truncated(end):
    assert "truncated" in codes(report(impression=end))


def test_an_open_line_before_a_section_that_never_came_is_truncated():
    assert "truncated" in codes("FINDINGS:\nHeart size within norm")


def test_most_cuts_of_a_report_are_caught():
    cuts = [GOOD[:at].rstrip() for at in range(20, len(GOOD) - 1)]
    open_cuts = [cut for cut in cuts if not cut.endswith((".", "FINDINGS:"))]
    caught = sum("truncated" in codes(cut) for cut in open_cuts)
    assert caught >= 0.95 * len(open_cuts)


@pytest.mark.parametrize(
    "loop",
    [
        "No pleural effusion. " * 4,
        "There is a small left effusion with basal atelectasis now. " * 3,
        "clear " * 9,
        "the lungs " * 7,
        "\n".join(f"{number}. No pleural effusion." for number in range(1, 6)),
        ("No effusion is seen here. No effusion is seen there either. The heart, too, is normal in size today. " * 3),
        "a" * 40,
    ],
)
def test_a_phrase_that_repeats_without_end_is_a_loop(loop):
    assert "repetition" in codes(report(findings=loop))


@pytest.mark.parametrize("words", [1, 3, 10, 40, 150, 300])
def test_a_loop_is_found_whatever_its_length_and_where_it_stops(words):
    rng = random.Random(words)
    phrase = [f"word{rng.randrange(60)}" for _ in range(words)]
    loop = (phrase * 10)[: max(12, words * 10 - words // 2)]
    assert "repetition" in codes(report(findings=f"{FINDINGS} {' '.join(loop)}"))


def test_one_sentence_that_fills_most_of_the_text_is_a_loop():
    filler = ["Heart normal.", "Lungs clear.", "Bones intact.", "Aorta tortuous.", "No edema."]
    assert "repetition" in codes(report(findings=" ".join(f"No focal airspace opacity is seen. {other}" for other in filler)))


def test_a_sentence_given_four_times_in_a_long_text_is_no_loop():
    organs = ["heart", "aorta", "spine", "trachea", "left hilum", "right hilum"]
    same = "There is no change."
    long = " ".join(f"The {organ} is of normal size, shape and position for the age of this patient." for organ in organs)
    assert "repetition" not in codes(report(findings=f"{same} {long} {same} Ribs intact. {same} Lungs clear. {same}"))


@pytest.mark.parametrize(
    "text",
    [
        "No effusion. No effusion. No effusion.",
        "Heart normal. Lungs clear. Bones intact. Aorta tortuous. " + FINDINGS + " No change. Small effusion. No change.",
        "No focal opacity is seen. " + FINDINGS + " No focal opacity is seen. The aorta is tortuous. No focal opacity is seen.",
        "Take 4 tablets for 3 days, 3 tablets for 3 days, 2 tablets for 3 days, 1 tablet for 3 days.",
        "No effusion. No edema. No mass. No nodule. No fracture. No pneumothorax. No opacity. No hernia.",
    ],
)
def test_a_sentence_given_two_or_three_times_is_no_loop(text):
    assert "repetition" not in codes(report(findings=text))


@pytest.mark.parametrize(
    "text",
    [
        " ".join(f"C{n}-C{n + 1}: No disc bulge. No central canal stenosis. No neural foraminal narrowing." for n in range(2, 8)),
        "Motor 5/5 5/5 5/5 5/5 (deltoid, biceps, triceps, grip). " + FINDINGS,
    ],
)
def test_the_same_said_of_every_level_is_no_loop(text):
    assert "repetition" not in codes(report(findings=text))


def test_a_loop_the_generation_stopped_is_reported_with_its_end():
    issue = next(issue for issue in validate_findings(GOOD, finish_reason="repetition").errors)
    assert (issue.code, issue.excerpt.endswith("disease.")) == ("repetition", True)


TOKENS = ["end_of_turn", "start_of_turn", "unused94", "unused7", "image_soft_token", "start_of_image", "end_of_image"]


@pytest.mark.parametrize("token", ["[PAD]", "</s>", "<EOS>", "[/INST]", "\n### Human: thanks"])
def test_what_other_models_leave_over_is_a_control_token_too(token):
    assert "special-token" in codes(report(findings=f"{FINDINGS} {token}"))


@pytest.mark.parametrize("name", [*TOKENS, "pad", "bos", "eos", "unk", "mask"])
def test_a_left_over_control_token_is_named(name):
    token = f"<{name}>"
    issue = next(issue for issue in validate_findings(GOOD.replace("clear", f"clear{token}")).errors)
    assert (issue.code, token in issue.message) == ("special-token", True)


def test_angle_brackets_of_a_comparison_are_no_control_token():
    assert codes(report(impression="Nodule <6 mm and >3 mm; ratio <0.5. Read by <radiologist>.")) == set()


@pytest.mark.parametrize("refusal", ["I can't do that.", "I'm sorry, but I cannot interpret this image.", "Please upload the X-ray."])
def test_a_refusal_is_seen_alone_and_in_a_section(refusal):
    for text in (refusal, f"{refusal} They will look at your picture.", report(impression=refusal), report(refusal, refusal)):
        assert "refusal" in codes(text)


def test_most_refusals_that_the_weights_were_not_learned_from_are_seen_and_hardly_a_sentence_of_clinicians():
    declined, clinical = lines("declined_unseen"), lines("clinical_unseen")
    assert sum(not validate_findings(report(impression=line)).ok for line in declined) >= 0.95 * len(declined)
    assert sum("refusal" in codes(report(impression=line)) for line in clinical) <= 0.02 * len(clinical)


def test_the_weights_are_those_that_the_sentences_give():
    kept = {stem: weight for stem, weight in _weights().items() if abs(weight) > 0.2}
    learned = trained()
    assert len(kept) > 800
    assert [stem for stem, weight in kept.items() if abs(learned[stem if stem != "*" else ""] - weight) > 0.1] == []


@pytest.mark.parametrize("answers", [("N/A", "Not available."), ("Not provided.", "Unable to determine.")])
def test_a_report_that_says_nothing_in_any_section_is_a_refusal(answers):
    assert codes(report(*answers)) == {"refusal"}
    assert codes(report(impression=answers[0])) == set()


def test_a_limit_of_the_examination_is_no_refusal():
    assert "refusal" not in codes(report(impression="Limited study. Pneumonia cannot be excluded, and a lateral view is recommended."))
    texts = [report(findings=f"{line} {FINDINGS}", impression=line) for line in lines("clinical")]
    assert sum("refusal" in codes(text) for text in texts) <= 0.01 * len(texts)


def test_a_caution_within_a_longer_impression_is_no_refusal():
    caution = "I cannot give a firm diagnosis from one view."
    assert (
        codes(report(impression=f"Opacity of the left lower zone, most likely pneumonia. {caution} CT of the chest is recommended."))
        == set()
    )


def test_a_disclaimer_around_a_report_is_no_refusal():
    disclaimer = "**Disclaimer:** I am an AI and cannot provide a medical diagnosis."
    assert codes(f"{disclaimer}\n\n{GOOD}\n\n{disclaimer}") == set()
    assert codes(f"{GOOD} Disclaimer: I am an AI and cannot provide medical advice; consult a radiologist.") == set()
    assert codes(f"{GOOD}\n\nPlease note that I am an AI, and that this is no medical advice; ask a radiologist.") == set()


@pytest.mark.parametrize(
    "text",
    [
        "!!!! ???? ####",
        "1 2 3 4 5",
        "@@ a# $$% ^^& ok (*)(*) {}{}{}",
        "x" + "ab" * 40,
        "asdf qwer zxcv poiu lkjh mnbv wqzx.",
        "The lungs are cleаr.",
        "эффузия the 心脏 lungs клиника is",
        "心" * 5 + " ok",
    ],
)
def test_text_that_is_no_language_is_gibberish(text):
    assert "gibberish" in codes(text)


def test_a_word_in_another_alphabet_is_a_warning_only():
    (issue,) = validate_findings(report(findings=f"Read together with Мария. {FINDINGS}")).issues
    assert (issue.code, issue.severity, issue.excerpt) == ("foreign-script", "warning", "Мария")


def test_a_report_wholly_in_another_alphabet_is_no_mixture():
    assert "gibberish" not in codes("Лёгкие чистые. Сердце не увеличено. Плевральные полости свободны.")


def test_sections_out_of_order_or_given_twice_are_warnings_only():
    swapped = validate_findings(f"IMPRESSION: Clear.\n\nFINDINGS: {FINDINGS}")
    doubled = validate_findings(f"{GOOD}\n\nFINDINGS: The bones are intact.")
    assert [(issue.code, issue.severity) for issue in swapped.issues] == [("section-order", "warning")]
    assert [(issue.code, issue.severity) for issue in doubled.issues] == [("duplicate-section", "warning")]
    assert swapped.ok
    assert doubled.warnings == doubled.issues


def test_an_empty_section_is_no_error_where_another_of_its_name_has_words():
    assert codes(f"FINDINGS:\n{GOOD}") == {"duplicate-section"}


def test_a_control_token_is_shown_with_what_surrounds_it():
    (issue,) = validate_findings(GOOD.replace("clear", "clear<eos> indeed")).issues
    assert "clear<eos> indeed" in issue.excerpt


def test_the_sections_come_with_the_validation():
    assert validate_findings(GOOD).sections == {"findings": FINDINGS, "impression": "No acute cardiopulmonary disease."}


PIECES = [
    "FINDINGS:",
    "IMPRESSION:",
    "\n",
    " ",
    "**",
    "(",
    ".",
    "- ",
    "<unused94>",
    "No effusion.",
    "the",
    "I cannot see",
    "é",
    "心",
    "\u2028",
    "\xa0",
]


@settings(max_examples=150, deadline=None)
@given(
    st.text(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=25).map("".join), st.sampled_from(["stop", "length", "repetition"])
)
def test_any_text_gets_issues_of_one_line_and_a_short_excerpt(text, finish_reason):
    validation = validate_findings(text, finish_reason=finish_reason)
    assert validation.ok == (not validation.errors)
    for issue in validation.issues:
        assert issue.severity in ("error", "warning", "info")
        assert "\n" not in issue.message
        assert len(issue.excerpt) <= 80


TRAPS = [
    "a ",
    "\ud800\u0301",
    "\u202eא ",
    "\n",
    "(",
    "[]",
    "**a",
    "<unused",
    "S:\n",
    "x. FINDINGS: ",
    "I cannot see ",
    "\xa0!",
    "ement",
    "аb",
    "1. ",
]


@pytest.mark.parametrize("trap", TRAPS)
def test_a_megabyte_of_any_trap_gets_an_answer_in_seconds(trap):
    text = trap * (1_000_000 // len(trap))
    begun = time.process_time()
    assert not validate_findings(f"{text}x").ok
    assert time.process_time() - begun < 10


def pieces(text, size=3):
    return [text[start : start + size] for start in range(0, len(text), size)]


@pytest.mark.parametrize(
    "phrase", ["no acute disease. ", "normal ", "a b c d e f g h i j k l m n o p ", "1. Pleural effusion.\n", "\n", "- "]
)
def test_a_loop_is_seen_as_it_forms(phrase):
    watch = LoopWatch()
    seen = [watch.feed(piece) for piece in pieces("FINDINGS: The heart is normal. " + phrase * 400)]
    assert True in seen
    assert 3 * seen.index(True) < 40 + max(320, 11 * len(phrase))


@pytest.mark.parametrize("text", ["FINDINGS:\n" + "_" * 200 + "\nnormal\n", "XXXX " * 80, "normal normal normal.\n" * 2, "normal " * 20])
def test_what_real_texts_repeat_or_may_still_end_is_no_loop(text):
    watch = LoopWatch()
    assert not any(watch.feed(piece) for piece in pieces(text))
