"""The distribution of predictions, for positive and for negative rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logit

from ctrkit.arrays import Floats
from ctrkit.errors import ConfigError
from ctrkit.metrics.checks import need_both_classes, probability_rows
from ctrkit.metrics.probability import SMALLEST


@dataclass(frozen=True)
class ScoreDistribution:
    """The share of positive and of negative rows in each bin of the predicted probability.

    Attributes:
        edges: the edges of the bins, as probabilities, evenly spaced in log-odds, [B + 1].
        positive: the share of (the weight of) positive rows in each bin, adding up to 1, [B].
        negative: the share of (the weight of) negative rows in each bin, adding up to 1, [B].
    """

    edges: Floats
    positive: Floats
    negative: Floats

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {name: values.tolist() for name, values in vars(self).items()}


def score_distribution(
    labels: ArrayLike, probabilities: ArrayLike, bins: int = 40, weight: ArrayLike | None = None
) -> ScoreDistribution:
    """Histogram of the predictions by class, in bins of equal width in log-odds.

    Click probabilities are close to 0: bins of equal width in probability would put them all in one bin.

    Args:
        labels: 0 or 1, [N].
        probabilities: the predicted probabilities, [N].
        bins: the number of bins.
        weight: the weight of each row, [N]; a row of weight 2 counts as two.

    Raises:
        DataError: bad values, or only one class.
        ConfigError: fewer than one bin.
    """
    if bins < 1:
        raise ConfigError(f"bins must be at least 1, and {bins} was given")
    y, p, w = probability_rows(labels, probabilities, weight)
    need_both_classes(float(w @ y), float(w @ (1 - y)), "a distribution by class")
    odds = logit(np.clip(p, SMALLEST, 1 - SMALLEST))
    low, high = float(odds.min()), float(odds.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, bins + 1)
    positive, _ = np.histogram(odds[y == 1], edges, weights=w[y == 1])
    negative, _ = np.histogram(odds[y == 0], edges, weights=w[y == 0])
    return ScoreDistribution(
        1.0 / (1.0 + np.exp(-edges)), positive / positive.sum(), negative / negative.sum()
    )
