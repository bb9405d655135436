"""Kaplan-Meier: F from second-price bids, where the price is known only if the bid won."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from ctrkit.arrays import Floats
from ctrkit.bidding.landscapes.bounds import PriceBounds
from ctrkit.bidding.landscapes.histogram import Histogram
from ctrkit.errors import DataError


@dataclass(frozen=True)
class KaplanMeier(Histogram):
    """The product-limit estimate: 1 - F(b) = Π over prices z ≤ b of (1 - d / n).

    d auctions are known to cost z, and n are known to cost z or more: those won at z or above and those lost
    with a bid of z or above, since a bid of z that lost says that the price is above z. It supposes that bids
    do not depend on prices; beyond the highest bid nothing is known.

    Source: E. L. Kaplan, P. Meier, Nonparametric estimation from incomplete observations, JASA 53 (1958); for
    auctions W. Zhang, T. Zhou, J. Wang, J. Xu, Bid-aware gradient descent for unbiased learning with censored
    data in display advertising, KDD 2016.

    Attributes:
        variance: of F at each price, [K], by Greenwood's formula (1 - F)² Σ d / (n (n - d)); a weight counts
            as that many auctions.
    """

    variance: Floats = field(compare=False)

    name: ClassVar[str] = "kaplan-meier"

    @classmethod
    def fit(cls, bounds: PriceBounds) -> Self:
        rows = bounds.merged()
        known = rows.known
        if not known.any() or not (known | ((rows.low >= 0) & (rows.high == np.inf))).all():
            raise DataError(
                "Kaplan-Meier needs a price or a lost bid from every auction, and at least one price",
                mend="Give won and lost second-price bids, or fit another kind",
            )
        price, died = rows.low[known], rows.weight[known]
        order = np.argsort(rows.low, kind="stable")
        reached = np.append(np.cumsum(rows.weight[order][::-1])[::-1], 0.0)
        at_risk = reached[np.searchsorted(rows.low[order], price, side="left")]
        # Sums of weights in another order differ in the last bits, and nobody can die of nobody.
        left = np.maximum(at_risk - died, 0.0)
        survival = np.cumprod(left / at_risk)
        with np.errstate(divide="ignore", invalid="ignore"):
            greenwood = survival**2 * np.cumsum(died / (at_risk * left))
        return cls(price, 1 - survival, np.where(survival > 0, greenwood, 0.0))

    def standard_error(self, bid: ArrayLike) -> Floats:
        """Of `win_probability`, for bids of any shape."""
        return self._at(bid, np.sqrt(self.variance))
