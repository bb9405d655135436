"""Logarithmic smoothing: bounds of a policy's value that hold for every log length, whatever the weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.errors import ConfigError
from ctrkit.ope.intervals.interval import ConfidenceInterval

# λ, fixed in advance, as the best of them serves logs of up to some 10⁸ rows.
STRENGTHS = 2.0 ** np.arange(-14, 5)
METHOD = "log smoothing, guaranteed"


class LogSmoothing:
    """Sums of log(1 + λ w s) over the rows of a log, from which follow bounds; parts of a log merge.

    Sakhi, Aouali, Alquier and Chopin, Logarithmic Smoothing for Pessimistic Off-Policy Evaluation, Selection
    and Learning, NeurIPS 2024: for y = w s >= 0 of mean v, with probability 1 - δ,

        v >= max over λ in Λ of (1 / (λ n)) [Σ log(1 + λ y) - log(|Λ| / δ)],

    as E[Π (1 + λ y)] = (1 + λ v)^n <= exp(λ n v). With s = (r - least) / (most - least) this bounds the value
    from below; with 1 - s, whose weighted mean is 1 - v where weights have mean 1, from above. Nothing in it
    is asymptotic, and large weights cost no more than what they add to the sums.

    Rows that go together, or that stand for several decisions, are not independent. Where no unit has more
    than M decisions, Σ log(1 + λ y) / M takes the place of the sum (Hölder's inequality), which makes the
    price M log(|Λ| / δ).

    Args:
        reward_range: the least and the largest possible reward.

    Raises:
        ConfigError: for an empty or infinite range.
    """

    def __init__(self, reward_range: tuple[float, float]) -> None:
        least, most = reward_range
        if not (np.isfinite(most - least) and least < most):
            raise ConfigError(
                f"a reward range from {least:g} to {most:g} is empty or infinite",
                hint="Give finite bounds, the lesser one first",
            )
        self.reward_range = (least, most)
        self.decisions = 0.0
        self.sums = np.zeros((2, len(STRENGTHS)))

    def update(self, weights: Floats, rewards: Floats, counts: Floats) -> None:
        """Take in rows, arrays [B]; `counts` is how many decisions each stands for."""
        least, most = self.reward_range
        scaled = (rewards - least) / (most - least)
        for index, strength in enumerate(STRENGTHS):
            for side, gained in enumerate((scaled, 1 - scaled)):
                self.sums[side, index] += counts @ np.log1p(strength * weights * gained)
        self.decisions += float(counts.sum())

    def merge(self, other: LogSmoothing) -> None:
        """Take in what another of the same range has seen, of other units."""
        self.decisions += other.decisions
        self.sums += other.sums

    def interval(self, largest_unit: float) -> Callable[[float], ConfidenceInterval]:
        """Of a confidence: each end is a bound by itself, at half of the risk.

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
