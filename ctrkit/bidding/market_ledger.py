"""What the market writes down while auctions are played: prices, and the best that could have been bought."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ctrkit.bidding.columns import Columns
from ctrkit.bidding.hindsight import Optimum, hindsight_optimum, hindsight_optimum_shown
from ctrkit.bidding.lifetime import lifetime_budgets
from ctrkit.bidding.result import OptimumResult
from ctrkit.bidding.slots import page_prices
from ctrkit.bidding.strategies.base import best_ad, of_ad
from ctrkit.bidding.terms import Terms
from ctrkit.bidding.ticks import Tick

Floats: TypeAlias = NDArray[np.float64]


class MarketLedger:
    """What is the same for every strategy.

    Args:
        terms: on which all bid; what is dearer than the largest bid cannot be bought, by the optimum either.
        tick: auctions between two updates of the strategies.
    """

    def __init__(self, terms: Terms, tick: int) -> None:
        self.terms, self.tick = terms, tick
        self.auctions = self.ticks = self.episodes = 0
        self._columns = Columns()

    def record(self, piece: Tick) -> None:
        """Write down a piece of the stream, that begins with a tick."""
        auctions, n = piece.auctions, len(piece.auctions)
        best, value = best_ad(auctions.expected_value)
        tick = self.ticks + np.arange(n, dtype=np.int32) // self.tick
        self.auctions += n
        self.ticks = int(tick[-1]) + 1
        self.episodes = piece.episode + 1
        rule = self.terms.rule
        price = np.maximum(page_prices(auctions.market_price, auctions.slot_price, rule), rule.hard_floor)
        self._columns.append(
            episode=np.full(n, piece.episode, np.int32),
            tick=tick.astype(np.int32),
            timestamp=auctions.timestamp,
            market_price=auctions.market_price,
            least_price=np.where(price <= self.terms.largest_bid, price, np.inf),
            best_value=value,
            best_click=None if auctions.click is None else of_ad(auctions.click, best),
            user=None if self.terms.frequency_cap is None else auctions.user,
        )

    def frame(self) -> pl.DataFrame:
        """The columns of the events that all strategies share."""
        names = ["episode", "tick", "market_price", *(["timestamp"] if "timestamp" in self._columns else [])]
        return pl.DataFrame({name: self._columns[name] for name in names}).with_row_index("auction")

    def bounds(self) -> list[slice]:
        """The auctions of each episode."""
        starts = np.flatnonzero(np.diff(self._columns["episode"], prepend=-1))
        return [slice(int(a), int(b)) for a, b in zip(starts, [*starts[1:], self.auctions], strict=True)]

    def optima(self) -> list[tuple[Optimum, float]]:
        """The hindsight optimum of every episode, and its budget.

        A lifetime budget is divided as if there were one slot and no frequency cap. Impressions of a user in
        several episodes do not count together.
        """
        episodes, budget = self.bounds(), self.terms.budget
        budgets = [budget] * len(episodes)
        if self.terms.lifetime_budget is not None:
            parts = [self.plain(rows) for rows in episodes]
            budgets = lifetime_budgets(parts, budget, self.terms.lifetime_budget)
        return [(self._optimum(rows, own), own) for rows, own in zip(episodes, budgets, strict=True)]

    def plain(self, rows: slice) -> tuple[Floats, Floats]:
        """Values of the best ads, and prices at which the best slots could be had: by a bid of just so much,
        whatever the rule. What cannot be had is worth nothing."""
        value, price = self._columns["best_value"][rows], self._columns["least_price"][rows, 0]
        had = np.isfinite(price)
        return np.where(had, value, 0.0), np.where(had, price, 0.0)

    def _optimum(self, rows: slice, budget: float) -> Optimum:
        cap, effects = self.terms.frequency_cap, self.terms.rule.slot_effects
        if cap is None and len(effects) == 1:
            return hindsight_optimum(*self.plain(rows), budget)
        value, price = self._columns["best_value"][rows], self._columns["least_price"][rows]
        if cap is None:
            return hindsight_optimum_shown(value, price, budget, slot_effects=effects)
        user, timestamp = (self._columns.get(name) for name in ("user", "timestamp"))
        group = cap.groups(
            None if user is None else user[rows], None if timestamp is None else timestamp[rows]
        )
        return hindsight_optimum_shown(
            value, price, budget, slot_effects=effects, group=group, most=cap.impressions
        )

    def optimum(self, solved: list[tuple[Optimum, float]]) -> OptimumResult:
        """The optima of all episodes, added up."""
        each = [one for one, _ in solved]
        effects = np.asarray(self.terms.rule.slot_effects)
        seen = np.concatenate(
            [one.share if one.slot_share is None else one.slot_share @ effects for one in each]
        )
        return OptimumResult(
            wins=sum(float(one.share.sum()) for one in each),
            clicks=float(seen @ self._columns["best_click"]) if "best_click" in self._columns else None,
            spend=sum(one.spend for one in each),
            value=sum(one.value for one in each),
            multiplier=each[0].multiplier if len(each) == 1 else None,
            budget_binds=any(one.multiplier > 0 for one in each),
        )
