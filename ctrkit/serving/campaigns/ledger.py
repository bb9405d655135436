"""The ledger of campaigns: what each has spent and reserved, shared by all processes of a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from ctrkit.errors import RunError

T = TypeVar("T")


class LedgerError(RunError):
    """The ledger cannot be reached, or is damaged."""


class Account(msgspec.Struct, frozen=True):
    """A campaign in one period.

    Attributes:
        period: index of the period.
        state: the strategy's state as plain data, after the ticks that it has learnt from.
        spent: money that was paid.
        reserved: money of open bids.
        open: number of open bids.
        auctions: number of auctions so far.
        wins: those of them that were won.
        learnt: number of auctions from which the strategy has learnt: whole ticks.
    """

    period: int
    state: Any
    spent: float = 0.0
    reserved: float = 0.0
    open: int = 0
    auctions: int = 0
    wins: int = 0
    learnt: int = 0


class Auction(msgspec.Struct, frozen=True):
    """An auction in which a campaign has bid.

    Attributes:
        id: the caller's name for it.
        period: index of the period.
        place: its place among those of the period, from 0.
        moment: when the bid was made, in unix seconds.
        bid: the bid; 0 for none.
        open: whether nothing is known of it yet.
        won: whether it was won.
        paid: what was paid.
        probability: the click probability of the chosen candidate.
        value_of_click: what a click on it is worth.
        value: what the strategy took showing it to be worth.
        amount: what the strategy wanted to bid.
        multiplier: the strategy's multiplier; None if it has none.
        answer: the answer to the caller, for the case that it asks again.
    """

    id: str
    period: int
    place: int
    moment: float
    bid: float
    open: bool
    won: bool
    paid: float
    probability: float
    value_of_click: float
    value: float
    amount: float
    multiplier: float | None
    answer: dict[str, Any]


class Transaction(Protocol):
    """What is read and written of one campaign, all of it or nothing."""

    def account(self, period: int) -> Account | None:
        """The account of a period."""

    def keep_account(self, account: Account) -> None:
        """Write an account."""

    def auction(self, id: str) -> Auction | None:
        """An auction of this period or of the one before."""

    def keep_auction(self, auction: Auction) -> None:
        """Write an auction."""

    def open_before(self, moment: float) -> Sequence[Auction]:
        """The open auctions of this period and of the one before whose bids were made before a moment."""

    def between(self, period: int, first: int, end: int) -> Sequence[Auction]:
        """The auctions of a period from one place to before another, in their order."""

    def any_open(self, period: int, first: int, end: int) -> bool:
        """Whether one of these auctions is open. It reads none of them, so it may be asked at every bid."""

    def forget(self) -> None:
        """Forget the auctions of periods older than the one before. Accounts stay.

        They must: if the clock jumps ahead and comes back, an account that is gone would be a new budget.
        """


class Ledger(Protocol):
    """Keeps the accounts. May be used by several threads and processes."""

    def change(self, campaign: str, period: int, work: Callable[[Transaction], T]) -> T:
        """Change a campaign's account so that no other change comes between.

        Args:
            campaign: name of the campaign.
            period: the current period.
            work: reads and writes; it may be called again, and should change nothing else.

        Raises:
            LedgerError: the ledger does not answer; nothing was written.
        """

    def close(self) -> None:
        """Close files and connections."""
