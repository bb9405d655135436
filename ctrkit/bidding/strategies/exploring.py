"""What the strategies that learn from clicks share: a posterior, dual pacing, and the cost of exploring."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from ctrkit.bidding.auctions import Floats, Slots
from ctrkit.bidding.pacing import DualPacer, Pace
from ctrkit.bidding.strategies.base import (
    Bids,
    BidStrategy,
    Indices,
    Outcomes,
    TickResult,
    best_ad,
    check_positive,
    of_ad,
)
from ctrkit.errors import ConfigError, DataError, nearest
from ctrkit.policies.laplace import LastLayerPosterior, with_bias

BID_VALUES: Final = ("slot", "mean", "sample", "ucb")


class Posterior(Protocol):
    """What the strategies ask of a posterior of the D + 1 last-layer weights, the bias last."""

    @property
    def mean(self) -> Floats:
        """[D + 1]."""
        ...

    def sample(self, rng: np.random.Generator, size: int) -> Floats:
        """Draws [size, D + 1]."""
        ...

    def deviation(self, features: Floats) -> Floats:
        """Of features · w, [...], for features [..., D + 1]."""
        ...

    def update(self, hidden: ArrayLike, clicks: ArrayLike, offset: ArrayLike | None = None) -> Posterior:
        """The posterior after the clicks [N] of hidden [N, D], the logit being φ·w + offset."""
        ...


@dataclass(frozen=True)
class ExploringState:
    """Pace of the episode, what was learnt in it and before, and what that cost in the episode.

    Attributes:
        posterior: of how far the last layer is from the calibrated model.
        auctions: expected in the episode.
        explored: money lost by exploring in this episode: on the impressions won, the posterior mean value
            of the best ad less that of the ad shown, divided by μ.
    """

    pace: Pace
    posterior: Posterior
    auctions: int
    explored: float = 0.0


@dataclass(frozen=True)
class Belief:
    """What a posterior says of the K candidates of n slots.

    Attributes:
        posterior: as it was before the tick.
        calibrated: [n, K], logit of the calibrated pCTR; −∞ where there is no candidate.
        hidden: [n, K, D], what the last layer reads.
        worth: [n, K], the value of a click.
    """

    posterior: Posterior
    calibrated: Floats
    hidden: Floats
    worth: Floats

    @classmethod
    def of(cls, strategy: str, posterior: Posterior, slots: Slots) -> Belief:
        """The belief about slots.

        Raises:
            DataError: slots without hidden values.
        """
        if slots.hidden is None:
            raise DataError(
                f"strategy '{strategy}' needs what the model's last layer reads, "
                "and these auctions hold only pCTR",
                mend="Give a model, or use the strategy 'dual'",
            )
        with np.errstate(divide="ignore"):  # −∞ at 0, and finite at a calibrated 1
            calibrated = logit(np.minimum(slots.click_probability, 1.0 - 1e-12))
        hidden = slots.hidden.astype(np.float64, copy=False)
        return cls(posterior, np.asarray(calibrated), hidden, slots.value_of_click)

    def value(self, deviation: Floats) -> Floats:
        """The value of each ad, [n, K], for a deviation [n, K] from the calibrated logit."""
        return np.asarray(expit(self.calibrated + deviation) * self.worth)

    @property
    def mean(self) -> Floats:
        """Deviation [n, K] of the logit by the posterior mean."""
        weight, shape = self.posterior.mean, self.worth.shape
        # One product of a matrix and a vector, which is quicker than one a slot.
        flat = self.hidden.reshape(-1, self.hidden.shape[-1])
        return np.asarray((flat @ weight[:-1]).reshape(shape) + weight[-1])

    @property
    def spread(self) -> Floats:
        """Standard deviation [n, K] of the logit."""
        return self.posterior.deviation(with_bias(self.hidden))


@dataclass(frozen=True)
class ExploringBidding(BidStrategy[ExploringState]):
    """A posterior chooses the ad, dual pacing the bid, and the clicks that are won teach the posterior.

    The logit of a click is that of the calibrated pCTR plus φ·δ, where φ is what the last layer reads and δ
    is the deviation of its weights, a priori N(0, posterior covariance). So bids begin at the calibrated
    probabilities whatever the calibrator was, and the clicks that the bidder pays for correct them. Within
    a tick the posterior stays as it is.

    Attributes:
        posterior: of the model's last layer for clicks; the episodes that follow keep what was learnt.
        bid_value: what is divided by μ, the value that a unit of money has to buy:
            `slot`, the highest posterior mean value of the candidates. Were the bid the mean of the ad that
                is explored, a low mean would lose the auction and never be corrected.
            `mean`, that of the ad chosen.
            `sample`, the value by which the ad was chosen; of the highest of K noisy values, too high.
            `ucb`, the value of the ad chosen at its upper confidence bound.
        exploration_budget: share of the budget that exploring may lose. Once `explored` is above that share
            of the budget planned by then, the best posterior mean is chosen until it is below again.
        step, initial_multiplier: as of dual pacing.
    """

    posterior: LastLayerPosterior
    bid_value: str = "slot"
    exploration_budget: float | None = None
    step: float = 1.0
    initial_multiplier: float | None = None

    def __post_init__(self) -> None:
        if self.bid_value not in BID_VALUES:
            raise ConfigError(
                f"strategy '{self.name}': bid_value is '{self.bid_value}'",
                mend=nearest(str(self.bid_value), BID_VALUES),
            )
        for name in ("exploration_budget", "step", "initial_multiplier"):
            check_positive(self.name, name, getattr(self, name))

    @property
    def width(self) -> float:
        """How many standard deviations the upper confidence bound is above the mean."""
        return 1.0

    @property
    def pacer(self) -> DualPacer:
        return DualPacer(self.step, self.initial_multiplier)

    @property
    def label(self) -> str:
        return super().label.replace("'", "")

    @abstractmethod
    def choose(self, belief: Belief, rng: np.random.Generator) -> tuple[Indices, Floats]:
        """The ad for each slot, [n], and the value by which it was chosen, [n]."""

    def prior(self) -> Posterior:
        """What is believed of the deviation before the first auction."""
        return self.posterior.centred()

    def start(self, budget: float, auctions: int) -> ExploringState:
        return ExploringState(self.pacer.start(budget, auctions), self.prior(), auctions)

    def restart(self, state: ExploringState, budget: float, auctions: int) -> ExploringState:
        return ExploringState(self.pacer.start(budget, auctions), state.posterior, auctions)

    def may_explore(self, state: ExploringState) -> bool:
        """Whether exploring has cost no more than it may have by now."""
        planned = state.pace.flat * (state.auctions - state.pace.auctions_left)
        return self.exploration_budget is None or state.explored <= self.exploration_budget * planned

    def bid(self, state: ExploringState, slots: Slots, rng: np.random.Generator) -> Bids:
        belief = Belief.of(self.name, state.posterior, slots)
        mean = belief.value(belief.mean)
        ad, slot = best_ad(mean)
        value = slot
        if self.may_explore(state):
            ad, chosen = self.choose(belief, rng)
            if self.bid_value == "mean":
                value = of_ad(mean, ad)
            elif self.bid_value == "sample":
                value = chosen
            elif self.bid_value == "ucb":
                value = of_ad(belief.value(belief.mean + self.width * belief.spread), ad)
        return Bids(ad, self.pacer.bid(state.pace, value), value, self.pacer.multiplier(state.pace, value))

    def update(self, state: ExploringState, result: TickResult) -> ExploringState:
        bids, won = result.bids, result.won
        pace = self.pacer.update(state.pace, bids.value, float(result.paid.sum()))
        if not won.any():
            return replace(state, pace=pace)
        lost = 0.0
        if bids.multiplier is not None:
            mean = (belief := Belief.of(self.name, state.posterior, result.slots[won])).value(belief.mean)
            lost = float((mean.max(axis=1) - of_ad(mean, bids.ad[won])).sum()) / bids.multiplier
        return replace(state, pace=pace, explored=state.explored + lost)

    def learn(self, state: ExploringState, outcomes: Outcomes) -> ExploringState:
        belief, ad = Belief.of(self.name, state.posterior, outcomes.slots), outcomes.ad
        posterior = state.posterior.update(
            of_ad(belief.hidden, ad), outcomes.click, offset=of_ad(belief.calibrated, ad)
        )
        return replace(state, posterior=posterior)
