"""Compares two rankings in one list: who sees the list judges both, and needs no second group.

Both rankings have the same items, numbered from 0, the best one first. A preference is from -1, for the first
ranking, to 1, for the second one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# τ of probabilistic interleaving, as its authors have set it.
STEEPNESS = 3.0


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
    """Interleave two rankings of the same items by team draft.

    Radlinski, Kurup and Joachims, "How Does Clickthrough Data Reflect Retrieval Quality?", CIKM 2008: the
    rankings pick in turn, each its best item that is left; in every round a coin says who begins. A click
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
class Mixture:
    """A list whose items were drawn from both rankings.

    Attributes:
        order: the items, the first one first, [n].
        seconds: probability that the second ranking gave each item, given the list, [n].
    """

    order: tuple[int, ...]
    seconds: tuple[float, ...]


def probabilistic(
    first: Sequence[int], second: Sequence[int], length: int, rng: np.random.Generator
) -> Mixture:
    """Interleave two rankings of the same items: at each place a coin, and a draw by a softmax of ranks.

    Hofmann, Whiteson and de Rijke, "A Probabilistic Method for Inferring Preferences from Clicks", CIKM 2011:
    P(item) is proportional to rank^-3 over the items that are left. An item is drawn from the mean of both
    distributions, which is the same as a coin and then one of them; credit needs no coin, as it is marginal.

    Args:
        first: the items, the best one first, [n].
        second: the same items in another order, [n].
        length: number of places to fill, at most n.
        rng: draws the items.
    """
    weights = np.zeros((2, len(first)))
    for row, ranking in zip(weights, (first, second), strict=True):
        row[np.asarray(ranking, dtype=np.intp)] = np.arange(1, len(ranking) + 1) ** -STEEPNESS
    order: list[int] = []
    seconds: list[float] = []
    for _ in range(min(length, len(first))):
        chances = weights / weights.sum(axis=1, keepdims=True)
        steps = chances.sum(axis=0).cumsum()
        item = int(steps.searchsorted(rng.random() * steps[-1], side="right"))
        # A product that is rounded up to the whole sum would lie behind the last item that is left.
        item = min(item, int(np.flatnonzero(weights[0])[-1]))
        order.append(item)
        seconds.append(float(chances[1, item] / chances[:, item].sum()))
        weights[:, item] = 0
    return Mixture(tuple(order), tuple(seconds))


def credit(seconds: Sequence[float], clicked: Sequence[int]) -> float:
    """E[sign(clicks of the second ranking - clicks of the first)], for teams that are known or likely.

    With the teams of a draft it is the sign itself. Of a mixture it is the marginal outcome of Hofmann,
    Whiteson and de Rijke (CIKM 2011): given the list, the teams of its places are independent, so the number
    of the second ranking's clicks is Poisson binomial.

    Args:
        seconds: probability that the second ranking gave each item: of a draft, its teams, [n].
        clicked: places that were clicked, from 0; a place counts once.
    """
    chances = np.ones(1)
    for place in {*clicked}:
        chances = np.convolve(chances, (1 - seconds[place], seconds[place]))
    return float(chances @ np.sign(2 * np.arange(chances.size) - (chances.size - 1)))


def balanced(
    first: Sequence[int], second: Sequence[int], length: int, rng: np.random.Generator
) -> tuple[int, ...]:
    """Interleave two rankings of the same items: the next one of each in turn; one coin says who begins.

    Joachims, "Evaluating Retrieval Performance Using Clickthrough Data", 2003.

    Args:
        first: the items, the best one first, [n].
        second: the same items in another order, [n].
        length: number of places to fill.
        rng: draws the coin.
    """
    one, two = (second, first) if rng.integers(2) else (first, second)
    merged = dict.fromkeys(item for pair in zip(one, two, strict=True) for item in pair)
    return tuple(merged)[:length]


def balanced_credit(
    first: Sequence[int], second: Sequence[int], order: Sequence[int], clicked: Sequence[int]
) -> float:
    """Whose first k items had more clicks, where k is the least at which one has the lowest click.

    Radlinski, Kurup and Joachims (CIKM 2008). Random clicks may prefer a ranking: of (0, 1, 2) and (1, 2, 0),
    the second one wins two of three (Chapelle, Joachims, Radlinski and Yue, "Large-Scale Validation and
    Analysis of Interleaved Search Evaluation", TOIS 2012).

    Args:
        first: the items, the best one first, [n].
        second: the same items in another order, [n].
        order: the interleaved list.
        clicked: places of the list that were clicked, from 0.
    """
    if not clicked:
        return 0.0
    lowest = order[max(clicked)]
    k = 1 + min(first.index(lowest), second.index(lowest))
    items = {order[place] for place in clicked}
    return float(np.sign(len(items & {*second[:k]}) - len(items & {*first[:k]})))


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
