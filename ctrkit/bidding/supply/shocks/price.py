"""A change of market prices."""

from __future__ import annotations

from dataclasses import replace

from ctrkit.arrays import Floats
from ctrkit.bidding.market.auctions import Auctions
from ctrkit.bidding.supply.shocks.base import Action, Shock, every_row
from ctrkit.settings import checked


@checked
class PriceShock(Shock):
    """Market prices change, those of all slots."""

    name = "price"
    order = 3

    @classmethod
    def action(cls, seed: int) -> Action:
        return every_row(_dearer)


def _dearer(chunk: Auctions, factor: Floats) -> Auctions:
    slots = None if chunk.slot_price is None else chunk.slot_price * factor[:, None]
    return replace(chunk, market_price=chunk.market_price * factor, slot_price=slots)
