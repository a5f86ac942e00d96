"""Every request of a batch is drawn by its own options, beside whichever others."""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx
from mlx_vlm.generate.ar import _PositionedTargetSampler

from medgemma_app.model.generation import Options


class Draws:
    """Draws the next token of every row by that row's own options.

    A batch has one sampler for all rows but a list of logits processors for each. They are called row by row, right before
    the sampler: so a row's first processor says how it is to be drawn.
    """

    def __init__(self) -> None:
        self._rows: list[_PositionedTargetSampler | None] = []

    def of(self, options: Options) -> Callable[[mx.array, mx.array], mx.array]:
        """The processor of a row that is drawn by ``options``: by seed and place in the answer alone, as for a single row."""
        greedy = options.temperature == 0
        row = None if greedy else _PositionedTargetSampler(
            temperature=options.temperature, top_p=options.top_p, top_k=options.top_k, seed=options.seed
        )  # fmt: skip

        def note(tokens: mx.array, logits: mx.array) -> mx.array:
            self._rows.append(row)
            return logits

        return note

    def sample_target(self, logprobs: mx.array, *, row_ids: list[int], positions: list[int]) -> mx.array:
        """[rows, vocabulary] -> [rows]."""
        rows, self._rows = self._rows[-len(positions) :], []
        if not any(rows):
            return mx.argmax(logprobs, axis=-1)
        drawn = [
            mx.argmax(logprobs[at : at + 1], axis=-1)
            if row is None
            else row.sample_target(logprobs[at : at + 1], row_ids=[0], positions=[positions[at]])
            for at, row in enumerate(rows)
        ]
        return mx.concatenate(drawn)
