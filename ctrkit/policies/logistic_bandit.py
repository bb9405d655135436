"""A linear logistic model of clicks that learns online, from a prior that knows what is usual."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logit

from ctrkit.errors import ConfigError, DataError
from ctrkit.metrics.checks import digits
from ctrkit.policies.laplace import LastLayerPosterior, evidence_precision

_ROUNDS = 100
# A prior deviation of a thousandth: the weights cannot be told from 0.
_STRONGEST = 1e6


class DiagonalPosterior(LastLayerPosterior):
    """The posterior whose weights are independent: of the precision only the diagonal is kept.

    An update by a batch is the MAP estimate m under the prior N(m, 1/q), then q_j += Σ x_j² p(1−p) there.
    Its deviations are those of each weight with the others held: too small where features go together.

    Source: Chapelle & Li 2011, Algorithm 3.

    Attributes:
        precision: [D + 1, D + 1], 0 off the diagonal.
    """

    @classmethod
    def of(cls, posterior: LastLayerPosterior) -> DiagonalPosterior:
        """A posterior with what is off the diagonal of its precision left out."""
        return cls(posterior.mean, np.diag(np.diag(posterior.precision)))

    def centred(self) -> DiagonalPosterior:
        return DiagonalPosterior(np.zeros_like(self.mean), self.precision)

    def update(
        self, hidden: ArrayLike, clicks: ArrayLike, offset: ArrayLike | None = None
    ) -> DiagonalPosterior:
        return self.of(super().update(hidden, clicks, offset))


@dataclass(frozen=True)
class CampaignPrior:
    """What past campaigns say of a new one, before its first impression.

    A standard normal prior takes half of all impressions for clicked, and its first updates serve to unlearn
    that; this one begins at the usual rate of clicks.

    Attributes:
        click_rate: mean over the population, between 0 and 1.
        precision: τ of the prior N(0, 1/τ) on each weight.
        impressions: how many impressions of its own outweigh the population's rate; the intercept has the
            precision that so many carry, impressions · rate · (1 − rate).

    Raises:
        ConfigError: a number out of range.
    """

    click_rate: float
    precision: float
    impressions: float = 1000.0

    def __post_init__(self) -> None:
        if not 0.0 < self.click_rate < 1.0:
            raise ConfigError(
                f"the population's click_rate is {digits(self.click_rate)}, and lies between 0 and 1",
                hint="Give clicks divided by impressions, for example 0.01",
            )
        for name in ("precision", "impressions"):
            if not (np.isfinite(value := getattr(self, name)) and value > 0):
                raise ConfigError(f"{name} is {digits(value)} and must be above 0")

    @classmethod
    def fit(
        cls,
        hidden: ArrayLike,
        clicks: ArrayLike,
        precision: float | None = None,
        impressions: float = 1000.0,
    ) -> CampaignPrior:
        """From rows of the population.

        Args:
            hidden: [N, D], features.
            clicks: [N], 0 or 1.
            precision: by default the τ of the highest Laplace evidence, MacKay's fixed point of the MAP
                estimate and `evidence_precision`; at most 1e6, where no weight can be told from 0.

        Raises:
            DataError: no rows, or none or all of them clicked.
        """
        x, y = np.asarray(hidden, np.float64), np.asarray(clicks, np.float64)
        if not len(y) or not 0.0 < (rate := float(y.mean())) < 1.0:
            raise DataError(
                "the population has no clicks or nothing but clicks, so its rate is unknown",
                column="click",
                hint="Give more rows",
            )
        if precision is not None:
            return cls(rate, precision, impressions)
        tau = 1.0
        for _ in range(_ROUNDS):
            flat = np.diag(np.append(np.full(x.shape[1], tau), 1e-9))
            fitted = LastLayerPosterior(np.append(np.zeros(x.shape[1]), logit(rate)), flat).update(x, y)
            before, tau = tau, evidence_precision(fitted.precision - flat, fitted.mean)
            if tau > _STRONGEST or abs(tau - before) < 1e-6 * tau:
                break
        return cls(rate, min(tau, _STRONGEST), impressions)

    def prior(self, width: int, diagonal: bool = False) -> LastLayerPosterior:
        """The belief of a linear logistic model of `width` features before its first impression.

        Args:
            diagonal: keep only the diagonal of the precision in every update.
        """
        known = self.impressions * self.click_rate * (1.0 - self.click_rate)
        mean = np.append(np.zeros(width), logit(self.click_rate))
        precision = np.diag(np.append(np.full(width, self.precision), known))
        return (DiagonalPosterior if diagonal else LastLayerPosterior)(mean, precision)
