"""Epsilon-greedy: a random ad with a small probability, else the ad of the highest posterior mean."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from ctrkit.arrays import Floats, Indices
from ctrkit.bidding.strategies.exploring import ExploringBidding, PosteriorScores, SlotChoice, certain
from ctrkit.settings import UnitInterval, checked


@checked
class EpsilonGreedyBidding(ExploringBidding):
    """With probability ε a random candidate of the slot, else the one with the highest posterior mean value.

    So of K candidates the best is chosen with probability 1 − ε + ε/K, and each other one with ε/K.
    """

    name = "epsilon-greedy"
    epsilon: UnitInterval = Field(default=0.05, description="ε, the share of slots that get an ad at random")

    def choose(self, belief: PosteriorScores, rng: np.random.Generator) -> SlotChoice:
        best, _ = found = belief.best()
        real = belief.calibrated > -np.inf
        real[~real.any(axis=1), 0] = True  # a slot without candidates still needs a choice
        lots = np.where(real, rng.random(real.shape), -1.0)
        ad = np.where(rng.random(len(best)) < self.epsilon, lots.argmax(axis=1), best)

        def chances(rows: Indices) -> Floats:
            each = real[rows] / real[rows].sum(axis=1, keepdims=True)
            return np.asarray((1.0 - self.epsilon) * certain(best[rows], each.shape[1]) + self.epsilon * each)

        return SlotChoice(ad, belief.of_ads(ad).value()[:, 0], found, chances)
