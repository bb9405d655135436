"""Isotonic regression: the best non-decreasing curve from logit to probability, by rows or by bins."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.calibration.base import Calibrator, CalibratorState, SegmentIds
from ctrkit.calibration.binning import bin_rows
from ctrkit.calibration.pooling import distinct_logits, need_rising, rising_shares
from ctrkit.errors import ConfigError

# The weight of the row added as a positive at the lowest logit, and as a negative at the highest.
END_WEIGHT = 0.5


class IsotonicRegression(Calibrator):
    """The best non-decreasing curve (Zadrozny & Elkan 2002), by pooling adjacent violators.

    Rows are pooled into blocks; the probability of a block is its share of positives. Between blocks the
    curve is linear in the logit, and beyond the ends it is flat. The lowest block would often be all
    negatives and the highest all positives, but no finite sample supports probabilities of 0 and 1. So before
    pooling half a positive row is added at the lowest logit and half a negative row at the highest, as in
    Jeffreys' prior for a share: an end block of n negatives gives 0.5 / (n + 0.5).

    Many logits share a probability: to rank by it, break ties by the logit with `ranking_key`.

    Attributes:
        knots: the logits at the corners of the fitted curve, rising, [K].
        probabilities: the probabilities at the corners, rising, [K].
    """

    name = "isotonic"
    minimum_positives = 200
    knots: Floats
    probabilities: Floats

    def _fit(self, logits: Floats, labels: Floats, weight: Floats, segments: SegmentIds) -> None:
        self._draw(*distinct_logits(logits, labels, weight))

    def _draw(self, places: Floats, positives: Floats, mass: Floats) -> None:
        """Set the curve from rows pooled by logit (`places`); changes `positives` and `mass`."""
        positives[0] += END_WEIGHT
        mass[0] += END_WEIGHT
        mass[-1] += END_WEIGHT
        starts, shares = rising_shares(positives, mass)
        ends = np.append(starts[1:], len(places)) - 1
        corners = np.unique(np.concatenate([starts, ends]))  # a block of one logit has one corner
        block = np.searchsorted(starts, corners, side="right") - 1
        self.knots, self.probabilities = places[corners], shares[block]

    def _probabilities(self, logits: Floats, segments: SegmentIds) -> Floats:
        return np.interp(logits, self.knots, self.probabilities)

    def _state(self) -> CalibratorState:
        return {"knots": self.knots, "probabilities": self.probabilities}

    def _load(self, state: Mapping[str, Floats]) -> None:
        knots, probabilities = state["knots"], state["probabilities"]
        if knots.ndim != 1 or not knots.size or knots.shape != probabilities.shape:
            raise ValueError("knots and probabilities have different lengths")
        if not (np.isfinite(knots).all() and (np.diff(knots) > 0).all()):
            raise ValueError("the knots do not rise")
        need_rising(probabilities)
        self.knots, self.probabilities = knots, probabilities


class BinnedIsotonic(IsotonicRegression):
    """Isotonic regression on quantile bins, for tens of millions of rows: one pass, and memory for the bins.

    All rows of a bin are placed at their mean logit; the bins have about equal weight. With the default 2,000
    bins the curve differs from that of the rows by less than its noise.

    Args:
        bins: the largest number of bins.
    """

    name = "binned-isotonic"
    automatic = False  # the curve is that of isotonic, which is fast enough for the choice

    def __init__(self, bins: int = 2000) -> None:
        if bins < 2:
            raise ConfigError(f"{self.name} needs at least 2 bins, and {bins} was given")
        self.bins = bins

    def _fit(self, logits: Floats, labels: Floats, weight: Floats, segments: SegmentIds) -> None:
        found = bin_rows(logits, labels, weight, self.bins)
        self._draw(found.means, found.positives, found.mass)
