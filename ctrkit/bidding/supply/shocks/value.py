"""A change of the value of a click."""

from __future__ import annotations

from dataclasses import replace

from ctrkit.arrays import Floats
from ctrkit.bidding.market.auctions import Auctions
from ctrkit.bidding.supply.shocks.base import Action, Shock, every_row
from ctrkit.settings import checked


@checked
class ValueShock(Shock):
    """The value of a click changes, with the true value and the money earned; bidders see the new values."""

    name = "value"
    order = 2

    @classmethod
    def action(cls, seed: int) -> Action:
        return every_row(_worthier)


def _worthier(chunk: Auctions, factor: Floats) -> Auctions:
    factor = factor[:, None]
    return replace(
        chunk,
        value_of_click=chunk.value_of_click * factor,
        true_value=None if chunk.true_value is None else chunk.true_value * factor,
        earned=None if chunk.earned is None else chunk.earned * factor,
    )
