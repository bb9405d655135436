"""The covariance of several estimates on the same rows, from sums that merge.

`outcomes` uses it for several outcomes of a policy, and `ranking` for several policies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self, cast

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.ope.estimators.base import Estimator, LoggedRows
from ctrkit.ope.estimators.summaries import Summaries
from ctrkit.ope.intervals.moments import Moments, ProductSums

# A variance below this share of the second moments that it comes from is a rounding error.
ROUNDING = 1e-13


class JointEstimators:
    """Estimators of several quantities on the same rows, and the covariance of their errors.

    With z = (1, w_1, f_1, r_1, w_2, f_2, r_2, ...), each array only once (see `Summaries`), Σ z zᵀ is kept
    over rows, and over users of the sums of their rows. Each value is a smooth function of the mean of z, and
    its variance is that of the mean of direction · z.

    Args:
        estimators: new estimators, by the name of the quantity that each estimates.
    """

    def __init__(self, estimators: Mapping[str, Estimator]) -> None:
        self.names = tuple(estimators)
        self._summaries = Summaries(tuple(estimators.values()))

    @property
    def estimators(self) -> dict[str, Estimator]:
        """The estimators by name, with all rows so far."""
        return dict(zip(self.names, cast("tuple[Estimator, ...]", self._summaries.members), strict=True))

    @property
    def sums(self) -> ProductSums:
        """The sums of z."""
        return self._summaries.sums

    def update(self, rows: Mapping[str, LoggedRows]) -> None:
        """Take in rows, the same for every name: lengths, users and counts agree."""
        first = rows[self.names[0]]
        for name in self.names:
            for kind in ("users", "counts"):
                mine, theirs = getattr(rows[name], kind), getattr(first, kind)
                if mine is not theirs and not np.array_equal(mine, theirs):
                    raise ValueError(f"the {kind} of '{name}' differ from those of the others")
        self._summaries.update([rows[name] for name in self.names])

    def merge(self, other: Self) -> None:
        """Take in what another has seen, of these or of other users."""
        self._summaries.merge(other._summaries)

    @property
    def count(self) -> float:
        """Number of rows."""
        return self.sums.count

    @property
    def clustered(self) -> bool:
        """Whether rows are taken together by user."""
        return self.sums.clustered

    def coefficients(self, name: str, four: Floats) -> Floats:
        """Coefficients of z from the coefficients of (1, w, f, r) of one estimator."""
        estimator = self.estimators[name]
        own = next(at for at, sums in enumerate(estimator.sums) if sums is estimator.moments)
        found = np.zeros(len(self.sums.rows))
        np.add.at(found, list(self._summaries.columns_of(self.names.index(name))[own]), four)
        return found

    def direction(self, name: str) -> Floats:
        """Coefficients of z whose mean has the variance of the named estimate."""
        return self.coefficients(name, self.estimators[name].direction())

    def moments(self, projection: Floats) -> Moments:
        """The moments of (1, w, f, r) = projection · z; projection [4, D]."""
        return self.sums.projected(projection)

    def covariance(self, directions: Floats) -> Floats:
        """Covariance of the means of directions · z; directions [M, D] -> [M, M].

        The rows of a user are taken together. Where a variance is then smaller than for independent rows, it
        is raised to theirs, as in `Moments.standard_error`; the correlations do not change. Infinite for a
        single user.
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
