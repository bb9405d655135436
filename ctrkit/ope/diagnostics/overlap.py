"""Diagnostics of weights: tail, overlap by action, residuals, and tests of equal means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import polars as pl
from scipy import stats

from ctrkit.arrays import Floats
from ctrkit.ope.estimators.base import EstimatorSums, LoggedRows
from ctrkit.ope.intervals.moments import REWARD, TERM, MomentColumns, Moments

# Above this shape rows that the log does not have decide the mean of the weights (Vehtari et al.).
LARGEST_TAIL_SHAPE = 0.7
LEAST_TAIL = 5


@dataclass(frozen=True)
class TailShape:
    """How heavy the upper tail of the weights is.

    Attributes:
        shape: k̂ of a generalised Pareto distribution fitted to the weights above the threshold. The weights
            have a finite variance where k < 1/2; above `LARGEST_TAIL_SHAPE` no log of a practical length
            gives a mean that can be trusted. NaN where too few different weights stand out.
        threshold: the weight above which the tail starts.
        rows: the number of rows in the tail.
    """

    shape: float
    threshold: float
    rows: int


def tail_shape(largest: Floats, counts: Floats, size: int) -> TailShape:
    """The shape of the tail of the weights, from the `size` + 1 heaviest rows of a log.

    Args:
        largest: [K] weights in rising order.
        counts: [K] how many rows have each weight.
        size: the number of rows in the tail; below `LEAST_TAIL` the tail has no shape.
    """
    if size < LEAST_TAIL:
        return TailShape(np.nan, float(largest.max(initial=0.0)), 0)
    threshold = float(largest[0])
    beyond = largest - threshold > 1e-9 * threshold
    excess, counts = largest[beyond] - threshold, counts[beyond]
    rows = round(float(counts.sum()))
    if len(np.unique(excess)) < LEAST_TAIL:
        return TailShape(np.nan, threshold, rows)
    return TailShape(pareto_shape(excess, counts), threshold, rows)


def pareto_shape(excess: Floats, counts: Floats) -> float:
    """The shape k of a generalised Pareto distribution, from sorted values above 0 and their counts.

    Zhang and Stephens, A New and Efficient Estimation Method for the Generalized Pareto Distribution,
    Technometrics 2009: θ = -k / σ is averaged over a grid (their b) with weights by the profile likelihood,
    and k is then the mean of log(1 - θ x) (of the other sign there). Drawn towards 0.5 as by ten further
    values (Vehtari et al.), which steadies short tails.
    """
    count = float(counts.sum())
    share = counts / count
    points = 30 + int(np.sqrt(count))
    quartile = excess[np.searchsorted(np.cumsum(share) * count, int(count / 4 + 0.5) - 1e-6)]
    place = np.arange(1, points + 1)
    theta = 1 / excess[-1] + (1 - np.sqrt(points / (place - 0.5))) / (3 * quartile)
    shape = np.log1p(-np.outer(theta, excess)) @ share
    profile = count * (np.log(-theta / shape) - shape - 1)
    likelihood = np.exp(profile - profile.max())
    mean = float(theta @ likelihood / likelihood.sum())
    found = float(np.log1p(-mean * excess) @ share)
    return (count * found + 10 * 0.5) / (count + 10)


class ActionOverlap:
    """For each logged action, its share of the log and its share of the policy's choices.

    Memory grows with the number of actions, not of rows; parts of a log merge.
    """

    def __init__(self) -> None:
        self.table: pl.DataFrame | None = None

    def update(self, weights: Floats, actions: pl.Series, counts: Floats) -> None:
        """Take in rows.

        Args:
            weights: [B].
            actions: [B] the logged ones, of one type in all updates.
            counts: [B] how many decisions each row stands for.
        """
        carried = weights * counts
        self._add(
            pl.DataFrame(
                {
                    "action": actions,
                    "rows": counts,
                    "weight": carried,
                    "square": carried**2,
                    "largest": weights,
                }
            )
        )

    def merge(self, other: Self) -> None:
        """Take in what another has seen."""
        if other.table is not None:
            self._add(other.table)

    def _add(self, more: pl.DataFrame) -> None:
        sums = pl.col("rows", "weight", "square").sum()
        more = more.group_by("action").agg(sums, pl.col("largest").max())
        if self.table is not None:
            more = pl.concat([self.table, more], how="vertical_relaxed")
            more = more.group_by("action").agg(sums, pl.col("largest").max())
        self.table = more

    def result(self) -> pl.DataFrame:
        """One row per action, sorted by the policy's share.

        Columns: `action`; `rows`, or the decisions that they stand for; `logged_share`, the action's share of
        the rows; `policy_share`, its share of the policy's choices, estimated as Σ w over its rows / N, so
        that all shares add up to the mean weight; `effective_sample_size`, (Σ c w)² / Σ (c w)² over its rows
        (Kish 1965; c is the number of decisions of a row); `mean_weight`; `max_weight`.
        """
        if self.table is None:
            self.update(np.zeros(0), pl.Series("action", [], dtype=pl.String), np.zeros(0))
        assert self.table is not None
        rows, weight, square = pl.col("rows"), pl.col("weight"), pl.col("square")
        return self.table.select(
            "action",
            rows=rows.round().cast(pl.Int64),
            logged_share=rows / rows.sum(),
            policy_share=weight / rows.sum(),
            effective_sample_size=pl.when(square > 0).then(weight**2 / square).otherwise(0.0),
            mean_weight=weight / rows,
            max_weight="largest",
        ).sort("policy_share", "action", descending=[True, False])


@dataclass(frozen=True)
class MeanCheck:
    """A mean that should be 0.

    Attributes:
        mean: the mean.
        standard_error: its standard error.
        z: mean / standard_error; infinite where the mean is not 0 and does not vary.
        scale: what the mean is small or large beside; of residuals the mean absolute reward.
    """

    mean: float
    standard_error: float
    z: float
    scale: float


class Residual(EstimatorSums):
    """The sums of the reward model's weighted residuals w (r - q); none without a reward model.

    Where rewards are few, the rows seldom hold the heavy weights with a reward, and their own spread is too
    small. So for rewards of 0 and 1 it is at least the one that the model predicts, Σ w² q (1 - q), the
    variance of a score test (Rao 1948).
    """

    def __init__(self) -> None:
        self.moments = Moments()
        self.known = False
        self.binary = True
        self.predicted = 0.0  # Σ (c w)² q (1 - q)

    @property
    def sums(self) -> Sequence[Moments]:
        return (self.moments,) if self.known else ()

    def observe(self, rows: LoggedRows) -> Sequence[MomentColumns]:
        if rows.q_logged is None:
            return ()
        self.known = True
        self.binary &= bool(np.isin(rows.rewards, (0.0, 1.0)).all())
        q = np.clip(rows.q_logged, 0.0, 1.0)
        self.predicted += float(np.square(rows.counts * rows.weights) @ (q * (1 - q)))
        return ((rows.weights, rows.weights * (rows.rewards - rows.q_logged), np.abs(rows.rewards)),)

    def join(self, other: Self) -> None:
        self.known |= other.known
        self.binary &= other.binary
        self.predicted += other.predicted

    def check(self) -> MeanCheck | None:
        """Whether their mean is 0; None without a reward model."""
        if not self.known:
            return None
        found = mean_check(self.moments)
        least = float(np.sqrt(self.predicted)) / self.moments.count if self.binary else 0.0
        if not found.standard_error < least:
            return found
        return replace(found, standard_error=least, z=found.mean / least)


def mean_check(moments: Moments) -> MeanCheck:
    """Whether the terms have mean 0.

    For the terms w (r - q), which the doubly robust method adds to the direct one, the mean is the reward
    model's bias under the policy: 0 for a model that is right there. Far from 0 the direct method is wrong,
    and the doubly robust one depends on the weights.
    """
    size = float(np.sqrt(TERM @ moments.rows @ TERM / moments.count))
    mean, error = float(moments.mean @ TERM), moments.standard_error(TERM)
    scale = float(moments.mean @ REWARD)
    if error > 1e-12 * size:
        return MeanCheck(mean, error, mean / error, scale)
    # No spread but rounding errors.
    z = 0.0 if abs(mean) <= 1e-9 * size else float(np.copysign(np.inf, mean))
    return MeanCheck(mean, error, z, scale)


@dataclass(frozen=True)
class EqualMeans:
    """A test of whether G means are equal.

    Attributes:
        statistic: the spread of the means over the spread expected by chance; 1 in expectation.
        degrees: degrees of freedom of chi-square / degrees, the distribution of the statistic.
        p_value: p-value of equal means; NaN for a single mean.
    """

    statistic: float
    degrees: float
    p_value: float


def equal_means_test(means: Floats, counts: Floats, covariance: Floats) -> EqualMeans:
    """Test whether G groups have the same mean.

    The ANOVA-type statistic of Brunner, Dette and Munk, Box-Type Approximations in Nonparametric Factorial
    Designs, JASA 1997: Σ n (mean_g - mean)² over its expectation tr(A V), with as many degrees of freedom as
    give it its variance, tr(A V)² / tr(A V A V). Cochran's and Wald's statistics divide by each group's own
    variance, so a group without a positive, or without a heavy row, seems to have a known mean: at ad click
    rates these tests reject true hypotheses about twice as often as they promise.

    Args:
        means: [G] the means of the groups.
        counts: [G] the numbers of their rows.
        covariance: [G, G] covariance of the means.
    """
    if len(means) < 2:
        return EqualMeans(float("nan"), 0.0, float("nan"))
    form = np.diag(counts) - np.outer(counts, counts) / counts.sum()
    spread = form @ covariance
    expected = float(np.trace(spread))
    apart = float(counts @ (means - counts @ means / counts.sum()) ** 2)
    rounding = 1e-20 * float(counts.sum()) * float(np.abs(means).max()) ** 2
    if apart <= rounding:
        return EqualMeans(0.0, len(means) - 1.0, 1.0)
    if expected <= rounding:
        return EqualMeans(np.inf, len(means) - 1.0, 0.0)
    degrees = expected**2 / float((spread * spread.T).sum())
    return EqualMeans(apart / expected, degrees, float(stats.chi2.sf(degrees * apart / expected, degrees)))
