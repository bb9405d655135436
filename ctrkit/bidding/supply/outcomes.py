"""Potential outcomes of other luck: who clicks is drawn anew, and what follows from a click goes along."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from ctrkit.arrays import Booleans, Floats
from ctrkit.bidding.market.auctions import Auctions
from ctrkit.errors import DataError

Flags: TypeAlias = Booleans


class Aftermath:
    """What follows from a click, its conversion and its money, for clicks that were not there before.

    A click that stays keeps what followed from it, and where there is none any more nothing follows. What
    follows from a new click is what followed from the latest click on the same ad in the stream so far;
    before the first one, no conversion, and the expected value of a click. So over a long stream new clicks
    convert and earn as the old ones did.

    One object sees a whole stream, chunk by chunk.
    """

    def __init__(self) -> None:
        # Of the latest click on each ad: [K], nan before there was one.
        self._latest: dict[str, Floats] = {}

    def with_clicks(self, auctions: Auctions, click: Flags) -> Auctions:
        """The next chunk of the stream with other clicks [n, K], and with what follows from them.

        Raises:
            DataError: a stream without clicks.
        """
        before = clicks_of(auctions)
        n, ads = before.shape
        row = np.maximum.accumulate(np.where(before, np.arange(n)[:, None], -1), axis=0)
        columns: dict[str, Any] = {"click": click.astype(np.float64)}
        for name, first in (("conversion", np.zeros((n, ads))), ("earned", auctions.value_of_click)):
            column = getattr(auctions, name)
            if column is None:
                continue
            here = np.take_along_axis(np.asarray(column, np.float64), np.maximum(row, 0), axis=0)
            known = np.where(row >= 0, here, self._latest.get(name, np.full(ads, np.nan)))
            if n:
                self._latest[name] = known[-1]
            columns[name] = np.where(click, np.where(np.isnan(known), first, known), 0.0)
        return replace(auctions, **columns)


def clicks_of(auctions: Auctions) -> Flags:
    """[n, K]; raises a DataError where the stream does not hold the potential clicks."""
    if auctions.click is None:
        raise DataError(
            "the potential clicks are unknown, so they cannot be drawn anew",
            column="click",
            hint="Give auctions that tell who would have clicked",
        )
    return auctions.click.astype(np.bool_)
