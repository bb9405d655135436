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
    """For every slot one weight vector of the tick's pool is taken, and the ad that is best under it chosen.

    Given the pool, the probability of a choice is exact: the share of the pool under which it is the best.
    """

    exploration: NotNegative = Field(
        default=1.0,
        description="factor on the pool's distance from the posterior mean; below 1 explores less, 0 is "
        "greedy",
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
        # Of each slot the best at the mean and under its draw, in one pass through the memory.
        draws = np.zeros((len(belief.worth), 2), np.intp)
        draws[:, 1] = rng.integers(1, len(pool) + 1, len(draws))
        ad, value = belief.best_under(np.vstack([mean, pool]), draws)

        def chances(rows: Indices) -> Floats:
            return shares(belief.calibrated, belief.hidden, belief.worth, pool, rows)

        return SlotChoice(ad[:, 1], value[:, 1], Best(ad[:, 0], value[:, 0]), chances)


@checked
class ThompsonBidding(PooledBidding):
    """For every slot the ad that is best under a draw from the posterior, of a pool that is drawn every tick.

    The candidates share the weights, so one draw scores them all. Over the ticks each ad is chosen as often
    as it is the best under the posterior, which `ctrkit.policies.ThompsonPolicy` gives as probabilities.
    Within a tick it is chosen as often as it is the best under the tick's pool: an ad that is rarely the best
    has the probability 0 in many ticks, and a higher one in the others.

    Source: O. Chapelle, L. Li, An empirical evaluation of Thompson sampling, NeurIPS 2011; C. Riquelme,
    G. Tucker, J. Snoek, Deep Bayesian bandits showdown, ICLR 2018.
    """

    name = "thompson"
    draws: Count = Field(default=128, description="R, the size of the pool")

    def pool(self, posterior: Posterior, rng: np.random.Generator) -> Floats:
        return cast(LastLayerPosterior, posterior).sample(rng, self.draws)
