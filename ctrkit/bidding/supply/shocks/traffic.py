"""More auctions, or fewer."""

from __future__ import annotations

import numpy as np

from ctrkit.arrays import Floats, Indices
from ctrkit.bidding.market.auctions import Auctions
from ctrkit.bidding.supply.outcomes import Aftermath, clicks_of
from ctrkit.bidding.supply.rows import picked
from ctrkit.bidding.supply.shocks.base import Action, Shock, generator
from ctrkit.settings import checked


@checked
class TrafficShock(Shock):
    """The number of auctions changes.

    A factor below 1 leaves out auctions at random. A factor above 1 repeats auctions at the same moment: as
    often as its whole part says, and once more at random by the rest. If the truth is known, clicks of the
    repeats are drawn again.
    """

    name = "traffic"
    order = 0

    @classmethod
    def action(cls, seed: int) -> Action:
        copies, repeats, aftermath = generator(seed, 1), generator(seed, 2), Aftermath()

        def busier(chunk: Auctions, factor: Floats) -> tuple[Auctions, Indices]:
            times = np.floor(factor + copies.random(len(factor))).astype(np.intp)
            rows = np.repeat(np.arange(len(chunk)), times)
            return _busier(chunk, rows, repeats, aftermath), rows

        return busier


def _busier(chunk: Auctions, rows: Indices, rng: np.random.Generator, aftermath: Aftermath) -> Auctions:
    busy = picked(chunk, rows)
    if chunk.click is None or chunk.true_click_probability is None:
        return busy
    repeat = np.flatnonzero(rows == np.concatenate([[-1], rows[:-1]]))
    click = clicks_of(busy)
    chance = chunk.true_click_probability[rows[repeat]]
    click[repeat] = rng.random(chance.shape) < chance
    return aftermath.with_clicks(busy, click)
