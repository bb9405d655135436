"""Smooth landscapes: log-normal, log-logistic (logistic in log b) and gamma, with a share of prices at 0."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from ctrkit.arrays import Floats
from ctrkit.bidding.landscapes.base import Landscape
from ctrkit.bidding.landscapes.bounds import PriceBounds
from ctrkit.bidding.landscapes.likelihood import Family, LogTerms, fit_market, row_likelihood
from ctrkit.errors import ConfigError

# Step of log k in the five-point difference: its error and the rounding are then both below 1e-10.
SHAPE_STEP = 2e-3


@dataclass(frozen=True)
class SmoothLandscape(Family, Landscape):
    """P(z ≤ b) = zero + (1 - zero) G(log b), with G of one location and one shape.

    Attributes:
        location: log of the median of the prices above 0; for gamma, log of their mean.
        log_shape: log of σ (log-normal), of the logistic's scale s (log-logistic), or of k (gamma).
        zero: the share of prices that are 0.
        covariance: after `fit`, the covariance of (location, log_shape) and, if zero is above 0, logit(zero):
            the inverse of the observed information, in which a weight counts as that many auctions.
    """

    location: float
    log_shape: float
    zero: float = 0.0
    covariance: Floats | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not (np.isfinite(self.location) and np.isfinite(self.log_shape)):
            raise ConfigError(f"a {self.name} landscape needs a finite location and shape")
        if not 0 <= self.zero < 1:
            raise ConfigError(f"the share of prices at 0 is {self.zero:g} and must be in [0, 1)")

    @classmethod
    def of(cls, scale: float, shape: float, zero: float = 0.0) -> Self:
        """A landscape from exp(location), in units of money, and exp(log_shape), both above 0."""
        if not (scale > 0 and shape > 0):
            raise ConfigError(
                f"scale and shape of a {cls.name} landscape must be above 0, but are {scale:g} and {shape:g}"
            )
        return cls(float(np.log(scale)), float(np.log(shape)), zero)

    @classmethod
    def fit(cls, bounds: PriceBounds) -> Self:
        """The landscape of maximum likelihood from what is known of the prices.

        A share of prices at 0 is fitted if there are prices of 0, or bids of 0 that won.

        Raises:
            DataError: one price explains every row, or the rows do not determine location and shape.
        """
        return cls(*fit_market(cls, bounds))

    @abstractmethod
    def _log_quantile(self, probability: Floats) -> Floats:
        """y with G(y) = probability in [0, 1]."""

    def win_probability(self, bid: ArrayLike) -> Floats:
        bids = np.asarray(bid, np.float64)
        won = np.where(bids >= 0, self.zero, 0.0)
        inside = (bids > 0) & (bids < np.inf)
        log_cdf = self.log_terms(np.log(bids[inside]), self.location, self.log_shape).log_cdf
        won[inside] += (1 - self.zero) * np.exp(log_cdf)
        won[bids == np.inf] = 1.0
        return won

    def density(self, price: ArrayLike) -> Floats:
        """dF/dz above 0, of prices of any shape; 0 elsewhere (`zero` is the probability of 0)."""
        prices = np.asarray(price, np.float64)
        found = np.zeros(prices.shape)
        inside = (prices > 0) & (prices < np.inf)
        y = np.log(prices[inside])
        log_pdf = self.log_terms(y, self.location, self.log_shape).log_pdf
        found[inside] = (1 - self.zero) * np.exp(log_pdf - y)
        return found

    def quantile(self, probability: ArrayLike) -> Floats:
        share = np.asarray(probability, np.float64)
        above = np.clip((share - self.zero) / (1 - self.zero), 0.0, 1.0)
        return np.where(share <= self.zero, 0.0, np.exp(self._log_quantile(above)))

    def worth_of(self, bid: ArrayLike) -> Floats:
        """The worth b + F(b) / f(b) for which a bid b above 0 meets the best bid's first-order condition."""
        y = np.log(np.asarray(bid, np.float64))
        terms = self.log_terms(y, self.location, self.log_shape)
        log_ratio = terms.log_cdf - terms.log_pdf
        if self.zero:
            log_ratio = np.logaddexp(log_ratio, np.log(self.zero / (1 - self.zero)) - terms.log_pdf)
        return np.asarray(np.exp(y + np.logaddexp(0.0, log_ratio)))

    def log_likelihood(self, bounds: PriceBounds) -> float:
        logit = float(special.logit(self.zero)) if self.zero else None
        rows = row_likelihood(type(self), bounds, self.location, self.log_shape, logit)
        return float(bounds.weight @ rows.value)


class _LocationScale(SmoothLandscape):
    """y = location + shape · x with x of a fixed distribution."""

    @staticmethod
    def pdf_by_shape(y: Floats, location: float, log_shape: float, terms: LogTerms) -> Floats:
        return -1 - (y - location) * terms.pdf_slope

    @staticmethod
    def cdf_by_shape(y: Floats, location: float, log_shape: float, terms: LogTerms) -> Floats:
        return location - y


class LogNormal(_LocationScale):
    """log z ~ N(location, σ²)."""

    name: ClassVar[str] = "log-normal"

    @staticmethod
    def log_terms(y: Floats, location: float, log_shape: float) -> LogTerms:
        scale = np.exp(log_shape)
        x = (y - location) / scale
        log_pdf = -0.5 * x**2 - 0.5 * np.log(2 * np.pi) - log_shape
        return LogTerms(special.log_ndtr(x), special.log_ndtr(-x), log_pdf, -x / scale)

    def _log_quantile(self, probability: Floats) -> Floats:
        return np.asarray(self.location + np.exp(self.log_shape) * special.ndtri(probability))


class LogLogistic(_LocationScale):
    """F(b) = 1 / (1 + exp(-(log b - location) / s)): a logistic regression of winning on the log of the bid.

    Its mean is infinite for s of 1 and above.
    """

    name: ClassVar[str] = "log-logistic"

    @staticmethod
    def log_terms(y: Floats, location: float, log_shape: float) -> LogTerms:
        scale = np.exp(log_shape)
        x = (y - location) / scale
        log_cdf, log_sf = special.log_expit(x), special.log_expit(-x)
        return LogTerms(log_cdf, log_sf, log_cdf + log_sf - log_shape, -np.tanh(x / 2) / scale)

    def _log_quantile(self, probability: Floats) -> Floats:
        return np.asarray(self.location + np.exp(self.log_shape) * special.logit(probability))


class Gamma(SmoothLandscape):
    """z ~ gamma of mean exp(location) and shape k; k = 1 is exponential."""

    name: ClassVar[str] = "gamma"

    @staticmethod
    def log_terms(y: Floats, location: float, log_shape: float) -> LogTerms:
        k, log_x = np.exp(log_shape), y - location + log_shape
        x = np.exp(log_x)
        log_pdf = k * log_x - x - special.gammaln(k)
        return LogTerms(*_log_gamma_cdf_sf(k, log_x), log_pdf, k - x)

    @staticmethod
    def pdf_by_shape(y: Floats, location: float, log_shape: float, terms: LogTerms) -> Floats:
        k, log_x = np.exp(log_shape), y - location + log_shape
        return np.asarray(k * (log_x + 1 - special.digamma(k)) - np.exp(log_x))

    @staticmethod
    def cdf_by_shape(y: Floats, location: float, log_shape: float, terms: LogTerms) -> Floats:
        log_x = y - location + log_shape
        # scipy has no derivative of the incomplete gamma function by its shape, so five points give it.
        near = [
            _log_gamma_cdf_sf(np.exp(log_shape + step * SHAPE_STEP), log_x + step * SHAPE_STEP)
            for step in (-2, -1, 1, 2)
        ]
        cdf, sf = (
            (low2 - 8 * low + 8 * high - high2) / (12 * SHAPE_STEP)
            for low2, low, high, high2 in zip(*near, strict=True)
        )
        below = terms.log_cdf < terms.log_sf
        log_ratio = np.where(below, terms.log_cdf, terms.log_sf) - terms.log_pdf
        return np.asarray(np.where(below, cdf, -sf) * np.exp(np.minimum(log_ratio, 700.0)))

    def _log_quantile(self, probability: Floats) -> Floats:
        with np.errstate(divide="ignore"):
            log_x = np.log(special.gammaincinv(np.exp(self.log_shape), probability))
        return np.asarray(self.location - self.log_shape + log_x)


def _log_gamma_cdf_sf(k: Floats, log_x: Floats) -> tuple[Floats, Floats]:
    """log P(k, x) and log Q(k, x), by the first terms of their expansions where scipy's underflow."""
    x = np.exp(log_x)
    cdf, sf = special.gammainc(k, x), special.gammaincc(k, x)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        common = k * log_x - x
        low = common - special.gammaln(k + 1) - np.log1p(-x / (k + 1))
        high = common - log_x - special.gammaln(k) - np.log1p((1 - k) / x)
        return np.where(cdf > 1e-290, np.log(cdf), low), np.where(sf > 1e-290, np.log(sf), high)
