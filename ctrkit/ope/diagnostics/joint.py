"""What the errors of several estimates on the same rows have in common, in sums that merge.

Of a policy's outcomes in `outcomes`, of several policies in `ranking`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.ope.estimators.base import Estimator, LoggedRows
from ctrkit.ope.estimators.sums import Sums
from ctrkit.ope.intervals.moments import Moments

# A variance below this share of the second moments it is a difference of is rounding error.
ROUNDING = 1e-13


class JointEstimators:
    """Estimators of several quantities on the same rows, and how their errors go together.

    What is kept beside the estimators' own sums is Σ z zᵀ over rows, and over users of their rows' sums, of
    z = (1, w_1, f_1, r_1, w_2, f_2, r_2, ...): [1 + 3 K, 1 + 3 K], whatever the length of the log. Each
    value is a smooth function of the mean of z, and its spread that of the mean of direction · z.

    Args:
        estimators: new estimators by the name of what they estimate.
    """

    def __init__(self, estimators: Mapping[str, Estimator]) -> None:
        self.estimators = dict(estimators)
        self.sums = Sums(1 + 3 * len(self.estimators))
        self._start = {name: 1 + 3 * place for place, name in enumerate(self.estimators)}

    def update(self, rows: Mapping[str, LoggedRows]) -> None:
        """Take in rows, the same for every name: lengths, users and counts agree."""
        first = next(iter(rows.values()))
        z = [np.ones(len(first.rewards))]
        for name, estimator in self.estimators.items():
            mine = rows[name]
            if mine.users is not first.users and not np.array_equal(_codes(mine), _codes(first)):
                raise ValueError(f"the users of '{name}' are not those of the others")
            if mine.counts is not first.counts and not np.array_equal(mine.counts, first.counts):
                raise ValueError(f"the counts of '{name}' are not those of the others")
            estimator.update(mine)
            z += [mine.weights, estimator.terms(mine), mine.rewards]
        self.sums.add(np.stack(z), first.users, first.counts)

    def merge(self, other: Self) -> None:
        """Take in what another has seen, of other users."""
        for name, estimator in self.estimators.items():
            estimator.merge(other.estimators[name])
        self.sums.merge(other.sums)

    @property
    def count(self) -> float:
        """Number of rows."""
        return float(self.sums.rows[0, 0])

    @property
    def clustered(self) -> bool:
        """Whether rows are taken together by user."""
        return any(estimator.clustered for estimator in self.estimators.values())

    def place(self, name: str, four: Floats) -> Floats:
        """Coefficients of a name's own (1, w, f, r) as coefficients of z."""
        start = self._start[name]
        found = np.zeros(len(self.sums.rows))
        found[[0, start, start + 1, start + 2]] = four
        return found

    def direction(self, name: str) -> Floats:
        """Coefficients of z whose mean spreads as the name's estimate does."""
        return self.place(name, self.estimators[name].direction())

    def moments(self, projection: Floats) -> Moments:
        """The moments of (1, w, f, r) = projection · z; projection [4, 1 + 3 K]."""
        return self.sums.projected(projection)

    def covariance(self, directions: Floats) -> Floats:
        """Covariance of the means of directions · z; directions [M, 1 + 3 K] -> [M, M].

        Users are taken together. Where that makes a variance less than independent rows would have, it is
        raised to theirs, as `Moments.standard_error` does, and the correlations stay as they are. Infinite
        for a single user.
        """
        rows, users = self.sums.rows, self.sums.users
        centred = directions.copy()
        centred[:, 0] -= directions @ self.sums.mean
        alone = np.einsum("md,de,me->m", centred, rows, centred)
        together = centred @ users @ centred.T
        scale = (np.abs(centred) @ np.sqrt(np.diag(rows))) ** 2
        alone = np.where(alone > ROUNDING * scale, alone, 0.0)
        own = np.diag(together)
        variance = np.where(alone > 0, np.maximum(alone, own), 0.0)
        stretch = np.sqrt(np.divide(variance, own, out=np.zeros_like(own), where=own > 0))
        found = together * np.outer(stretch, stretch)
        np.fill_diagonal(found, variance)
        if not self.sums.degrees:
            return np.full(found.shape, np.inf)
        return np.asarray(found / self.count**2 * (self.sums.groups / (self.sums.groups - 1)))


def _codes(rows: LoggedRows) -> Floats:
    """Users, or each row for itself."""
    return np.arange(len(rows.rewards), dtype=np.float64) if rows.users is None else rows.users.astype(float)
