"""Compares two rankings in one list, by team draft: who sees the list judges both, and needs no second group.

Source: Radlinski, Kurup and Joachims, "How Does Clickthrough Data Reflect Retrieval Quality?", CIKM 2008.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Draft:
    """A list that two rankings have filled.

    Attributes:
        order: the items, the first one first, [n].
        teams: which ranking picked each item: 0 or 1, [n].
    """

    order: tuple[int, ...]
    teams: tuple[int, ...]


def team_draft(first: Sequence[int], second: Sequence[int], rng: np.random.Generator) -> Draft:
    """Interleave two rankings of the same items.

    The rankings pick in turn, each its best item that is left; in every round a coin says who begins. A click
    is a point for the ranking that picked the item. If clicks do not depend on the items, both have the same
    expected points.

    Args:
        first: the items, the best one first, [n].
        second: the same items in another order, [n].
        rng: draws the coins.
    """
    picks = iter(first), iter(second)
    taken: set[int] = set()
    order: list[int] = []
    teams: list[int] = []
    while len(order) < len(first):
        begins = int(rng.integers(2))
        for team in (begins, 1 - begins)[: len(first) - len(order)]:
            item = next(one for one in picks[team] if one not in taken)
            taken.add(item)
            order.append(item)
            teams.append(team)
    return Draft(tuple(order), tuple(teams))


@dataclass(frozen=True)
class Preference:
    """Which of two rankings got more points.

    Attributes:
        wins: number of lists in which the second ranking has more points.
        losses: number of lists in which the first one has.
        ties: number of lists in which both have the same.
        share: share of wins among wins and losses; None without any.
        low: lower end of its interval.
        high: upper end of its interval.
        p_value: of the hypothesis that wins and losses are equally likely.
    """

    wins: int
    losses: int
    ties: int
    share: float | None
    low: float | None
    high: float | None
    p_value: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return dict(vars(self))


def preference(wins: int, losses: int, ties: int, confidence: float = 0.95) -> Preference:
    """The preference for the second ranking: sign test, with the interval of Clopper and Pearson (1934).

    Lists of one person are not independent: with few people the interval is too short.

    Args:
        wins: number of lists in which the second ranking has more points.
        losses: number of lists in which the first one has.
        ties: number of lists in which both have the same.
        confidence: confidence level of the interval.
    """
    if not wins + losses:
        return Preference(wins, losses, ties, None, None, None, None)
    from scipy.stats import binomtest  # takes long to import

    found = binomtest(wins, wins + losses)
    ends = found.proportion_ci(confidence)
    return Preference(
        wins, losses, ties, float(found.statistic), float(ends.low), float(ends.high), float(found.pvalue)
    )
