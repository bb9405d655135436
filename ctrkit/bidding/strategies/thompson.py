"""Thompson sampling: the ad that is best under a draw from the posterior."""

from __future__ import annotations

from abc import abstractmethod
from typing import cast

import numpy as np
from pydantic import Field

from ctrkit.arrays import Floats, Indices
from ctrkit.bidding.strategies.exploring import Best, ExploringBidding, Posterior, PosteriorScores, SlotChoice
from ctrkit.bidding.strategies.scoring import shares
from ctrkit.policies.laplace import LastLayerPosterior
from ctrkit.settings import Count, NotNegative, checked


@checked
class PooledBidding(ExploringBidding):
    """For every slot one weight vector is drawn from the tick's pool, and the best ad under it is chosen.

    Given the pool, the probability of a choice is exact: the share of the pool under which the ad is best.
    """

    exploration: NotNegative = Field(
        default=1.0,
        description="factor on the deviation of the pool from the posterior mean; below 1 explores less, "
        "0 is greedy",
    )

    @property
    def width(self) -> float:
        return self.exploration

    @abstractmethod
    def pool(self, posterior: Posterior, rng: np.random.Generator) -> Floats:
        """The weight vectors of a tick, [R, D + 1], the bias last."""

    def choose(self, belief: PosteriorScores, rng: np.random.Generator) -> SlotChoice:
        mean = belief.posterior.mean
        pool = mean + self.exploration * (self.pool(belief.posterior, rng) - mean)
        # The best ad of each slot at the mean and under its draw, in one pass through memory.
        draws = np.zeros((len(belief.worth), 2), np.intp)
        draws[:, 1] = rng.integers(1, len(pool) + 1, len(draws))
        ad, value = belief.best_under(np.vstack([mean, pool]), draws)

        def chances(rows: Indices) -> Floats:
            return shares(belief.calibrated, belief.hidden, belief.worth, pool, rows)

        return SlotChoice(ad[:, 1], value[:, 1], Best(ad[:, 0], value[:, 0]), chances)


@checked
class ThompsonBidding(PooledBidding):
    """For every slot the best ad under a draw from the posterior; a pool of draws is made every tick.

    The candidates share the weights, so one draw scores them all. Over all ticks each ad is chosen as often
    as it is the best under the posterior (`ctrkit.policies.ThompsonPolicy` gives these probabilities). Within
    a tick it is chosen as often as it is the best under the tick's pool. So an ad that is rarely the best has
    probability 0 in many ticks, and a higher one in the others.

    Source: O. Chapelle, L. Li, An empirical evaluation of Thompson sampling, NeurIPS 2011; C. Riquelme,
    G. Tucker, J. Snoek, Deep Bayesian bandits showdown, ICLR 2018.
    """

    name = "thompson"
    draws: Count = Field(default=128, description="R, the number of draws in the pool of a tick")

    def pool(self, posterior: Posterior, rng: np.random.Generator) -> Floats:
        return cast(LastLayerPosterior, posterior).sample(rng, self.draws)
