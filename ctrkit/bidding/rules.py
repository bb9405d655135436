"""How an exchange sells one impression: who wins, and what the winner pays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ctrkit.errors import ConfigError, nearest

Price = Literal["second", "first"]
PRICES: tuple[Price, ...] = ("second", "first")


@dataclass(frozen=True)
class AuctionRule:
    """The rule of an exchange.

    Attributes:
        price: `second`: the winner pays the highest competing bid; `first`: its own bid.
        hard_floor: no bid below it is taken, and no price is below it.
        soft_floor: a winning bid below it pays itself, one above it pays at least the soft floor; with first
            prices it changes nothing.
        wins_ties: whether a bid that equals the highest competing one wins.

    Raises:
        ConfigError: for an unknown price, a floor below 0, or a soft floor below the hard one.
    """

    price: Price = "second"
    hard_floor: float = 0.0
    soft_floor: float = 0.0
    wins_ties: bool = True

    def __post_init__(self) -> None:
        if self.price not in PRICES:
            raise ConfigError(
                f"there is no auction of price '{self.price}'", mend=nearest(self.price, PRICES)
            )
        if not 0 <= self.hard_floor < float("inf") or not 0 <= self.soft_floor < float("inf"):
            raise ConfigError(
                f"floors of {self.hard_floor:g} and {self.soft_floor:g} are not finite and at least 0",
                mend="Give floors in units of money an impression",
            )
        if 0 < self.soft_floor < self.hard_floor:
            raise ConfigError(
                f"the soft floor of {self.soft_floor:g} is below the hard one of {self.hard_floor:g}",
                mend="Give a soft floor above the hard one, or none",
            )
