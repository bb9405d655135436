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
        price: `second`: the winner pays the highest competing bid. `first`: the winner pays its own bid.
            `gsp`: the slots of a page go to the highest bids in order, and each pays the next lower bid.
        hard_floor: a bid below it is refused, and no price is below it.
        soft_floor: a winning bid below it pays its own bid (first price), and a higher bid pays at least the
            soft floor; it has no effect with first prices.
        wins_ties: whether a bid that equals the highest competing bid wins.
        slot_effects: for `gsp`, the probability that a user looks as far as each slot, relative to the best
            slot and with the best slot first. A bid is for an impression in the best slot; in another slot,
            the click probability and the payment are multiplied by the slot's effect.

    Raises:
        ConfigError: an unknown price, a floor below 0, a soft floor below the hard one, several slots
            without `gsp`, or effects that do not start at 1 and fall, staying above 0.

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
                f"floors of {self.hard_floor:g} and {self.soft_floor:g} are not both finite and at least 0",
                hint="Give floors in units of money per impression",
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
                f"slot effects of {', '.join(f'{e:g}' for e in effects)} do not start at 1 and fall, above 0",
                hint="Give the best slot first, for example 1, 0.7, 0.5",
            )
        if self.slots > 1 and self.price != "gsp":
            raise ConfigError(
                f"a {self.price}-price auction sells one slot, not {self.slots}", hint="Choose gsp"
            )

    @property
    def slots(self) -> int:
        """The number of slots of a page."""
        return len(self.slot_effects)
