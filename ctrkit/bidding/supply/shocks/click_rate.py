"""A change of the click rate that bidders are not told of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.bidding.market.auctions import Auctions
from ctrkit.bidding.supply.outcomes import Aftermath, clicks_of
from ctrkit.bidding.supply.shocks.base import Action, Shock, every_row, generator
from ctrkit.settings import checked


@checked
class ClickRateShock(Shock):
    """The true click probability changes; the pCTR that bidders see does not.

    If the truth is unknown, the pCTR counts as the truth before the shock. A factor below 1 removes clicks at
    random. A factor above 1 keeps all clicks and adds others, so that the new rate holds exactly in
    expectation. Probabilities are capped at 1.
    """

    name = "click-rate"
    order = 1

    @classmethod
    def action(cls, seed: int) -> Action:
        rng, aftermath = generator(seed, 0), Aftermath()
        return every_row(lambda chunk, factor: _likelier(chunk, factor[:, None], rng, aftermath))


def _likelier(chunk: Auctions, factor: Floats, rng: np.random.Generator, aftermath: Aftermath) -> Auctions:
    known = chunk.true_click_probability
    before = chunk.click_probability if known is None else known
    after = np.minimum(before * factor, 1.0)
    gain = np.divide(after, before, out=np.ones_like(after), where=before > 0)
    true_value = None if chunk.true_value is None else chunk.true_value * gain
    moved = replace(chunk, true_click_probability=after, true_value=true_value)
    if chunk.click is None:
        return moved
    click, chance = clicks_of(chunk), rng.random(after.shape)
    come = np.divide(after - before, 1.0 - before, out=np.zeros_like(after), where=before < 1)
    return aftermath.with_clicks(moved, np.where(click, chance < gain, chance < come))
