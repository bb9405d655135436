"""Importance weights: their diagnostics, and the largest that a log of this length would show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctrkit.arrays import Floats


class WeightTail:
    """The weights of the rarest events of which a log is expected to hold one.

    Row i shows candidate a, with its weight π(a)/μ(a), with probability μ(a), in each of the decisions that
    it stands for. Taken from the largest weight down until those probabilities add up to 1, these are the
    weights that could just as well have been seen as not; larger ones have too little of the policy's mass to
    matter. Their mean is what an interval must reckon with as unseen: the maximum over all candidates would
    let one candidate that is hardly ever logged, in one row of millions, decide the width.
    """

    def __init__(self) -> None:
        self.weights = np.zeros(0)
        self.chances = np.zeros(0)
        self.counts = np.zeros(0)

    def update(self, policy: Floats, logging: Floats, counts: Floats) -> None:
        """Take in rows: both policies' probabilities of all candidates, [B, K], and counts [B]."""
        seen = logging > 0
        of_each = np.broadcast_to(counts[:, None], logging.shape)
        self._keep(policy[seen] / logging[seen], logging[seen], of_each[seen])

    def merge(self, other: WeightTail) -> None:
        """Take in other rows."""
        self._keep(other.weights, other.chances, other.counts)

    def _keep(self, weights: Floats, chances: Floats, counts: Floats) -> None:
        full = self.chances @ self.counts >= 1
        larger = weights > self.weights[-1] if full else np.ones(len(weights), dtype=bool)
        weights, chances, counts = (
            np.concatenate([mine, more[larger]])
            for mine, more in ((self.weights, weights), (self.chances, chances), (self.counts, counts))
        )
        order = np.argsort(-weights, kind="stable")
        reached = np.cumsum((chances * counts)[order])
        kept = order[: np.searchsorted(reached, 1.0) + 1]
        self.weights, self.chances, self.counts = weights[kept], chances[kept], counts[kept]
        if len(kept) and reached[len(kept) - 1] > 1:
            # Of the last row's decisions as many as it takes.
            before = reached[len(kept) - 1] - chances[kept[-1]] * counts[kept[-1]]
            self.counts[-1] = min(counts[kept[-1]], np.ceil((1 - before) / chances[kept[-1]] * (1 - 1e-12)))

    @property
    def largest(self) -> float:
        """The mean weight of those events."""
        shares = self.chances * self.counts
        return float(self.weights @ shares / shares.sum())


@dataclass(frozen=True)
class Diagnostics:
    """Whether a log can say anything about a policy.

    Attributes:
        rows: rows of the log.
        positives: those with a reward other than 0.
        effective_sample_size: (Σ w)² / Σ w²: as many rows of equal weight would vary as much (Kish 1965).
        mean_weight: 1 in expectation, where the propensities are right and no action is ruled out.
        mean_weight_z: its distance from 1 in standard errors, units taken together.
        max_weight: the largest weight.
        top_share: the share of all weight that the heaviest 1 % of the rows carry.
        unsupported_share: the policy's mass on candidates which the logging policy never chooses; None where
            the logging policy's probabilities of the candidates are unknown.
        units: how many independent units, such as users, the rows make up: (Σ w)² / Σ over units of (Σ w)²,
            as many units of equal weight would vary as much.
        rewarded_units: units with a reward other than 0, or with one below the largest possible, whichever
            are fewer.
        alike: whether all rewards are one.
        deterministic: whether every propensity is 1: the logging policy left nothing to chance.
        estimated_propensities: whether the log had none, and they were estimated from it.
    """

    rows: int
    positives: int
    effective_sample_size: float
    mean_weight: float
    mean_weight_z: float
    max_weight: float
    top_share: float
    unsupported_share: float | None
    units: float | None = None
    rewarded_units: int | None = None
    alike: bool = False
    deterministic: bool = False
    estimated_propensities: bool = False
