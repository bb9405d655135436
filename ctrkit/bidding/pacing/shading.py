"""First-price bid shading: how far below the value to bid where the winner pays its own bid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from ctrkit.arrays import Floats
from ctrkit.bidding.landscapes import SmoothLandscape
from ctrkit.errors import ConfigError

# A table covers the bids that win more than this share of the auctions and lose more than this share.
NEGLIGIBLE = 1e-9
KNOTS = 2048
_MOST = 1e300


@dataclass(frozen=True)
class ShadingTable:
    """A table of argmax over b of (v - multiplier · b) F(b) by the worth v / multiplier.

    The multiplier is 1 without a budget. For a bidder who maximises value less payment under a budget it is
    1 + λ, with the dual variable λ of the budget; for a bidder who maximises value alone it is μ. The bid is
    at most the worth, rises with the value and falls with the multiplier.

    Between two knots the log of the bid is linear in the log of the worth; the knots are exact.

    Source: T. Zhou et al., An efficient deep distribution network for bid shading in first-price auctions,
    KDD 2021 (arXiv 2107.06650); under a budget Q. Wang et al., Learning to bid in repeated first-price
    auctions with budgets, ICML 2023 (arXiv 2304.13477).

    Attributes:
        log_worth: [K], rising. Above the last worth nearly every auction is won, and the bid stays constant.
        log_bid: [K], rising.
        share: the bid as a share of the worth below the first knot: 0 where a bid of 0 is best, else the
            share of the first knot, where almost nothing is won.
    """

    log_worth: Floats
    log_bid: Floats
    share: float

    @classmethod
    def of(cls, landscape: SmoothLandscape, knots: int = KNOTS) -> Self:
        """A table of `knots` knots over all bids that matter; fewer if some prices are 0.

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
            # With prices at 0 the condition also holds at a minimum, or where a bid of 0 earns more.
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
            value: the value of winning.
            multiplier: above 0, in units of value per unit of money; broadcast with `value`.
        """
        worth = np.maximum(_worth(value, multiplier), 0.0)
        with np.errstate(divide="ignore"):
            log_worth = np.log(worth)
        within = np.exp(np.interp(log_worth, self.log_worth, self.log_bid))
        return np.where(log_worth < self.log_worth[0], self.share * worth, within)


def _gain(landscape: SmoothLandscape, bid: Floats) -> Floats:
    """How much more a bid earns than a bid of 0, at the worth where it meets the first-order condition."""
    worth = landscape.worth_of(bid)
    return (worth - bid) * landscape.win_probability(bid) - worth * landscape.zero


def _worth(value: ArrayLike, multiplier: ArrayLike) -> Floats:
    if not (np.asarray(multiplier) > 0).all():
        raise ConfigError("a multiplier of the budget must be above 0", hint="Give 1 where no budget binds")
    return np.asarray(value, np.float64) / np.asarray(multiplier, np.float64)
