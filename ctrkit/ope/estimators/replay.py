"""The replay method: the rewards of rows where the logged action is the policy's action."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Self

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.ope.estimators.base import Estimator, LoggedRows, register
from ctrkit.ope.intervals.interval import ConfidenceInterval, Unseen, cressie_read, normal
from ctrkit.ope.intervals.moments import ONE, REWARD, TERM, WEIGHT, MomentColumns


@register
class Replay(Estimator):
    """Σ m r / Σ m over the rows, m = 1 where the logged action is the one that the policy takes, else 0.

    Li, Chu, Langford and Wang, Unbiased Offline Evaluation of Contextual-bandit-based News Article
    Recommendation Algorithms, WSDM 2011. It is for deterministic policies only. It is unbiased only if the
    logging policy takes the policy's action with the same probability in every context, as a uniform policy
    does; it uses no propensities. The interval does not include the bias under other logging policies.

    Under a deterministic policy a weight is 0, or 1 over a propensity and so at least 1. A weight in between
    shows that the policy is not deterministic. Then, and where no row matches, the value is NaN.
    """

    name: ClassVar[str] = "replay"
    own_interval: ClassVar[str] = "cressie-read, of matching rows"
    deterministic_only: ClassVar[bool] = True
    biased: ClassVar[bool] = True

    def __init__(self, reward_range: tuple[float, float] | None = None) -> None:
        super().__init__(reward_range)
        self.deterministic = True

    def terms(self, rows: LoggedRows) -> Floats:
        """The terms m r, [B]."""
        return np.where(rows.weights > 0, rows.rewards, 0.0)

    def observe(self, rows: LoggedRows) -> Sequence[MomentColumns]:
        """The columns of the rows, with m in place of the weight."""
        # A propensity of 1 may come a rounding error away from it.
        between = (rows.weights > 0) & (rows.weights < 1 - 1e-6)
        self.deterministic &= not bool(between.any())
        return super().observe(replace(rows, weights=(rows.weights > 0).astype(np.float64)))

    def join(self, other: Self) -> None:
        super().join(other)
        self.deterministic &= other.deterministic

    def value(self) -> float:
        mean = self.moments.mean
        return float(mean @ TERM / (mean @ WEIGHT)) if self._determined() else np.nan

    def direction(self) -> Floats:
        mean = self.moments.mean
        return np.asarray((TERM - self.value() * WEIGHT) / (mean @ WEIGHT)) if self._determined() else TERM

    def interval(self, value: float, of_difference: bool, confidence: float) -> ConfidenceInterval:
        """The interval of the value or of the difference.

        With a reward range it is Cressie-Read's interval of the matching rows. For the difference it is
        combined with that of all rows by Zou and Donner, Construction of Confidence Intervals about Effect
        Measures, 2008: the distances are added in squares. This is conservative here, because the matching
        rows are a subset of all rows.
        """
        if not self._determined():
            matched = self.moments.mean @ WEIGHT > 0
            why = "the policy is not deterministic" if matched else "no row matches"
            return ConfidenceInterval(np.nan, np.nan, f"none: {why}")
        if self.reward_range is None:
            found = normal(value, self.moments, self.direction() - of_difference * REWARD, confidence)
            return ConfidenceInterval(found.low, found.high, "normal, of matching rows")
        low, high = self._mean_reward(WEIGHT, TERM, self.reward_range, confidence)
        if of_difference:
            least, most = self._mean_reward(ONE, REWARD, self.reward_range, confidence)
            mean = float(self.moments.mean @ REWARD)
            own = value + mean
            farthest = self.reward_range[1] - self.reward_range[0]
            low = max(value - float(np.hypot(own - low, most - mean)), -farthest)
            high = min(value + float(np.hypot(high - own, mean - least)), farthest)
        return ConfidenceInterval(low, high, self.own_interval)

    def _mean_reward(
        self, member: Floats, reward: Floats, rewards: tuple[float, float], confidence: float
    ) -> tuple[float, float]:
        """Interval of the mean reward of the rows where `member` is 1; elsewhere `reward` is 0."""
        # As member² = member, sums of products over the members are among those over all rows.
        projection = np.stack([member, member, reward, reward])
        found = cressie_read(self.moments.projected(projection), TERM, [Unseen(1.0, *rewards)], confidence)
        low, high = np.clip([found.low, found.high], *rewards)
        return float(low), float(high)

    def _determined(self) -> bool:
        return self.deterministic and bool(self.moments.mean @ WEIGHT > 0)
