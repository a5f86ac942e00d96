"""Subtitles in SRT and WebVTT."""

import pytest
from resources import read


def _cues(*shown: str) -> bytes:
    return "\n\n".join(["WEBVTT", *(f"00:{at:02}.000 --> 00:{at:02}.900\n \n{text}\n " for at, text in enumerate(shown))]).encode()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        pytest.param(
            b"1\n00:00:01,500 --> 00:00:03,000\nDoctor: What hurts?\n\n2\n00:00:03,500 --> 00:00:04,000\nPatient: My <i>chest</i>,\n"
            b"for 2 days &amp; nights\n",
            "Doctor: What hurts?\nPatient: My chest, for 2 days & nights",
            id="SRT",
        ),
        pytest.param(
            b"\xef\xbb\xbf1\r\n00:00:01,500 --> 00:00:03,000\r\nMy chest\r\n\r\n2\r\n00:00:03,500 --> 00:00:04,000\r\nhurts badly\r\n",
            "My chest hurts badly",
            id="SRT as Windows writes it",
        ),
        pytest.param(b"1\n00:00:01,500 --> 00:00:03,000\n- What hurts?\n- My chest\n", "- What hurts?\n- My chest", id="dashes"),
        pytest.param(
            b"1\n00:00:01,500 --> 00:00:03,000\n[Doctor]: What hurts?\n[SPEAKER_01]: My chest\n",
            "Doctor: What hurts?\nSPEAKER_01: My chest",
            id="speakers in brackets",
        ),
        pytest.param(
            b"1\n00:00:01,500 --> 00:00:03,000\n>> What hurts?\n&gt;&gt;My chest\n>> Doctor: Since when?\n",
            "- What hurts?\n- My chest\nDoctor: Since when?",
            id="arrows",
        ),
        pytest.param(
            b"WEBVTT\nKind: captions\n\nNOTE take 50 mg\n\nSTYLE\n::cue { color: red }\n\n"
            b"intro\n00:01.500 --> 00:03.000 align:start position:0%\n"
            b"<v Dr Smith>What <c>hurts</c>?</v>\n\n00:03.500 --> 00:05.000\n<v.loud Jane>My <00:04.100>chest.\n",
            "Dr Smith: What hurts?\nJane: My chest.",
            id="WebVTT",
        ),
        pytest.param(
            b"[00:00.000 --> 00:03.000]  My chest hurts\n[00:03.000 --> 00:05.000]  very badly.\n",
            "My chest hurts very badly.",
            id="terminal",
        ),
        pytest.param(
            b"WEBVTT\n\n00:01.500 --> 00:03.000\nMy chest\n\nhurts\n\nNOTE take\n50 mg\n\nlast\n00:03.500 --> 00:05.000\n2\n\n",
            "My chest hurts 2",
            id="an empty line in a cue, and a comment of two lines",
        ),
        pytest.param(b"start\tend\ttext\n0\t3000\tMy chest hurts\n3000\t5000\tvery badly\n", "My chest hurts very badly", id="table"),
        pytest.param(_cues("my chest\nhurts", "my chest\nhurts", "my chest\nhurts"), "my chest hurts", id="the same cue three times"),
        pytest.param(
            _cues("I take<00:00:00.500><c> it</c>", "I take it", "I take it\n50 mg", "50 mg", "50 mg\ndaily"),
            "I take it 50 mg daily",
            id="rolling captions",
        ),
        pytest.param(
            _cues("my chest", "my chest\nhurts", "my chest\nhurts\nsince May", "hurts\nsince May\nNo.", "since May\nNo.\nNo."),
            "my chest hurts since May No. No.",
            id="three lines that roll",
        ),
        pytest.param(_cues("I", "I take", "I take 5", "I take 5 mg"), "I take 5 mg", id="cues that grow"),
        pytest.param(_cues("Any pain?", "No.", "Cough?", "No.", "No."), "Any pain? No. Cough? No. No.", id="an answer given twice"),
    ],
)
def test_subtitles_are_told_without_numbers_times_and_styles(content, text):
    notes = read(content)
    assert (notes.text, notes.facts["format"]) == (text, "subtitles")


@pytest.mark.parametrize("head", ["start,end,text", "Start Time;End Time;Speaker;Text"])
def test_the_times_of_a_table_are_left_out(head):
    cells = ["0", "98600", *["A"] * head.count("Speaker"), '" Cough, and ""fever"""']
    notes = read(f"{head}\n{(',' if ',' in head else ';').join(cells)}\n")
    assert notes.text.removeprefix("Speaker A: ") == 'Cough, and "fever"' and notes.facts["left_out"]
