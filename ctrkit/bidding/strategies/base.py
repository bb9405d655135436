"""What a bid strategy is: pure functions of its state, driven by the simulator tick by tick."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from ctrkit.bidding.auctions import Slots
from ctrkit.errors import ConfigError

Floats: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.intp]
StateT = TypeVar("StateT")


@dataclass(frozen=True)
class Bids:
    """Answer to n slots.

    Attributes:
        ad: [n], the candidate that fills the slot if the auction is won.
        amount: [n], at least 0, in units of money, before any cap by budget or largest bid.
        value: [n], what the bidder takes the slot to be worth.
        multiplier: the value that a unit of money had to buy, for strategies that pace.
    """

    ad: Indices
    amount: Floats
    value: Floats
    multiplier: float | None = None


@dataclass(frozen=True)
class TickResult:
    """What a bidder learns from a tick: the market price only where it won, and the clicks it got.

    Attributes:
        won: [n], bool.
        paid: [n], 0 where lost.
        click: [n], 0 where lost; None where the log knows no clicks.
    """

    slots: Slots
    bids: Bids
    won: NDArray[np.bool_]
    paid: Floats
    click: Floats | None


class BidStrategy(ABC, Generic[StateT]):
    """A bidder. Subclasses are frozen dataclasses; fields with a default are the parameters that text like
    `linear:base_bid=10` can set. State is immutable and lives with the caller; there is no I/O.
    """

    name: ClassVar[str]

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

    @classmethod
    def parameters(cls) -> tuple[str, ...]:
        """Names that `NAME:key=value,...` may set."""
        return tuple(name for name, optional in _fields_of(cls) if optional)

    @property
    def label(self) -> str:
        """The text that gives this strategy back, as far as text can."""
        values = {name: getattr(self, name) for name in self.parameters()}
        given = ",".join(f"{name}={value!r}" for name, value in values.items() if value is not None)
        return f"{self.name}:{given}" if given else self.name


def _fields_of(cls: type[Any]) -> list[tuple[str, bool]]:
    # With a default, the class has an attribute of the field's name.
    return [(f.name, hasattr(cls, f.name)) for f in fields(cls)]


def best_ad(value: Floats) -> tuple[Indices, Floats]:
    """The candidate of the highest value [n, K] by slot, and its value [n]."""
    ad = value.argmax(axis=1)
    return ad, of_ad(value, ad)


def of_ad(values: NDArray[Any], ad: Indices) -> NDArray[Any]:
    """From [n, K, ...] the entries of the chosen ads, [n, ...]."""
    return values[np.arange(len(ad)), ad]


def check_positive(strategy: str, name: str, value: float | None) -> None:
    """Raise a ConfigError for a parameter that is given and not a finite number above 0."""
    if value is not None and not (np.isfinite(value) and value > 0):
        raise ConfigError(
            f"strategy '{strategy}': {name} is {value:g} and must be above 0",
            mend=f"Give for example {name}=1, or leave it out",
        )
