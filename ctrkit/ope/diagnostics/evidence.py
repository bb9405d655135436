"""The sums, besides estimates, that a verdict on a policy needs of a log or of a segment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.ope.estimators.base import EstimatorSums, LoggedRows
from ctrkit.ope.estimators.weights import Diagnostics
from ctrkit.ope.intervals.moments import ONE, REWARD, TERM, WEIGHT, MomentColumns, Moments, effective_units


class Evidence(EstimatorSums):
    """Sums from which `verdict.judge` decides whether to trust the rows; parts of a log merge.

    Args:
        reward_range: the smallest and the largest possible reward, where known.
    """

    def __init__(self, reward_range: tuple[float, float] | None = None) -> None:
        self.reward_range = reward_range
        # Of (1, w, the policy's mass on what is never logged, r).
        self.moments = Moments()
        # Of (1, w, whether the reward is not 0, whether it is below the largest possible).
        self.rewarded = Moments()
        self.supported = False
        self.squares = 0.0
        self.largest = 0.0

    @property
    def sums(self) -> Sequence[Moments]:
        return self.moments, self.rewarded

    def observe(self, rows: LoggedRows) -> Sequence[MomentColumns]:
        lost = np.zeros(len(rows.rewards)) if rows.unsupported is None else rows.unsupported
        self.supported |= rows.unsupported is not None
        self.squares += float(np.square(rows.counts * rows.weights).sum())
        self.largest = max(self.largest, float(rows.weights.max(initial=0.0)))
        most = np.inf if self.reward_range is None else self.reward_range[1]
        rewarded, missed = ((rows.rewards != 0).astype(np.float64), (rows.rewards < most).astype(np.float64))
        return (rows.weights, lost, rows.rewards), (rows.weights, rewarded, missed)

    def join(self, other: Self) -> None:
        self.supported |= other.supported
        self.squares += other.squares
        self.largest = max(self.largest, other.largest)

    def diagnostics(self, deterministic: bool = False, estimated_propensities: bool = False) -> Diagnostics:
        """The diagnostics of the rows, without the share of the heaviest ones."""
        moments = self.moments
        weight = float(moments.rows[0] @ WEIGHT)
        return Diagnostics(
            round(moments.count),
            round(float(self.rewarded.rows[0] @ TERM)),
            weight**2 / self.squares if self.squares > 0 else 0.0,
            float(moments.mean @ WEIGHT),
            self.mean_weight_z,
            self.largest,
            np.nan,
            float(moments.mean @ TERM) if self.supported else None,
            effective_units(moments.rows, moments.users, 1),
            int(self.rewarded.carriers[2:].min()),
            not self._varies(REWARD),
            deterministic,
            estimated_propensities,
        )

    @property
    def mean_weight_z(self) -> float:
        """How many standard errors the mean weight is away from 1, with the rows of a unit taken together.

        Infinite where the weights are all alike and not 1; 0 for a single unit.
        """
        distance = float(self.moments.mean @ WEIGHT) - 1
        if not self.moments.degrees:
            return 0.0
        if self._varies(WEIGHT):
            return distance / self.moments.standard_error(WEIGHT)
        return 0.0 if abs(distance) < 1e-9 else float(np.copysign(np.inf, distance))

    def _varies(self, column: Floats) -> bool:
        """Whether the rows differ in a column by more than rounding errors."""
        centred = column - (column @ self.moments.mean) * ONE
        return bool(centred @ self.moments.rows @ centred > 1e-12 * (column @ self.moments.rows @ column))
