"""The ad of the highest posterior mean: it learns, and does not explore."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctrkit.bidding.auctions import Floats
from ctrkit.bidding.strategies.base import Indices, best_ad
from ctrkit.bidding.strategies.exploring import Belief, ExploringBidding


@dataclass(frozen=True)
class GreedyBidding(ExploringBidding):
    """The ad of the highest posterior mean value.

    With a calibrated model it is hard to beat; from a cold start an ad that was unlucky at first is never
    shown again.
    """

    name = "greedy"

    def choose(self, belief: Belief, rng: np.random.Generator) -> tuple[Indices, Floats]:
        return best_ad(belief.value(belief.mean))
