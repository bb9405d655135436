"""What a bid strategy is: pure functions of its state, called by the simulator tick by tick."""

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
    """A strategy's bids for n slots.

    Attributes:
        ad: [n], the candidate that fills the slot if the auction is won.
        amount: [n], the bid in units of money, at least 0, before any cap by budget or largest bid.
        value: [n], the bidder's estimate of the value of the slot.
        multiplier: μ, the value that a unit of money must buy; None for strategies that do not pace.
        chances: a function from rows [m] of the slots to the probability with which each candidate would be
            chosen, [m, K], given what was known before. None if the choice is not random, or if the bid
            depends on it, so that these are not the probabilities among impressions won.
        explored: [n], bool, whether the ad is another than the best by estimate; None for strategies that
            never explore.
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
        slots: the slots of the tick.
        bids: the strategy's bids for them.
        won: [n], bool.
        paid: [n], the price where won, else 0.
        minimum_bid: [n], the minimum bid to win, if the exchange tells it to every bidder; None if bidders
            only learn whether they won.
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
        slots: what the bidder saw of them before its bids.
        ad: [m], the candidate that was shown.
        click: [m], 0 or 1.
    """

    slots: Slots
    ad: Indices
    click: Floats

    def __getitem__(self, rows: slice) -> ImpressionOutcomes:
        """Some of the outcomes."""
        return ImpressionOutcomes(self.slots[rows], self.ad[rows], self.click[rows])


@dataclass(frozen=True, eq=False)
class AuctionHistory:
    """Auctions of the past, from which a strategy can be tuned.

    Attributes:
        market_price: [n], in units of money; where the price never became known, the bid that lost.
        click_probability: [n], of the ad that was, or would have been, shown.
        value: [n], the expected value of showing that ad.
        won: [n], bool, whether the price is known; None if all prices are known.
        slot_price: [n, S], as in `Auctions`; needed for several slots.
        user: [n], as in `Auctions`; needed for a frequency cap.
        timestamp: [n], as in `Auctions`; needed for a frequency cap with a period.
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
        """The history of a bidder who learnt all prices, with the best ad of each auction worth bidding."""
        if not (worth := auctions.worth_bidding).all():
            auctions = auctions[np.flatnonzero(worth)]
        ad, value = best_ad(auctions.slots.value)
        return cls(
            auctions.market_price, of_ad(auctions.click_probability, ad), value,
            slot_price=auctions.slot_price, user=auctions.user, timestamp=auctions.timestamp,
        )  # fmt: skip

    @classmethod
    def from_tick(cls, result: TickResult) -> Self:
        """What the bidder itself learns in a tick: the price where it won, else that it was above the bid."""
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
        """The history with the least winning bids on these terms in place of the prices."""
        page = page_prices(self.market_price, self.slot_price, terms.rule)
        return replace(self, market_price=np.maximum(page[:, -1], terms.rule.hard_floor))

    @property
    def known(self) -> Booleans:
        """[n], whether the price is known."""
        return np.ones(len(self), np.bool_) if self.won is None else self.won


class BidStrategy(ABC, Generic[StateT]):
    """A bidder.

    Subclasses are `checked` (see `ctrkit.settings`); a line such as `linear:base_bid=10` sets their fields.
    The caller keeps the state, which is immutable; there is no I/O.

    Attributes:
        what: the kind, for messages.
        name: the name of the strategy.
        by_chance: whether its bids or ads are random.
        knows_rules: whether its bids adapt to the rule of the exchange; if not, they are best in second-price
            auctions without floors.
        needs_multiplier: whether it paces well only from a good first multiplier.
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
        """The state before the next episode; pacing restarts, and what was learnt may stay."""
        return self.start(budget, auctions)

    @abstractmethod
    def bid(self, state: StateT, slots: Slots, rng: np.random.Generator) -> Bids:
        """Choose an ad and bid for each slot."""

    def update(self, state: StateT, result: TickResult) -> StateT:
        """The state after a tick."""
        return state

    def learn(self, state: StateT, outcomes: ImpressionOutcomes) -> StateT:
        """The state after outcomes became known, of this tick or of earlier ones."""
        return state

    def notes(self, state: StateT) -> tuple[str, ...]:
        """Notes for readers of the results on an episode that ended in this state."""
        return ()

    def knowing(self, posterior: LastLayerPosterior | None) -> BidStrategy[StateT]:
        """This strategy with the posterior of a model's last layer, if it uses one and has none yet.

        Raises:
            ConfigError: the strategy needs a posterior, and there is none.
        """
        return self

    def expecting(self, auctions: int) -> BidStrategy[StateT]:
        """This strategy with the expected number of auctions of all episodes together."""
        return self

    def tuned(self, history: AuctionHistory, terms: CampaignTerms, auctions: int) -> BidStrategy[StateT]:
        """This strategy after learning from the past; the same object if it learns nothing.

        Args:
            history: auctions like those to come.
            terms: the terms on which it will bid, with the budget of an episode.
            auctions: number of auctions of an episode.

        Raises:
            DataError: an empty history, or one without prices or other columns that the strategy or the terms
                need.
        """
        return self

    @classmethod
    def parameters(cls) -> tuple[str, ...]:
        """The keys that `NAME:key=value,...` may set."""
        return tuple(setting_fields(cls))

    @property
    def label(self) -> str:
        """The line that gives this strategy, as far as a line can."""
        values = {name: getattr(self, name) for name in self.parameters()}
        given = ",".join(f"{name}={value}" for name, value in values.items() if value is not None)
        return f"{self.name}:{given}" if given else self.name


def best_ad(value: Floats) -> tuple[Indices, Floats]:
    """The candidate with the highest value of each slot, [n], and its value [n], from values [n, K]."""
    ad = value.argmax(axis=1)
    return ad, of_ad(value, ad)


def of_ad(values: NDArray[Any], ad: Indices) -> NDArray[Any]:
    """The entries of the chosen ads, [n, ...], from values [n, K, ...]."""
    return values[np.arange(len(ad)), ad]


def check_history(strategy: str, history: AuctionHistory, all_prices: bool = False) -> None:
    """Raise a DataError for a history without auctions worth bidding, or without the prices that are needed.

    Args:
        strategy: name of the strategy, for the message.
        history: the history.
        all_prices: whether the prices of lost auctions are needed too.
    """
    if not len(history):
        raise DataError(
            "no auction of the history has a value above 0 for the bidder",
            hint="Give a log with click probabilities and values of a click above 0",
        )
    known = history.known
    if not known.any() or (all_prices and not known.all()):
        needed = "the market price of every auction" if all_prices else "at least one known market price"
        raise DataError(
            f"tuning strategy '{strategy}' needs a history with {needed}",
            column="market_price",
            hint="Give a log that also has the market prices of lost auctions",
        )
