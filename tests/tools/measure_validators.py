"""What the validators flag in real texts, and how many planted faults they find.

    python tests/tools/measure_validators.py FOLDER [--show CODE]

FOLDER holds JSON lines: ``aci-bench*.jsonl`` with dialogue and note (a clinician's, or a model's where the row names one), and
``iu-xray*.jsonl`` with comparison, indication, findings and impression. Without --show: flags of each code in each corpus, and recall
on planted faults. With --show: each flag of a code with its sentence and the source's, so that a person can judge it.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from medgemma_app.validate import Issue, Validation, validate_findings, validate_soap

Row = dict[str, Any]
AROUND = 90


def rows(folder: Path, pattern: str) -> list[Row]:
    """The rows of all files of a name."""
    return [json.loads(line) for path in sorted(folder.glob(pattern)) for line in path.read_text(encoding="utf-8").splitlines()]


def report(row: Row) -> str:
    return f"FINDINGS:\n{row['findings']}\n\nIMPRESSION:\n{row['impression']}"


def judge_report(row: Row, text: str) -> Validation:
    comparison = row["comparison"].strip().lower()
    return validate_findings(text, has_prior=bool(comparison) and not comparison.startswith(("none", "no ")), indication=row["indication"])


def judge_note(row: Row, text: str) -> Validation:
    return validate_soap(text, source=row["dialogue"])


def corpora(folder: Path) -> dict[str, list[tuple[Row, str, Validation]]]:
    """Name -> (row, text, what the validators say of it)."""
    notes, reports = rows(folder, "aci-bench*.jsonl"), rows(folder, "iu-xray*.jsonl")
    written = {
        "reports by radiologists": [(row, report(row), judge_report(row, report(row))) for row in reports],
        "notes by clinicians": [(row, row["note"], judge_note(row, row["note"])) for row in notes if "model" not in row],
        "notes by models": [(row, row["note"], judge_note(row, row["note"])) for row in notes if "model" in row],
    }
    return {name: judged for name, judged in written.items() if judged}


def print_flags(judged: dict[str, list[tuple[Row, str, Validation]]]) -> None:
    """A table: texts with each code, by corpus."""
    print(f"| texts flagged | {' | '.join(f'{name} ({len(texts)})' for name, texts in judged.items())} |")
    print("|---" * (len(judged) + 1) + "|")
    counts = [Counter(kind for *_, one in texts for kind in {f"{i.severity} `{i.code}`" for i in one.issues}) for texts in judged.values()]
    for kind in sorted(set().union(*counts)):
        print(f"| {kind} | {' | '.join(str(count[kind]) for count in counts)} |")
    for severity in ("errors", "warnings"):
        print(f"| any of the {severity} | {' | '.join(str(sum(bool(getattr(one, severity)) for *_, one in t)) for t in judged.values())} |")


def print_code(judged: dict[str, list[tuple[Row, str, Validation]]], code: str) -> None:
    """Every flag of a code with its sentence and the source's."""
    for name, texts in judged.items():
        for row, text, validation in texts:
            for issue in (issue for issue in validation.issues if issue.code == code):
                print(f"{name}, {row['id']}: {issue.severity}: {issue.message} [{issue.excerpt}]")
                for label, said, span in shown(issue, text, row.get("dialogue", "")):
                    print(f"    {label}: {said[: span[0]]}>>>{said[slice(*span)]}<<<{said[span[1] :]}")


def shown(issue: Issue, text: str, source: str) -> Iterator[tuple[str, str, tuple[int, int]]]:
    """(where, what stands around it on one line, its place there) of an issue in the text and in the source."""
    for label, said, start, end in (("text", text, issue.start, issue.end), ("source", source, issue.source_start, issue.source_end)):
        if start is not None and end is not None:
            first = max(0, start - AROUND)
            yield label, re.sub(r"\s", " ", said[first : end + AROUND]), (start - first, end - first)


# --- planted faults: each makes a text wrong in one known way, or None where it cannot be


def cut_in_a_word(text: str, rng: random.Random) -> str | None:
    words = [found for found in re.finditer(r"\b[a-z]{5,}\b", text) if found.start() > len(text) // 3]
    if not words:
        return None
    word = rng.choice(words)
    return text[: rng.randrange(word.start() + 2, word.end() - 1)]


def cut_in_a_sentence(text: str, rng: random.Random) -> str | None:
    words = [found for found in re.finditer(r"(?<=[a-z]) (?=[a-z])", text) if found.start() > len(text) // 3]
    return text[: rng.choice(words).start()] if words else None


def doubled(text: str, rng: random.Random) -> str | None:
    passages = [one for one in re.split(r"\n\s*\n", text) if len(one.split()) >= 40]
    return f"{text}\n\n{rng.choice(passages)}" if passages else None


def placeholder(text: str, rng: random.Random) -> str | None:
    left = [
        "[Insert date]",
        "[Patient Name]",
        "(Only include what was discussed)",
        "[Follow-up plan]",
        "{{plan}}",
        "(If not mentioned, leave blank)",
    ]
    return f"{text} {rng.choice(left)}"


def without_section(text: str, rng: random.Random) -> str | None:
    heads = list(re.finditer(r"(?m)^(?:IMPRESSION|ASSESSMENT AND PLAN|PHYSICAL EXAM(?:INATION)?):?", text))
    return text[: rng.choice(heads).start()].rstrip() if heads else None


def refused(_: str, rng: random.Random) -> str | None:
    said = [
        "I'm sorry, but I can't interpret medical images.",
        "I cannot write this without the notes. Please share them.",
        "No input was provided.",
    ]
    return rng.choice(said)


FAULTS: tuple[tuple[str, Callable[[str, random.Random], str | None], set[str]], ...] = (
    ("cut within a word", cut_in_a_word, {"truncated"}),
    ("cut between words", cut_in_a_sentence, {"truncated", "missing-section"}),
    ("a passage of 40 words or more doubled", doubled, {"doubled-text", "repetition"}),
    ("a placeholder left", placeholder, {"unfilled-template"}),
    ("cut before a section", without_section, {"missing-section"}),
    ("a refusal", refused, {"refusal"}),
)


def print_recall(judged: dict[str, list[tuple[Row, str, Validation]]]) -> None:
    """How many planted faults are found, by corpus."""
    print(f"\n| planted faults found | {' | '.join(judged)} |")
    print("|---" * (len(judged) + 1) + "|")
    for name, plant, codes in FAULTS:
        shares = []
        for corpus, texts in judged.items():
            rng, judge = random.Random(name), judge_report if "report" in corpus else judge_note
            wrong = [(row, changed) for row, text, before in texts if not before.errors and (changed := plant(text, rng))]
            found = sum(not codes.isdisjoint(issue.code for issue in judge(row, changed).issues) for row, changed in wrong)
            shares.append(f"{found}/{len(wrong)}")
        print(f"| {name} | {' | '.join(shares)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--show", metavar="CODE", help="print each flag of this code")
    told = parser.parse_args()
    judged = corpora(told.folder)
    if not judged:
        parser.error(f"{told.folder} has no aci-bench*.jsonl and no iu-xray*.jsonl; give the folder of the corpora")
    if told.show:
        print_code(judged, told.show)
    else:
        print_flags(judged)
        print_recall(judged)


if __name__ == "__main__":
    main()
