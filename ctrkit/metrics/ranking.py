"""How well scores order rows: AUC, AUC within groups, and average precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from ctrkit.arrays import Floats, Indices
from ctrkit.errors import ConfigError, DataError, nearest
from ctrkit.metrics.checks import dense_rank, group_codes, need_both_classes, score_rows
from ctrkit.metrics.kernels import add_wins
from ctrkit.metrics.order import order_within, run_starts, weight_sums

By: TypeAlias = Literal["impressions", "clicks"]

# From so many rows on, GAUC is worth the half second that it takes to import the compiler.
COMPILED_FROM = 200_000


def auc(labels: ArrayLike, scores: ArrayLike, weight: ArrayLike | None = None) -> float:
    """The chance that a positive row scores above a negative one; a tie counts half.

    The Mann-Whitney form of the area under the ROC curve (Hanley & McNeil 1982), in O(N log N).

    Args:
        labels: 0 or 1, [N].
        scores: any monotone score, [N].
        weight: a row of weight 2 counts as two, [N].

    Raises:
        DataError: bad values, or only one class has weight.
    """
    y, s, w = score_rows(labels, scores, weight)
    if (w == 1).all():
        # Two sorts of values and whole numbers all the way: quick, and exact but for the last division.
        positive, negative = np.sort(s[y == 1]), np.sort(s[y == 0])
        need_both_classes(len(positive), len(negative), "AUC")
        below, not_above = (
            int(np.searchsorted(negative, positive, side).sum()) for side in ("left", "right")
        )
        return (below + not_above) / (2 * len(positive) * len(negative))
    positives, negatives = _by_score(y, s, w)
    need_both_classes(positives.sum(), negatives.sum(), "AUC")
    lower = np.cumsum(negatives) - negatives
    return float(positives @ (lower + negatives / 2) / (positives.sum() * negatives.sum()))


def average_precision(labels: ArrayLike, scores: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Area under the precision-recall curve, as a sum of steps: Σ_t (recall_t - recall_{t-1}) · precision_t.

    t runs over the distinct scores from the highest, and all rows of one score enter together. The step
    sum does not interpolate, as the trapezoid does, which is too good in precision and recall (Davis &
    Goadrich 2006); it is `sklearn.metrics.average_precision_score`. A random order gives the base rate.

    Args:
        labels: 0 or 1, [N].
        scores: any monotone score, [N].
        weight: a row of weight 2 counts as two, [N].

    Raises:
        DataError: bad values, or no positive row has weight.
    """
    y, s, w = score_rows(labels, scores, weight)
    positives, negatives = (of_class[::-1] for of_class in _by_score(y, s, w))
    if not positives.any():
        raise DataError(
            "average precision needs at least one positive row", argument="labels", hint="Give more rows"
        )
    found = np.cumsum(positives)
    # Scores above the first row of weight find nothing, and add nothing.
    precision = found / np.maximum(found + np.cumsum(negatives), np.finfo(np.float64).tiny)
    return float(positives @ precision / found[-1])


@dataclass(frozen=True)
class GroupedAuc:
    """GAUC with what it rests on: groups of a single class say nothing about order and are left out.

    Attributes:
        value: the mean of the counted groups' AUCs, each weighted by its (weight of) rows or clicks.
        groups, rows: how many there are.
        groups_counted, rows_counted: how many of them hold both classes.
    """

    value: float
    groups: int
    groups_counted: int
    rows: int
    rows_counted: int

    @property
    def groups_left_out(self) -> int:
        """Groups of a single class."""
        return self.groups - self.groups_counted


def gauc(
    labels: ArrayLike,
    scores: ArrayLike,
    groups: ArrayLike,
    weight: ArrayLike | None = None,
    by: By = "impressions",
) -> float:
    """AUC within groups (users, usually), averaged with each group's impressions or clicks as its weight.

    GAUC = Σ_g n_g · AUC_g / Σ_g n_g over the groups that have both classes (Zhu et al. 2017,
    "Optimized Cost per Click in Taobao Display Advertising"; Zhou et al. 2018, "Deep Interest Network",
    eq. 7, who name both weights). `grouped_auc` tells how many those are.

    Args:
        by: n_g is the group's (weight of) rows, `impressions`, or of positive rows, `clicks`.

    Raises:
        DataError: bad values, or no group has both classes. ConfigError: an unknown `by`.
    """
    return grouped_auc(labels, scores, groups, weight, by).value


def grouped_auc(
    labels: ArrayLike,
    scores: ArrayLike,
    groups: ArrayLike,
    weight: ArrayLike | None = None,
    by: By = "impressions",
) -> GroupedAuc:
    """`gauc` with the number of groups and rows that it counted."""
    if by not in ("impressions", "clicks"):
        raise ConfigError(f"unknown weight of groups '{by}'", hint=nearest(by, ("impressions", "clicks")))
    y, s, w = score_rows(labels, scores, weight)
    group, number = group_codes(groups, len(y))
    area, positives, negatives = _areas(y, s, w, group, number)
    counted = ~np.isnan(area)
    if not counted.any():
        raise DataError(
            "no group holds both a positive and a negative row",
            argument="groups",
            hint="Group by something coarser, or use AUC",
        )
    mass = positives + negatives if by == "impressions" else positives
    value = np.average(area[counted], weights=mass[counted])
    rows = np.bincount(group, w > 0, minlength=number)  # rows of no weight are not there
    there = int(np.count_nonzero(rows))
    return GroupedAuc(float(value), there, int(counted.sum()), int(rows.sum()), int(rows[counted].sum()))


def auc_by_group(y: Floats, s: Floats, w: Floats, group: Indices, number: int) -> tuple[Floats, Floats]:
    """AUC of each group (NaN where it has one class) and its weight of rows, both [groups]."""
    area, positives, negatives = _areas(y, s, w, group, number)
    return area, positives + negatives


def _by_score(y: Floats, s: Floats, w: Floats) -> tuple[Floats, Floats]:
    """Weight of the positive and of the negative rows of each distinct score, lowest first."""
    rank = dense_rank(s)
    positives = w * y
    return weight_sums(rank, positives), weight_sums(rank, w - positives)


def _areas(y: Floats, s: Floats, w: Floats, group: Indices, number: int) -> tuple[Floats, Floats, Floats]:
    """AUC (NaN where a group has one class), weight of positive and of negative rows, all [groups]."""
    positives = w * y
    negatives = w - positives
    total_positive = weight_sums(group, positives, number)
    total_negative = weight_sums(group, negatives, number)
    if len(y) < COMPILED_FROM:
        wins = _wins_of_few(positives, negatives, s, group, number)
    else:
        wins = _wins(y, s, w, group, number)
    pairs = total_positive * total_negative
    area = np.full(number, np.nan)
    np.divide(wins, pairs, out=area, where=pairs > 0)
    return area, total_positive, total_negative


def _wins(y: Floats, s: Floats, w: Floats, group: Indices, number: int) -> Floats:
    """Weight of the pairs of each group that are in order. Clicks are rare: only they are sorted, and each
    negative row is looked up among those of its group."""
    clicked = np.flatnonzero(y)
    if not clicked.size:
        return np.zeros(number)
    order, of_click, _ = order_within(group[clicked], s[clicked])
    clicked = clicked[order]
    starts = np.searchsorted(of_click, np.arange(number + 1))
    wins = np.zeros(number)
    add_wins(y, s, np.ones(1) if (w == 1).all() else w, group, starts, s[clicked], w[clicked], wins)
    return wins


def _wins_of_few(positives: Floats, negatives: Floats, s: Floats, group: Indices, number: int) -> Floats:
    """`_wins` without a compiler: of rows sorted by group and score, a positive one's wins are the negative
    ones before it less those that stand in earlier groups."""
    order, g, keys = order_within(group, s)
    starts = run_starts(g, keys)  # of each run of ties
    positives = np.add.reduceat(positives[order], starts)
    negatives = np.add.reduceat(negatives[order], starts)
    g = g[starts]
    first = run_starts(g)  # run of each group
    below = np.cumsum(negatives) - negatives
    below -= np.repeat(below[first], np.diff(first, append=len(g)))
    return weight_sums(g, positives * (below + negatives / 2), number)
