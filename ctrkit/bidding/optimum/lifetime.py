"""One budget over many episodes, each with its own limit: how the best bidder would divide it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ctrkit.arrays import Floats


def lifetime_budgets(
    episodes: Sequence[tuple[Floats, Floats]], budget: float, lifetime_budget: float
) -> list[float]:
    """The budget that the hindsight optimum of all episodes together has in each.

    It is `budget` in every episode if the lifetime budget does not bind. The optimum maximises  Σ v x
    subject to  Σ p x ≤ budget  in each episode,  ≤ lifetime_budget  in total, and  0 ≤ x ≤ 1. The limits are
    nested, so their polytope is a polymatroid, and it is optimal to buy by value per unit of money as long
    as both limits leave room.

    Args:
        episodes: values [n] and prices [n] of the auctions of each episode.
        budget: the budget of each episode, in units of money.
        lifetime_budget: the budget of all episodes together, in units of money.

    Source: J. Edmonds, Submodular functions, matroids, and certain polyhedra, 1970 (the greedy algorithm).
    """
    ratios, spends = [], []
    for value, price in episodes:
        wanted = (value > 0) & (price > 0)
        with np.errstate(over="ignore"):
            ratio = value[wanted] / price[wanted]
        order = np.argsort(-ratio, kind="stable")
        within = np.minimum(np.cumsum(price[wanted][order]), budget)
        ratios.append(ratio[order])
        spends.append(np.diff(within, prepend=0.0))
    if sum(float(spend.sum()) for spend in spends) <= lifetime_budget:
        return [budget] * len(episodes)
    owner = np.repeat(np.arange(len(episodes)), [len(one) for one in spends])
    order = np.argsort(-np.concatenate(ratios), kind="stable")
    within = np.minimum(np.cumsum(np.concatenate(spends)[order]), lifetime_budget)
    spent = np.bincount(owner[order], np.diff(within, prepend=0.0), minlength=len(episodes))
    return [float(one) for one in spent]
