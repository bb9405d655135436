"""True values of policies, for simulated logs that hold each candidate's expected reward."""

from __future__ import annotations

from typing import Self

import numpy as np
import polars as pl

from ctrkit.arrays import Floats, Integers
from ctrkit.policies.candidates import padded
from ctrkit.schema import TRUTH_PREFIX

# The list column with each candidate's true probability of a click.
TRUTH = f"{TRUTH_PREFIX}click_probability"
# If the rewards are this many standard errors from their truth, the column belongs to other rewards.
FARTHEST = 6.0


class Truth:
    """mean(Σ π(a) E[r | a]) of each of P policies over the decisions that rows stand for, from sums."""

    def __init__(self, policies: int) -> None:
        self.expected = np.zeros(policies)
        self.rows = 0.0
        self.rewards = self.logged = self.variance = 0.0

    def update(self, expected: Floats, action_index: Integers, rewards: Floats, counts: Floats) -> None:
        """Take in rows; the caller adds to `self.expected` itself.

        Args:
            expected: [B, K] the candidates' true expected rewards.
            action_index: [B] index of the logged action among the candidates.
            rewards: [B] the logged rewards.
            counts: [B] how many decisions each row stands for.
        """
        logged = np.take_along_axis(expected, action_index[:, None], axis=1)[:, 0]
        self.rows += float(counts.sum())
        self.rewards += float(counts @ rewards)
        self.logged += float(counts @ logged)
        self.variance += float(counts**2 @ (logged * (1.0 - logged)))

    def merge(self, other: Self) -> None:
        """Take in what another has seen of the same policies."""
        self.expected += other.expected
        self.rows += other.rows
        self.rewards += other.rewards
        self.logged += other.logged
        self.variance += other.variance

    def values(self) -> tuple[float | None, ...]:
        """The true value of each policy.

        None where no row has true rewards, where they are those of another reward column, or where `expected`
        is NaN because the policy's probabilities of the candidates are unknown.
        """
        other = abs(self.rewards - self.logged) > FARTHEST * np.sqrt(self.variance)
        if not self.rows or other:
            return (None,) * len(self.expected)
        return tuple(None if np.isnan(one) else float(one) / self.rows for one in self.expected)


def true_rewards(table: pl.DataFrame) -> Floats | None:
    """The candidates' true expected rewards [B, K], 0 where there is no candidate; None if not in the log."""
    return padded(table[TRUTH], fill=0.0) if TRUTH in table.columns else None
