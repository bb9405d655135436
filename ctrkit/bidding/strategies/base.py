"""What a bid strategy is: pure functions of its state, driven by the simulator tick by tick."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from ctrkit.arrays import Booleans, Floats, Indices
from ctrkit.bidding.market.auctions import Auctions, Slots
from ctrkit.bidding.market.slots import page_prices
from ctrkit.bidding.market.terms import CampaignTerms
from ctrkit.errors import DataError
from ctrkit.policies.laplace import LastLayerPosterior
from ctrkit.settings import setting_fields

StateT = TypeVar("StateT")


@dataclass(frozen=True)
class Bids:
    """Answer to n slots.

    Attributes:
        ad: [n], the candidate that fills the slot if the auction is won.
        amount: [n], at least 0, in units of money, before any cap by budget or largest bid.
        value: [n], what the bidder takes the slot to be worth.
        multiplier: the value that a unit of money had to buy, for strategies that pace.
        chances: gives, for some rows [m] of the slots, with what probability each candidate would have been
            chosen [m, K], given all that was known before; None where the choice has no chance in it, or
            where the bid hangs on it, so that they are not those of the impressions won.
        explored: [n], bool, whether the ad is another than the one that is thought the best; None where it
            never is.
    """

    ad: Indices
    amount: Floats
    value: Floats
    multiplier: float | None = None
    chances: Callable[[Indices], Floats] | None = None
    explored: Booleans | None = None


@dataclass(frozen=True)
class TickResult:
    """What a bidder learns from the exchange as soon as a tick is over.

    Attributes:
        won: [n], bool.
        paid: [n], 0 where lost.
        minimum_bid: [n], the least bid that wins, where the exchange tells it to all who bid; None where
            there are win notices alone.
    """

    slots: Slots
    bids: Bids
    won: Booleans
    paid: Floats
    minimum_bid: Floats | None = None


@dataclass(frozen=True)
class ImpressionOutcomes:
    """What became of m impressions that were won, some at once and some long ago.

    Attributes:
        slots: what was shown of them before the bids.
        ad: [m], the candidate that was shown.
        click: [m], 0 or 1.
    """

    slots: Slots
    ad: Indices
    click: Floats

    def __getitem__(self, rows: slice) -> ImpressionOutcomes:
        """Some of them."""
        return ImpressionOutcomes(self.slots[rows], self.ad[rows], self.click[rows])


@dataclass(frozen=True, eq=False)
class AuctionHistory:
    """Auctions of the past, from which a strategy can be tuned.

    Attributes:
        market_price: [n], in units of money; for a lost auction whose price never became known, the bid
            that was below it.
        click_probability: [n], of the ad that was, or would have been, shown.
        value: [n], what that was worth in expectation.
        won: [n], bool, whether the price is known; None where all are.
        slot_price, user, timestamp: as of `Auctions`, where several slots or a frequency cap need them.
    """

    market_price: Floats
    click_probability: Floats
    value: Floats
    won: Booleans | None = None
    slot_price: Floats | None = None
    user: NDArray[np.integer[Any]] | None = None
    timestamp: Floats | None = None

    def __len__(self) -> int:
        return len(self.market_price)

    def __getitem__(self, rows: slice) -> AuctionHistory:
        """Some of the auctions."""
        columns: list[Any] = [getattr(self, field.name) for field in fields(self)]
        columns = [None if column is None else column[rows] for column in columns]
        return AuctionHistory(*columns)

    @classmethod
    def from_auctions(cls, auctions: Auctions) -> Self:
        """The history of one who learnt all prices, with the most valuable ad of each auction that is worth
        bidding."""
        if not (worth := auctions.worth_bidding).all():
            auctions = auctions[np.flatnonzero(worth)]
        ad, value = best_ad(auctions.slots.value)
        return cls(
            auctions.market_price, of_ad(auctions.click_probability, ad), value,
            slot_price=auctions.slot_price, user=auctions.user, timestamp=auctions.timestamp,
        )  # fmt: skip

    @classmethod
    def from_tick(cls, result: TickResult) -> Self:
        """What the bidder itself learns: the price where it won, else that the price was above its bid."""
        ctr, bids = of_ad(result.slots.click_probability, result.bids.ad), result.bids
        return cls(np.where(result.won, result.paid, bids.amount), ctr, bids.value, result.won)

    @classmethod
    def joined(cls, parts: Sequence[AuctionHistory]) -> Self:
        """Several histories, one after the other."""
        return cls(
            np.concatenate([one.market_price for one in parts]),
            np.concatenate([one.click_probability for one in parts]),
            np.concatenate([one.value for one in parts]),
            np.concatenate([one.known for one in parts]),
        )

    def under(self, terms: CampaignTerms) -> AuctionHistory:
        """With the least bids that win, and are paid at least, on these terms in place of the prices."""
        page = page_prices(self.market_price, self.slot_price, terms.rule)
        return replace(self, market_price=np.maximum(page[:, -1], terms.rule.hard_floor))

    @property
    def known(self) -> Booleans:
        """[n], whether the price is known."""
        return np.ones(len(self), np.bool_) if self.won is None else self.won


class BidStrategy(ABC, Generic[StateT]):
    """A bidder. Subclasses are `checked` (see `ctrkit.settings`); their fields are what a line such as
    `linear:base_bid=10` sets. State is immutable and lives with the caller; there is no I/O.

    Attributes:
        by_chance: whether its bids or ads are drawn.
        knows_rules: whether its bids heed the rule of the exchange; if not they are best in auctions of the
            second price without floors.
        needs_multiplier: whether it paces well from a good first multiplier alone.
    """

    what: ClassVar[str] = "strategy"
    name: ClassVar[str]
    by_chance: ClassVar[bool] = False
    knows_rules: ClassVar[bool] = True
    needs_multiplier: ClassVar[bool] = False

    @abstractmethod
    def start(self, budget: float, auctions: int) -> StateT:
        """The state before an episode of `auctions` expected auctions with `budget` to spend."""

    def restart(self, state: StateT, budget: float, auctions: int) -> StateT:
        """The state before the next episode; pacing starts afresh, and what was learnt may stay."""
        return self.start(budget, auctions)

    @abstractmethod
    def bid(self, state: StateT, slots: Slots, rng: np.random.Generator) -> Bids:
        """Choose an ad and bid for each slot."""

    def update(self, state: StateT, result: TickResult) -> StateT:
        """The state after a tick."""
        return state

    def learn(self, state: StateT, outcomes: ImpressionOutcomes) -> StateT:
        """The state once outcomes have become known, of this tick or of earlier ones."""
        return state

    def notes(self, state: StateT) -> tuple[str, ...]:
        """What a reader of the numbers should know of an episode that ended in this state."""
        return ()

    def knowing(self, posterior: LastLayerPosterior | None) -> BidStrategy[StateT]:
        """This strategy, told what is known of a model's last layer, if it heeds that and does not know yet.

        Raises:
            ConfigError: it needs to know, and there is nothing.
        """
        return self

    def expecting(self, auctions: int) -> BidStrategy[StateT]:
        """This strategy, told how many auctions all episodes have together."""
        return self

    def tuned(self, history: AuctionHistory, terms: CampaignTerms, auctions: int) -> BidStrategy[StateT]:
        """This strategy with what it can learn from the past before it bids; the same where that is nothing.

        Args:
            history: auctions like those to come.
            terms: on which it will bid, with the budget of an episode.
            auctions: of an episode.

        Raises:
            DataError: an empty history, or one without the prices, or what else this strategy or the terms
                need.
        """
        return self

    @classmethod
    def parameters(cls) -> tuple[str, ...]:
        """Names that `NAME:key=value,...` may set."""
        return tuple(setting_fields(cls))

    @property
    def label(self) -> str:
        """The text that gives this strategy back, as far as text can."""
        values = {name: getattr(self, name) for name in self.parameters()}
        given = ",".join(f"{name}={value}" for name, value in values.items() if value is not None)
        return f"{self.name}:{given}" if given else self.name


def best_ad(value: Floats) -> tuple[Indices, Floats]:
    """The candidate of the highest value [n, K] by slot, and its value [n]."""
    ad = value.argmax(axis=1)
    return ad, of_ad(value, ad)


def of_ad(values: NDArray[Any], ad: Indices) -> NDArray[Any]:
    """From [n, K, ...] the entries of the chosen ads, [n, ...]."""
    return values[np.arange(len(ad)), ad]


def check_history(strategy: str, history: AuctionHistory, all_prices: bool = False) -> None:
    """Raise a DataError for a history of nothing worth bidding, or without the prices that are needed.

    Args:
        all_prices: whether the prices of lost auctions are needed too.
    """
    if not len(history):
        raise DataError(
            "no auction of the history is worth anything to the bidder",
            hint="Give a log with click probabilities, and values of a click, above 0",
        )
    known = history.known
    if not known.any() or (all_prices and not known.all()):
        needed = "the market price of every auction" if all_prices else "at least one known market price"
        raise DataError(
            f"strategy '{strategy}' is tuned on a history with {needed}",
            column="market_price",
            hint="Give a log that holds the market prices of lost auctions too",
        )
