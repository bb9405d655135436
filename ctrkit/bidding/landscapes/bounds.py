"""What auctions tell about the market price: the price itself, or a bound on either side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from ctrkit.arrays import Booleans, Floats
from ctrkit.errors import ConfigError, DataError
from ctrkit.metrics.checks import as_column


@dataclass(frozen=True)
class PriceBounds:
    """For each of n auctions: low < z ≤ high, or z = low = high where the price is known.

    The bounds lie so because a bid wins at or above the market price: won says z ≤ bid, lost says z > bid.
    Make one by the class methods, each of which is a kind of feedback.

    Attributes:
        low: [n], -inf where nothing is known from below (a price of 0 is then possible).
        high: [n], inf where nothing is known from above.
        weight: [n], how many auctions the row stands for.
    """

    low: Floats
    high: Floats
    weight: Floats

    def __len__(self) -> int:
        return len(self.low)

    @property
    def known(self) -> Booleans:
        """Where the price itself is known, [n]."""
        return np.equal(self.low, self.high)

    @classmethod
    def observed(cls, price: ArrayLike, weight: ArrayLike | None = None, unit: float = 0.0) -> Self:
        """Market prices of all auctions.

        Args:
            price: [n], at least 0.
            weight: [n], for example the counts of a histogram; 1 by default.
            unit: where prices are whole multiples of a unit, a price z stands for z - unit < z ≤ z, so that
                a smooth landscape meets the F of the whole prices; 0 takes prices as they are.
        """
        if not (np.isfinite(unit) and unit >= 0):
            raise ConfigError(f"unit is {unit:g} and must be at least 0")
        z = _money(price, "market_price")
        return cls(z - unit, z, _weights(weight, len(z)))

    @classmethod
    def second_price(
        cls, bid: ArrayLike, won: ArrayLike, paid: ArrayLike, weight: ArrayLike | None = None
    ) -> Self:
        """Second price: the price is what was paid where won, and above the bid where lost.

        Args:
            bid, won, paid: [n], as submitted, 0 or 1, and the market price where won (not read where lost).
        """
        return cls.minimum_to_win(bid, won, np.where(np.asarray(won, bool), paid, np.nan), weight)

    @classmethod
    def win_notice(cls, bid: ArrayLike, won: ArrayLike, weight: ArrayLike | None = None) -> Self:
        """First price with nothing but won or lost, 0 or 1: the price is at most the bid, or above it."""
        return cls.minimum_to_win(bid, won, np.full(np.shape(bid), np.nan), weight)

    @classmethod
    def minimum_to_win(
        cls, bid: ArrayLike, won: ArrayLike, minimum: ArrayLike, weight: ArrayLike | None = None
    ) -> Self:
        """First price where the exchange tells the minimum bid to win, NaN where it does not.

        Raises:
            DataError: lengths differ, a bid or price below 0, or a price that contradicts the outcome.
        """
        b, is_won = _money(bid, "bid"), as_column(won, "won") != 0
        told = np.asarray(minimum, np.float64)
        for name, column in (("won", is_won), ("market_price", told)):
            if column.shape != b.shape:
                raise DataError(f"bid has the shape {b.shape} and this {column.shape}", column=name)
        known = ~np.isnan(told)
        _money(np.where(known, told, 0.0), "market_price")
        wrong = known & ((told <= b) != is_won)
        if wrong.any():
            row = int(np.argmax(wrong))
            said = "won" if is_won[row] else "lost"
            raise DataError(
                f"a bid of {b[row]:g} has {said} at a market price of {told[row]:g}",
                column="market_price",
                row=row,
                hint="A bid wins at or above the market price; give both as of the same auction and unit",
            )
        low = np.where(known, told, np.where(is_won, -np.inf, b))
        high = np.where(known, told, np.where(is_won, b, np.inf))
        return cls(low, high, _weights(weight, len(b)))

    def merged(self) -> PriceBounds:
        """Rows with equal bounds as one of their whole weight, sorted; without rows that tell nothing."""
        says = (self.weight > 0) & ((self.low >= 0) | (self.high < np.inf))
        # As complex numbers, pairs sort several times faster than as columns.
        pairs = np.column_stack([self.low[says], self.high[says]]).view(np.complex128).ravel()
        distinct, place = np.unique(pairs, return_inverse=True)
        weight = np.zeros(len(distinct))
        np.add.at(weight, place, self.weight[says])
        return PriceBounds(distinct.real, distinct.imag, weight)

    def need_spread(self) -> None:
        """Raise a DataError where one single price would explain every row, so that none has a spread."""
        low = np.where(self.known, np.nextafter(self.low, -np.inf), self.low)
        if not len(self) or low.max() < self.high.min():
            raise DataError(
                "one single market price would explain every auction, so their spread cannot be known",
                hint="Give more auctions, with bids that sometimes win and sometimes lose at like heights",
            )


def _money(values: ArrayLike, column: str) -> Floats:
    amounts = as_column(values, column)
    if (negative := amounts < 0).any():
        row = int(np.argmax(negative))
        raise DataError(f"{amounts[row]:g} is below 0", column=column, row=row, hint="Drop such rows")
    return amounts


def _weights(weight: ArrayLike | None, n: int) -> Floats:
    if weight is None:
        return np.ones(n)
    mass = _money(weight, "weight")
    if len(mass) != n or not mass.any():
        raise DataError(f"{n} weights are needed, not all 0", column="weight")
    return mass
