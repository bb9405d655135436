"""Sufficient statistics that all estimators share: sums of products, which merge by addition."""

from __future__ import annotations

from typing import Self, TypeAlias

import numpy as np

from ctrkit.arrays import Floats, Integers
from ctrkit.ope.intervals.unit_sums import Keys, UnitSums

# Unit vectors of the entries of z = (1, w, f, r).
ONE, WEIGHT, TERM, REWARD = np.eye(4)


def effective_units(rows: Floats, users: Floats, column: int = 0) -> float:
    """(Σ z)² / Σ over users of (Σ z)²: so many users with equal sums have the same spread (Kish 1965).

    For the column of ones it is the effective number of clusters (Carter, Schnepel and Steigerwald,
    Asymptotic Behavior of a t-Test Robust to Cluster Heterogeneity, Review of Economics and Statistics 2017):
    the number of users if all have equally many rows, and fewer if few users have most rows.

    Args:
        rows: the matrix `ProductSums.rows`.
        users: the matrix `ProductSums.users`.
        column: index of the entry of z.
    """
    return float(rows[0, column] ** 2 / users[column, column]) if users[column, column] > 0 else 0.0


def degrees(rows: Floats, users: Floats) -> float:
    """Degrees of freedom of the spread: the number of rows if they are independent, else of groups minus 1.

    It is 0 for a single group, which has no spread.
    """
    count, groups = float(rows[0, 0]), effective_units(rows, users)
    independent = groups > (1 - 1e-9) * count and count > 1
    return count if independent else max(groups - 1 - 1e-9, 0.0)


class ProductSums:
    """Sums of products of vectors z, whose first entry is always 1, by rows and by users; parts merge.

    Independent rows are not kept. For each user D numbers are kept, Σ c z over the user's rows, by the user's
    key. So a user's rows may come in any order, batch and part.

    Attributes:
        rows: Σ over rows of c z zᵀ, [D, D].
        units: Σ c z of each user; None where no rows of users were added.
        clustered: whether some user had several rows.
    """

    def __init__(self, length: int) -> None:
        self.rows = np.zeros((length, length))
        self.units: UnitSums | None = None
        # For independent rows: Σ (c z)(c z)ᵀ, the largest c, and the number of rows with an entry other than
        # 0.
        self._alone = np.zeros((length, length))
        self._largest = 0.0
        self._carriers = np.zeros(length, dtype=np.int64)
        self._together = False
        self._between: Floats | None = None

    def add(self, z: Floats, users: Keys | None, counts: Floats) -> None:
        """Add rows, the columns of z [D, B].

        Args:
            z: [D, B].
            users: [B] keys; a user has the same key in all calls. None: rows are independent.
            counts: [B] c, number of decisions that each row stands for.
        """
        # In most logs every row stands for one decision, and then both sums are equal.
        whole = z if (counts == 1).all() else z * counts
        gram = whole @ z.T
        self.rows += gram
        if users is None:
            self._alone += gram if whole is z else whole @ whole.T
            self._largest = max(self._largest, float(counts.max(initial=0.0)))
            self._carriers += [np.count_nonzero(row) for row in whole]
            return
        if self.units is None:
            self.units = UnitSums(len(z))
        self.units.add(users, whole)
        self._between = None

    def merge(self, other: Self) -> None:
        """Add the rows of another, of the same or of other users."""
        self.rows += other.rows
        self._alone += other._alone
        self._largest = max(self._largest, other._largest)
        self._carriers += other._carriers
        self._together |= other._together
        if other.units is not None:
            if self.units is None:
                self.units = UnitSums(len(self.rows))
            self.units.merge(other.units)
            self._between = None

    @property
    def users(self) -> Floats:
        """Σ over users of (Σ c z)(Σ c z)ᵀ, [D, D]; over rows where users are unknown."""
        if self.units is None:
            return self._alone
        if self._between is None:
            self._between = self._alone + self.units.sums.T @ self.units.sums
        return self._between

    @property
    def largest(self) -> float:
        """The largest Σ c of a user; 1 where all rows are independent and none was dropped."""
        of_users = 0.0 if self.units is None else float(self.units.sums[:, 0].max(initial=0.0))
        return max(self._largest, of_users)

    @property
    def clustered(self) -> bool:
        """Whether some user has several rows."""
        return self._together or (self.units is not None and self.units.repeated)

    @property
    def carriers(self) -> Integers:
        """[D] number of users with a Σ c z other than 0."""
        if self.units is None:
            return self._carriers
        return np.asarray(self._carriers + np.count_nonzero(self.units.sums, axis=0))

    @property
    def count(self) -> float:
        """Number of decisions that the rows stand for."""
        return float(self.rows[0, 0])

    @property
    def mean(self) -> Floats:
        """Mean of z, [D]."""
        return np.asarray(self.rows[0] / self.count)

    @property
    def groups(self) -> float:
        """Effective number of users; of rows where users are unknown (see `effective_units`)."""
        return effective_units(self.rows, self.users)

    @property
    def degrees(self) -> float:
        """Degrees of freedom of the spread; 0 for a single group."""
        return degrees(self.rows, self.users)

    def set(
        self,
        rows: Floats,
        users: Floats,
        largest: float = 0.0,
        carriers: Integers | None = None,
        *,
        clustered: bool = False,
    ) -> None:
        """Set the sums, under the names of the properties; no rows may be added after this."""
        self.rows, self._alone, self._largest, self._together = rows, users, largest, clustered
        if carriers is not None:
            self._carriers = carriers

    def project(self, projection: Floats) -> None:
        """Replace z by projection · z; projection [E, D] must keep the first entry."""
        self.rows, self._alone = (projection @ sums @ projection.T for sums in (self.rows, self._alone))
        self._carriers = np.zeros(len(projection), dtype=np.int64)
        if self.units is not None:
            self.units.project(projection)
        self._between = None

    def projected(self, projection: Floats) -> Moments:
        """The moments of projection · z; projection [4, D]."""
        found = Moments()
        rows, users = (projection @ sums @ projection.T for sums in (self.rows, self.users))
        found.set(rows, users, self.largest, clustered=self.clustered)
        return found


class Moments(ProductSums):
    """Σ z zᵀ of z = (1, w, f, r): weight, the estimator's term, and reward of a row.

    Every estimate here is a smooth function of the mean of z, so this 4 × 4 matrix gives its value and its
    spread, for any length of the log. A second such matrix, of z summed over each user's rows, gives the
    spread when the rows of a user depend on each other.

    A row may stand for c decisions, of which the others were dropped at random, each with probability 1 -
    1/c. It then adds c z zᵀ to the first matrix, and c z to its user's sum, as c identical rows of one user
    would. The values are those of c rows. The spread, Σ c² (z - mean)² where users are unknown, is that of
    means weighted by the inverse of the probability of being kept (Horvitz and Thompson, A Generalization of
    Sampling Without Replacement From a Finite Universe, 1952), and not the smaller one of c independent rows.
    """

    def __init__(self) -> None:
        super().__init__(4)

    def update(
        self,
        weights: Floats,
        terms: Floats,
        rewards: Floats,
        users: Keys | None,
        counts: Floats,
    ) -> None:
        """Add rows, arrays of [B]; users and counts as in `ProductSums.add`."""
        self.add(np.stack([np.ones(len(weights)), weights, terms, rewards]), users, counts)

    def standard_error(self, direction: Floats) -> float:
        """Standard error of the mean of direction · z, by users if known; infinite for one user."""
        if not self.degrees:
            return np.inf
        centred = self._centred(direction)
        variance = max(float(centred @ self.rows @ centred), 0.0) / self.count**2 * self.groups
        variance /= self.groups - 1
        return float(np.sqrt(variance * self.design_effect(direction)))

    def design_effect(self, direction: Floats) -> float:
        """Factor by which dependence within users inflates the variance of mean(direction · z), at least 1.

        Kish, Survey Sampling, 1965: the variance between users' totals divided by that of independent rows.
        Where nothing varies, for example where no row has a reward, it is the factor for users whose
        decisions are all the same, Σ (Σ c)² / Σ c.
        """
        centred = self._centred(direction)
        alone = float(centred @ self.rows @ centred)
        if alone > 0:
            return max(1.0, float(centred @ self.users @ centred) / alone)
        return max(1.0, float(self.users[0, 0]) / self.count)

    def _centred(self, direction: Floats) -> Floats:
        """The direction minus the mean along it, so that its sum over the rows is 0."""
        return np.asarray(direction - (direction @ self.mean) * ONE)


# The columns w, f and r of rows, [B] each.
MomentColumns: TypeAlias = tuple[Floats, Floats, Floats]
