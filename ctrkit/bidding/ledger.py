"""What is written down while auctions are played: by the market for all, and by each strategy for itself."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ctrkit.bidding.auctions import Auctions
from ctrkit.bidding.clearing import Cleared, clear
from ctrkit.bidding.every_auction import replay_paced
from ctrkit.bidding.hindsight import hindsight_optimum
from ctrkit.bidding.result import OptimumResult, StrategyResult
from ctrkit.bidding.rules import AuctionRule
from ctrkit.bidding.strategies import BidStrategy, DualBidding, TickResult
from ctrkit.bidding.strategies.base import Indices, Outcomes, best_ad, of_ad
from ctrkit.bidding.ticks import Tick

Floats: TypeAlias = NDArray[np.float64]


class _Columns:
    """Named columns that grow by a piece a tick; a column that the log does not know stays away."""

    def __init__(self) -> None:
        self._pieces: defaultdict[str, list[NDArray[Any]]] = defaultdict(list)

    def append(self, **pieces: NDArray[Any] | None) -> None:
        for name, piece in pieces.items():
            if piece is not None:
                self._pieces[name].append(piece)

    def __contains__(self, name: str) -> bool:
        return name in self._pieces

    def __getitem__(self, name: str) -> NDArray[Any]:
        if len(self._pieces[name]) > 1:
            self._pieces[name] = [np.concatenate(self._pieces[name])]
        return self._pieces[name][0]


class MarketLedger:
    """What is the same for every strategy: prices, and the best that could have been bought.

    Args:
        max_bid: largest bid; what is dearer cannot be bought, by the optimum either.
        rule: of the exchange.
        tick: auctions between two updates of the strategies.
    """

    def __init__(self, max_bid: float, rule: AuctionRule, tick: int) -> None:
        self.max_bid, self.rule, self.tick = max_bid, rule, tick
        self.auctions = self.ticks = self.episodes = 0
        self._columns = _Columns()

    def record(self, piece: Tick) -> None:
        """Write down a piece of the stream, that begins with a tick."""
        auctions, n = piece.auctions, len(piece.auctions)
        best, value = best_ad(auctions.expected_value)
        tick = self.ticks + np.arange(n, dtype=np.int32) // self.tick
        self.auctions += n
        self.ticks = int(tick[-1]) + 1
        self.episodes = piece.episode + 1
        self._columns.append(
            episode=np.full(n, piece.episode, np.int32),
            tick=tick.astype(np.int32),
            timestamp=auctions.timestamp,
            market_price=auctions.market_price,
            best_value=np.where(self._least_price(auctions.market_price) <= self.max_bid, value, 0.0),
            best_click=None if auctions.click is None else of_ad(auctions.click, best),
        )

    def frame(self) -> pl.DataFrame:
        """The columns of the events that all strategies share."""
        names = ["episode", "tick", "market_price", *(["timestamp"] if "timestamp" in self._columns else [])]
        return pl.DataFrame({name: self._columns[name] for name in names}).with_row_index("auction")

    def _least_price(self, market_price: Floats) -> Floats:
        """At what the impressions can be had: by a bid of just so much, whatever the rule."""
        return np.maximum(market_price, self.rule.hard_floor)

    def optimum(self, budget: float) -> OptimumResult:
        """The hindsight optimum of every episode, added up."""
        price, value = self._least_price(self._columns["market_price"]), self._columns["best_value"]
        starts = np.flatnonzero(np.diff(self._columns["episode"], prepend=-1))
        bounds = zip(starts, [*starts[1:], len(price)], strict=True)
        solved = [hindsight_optimum(value[a:b], price[a:b], budget) for a, b in bounds]
        share = np.concatenate([one.share for one in solved])
        return OptimumResult(
            wins=float(share.sum()),
            clicks=float(share @ self._columns["best_click"]) if "best_click" in self._columns else None,
            spend=sum(one.spend for one in solved),
            value=sum(one.value for one in solved),
            multiplier=solved[0].multiplier if len(solved) == 1 else None,
            budget_binds=any(one.multiplier > 0 for one in solved),
        )


class StrategyLedger:
    """Plays one strategy, and writes down what it did.

    Args:
        name: under which it is reported.
        seed: of its draws; strategies of the same seed draw the same numbers.
        tick: auctions between two updates.
    """

    def __init__(self, name: str, strategy: BidStrategy[Any], seed: int, tick: int) -> None:
        self.name, self.strategy, self.tick = name, strategy, tick
        self._rng = np.random.default_rng(seed)
        self._state: Any = None
        self._spent, self._spent_before = 0.0, 0.0  # in this episode, and in those before
        self._columns = _Columns()

    def begin_episode(self, budget: float, auctions: int, first: bool) -> None:
        """Start pacing afresh; what was learnt stays."""
        start = self.strategy.start
        self._state = (
            start(budget, auctions) if first else self.strategy.restart(self._state, budget, auctions)
        )
        self._spent_before += self._spent
        self._spent = 0.0

    def play(
        self, auctions: Auctions, budget: float, max_bid: float, integer_bids: bool, rule: AuctionRule
    ) -> None:
        """Bid on auctions tick by tick: clear each tick, and learn from it."""
        # By type, for a strategy that derives from this one bids in another way.
        if self.tick == 1 and type(self.strategy) is DualBidding and auctions.click_probability.shape[1] == 1:
            replayed = replay_paced(
                auctions.slots.value[:, 0], auctions.market_price, self.strategy.pacer, self._state,
                budget=budget, spent=self._spent, max_bid=max_bid, integer_bids=integer_bids, rule=rule,
            )  # fmt: skip
            self._state = replayed.pace
            if replayed.cleared is not None and replayed.multiplier is not None:
                ad = np.zeros(len(auctions), np.intp)
                self._record(auctions, ad, replayed.cleared, replayed.multiplier)
            return
        for start in range(0, len(auctions), self.tick):
            now = auctions[start : start + self.tick]
            slots = now.slots
            bids = self.strategy.bid(self._state, slots, self._rng)
            price = now.market_price
            cleared = clear(bids.amount, price, budget, self._spent, max_bid, integer_bids, rule)
            multiplier = np.full(len(now), np.nan if bids.multiplier is None else bids.multiplier)
            click = self._record(now, bids.ad, cleared, multiplier)
            self._state = self.strategy.update(
                self._state, TickResult(slots, bids, cleared.won, cleared.paid)
            )
            if click is not None and cleared.won.any():
                known = Outcomes(slots[cleared.won], bids.ad[cleared.won], click[cleared.won])
                self._state = self.strategy.learn(self._state, known)

    def _record(self, auctions: Auctions, ad: Indices, cleared: Cleared, multiplier: Floats) -> Floats | None:
        """Write down what became of bids on these ads; gives the clicks."""

        def of_won(potential: NDArray[Any] | None) -> Floats | None:
            return None if potential is None else np.where(cleared.won, of_ad(potential, ad), 0.0)

        click = of_won(auctions.click)
        self._spent = cleared.spent
        self._columns.append(
            ad=ad.astype(np.int32),
            bid=cleared.bid,
            won=cleared.won,
            click=click,
            conversion=of_won(auctions.conversion),
            earned=of_won(auctions.earned),
            value=of_won(auctions.expected_value),
            spend=cleared.paid,
            multiplier=multiplier,
        )
        return click

    def events(self, market: pl.DataFrame) -> pl.DataFrame:
        """One row an auction, beside the market's columns."""
        own = {name: self._columns[name] for name in _EVENT_COLUMNS if name in self._columns}
        events = market.with_columns(pl.Series(name, column) for name, column in own.items())
        return events.select(
            pl.lit(self.name).alias("strategy"), pl.exclude("multiplier"), pl.col("multiplier").fill_nan(None)
        )

    def result(self, budget: float, optimum: float) -> StrategyResult:
        """The sums; `budget` is that of all episodes."""
        won, spend = self._columns["won"], self._spent_before + self._spent
        wins, value = int(won.sum()), float(self._columns["value"].sum())
        clicks, conversions, earned = (
            float(self._columns[name].sum()) if name in self._columns else None
            for name in ("click", "conversion", "earned")
        )
        return StrategyResult(
            name=self.name,
            auctions=len(won),
            wins=wins,
            clicks=None if clicks is None else int(clicks),
            spend=spend,
            value=value,
            share_of_optimum=value / optimum if optimum > 0 else None,
            conversions=None if conversions is None else int(conversions),
            earned=earned,
            win_rate=wins / len(won),
            budget_used=spend / budget,
            cost_per_click=spend / clicks if clicks else None,
        )


_EVENT_COLUMNS = ("ad", "bid", "won", "click", "conversion", "earned", "value", "spend", "multiplier")


def trajectory(events: pl.DataFrame) -> pl.DataFrame:
    """The sums since the start of the episode, at the end of every tick."""
    sums = ("auctions", "wins", "spend", "value")
    last = [pl.col("timestamp").last()] if "timestamp" in events.columns else []
    by_tick = events.group_by("strategy", "episode", "tick", maintain_order=True).agg(
        *last,
        auctions=pl.len().cast(pl.Int64),
        wins=pl.col("won").sum().cast(pl.Int64),
        spend=pl.col("spend").sum(),
        value=pl.col("value").sum(),
        multiplier=pl.col("multiplier").first(),
    )
    return by_tick.with_columns(pl.col(name).cum_sum().over("strategy", "episode") for name in sums)
