"""Epsilon-greedy: a random ad now and then, else that of the highest posterior mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctrkit.bidding.auctions import Floats
from ctrkit.bidding.strategies.base import Indices, best_ad, check_not_negative, of_ad
from ctrkit.bidding.strategies.exploring import Belief, ExploringBidding
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

    def choose(self, belief: Belief, rng: np.random.Generator) -> tuple[Indices, Floats]:
        mean = belief.value(belief.mean)
        best, _ = best_ad(mean)
        lots = np.where(np.isfinite(belief.calibrated), rng.random(mean.shape), -1.0)
        ad = np.where(rng.random(len(mean)) < self.epsilon, lots.argmax(axis=1), best)
        return ad, of_ad(mean, ad)
