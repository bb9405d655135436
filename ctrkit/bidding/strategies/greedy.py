"""The ad of the highest posterior mean: it learns, and does not explore."""

from __future__ import annotations

import numpy as np

from ctrkit.bidding.strategies.exploring import ExploringBidding, PosteriorScores, SlotChoice
from ctrkit.settings import checked


@checked
class GreedyBidding(ExploringBidding):
    """The ad of the highest posterior mean value.

    It is hard to beat with a calibrated model, and from a cold start where the ads share their weights, for
    then the variety of slots explores. Where ads have weights of their own, one that was unlucky at first is
    never shown again.
    """

    name = "greedy"
    by_chance = False

    def choose(self, belief: PosteriorScores, rng: np.random.Generator) -> SlotChoice:
        best = belief.best()
        return SlotChoice(*best, best)
