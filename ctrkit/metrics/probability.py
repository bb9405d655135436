"""Metrics of probabilities, row by row: log loss, normalised entropy, Brier score and its parts."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike

from ctrkit.arrays import Floats
from ctrkit.metrics.calibration import Strategy, bin_index
from ctrkit.metrics.checks import dense_rank, need_both_classes, probability_rows

# A probability of exactly 0 or 1 that is wrong costs -log(2.2e-16) = 36 nats, as in scikit-learn, and not ∞.
SMALLEST = float(np.finfo(np.float64).eps)


def log_loss(labels: ArrayLike, probabilities: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Mean of -(y log p + (1 - y) log(1 - p)), in nats; p is clipped to [2.2e-16, 1 - 2.2e-16].

    Raises:
        DataError: bad values.
    """
    y, p, w = probability_rows(labels, probabilities, weight)
    return float(w @ log_losses(y, p) / w.sum())


def brier(labels: ArrayLike, probabilities: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Mean of (p - y)² (Brier 1950).

    Raises:
        DataError: bad values.
    """
    y, p, w = probability_rows(labels, probabilities, weight)
    return float(w @ np.square(p - y) / w.sum())


def normalized_entropy(labels: ArrayLike, probabilities: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Log loss over the log loss of always predicting the rows' own base rate (He et al. 2014, eq. 1).

    A value below 1 is better than the base rate. Unlike log loss it can be compared between data with
    different base rates.

    Raises:
        DataError: bad values, or only one class has weight.
    """
    y, p, w = probability_rows(labels, probabilities, weight)
    need_both_classes(float(w @ y), float(w @ (1 - y)), "normalized entropy")
    return float(w @ log_losses(y, p) / w.sum() / entropy(float(w @ y / w.sum())))


def relative_information_gain(
    labels: ArrayLike, probabilities: ArrayLike, weight: ArrayLike | None = None
) -> float:
    """1 - `normalized_entropy`: the share of the base rate's log loss that the probabilities save.

    This is RIG of He et al. 2014 (section 3) and of Yi et al. 2013 ("Predictive model performance: offline
    and online evaluations"). 0 is as good as the base rate, 1 is perfect, and below 0 is worse than the base
    rate.

    Raises:
        DataError: bad values, or only one class has weight.
    """
    return 1.0 - normalized_entropy(labels, probabilities, weight)


@dataclass(frozen=True)
class BrierDecomposition:
    """The parts of a Brier score: brier = reliability - resolution + uncertainty + within.

    Attributes:
        reliability: Σ_b share_b · (mean p_b - mean y_b)², the error that calibration would remove.
        resolution: Σ_b share_b · (mean y_b - rate)², the gain from distinguishing rows; more is better.
        uncertainty: rate · (1 - rate), the score of always predicting the base rate.
        within: differences within bins, Σ_b share_b · (variance of p - 2 · covariance of p and y). It is 0 if
            the predictions of each bin are equal, and below 0 if they distinguish rows within a bin.
    """

    reliability: float
    resolution: float
    uncertainty: float
    within: float

    @property
    def brier(self) -> float:
        """The Brier score that the parts add up to."""
        return self.reliability - self.resolution + self.uncertainty + self.within

    def to_dict(self) -> dict[str, float]:
        """Plain data, for JSON."""
        return asdict(self)


def brier_decomposition(
    labels: ArrayLike,
    probabilities: ArrayLike,
    bins: int | None = None,
    strategy: Strategy = "mass",
    weight: ArrayLike | None = None,
) -> BrierDecomposition:
    """The parts of the Brier score, which add up to it exactly.

    Without `bins`, rows of equal probability are a bin (the decomposition of Murphy 1973). This is useful
    only if many rows share a probability; if all differ, reliability is the whole score. With `bins`, the
    part `within` holds the variation inside bins (Stephenson, Coelho & Jolliffe 2008, "Two extra components
    in the Brier score decomposition": within-bin variance minus twice the within-bin covariance).

    Args:
        labels: 0 or 1, [N].
        probabilities: the predicted probabilities, [N].
        bins: the number of bins; None for one bin per distinct probability.
        strategy: `mass` for bins of equal mass, `width` for bins of equal width.
        weight: the weight of each row, [N]; a row of weight 2 counts as two.

    Raises:
        DataError: bad values.
        ConfigError: a bad number of bins or an unknown strategy.
    """
    y, p, w = probability_rows(labels, probabilities, weight)
    index = dense_rank(p) if bins is None else bin_index(p, w, bins, strategy)
    mass = np.bincount(index, w)
    divisor = np.where(mass > 0, mass, 1.0)
    mean_p, mean_y = np.bincount(index, w * p) / divisor, np.bincount(index, w * y) / divisor
    share, rate = mass / mass.sum(), float(w @ y / w.sum())
    within = 0.0
    if bins is not None:
        deviation = p - mean_p[index]
        within = float(w @ (deviation * (deviation - 2 * (y - mean_y[index]))) / w.sum())
    return BrierDecomposition(
        reliability=float(share @ np.square(mean_p - mean_y)),
        resolution=float(share @ np.square(mean_y - rate)),
        uncertainty=rate * (1 - rate),
        within=within,
    )


def log_losses(y: Floats, p: Floats) -> Floats:
    """The log loss of each row, [N]."""
    p = np.clip(p, SMALLEST, 1 - SMALLEST)
    # The label is 0 or 1, so one term is 0 and one logarithm is enough.
    return -np.log(np.where(y == 1, p, 1 - p))


def entropy(rate: float) -> float:
    """Entropy of a label that is 1 at this rate, in nats."""
    return float(-(rate * np.log(rate) + (1 - rate) * np.log1p(-rate)))
