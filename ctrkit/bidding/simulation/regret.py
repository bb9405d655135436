"""How a strategy did: KPIs, and where it lost value against the hindsight optimum."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np

from ctrkit.arrays import Booleans, Floats

# A multiplier above it, of impressions that are almost free, counts as this one.
_MOST = 1e150
# Rounding of sums may leave this share of a budget that is spent completely.
NOTHING = 1e-12


@dataclass(frozen=True)
class Kpis:
    """Counts, money and ratios; None where the log does not tell, or the ratio would divide by 0.

    Attributes:
        auctions: number of auctions.
        bids: number of bids above 0.
        wins: number of auctions won.
        clicks: number of clicks on what was won.
        conversions: number of conversions on what was won.
        value: expected value of what was won.
        earned: money earned with what was won.
        spend: money paid.
        win_rate: wins / auctions.
        bid_win_rate: wins / bids; auctions without a bid do not lower it.
        budget_used: spend / budget.
        cost_per_click: eCPC, spend / clicks.
        cost_per_mille: eCPM, the cost of a thousand impressions, 1000 · spend / wins.
        cost_per_action: CPA, spend / conversions.
        return_on_spend: ROAS, earned / spend; it uses earned money, since expected value need not be money.
        share_of_optimum: value / value of the hindsight optimum.
        regret: value of the hindsight optimum less value.
    """

    auctions: int
    bids: int
    wins: int
    clicks: float | None
    conversions: float | None
    value: float
    earned: float | None
    spend: float
    win_rate: float | None
    bid_win_rate: float | None
    budget_used: float | None
    cost_per_click: float | None
    cost_per_mille: float | None
    cost_per_action: float | None
    return_on_spend: float | None
    share_of_optimum: float | None
    regret: float

    @classmethod
    def of(
        cls,
        *,
        auctions: int,
        bids: int,
        wins: int,
        value: float,
        spend: float,
        budget: float,
        optimum: float,
        clicks: float | None = None,
        conversions: float | None = None,
        earned: float | None = None,
        **further: Any,
    ) -> Self:
        """The ratios of these sums over all episodes.

        Args:
            auctions: number of auctions.
            bids: number of bids above 0.
            wins: number of auctions won.
            value: expected value of what was won.
            spend: money paid.
            budget: money that could be spent.
            optimum: value of the hindsight optimum.
            clicks: number of clicks, None if unknown.
            conversions: number of conversions, None if unknown.
            earned: money earned, None if unknown.
            further: the fields that a subclass adds.
        """
        return cls(
            auctions, bids, wins, clicks, conversions, value, earned, spend,
            win_rate=_ratio(wins, auctions),
            bid_win_rate=_ratio(wins, bids),
            budget_used=_ratio(spend, budget),
            cost_per_click=_ratio(spend, clicks),
            cost_per_mille=_ratio(1000.0 * spend, wins),
            cost_per_action=_ratio(spend, conversions),
            return_on_spend=_ratio(earned, spend),
            share_of_optimum=_ratio(value, optimum),
            regret=optimum - value,
            **further,
        )  # fmt: skip


def _ratio(part: float | None, whole: float | None) -> float | None:
    """part / whole; None if one is unknown, or if the ratio is not finite since whole is 0 or nearly so."""
    ratio = part / whole if part is not None and whole else np.inf
    return ratio if np.isfinite(ratio) else None


@dataclass(frozen=True)
class RegretSplit:
    """The value of the hindsight optimum less the value of what was won, by cause.

    All parts but the last are at least 0.

    Attributes:
        allocation: an auction was won with another ad than the best.
        estimation: an auction was won too dearly, or lost, because the bidder's value estimate was wrong.
        overbidding: an auction was won at more than its value divided by the optimum's multiplier.
        underbidding: an auction was lost that costs less than that, although there was money for it.
        exhausted: such an auction was lost because no money was left for it.
        overpaying: more was paid than the least winning price, in first-price auctions and below soft floors.
        unspent: money was left over, times the optimum's value per unit of money; below 0 where an episode
            spent more than the optimum of all episodes spends in it.
    """

    allocation: float = 0.0
    estimation: float = 0.0
    overbidding: float = 0.0
    underbidding: float = 0.0
    exhausted: float = 0.0
    overpaying: float = 0.0
    unspent: float = 0.0

    @property
    def total(self) -> float:
        """The regret, the sum of all parts."""
        return float(sum(getattr(self, part) for part in PARTS))

    def __add__(self, other: RegretSplit) -> RegretSplit:
        """The split of two episodes together."""
        return RegretSplit(*(getattr(self, part) + getattr(other, part) for part in PARTS))


PARTS = tuple(field.name for field in fields(RegretSplit))


def split_regret(
    *,
    best_value: Floats,
    least_price: Floats,
    chosen_value: Floats,
    estimate: Floats,
    amount: Floats,
    won: Booleans,
    paid: Floats,
    multiplier: float,
    budget: float,
    own_budget: float | None = None,
) -> RegretSplit:
    """Split the regret of one episode, whose n auctions are in order.

    By duality the hindsight optimum is worth V* = μ·B + Σ (v − μ·z)⁺, with the value v of the best ad, the
    least winning price z and the optimum's multiplier μ; an auction that it buys in part has v = μ·z and adds
    nothing. So for a bidder that won the values w for the prices p, with [won] 1 or 0,

        V* − V = μ·(B − Σ p) + Σ {(v − μ·z)⁺ − [won]·(w − μ·p)}.

    The term of a won auction is (v − w) + μ·(p − z) + (μ·z − v)⁺: allocation, overpaying, overbidding. The
    term of a lost auction is (v − μ·z)⁺: exhausted if z is above the money left, else underbidding. The parts
    add up to V* − V exactly.

    Estimation is then taken out of over- and underbidding. A bid b for an estimate v̂ implies the bidder's own
    multiplier v̂/b. With the right values of all ads it would have bid b' = b·v/v̂. An overbid that b' would
    have lost, and an underbid that b' would have won, count as estimation; the others are due to the
    multiplier. For a bid of 0, or an estimate of 0, b' is the bid itself. Bids of every strategy are treated
    as proportional to values.

    Jeunen et al. define allocation, estimation, over- and underbid regret without a budget, that is with
    μ = 1. Their estimation regret, Σ (v̂ − w), is a separate bias; here estimation is a part of the whole.

    Args:
        best_value: v, [n], the value of the best ad; 0 where no permitted bid reaches the price.
        least_price: z, [n], the least price of the auction: the market price, or a higher hard floor.
        chosen_value: w, [n], the true value of the chosen ad; only read where won.
        estimate: v̂, [n], the bidder's estimate of the value of its ad.
        amount: b, [n], what it wanted to bid, before the largest bid and the budget capped it.
        won: [n], bool.
        paid: [n], the price where won, else 0.
        multiplier: μ of the hindsight optimum, 0 where the budget does not bind.
        budget: the optimum's budget in this episode.
        own_budget: the bidder's budget in this episode; by default the same. It may differ under a lifetime
            budget.

    Source: linear-programming duality of the knapsack in `hindsight_optimum`; O. Jeunen, S. Murphy,
    B. Allison, Learning to bid with AuctionGym, AdKDD 2022.
    """
    multiplier = min(multiplier, _MOST)
    gain = best_value - multiplier * least_price
    correction = np.ones_like(amount)  # exactly 1 for a right estimate, so that no bid moves
    with np.errstate(over="ignore"):  # for a tiny estimate the right bid may be infinite
        np.divide(best_value, estimate, out=correction, where=(amount > 0) & (estimate > 0))
        right = amount * correction
    # A lost auction costs nothing, so the money left after it is the money left before it.
    whole = budget if own_budget is None else own_budget
    left = whole - np.cumsum(paid)
    # With no money left, apart from rounding, there is no bid, not even on free impressions.
    short = (least_price > left) | (left <= NOTHING * whole)

    overbid = np.where(won, np.maximum(-gain, 0.0), 0.0)
    underbid = np.where(won, 0.0, np.maximum(gain, 0.0))
    misjudged_up = right < least_price
    misjudged_down = ~short & (amount < least_price) & (right >= least_price)
    return RegretSplit(
        allocation=float((best_value - chosen_value)[won].sum()),
        estimation=float(overbid[misjudged_up].sum() + underbid[misjudged_down].sum()),
        overbidding=float(overbid[~misjudged_up].sum()),
        underbidding=float(underbid[~short & ~misjudged_down].sum()),
        exhausted=float(underbid[short].sum()),
        overpaying=float(multiplier * (paid - least_price)[won].sum()),
        unspent=float(multiplier * (budget - paid.sum())),
    )
