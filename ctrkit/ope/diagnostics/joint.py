"""What the errors of several estimates on the same rows have in common, in sums that merge.

Of a policy's outcomes in `outcomes`, of several policies in `ranking`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self, cast

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.ope.estimators.base import Estimator, LoggedRows
from ctrkit.ope.estimators.summaries import Summaries
from ctrkit.ope.intervals.moments import Moments, ProductSums

# A variance below this share of the second moments it is a difference of is rounding error.
ROUNDING = 1e-13


class JointEstimators:
    """Estimators of several quantities on the same rows, and how their errors go together.

    What is kept is Σ z zᵀ over rows, and over users of their rows' sums, of z = (1, w_1, f_1, r_1, w_2, f_2,
    r_2, ...), in which nothing stands twice (see `Summaries`). Each value is a smooth function of the mean of
    z, and its spread that of the mean of direction · z.

    Args:
        estimators: new estimators by the name of what they estimate.
    """

    def __init__(self, estimators: Mapping[str, Estimator]) -> None:
        self.names = tuple(estimators)
        self._summaries = Summaries(tuple(estimators.values()))

    @property
    def estimators(self) -> dict[str, Estimator]:
        """By name, with all rows so far."""
        return dict(zip(self.names, cast("tuple[Estimator, ...]", self._summaries.members), strict=True))

    @property
    def sums(self) -> ProductSums:
        """Of z."""
        return self._summaries.sums

    def update(self, rows: Mapping[str, LoggedRows]) -> None:
        """Take in rows, the same for every name: lengths, users and counts agree."""
        first = rows[self.names[0]]
        for name in self.names:
            for kind in ("users", "counts"):
                mine, theirs = getattr(rows[name], kind), getattr(first, kind)
                if mine is not theirs and not np.array_equal(mine, theirs):
                    raise ValueError(f"the {kind} of '{name}' are not those of the others")
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

    def place(self, name: str, four: Floats) -> Floats:
        """Coefficients of a name's own (1, w, f, r) as coefficients of z."""
        estimator = self.estimators[name]
        own = next(at for at, sums in enumerate(estimator.sums) if sums is estimator.moments)
        found = np.zeros(len(self.sums.rows))
        np.add.at(found, list(self._summaries.places(self.names.index(name))[own]), four)
        return found

    def direction(self, name: str) -> Floats:
        """Coefficients of z whose mean spreads as the name's estimate does."""
        return self.place(name, self.estimators[name].direction())

    def moments(self, projection: Floats) -> Moments:
        """The moments of (1, w, f, r) = projection · z; projection [4, D]."""
        return self.sums.projected(projection)

    def covariance(self, directions: Floats) -> Floats:
        """Covariance of the means of directions · z; directions [M, D] -> [M, M].

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
