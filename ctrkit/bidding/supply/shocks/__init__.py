"""Shocks, one a file: prices, values, click rates and traffic that change while bidders do not know of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np

from ctrkit.bidding.market.auctions import Auctions
from ctrkit.bidding.supply.shocks.base import Shock
from ctrkit.bidding.supply.shocks.click_rate import ClickRateShock
from ctrkit.bidding.supply.shocks.price import PriceShock
from ctrkit.bidding.supply.shocks.traffic import TrafficShock
from ctrkit.bidding.supply.shocks.value import ValueShock
from ctrkit.settings import Registry

SHOCKS: Final = Registry[Shock](Shock, __name__)
# As a shock may be given: a line `price:factor=2,start=12h`, a mapping of `name` and settings, or one made.
ShockLike: TypeAlias = str | Mapping[str, Any] | Shock

__all__ = [
    "SHOCKS",
    "ClickRateShock",
    "PriceShock",
    "Shock",
    "ShockLike",
    "TrafficShock",
    "ValueShock",
    "shocked",
]


def shocked(
    chunks: Iterable[Auctions], shocks: Sequence[ShockLike], auctions: int, seed: int = 0
) -> Iterator[Auctions]:
    """The stream under shocks, which multiply where they meet.

    Args:
        shocks: each as `SHOCKS.read` takes it: `traffic:factor=0.5,start=0.5,end=0.75`.
        auctions: of the whole stream as it comes in, by which shares are reckoned.
        seed: of what is drawn; the same however the stream is chunked.

    Raises:
        ConfigError: a shock that there is not, or settings that it cannot have.
        DataError: a shock by hours without timestamps.
    """
    read = [SHOCKS.read(one) for one in shocks]
    kinds = sorted({type(one) for one in read}, key=lambda kind: kind.order)
    actions = [(kind.action(seed), [one for one in read if type(one) is kind]) for kind in kinds]
    row = 0
    for chunk in chunks:
        place = np.arange(row, row + len(chunk), dtype=np.float64)
        row += len(chunk)
        for act, ones in actions:
            factor = np.ones(len(place))
            for one in ones:
                factor = factor * one.factors(place, auctions, chunk.timestamp)
            chunk, rows = act(chunk, factor)
            place = place[rows]
        if len(chunk):
            yield chunk
