"""Thompson sampling: the ad that is best under a draw from the posterior."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctrkit.bidding.auctions import Floats
from ctrkit.bidding.strategies.base import Indices, best_ad, check_not_negative
from ctrkit.bidding.strategies.exploring import Belief, ExploringBidding


@dataclass(frozen=True)
class ThompsonBidding(ExploringBidding):
    """For every slot the weights are drawn anew, and the ad that is best under the draw is chosen.

    The candidates share the weights, so one draw scores them all; each ad is chosen as often as it is the
    best under the posterior, which `ctrkit.policies.ThompsonPolicy` gives as probabilities.

    Source: O. Chapelle, L. Li, An empirical evaluation of Thompson sampling, NeurIPS 2011; C. Riquelme,
    G. Tucker, J. Snoek, Deep Bayesian bandits showdown, ICLR 2018.

    Attributes:
        exploration: factor on the posterior's deviations; below 1 explores less, 0 is greedy.
    """

    name = "thompson"
    exploration: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative(self.name, "exploration", self.exploration)

    @property
    def width(self) -> float:
        return self.exploration

    def choose(self, belief: Belief, rng: np.random.Generator) -> tuple[Indices, Floats]:
        mean = belief.posterior.mean
        drawn = mean + self.exploration * (belief.posterior.sample(rng, len(belief.hidden)) - mean)
        return best_ad(belief.value(np.einsum("nkd,nd->nk", belief.hidden, drawn[:, :-1]) + drawn[:, -1:]))
