"""How well scores order rows: AUC, and AUC within groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ctrkit.errors import DataError
from ctrkit.metrics.checks import Floats, Indices, dense_rank, group_codes, need_both_classes, score_rows


def auc(labels: ArrayLike, scores: ArrayLike, weight: ArrayLike | None = None) -> float:
    """The chance that a positive row scores above a negative one; a tie counts half.

    The Mann-Whitney form of the area under the ROC curve (Hanley & McNeil 1982), in O(N log N).

    Args:
        labels: 0 or 1, [N]. scores: any monotone score, [N]. weight: a row of weight 2 counts as two, [N].

    Raises:
        DataError: bad values, or only one class has weight.
    """
    y, s, w = score_rows(labels, scores, weight)
    rank = dense_rank(s)
    positives, negatives = np.bincount(rank, w * y), np.bincount(rank, w * (1 - y))  # by distinct score
    need_both_classes(positives.sum(), negatives.sum(), "AUC")
    below = np.cumsum(negatives) - negatives
    return float(positives @ (below + negatives / 2) / (positives.sum() * negatives.sum()))


@dataclass(frozen=True)
class GroupedAuc:
    """GAUC with what it rests on: groups of a single class say nothing about order and are left out.

    Attributes:
        value: the mean of the counted groups' AUCs, each weighted by its (weight of) rows.
        groups, rows: how many there are; groups_counted, rows_counted: how many of them hold both classes.
    """

    value: float
    groups: int
    groups_counted: int
    rows: int
    rows_counted: int


def gauc(labels: ArrayLike, scores: ArrayLike, groups: ArrayLike, weight: ArrayLike | None = None) -> float:
    """AUC within groups (users, usually), averaged with each group's impressions as its weight.

    GAUC = Σ_g n_g · AUC_g / Σ_g n_g over the groups that have both classes (Zhu et al. 2017,
    "Optimized Cost per Click in Taobao Display Advertising"). `grouped_auc` tells how many those are.

    Raises:
        DataError: bad values, or no group has both classes.
    """
    return grouped_auc(labels, scores, groups, weight).value


def grouped_auc(
    labels: ArrayLike, scores: ArrayLike, groups: ArrayLike, weight: ArrayLike | None = None
) -> GroupedAuc:
    """`gauc` with the number of groups and rows that it counted."""
    y, s, w = score_rows(labels, scores, weight)
    group, number = group_codes(groups, len(y))
    area, impressions = auc_by_group(y, s, w, group, number)
    counted = ~np.isnan(area)
    if not counted.any():
        raise DataError(
            "no group holds both a positive and a negative row",
            column="groups",
            mend="Group by something coarser, or use AUC",
        )
    value = np.average(area[counted], weights=impressions[counted])
    return GroupedAuc(float(value), number, int(counted.sum()), len(y), int(counted[group].sum()))


def auc_by_group(y: Floats, s: Floats, w: Floats, group: Indices, number: int) -> tuple[Floats, Floats]:
    """AUC of each group (NaN where it has one class) and its weight of rows, both [groups].

    All groups at once: sorted by group and then score, a positive row's wins are the negatives before
    it less those that stand in earlier groups.
    """
    order = np.lexsort((s, group))
    g, s, w_positive, w_negative = group[order], s[order], (w * y)[order], (w * (1 - y))[order]
    starts = np.flatnonzero(np.r_[True, (g[1:] != g[:-1]) | (s[1:] != s[:-1])])  # of each run of ties
    positives, negatives = np.add.reduceat(w_positive, starts), np.add.reduceat(w_negative, starts)
    g = g[starts]
    total_positive = np.bincount(g, positives, minlength=number)
    total_negative = np.bincount(g, negatives, minlength=number)
    earlier_groups = np.cumsum(total_negative) - total_negative
    below = np.cumsum(negatives) - negatives - earlier_groups[g]
    wins = np.bincount(g, positives * (below + negatives / 2), minlength=number)
    pairs = total_positive * total_negative
    area = np.full(number, np.nan)
    np.divide(wins, pairs, out=area, where=pairs > 0)
    return area, (total_positive + total_negative).astype(np.float64)
