"""Shocks, one per file: changes of prices, values, click rates and traffic that bidders are not told of."""

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
# Ways to give a shock: a line `price:factor=2,start=12h`, a mapping of `name` and settings, or a `Shock`.
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
    """The stream under shocks; the factors of shocks that overlap are multiplied.

    Args:
        chunks: the auctions in order of time.
        shocks: each as `SHOCKS.read` takes it, such as `traffic:factor=0.5,start=0.5,end=0.75`.
        auctions: number of auctions of the whole stream before shocks, for start and end given as shares.
        seed: seed of random draws; the result is the same however the stream is chunked.

    Raises:
        ConfigError: an unknown shock, or wrong settings.
        DataError: a shock by hours for auctions without timestamps.
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
