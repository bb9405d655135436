"""The result of an attribution method: shares of a logit by feature and by past event."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctrkit.arrays import Floats

# A relative gap is the gap divided by the logit difference, or by this if the difference is smaller. 0.1 in
# logits is at most 2.5 percentage points of probability.
SMALLEST_DIFFERENCE = 0.1


@dataclass(frozen=True)
class Attributions:
    """Shares of the difference between a row's logit and its base, for n rows.

    Attributes:
        fields: shares of the static fields, in logits, `[n, F]`.
        history: share of the history as a whole, `[n]`; zero without a history.
        events: shares of each sequence's part of each event, newest last, `[n, L, S]`; they add up to
            `history`. None if the method treats a history as one unit.
        base: logit of the baseline, `[n]`.
        final: logit of the row, `[n]`.
        method: the attribution method.
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
        """The part of the difference that no share explains, in logits, `[n]`."""
        left: Floats = self.final - self.base - self.fields.sum(axis=1) - self.history
        return left

    @property
    def relative_gap(self) -> Floats:
        """|gap| / |difference|, or |gap| / 0.1 if the difference is smaller, `[n]`."""
        difference = np.maximum(np.abs(self.final - self.base), SMALLEST_DIFFERENCE)
        return np.abs(self.gap) / difference

    @property
    def mean_absolute(self) -> Floats:
        """The mean |share| of each static field and of the history, in logits, `[F + 1]`."""
        return np.asarray(np.abs(np.column_stack([self.fields, self.history])).mean(axis=0))
