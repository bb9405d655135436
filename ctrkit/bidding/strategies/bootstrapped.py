"""Bootstrapped exploration: an ensemble whose members each learn from their own resample of the clicks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from ctrkit.arrays import Floats
from ctrkit.bidding.strategies.exploring import Posterior
from ctrkit.bidding.strategies.thompson import PooledBidding
from ctrkit.policies.laplace import LastLayerPosterior
from ctrkit.settings import Whole, checked


@dataclass(frozen=True)
class Ensemble:
    """B weight vectors that represent a posterior.

    Attributes:
        members: each learns alone; only the mean of its posterior is used.
        updates: number of updates so far, and the seed of the next one, so that an update is a function of
            the state.
    """

    members: tuple[LastLayerPosterior, ...]
    updates: int = 0

    @classmethod
    def of(cls, prior: LastLayerPosterior, members: int, seed: int = 0) -> Ensemble:
        """Members drawn from the prior, shifted to the prior's mean and with an unbiased spread."""
        drawn = prior.sample(np.random.default_rng(seed), members)
        around = (drawn - drawn.mean(axis=0)) * np.sqrt(members / (members - 1))
        return cls(tuple(replace(prior, mean=prior.mean + one) for one in around))

    @cached_property
    def weights(self) -> Floats:
        """[B, D + 1]."""
        return np.stack([member.mean for member in self.members])

    @property
    def mean(self) -> Floats:
        """[D + 1]."""
        return np.asarray(self.weights.mean(axis=0))

    def deviation(self, features: Floats) -> Floats:
        """The standard deviation of the members' scores, [...], for features [..., D + 1]."""
        return np.asarray((features @ self.weights.T).std(axis=-1))

    def update(self, hidden: ArrayLike, clicks: ArrayLike, offset: ArrayLike | None = None) -> Ensemble:
        """The ensemble after each member learnt from every impression Poisson(1) times."""
        x, y = np.asarray(hidden, np.float64), np.asarray(clicks, np.float64)
        fixed = np.zeros(len(y)) if offset is None else np.asarray(offset, np.float64)
        times = np.random.default_rng(self.updates + 1).poisson(1.0, (len(self.members), len(y)))
        rows = [np.repeat(np.arange(len(y)), count) for count in times]
        learnt = zip(self.members, rows, strict=True)
        return Ensemble(
            tuple(member.update(x[row], y[row], fixed[row]) for member, row in learnt), self.updates + 1
        )


@checked
class BootstrappedBidding(PooledBidding):
    """For every slot one member of an ensemble is drawn, and it chooses the ad that it finds best.

    The members start as draws from the prior, so that they disagree before there are clicks. Each then learns
    from every impression won Poisson(1) times, which is the online form of the bootstrap.

    Source: I. Osband, C. Blundell, A. Pritzel, B. Van Roy, Deep exploration via bootstrapped DQN, NeurIPS
    2016; N. Oza, S. Russell, Online bagging and boosting, AISTATS 2001.
    """

    name = "bootstrapped"
    members: Whole = Field(
        default=10, ge=2, description="B, the size of the ensemble; time and memory are proportional to it"
    )

    def prior(self) -> Posterior:
        return Ensemble.of(cast(LastLayerPosterior, super().prior()), self.members)

    def pool(self, posterior: Posterior, rng: np.random.Generator) -> Floats:
        return cast(Ensemble, posterior).weights
