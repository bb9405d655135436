"""The sufficient statistics that all estimators share: sums of products, which merge by addition."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

# Places in z = (1, w, f, r).
ONE, WEIGHT, TERM, REWARD = np.eye(4)


def grams(z: Floats, users: Ints | None, counts: Floats | None) -> tuple[Floats, Floats]:
    """Σ over rows of c z zᵀ, and Σ over users of (Σ c z)(Σ c z)ᵀ; [D, D] each, from z [D, B]."""
    whole = z if counts is None else z * counts
    sums: Floats = whole if users is None else np.stack([np.bincount(users, row) for row in whole])
    return whole @ z.T, sums @ sums.T


class Moments:
    """Σ z zᵀ of z = (1, w, f, r): weight, the estimator's term, and reward of a row.

    Every estimate here is a smooth function of the mean of z, so this 4 × 4 matrix gives its value and its
    spread, whatever the length of the log. A second such matrix, of z summed over each user's rows, gives
    the spread when the rows of a user are not independent of one another.

    Attributes:
        rows: Σ over rows of z zᵀ, [4, 4].
        users: Σ over users of (Σ z)(Σ z)ᵀ, [4, 4]; the same as `rows` where users are unknown.

    A row may stand for c decisions, of which the others were dropped at random: it then adds c z zᵀ to the
    first matrix, and c z to its user's sum (Horvitz and Thompson, 1952).
    """

    def __init__(self) -> None:
        self.rows = np.zeros((4, 4))
        self.users = np.zeros((4, 4))

    def update(
        self,
        weights: Floats,
        terms: Floats,
        rewards: Floats,
        users: Ints | None,
        counts: Floats | None = None,
    ) -> None:
        """Add rows; arrays [B]. `users` are codes from 0, and all rows of a user stand in one update."""
        z = np.stack([np.ones(len(weights)), weights, terms, rewards])
        rows, between = grams(z, users, counts)
        self.rows += rows
        self.users += between

    def merge(self, other: Moments) -> None:
        """Add the rows of another, which has seen none of these users."""
        self.rows += other.rows
        self.users += other.users

    @property
    def count(self) -> float:
        """Number of rows, or of the decisions that they stand for."""
        return float(self.rows[0, 0])

    @property
    def mean(self) -> Floats:
        """Mean of z."""
        return np.asarray(self.rows[0] / self.count)

    def standard_error(self, direction: Floats) -> float:
        """Standard error of the mean of direction · z, the rows of a user taken together."""
        centred = self._centred(direction)
        variance = max(float(centred @ self.rows @ centred), 0.0) / max(self.count - 1, 1) / self.count
        return float(np.sqrt(variance * self.design_effect(direction)))

    def design_effect(self, direction: Floats) -> float:
        """By how much dependence within users inflates the variance of the mean of direction · z, at least 1.

        Kish, Survey Sampling, 1965: the variance between users' totals over that of as many independent rows.
        """
        centred = self._centred(direction)
        alone = float(centred @ self.rows @ centred)
        return max(1.0, float(centred @ self.users @ centred) / alone) if alone > 0 else 1.0

    def _centred(self, direction: Floats) -> Floats:
        """The direction less the mean along it, so that its sum over the rows is 0."""
        return np.asarray(direction - (direction @ self.mean) * ONE)
