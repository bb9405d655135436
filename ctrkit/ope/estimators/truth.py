"""What a policy truly earns, where a simulated market's log carries each candidate's expected reward."""

from __future__ import annotations

from typing import Self

import numpy as np
import polars as pl

from ctrkit.arrays import Floats, Integers
from ctrkit.policies.candidates import padded
from ctrkit.schema import TRUTH_PREFIX

# The list column with each candidate's true probability of a click.
TRUTH = f"{TRUTH_PREFIX}click_probability"
# Rewards farther from their truth than so many standard errors are not what the column tells of.
FARTHEST = 6.0


class Truth:
    """mean(Σ π(a) E[r | a]) of each of P policies over the decisions that rows stand for, from sums."""

    def __init__(self, policies: int) -> None:
        self.expected = np.zeros(policies)
        self.rows = 0.0
        self.rewards = self.logged = self.variance = 0.0

    def update(self, expected: Floats, action_index: Integers, rewards: Floats, counts: Floats) -> None:
        """Take in rows: the candidates' true rewards [B, K], the places of the logged actions [B], rewards
        [B], and how many decisions each row stands for [B]; `expected` is added to by the caller.
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
        """Of the policies; None where no row carries a truth, or one of other rewards than the log's.

        NaN in `expected` says that a policy's probabilities of the candidates are not known.
        """
        other = abs(self.rewards - self.logged) > FARTHEST * np.sqrt(self.variance)
        if not self.rows or other:
            return (None,) * len(self.expected)
        return tuple(None if np.isnan(one) else float(one) / self.rows for one in self.expected)


def true_rewards(table: pl.DataFrame) -> Floats | None:
    """The candidates' true expected rewards [B, K], 0 at missing places; None where the log has none."""
    return padded(table[TRUTH], fill=0.0) if TRUTH in table.columns else None
