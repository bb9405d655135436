"""How an exchange sells one impression: who wins, and what the winner pays."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from ctrkit.errors import ConfigError, nearest

Price = Literal["second", "first", "gsp"]
PRICES: tuple[Price, ...] = ("second", "first", "gsp")


@dataclass(frozen=True)
class AuctionRule:
    """The rule of an exchange.

    Attributes:
        price: `second`: the winner pays the highest competing bid; `first`: its own bid; `gsp`: the slots of
            a page go to the highest bids in their order, and each pays the next bid below its own.
        hard_floor: no bid below it is taken, and no price is below it.
        soft_floor: a winning bid below it pays itself, one above it pays at least the soft floor; with first
            prices it changes nothing.
        wins_ties: whether a bid that equals the highest competing one wins.
        slot_effects: for `gsp`, the chance that a user looks as far as each slot, best slot first, relative
            to the best one. A bid is for an impression in the best slot; in a worse one, the chance of a
            click and what is paid are so many times as much.

    Raises:
        ConfigError: for an unknown price, a floor below 0, a soft floor below the hard one, several slots
            without `gsp`, or effects that do not begin with 1 and fall to above 0.

    Source of `gsp`: B. Edelman, M. Ostrovsky, M. Schwarz, Internet advertising and the generalized
    second-price auction, American Economic Review 97 (2007); H. R. Varian, Position auctions, International
    Journal of Industrial Organization 25 (2007).
    """

    price: Price = "second"
    hard_floor: float = 0.0
    soft_floor: float = 0.0
    wins_ties: bool = True
    slot_effects: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if self.price not in PRICES:
            raise ConfigError(
                f"there is no auction of price '{self.price}'", hint=nearest(self.price, PRICES)
            )
        if not 0 <= self.hard_floor < float("inf") or not 0 <= self.soft_floor < float("inf"):
            raise ConfigError(
                f"floors of {self.hard_floor:g} and {self.soft_floor:g} are not finite and at least 0",
                hint="Give floors in units of money an impression",
            )
        if 0 < self.soft_floor < self.hard_floor:
            raise ConfigError(
                f"the soft floor of {self.soft_floor:g} is below the hard one of {self.hard_floor:g}",
                hint="Give a soft floor above the hard one, or none",
            )
        effects = tuple(float(effect) for effect in self.slot_effects)  # a list, where they come from a file
        object.__setattr__(self, "slot_effects", effects)
        falling = all(0 < worse <= better for better, worse in pairwise(effects))
        if effects[:1] != (1.0,) or not falling:
            raise ConfigError(
                f"slot effects of {', '.join(f'{e:g}' for e in effects)} do not fall from 1 to above 0",
                hint="Give the best slot first, for example 1, 0.7, 0.5",
            )
        if self.slots > 1 and self.price != "gsp":
            raise ConfigError(
                f"a {self.price}-price auction sells one slot, not {self.slots}", hint="Choose gsp"
            )

    @property
    def slots(self) -> int:
        """How many slots a page has."""
        return len(self.slot_effects)
