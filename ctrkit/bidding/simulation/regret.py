"""How a strategy did: the trade's ratios, and where it lost value against the hindsight optimum."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np

from ctrkit.arrays import Booleans, Floats

# A multiplier above it, of what is next to free, counts as this one.
_MOST = 1e150
# This part of a budget is what the rounding of sums leaves of none.
NOTHING = 1e-12


@dataclass(frozen=True)
class Kpis:
    """Counts, money and the ratios that the trade goes by; None where a log does not know or nothing divides.

    Attributes:
        auctions, bids, wins: how many; a bid is one submitted above 0.
        clicks, conversions: that happened on what was won.
        value: expected value of what was won.
        earned: money that came in on it.
        spend: in units of money.
        win_rate: wins / auctions.
        bid_win_rate: wins / bids, which sitting out does not lower.
        budget_used: spend / budget.
        cost_per_click: eCPC, spend / clicks.
        cost_per_mille: eCPM, the cost of a thousand impressions, 1000 · spend / wins.
        cost_per_action: CPA, spend / conversions.
        return_on_spend: ROAS, earned / spend: of money that came in, for expected value need not be money.
        share_of_optimum: value / value of the hindsight optimum.
        regret: that value less this one.
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
            optimum: value of the hindsight optimum.
            further: what a class derived from this one holds besides.
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
    """None where it is not known or not finite: whole is 0, or so small that it may as well be."""
    ratio = part / whole if part is not None and whole else np.inf
    return ratio if np.isfinite(ratio) else None


@dataclass(frozen=True)
class RegretSplit:
    """The value of the hindsight optimum less that of what was won, by its causes.

    All parts but the last are at least 0.

    Attributes:
        allocation: won with another ad than the best.
        estimation: bought too dear, or left to others, where the same bidder with right values would not.
        overbidding: bought what costs more than its value at the optimum's multiplier.
        underbidding: left to others what costs less than that, with the money for it.
        exhausted: likewise, but there was no longer the money for it.
        overpaying: paid more than the least price that wins, in first-price auctions and below soft floors.
        unspent: money left over, at the value that a unit of it buys in the optimum; below 0 where an episode
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
        """The regret."""
        return float(sum(getattr(self, part) for part in PARTS))

    def __add__(self, other: RegretSplit) -> RegretSplit:
        """That of two episodes together."""
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
    """Split the regret of one episode, whose n auctions come in order.

    By duality the hindsight optimum is worth V* = μ·B + Σ (v − μ·z)⁺ for the value v of the best ad, the
    least price z that wins and the optimum's multiplier μ; what it buys in part has v = μ·z and adds nothing.
    So for a bidder that won the values w for the prices p, with [won] 1 or 0,

        V* − V = μ·(B − Σ p) + Σ {(v − μ·z)⁺ − [won]·(w − μ·p)}.

    The term of a won auction is (v − w) + μ·(p − z) + (μ·z − v)⁺: allocation, overpaying, overbidding. That
    of a lost one is (v − μ·z)⁺: exhausted where z is above what is left of the budget, else underbidding.
    The parts add up to V* − V exactly.

    Estimation is taken out of over- and underbidding. A bid b for an estimate v̂ sets the bidder's own
    multiplier, v̂/b; with right values of all ads it would have bid b' = b·v/v̂. An overbid that b' would have
    lost, and an underbid that b' would have won, is estimation; one that b' shares is the multiplier's. To
    bids that are 0, or on no value, b' is the bid itself. A strategy whose bids are not proportional to
    values is taken to be so at each bid.

    Jeunen et al. have allocation, estimation, over- and underbid regret without a budget: μ = 1. Their
    estimation regret, Σ (v̂ − w), is a bias beside the other parts; here it is a part of the same whole.

    Args:
        best_value: v, [n], of the ad worth most; 0 where no bid may reach the price.
        least_price: z, [n], at which an auction can be had: the market price, or the hard floor above it.
        chosen_value: w, [n], the true value of the chosen ad; looked at where won.
        estimate: v̂, [n], what the bidder took its ad to be worth.
        amount: b, [n], what it wanted to bid, before the largest bid and the budget cut it.
        won, paid: [n].
        multiplier: μ of the hindsight optimum, 0 where the budget does not bind.
        budget: of the optimum in this episode.
        own_budget: what the bidder itself could spend in it, where that is another amount, as under a
            lifetime budget.

    Source: linear-programming duality of the knapsack in `hindsight_optimum`; O. Jeunen, S. Murphy,
    B. Allison, Learning to bid with AuctionGym, AdKDD 2022.
    """
    multiplier = min(multiplier, _MOST)
    gain = best_value - multiplier * least_price
    correction = np.ones_like(amount)  # of a right estimate 1 to the last bit, so that no bid moves
    with np.errstate(over="ignore"):  # a right bid beside one of next to nothing may be infinite
        np.divide(best_value, estimate, out=correction, where=(amount > 0) & (estimate > 0))
        right = amount * correction
    # At a lost auction, where nothing is paid, what is left after it is what was left before.
    whole = budget if own_budget is None else own_budget
    left = whole - np.cumsum(paid)
    # With nothing left, but for what rounding leaves, there is no bid, not even on what is free.
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
