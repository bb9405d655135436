"""Paced bids under budgets that many requests share: the strategies of the simulator, one auction at a time.

A bid reserves its amount, a notice turns the reservation into spend or frees it, and after each tick the
strategy learns what became of its auctions. So the spend and all open bids together never exceed the budget.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable
from hashlib import blake2b
from math import floor
from threading import Lock
from typing import Any

import msgspec
import numpy as np

from ctrkit.arrays import Floats
from ctrkit.bidding.market.auctions import Slots
from ctrkit.bidding.simulation.ticks import edges
from ctrkit.bidding.strategies import Bids, BidStrategy, TickResult, parse_strategy
from ctrkit.errors import ConfigError, InputError, nearest
from ctrkit.serving.campaigns.config import CampaignConfig, CampaignsConfig
from ctrkit.serving.campaigns.ledger import Account, Auction, Ledger, LedgerError, Transaction
from ctrkit.serving.campaigns.states import packed, unpacked

PACED, UNKNOWN_LEDGER = "paced bid", "the ledger does not answer, so no bid is safe"
NO_VALUE, NO_MONEY = "no candidate is worth anything", "the budget is spent or reserved by open bids"
BELOW_FLOOR, NOTHING, NOT_RUNNING = (
    "the bid is below the floor",
    "the bid is 0",
    "the campaign is not running",
)


class NoticeError(InputError):
    """A notice that cannot be true."""


class Decision(msgspec.Struct, frozen=True):
    """A bid for one auction.

    Attributes:
        bid: the bid in units of money; 0 for none.
        candidate: place of the candidate to show; None without a bid.
        reason: why the bid is what it is.
        value: expected value of showing the candidate.
        multiplier: the value that a unit of money must buy; None for a strategy that does not pace.
    """

    bid: float
    candidate: int | None
    reason: str
    value: float = 0.0
    multiplier: float | None = None


class Receipt(msgspec.Struct, frozen=True):
    """What became of a notice.

    Attributes:
        known: whether the auction is known, and the notice counts.
        repeated: whether the notice had come before.
        late: whether the bid had counted as lost before.
        spent: money that the campaign has spent in the auction's period.
    """

    known: bool
    repeated: bool = False
    late: bool = False
    spent: float = 0.0


class Bidder:
    """Bids for campaigns.

    Args:
        config: the campaigns.
        ledger: where their money is kept.
        clock: gives unix seconds.

    Raises:
        ConfigError: a strategy is unknown, or a server cannot keep what it learns.
    """

    def __init__(
        self, config: CampaignsConfig, ledger: Ledger, clock: Callable[[], float] = time.time
    ) -> None:
        self.campaigns = {one.name: one for one in config.campaigns}
        self.ledger, self.clock = ledger, clock
        self._strategies = {one.name: _strategy(one) for one in config.campaigns}
        self._ticks = {one.name: _Ticks(one.size) for one in config.campaigns}
        # A strategy is brought to the state of the ledger before each bid, by one thread at a time.
        self._turns = {one.name: Lock() for one in config.campaigns}

    def check(self, tasks: tuple[str, ...]) -> None:
        """Check that a model predicts what the campaigns value.

        Args:
            tasks: its tasks, in funnel order.

        Raises:
            ConfigError: it lacks the task that is worth something.
        """
        for one in self.campaigns.values():
            _need_task(one, tasks)

    def bid(
        self, campaign: str, id: str, outputs: dict[str, Floats], tasks: tuple[str, ...], floor: float = 0.0
    ) -> Decision:
        """A bid, whose money is reserved. The same auction gets the same bid again.

        Args:
            campaign: the campaign.
            id: the caller's name for the auction.
            outputs: task -> its probability for each candidate, given the task before it.
            tasks: the tasks, in funnel order.
            floor: the lowest bid that the auction takes.

        Raises:
            ConfigError: there is no such campaign, or the model lacks the task that is worth something.
        """
        of, now = self._campaign(campaign), self.clock()
        if (period := of.period_at(now)) is None:
            return Decision(0.0, None, NOT_RUNNING)
        slots = _slots(of, outputs, tasks, now)
        try:
            with self._turns[of.name]:
                return self.ledger.change(
                    of.name, period, lambda it: self._bid(it, of, period, now, id, slots, floor)
                )
        except LedgerError:
            return Decision(0.0, None, UNKNOWN_LEDGER)

    def settle(self, campaign: str, id: str, *, won: bool, price: float = 0.0) -> Receipt:
        """Take the notice of an auction; the first one counts.

        Args:
            campaign: the campaign.
            id: the caller's name for the auction.
            won: whether it was won.
            price: what was paid.

        Raises:
            ConfigError: there is no such campaign.
            NoticeError: the price is above the bid.
            LedgerError: the ledger does not answer; send the notice again.
        """
        of, now = self._campaign(campaign), self.clock()
        period = of.period_at(now)
        if period is None:  # the last one that there was
            period = -1 if now < of.start or of.end is None else of.period_at(np.nextafter(of.end, 0.0)) or 0
        with self._turns[of.name]:
            return self.ledger.change(of.name, period, lambda it: self._settle(it, of, id, won, price, now))

    def state(self) -> list[dict[str, Any]]:
        """What each campaign has spent of its budget in the current period, and what even pacing would have.

        Raises:
            LedgerError: the ledger does not answer.
        """
        found, now = [], self.clock()
        for of in self.campaigns.values():
            period = of.period_at(now)
            account = None if period is None else self.ledger.change(of.name, period, _account_of(period))
            found.append(
                {
                    "name": of.name,
                    "strategy": of.strategy,
                    "budget": of.budget,
                    "spent": 0.0 if account is None else account.spent,
                    "reserved": 0.0 if account is None else account.reserved,
                    "planned": 0.0 if period is None else of.budget * of.share_of_period(now),
                    "auctions": 0 if account is None else account.auctions,
                    "wins": 0 if account is None else account.wins,
                }
            )
        return found

    def close(self) -> None:
        """Close the ledger."""
        self.ledger.close()

    def _campaign(self, name: str) -> CampaignConfig:
        if name not in self.campaigns:
            raise ConfigError(f"there is no campaign '{name}'", hint=nearest(name, self.campaigns))
        return self.campaigns[name]

    def _bid(
        self,
        it: Transaction,
        of: CampaignConfig,
        period: int,
        now: float,
        id: str,
        slots: Slots,
        floor_: float,
    ) -> Decision:
        if (before := it.auction(id)) is not None:
            return msgspec.convert(before.answer, Decision)
        strategy = self._strategies[of.name]
        account = it.account(period) or self._opened(it, of, period)
        for one in it.open_before(now - of.hold):
            if one.period == period:
                account = _closed(account, one)
            elif (old := it.account(one.period)) is not None:
                it.keep_account(_closed(old, one))
            it.keep_auction(msgspec.structs.replace(one, open=False))
        account = self._learnt(it, of, account)
        if not (slots.value > 0).any():
            it.keep_account(account)
            return Decision(0.0, None, NO_VALUE)
        bids = strategy.bid(unpacked(account.state), slots, _draws(id))
        wanted, left = float(bids.amount[0]), of.budget - account.spent - account.reserved
        bid = min(wanted, of.terms.largest_bid, left)
        if of.integer_bids:
            bid = float(floor(bid))
        reason = PACED
        if bid <= 0.0 or bid < floor_:
            reason = NO_MONEY if left <= 0.0 else NOTHING if bid <= 0.0 else BELOW_FLOOR
            bid = 0.0
        ad = int(bids.ad[0])
        answer = Decision(bid, ad if bid else None, reason, float(bids.value[0]), bids.multiplier)
        it.keep_auction(
            Auction(
                id, period, account.auctions, now, bid, bid > 0.0, False, 0.0,
                float(slots.click_probability[0, ad]), float(slots.value_of_click[0, ad]),
                float(bids.value[0]), wanted, bids.multiplier, msgspec.to_builtins(answer),
            )
        )  # fmt: skip
        account = msgspec.structs.replace(
            account,
            auctions=account.auctions + 1,
            open=account.open + (bid > 0.0),
            reserved=account.reserved + bid,
        )
        it.keep_account(self._learnt(it, of, account))
        return answer

    def _settle(
        self, it: Transaction, of: CampaignConfig, id: str, won: bool, price: float, now: float
    ) -> Receipt:
        one = it.auction(id)
        account = None if one is None else it.account(one.period)
        if one is None or account is None or not one.bid:
            return Receipt(known=False)
        if one.won or (not one.open and not won):
            return Receipt(known=True, repeated=True, spent=account.spent)
        if won and price > one.bid:
            raise NoticeError(
                f"the price {price:g} is above the bid {one.bid:g}",
                argument="price",
                hint="Send the price paid",
            )
        late, paid = not one.open, price if won else 0.0
        if one.open:
            account = _closed(account, one)
        account = msgspec.structs.replace(account, spent=account.spent + paid, wins=account.wins + won)
        it.keep_auction(msgspec.structs.replace(one, open=False, won=won, paid=paid))
        account = self._learnt(it, of, account)
        it.keep_account(account)
        return Receipt(known=True, late=late, spent=account.spent)

    def _opened(self, it: Transaction, of: CampaignConfig, period: int) -> Account:
        """The account of a new period: pacing restarts, and what was learnt stays."""
        it.forget()
        strategy, last = self._strategies[of.name], it.account(period - 1)
        state = (
            strategy.start(of.budget, of.auctions)
            if last is None
            else strategy.restart(unpacked(last.state), of.budget, of.auctions)
        )
        account = Account(period, packed(state))
        it.keep_account(account)
        return account

    def _learnt(self, it: Transaction, of: CampaignConfig, account: Account) -> Account:
        """The account after the strategy has learnt from all ticks of which everything is known."""
        strategy, ticks = self._strategies[of.name], self._ticks[of.name]
        while account.auctions >= (end := ticks.end_of(account.learnt)):
            if it.any_open(account.period, account.learnt, end):
                break
            if tick := it.between(account.period, account.learnt, end):  # else forgotten: the clock jumped
                state = strategy.update(unpacked(account.state), _result(tick))
                account = msgspec.structs.replace(account, state=packed(state))
            account = msgspec.structs.replace(account, learnt=end)
        return account


class _Ticks:
    """The ticks of a period: those of the simulator, of which the first is divided (see `edges`).

    Args:
        size: number of auctions of a tick.
    """

    def __init__(self, size: int) -> None:
        self.size, self._early = size, edges(size, size, 0)

    def end_of(self, first: int) -> int:
        """The place after the last auction of the tick that begins here."""
        if first < self.size:
            return self._early[bisect_right(self._early, first)]
        return first + self.size


def _strategy(of: CampaignConfig) -> BidStrategy[Any]:
    strategy = parse_strategy(of.strategy).expecting(of.auctions)
    state = packed(strategy.start(of.budget, of.auctions))  # raises if a ledger cannot hold it
    unpacked(state)
    return strategy


def _slots(of: CampaignConfig, outputs: dict[str, Floats], tasks: tuple[str, ...], now: float) -> Slots:
    """One slot, with what each candidate is worth."""
    click = np.asarray(outputs[tasks[0]], dtype=np.float64)
    if of.value_of_click is not None:
        worth = np.full(click.size, of.value_of_click)
    else:
        _need_task(of, tasks)
        worth = np.asarray(outputs[tasks[1]], dtype=np.float64) * (of.value_of_conversion or 0.0)
    return Slots(click[None], worth[None], timestamp=np.array([now]))


def _need_task(of: CampaignConfig, tasks: tuple[str, ...]) -> None:
    if of.value_of_click is None and len(tasks) < 2:
        raise ConfigError(
            f"campaign '{of.name}' values conversions, and the model predicts {tasks[0]} alone",
            hint="Give value_of_click, or train a second task",
        )


def _closed(account: Account, one: Auction) -> Account:
    """The account without an open bid. Without any, nothing is reserved, to the last bit."""
    left = account.open - 1
    reserved = max(account.reserved - one.bid, 0.0) if left else 0.0
    return msgspec.structs.replace(account, open=left, reserved=reserved)


def _result(tick: Any) -> TickResult:
    """What became of the auctions of a tick, of which only the chosen candidates are kept."""
    columns = {
        name: np.array([getattr(one, name) for one in tick], dtype=np.float64)
        for name in ("probability", "value_of_click", "moment", "value", "amount", "paid")
    }
    slots = Slots(
        columns["probability"][:, None], columns["value_of_click"][:, None], None, columns["moment"]
    )
    bids = Bids(np.zeros(len(tick), np.intp), columns["amount"], columns["value"], tick[-1].multiplier)
    return TickResult(slots, bids, np.array([one.won for one in tick]), columns["paid"])


def _draws(id: str) -> np.random.Generator:
    """The random numbers of an auction, the same whenever it is asked for."""
    return np.random.default_rng(int.from_bytes(blake2b(id.encode(), digest_size=8).digest()))


def _account_of(period: int) -> Callable[[Transaction], Account | None]:
    return lambda it: it.account(period)
