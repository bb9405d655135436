"""The records of each strategy while auctions are played."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ctrkit.arrays import Booleans, Floats, Indices
from ctrkit.bidding.market.auctions import Auctions
from ctrkit.bidding.market.clearing import Cleared, clear
from ctrkit.bidding.market.competition import clear_together
from ctrkit.bidding.market.frequency import TimesShown as Impressions
from ctrkit.bidding.market.slots import effect_of, examined, minimum_bid, page_prices
from ctrkit.bidding.market.terms import CampaignTerms
from ctrkit.bidding.simulation.columns import GrowingColumns
from ctrkit.bidding.simulation.every_auction import replay_paced
from ctrkit.bidding.simulation.feedback import FeedbackQueue
from ctrkit.bidding.simulation.market_ledger import Hindsight, MarketLedger
from ctrkit.bidding.simulation.regret import RegretSplit, split_regret
from ctrkit.bidding.simulation.result import StrategyResult
from ctrkit.bidding.simulation.ticks import ShownAuctions, Tick
from ctrkit.bidding.strategies import BidStrategy, DualBidding, TickResult
from ctrkit.bidding.strategies.base import Bids, ImpressionOutcomes, of_ad


class StrategyLedger:
    """Plays one strategy, and records what it did.

    Args:
        name: the strategy's name in results.
        strategy: the strategy.
        terms: the terms on which it bids.
        seed: the seed of its draws; strategies with the same seed draw the same numbers.
        tick: the number of auctions between two updates.
        alone: whether no other strategy bids in the same market.
    """

    def __init__(
        self,
        name: str,
        strategy: BidStrategy[Any],
        terms: CampaignTerms,
        seed: int,
        tick: int,
        alone: bool = True,
    ) -> None:
        self.name, self.strategy, self.terms, self.tick, self._alone = name, strategy, terms, tick, alone
        self._rng = np.random.default_rng(seed)
        # How far users look is the same for all strategies, whatever they draw.
        self._luck = np.random.default_rng([seed, 1])
        self._state: Any = None
        self.spent = self._spent_before = 0.0  # the spend in this episode, and in the episodes before
        self._budgets: list[float] = []
        # Until the first bids of an episode: its auctions so far, and those expected.
        self._unopened: tuple[int, int] | None = None
        self._auctions = self.met = 0  # all so far, and those of them that the bidder saw
        self._queue = FeedbackQueue(terms.feedback_delay)
        self._shown = None if terms.frequency_cap is None else Impressions(terms.frequency_cap)
        self._notes: list[str] = []
        self._explores = False
        self._columns = GrowingColumns()

    def begin_episode(self, auctions: int, part: float) -> None:
        """Start an episode: pacing restarts, and what was learnt stays.

        Args:
            auctions: the expected auctions of the episode.
            part: their share of all auctions that are still expected.
        """
        self._end_episode()
        self._unopened = 0, auctions
        self._budgets.append(self.terms.budget_of(part, self._spent_before))
        if self.budget <= 0:  # no money is left, so there are no bids
            return
        if self._state is None:
            self._state = self.strategy.start(self.budget, auctions)
        else:
            self._state = self.strategy.restart(self._state, self.budget, auctions)

    def _end_episode(self) -> None:
        if self._state is not None:
            self._notes += self.strategy.notes(self._state)
        self._spent_before += self.spent
        self.spent = 0.0

    @property
    def budget(self) -> float:
        """The budget of this episode."""
        return self._budgets[-1]

    def play(self, piece: Tick) -> None:
        """Bid on a piece of the stream tick by tick: clear each tick, and learn from it."""
        if self._replayed(piece.shown()):
            return
        terms = self.terms
        for shown in piece.divided(self.tick, self._opening(piece.shown().auctions)):
            now = shown.auctions
            bids = self.decide(now)
            audience = None if self._shown is None else self._shown.meet(now.user, now.timestamp)
            cleared = clear(
                bids.amount, now.market_price, self.budget, self.spent, terms.largest_bid,
                terms.integer_bids, terms.rule, slot_price=now.slot_price, audience=audience,
            )  # fmt: skip
            self.settle(shown, bids, cleared)

    def _opening(self, auctions: Auctions) -> int | None:
        """The index of the first auction of the episode to which the strategy's plan gives money; None if it
        is not among these."""
        if not self._unopened or not len(auctions):
            return None
        begun, expected = self._unopened
        plan = getattr(self.strategy, "plan", None)
        place = 0
        if plan is not None:
            given = plan.given(begun, len(auctions), expected, auctions.timestamp) > 0
            if not given.any():
                self._unopened = begun + len(auctions), expected
                return None
            place = int(np.argmax(given))
        self._unopened = None
        return place

    def decide(self, now: Auctions) -> Bids:
        """The bids of a tick."""
        if self.budget > 0 and len(now):
            return self.strategy.bid(self._state, now.slots, self._rng)
        nothing = np.zeros(len(now))
        return Bids(np.zeros(len(now), np.intp), nothing, nothing)

    def settle(self, shown: ShownAuctions, bids: Bids, cleared: Cleared, price: Floats | None = None) -> None:
        """Record what became of the bids of a tick, and learn from it.

        Args:
            shown: the auctions of the tick.
            bids: the strategy's bids.
            cleared: what became of them.
            price: [n], the highest competing bids; by default the market prices.
        """
        click, now = self._record(shown, bids, cleared), shown.auctions
        if self.budget <= 0 or not len(now):
            return
        least = None
        if self.terms.tells_minimum_bid:
            rule = self.terms.rule
            page = page_prices(now.market_price, now.slot_price, rule) if price is None else price
            least = minimum_bid(page, rule)
        told = TickResult(now.slots, bids, cleared.won, cleared.paid, least)
        self._state = self.strategy.update(self._state, told)
        if click is not None:
            self._learn(now, bids.ad, cleared.won, click)

    def _replayed(self, shown: ShownAuctions) -> bool:
        """Play with an update at every auction as one compiled loop, if that gives the same; say whether."""
        # By type, since a subclass may bid in another way.
        strategy, terms = self.strategy, self.terms
        several = shown.whole.click_probability.shape[1] > 1 or terms.rule.slots > 1
        plain = self.tick == 1 and not several and self._shown is None and self.budget > 0
        if not plain or type(strategy) is not DualBidding:
            return False
        auctions = shown.auctions
        value = auctions.slots.value[:, 0]
        replayed = replay_paced(
            value, auctions.market_price, strategy.pacer, self._state, time=auctions.timestamp,
            budget=self.budget, spent=self.spent, max_bid=terms.largest_bid,
            integer_bids=terms.integer_bids, rule=terms.rule,
        )  # fmt: skip
        self._state = replayed.pace
        assert replayed.cleared is not None
        assert replayed.multiplier is not None
        amount = np.nan_to_num(value / replayed.multiplier)
        bids = Bids(np.zeros(len(auctions), np.intp), amount, value)
        self._record(shown, bids, replayed.cleared, replayed.multiplier)
        return True

    def _learn(self, now: Auctions, ad: Indices, won: Booleans, click: Floats) -> None:
        """Give the strategy the outcomes that are known at the end of the tick."""
        n = len(now)
        moment = np.arange(self.met - n, self.met) if now.timestamp is None else now.timestamp
        if won.any():
            self._queue.add(
                moment[won].astype(np.float64), ImpressionOutcomes(now.slots[won], ad[won], click[won])
            )
        if (known := self._queue.known(float(moment[-1]))) is not None:
            self._state = self.strategy.learn(self._state, known)

    def _record(
        self, shown: ShownAuctions, bids: Bids, cleared: Cleared, multiplier: Floats | None = None
    ) -> Floats | None:
        """Record what became of bids; `multiplier` is [n] where it moved within the tick.

        Returns:
            The clicks on what was won, [n]; None if the log has no clicks.
        """
        auctions, whole = shown.auctions, shown.spread
        n, won, ad, rule = len(auctions), cleared.won, bids.ad, self.terms.rule
        seen, effect = won, np.ones(n)
        if cleared.slot is not None:
            seen, effect = examined(cleared.slot, self._luck.random(n), rule), effect_of(cleared.slot, rule)

        def of_seen(potential: NDArray[Any] | None) -> Floats | None:
            return None if potential is None else np.where(seen, of_ad(potential, ad), 0.0).astype(np.float64)

        def known(column: Floats | None) -> Floats | None:
            return None if column is None else whole(column)

        if multiplier is None:
            multiplier = np.full(n, np.nan if bids.multiplier is None else bids.multiplier)
        chosen = of_ad(shown.whole.expected_value, whole(ad))
        rows = np.flatnonzero(won) if bids.chances is not None else np.empty(0, np.intp)
        places = rows if shown.rows is None else shown.rows[rows]
        click = of_seen(auctions.click)
        self._columns.append(
            ad=whole(ad).astype(np.int32),
            amount=whole(bids.amount),
            bid=whole(cleared.bid),
            won=whole(won),
            slot=None if cleared.slot is None else whole(cleared.slot, -1).astype(np.int16),
            click=known(click),
            conversion=known(of_seen(auctions.conversion)),
            earned=known(of_seen(auctions.earned)),
            value=np.where(whole(won), chosen, 0.0) * whole(effect),
            spend=whole(cleared.paid),
            multiplier=whole(multiplier, np.nan),
            explored=whole(np.zeros(n, np.bool_) if bids.explored is None else bids.explored),
            estimate=whole(bids.value),
            chosen_value=chosen,
            chances=bids.chances(rows) if bids.chances is not None and len(rows) else None,
            chances_of=places + self._auctions if len(rows) else None,
        )
        self._explores = self._explores or bids.explored is not None
        self.spent = cleared.spent
        self._auctions += len(shown.whole)
        self.met += n
        return click

    def events(self, market: pl.DataFrame) -> pl.DataFrame:
        """One row per auction, with the market's columns. It frees the records, so call it last."""
        left_out = () if self._explores else ("explored",)
        names = [name for name in _EVENT_COLUMNS if name in self._columns and name not in left_out]
        events = market.with_columns(pl.Series(name, self._columns.take(name)) for name in names)
        if "chances" in self._columns:
            chances = pl.DataFrame(
                {"auction": self._columns.take("chances_of"), "chances": self._columns.take("chances")},
                schema_overrides={"auction": pl.UInt32},
            ).with_columns(pl.col("chances").arr.to_list())
            events = events.join(chances, on="auction", how="left", maintain_order="left")
        self._columns = GrowingColumns()
        return events.select(
            pl.lit(self.name).alias("strategy"), pl.exclude("multiplier"), pl.col("multiplier").fill_nan(None)
        )

    def notes(self) -> Sequence[str]:
        """The strategy's notes on its episodes, after all of them; of many notes only the first."""
        self._end_episode()
        said = [f"{self.name}: {note}" for note in dict.fromkeys(self._notes)]
        if len(said) > 1 and len(self._budgets) > 1:
            return [
                f"{said[0]} Similar notes apply to {len(said) - 1} more of {len(self._budgets)} episodes."
            ]
        return said

    @property
    def highest_bid(self) -> float:
        """The highest bid that was submitted so far."""
        return float(self._columns["bid"].max())

    def result(self, market: MarketLedger, best: Hindsight) -> StrategyResult:
        """The sums, compared with the hindsight optimum."""

        def sum_of(name: str) -> float | None:
            return float(self._columns[name].sum()) if name in self._columns else None

        return StrategyResult.of(
            auctions=self._auctions,
            bids=int((self._columns["bid"] > 0).sum()),
            wins=int(self._columns["won"].sum()),
            value=sum_of("value") or 0.0,
            spend=self._spent_before,
            budget=self.terms.total(market.episodes),
            optimum=best.value,
            clicks=sum_of("click"),
            conversions=sum_of("conversion"),
            earned=sum_of("earned"),
            name=self.name,
            regret_split=self._regret_split(market, best),
            exploration_spend=float(self._columns["spend"] @ self._columns["explored"])
            if self._explores
            else None,
        )

    def _regret_split(self, market: MarketLedger, best: Hindsight) -> RegretSplit | None:
        if not self._alone or self.terms.frequency_cap is not None or self.terms.rule.slots > 1:
            return None
        split, column = RegretSplit(), self._columns
        episodes = zip(market.bounds(), best.bought, best.budgets, self._budgets, strict=True)
        for rows, bought, budget, own in episodes:
            value, price = market.plain(rows)
            split += split_regret(
                best_value=value,
                least_price=price,
                chosen_value=column["chosen_value"][rows],
                estimate=column["estimate"][rows],
                amount=column["amount"][rows],
                won=column["won"][rows],
                paid=column["spend"][rows],
                multiplier=bought.multiplier,
                budget=budget,
                own_budget=own,
            )
        return split


_EVENT_COLUMNS = (
    "ad", "bid", "won", "slot", "click", "conversion", "earned", "value", "spend", "estimate", "explored",
    "multiplier",
)  # fmt: skip


def play_together(ledgers: Sequence[StrategyLedger], piece: Tick) -> None:
    """Play strategies that bid against each other, with the same terms and ticks.

    Raises:
        ConfigError: pages with several slots.
    """
    terms = ledgers[0].terms
    for shown in piece.divided(ledgers[0].tick, 0 if piece.opens_episode else None):
        now = shown.auctions
        bids = [ledger.decide(now) for ledger in ledgers]
        contest = clear_together(
            np.stack([one.amount for one in bids]), now.market_price,
            [ledger.budget for ledger in ledgers], [ledger.spent for ledger in ledgers],
            terms.largest_bid, terms.integer_bids, terms.rule, first=ledgers[0].met,
        )  # fmt: skip
        for ledger, one, cleared, met in zip(ledgers, bids, contest.cleared, contest.met, strict=True):
            ledger.settle(shown, one, cleared, met)


def trajectory(events: pl.DataFrame) -> pl.DataFrame:
    """One strategy's sums since the start of the episode, at the end of every tick."""
    tick, multiplier = events["tick"].to_numpy(), events["multiplier"].fill_null(np.nan).to_numpy()
    starts = np.flatnonzero(np.diff(tick, prepend=-1))
    last = np.append(starts[1:], len(tick)) - 1
    known = ["timestamp"] if "timestamp" in events.columns else []
    by_tick = events[last].select("strategy", "episode", "tick", *known)
    sums = {
        "auctions": np.diff(starts, append=len(tick)),
        "wins": np.add.reduceat(events["won"].to_numpy(), starts, dtype=np.int64),
        "spend": np.add.reduceat(events["spend"].to_numpy(), starts),
        "value": np.add.reduceat(events["value"].to_numpy(), starts),
    }
    return by_tick.with_columns(
        *(pl.Series(name, each).alias(name) for name, each in sums.items()),
        # The same within a tick, and unknown for auctions that no bidder saw.
        pl.Series("multiplier", np.fmax.reduceat(multiplier, starts)).fill_nan(None),
    ).with_columns(pl.col(name).cum_sum().over("episode") for name in sums)
