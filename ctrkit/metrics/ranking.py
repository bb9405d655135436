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

# From this many rows on, GAUC is worth the half second that importing the compiler takes.
COMPILED_FROM = 200_000


def auc(labels: ArrayLike, scores: ArrayLike, weight: ArrayLike | None = None) -> float:
    """The probability that a positive row scores above a negative one; a tie counts half.

    This is the Mann-Whitney form of the area under the ROC curve (Hanley & McNeil 1982), in O(N log N).

    Args:
        labels: 0 or 1, [N].
        scores: finite numbers; only their order matters, [N].
        weight: the weight of each row, [N]; a row of weight 2 counts as two.

    Raises:
        DataError: bad values, or only one class has weight.
    """
    y, s, w = score_rows(labels, scores, weight)
    if (w == 1).all():
        # Two sorts of values and whole numbers throughout: fast, and exact up to the last division.
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

    t runs over the distinct scores from the highest, and all rows of one score enter together. The sum does
    not interpolate; the trapezoid rule does, and is too optimistic (Davis & Goadrich 2006). The result equals
    `sklearn.metrics.average_precision_score`. A random order gives the base rate.

    Args:
        labels: 0 or 1, [N].
        scores: finite numbers; only their order matters, [N].
        weight: the weight of each row, [N]; a row of weight 2 counts as two.

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
    # Scores above the first row with weight find nothing and add nothing.
    precision = found / np.maximum(found + np.cumsum(negatives), np.finfo(np.float64).tiny)
    return float(positives @ precision / found[-1])


@dataclass(frozen=True)
class GroupedAuc:
    """GAUC, and the number of groups and rows behind it. Groups with one class only do not count.

    Attributes:
        value: the mean of the counted groups' AUCs, each weighted by its (weight of) rows or clicks.
        groups: the number of groups.
        groups_counted: the number of groups with both classes.
        rows: the number of rows.
        rows_counted: the number of rows in groups with both classes.
    """

    value: float
    groups: int
    groups_counted: int
    rows: int
    rows_counted: int

    @property
    def groups_left_out(self) -> int:
        """The number of groups with one class only."""
        return self.groups - self.groups_counted


def gauc(
    labels: ArrayLike,
    scores: ArrayLike,
    groups: ArrayLike,
    weight: ArrayLike | None = None,
    by: By = "impressions",
) -> float:
    """AUC within groups (usually users), averaged over groups by their impressions or clicks.

    GAUC = Σ_g n_g · AUC_g / Σ_g n_g over the groups with both classes (Zhu et al. 2017, "Optimized Cost per
    Click in Taobao Display Advertising"; Zhou et al. 2018, "Deep Interest Network", eq. 7, who name both
    weights). `grouped_auc` also gives the number of these groups.

    Args:
        labels: 0 or 1, [N].
        scores: finite numbers; only their order within a group matters, [N].
        groups: the group of each row, [N].
        weight: the weight of each row, [N]; a row of weight 2 counts as two.
        by: n_g is the (weight of) all rows of the group for `impressions`, of its positive rows for `clicks`.

    Raises:
        DataError: bad values, or no group has both classes.
        ConfigError: an unknown `by`.
    """
    return grouped_auc(labels, scores, groups, weight, by).value


def grouped_auc(
    labels: ArrayLike,
    scores: ArrayLike,
    groups: ArrayLike,
    weight: ArrayLike | None = None,
    by: By = "impressions",
) -> GroupedAuc:
    """GAUC with the number of groups and rows that count; arguments and errors are those of `gauc`."""
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
    rows = np.bincount(group, w > 0, minlength=number)  # rows of weight 0 do not count
    there = int(np.count_nonzero(rows))
    return GroupedAuc(float(value), there, int(counted.sum()), int(rows.sum()), int(rows[counted].sum()))


def auc_by_group(y: Floats, s: Floats, w: Floats, group: Indices, number: int) -> tuple[Floats, Floats]:
    """The AUC of each group (NaN if it has one class) and the weight of its rows, both [groups]."""
    area, positives, negatives = _areas(y, s, w, group, number)
    return area, positives + negatives


def _by_score(y: Floats, s: Floats, w: Floats) -> tuple[Floats, Floats]:
    """Weight of the positive and of the negative rows of each distinct score, lowest first."""
    rank = dense_rank(s)
    positives = w * y
    return weight_sums(rank, positives), weight_sums(rank, w - positives)


def _areas(y: Floats, s: Floats, w: Floats, group: Indices, number: int) -> tuple[Floats, Floats, Floats]:
    """AUC (NaN if a group has one class), weight of positive and of negative rows, all [groups]."""
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
    """The weight of correctly ordered pairs in each group.

    Clicks are rare, so only they are sorted, and each negative row is looked up among the clicks of its
    group.
    """
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
    """`_wins` without a compiler.

    Rows are sorted by group and score. A positive row wins against the negative rows before it, minus those
    in earlier groups.
    """
    order, g, keys = order_within(group, s)
    starts = run_starts(g, keys)  # of each run of ties
    positives = np.add.reduceat(positives[order], starts)
    negatives = np.add.reduceat(negatives[order], starts)
    g = g[starts]
    first = run_starts(g)  # run of each group
    below = np.cumsum(negatives) - negatives
    below -= np.repeat(below[first], np.diff(first, append=len(g)))
    return weight_sums(g, positives * (below + negatives / 2), number)
