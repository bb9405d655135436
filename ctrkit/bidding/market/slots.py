"""Pages with several slots: the price of each slot, the least bid for one, and who looks that far."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrkit.arrays import Booleans, Floats
from ctrkit.bidding.market.rules import AuctionRule
from ctrkit.errors import DataError


def page_prices(market_price: Floats, slot_price: Floats | None, rule: AuctionRule) -> Floats:
    """The bids to be beaten for each slot that the rule sells, [n, S]; with one slot, the market price.

    Args:
        market_price: [n], the highest competing bid.
        slot_price: [n, S or more], the bid to be beaten for each slot.
        rule: the rule of the exchange.

    Raises:
        DataError: the price of a slot is unknown.
    """
    if rule.slots == 1:
        return market_price[:, None]
    known = 0 if slot_price is None else slot_price.shape[1]
    if slot_price is None or known < rule.slots:
        raise DataError(
            f"pages of {rule.slots} slots need {rule.slots} prices per auction, but there "
            + ("is 1" if known < 2 else f"are {known}"),
            column="slot_price",
            hint="Give the highest competing bids of each auction, or fewer slot effects",
        )
    return slot_price[:, : rule.slots]


def minimum_bid(price: Floats, rule: AuctionRule) -> Floats:
    """The least bid that wins any slot, [n]: the minimum bid to win that some exchanges tell.

    Args:
        price: [n], the highest competing bids; or [n, S], the bids to be beaten for each slot.
        rule: the rule of the exchange.
    """
    return least_bids(price if price.ndim == 1 else price[:, -1], rule)


def least_bids(price: Floats, rule: AuctionRule) -> Floats:
    """The least bids that beat prices of any shape; 0 where every bid above 0 wins."""
    least = price if rule.wins_ties else np.nextafter(price, np.inf)
    return np.asarray(np.maximum(least, rule.hard_floor), np.float64)


def effect_of(slot: NDArray[np.integer[Any]], rule: AuctionRule) -> Floats:
    """The effects of the slots that were won, [n]; 0 where no slot was won (slot −1)."""
    return np.asarray(np.array([*rule.slot_effects, 0.0])[slot], np.float64)


def examined(slot: NDArray[np.integer[Any]], luck: Floats, rule: AuctionRule) -> Booleans:
    """Whether the user looks as far as the slot that was won, [n]; False where no slot was won.

    A click happens in a slot if it would happen in the best slot and the user looks as far as this slot (the
    examination hypothesis). A user who looks at a slot has looked at all better slots. All bidders share the
    same draws.

    Args:
        slot: [n], the slot that was won; −1 where none was.
        luck: [n], uniform in [0, 1), one draw per auction.
        rule: the rule of the exchange.

    Source: N. Craswell, O. Zoeter, M. Taylor, B. Ramsey, An experimental comparison of click position-bias
    models, WSDM 2008.
    """
    return luck < effect_of(slot, rule)
