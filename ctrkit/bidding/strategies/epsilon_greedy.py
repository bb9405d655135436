"""Epsilon-greedy: a random ad now and then, else that of the highest posterior mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctrkit.arrays import Floats, Indices
from ctrkit.bidding.strategies.base import check_not_negative
from ctrkit.bidding.strategies.exploring import Belief, Choice, ExploringBidding, certain
from ctrkit.errors import ConfigError


@dataclass(frozen=True)
class EpsilonGreedyBidding(ExploringBidding):
    """With probability ε any of the slot's candidates, else the one of the highest posterior mean value.

    Of K candidates the best is so chosen with probability 1 − ε + ε/K and each other one with ε/K.

    Attributes:
        epsilon: ε, from 0 to 1.
    """

    name = "epsilon-greedy"
    epsilon: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative(self.name, "epsilon", self.epsilon)
        if self.epsilon > 1:
            raise ConfigError(
                f"strategy '{self.name}': epsilon is {self.epsilon:g} and must be at most 1",
                mend="Give for example epsilon=0.05",
            )

    def choose(self, belief: Belief, rng: np.random.Generator) -> Choice:
        best, _ = found = belief.best()
        real = belief.calibrated > -np.inf
        real[~real.any(axis=1), 0] = True  # a slot without candidates has a place to fill all the same
        lots = np.where(real, rng.random(real.shape), -1.0)
        ad = np.where(rng.random(len(best)) < self.epsilon, lots.argmax(axis=1), best)

        def chances(rows: Indices) -> Floats:
            each = real[rows] / real[rows].sum(axis=1, keepdims=True)
            return np.asarray((1.0 - self.epsilon) * certain(best[rows], each.shape[1]) + self.epsilon * each)

        return Choice(ad, belief.of_ads(ad).value()[:, 0], found, chances)
