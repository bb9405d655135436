"""Bidding as a Markov decision process (RLB): bids from a table of the value of money and time left."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from pydantic import Field

from ctrkit.arrays import Floats, Indices
from ctrkit.bidding.market.auctions import Slots
from ctrkit.bidding.market.terms import CampaignTerms
from ctrkit.bidding.strategies.base import (
    AuctionHistory,
    Bids,
    BidStrategy,
    TickResult,
    best_ad,
    check_history,
)
from ctrkit.bidding.strategies.scaled import PACER, Search
from ctrkit.compiled import kernel
from ctrkit.settings import Positive, checked

_LEVELS = 300
_TOP_SHARE = 0.995
_MOST_CELLS = 2**21  # 16 MiB


@kernel("void(f8[:, ::1], f8[::1], f8)", "table: R+1 C+1; chance: L+1", reorder=True)
def fill(table: Floats, chance: Floats, value: float) -> None:
    """Fill V [R + 1, C + 1] from its row and column 0.

    Args:
        table: V.
        chance: [levels + 1], the probability of a market price of δ units.
        value: v̄, the mean value of an impression.
    """
    highest = chance.shape[0] - 1
    for t in range(1, table.shape[0]):
        least = 0  # the least money that may be left; it grows with b, as V does
        for b in range(1, table.shape[1]):
            here = table[t - 1, b]
            while value + table[t - 1, least] - here < 0.0:
                least += 1
            # The value won less the value that the money would have brought later.
            gain = 0.0
            for price in range(min(b - least, highest) + 1):
                gain += chance[price] * (value + table[t - 1, b - price] - here)
            table[t, b] = here + gain


@kernel(
    "void(f8[:, ::1], i8[::1], i8[::1], f8[::1], i8, f8[::1])",
    "table: R+1 C+1; row: N; column: N; value: N; bids: N",
)
def search(table: Floats, row: Indices, column: Indices, value: Floats, levels: int, bids: Floats) -> None:
    """Fill bids [n] with the largest δ ≤ levels for which v + V(t, b − δ) − V(t, b) ≥ 0, by bisection."""
    for i in range(bids.shape[0]):
        t, b = row[i], column[i]
        here = table[t, b]
        low, high = 0, min(b, levels)
        while low < high:
            middle = (low + high + 1) // 2
            if value[i] + (table[t, b - middle] - here) >= 0.0:
                low = middle
            else:
                high = middle - 1
        bids[i] = low


@dataclass(frozen=True, eq=False)
class ValueTable:
    """V(t, b): the expected value of t more auctions to a bidder with b units of money.

        V(t, b) = V(t − 1, b) + Σ_δ m(δ) · max(v̄ + V(t − 1, b − δ) − V(t − 1, b), 0)

    over the market prices δ ≤ b, with m their distribution and v̄ the mean value of an impression.

    A table has room for R auctions and C units. A state with more auctions counts as one of R auctions with
    the same money per auction, which is the coarse mapping of the paper. A state with more money counts as
    one of C units.

    Attributes:
        value: V, [R + 1, C + 1].
        unit: the size of the table's steps of money, in the caller's units of money.
        levels: the highest bid, in steps.
        mean: v̄.
    """

    value: Floats
    unit: float
    levels: int
    mean: float

    @classmethod
    def solve(
        cls, history: AuctionHistory, budget: float, auctions: int, unit: float | None, highest: float | None
    ) -> Self:
        """The table of an episode.

        Args:
            history: past prices and values.
            budget: the budget of the episode.
            auctions: the number of auctions of the episode.
            unit: the size of a step of money; by default a 300th of the highest bid.
            highest: the highest bid; by default above all but 1 in 200 of the known prices.
        """
        if highest is None:
            highest = _above_nearly_all(history)
        # If all prices are 0, any unit works.
        unit = unit or highest / _LEVELS or 1.0
        levels = max(int(highest / unit + 1e-9), 1)
        money = max(int(min(budget / unit + 1e-9, 2.0**52)), 1)
        rows = min(auctions, max(_MOST_CELLS // money, int(np.sqrt(_MOST_CELLS / levels)), 1))
        table = np.zeros((rows + 1, min(money, rows * levels) + 1))
        mean = float(history.value.mean())
        # Without money only free auctions can be won; smoothing must not add any where none were seen.
        free = float((history.known & (history.market_price == 0)).mean())
        table[:, 0] = np.arange(rows + 1) * free * mean
        fill(table, price_chances(history, unit, levels), mean)
        return cls(table, unit, levels, mean)

    def bids(self, auctions_left: Floats, budget: float, value: Floats) -> Floats:
        """The highest prices, in units of money, at which each slot is worth buying, [n].

        Args:
            auctions_left: [n], the auctions left after each slot.
            budget: the money left before all of them.
            value: [n], the value of each slot.
        """
        rows, columns = self.value.shape[0] - 1, self.value.shape[1] - 1
        row = np.minimum(auctions_left, rows).astype(np.intp)
        money = budget / self.unit * row / np.maximum(auctions_left, 1)
        column = np.minimum(money + 1e-9, columns).astype(np.intp)
        column[row == 0] = int(min(budget / self.unit + 1e-9, columns))
        bids = np.empty(len(value))
        search(self.value, row, column, value, self.levels, bids)
        return bids * self.unit


def _above_nearly_all(history: AuctionHistory) -> float:
    """A bid above all but 1 in 200 of the known prices."""
    return float(np.quantile(history.market_price[history.known], _TOP_SHARE))


def price_chances(history: AuctionHistory, unit: float, levels: int) -> Floats:
    """The distribution of market prices [levels + 1] over whole units, rounded up; higher prices count too.

    It is the estimator of Kaplan and Meier, in which a lost bid says that the price was higher. If all prices
    are known, it gives their frequencies. One observation of each level is added (Laplace), as in the
    published experiments.

    Source: E. Kaplan, P. Meier, Nonparametric estimation from incomplete observations, JASA 53 (1958).
    """
    known, n = history.known, len(history)
    steps = history.market_price / unit
    # Rounding must not lift a price that is a whole number of units.
    price = np.ceil(steps[known] - 1e-9).clip(0, levels + 1).astype(np.intp)
    lost = np.floor(steps[~known] + 1e-9).clip(0, levels + 1).astype(np.intp)
    bought = np.bincount(price, minlength=levels + 2)
    beaten = np.bincount(lost, minlength=levels + 2)
    # A bid that lost at this level shows that the price is above it, and does not count at the next level.
    at_risk = n - np.concatenate(([0], np.cumsum(bought + beaten)[:-1]))
    hazard = np.divide(bought, at_risk, out=np.zeros(levels + 2), where=at_risk > 0)
    survival = np.concatenate(([1.0], np.cumprod(1.0 - hazard)))
    chance = (survival[:-1] * hazard)[: levels + 1]
    return np.asarray((chance * n + 1.0) / (n + levels + 1))


@dataclass(frozen=True)
class RlbState:
    """The budget and time that are left, and what is known of the market.

    Attributes:
        search: the search of the first tenth; its pace is that of the episode also afterwards, while its
            multiplier is only used in the search.
        seen: the ticks of the search.
        history: the history from which the table was made; None before the table.
        table: the table; None during the search.
    """

    search: Search
    seen: tuple[AuctionHistory, ...] = ()
    history: AuctionHistory | None = None
    table: ValueTable | None = None


@checked
class RlbBidding(BidStrategy[RlbState]):
    """The optimal bid by dynamic programming, for independent and identically distributed market prices:

        b = max{δ : v + V(t − 1, B − δ) − V(t − 1, B) ≥ 0}

    with the impression's own value v (see `ValueTable`). Within a tick t counts on, and B is the money left
    at the start of the tick.

    Source: H. Cai, K. Ren, W. Zhang, K. Malialis, J. Wang, Y. Yu, D. Guo, Real-time bidding by reinforcement
    learning in display advertising, WSDM 2017, arXiv 1701.02490.

    Attributes:
        history: past market prices and values (see `tuned`). By default those of the first tenth of the
            auctions, where bids are paced evenly.
        in_all: number of auctions of all episodes together; by default the first episode has them all.
    """

    name = "rlb"
    knows_rules = False
    unit: Positive | None = Field(
        default=None,
        description="size of the table's steps of money; by default a 300th of the highest bid",
    )
    highest_bid: Positive | None = Field(
        default=None,
        description="the highest bid, in units of money; by default above all but 1 in 200 known prices",
    )
    history: AuctionHistory | None = Field(default=None, exclude=True)
    in_all: int | None = Field(default=None, kw_only=True, exclude=True)

    def expecting(self, auctions: int) -> Self:
        return replace(self, in_all=auctions)

    def start(self, budget: float, auctions: int) -> RlbState:
        state = RlbState(Search.of(budget, auctions, self.in_all))
        return state if self.history is None else self._solved(state, self.history)

    def restart(self, state: RlbState, budget: float, auctions: int) -> RlbState:
        if state.table is None:
            return replace(state, search=state.search.restart(budget, auctions))
        return replace(state, search=replace(state.search, pace=PACER.start(budget, auctions)))

    def bid(self, state: RlbState, slots: Slots, rng: np.random.Generator) -> Bids:
        ad, value = best_ad(slots.value)
        pace = state.search.pace
        if state.table is None:
            return Bids(ad, PACER.bid(pace, value), value, PACER.multiplier(pace, value))
        after = np.maximum(pace.auctions_left - np.arange(1.0, len(value) + 1), 0.0)
        return Bids(ad, state.table.bids(after, pace.remaining, self.counted(value, state.table)), value)

    def counted(self, value: Floats, table: ValueTable) -> Floats:
        """The values [n] that decide the bids."""
        return value

    def update(self, state: RlbState, result: TickResult) -> RlbState:
        spend = float(result.paid.sum())
        if state.table is not None:
            pace = state.search.pace
            left = pace.auctions_left - len(result.paid)
            pace = replace(pace, remaining=pace.remaining - spend, auctions_left=left)
            return replace(state, search=replace(state.search, pace=pace))
        search = state.search.after(result.bids.value, spend)
        after = replace(state, search=search, seen=(*state.seen, AuctionHistory.from_tick(result)))
        if search.going_on:
            return after
        history = AuctionHistory.joined(after.seen)
        return self._solved(after, history) if history.known.any() else after

    def tuned(self, history: AuctionHistory, terms: CampaignTerms, auctions: int) -> Self:
        check_history(self.name, history)
        past, highest = history.under(terms), self.highest_bid
        if terms.max_bid is not None:
            highest = min(highest or _above_nearly_all(past), terms.max_bid)
        return replace(self, history=past, highest_bid=highest or self.highest_bid)

    def _solved(self, state: RlbState, history: AuctionHistory) -> RlbState:
        # The table of a whole episode also serves the next ones.
        pace = state.search.pace
        budget, auctions = pace.flat * pace.auctions, max(pace.auctions, 1)
        table = ValueTable.solve(history, budget, auctions, self.unit, self.highest_bid)
        return replace(state, seen=(), history=history, table=table)


@checked
class SsMdpBidding(RlbBidding):
    """`rlb` with the mean value in place of the impression's own value.

    Source: J. Amin, M. Kearns, P. Key, A. Schwaighofer, Budget optimization for sponsored search: censored
    learning in MDPs, UAI 2012.
    """

    name = "ss-mdp"

    def counted(self, value: Floats, table: ValueTable) -> Floats:
        return np.full(len(value), table.mean)
