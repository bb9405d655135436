"""What an attribution method gives: shares of a logit by feature and by past event."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctrkit.arrays import Floats

# A logit difference below this is taken for this when a gap is put in relation to it: a tenth of a unit is
# at most 2.5 points of probability.
SMALLEST_DIFFERENCE = 0.1


@dataclass(frozen=True)
class Attributions:
    """Shares of the difference between a row's logit and its base, n rows.

    Attributes:
        fields: `[n, F]`, of the static fields, in logits.
        history: `[n]`, of the history as a whole; zero without one.
        events: `[n, L, S]`, of each sequence's part of each event, newest last, which add up to `history`;
            None where the method takes a history as one.
        base, final: `[n]`, logits of the baseline and of the row.
        method: how they were found.
    """

    fields: Floats
    history: Floats
    events: Floats | None
    base: Floats
    final: Floats
    method: str

    def __len__(self) -> int:
        return len(self.final)

    @property
    def gap(self) -> Floats:
        """`[n]`: what of the difference is attributed to nothing, in logits."""
        left: Floats = self.final - self.base - self.fields.sum(axis=1) - self.history
        return left

    @property
    def relative_gap(self) -> Floats:
        """`[n]`: |gap| over the difference, or over 0.1 where the difference is smaller."""
        difference = np.maximum(np.abs(self.final - self.base), SMALLEST_DIFFERENCE)
        return np.abs(self.gap) / difference

    @property
    def mean_absolute(self) -> Floats:
        """`[F + 1]`: mean |share| of each static field and of the history, in logits."""
        return np.asarray(np.abs(np.column_stack([self.fields, self.history])).mean(axis=0))
