"""Histogram binning: one probability per bin."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.calibration.base import Calibrator, CalibratorState, SegmentIds
from ctrkit.calibration.binning import bin_rows
from ctrkit.calibration.pooling import need_rising, rising_shares
from ctrkit.errors import ConfigError


class HistogramBinning(Calibrator):
    """A step function: the share of positives in each bin of equal mass (Zadrozny & Elkan 2001).

    Neighbouring bins whose shares fall are pooled, so that the order is kept; the original does not do this.
    Before that, one row is added to each bin, positive in the proportion of all rows. So no bin is certain,
    and the mean prediction stays the base rate (the m-estimate of Cestnik 1990, m = 1).

    All logits of a bin share a probability: to rank by it, break ties with `ranking_key`.

    Args:
        bins: the largest number of bins.

    Attributes:
        edges: the highest logit of each fitted bin but the last, [B - 1].
        probabilities: the probability of each fitted bin, [B].
    """

    name = "histogram"
    minimum_positives = 100
    edges: Floats
    probabilities: Floats

    def __init__(self, bins: int = 20) -> None:
        if bins < 2:
            raise ConfigError(f"{self.name} needs at least 2 bins, and {bins} was given")
        self.bins = bins

    def _fit(self, logits: Floats, labels: Floats, weight: Floats, segments: SegmentIds) -> None:
        found = bin_rows(logits, labels, weight, self.bins)
        rate = float(found.positives.sum() / found.mass.sum())
        starts, self.probabilities = rising_shares(found.positives + rate, found.mass + 1.0)
        self.edges = found.edges[starts[1:] - 1]

    def _probabilities(self, logits: Floats, segments: SegmentIds) -> Floats:
        return self.probabilities[np.searchsorted(self.edges, logits)]

    def _state(self) -> CalibratorState:
        return {"edges": self.edges, "probabilities": self.probabilities}

    def _load(self, state: Mapping[str, Floats]) -> None:
        edges, probabilities = state["edges"], state["probabilities"]
        if edges.ndim != 1 or probabilities.shape != (len(edges) + 1,):
            raise ValueError("the number of probabilities is not that of the edges plus one")
        if not (np.isfinite(edges).all() and (np.diff(edges) > 0).all()):
            raise ValueError("the edges do not rise")
        need_rising(probabilities)
        self.edges, self.probabilities = edges, probabilities
