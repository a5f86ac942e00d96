"""How often the validators are wrong about real texts, and how many errors put into them they catch.

    python tests/tools/measure_validators.py FOLDER

FOLDER holds JSON lines: ``aci-bench*.jsonl`` with dialogue and note, ``iu-xray*.jsonl`` with comparison, indication, findings and
impression. The validators were tuned on two rows of three; every third row is counted apart. Its false alarms
on notes were looked at too, late and twice, and their causes mended, so that on notes neither column is wholly unseen.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

import complete
from injections import NOTES, REPORTS, Injector, Row, as_markdown, has_prior, report_text
from refusals import lines

from medgemma_app.validate import Issue, Validation, validate_findings, validate_soap

SEED = 7
ROUNDS = 3
EXAMPLES = 4
HELD_OUT = 3
Judge: TypeAlias = Callable[..., Validation]
Judged: TypeAlias = Callable[[str], Validation]


def main(folder: str) -> None:
    """Print both tables for the corpora of a folder."""
    notes, reports = _rows(folder, "aci-bench*.jsonl"), _rows(folder, "iu-xray*.jsonl")
    print("| | wanted | tuned on | held out |\n|---|---|---|---|")
    examples = [*_false_alarms("real radiology reports", reports, _judge_report, report_text, (0.01, 0.05))]
    examples += _false_alarms("real notes with their dialogue", notes, _judge_note, lambda row: row["note"], (0.02, 0.25))
    restyled = [as_markdown(row) for row in notes]
    examples += _false_alarms("the same notes as Markdown", restyled, _judge_note, lambda row: row["note"], (0.02, 0.25))
    examples += _catches("reports", reports, _judge_report, report_text, REPORTS)
    examples += _catches("notes", notes, _judge_note, lambda row: row["note"], NOTES)
    examples += _written_here()
    examples += _of_another_author()
    print("\nWorst examples:\n" + "\n".join(f"- {line}" for line in examples))


def _rows(folder: str, pattern: str) -> list[Row]:
    lines = [line for path in sorted(Path(folder).glob(pattern)) for line in path.read_text(encoding="utf-8").splitlines()]
    return [json.loads(line) for line in lines]


def _judge_report(row: Row, text: str, **known: object) -> Validation:
    told: dict[str, object] = {"has_prior": has_prior(row), "indication": row["indication"], **known}
    return validate_findings(text, **told)  # type: ignore[arg-type]


def _judge_note(row: Row, text: str, **known: object) -> Validation:
    return validate_soap(text, source=row["dialogue"], **known)  # type: ignore[arg-type]


def _split(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    tuned = [row for at, row in enumerate(rows) if at % HELD_OUT != HELD_OUT - 1]
    return tuned, list(rows[HELD_OUT - 1 :: HELD_OUT])


def _false_alarms(name: str, rows: Sequence[Row], judge: Judge, text: Callable[[Row], str], wanted: tuple[float, float]) -> Iterable[str]:
    begun = time.process_time()
    judged = [[(row, judge(row, text(row))) for row in part] for part in _split(rows)]
    spent = 1000 * (time.process_time() - begun) / max(1, len(rows))
    for kind, most in zip(("error", "warning"), wanted, strict=True):
        shares = [_share([any(issue.severity == kind for issue in one.issues) for _, one in part]) for part in judged]
        print(f"| {name}: any {kind} | at most {most:.0%} | {' | '.join(shares)} |")
    print(f"| {name}: time | under 20 ms | {spent:.0f} ms | |")
    found = [(row["id"], issue) for part in judged for row, one in part for issue in one.issues if issue.severity != "info"]
    counts = Counter(f"{issue.severity} {issue.code}" for _, issue in found)
    yield f"{name}: {', '.join(f'{count} {code}' for code, count in counts.most_common())}"
    yield from (f"{name}: {row} {_shown(issue)}" for row, issue in sorted(found, key=lambda one: one[1].severity)[: 2 * EXAMPLES])


def _catches(
    name: str,
    rows: Sequence[Row],
    judge: Judge,
    text: Callable[[Row], str],
    table: Sequence[tuple[str, Injector, tuple[str, ...], float]],
) -> Iterable[str]:
    missed: list[str] = []
    for title, inject, codes, wanted in table:
        shares = []
        for part in _split(rows):
            rng, caught = random.Random(SEED), []
            for row in part:
                before = Counter(judge(row, text(row)).issues)
                for case in filter(None, (inject(row, rng) for _ in range(ROUNDS))):
                    new = [issue for issue in Counter(judge(row, case.text, **case.known).issues) - before if issue.code in codes]
                    caught.append(bool(new))
                    missed += [] if new else [f"{name}, {title}: {row['id']} missed"]
            shares.append(_share(caught))
        print(f"| {name}: {title} caught | at least {wanted:.0%} | {' | '.join(shares)} |")
    yield from (f"{count} x {line}" for line, count in Counter(missed).most_common(2 * EXAMPLES))


def _written_here() -> Iterable[str]:
    """Texts of our own in place of a model's: complete ones, the same cut in a word, and refusals."""
    rng = random.Random(SEED)
    for name, validate, texts in (
        ("notes", validate_soap, complete.notes(1, 480)),
        ("reports", validate_findings, complete.reports(2, 480)),
    ):
        whole = list(texts)
        wrong = [text for text in whole if validate(text).errors]
        cuts = [validate(complete.cut_in_a_word(text, rng)).errors for text in whole for _ in range(ROUNDS)]
        print(f"| complete {name} in a model's forms: any error | at most 1% | | {_share([text in wrong for text in whole])} |")
        print(f"| the same, cut in a word: any error | at least 95% | | {_share(list(map(bool, cuts)))} |")
        yield from (f"complete {name}: {text[-60:]!r}" for text in wrong[:EXAMPLES])
    declined, clinical = lines("declined_unseen"), lines("clinical_unseen")
    note = "SUBJECTIVE:\nCough.\n\nOBJECTIVE:\nLungs clear.\n\nASSESSMENT:\n{0}\n\nPLAN:\n{0}"
    forms: tuple[tuple[str, Judged, str], ...] = (
        ("as the sections of a report", validate_findings, "FINDINGS:\n{0}\n\nIMPRESSION:\n{0}"),
        ("as assessment and plan of a note", validate_soap, note),
    )
    for name, validate, form in forms:
        caught = [not validate(form.format(sentence)).ok for sentence in declined]
        print(f"| refusals of an author who did not know the rules, {name}: any error | at least 95% | | {_share(caught)} |")
    for name, validate, form in forms:
        taken = ["refusal" in {issue.code for issue in validate(form.format(sentence)).issues} for sentence in clinical]
        print(f"| sentences of clinicians that sound alike, {name}: refusal | at most 2% | | {_share(taken)} |")


def _of_another_author() -> Iterable[str]:
    """Faults written by somebody who did not know the rules; the rules have since been mended by every other one of them."""
    clean = {"findings": "The heart is normal in size. The lungs are clear.", "impression": "No acute disease."}
    compared = [report_text({**clean, "findings": f"{clean['findings']} {line}"}) for line in lines("priors")]
    told = [json.loads(line) for line in lines("contradictions.jsonl")]
    codes = ("contradiction", "contradicting-side", "measurement-mismatch")
    for name, wanted, texts, known in (
        ("comparisons with a prior", ("invented-prior",), compared, False),
        ("contradictions", codes, [row["text"] for row in told], True),
    ):
        caught = [not {issue.code for issue in validate_findings(text, has_prior=known).issues}.isdisjoint(wanted) for text in texts]
        print(f"| reports: {name} of another author caught | | {_share(caught[::2])} | {_share(caught[1::2])} |")
        yield from (f"{name}, missed: {text[-70:]!r}" for text, hit in zip(texts, caught, strict=True) if not hit)


def _share(hits: Sequence[bool]) -> str:
    return f"{sum(hits)} of {len(hits)} ({sum(hits) / len(hits):.1%})" if hits else "none"


def _shown(issue: Issue) -> str:
    return f"{issue.severity} {issue.code}: {issue.excerpt or issue.message}"


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit("give the folder of the corpora: make measure-validators CORPORA=FOLDER")
    main(sys.argv[1])
