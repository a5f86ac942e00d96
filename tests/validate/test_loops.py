"""Text that repeats itself: in a loop, or a passage that stands twice; and a loop seen while it forms."""

import random

import pytest
from drafts import FINDINGS, report

from medgemma_app.validate import validate_answer, validate_findings, validate_soap
from medgemma_app.validate.loops import LoopWatch

PASSAGE = " ".join(f"word{number}" for number in range(35))


def codes(findings, **known):
    return {issue.code for issue in validate_findings(report(findings), **known).issues}


@pytest.mark.parametrize(
    "loop",
    [
        "No pleural effusion. " * 4,
        "There is a small left effusion with basal atelectasis now. " * 3,
        "clear " * 9,
        "the lungs " * 7,
        "\n".join(f"{number}. No pleural effusion." for number in range(1, 6)),
        "\n".join(f"{number}. {advice}" for number, advice in enumerate(["Clinical correlation", "High-resolution CT"] * 5, 1)),
        "No effusion is seen here. No effusion is seen there either. The heart, too, is normal in size today. " * 3,
    ],
)
def test_a_phrase_that_repeats_without_end_is_a_loop(loop):
    assert "repetition" in codes(loop)


@pytest.mark.parametrize("words", [1, 3, 10, 40, 150, 300])
def test_a_loop_is_found_whatever_its_length_and_where_it_stops(words):
    rng = random.Random(words)
    phrase = [f"word{rng.randrange(60)}" for _ in range(words)]
    assert "repetition" in codes(f"{FINDINGS} {' '.join((phrase * 10)[: max(12, words * 10 - words // 2)])}")


@pytest.mark.parametrize(
    "text",
    [
        "No effusion. No effusion. No effusion.",
        "No focal opacity is seen. " + FINDINGS + " No focal opacity is seen. The aorta is tortuous. No focal opacity is seen.",
        "Take 4 tablets for 3 days, 3 tablets for 3 days, 2 tablets for 3 days, 1 tablet for 3 days.",
        "No effusion. No edema. No mass. No nodule. No fracture. No pneumothorax. No opacity. No hernia.",
        " ".join(f"C{n}-C{n + 1}: No disc bulge. No central canal stenosis. No neural foraminal narrowing." for n in range(2, 8)),
        "Motor 5/5 5/5 5/5 5/5 (deltoid, biceps, triceps, grip). " + FINDINGS,
    ],
)
def test_what_real_texts_repeat_is_not_a_loop(text):
    assert "repetition" not in codes(text)


def test_a_loop_the_generation_stopped_is_reported_with_its_end():
    (issue,) = validate_findings("FINDINGS: Clear.\nIMPRESSION: No disease.", finish_reason="repetition").errors
    assert (issue.code, issue.excerpt.endswith("disease.")) == ("repetition", True)


@pytest.mark.parametrize("between", ["", "\n```\n", " and then, in another section, "])
def test_a_passage_that_stands_twice_is_an_error_with_its_second_place(between):
    text = f"S: {PASSAGE}.{between}\nO: Clear.\nA: Well.\nP: {PASSAGE.upper()}, rest."
    (issue,) = validate_soap(text).errors
    assert issue.code == "doubled-text"
    assert text[issue.start : issue.end] == PASSAGE.upper()


NOTE = " ".join(f"word{number}" for number in range(450))


def test_a_note_that_begins_anew_is_stopped_and_the_words_that_stand_twice_are_named():
    watch, said = LoopWatch(), ""
    for piece in pieces(f"S: {NOTE}.\nP: Rest.\n" * 3):
        said += piece
        if watch.feed(piece):
            break
    assert 99 <= said.count("word") - 450 <= 101
    issues = validate_soap(said, finish_reason="repetition").issues
    (doubled,) = [issue for issue in issues if issue.code == "doubled-text"]
    assert doubled.message.startswith(f"these {len(said[doubled.start : doubled.end].split())} words already appear earlier")
    assert "repetition" not in {issue.code for issue in issues}


def test_a_shorter_passage_may_stand_twice():
    short = PASSAGE.rpartition(" ")[0]
    assert validate_soap(f"S: {short}.\nO: Clear.\nA: Well.\nP: {short}; rest.").errors == ()


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


@pytest.mark.parametrize(
    "text",
    [
        f"S: {NOTE}.\nA: {' '.join(NOTE.split()[50:130])}",
        "FINDINGS:\n" + "_" * 200 + "\nnormal\n",
        "XXXX " * 80,
        "normal normal normal.\n" * 2,
        "normal " * 20,
    ],
)
def test_what_may_still_end_is_not_a_loop(text):
    watch = LoopWatch()
    assert not any(watch.feed(piece) for piece in pieces(text))


@pytest.mark.parametrize("text", ["a" + "pi" * 1000, "肺" * 600, "The nodule is 5." + "0" * 600 + " cm."])
def test_a_loop_without_spaces_is_an_error(text):
    assert "repetition" in {issue.code for issue in validate_answer(text).errors}


@pytest.mark.parametrize("text", ["The lungs are clear." + sign * 600 + "No effusion." for sign in ("-", "_", " ", "\n", "X")])
def test_lines_and_blanks_are_no_loop(text):
    assert "repetition" not in {issue.code for issue in validate_answer(text).issues}
