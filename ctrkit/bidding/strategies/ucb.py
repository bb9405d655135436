"""Upper confidence bounds: the ad with the highest value that is still plausible."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from ctrkit.bidding.strategies.exploring import ExploringBidding, PosteriorScores, SlotChoice
from ctrkit.bidding.strategies.scoring import best_of
from ctrkit.settings import NotNegative, checked


@checked
class UcbBidding(ExploringBidding):
    """The ad with the highest value at the upper bound of its logit, the mean plus `width` deviations.

    Source: L. Li, W. Chu, J. Langford, R. Schapire, A contextual-bandit approach to personalized news
    article recommendation, WWW 2010 (LinUCB), with the logistic model's Laplace posterior.
    """

    name = "ucb"
    by_chance = False
    width: NotNegative = Field(
        default=1.0,
        description="number of standard deviations of the logit above its mean; 0 is greedy",
    )

    def choose(self, belief: PosteriorScores, rng: np.random.Generator) -> SlotChoice:
        return SlotChoice(*best_of(belief.logit(self.width), belief.worth), belief.best())
