"""The statistics of an audit: are propensities right, and does the log change over time?

A row that stands for c decisions counts as c in every sum and as c² in every variance (Horvitz and Thompson,
1952; see `ctrkit.ope.intervals.moments`), because the rows that were dropped give no information.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike
from scipy.special import gammaincc, ndtr, pdtr, pdtrc

from ctrkit.arrays import Floats, Integers
from ctrkit.metrics.fields import benjamini_hochberg
from ctrkit.ope.logs.bandit_log import BanditLog

_BATCH = 65_536
# Below this many expected choices a count is tested by the Poisson distribution, not the normal one.
_FEW = 25.0


@dataclass(frozen=True)
class ActionCalibration:
    """How the propensities of one action's rows compare with how often it was chosen.

    Attributes:
        action: its id.
        rows: number of decisions in which it was a candidate.
        chosen: number of decisions in which it was chosen.
        expected: expected number of choices, Σ μ(a); None where only propensities are logged.
        ratio: Σ 1(A = a) / p divided by `rows`; its expectation is 1.
        z: deviation from the expectation in standard errors, of `chosen` where `expected` is known, else of
            Σ 1(A = a) / p.
        p_value: probability of such a deviation if the propensities are right (see `calibrate_actions`).
        adjusted_p_value: `p_value` adjusted over all actions (Benjamini and Hochberg 1995).
    """

    action: Any
    rows: int
    chosen: int
    expected: float | None
    ratio: float
    z: float
    p_value: float
    adjusted_p_value: float


def calibrate_actions(log: BanditLog) -> tuple[ActionCalibration, ...]:
    """Test each action's propensities against its choices.

    If propensities are right, a row in which a is a candidate with μ(a) > 0 adds c in expectation to
    S = Σ c 1(A = a) / p. So E[S] is the number n of decisions that such rows stand for.

    If the whole distribution is logged, the count C = Σ c 1(A = a) is tested against Σ c μ(a), with variance
    Σ c² μ (1 - μ). Below 25 expected choices the Poisson distribution is used, whose tails are wider, on both
    numbers divided by Σ c² μ (1 - μ) / Σ c μ (1 - μ), so that their variance fits. This test is more
    powerful, and rows with μ = 0 do not count.

    If only propensities are logged, S is tested with the unbiased variance Σ c² 1(A = a) (1/p² - 1/p). This
    variance is too small exactly when S is, because both lack the rare rows of large c/p. So a deficit must
    be significant by `deficit_p_value` too, with the largest c/p of the log as the largest possible one.

    Rows are read in batches; memory grows with the number of actions.
    """
    table, numbers = _sums(log)
    rows, chosen, score = numbers["rows"], numbers["chosen"], numbers["inverse"]
    with np.errstate(divide="ignore", invalid="ignore"):
        if "expected" in numbers:
            expected = numbers["expected"]
            z = (chosen - expected) / np.sqrt(numbers["variance"])
            certain = numbers["variance"] <= 1e-12  # logged probabilities of 0 or 1 only
            unit = np.where(certain, 1.0, numbers["variance"] / numbers["variance_of_one"])
            few = _poisson(chosen / unit, expected / unit)
            p_value = np.where(expected / unit < _FEW, few, 2 * ndtr(-np.abs(z)))
            z, p_value = np.where(certain, 0.0, z), np.where(certain, 1.0, p_value)
        else:
            variance = numbers["inverse_2"] - numbers["counted"]
            z = (score - rows) / np.sqrt(variance)
            z = np.where(variance > 0, z, np.where(score == rows, 0.0, np.copysign(np.inf, score - rows)))
            largest = float((log.counts / log.propensity).max())
            deficit = deficit_p_value(score, numbers["inverse_2"], numbers["inverse_4"], rows, largest)
            p_value = np.maximum(2 * ndtr(-np.abs(z)), np.where(score < rows, deficit, 0.0))
        ratio = score / rows
    adjusted = benjamini_hochberg(p_value)
    return tuple(
        ActionCalibration(
            action,
            round(rows[i]),
            round(chosen[i]),
            float(numbers["expected"][i]) if "expected" in numbers else None,
            float(ratio[i]),
            float(z[i]),
            float(p_value[i]),
            float(adjusted[i]),
        )
        for i, action in enumerate(table["action"].to_list())
    )


def deficit_p_value(
    total: ArrayLike, squares: ArrayLike, fourths: ArrayLike, expected: ArrayLike, largest: float
) -> Floats:
    """Probability that a sum of weights falls this far below its expectation.

    exp(-(expected - total)² / 2B) is an upper bound for independent non-negative terms whose second moments
    add up to at most B (Maurer 2003, "A bound on the deviation probability for sums of non-negative random
    variables"). If no weight is above `largest`, B ≤ expected · largest. Here B is the smaller of that and of
    an estimate: the sum of squares, plus three of its standard errors and four unseen squares of `largest`.

    Args:
        total: sum of the weights.
        squares: sum of their squares.
        fourths: sum of their fourth powers.
        expected: expectation of `total`.
        largest: largest possible weight.
    """
    total, squares, fourths, expected = (
        np.asarray(one, float) for one in (total, squares, fourths, expected)
    )
    second = np.minimum(expected * largest, squares + 3 * np.sqrt(fourths) + 4 * largest**2)
    return np.asarray(np.exp(-((expected - total) ** 2) / (2 * second)))


def _poisson(count: Floats, expected: Floats) -> Floats:
    """Two-sided p-value of a count, which need not be a whole number: twice the smaller tail."""
    above = np.where(count > 0, pdtrc(np.maximum(np.ceil(count - 1e-9) - 1, 0), expected), 1.0)
    count = np.floor(count + 1e-9)
    return np.asarray(np.minimum(1.0, 2 * np.minimum(pdtr(count, expected), above)))


def _sums(log: BanditLog) -> tuple[pl.DataFrame, dict[str, Floats]]:
    """The sorted actions, and the sums that `calibrate_actions` tests, without actions of probability 0."""
    weight, count = pl.col("w"), pl.col("c")
    chosen = (
        pl.DataFrame({"action": log.table["action"], "w": log.counts / log.propensity, "c": log.counts})
        .group_by("action")
        .agg(
            count.sum().alias("chosen"),
            weight.sum().alias("inverse"),
            (count * weight).sum().alias("counted"),
            (weight**2).sum().alias("inverse_2"),
            (weight**4).sum().alias("inverse_4"),
        )
    )
    if log.actions is not None:
        table = chosen.with_columns(pl.lit(float(log.counts.sum())).alias("rows")).sort("action")
    else:
        offered = pl.concat(list(_offered(log))).group_by("action").agg(pl.all().sum())
        table = offered.filter(pl.col("rows") > 0).join(chosen, on="action", how="left").fill_null(0.0)
        table = table.sort("action")
    return table, {name: table[name].to_numpy() for name in table.columns if name != "action"}


def _offered(log: BanditLog) -> Iterator[pl.DataFrame]:
    """For each batch: how often each action was available, and how often it is expected to be chosen."""
    whole = "logging_probabilities" in log.table.columns
    for start in range(0, len(log), _BATCH):
        batch, counts = log.table[start : start + _BATCH], log.counts[start : start + _BATCH]
        columns = {
            "action": batch["candidates"].explode().cast(log.table["action"].dtype),
            "c": np.repeat(counts, batch["candidates"].list.len().to_numpy()),
        }
        mu, c = pl.col("mu"), pl.col("c")
        if not whole:
            yield pl.DataFrame(columns).group_by("action").agg(c.sum().alias("rows"))
            continue
        yield (
            pl.DataFrame({**columns, "mu": batch["logging_probabilities"].explode()})
            .group_by("action")
            .agg(
                (c * (mu > 0)).sum().alias("rows"),
                (c * mu).sum().alias("expected"),
                (c**2 * mu * (1 - mu)).sum().alias("variance"),
                (c * mu * (1 - mu)).sum().alias("variance_of_one"),
            )
        )


@dataclass(frozen=True)
class TimeBins:
    """A log in order of time, cut into bins of equally many rows, and tests whether the bins differ.

    The test statistic is Σ_b n_b (mean_b - mean)² / variance, chi-square with bins - 1 degrees of freedom.
    n_b is the number of decisions and the variance is Σ c² (r - mean)² / Σ c. For rewards of 0 or 1 and no
    dropped rows this is Pearson's test of equal rates. It treats rows as independent.

    Attributes:
        start: [B] unix seconds of the first row of each bin.
        end: [B] unix seconds of the last row of each bin.
        rows: [B] number of decisions that its rows stand for.
        reward: [B] mean reward.
        propensity: [B] mean propensity.
        reward_p_value: p-value of the test that all bins have the same mean reward.
        propensity_p_value: p-value of the test that all bins have the same mean propensity.
        reward_deviation: square root of the rewards' variance above; a mean of n decisions has the standard
            error `reward_deviation` / √n.
    """

    start: Floats
    end: Floats
    rows: Integers
    reward: Floats
    propensity: Floats
    reward_p_value: float
    propensity_p_value: float
    reward_deviation: float


def by_time(log: BanditLog, most: int = 20) -> TimeBins | None:
    """Rewards and propensities over time; None without timestamps, or with too few rows or rewards.

    A bin holds at least 100 rows and, on average, 10 with a reward other than 0.
    """
    if "timestamp" not in log.table.columns:
        return None
    time = log.table["timestamp"].to_numpy()
    count = min(most, len(log) // 100, int(np.count_nonzero(log.reward)) // 10)
    if count < 2 or time.min() == time.max():
        return None
    order = np.argsort(time, kind="stable")
    edges = np.linspace(0, len(log), count + 1).astype(np.int64)
    counts = log.counts[order]
    rows = np.add.reduceat(counts, edges[:-1])
    reward, propensity = (
        np.add.reduceat(counts * values[order], edges[:-1]) / rows for values in (log.reward, log.propensity)
    )
    return TimeBins(
        time[order[edges[:-1]]],
        time[order[edges[1:] - 1]],
        rows.round().astype(np.int64),
        reward,
        propensity,
        _homogeneous(reward, rows, log.reward, log.counts),
        _homogeneous(propensity, rows, log.propensity, log.counts),
        float(np.sqrt(_mean_and_variance(log.reward, log.counts)[1])),
    )


def _mean_and_variance(values: Floats, counts: Floats) -> tuple[float, float]:
    """Mean Σ c x / Σ c and variance Σ c² (x - mean)² / Σ c, which over n is the variance of the mean."""
    mean = float(np.average(values, weights=counts))
    return mean, float(counts**2 @ (values - mean) ** 2 / counts.sum())


def _homogeneous(means: Floats, rows: Floats, values: Floats, counts: Floats) -> float:
    """P-value of the chi-square test of equal means."""
    mean, variance = _mean_and_variance(values, counts)
    if variance <= 1e-24 * max(mean**2, 1e-300):
        return 1.0
    statistic = float((rows * (means - mean) ** 2).sum()) / variance
    return float(gammaincc((len(rows) - 1) / 2, statistic / 2))


@dataclass(frozen=True)
class Newest:
    """The newest rows compared with all earlier ones.

    Attributes:
        rows: number of newest rows.
        reward: mean reward of the newest rows.
        earlier: mean reward of the earlier rows.
        z: their difference in standard errors, by the variance of the earlier rows' rewards.
        p_value: one-sided p-value of the fall, if no reward is delayed.
    """

    rows: int
    reward: float
    earlier: float
    z: float
    p_value: float


def newest_rows(log: BanditLog, share: float = 0.1) -> Newest | None:
    """Whether the newest share of the rows earned less; None without timestamps or with too few rewards."""
    if "timestamp" not in log.table.columns:
        return None
    time = log.table["timestamp"].to_numpy()
    new = int(len(log) * share)
    if new < 100 or time.min() == time.max():
        return None
    order = np.argsort(time, kind="stable")
    earlier, newest = order[:-new], order[-new:]
    if np.count_nonzero(log.reward[earlier]) < 20:
        return None
    before, variance = _mean_and_variance(log.reward[earlier], log.counts[earlier])
    after, _ = _mean_and_variance(log.reward[newest], log.counts[newest])
    if not variance > 0:
        return None
    error = np.sqrt(variance * (1 / log.counts[earlier].sum() + 1 / log.counts[newest].sum()))
    z = (after - before) / float(error)
    return Newest(new, after, before, z, float(ndtr(z)))
