"""Logarithmic smoothing: bounds of a policy's value that are valid for every log length and any weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.errors import ConfigError
from ctrkit.ope.intervals.interval import ConfidenceInterval

# Values of λ, fixed in advance; they cover logs of up to about 10⁸ rows.
STRENGTHS = 2.0 ** np.arange(-14, 5)
METHOD = "log smoothing, guaranteed"


class LogSmoothing:
    """Bounds of a policy's value from sums of log(1 + λ w s) over the rows of a log; parts of a log merge.

    Sakhi, Aouali, Alquier and Chopin, Logarithmic Smoothing for Pessimistic Off-Policy Evaluation, Selection
    and Learning, NeurIPS 2024: for y = w s >= 0 of mean v, with probability 1 - δ,

        v >= max over λ in Λ of (1 / (λ n)) [Σ log(1 + λ y) - log(|Λ| / δ)],

    as E[Π (1 + λ y)] = (1 + λ v)^n <= exp(λ n v). With s = (r - least) / (most - least) this bounds the value
    from below; with 1 - s, whose weighted mean is 1 - v where weights have mean 1, from above. Nothing in it
    is asymptotic, and large weights matter only by what they add to the sums.

    Rows of one unit, or rows that stand for several decisions, are not independent. If no unit has more than
    M decisions, Σ log(1 + λ y) / M replaces the sum (Hölder's inequality), so the last term becomes M log(|Λ|
    / δ).

    Args:
        reward_range: smallest and largest possible reward.

    Raises:
        ConfigError: the range is empty or infinite.
    """

    def __init__(self, reward_range: tuple[float, float]) -> None:
        least, most = reward_range
        if not (np.isfinite(most - least) and least < most):
            raise ConfigError(
                f"a reward range from {least:g} to {most:g} is empty or infinite",
                hint="Give finite bounds, the lower one first",
            )
        self.reward_range = (least, most)
        self.decisions = 0.0
        self.sums = np.zeros((2, len(STRENGTHS)))

    def update(self, weights: Floats, rewards: Floats, counts: Floats) -> None:
        """Add rows, [B] each; `counts` are the numbers of decisions that the rows stand for."""
        least, most = self.reward_range
        scaled = (rewards - least) / (most - least)
        for index, strength in enumerate(STRENGTHS):
            for side, gained in enumerate((scaled, 1 - scaled)):
                self.sums[side, index] += counts @ np.log1p(strength * weights * gained)
        self.decisions += float(counts.sum())

    def merge(self, other: LogSmoothing) -> None:
        """Add the rows of another, which has the same reward range and other units."""
        self.decisions += other.decisions
        self.sums += other.sums

    def interval(self, largest_unit: float) -> Callable[[float], ConfidenceInterval]:
        """A function from a confidence level to the interval; each end alone is a bound at half of the risk.

        Args:
            largest_unit: M, the largest number of decisions of one unit.
        """
        least, most = self.reward_range

        def found(confidence: float) -> ConfidenceInterval:
            price = largest_unit * np.log(2 * len(STRENGTHS) / (1 - confidence))
            bounds = ((self.sums - price) / (STRENGTHS * self.decisions)).max(axis=1)
            low, high = np.clip([bounds[0], 1 - bounds[1]], 0.0, 1.0)
            return ConfidenceInterval(
                float(least + (most - least) * low), float(least + (most - least) * high), METHOD
            )

        return found
