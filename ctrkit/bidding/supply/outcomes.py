"""Potential outcomes with new luck: clicks are drawn again, with the conversion and money that follow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from ctrkit.arrays import Booleans, Floats
from ctrkit.bidding.market.auctions import Auctions
from ctrkit.errors import DataError

Flags: TypeAlias = Booleans


class Aftermath:
    """The conversions and earned money of clicks that are drawn again.

    A click that stays keeps its conversion and money; a click that goes loses them. A new click gets those of
    the latest click on the same ad in the stream so far; before the first click on an ad, it gets no
    conversion and the expected value of a click. So over a long stream new clicks convert and earn as the old
    ones did.

    One object handles one whole stream, chunk by chunk.
    """

    def __init__(self) -> None:
        # Column -> its value at the latest click on each ad: [K], NaN before the first click.
        self._latest: dict[str, Floats] = {}

    def with_clicks(self, auctions: Auctions, click: Flags) -> Auctions:
        """The next chunk of the stream with other clicks [n, K], and with their conversions and money.

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
    """The potential clicks, [n, K]; raises a DataError if the stream has none."""
    if auctions.click is None:
        raise DataError(
            "the potential clicks are unknown, so they cannot be drawn again",
            column="click",
            hint="Give auctions with potential clicks",
        )
    return auctions.click.astype(np.bool_)
