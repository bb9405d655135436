"""First-price bid shading: how far below its worth to bid, where the winner pays its bid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from ctrkit.arrays import Floats
from ctrkit.bidding.landscapes import SmoothLandscape
from ctrkit.errors import ConfigError

# A table tells bids apart that win all auctions but this share, and down to bids that win only this share.
NEGLIGIBLE = 1e-9
KNOTS = 2048
_MOST = 1e300


@dataclass(frozen=True)
class ShadingTable:
    """argmax over b of (v - multiplier · b) F(b) at rising worths v / multiplier, for millions of auctions.

    The multiplier is 1 without a budget, 1 + λ for one who maximises value less payment under a budget whose
    dual variable is λ, and μ for one who maximises value alone. The bid is at most the worth, rises with the
    value and falls with the multiplier.

    Between two knots the log of the bid is linear in the log of the worth; the knots themselves are exact.

    Source: T. Zhou et al., An efficient deep distribution network for bid shading in first-price auctions,
    KDD 2021 (arXiv 2107.06650); under a budget Q. Wang et al., Learning to bid in repeated first-price
    auctions with budgets, ICML 2023 (arXiv 2304.13477).

    Attributes:
        log_worth, log_bid: [K], rising. Above the last worth nearly every auction is won, and the bid stays.
        share: below the first worth the bid is this share of the worth: 0 where a bid of 0 is best, and else
            that of the first knot, where next to nothing is won.
    """

    log_worth: Floats
    log_bid: Floats
    share: float

    @classmethod
    def of(cls, landscape: SmoothLandscape, knots: int = KNOTS) -> Self:
        """A table of so many knots, or fewer with a share of prices at 0, over all bids that matter.

        Raises:
            ConfigError: fewer than 2 knots.
        """
        if knots < 2:
            raise ConfigError("a table of bids has at least 2 knots")
        ends = landscape.zero + (1 - landscape.zero) * np.array([NEGLIGIBLE, 1 - NEGLIGIBLE])
        with np.errstate(over="ignore"):  # of a landscape as wide as all numbers
            lowest, highest = np.clip(landscape.quantile(ends), 1.0 / _MOST, _MOST)
        bid = np.geomspace(lowest, highest, knots)
        if landscape.zero:
            # There the condition also holds where a bid earns least, or less than a bid of 0.
            first = int(np.argmax(_gain(landscape, bid) > 0))
            if first:
                least = brentq(
                    lambda b: float(_gain(landscape, np.asarray(b))), bid[first - 1], bid[first], xtol=1e-300
                )
                bid = np.append(least, bid[first:])
        worth = landscape.worth_of(bid)
        return cls(np.log(worth), np.log(bid), 0.0 if landscape.zero else float(bid[0] / worth[0]))

    def bid(self, value: ArrayLike, multiplier: ArrayLike = 1.0) -> Floats:
        """The best bids, of any shape.

        Args:
            value: of winning, in units of value.
            multiplier: above 0, in units of value a unit of money; broadcast with `value`.
        """
        worth = np.maximum(_worth(value, multiplier), 0.0)
        with np.errstate(divide="ignore"):
            log_worth = np.log(worth)
        within = np.exp(np.interp(log_worth, self.log_worth, self.log_bid))
        return np.where(log_worth < self.log_worth[0], self.share * worth, within)


def _gain(landscape: SmoothLandscape, bid: Floats) -> Floats:
    """What a bid earns more than a bid of 0, at the worth that the first-order condition gives it."""
    worth = landscape.worth_of(bid)
    return (worth - bid) * landscape.win_probability(bid) - worth * landscape.zero


def _worth(value: ArrayLike, multiplier: ArrayLike) -> Floats:
    if not (np.asarray(multiplier) > 0).all():
        raise ConfigError("a multiplier of the budget is above 0", hint="Give 1 where no budget binds")
    return np.asarray(value, np.float64) / np.asarray(multiplier, np.float64)
