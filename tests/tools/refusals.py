"""Sentences in which models decline, sentences of clinicians, all of our own, and the weights of words that tell one from the other.

    python tests/tools/refusals.py

writes the weights anew, by logistic regression over the stems of ``declined.txt`` and ``clinical.txt``. The two files of unseen
sentences are for measuring: they have taken no part in the training.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from textwrap import fill

import numpy as np

from medgemma_app.validate.refusals import WORDS_FILE, sentences, stems

SENTENCES = Path(__file__).parent.parent / "data" / "sentences"
FEWEST = 2  # texts that a stem must be in
RIDGE = 0.3
CONVERGED = 1e-4


def lines(name: str) -> list[str]:
    """The texts of one of the files, a line each."""
    return (SENTENCES / (name if "." in name else f"{name}.txt")).read_text(encoding="utf-8").splitlines()


def trained() -> dict[str, float]:
    """Stem -> how much it adds to the logarithm of the odds that a sentence declines; "" is where the sum begins."""
    declined = lines("declined")
    declined = list(dict.fromkeys([*declined, *(part for line in declined for part in sentences(line) if len(part.split()) > 2)]))
    clinical = lines("clinical")
    found = [stems(text) for text in (*declined, *clinical)]
    names = sorted(stem for stem, count in Counter(stem for one in found for stem in one).items() if count >= FEWEST)
    has = np.array([[1.0, *(name in one for name in names)] for one in found])
    fitted = _fit(has, np.arange(len(found)) < len(declined))
    return {"": fitted[0], **dict(zip(names, fitted[1:], strict=True))}


def _fit(has: np.ndarray, declines: np.ndarray) -> np.ndarray:
    """Logistic regression with a ridge on all but the first column, by Newton's method."""
    ridge = np.full(has.shape[1], RIDGE)
    ridge[0] = 0
    fitted, step = np.zeros(has.shape[1]), np.ones(1)
    while abs(step).max() > CONVERGED:
        odds = 1 / (1 + np.exp(-has @ fitted))
        slope = has.T @ (odds - declines) + ridge * fitted
        step = np.linalg.solve((has * (odds * (1 - odds))[:, None]).T @ has + np.diag(ridge), slope)
        fitted -= step
    return fitted


def main() -> None:
    """Writes the file of weights, in tenths: a weight and its stems on a line."""
    rows = defaultdict(list)
    for stem, weight in sorted(trained().items()):
        rows[round(weight, 1)].append(stem or "*")
    rows.pop(0.0, None)
    written = [
        fill(f"{weight:+} {' '.join(stems)}", 130, subsequent_indent=f"{weight:+} ", break_long_words=False, break_on_hyphens=False)
        for weight, stems in sorted(rows.items(), reverse=True)
    ]
    WORDS_FILE.write_text("\n".join(written) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
