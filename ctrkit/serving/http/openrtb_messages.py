"""Bid requests and responses of OpenRTB 2.6, as far as they are read and written.

Source: IAB Tech Lab, "OpenRTB Specification 2.6": objects BidRequest (3.2.1), Imp (3.2.4), Pmp (3.2.11),
BidResponse (4.2.1), SeatBid (4.2.2) and Bid (4.2.3); codes of no bid are those of its list "No-Bid
Reason Codes". Prices and floors of OpenRTB are for a thousand impressions (CPM), ctrkit's money is for one.
"""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal
from typing import Annotated, Any
from urllib.parse import quote

import msgspec

from ctrkit.serving.campaigns.config import OpenRtbConfig
from ctrkit.serving.requests.body import Value

VERSION = "2.6"
INVALID_REQUEST = 2
# A price has four decimals, so that an exchange that rounds does not tell a price above the bid.
_STEP = Decimal("0.0001")

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Pmp(msgspec.Struct, frozen=True):
    """Private deals of an impression.

    Attributes:
        private_auction: 1 if bids without a deal are not taken.
    """

    private_auction: int = 0


class Imp(msgspec.Struct, frozen=True):
    """An impression that is offered.

    Attributes:
        id: its name within the request.
        bidfloor: lowest bid for a thousand impressions.
        bidfloorcur: currency of the floor.
        pmp: private deals.
    """

    id: Id
    bidfloor: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    bidfloorcur: str = "USD"
    pmp: Pmp | None = None


class OpenRtbRequest(msgspec.Struct, frozen=True):
    """A bid request. Its other fields are read by the paths of the campaigns' file.

    Attributes:
        id: the exchange's name for it.
        imp: the impressions.
        tmax: milliseconds in which the response must have arrived; null for the server's own limit.
        cur: the currencies that are taken; all where there are none.
    """

    id: Id
    imp: Annotated[list[Imp], msgspec.Meta(min_length=1)]
    tmax: Annotated[int, msgspec.Meta(ge=0)] | None = None
    cur: list[str] = []

    def __post_init__(self) -> None:
        """Check that no two impressions have one name."""
        if len({one.id for one in self.imp}) < len(self.imp):
            raise ValueError("two impressions have the same id")


class OpenRtbBid(msgspec.Struct, omit_defaults=True):
    """A bid for an impression.

    Attributes:
        id: the auction's name.
        impid: name of the impression.
        price: the bid for a thousand impressions.
        adid: name of the ad.
        crid: name of its creative.
        cid: the campaign.
        nurl: address of the notice of a win.
        burl: address of the notice that is billed; the first notice of the two counts.
        lurl: address of the notice of a loss.
        adm: the ad's markup.
    """

    id: str
    impid: str
    price: float
    adid: str
    crid: str
    cid: str
    nurl: str
    burl: str
    lurl: str
    adm: str | None = None


class SeatBid(msgspec.Struct):
    """The bids of one seat.

    Attributes:
        bid: the bids.
    """

    bid: list[OpenRtbBid]


class OpenRtbResponse(msgspec.Struct, omit_defaults=True):
    """A bid response.

    Attributes:
        id: that of the request.
        seatbid: the bids; absent without any.
        cur: the currency of the bids.
        nbr: why there is no bid.
    """

    id: str
    seatbid: list[SeatBid] = []
    cur: str | None = None
    nbr: int | None = None


def auction_of(request: OpenRtbRequest, imp: Imp) -> str:
    """The name of an impression's auction, which no other one has."""
    return f"{quote(request.id, safe='')}/{quote(imp.id, safe='')}"


def price_of(bid: float, floor: float) -> float:
    """The price for a thousand impressions, rounded down, but not below the floor.

    Args:
        bid: the bid for one impression, at least that of the floor.
        floor: the floor for a thousand.
    """
    return max(float((Decimal(repr(bid)) * 1000).quantize(_STEP, ROUND_DOWN)), floor)


def money_of(price: float | Decimal) -> float:
    """Money for one impression. In decimals, so that the price of a bid is not above the bid."""
    return float(Decimal(str(price)) / 1000)


def context_of(config: OpenRtbConfig, tree: dict[str, Any], place: int) -> dict[str, Value]:
    """The features of an impression that all candidates share.

    Args:
        config: where they stand.
        tree: the request.
        place: place of the impression.
    """
    found = {name: value_at(tree, path, place) for name, path in config.features.items() if path is not None}
    return {name: value for name, value in found.items() if value is not None}


def value_at(tree: dict[str, Any], path: str, place: int) -> Any:
    """What stands at a path of a request; None if nothing does, or an object.

    Args:
        tree: the request.
        path: names and places with dots between them; `imp` is the impression.
        place: place of the impression.
    """
    at: Any = tree
    for step, name in enumerate(path.split(".")):
        if isinstance(at, dict):
            at = at.get(name)
        elif isinstance(at, list) and name.isdecimal() and int(name) < len(at):
            at = at[int(name)]
        else:
            return None
        if step == 0 and name == "imp":
            at = at[place]
    return None if isinstance(at, dict) else at
