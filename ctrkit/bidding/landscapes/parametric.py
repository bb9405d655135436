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

# Newton's method for the best bid needs about ten steps, and gets more only where it creeps.
MOST_STEPS = 200
# Of log k, for the five-point difference: its error and the rounding are then both below 1e-10.
SHAPE_STEP = 2e-3


@dataclass(frozen=True)
class SmoothLandscape(Family, Landscape):
    """P(z ≤ b) = zero + (1 - zero) G(log b), with G of one location and one shape.

    The parameters are numbers, or arrays [n] for a market that differs from auction to auction; bids, worths
    and probabilities then are [n] too.

    Attributes:
        location: log of the median of the prices above 0; for gamma, log of their mean.
        log_shape: log of σ (log-normal), of the logistic's scale s (log-logistic), or of k (gamma).
        zero: the share of prices that are 0.
        covariance: after `fit`, of (location, log_shape) and, where zero is above 0, logit(zero): the inverse
            of the observed information, in which a weight counts as that many auctions.
    """

    location: float | Floats
    log_shape: float | Floats
    zero: float = 0.0
    covariance: Floats | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not (np.isfinite(self.location).all() and np.isfinite(self.log_shape).all()):
            raise ConfigError(f"a {self.name} landscape needs a finite location and shape")
        if not 0 <= self.zero < 1:
            raise ConfigError(f"the share of prices at 0 is {self.zero:g} and must be in [0, 1)")

    @classmethod
    def of(cls, scale: float, shape: float, zero: float = 0.0) -> Self:
        """From exp(location), in units of money, and exp(log_shape), both above 0."""
        if not (scale > 0 and shape > 0):
            raise ConfigError(
                f"scale and shape of a {cls.name} landscape are above 0, not {scale:g}, {shape:g}"
            )
        return cls(float(np.log(scale)), float(np.log(shape)), zero)

    @classmethod
    def fit(cls, bounds: PriceBounds) -> Self:
        """By maximum likelihood from whatever is known of the prices.

        A share at 0 is fitted where there are prices of 0 or bids of 0 that won.

        Raises:
            DataError: where one price explains every row, or the rows leave location or shape open.
        """
        return cls(*fit_market(cls, bounds))

    @abstractmethod
    def _log_quantile(self, probability: Floats) -> Floats:
        """y with G(y) = probability in [0, 1]."""

    @abstractmethod
    def _partial_mean(self, price: Floats) -> Floats:
        """E[z; z ≤ price] of the prices above 0, for prices above 0."""

    @abstractmethod
    def _farthest(self) -> Floats | float:
        """y beyond which g is 0 in floating point; no best bid lies there."""

    def win_probability(self, bid: ArrayLike) -> Floats:
        bids, location, log_shape = self._rows(bid)
        won = np.where(bids >= 0, self.zero, 0.0)
        inside = (bids > 0) & (bids < np.inf)
        log_cdf = self.log_terms(np.log(bids[inside]), location[inside], log_shape[inside]).log_cdf
        won[inside] += (1 - self.zero) * np.exp(log_cdf)
        won[bids == np.inf] = 1.0
        return won

    def density(self, price: ArrayLike) -> Floats:
        """dF/dz above 0, of prices of any shape; 0 elsewhere (`zero` is the probability of 0)."""
        prices, location, log_shape = self._rows(price)
        found = np.zeros(prices.shape)
        inside = (prices > 0) & (prices < np.inf)
        y = np.log(prices[inside])
        log_pdf = self.log_terms(y, location[inside], log_shape[inside]).log_pdf
        found[inside] = (1 - self.zero) * np.exp(log_pdf - y)
        return found

    def quantile(self, probability: ArrayLike) -> Floats:
        share = np.asarray(probability, np.float64)
        above = np.clip((share - self.zero) / (1 - self.zero), 0.0, 1.0)
        return np.where(share <= self.zero, 0.0, np.exp(self._log_quantile(above)))

    def expected_payment(self, bid: ArrayLike) -> Floats:
        bids = np.asarray(bid, np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = (1 - self.zero) * self._partial_mean(np.maximum(bids, 0.0))
        return np.where(bids > 0, mean, 0.0)

    def first_price_bid(self, worth: ArrayLike) -> Floats:
        """By Newton's method on the first-order condition, exact to rounding.

        With y = log b and r = F / (dF/dy), the condition is y + log(1 + r) = log worth. For these families
        log r is convex in y, also with a share at 0, so the left side is convex: from y = log worth, where it
        is too large, Newton's method falls towards the best bid and never beyond. With a share at 0 there may
        be no such bid, or one that earns less than to bid 0.
        """
        worths, location, log_shape = self._rows(worth)
        bids = np.zeros(worths.shape)
        rows = np.flatnonzero(worths.ravel() > 0)
        log_worth, m, t = (
            a.ravel()[rows] for a in (np.log(np.where(worths > 0, worths, 1)), location, log_shape)
        )
        far = np.broadcast_to(self._farthest(), worths.shape).ravel()[rows]
        y = np.minimum(log_worth, far)
        going = np.arange(len(rows))
        for _ in range(MOST_STEPS):
            if not len(going):
                break
            log_r, slope = self._log_ratio(y[going], m[going], t[going])
            rise = 1 + special.expit(log_r) * slope
            excess = y[going] + np.logaddexp(0.0, log_r) - log_worth[going]
            step = np.divide(excess, rise, out=np.full(len(going), np.inf), where=rise > 0)
            y[going] -= np.maximum(step, 0.0)
            going = going[(step > 1e-13) & (step < np.inf)]
        bids.ravel()[rows] = np.minimum(np.exp(y), worths.ravel()[rows])
        if self.zero:
            gain = (worths - bids) * self.win_probability(bids)
            bids[gain <= worths * self.zero] = 0.0
        return bids

    def worth_of(self, bid: ArrayLike) -> Floats:
        """The worth b + F(b) / f(b) at which a bid b above 0 meets the first-order condition of the best."""
        bids, location, log_shape = self._rows(bid)
        y = np.log(bids)
        return np.asarray(np.exp(y + np.logaddexp(0.0, self._log_ratio(y, location, log_shape)[0])))

    def log_likelihood(self, bounds: PriceBounds) -> float:
        logit = float(special.logit(self.zero)) if self.zero else None
        n = len(bounds)
        location, log_shape = (np.broadcast_to(a, n).astype(float) for a in (self.location, self.log_shape))
        return float(bounds.weight @ row_likelihood(type(self), bounds, location, log_shape, logit).value)

    def _rows(self, values: ArrayLike) -> tuple[Floats, Floats, Floats]:
        """Values and parameters of one shape."""
        a, b, c = np.broadcast_arrays(np.asarray(values, np.float64), self.location, self.log_shape)
        return np.asarray(a), np.asarray(b, np.float64), np.asarray(c, np.float64)

    def _log_ratio(self, y: Floats, location: Floats, log_shape: Floats) -> tuple[Floats, Floats]:
        """log(F / (dF/dy)) and its derivative by y."""
        terms = self.log_terms(y, location, log_shape)
        log_r = terms.log_cdf - terms.log_pdf
        slope = np.exp(-log_r) - terms.pdf_slope
        if not self.zero:
            return log_r, slope
        from_zero = np.log(self.zero / (1 - self.zero)) - terms.log_pdf
        share = special.expit(log_r - from_zero)
        return np.logaddexp(log_r, from_zero), share * slope - (1 - share) * terms.pdf_slope


class _LocationScale(SmoothLandscape):
    """y = location + shape · x with x of a fixed distribution."""

    @staticmethod
    def pdf_by_shape(y: Floats, location: Floats, log_shape: Floats, terms: LogTerms) -> Floats:
        return -1 - (y - location) * terms.pdf_slope

    @staticmethod
    def cdf_by_shape(y: Floats, location: Floats, log_shape: Floats, terms: LogTerms) -> Floats:
        return location - y


class LogNormal(_LocationScale):
    """log z ~ N(location, σ²)."""

    name: ClassVar[str] = "log-normal"

    @staticmethod
    def log_terms(y: Floats, location: Floats, log_shape: Floats) -> LogTerms:
        scale = np.exp(log_shape)
        x = (y - location) / scale
        log_pdf = -0.5 * x**2 - 0.5 * np.log(2 * np.pi) - log_shape
        return LogTerms(special.log_ndtr(x), special.log_ndtr(-x), log_pdf, -x / scale)

    def _log_quantile(self, probability: Floats) -> Floats:
        return self.location + np.exp(self.log_shape) * special.ndtri(probability)

    def _partial_mean(self, price: Floats) -> Floats:
        scale = np.exp(self.log_shape)
        x = (np.log(price) - self.location) / scale
        return np.exp(self.location + scale**2 / 2) * special.ndtr(x - scale)

    def _farthest(self) -> Floats | float:
        return self.location + 40 * np.exp(self.log_shape)


class LogLogistic(_LocationScale):
    """F(b) = 1 / (1 + exp(-(log b - location) / s)): a logistic regression of winning on the log of the bid.

    Its mean is infinite for s of 1 and above.
    """

    name: ClassVar[str] = "log-logistic"

    @staticmethod
    def log_terms(y: Floats, location: Floats, log_shape: Floats) -> LogTerms:
        scale = np.exp(log_shape)
        x = (y - location) / scale
        log_cdf, log_sf = special.log_expit(x), special.log_expit(-x)
        return LogTerms(log_cdf, log_sf, log_cdf + log_sf - log_shape, -np.tanh(x / 2) / scale)

    def _log_quantile(self, probability: Floats) -> Floats:
        return self.location + np.exp(self.log_shape) * special.logit(probability)

    def _partial_mean(self, price: Floats) -> Floats:
        # The incomplete beta function of G with exponents 1 + s and 1 - s, finite for any s while G < 1.
        s = np.exp(self.log_shape)
        g = special.expit((np.log(price) - self.location) / s)
        below = np.where(s < 1, s, 0.5)  # 0.5 is for the other form's rows, to keep this one finite
        regular = special.betainc(1 + below, 1 - below, g) * special.beta(1 + below, 1 - below)
        other = g ** (1 + s) / (1 + s) * special.hyp2f1(1 + s, s, 2 + s, g)
        return np.exp(self.location) * np.where(s < 1, regular, np.where(g < 1, other, np.inf))

    def _farthest(self) -> Floats | float:
        return np.inf


class Gamma(SmoothLandscape):
    """z ~ gamma of mean exp(location) and shape k; k = 1 is exponential."""

    name: ClassVar[str] = "gamma"

    @staticmethod
    def log_terms(y: Floats, location: Floats, log_shape: Floats) -> LogTerms:
        k, log_x = np.exp(log_shape), y - location + log_shape
        x = np.exp(log_x)
        log_pdf = k * log_x - x - special.gammaln(k)
        return LogTerms(*_log_gamma_cdf_sf(k, log_x), log_pdf, k - x)

    @staticmethod
    def pdf_by_shape(y: Floats, location: Floats, log_shape: Floats, terms: LogTerms) -> Floats:
        k, log_x = np.exp(log_shape), y - location + log_shape
        return k * (log_x + 1 - special.digamma(k)) - np.exp(log_x)

    @staticmethod
    def cdf_by_shape(y: Floats, location: Floats, log_shape: Floats, terms: LogTerms) -> Floats:
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

    def _partial_mean(self, price: Floats) -> Floats:
        mean, k = np.exp(self.location), np.exp(self.log_shape)
        return np.asarray(mean * special.gammainc(k + 1, price * k / mean))

    def _farthest(self) -> Floats | float:
        k = np.exp(self.log_shape)
        return self.location + np.log1p((40 * np.sqrt(k) + 1500) / k)


def _log_gamma_cdf_sf(k: Floats, log_x: Floats) -> tuple[Floats, Floats]:
    """log P(k, x) and log Q(k, x), by the first terms of their expansions where scipy's underflow."""
    x = np.exp(log_x)
    cdf, sf = special.gammainc(k, x), special.gammaincc(k, x)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        common = k * log_x - x
        low = common - special.gammaln(k + 1) - np.log1p(-x / (k + 1))
        high = common - log_x - special.gammaln(k) - np.log1p((1 - k) / x)
        return np.where(cdf > 1e-290, np.log(cdf), low), np.where(sf > 1e-290, np.log(sf), high)
