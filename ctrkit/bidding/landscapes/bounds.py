"""What is known of the market price of auctions: the price itself, or a bound on either side."""

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

    A bid wins at or above the market price, so won means z ≤ bid, and lost means z > bid. Each class method
    makes bounds from one kind of feedback.

    Attributes:
        low: [n], -inf without a lower bound (a price of 0 is then possible).
        high: [n], inf without an upper bound.
        weight: [n], the number of auctions that the row stands for.
    """

    low: Floats
    high: Floats
    weight: Floats

    def __len__(self) -> int:
        return len(self.low)

    @property
    def known(self) -> Booleans:
        """[n], whether the price itself is known."""
        return np.equal(self.low, self.high)

    @classmethod
    def observed(cls, price: ArrayLike, weight: ArrayLike | None = None, unit: float = 0.0) -> Self:
        """Market prices of all auctions.

        Args:
            price: [n], at least 0.
            weight: [n], for example the counts of a histogram; 1 by default.
            unit: the unit of which all prices are whole multiples. A price p then stands for
                p - unit < z ≤ p, so that a smooth landscape has the right F at whole prices. 0 takes prices
                as they are.
        """
        if not (np.isfinite(unit) and unit >= 0):
            raise ConfigError(f"unit is {unit:g} and must be at least 0")
        z = _money(price, "market_price")
        return cls(z - unit, z, _weights(weight, len(z)))

    @classmethod
    def second_price(
        cls, bid: ArrayLike, won: ArrayLike, paid: ArrayLike, weight: ArrayLike | None = None
    ) -> Self:
        """Second price: a won auction shows the price, which is what was paid; a lost one had a higher price.

        Args:
            bid: [n], as submitted.
            won: [n], 0 or 1.
            paid: [n], the market price where won; not read where lost.
            weight: [n], the number of auctions that each row stands for; 1 by default.
        """
        return cls.minimum_to_win(bid, won, np.where(np.asarray(won, bool), paid, np.nan), weight)

    @classmethod
    def win_notice(cls, bid: ArrayLike, won: ArrayLike, weight: ArrayLike | None = None) -> Self:
        """First price where only won or lost, 1 or 0, is known: the price is at most the bid, or above it."""
        return cls.minimum_to_win(bid, won, np.full(np.shape(bid), np.nan), weight)

    @classmethod
    def minimum_to_win(
        cls, bid: ArrayLike, won: ArrayLike, minimum: ArrayLike, weight: ArrayLike | None = None
    ) -> Self:
        """First price where the exchange tells the minimum bid to win.

        Args:
            bid: [n], as submitted.
            won: [n], 0 or 1.
            minimum: [n], the minimum bid to win; NaN where it is unknown.
            weight: [n], the number of auctions that each row stands for; 1 by default.

        Raises:
            DataError: lengths differ, a bid or price below 0, or a price that contradicts the outcome.
        """
        b, is_won = _money(bid, "bid"), as_column(won, "won") != 0
        told = np.asarray(minimum, np.float64)
        for name, column in (("won", is_won), ("market_price", told)):
            if column.shape != b.shape:
                raise DataError(f"the shape is {column.shape}, but that of bid is {b.shape}", column=name)
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
                hint="A bid wins at or above the market price; both must be of one auction, in one unit",
            )
        low = np.where(known, told, np.where(is_won, -np.inf, b))
        high = np.where(known, told, np.where(is_won, b, np.inf))
        return cls(low, high, _weights(weight, len(b)))

    def merged(self) -> PriceBounds:
        """Rows with equal bounds joined into one with the sum of their weights, sorted; rows without
        information are dropped."""
        says = (self.weight > 0) & ((self.low >= 0) | (self.high < np.inf))
        # As complex numbers, pairs sort several times faster than as columns.
        pairs = np.column_stack([self.low[says], self.high[says]]).view(np.complex128).ravel()
        distinct, place = np.unique(pairs, return_inverse=True)
        weight = np.zeros(len(distinct))
        np.add.at(weight, place, self.weight[says])
        return PriceBounds(distinct.real, distinct.imag, weight)

    def need_spread(self) -> None:
        """Raise a DataError if one single price would explain every row, so that no spread can be found."""
        low = np.where(self.known, np.nextafter(self.low, -np.inf), self.low)
        if not len(self) or low.max() < self.high.min():
            raise DataError(
                "one single market price would explain every auction, so the spread of prices is unknown",
                hint="Give more auctions, with similar bids of which some win and some lose",
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
        raise DataError(f"there must be {n} weights, not all 0", column="weight")
    return mass
