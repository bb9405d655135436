"""Greedy: the ad with the highest posterior mean; it learns, but does not explore."""

from __future__ import annotations

import numpy as np

from ctrkit.bidding.strategies.exploring import ExploringBidding, PosteriorScores, SlotChoice
from ctrkit.settings import checked


@checked
class GreedyBidding(ExploringBidding):
    """The ad with the highest posterior mean value.

    It is hard to beat with a calibrated model, and also from a cold start if ads share their weights: then
    the variety of slots explores. If each ad has its own weights, an ad that was unlucky at first is never
    shown again.
    """

    name = "greedy"
    by_chance = False

    def choose(self, belief: PosteriorScores, rng: np.random.Generator) -> SlotChoice:
        best = belief.best()
        return SlotChoice(*best, best)
