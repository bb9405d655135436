"""Importance weights: their diagnostics, and the largest weight to expect in a log of this length."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctrkit.arrays import Floats


class WeightTail:
    """The largest weights of which a log of this length is expected to hold one row.

    Each decision of row i logs candidate a, of weight π(a)/μ(a), with probability μ(a). The tail takes
    weights from the largest one down until these probabilities add up to 1: in expectation the log holds
    one row with one of them, so it may well hold none. An interval must allow for an unseen row with their
    mean weight. The maximum over all candidates would be too large: one candidate that is almost never
    logged, in one of millions of rows, would decide the width.
    """

    def __init__(self) -> None:
        self.weights = np.zeros(0)
        self.chances = np.zeros(0)
        self.counts = np.zeros(0)

    def update(self, policy: Floats, logging: Floats, counts: Floats) -> None:
        """Take in rows: both policies' probabilities of all candidates, [B, K] each, and counts [B]."""
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
            # The last row counts with as many of its decisions as are needed.
            before = reached[len(kept) - 1] - chances[kept[-1]] * counts[kept[-1]]
            self.counts[-1] = min(counts[kept[-1]], np.ceil((1 - before) / chances[kept[-1]] * (1 - 1e-12)))

    @property
    def largest(self) -> float:
        """The mean weight of those events."""
        shares = self.chances * self.counts
        return float(self.weights @ shares / shares.sum())


@dataclass(frozen=True)
class Diagnostics:
    """What decides whether a log can evaluate a policy.

    Attributes:
        rows: the number of rows of the log.
        positives: how many of them have a reward other than 0.
        effective_sample_size: (Σ w)² / Σ w²: as many rows of equal weight would vary as much (Kish 1965).
        mean_weight: 1 in expectation, if propensities are right and every action of the policy can be logged.
        mean_weight_z: the distance of the mean from 1 in standard errors, with the rows of a unit together.
        max_weight: the largest weight.
        top_share: the share of all weight that the heaviest 1 % of the rows carry.
        unsupported_share: the share of the policy's choices that the logging policy never makes; None where
            the logging policy's probabilities of the candidates are unknown.
        units: the number of independent units, such as users, of equal weight that would vary as much:
            (Σ w)² / Σ over units of (Σ w)².
        rewarded_units: the number of units with a reward other than 0, or of units with a reward below the
            largest possible one, whichever is smaller.
        alike: whether all rewards are equal.
        deterministic: whether every propensity is 1, because the logging policy made no random choices.
        estimated_propensities: whether the log has no propensities and they were estimated.
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
