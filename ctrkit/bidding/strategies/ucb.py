"""Upper confidence bounds: the ad that could be the best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctrkit.bidding.strategies.base import check_not_negative
from ctrkit.bidding.strategies.exploring import Belief, Choice, ExploringBidding
from ctrkit.bidding.strategies.scoring import best_of


@dataclass(frozen=True)
class UcbBidding(ExploringBidding):
    """The ad of the highest value at its upper bound, the mean of the logit plus `width` deviations.

    Source: L. Li, W. Chu, J. Langford, R. Schapire, A contextual-bandit approach to personalized news
    article recommendation, WWW 2010 (LinUCB), with the logistic model's Laplace posterior.

    Attributes:
        width: standard deviations of the logit; 0 is greedy.
    """

    name = "ucb"
    by_chance = False
    width: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative(self.name, "width", self.width)

    def choose(self, belief: Belief, rng: np.random.Generator) -> Choice:
        return Choice(*best_of(belief.logit(self.width), belief.worth), belief.best())
