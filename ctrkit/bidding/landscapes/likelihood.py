"""The likelihood of what is known of market prices, with its exact gradient, and its maximum."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

from ctrkit.arrays import Floats
from ctrkit.bidding.landscapes.bounds import PriceBounds
from ctrkit.errors import DataError

# Bounds of log_shape and logit(zero): no market lies outside.
LARGEST_LOG_SHAPE, LARGEST_LOGIT = 8.0, 25.0
# Central differences of a gradient: the error is about the square.
HESSIAN_STEP = 1e-5
# A curvature below this is lost in the error of the differences: the likelihood has no clear maximum.
FLAT = 1e-8
NEWTON_STEPS = 4


class LogTerms(NamedTuple):
    """For the distribution of y = log z: log G(y), log(1 - G(y)), log g(y), and d log g / dy."""

    log_cdf: Floats
    log_sf: Floats
    log_pdf: Floats
    pdf_slope: Floats


class Family(ABC):
    """A family of distributions of y = log z with one location and one shape."""

    name: ClassVar[str]

    @staticmethod
    @abstractmethod
    def log_terms(y: Floats, location: float, log_shape: float) -> LogTerms:
        """The terms at finite y = log z; all arrays have one shape."""

    @staticmethod
    @abstractmethod
    def pdf_by_shape(y: Floats, location: float, log_shape: float, terms: LogTerms) -> Floats:
        """The derivative of log g(y) by log_shape."""

    @staticmethod
    @abstractmethod
    def cdf_by_shape(y: Floats, location: float, log_shape: float, terms: LogTerms) -> Floats:
        """The derivative of G(y) by log_shape, divided by g(y)."""


@dataclass(frozen=True)
class RowLikelihood:
    """By row [n]: the log-likelihood, and its derivatives by location, log_shape and logit(zero)."""

    value: Floats
    by_location: Floats
    by_log_shape: Floats
    by_zero: Floats


def row_likelihood(
    family: type[Family],
    bounds: PriceBounds,
    location: float,
    log_shape: float,
    zero_logit: float | None,
) -> RowLikelihood:
    """The log-likelihood of each row: a density where the price is known and above 0, else a probability.

    Args:
        family: the family of distributions.
        bounds: what is known of the prices.
        location: the location of y.
        log_shape: the log of the shape.
        zero_logit: the logit of the share of prices at 0; None if no price is 0.
    """
    share = 0.0 if zero_logit is None else float(expit(zero_logit))
    log_zero = -np.inf if zero_logit is None else float(-np.logaddexp(0.0, -zero_logit))
    log_above = 0.0 if zero_logit is None else float(-np.logaddexp(0.0, zero_logit))
    n = len(bounds)
    value, by_location, by_shape = np.zeros(n), np.zeros(n), np.zeros(n)
    by_zero = np.full(n, -share)

    rows = np.flatnonzero(bounds.known & (bounds.low > 0))
    y = np.log(bounds.low[rows])
    terms = family.log_terms(y, location, log_shape)
    value[rows] = log_above + terms.log_pdf - y
    by_location[rows] = -terms.pdf_slope
    by_shape[rows] = family.pdf_by_shape(y, location, log_shape, terms)

    rows = np.flatnonzero(~bounds.known | (bounds.low <= 0))
    low, high = (_End.at(family, price[rows], location, log_shape) for price in (bounds.low, bounds.high))
    # The difference of two probabilities, in the tail where they are small.
    upper = low.log_cdf > np.log(0.5)
    larger, smaller = np.where(upper, low.log_sf, high.log_cdf), np.where(upper, high.log_sf, low.log_cdf)
    with np.errstate(invalid="ignore", divide="ignore"):
        inside = np.where(larger > -np.inf, larger + np.log(-np.expm1(smaller - larger)), -np.inf)
    from_zero = ((bounds.low[rows] < 0) | bounds.known[rows]) & (bounds.high[rows] >= 0)
    value[rows] = total = np.logaddexp(np.where(from_zero, log_zero, -np.inf), log_above + inside)
    with np.errstate(over="ignore", invalid="ignore"):
        # For an impossible row the value is -inf, and its derivatives do not matter.
        of_low, of_high = (np.exp(log_above + end.log_pdf - total) for end in (low, high))
        by_location[rows] = of_low - of_high
        by_shape[rows] = of_high * high.shape_slope - of_low * low.shape_slope
        by_zero[rows] = np.where(from_zero, np.exp(log_zero - total), 0.0) - share
    return RowLikelihood(value, by_location, by_shape, by_zero)


@dataclass(frozen=True)
class _End:
    """One end of the bounds, [n], which may also be at most 0 or infinite."""

    log_cdf: Floats
    log_sf: Floats
    log_pdf: Floats
    shape_slope: Floats

    @classmethod
    def at(cls, family: type[Family], price: Floats, location: float, log_shape: float) -> _End:
        n = len(price)
        log_cdf, log_sf = np.where(price > 0, 0.0, -np.inf), np.where(price > 0, -np.inf, 0.0)
        log_pdf, slope = np.full(n, -np.inf), np.zeros(n)
        rows = np.flatnonzero((price > 0) & (price < np.inf))
        y = np.log(price[rows])
        terms = family.log_terms(y, location, log_shape)
        log_cdf[rows], log_sf[rows], log_pdf[rows] = terms.log_cdf, terms.log_sf, terms.log_pdf
        slope[rows] = family.cdf_by_shape(y, location, log_shape, terms)
        return cls(log_cdf, log_sf, log_pdf, slope)


def has_zeros(bounds: PriceBounds) -> bool:
    """Whether some price is known to be 0."""
    return bool((bounds.high <= 0).any())


def log_prices(bounds: PriceBounds) -> Floats:
    """A rough log of the price by row, [n], to start a fit from; NaN where it is 0 or unknown."""
    low, high = bounds.low, bounds.high
    rough = np.where(high < np.inf, np.where(low > 0, (low + high) / 2, high), low)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(rough > 0, np.log(rough), np.nan)


def fit_market(family: type[Family], bounds: PriceBounds) -> tuple[float, float, float, Floats]:
    """The maximum-likelihood location, log_shape, zero and their covariance, by L-BFGS and Newton's method.

    Raises:
        DataError: one price explains every row, or the rows do not determine location and shape.
    """
    rows = bounds.merged()
    zeros = has_zeros(rows)
    positive = rows.high > 0
    PriceBounds(rows.low[positive], rows.high[positive], rows.weight[positive]).need_spread()
    weight = rows.weight / rows.weight.sum()

    def loss(theta: Floats) -> tuple[float, Floats]:
        found = row_likelihood(family, rows, theta[0], theta[1], theta[2] if zeros else None)
        slopes = [found.by_location, found.by_log_shape, found.by_zero][: len(theta)]
        return -float(weight @ found.value), np.array([-float(weight @ slope) for slope in slopes])

    rough = log_prices(rows)
    usable = ~np.isnan(rough)
    middle = np.average(rough[usable], weights=weight[usable])
    spread = np.sqrt(np.average((rough[usable] - middle) ** 2, weights=weight[usable])) + 0.1
    log_shape = float(-2 * np.log(spread) if family.name == "gamma" else np.log(spread))
    start, limits = [middle, log_shape], [(middle - 50, middle + 50), (-LARGEST_LOG_SHAPE, LARGEST_LOG_SHAPE)]
    if zeros:
        start.append(float(logit(np.clip(weight[~positive].sum(), 1e-6, 1 - 1e-6))))
        limits.append((-LARGEST_LOGIT, LARGEST_LOGIT))
    found = minimize(
        loss, np.array(start), jac=True, method="L-BFGS-B", bounds=limits, options={"ftol": 1e-14}
    )
    theta = np.asarray(found.x, np.float64)
    if any(value in limit for value, limit in zip(theta, limits, strict=True)):
        raise _left_open(family.name)
    for _ in range(NEWTON_STEPS):
        moved = theta - np.linalg.solve(_curvature(loss, theta, family.name), loss(theta)[1])
        if not loss(moved)[0] < loss(theta)[0]:
            break
        theta = moved
    covariance = np.linalg.inv(_curvature(loss, theta, family.name)) / rows.weight.sum()
    return float(theta[0]), float(theta[1]), float(expit(theta[2])) if zeros else 0.0, covariance


def _curvature(loss: Callable[[Floats], tuple[float, Floats]], theta: Floats, name: str) -> Floats:
    """The second derivatives, by central differences of the gradient."""
    columns = []
    for step in HESSIAN_STEP * np.eye(len(theta)):
        columns.append((loss(theta + step)[1] - loss(theta - step)[1]) / (2 * HESSIAN_STEP))
    curvature = np.array(columns)
    curvature = (curvature + curvature.T) / 2
    if np.linalg.eigvalsh(curvature)[0] <= FLAT:
        raise _left_open(name)
    return curvature


def _left_open(name: str) -> DataError:
    return DataError(
        f"the auctions do not determine the {name} landscape: many landscapes are about as likely",
        hint="Give more auctions, with bids over a wider range",
    )
