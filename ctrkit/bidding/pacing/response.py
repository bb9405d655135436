"""Response curves: the value that a campaign would buy in an hour, by its spend there.

All curves are concave and piecewise linear. In second-price auctions that is no assumption: a bidder who buys
the best value per unit of money first meets ever worse offers. The curve of logged auctions is that of the
fractional knapsack; its slope at a spend is the multiplier of `ctrkit.bidding.optimum.hindsight` for that
budget.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from scipy.optimize import least_squares, nnls

from ctrkit.arrays import Floats
from ctrkit.errors import DataError

CurveShape: TypeAlias = Literal["concave", "log", "hill"]

# Slopes may rise by this share of the largest slope, by rounding, before a curve counts as not concave.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class ResponseCurve:
    """Expected value by spend: straight between knots, and constant after the last, where all is bought.

    Attributes:
        spend: [K], spends of the knots, rising from 0, in units of money.
        value: [K], values of the knots, concave and not falling.

    Raises:
        DataError: no knot at spend 0, spends that do not rise, values that fall, or slopes that rise.
    """

    spend: Floats
    value: Floats

    def __post_init__(self) -> None:
        spend, value = self.spend, self.value
        if spend.shape != value.shape or spend.ndim != 1 or not len(spend):
            raise DataError("a curve needs as many values as spends, and at least one")
        if not (np.isfinite(spend).all() and np.isfinite(value).all()):
            raise DataError("a spend or value of the curve is not finite", hint="Drop such rows")
        if spend[0] != 0 or (np.diff(spend) <= 0).any():
            raise DataError(
                "the spends of a curve must start at 0 and rise", hint="Sort them and drop duplicates"
            )
        slopes = self.slopes
        slack = _ROUNDING * float(np.abs(slopes).max(initial=0.0))
        if (slopes < -slack).any():
            raise DataError("the curve falls: more spend brings less value", hint="Fit it with `fit_curve`")
        if (np.diff(slopes) > slack).any():
            at = int(np.argmax(np.diff(slopes) > slack)) + 1
            raise DataError(
                f"the curve is not concave: after a spend of {spend[at]:g}, money brings more than before",
                hint="Fit it with `fit_curve`",
            )

    def __call__(self, spend: Floats | float) -> Floats:
        """Value at a spend of any shape, at least 0."""
        return np.asarray(np.interp(spend, self.spend, self.value), np.float64)

    @property
    def slopes(self) -> Floats:
        """Value per unit of money on each of the K − 1 pieces."""
        return np.diff(self.value) / np.diff(self.spend)

    @property
    def largest_spend(self) -> float:
        """The largest amount that can be spent."""
        return float(self.spend[-1])

    def marginal(self, spend: float) -> float:
        """Value of the next unit of money at a spend; 0 where nothing is left to buy."""
        piece = int(np.searchsorted(self.spend, spend, side="right")) - 1
        return float(self.slopes[piece]) if piece < len(self.spend) - 1 else 0.0

    def scaled(self, factor: float) -> ResponseCurve:
        """The curve of `factor` times as many auctions; 1/days for an average day of several."""
        return ResponseCurve(self.spend * factor, self.value * factor)


def auction_curve(value: Floats, price: Floats, knots: int = 20) -> ResponseCurve:
    """The curve of n auctions: the largest value that each spend can buy.

    The exact curve has up to n + 1 knots. The knot furthest above the curve so far is added until there are
    `knots` of them. The result is never above the exact curve.

    Args:
        value: [n], at least 0; an auction of value 0 is not bought.
        price: [n], at least 0; free auctions are bought at spend 0.
        knots: largest number of knots of the result.
    """
    worth = value > 0
    value, price = value[worth], price[worth]
    paid = price > 0
    given = float(value[~paid].sum())
    value, price = value[paid], price[paid]
    order = np.argsort(-value / price, kind="stable")
    spend = np.concatenate(([0.0], np.cumsum(price[order])))
    bought = np.concatenate(([0.0], np.cumsum(value[order]))) + given
    # Next to a large running sum a small price can vanish.
    rising = np.concatenate(([True], np.diff(spend) > 0))
    return _thinned(spend[rising], bought[rising], knots)


def joined_curve(curves: Sequence[ResponseCurve], knots: int = 100) -> ResponseCurve:
    """The curve of several curves together, when each spend is divided among them in the best way."""
    cost = np.concatenate([np.diff(curve.spend) for curve in curves])
    worth = np.concatenate([np.diff(curve.value) for curve in curves])
    joined = auction_curve(worth, cost, knots)
    return ResponseCurve(joined.spend, joined.value + sum(float(curve.value[0]) for curve in curves))


def fit_curve(spend: Floats, value: Floats, shape: CurveShape = "concave", knots: int = 20) -> ResponseCurve:
    """The curve nearest to n observed points by least squares, up to the largest observed spend.

    If no point is at a spend of 0, f(0) = 0 is assumed.

    - `concave`: any concave curve that does not fall, f(s) = a + Σ_j b_j min(s, s_j) with a, b ≥ 0 and knots
      at the observed spends s_j; points that already lie on such a curve stay where they are.
    - `log`: a · log(1 + s/b).
    - `hill`: a · s^h / (s^h + k^h) with h ≤ 1; with h above 1 it would not be concave.

    The last two become straight pieces between points of the curve; the first piece goes from 0 to the least
    observed spend.

    Args:
        spend: [n], at least 0, in any order; a spend may occur more than once.
        value: [n], at least 0.
        shape: the form of the curve.
        knots: largest number of knots for `log` and `hill`.

    Raises:
        DataError: no points, or a spend or value below 0.
    """
    if spend.shape != value.shape or not (np.isfinite(spend) & np.isfinite(value)).all():
        raise DataError("spends and values of a curve must be finite numbers", hint="Drop such rows")
    if (spend < 0).any() or (value < 0).any():
        raise DataError("a curve has a spend or value below 0", hint="Drop such rows")
    if not len(spend):
        raise DataError("a curve has no points", hint="Give at least one")
    largest, highest = float(spend.max()), float(value.max())
    if largest == 0 or highest == 0:  # nothing to buy, or nothing that is worth its price
        level = np.unique([0.0, largest])
        return ResponseCurve(level, np.full(len(level), value.mean()))
    x, y = spend / largest, value / highest
    if shape == "concave":
        at = np.unique(np.concatenate(([0.0], x)))
        design = np.minimum(x[:, None], at[None, 1:])
        level = np.full(len(x), float((x == 0).any()))
        weights, _ = nnls(np.column_stack([level, design]), y)
        fitted = weights[0] + np.minimum(at[:, None], at[1:]) @ weights[1:]
        bends = np.concatenate(([True], weights[1:-1] > 0, [True]))
        return ResponseCurve(at[bends] * largest, fitted[bends] * highest)
    form = _parametric(x, y, shape)
    # Equal steps of a power: the pieces are short near 0, where these curves bend most. Below the least
    # observed spend the data cannot distinguish a steep curve from a step, which would give free value.
    least = float(x[x > 0].min())
    at = np.concatenate(([0.0], least + (1.0 - least) * np.linspace(0.0, 1.0, 1000) ** 4))
    at = np.unique(at)
    return _thinned(at * largest, form(at) * highest, knots)


def _parametric(x: Floats, y: Floats, shape: CurveShape) -> Callable[[Floats], Floats]:
    """The fitted log or Hill curve of points in [0, 1]; the search is over the logs of its parameters."""

    def log(parameters: Floats, x: Floats) -> Floats:
        return np.asarray(np.exp(parameters[0]) * np.log1p(x * np.exp(-parameters[1])))

    def hill(parameters: Floats, x: Floats) -> Floats:
        height, middle, power = np.exp(parameters)
        return np.asarray(height * x**power / (x**power + middle**power))

    form, start = (log, [0.0, -1.0]) if shape == "log" else (hill, [0.0, -1.0, -0.2])
    # exp(±12): from a straight line to a step; a power of at most exp(0) = 1 is what makes Hill concave.
    high = [12.0, 12.0] if shape == "log" else [12.0, 12.0, 0.0]

    def missed(parameters: Floats) -> Floats:
        return form(parameters, x) - y

    found = least_squares(missed, start, bounds=([-12.0, -12.0, -3.0][: len(start)], high))

    def fitted(at: Floats) -> Floats:
        return form(found.x, at)

    return fitted


def _thinned(spend: Floats, value: Floats, knots: int) -> ResponseCurve:
    """A concave curve with at most `knots` of its knots, at least 2; each step closes the largest gap."""
    kept = np.unique([0, len(spend) - 1])
    while len(kept) < min(knots, len(spend)):
        gap = value - np.interp(spend, spend[kept], value[kept])
        worst = int(np.argmax(gap))
        if gap[worst] <= _ROUNDING * value[-1]:
            break
        kept = np.sort(np.append(kept, worst))
    return ResponseCurve(spend[kept], value[kept])
