"""The records of the market while auctions are played: prices, and the best purchase in hindsight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from ctrkit.arrays import Floats, Integers
from ctrkit.bidding.market.slots import least_bids, page_prices
from ctrkit.bidding.market.terms import CampaignTerms
from ctrkit.bidding.optimum.hindsight import Optimum, hindsight_optimum, hindsight_optimum_shown
from ctrkit.bidding.optimum.lifetime import lifetime_budgets
from ctrkit.bidding.simulation.columns import GrowingColumns
from ctrkit.bidding.simulation.result import OptimumResult
from ctrkit.bidding.simulation.ticks import Tick
from ctrkit.bidding.strategies.base import best_ad, of_ad

# Rounding lets a sum of spends or shares exceed its limit by at most this share of it.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Hindsight:
    """What a bidder who knew all prices would have bought.

    Attributes:
        bought: the optimum of each episode, or one of all episodes together.
        budgets: the optimum's budget in each episode.
        upper_bound: whether it ignores a limit, so that bidders may not be able to reach it.
    """

    bought: Sequence[Optimum]
    budgets: Sequence[float]
    upper_bound: bool = False

    @property
    def value(self) -> float:
        return sum(one.value for one in self.bought)


class MarketLedger:
    """The records that are the same for every strategy.

    Args:
        terms: the terms on which all bid; the optimum cannot buy above the largest bid either.
        tick: the number of auctions between two updates of the strategies.
    """

    def __init__(self, terms: CampaignTerms, tick: int) -> None:
        self.terms, self.tick = terms, tick
        # All auctions, those worth bidding, and those of them that cost at most the largest bid.
        self.auctions = self.worth = self.within_reach = self.ticks = self.episodes = 0
        self._columns = GrowingColumns()

    def record(self, piece: Tick) -> None:
        """Record a piece of the stream that begins with a tick."""
        auctions, n = piece.auctions, len(piece.auctions)
        best, value = best_ad(auctions.expected_value)
        worth = np.zeros(n, np.intp)
        worth[piece.worth] = 1
        tick = self.ticks + np.maximum(np.cumsum(worth) - 1, 0) // self.tick
        self.worth += len(piece.worth)
        self.auctions += n
        self.ticks = int(tick[-1]) + 1
        self.episodes = piece.episode + 1
        rule, most = self.terms.rule, self.terms.largest_bid
        prices = page_prices(auctions.market_price, auctions.slot_price, rule)
        price, bid = np.maximum(prices, rule.hard_floor), least_bids(prices, rule)
        self.within_reach += int((bid[piece.worth, -1] <= most).sum())
        self._columns.append(
            episode=np.full(n, piece.episode, np.int32),
            tick=tick.astype(np.int32),
            timestamp=auctions.timestamp,
            market_price=auctions.market_price,
            least_price=np.where((bid <= most) & (most > 0), price, np.inf),
            best_value=value,
            best_click=None if auctions.click is None else of_ad(auctions.click, best),
            user=None if self.terms.frequency_cap is None else auctions.user,
        )

    def cheapest(self) -> float:
        """The least price of an impression with a value above 0; infinite if none could be bought."""
        price = self._columns["least_price"].min(axis=1)
        return float(price[self._columns["best_value"] > 0].min(initial=np.inf))

    def frame(self) -> pl.DataFrame:
        """The columns of the events that all strategies share."""
        names = ["episode", "tick", "market_price", *(["timestamp"] if "timestamp" in self._columns else [])]
        return pl.DataFrame({name: self._columns[name] for name in names}).with_row_index("auction")

    def bounds(self) -> list[slice]:
        """The auctions of each episode."""
        starts = np.flatnonzero(np.diff(self._columns["episode"], prepend=-1))
        return [slice(int(a), int(b)) for a, b in zip(starts, [*starts[1:], self.auctions], strict=True)]

    def bound(self) -> Hindsight:
        """An upper bound of the hindsight optimum in closed form, for when the search for it fails: the best
        slot of each auction at the price of the cheapest, without caps and episodes."""
        effects = np.asarray(self.terms.rule.slot_effects)
        price = self._columns["least_price"][:, : len(effects)]
        cost = np.where(np.isfinite(price), price * effects, np.inf).min(axis=1)
        value = np.where(np.isfinite(cost), self._columns["best_value"], 0.0)
        cost = np.where(np.isfinite(cost), cost, 0.0)
        whole = hindsight_optimum(value, cost, self.terms.total(self.episodes))
        return Hindsight([whole], [self.terms.budget] * self.episodes, upper_bound=True)

    def best(self) -> Hindsight:
        """The hindsight optimum.

        With one slot and no frequency cap it is exact, also under a lifetime budget (see `lifetime_budgets`).
        Otherwise there are three programs, each of which ignores a limit:

        - each episode alone ignores caps that last over episodes, and the lifetime budget;
        - all episodes as one ignore the budget of each;
        - the division of a lifetime budget ignores the cap.

        Each is worth at least the optimum. So a solution that keeps all limits is the optimum; if none does,
        the least of them is an upper bound.
        """
        terms, cap, episodes = self.terms, self.terms.frequency_cap, self.bounds()
        one_slot, budgets, plain = terms.rule.slots == 1, [terms.budget] * len(episodes), []
        if one_slot:
            parts = [self.plain(rows) for rows in episodes]
            if terms.lifetime_budget is not None:
                budgets = lifetime_budgets(parts, terms.budget, terms.lifetime_budget)
            plain = [hindsight_optimum(*part, own) for part, own in zip(parts, budgets, strict=True)]
        if one_slot and cap is None:
            return Hindsight(plain, budgets)
        group = None
        if cap is not None:
            group = cap.groups(self._columns.get("user"), self._columns.get("timestamp"))
        found = [[self._shown(slice(0, self.auctions), terms.total(len(episodes)), group)]]
        if len(episodes) > 1:
            found += [
                [self._shown(rows, terms.budget, group) for rows in episodes],
                *([plain] if plain else []),
            ]
        kept = [bought for bought in found if self._keeps(bought, group)]
        least = min(kept or found, key=lambda bought: sum(one.value for one in bought))
        return Hindsight(least, budgets, upper_bound=not kept)

    def _shown(self, rows: slice, budget: float, group: Integers | None) -> Optimum:
        """The optimum of some auctions, with slots and a cap."""
        cap = self.terms.frequency_cap
        return hindsight_optimum_shown(
            self._columns["best_value"][rows],
            self._columns["least_price"][rows],
            budget,
            slot_effects=self.terms.rule.slot_effects,
            group=None if group is None else group[rows],
            most=1 if cap is None else cap.impressions,
        )

    def plain(self, rows: slice) -> tuple[Floats, Floats]:
        """The values of the best ads, and the least prices of the best slots, under any rule. What cannot be
        bought has value 0."""
        value, price = self._columns["best_value"][rows], self._columns["least_price"][rows, 0]
        had = np.isfinite(price)
        return np.where(had, value, 0.0), np.where(had, price, 0.0)

    def _keeps(self, bought: Sequence[Optimum], group: Integers | None) -> bool:
        """Whether a purchase keeps the cap, the budget of every episode and the lifetime budget."""
        terms, effects = self.terms, np.asarray(self.terms.rule.slot_effects)
        share = np.concatenate([one.share if one.slot_share is None else one.slot_share for one in bought])
        share = share.reshape(self.auctions, -1)
        price = np.where(share > 0, self._columns["least_price"][:, : share.shape[1]], 0.0)
        spend = np.bincount(self._columns["episode"], (share * price) @ effects[: share.shape[1]])
        most = 1.0 + _ROUNDING
        within = spend.max() <= most * terms.budget and spend.sum() <= most * terms.total(len(spend))
        if group is None or terms.frequency_cap is None:
            return bool(within)
        shown = np.bincount(group, share.sum(axis=1))
        return bool(within and shown.max() <= most * terms.frequency_cap.impressions)

    def optimum(self, best: Hindsight) -> OptimumResult:
        """The hindsight optimum's sums."""
        effects = np.asarray(self.terms.rule.slot_effects)
        seen = np.concatenate(
            [one.share if one.slot_share is None else one.slot_share @ effects for one in best.bought]
        )
        return OptimumResult(
            wins=sum(float(one.share.sum()) for one in best.bought),
            clicks=float(seen @ self._columns["best_click"]) if "best_click" in self._columns else None,
            spend=sum(one.spend for one in best.bought),
            value=best.value,
            multiplier=best.bought[0].multiplier if self.episodes == 1 else None,
            budget_binds=any(one.multiplier > 0 for one in best.bought),
            upper_bound=best.upper_bound,
        )
