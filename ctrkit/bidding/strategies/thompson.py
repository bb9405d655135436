"""Thompson sampling chooses the ad, dual pacing the bid."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit, logit

from ctrkit.bidding.auctions import Floats, Slots
from ctrkit.bidding.pacing import DualPacer, Pace
from ctrkit.bidding.strategies.base import Bids, BidStrategy, TickResult, best_ad, check_positive, of_ad
from ctrkit.errors import DataError
from ctrkit.policies.laplace import LastLayerPosterior


@dataclass(frozen=True)
class ThompsonState:
    """Pace of the episode, and the posterior of how far the last layer is from the calibrated model."""

    pace: Pace
    posterior: LastLayerPosterior


@dataclass(frozen=True)
class ThompsonBidding(BidStrategy[ThompsonState]):
    """Thompson sampling from the last-layer Laplace posterior, with dual pacing.

    The logit of a click is that of the calibrated pCTR plus φ·δ, where φ is what the last layer reads and δ
    is the deviation of its weights, a priori N(0, posterior covariance). So bids begin at the calibrated
    probabilities whatever the calibrator was, and the clicks that the bidder pays for correct them.

    For every slot δ is drawn anew, and the ad that is best under the draw is chosen. The bid is the value of
    the slot, the highest posterior mean, divided by μ: were it the mean of the ad that is explored, a low
    mean would lose the auction and never be corrected; were it the drawn value, the bid would be inflated
    by the highest of K noises (the winner's curse).

    Source: O. Chapelle, L. Li, An empirical evaluation of Thompson sampling, NeurIPS 2011; C. Riquelme,
    G. Tucker, J. Snoek, Deep Bayesian bandits showdown, ICLR 2018.

    Attributes:
        posterior: of the model's last layer for clicks; the episodes that follow keep what was learnt.
        exploration: factor on the posterior's deviations; below 1 explores less, 0 is greedy.
        step, initial_multiplier: as of dual pacing.
    """

    name = "thompson"
    posterior: LastLayerPosterior
    exploration: float = 1.0
    step: float = 1.0
    initial_multiplier: float | None = None

    def __post_init__(self) -> None:
        if self.exploration != 0:
            check_positive(self.name, "exploration", self.exploration)
        check_positive(self.name, "step", self.step)
        check_positive(self.name, "initial_multiplier", self.initial_multiplier)

    @property
    def pacer(self) -> DualPacer:
        return DualPacer(self.step, self.initial_multiplier)

    def start(self, budget: float, auctions: int) -> ThompsonState:
        return ThompsonState(self.pacer.start(budget, auctions), self.posterior.centred())

    def restart(self, state: ThompsonState, budget: float, auctions: int) -> ThompsonState:
        return replace(state, pace=self.pacer.start(budget, auctions))

    def bid(self, state: ThompsonState, slots: Slots, rng: np.random.Generator) -> Bids:
        hidden, calibrated = _hidden(slots), _logit(slots.click_probability)
        mean = state.posterior.mean
        drawn = mean + self.exploration * (state.posterior.sample(rng, len(slots)) - mean)
        score = calibrated + np.einsum("nkd,nd->nk", hidden, drawn[:, :-1]) + drawn[:, -1:]
        ad, _ = best_ad(expit(score) * slots.value_of_click)
        expected = expit(calibrated + hidden @ mean[:-1] + mean[-1]) * slots.value_of_click
        _, value = best_ad(expected)
        pace = state.pace
        return Bids(ad, self.pacer.bid(pace, value), value, self.pacer.multiplier(pace, value))

    def update(self, state: ThompsonState, result: TickResult) -> ThompsonState:
        pace = self.pacer.update(state.pace, result.bids.value, float(result.paid.sum()))
        won, posterior = result.won, state.posterior
        if result.click is not None and won.any():
            ad = result.bids.ad[won]
            posterior = posterior.update(
                of_ad(_hidden(result.slots)[won], ad),
                result.click[won],
                offset=of_ad(_logit(result.slots.click_probability[won]), ad),
            )
        return ThompsonState(pace, posterior)


def _hidden(slots: Slots) -> Floats:
    if slots.hidden is None:
        raise DataError(
            "strategy 'thompson' needs what the model's last layer reads, and these auctions hold only pCTR",
            mend="Give a model, or use the strategy 'dual'",
        )
    return slots.hidden.astype(np.float64, copy=False)


def _logit(probability: Floats) -> Floats:
    """Logit that stays −∞ at 0, where there is no candidate, and finite at a calibrated 1."""
    with np.errstate(divide="ignore"):
        return np.asarray(logit(np.minimum(probability, 1.0 - 1e-12)))
