"""Risk-aware bidding: lower bids on impressions with an uncertain click probability."""

from __future__ import annotations

from dataclasses import replace
from typing import Self

import numpy as np
from pydantic import Field
from scipy.special import expit, logit

from ctrkit.arrays import Floats
from ctrkit.bidding.market.auctions import Slots
from ctrkit.bidding.pacing.dual import Pace
from ctrkit.bidding.strategies.base import AuctionHistory, Bids
from ctrkit.bidding.strategies.dual import DualBidding
from ctrkit.policies.laplace import LastLayerPosterior
from ctrkit.settings import NotNegative, Positive, checked


@checked
class RiskAwareBidding(DualBidding):
    """b = (E[y] − α·Std[y])·w/μ, where y is the uncertain click probability.

    This bid wins exactly at the prices z with E[profit] ≥ α·Std[profit], where profit = y·w/μ − z. If even a
    free impression does not meet that, the bid is 0.

    Source: H. Zhang, W. Zhang, Y. Rong, K. Ren, W. Li, J. Wang, Managing risk of bidding in display
    advertising, WSDM 2017, arXiv 1701.02433, with the uncertainty of the click probability alone.

    Attributes:
        posterior: the posterior of the model's last layer; its standard deviations replace `evidence`.
    """

    name = "risk-aware"
    risk_aversion: NotNegative = Field(default=1.0, description="α; 0 is dual pacing")
    evidence: Positive = Field(
        default=1000.0,
        description="n, the number of impressions that a pCTR counts for: y ~ Beta(pCTR·n, (1 − pCTR)·n); "
        "not used with a model that has a posterior",
    )
    posterior: LastLayerPosterior | None = Field(default=None, exclude=True)

    def knowing(self, posterior: LastLayerPosterior | None) -> Self:
        return self if posterior is None or self.posterior is not None else replace(self, posterior=posterior)

    def deviation(self, slots: Slots) -> Floats:
        """Std[y] of every candidate, [n, K]."""
        p = slots.click_probability
        if self.posterior is None or slots.hidden is None:
            return np.asarray(np.sqrt(p * (1.0 - p) / (self.evidence + 1.0)))
        features = np.concatenate([slots.hidden, np.ones((*p.shape, 1))], axis=2)
        covariance = np.linalg.inv(self.posterior.precision)
        spread = np.sqrt(np.einsum("nkd,de,nke->nk", features, covariance, features, optimize=True))
        # y = σ(logit p + spread·ε) with ε standard normal: the mean square around its mean, by quadrature.
        inner = np.clip(p, 1e-12, 1.0 - 1e-12)
        y = expit(logit(inner)[..., None] + spread[..., None] * _NODES)
        variance = y**2 @ _WEIGHTS - (y @ _WEIGHTS) ** 2
        return np.where(p > 0, np.sqrt(np.maximum(variance, 0.0)), 0.0)

    def worth(self, history: AuctionHistory) -> Floats | None:
        if self.posterior is not None:
            return None
        p = history.click_probability
        spread = np.sqrt((1.0 - p) / (np.where(p > 0, p, np.inf) * (self.evidence + 1.0)))
        return history.value * np.maximum(1.0 - self.risk_aversion * spread, 0.0)

    def bid(self, state: Pace, slots: Slots, rng: np.random.Generator) -> Bids:
        safe = slots.click_probability - self.risk_aversion * self.deviation(slots)
        return self.paced(state, slots, safe * slots.value_of_click)


_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(32)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
