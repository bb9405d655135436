"""Metrics of the top of each group's list: NDCG@K, MAP, MRR and hit rate, for all groups at once.

A group is a list that was ranked as one (a request or a user). A row is relevant if its label is 1. Rows of
equal score have no order; each metric is its expectation over all their orders (McSherry & Najork 2008,
"Computing information retrieval performance measures efficiently in the presence of tied scores"). So the
order of rows in the log never matters, and a constant score is as good as a random order.

Each group counts once. With weights a group counts by the weight of its rows, which must be equal within a
group: a list of weight 2 counts as two lists. If rows of one list have different weights (for example because
negative rows were thinned), their positions in the complete list are unknown, and so are these metrics.

Groups without a relevant row are left out, because all their orders are equally good; `grouped_ranking`
counts them. Unlike in GAUC, groups with relevant rows only do count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaln

from ctrkit.arrays import Floats, Indices
from ctrkit.errors import ConfigError, DataError
from ctrkit.metrics.checks import held_rows, score_rows
from ctrkit.metrics.order import order_within, run_starts, weight_sums


def ndcg_at(
    labels: ArrayLike, scores: ArrayLike, groups: ArrayLike, k: int, weight: ArrayLike | None = None
) -> float:
    """Normalised discounted cumulative gain of the first k, mean over groups (Järvelin & Kekäläinen 2002).

    NDCG is DCG = Σ_{i ≤ k} label_i / log2(i + 1), divided by the DCG of the best order. It equals
    `sklearn.metrics.ndcg_score` of each group, ties included.

    Args:
        labels: 0 or 1, [N].
        scores: a higher score is nearer to the top, [N].
        groups: the group of each row, [N].
        k: the number of rows at the top that count, at least 1.
        weight: the weight of each row, equal for all rows of a group, [N].

    Raises:
        DataError: bad values, rows of one group of different weights, or no group has a relevant row.
        ConfigError: k is below 1.
    """
    return grouped_ranking(labels, scores, groups, k, weight).ndcg


def mean_average_precision(
    labels: ArrayLike,
    scores: ArrayLike,
    groups: ArrayLike,
    k: int | None = None,
    weight: ArrayLike | None = None,
) -> float:
    """MAP@k: mean over groups of Σ_{i ≤ k} label_i · precision_i / min(k, relevant rows).

    precision_i is the share of relevant rows among the first i; with this divisor the best order has 1.
    Without k and without ties it equals `sklearn.metrics.average_precision_score` of each group; ties count
    by their expectation here, and as a whole there. Arguments and errors are those of `ndcg_at`.
    """
    return grouped_ranking(labels, scores, groups, k, weight).mean_average_precision


def mean_reciprocal_rank(
    labels: ArrayLike, scores: ArrayLike, groups: ArrayLike, weight: ArrayLike | None = None
) -> float:
    """MRR: mean over groups of 1 / rank of the first relevant row (Voorhees 1999).

    Arguments and errors are those of `ndcg_at`.
    """
    return grouped_ranking(labels, scores, groups, None, weight).mean_reciprocal_rank


def hit_rate_at(
    labels: ArrayLike, scores: ArrayLike, groups: ArrayLike, k: int, weight: ArrayLike | None = None
) -> float:
    """The share of groups with a relevant row among the first k; arguments and errors as in `ndcg_at`."""
    return grouped_ranking(labels, scores, groups, k, weight).hit_rate


@dataclass(frozen=True)
class GroupedRanking:
    """All metrics of the top from one sort: means over the groups with a relevant row.

    Attributes:
        ndcg: mean NDCG at k.
        mean_average_precision: MAP at k.
        mean_reciprocal_rank: MRR, which has no cut-off.
        hit_rate: share of groups with a relevant row among the first k.
        k: the cut-off; None for the whole list.
        groups: the number of groups.
        left_out: the number of groups without a relevant row.
    """

    ndcg: float
    mean_average_precision: float
    mean_reciprocal_rank: float
    hit_rate: float
    k: int | None
    groups: int
    left_out: int


@dataclass(frozen=True)
class RankingByGroup:
    """Metrics of each group, in the order of the sorted group names; NaN for groups without a relevant row.

    Attributes:
        ndcg: NDCG at k, [groups].
        average_precision: average precision at k, [groups].
        reciprocal_rank: 1 / rank of the first relevant row, [groups].
        hit: the probability of a relevant row among the first k, over the orders of ties, [groups].
        weight: the weight of the group, [groups].
    """

    ndcg: Floats
    average_precision: Floats
    reciprocal_rank: Floats
    hit: Floats
    weight: Floats


def grouped_ranking(
    labels: ArrayLike,
    scores: ArrayLike,
    groups: ArrayLike,
    k: int | None = None,
    weight: ArrayLike | None = None,
) -> GroupedRanking:
    """NDCG, MAP and hit rate at k, and MRR, with the number of groups left out.

    Arguments and errors are those of `ndcg_at`; without k the whole list counts.
    """
    found = ranking_by_group(labels, scores, groups, k, weight)
    counted = ~np.isnan(found.ndcg)
    if not counted.any():
        raise DataError("no group holds a positive row", argument="labels", hint="Give more rows")
    ndcg, precision, rank, hit = (
        float(np.average(of_group[counted], weights=found.weight[counted]))
        for of_group in (found.ndcg, found.average_precision, found.reciprocal_rank, found.hit)
    )
    return GroupedRanking(ndcg, precision, rank, hit, k, len(counted), int((~counted).sum()))


def ranking_by_group(
    labels: ArrayLike,
    scores: ArrayLike,
    groups: ArrayLike,
    k: int | None = None,
    weight: ArrayLike | None = None,
) -> RankingByGroup:
    """The metrics of each group that has weight; arguments as in `grouped_ranking`.

    Raises:
        DataError: bad values, or rows of one group with different weights.
        ConfigError: k is below 1.
    """
    if k is not None and (k < 1 or k != int(k)):
        raise ConfigError(f"k must be a whole number of at least 1, and {k} was given")
    y, s, w, group, number, _ = held_rows(score_rows(labels, scores, weight), groups)
    of_group = np.zeros(number)
    of_group[group] = w
    if (of_group[group] != w).any():
        raise DataError(
            "rows of one group have different weights, so their positions in the whole list are unknown",
            argument="weight",
            hint="Give all rows of a list one weight, or use AUC and GAUC",
        )
    runs = _Runs(y, s, group, number)
    depth = runs.longest if k is None else min(int(k), runs.longest)
    values = (_ndcg(runs, depth), _average_precision(runs, depth), _reciprocal_rank(runs), _hit(runs, depth))
    of_all = []
    for value in values:
        of_all.append(np.full(number, np.nan))
        of_all[-1][runs.relevant > 0] = value[runs.relevant > 0]
    return RankingByGroup(*[*of_all, of_group])


class _Runs:
    """Runs of equal score that hold a relevant row, by group and from the top.

    Attributes:
        group: the group of the run, [runs].
        before: the number of the group's rows above the run, [runs].
        size: the number of rows of the run, [runs].
        hits: the number of relevant rows of the run, [runs].
        hits_before: the number of the group's relevant rows above the run, [runs].
        leads: whether the run holds the group's first relevant row, [runs].
        relevant: the number of relevant rows of each group, [groups].
        longest: the number of rows of the largest group.
        number: the number of groups.
    """

    def __init__(self, y: Floats, s: Floats, group: Indices, number: int) -> None:
        order, g, keys = order_within(group, -s)
        starts = run_starts(g, keys)
        hits = np.add.reduceat(y[order], starts)
        sizes = np.bincount(group, minlength=number)
        held = np.flatnonzero(hits)  # clicks are rare, so this leaves little
        self.relevant = np.bincount(group, y, minlength=number)
        self.longest = int(sizes.max())
        self.number = number
        self.size = np.diff(starts, append=len(y))[held]
        self.group = g[starts[held]]
        self.before = starts[held] - (np.cumsum(sizes) - sizes)[self.group]
        self.hits = hits[held]
        self.hits_before = (
            np.cumsum(self.hits) - self.hits - (np.cumsum(self.relevant) - self.relevant)[self.group]
        )
        self.leads = self.hits_before == 0

    def sums(self, values: Floats) -> Floats:
        """The sums of values by group, [groups]."""
        return weight_sums(self.group, values, self.number)


def _ndcg(runs: _Runs, k: int) -> Floats:
    # Each relevant row of a tie gets the mean discount of the tie's positions.
    discount = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, k + 2)))])  # of the first i places
    places = discount[np.minimum(runs.before + runs.size, k)] - discount[np.minimum(runs.before, k)]
    best = discount[np.minimum(runs.relevant, k).astype(np.intp)]
    return runs.sums(runs.hits / runs.size * places) / np.where(best > 0, best, 1)


def _average_precision(runs: _Runs, k: int) -> Floats:
    """The expected average precision over all orders of ties.

    Take n tied rows, p of them relevant, below a others with P relevant. Position a + j is relevant with
    probability p / n. If it is, P + 1 + (j - 1)(p - 1) / (n - 1) of the first a + j are, on average.
    """
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, k + 1))])
    last = np.minimum(runs.before + runs.size, k)
    places = np.maximum(last - runs.before, 0)
    inverse = harmonic[last] - harmonic[np.minimum(runs.before, k)]  # Σ 1 / (a + j) over places up to k
    others = (runs.hits - 1) / np.maximum(runs.size - 1, 1)
    precisions = (runs.hits_before + 1) * inverse + others * (places - (runs.before + 1) * inverse)
    return runs.sums(runs.hits / runs.size * precisions) / np.clip(runs.relevant, 1, k)


def _reciprocal_rank(runs: _Runs) -> Floats:
    """The first of p relevant among n tied rows is the j-th with probability C(n - j, p - 1) / C(n, p)."""
    n, p, before = runs.size[runs.leads], runs.hits[runs.leads], runs.before[runs.leads]
    rank = np.zeros(len(n))
    alone = n == p
    rank[alone] = 1 / (before[alone] + 1)
    tied = np.flatnonzero(~alone)
    if tied.size:
        choices = (n - p + 1).astype(np.intp)[tied]
        run = np.repeat(tied, choices)
        j = np.arange(len(run)) - np.repeat(np.cumsum(choices) - choices, choices) + 1
        chance = np.exp(_log_choose(n[run] - j, p[run] - 1) - _log_choose(n[run], p[run]))
        rank += np.bincount(run, chance / (before[run] + j), minlength=len(n))
    of_group = np.zeros(runs.number)
    of_group[runs.group[runs.leads]] = rank
    return of_group


def _hit(runs: _Runs, k: int) -> Floats:
    """No one of p relevant among n tied rows is in the first m with probability C(n - m, p) / C(n, p)."""
    n, p = runs.size[runs.leads], runs.hits[runs.leads]
    places = np.clip(k - runs.before[runs.leads], 0, n)
    left = n - places
    none = np.exp(_log_choose(np.maximum(left, p), p) - _log_choose(n, p))
    of_group = np.zeros(runs.number)
    of_group[runs.group[runs.leads]] = np.where(left < p, 1.0, 1 - none)
    return of_group


def _log_choose(n: Floats | Indices, k: Floats | Indices) -> Floats:
    """The logarithm of n over k, 0 ≤ k ≤ n."""
    logarithm: Floats = -np.log(n + 1.0) - betaln(n - k + 1.0, k + 1.0)
    return logarithm
