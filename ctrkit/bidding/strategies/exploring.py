"""The common part of strategies that learn from clicks: a posterior, dual pacing, the cost of exploring."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field
from scipy.special import expit

from ctrkit.arrays import Floats, Indices
from ctrkit.bidding.market.auctions import Slots
from ctrkit.bidding.pacing.dual import Pace
from ctrkit.bidding.strategies.base import Bids, ImpressionOutcomes, TickResult, of_ad
from ctrkit.bidding.strategies.paced import PacedBidding
from ctrkit.bidding.strategies.scoring import Hidden, best_under
from ctrkit.errors import ConfigError, DataError
from ctrkit.policies.laplace import LastLayerPosterior, with_bias
from ctrkit.policies.logistic_bandit import DiagonalPosterior
from ctrkit.settings import Positive, checked

BidValue: TypeAlias = Literal["slot", "mean", "sample", "ucb"]


class Posterior(Protocol):
    """What the strategies need of a posterior of the D + 1 last-layer weights, the bias last."""

    @property
    def mean(self) -> Floats:
        """The mean of the weights, [D + 1]."""
        ...

    def deviation(self, features: Floats) -> Floats:
        """The standard deviation of features · w, [...], for features [..., D + 1]."""
        ...

    def update(self, hidden: ArrayLike, clicks: ArrayLike, offset: ArrayLike | None = None) -> Posterior:
        """The posterior after the clicks [N] of hidden [N, D], the logit being φ·w + offset."""
        ...


@dataclass(frozen=True)
class ExploringState:
    """The pace of the episode, what was learnt so far, and the cost of exploring in the episode.

    Attributes:
        pace: the state of the pacer.
        posterior: the posterior of the deviation of the last-layer weights from the calibrated model.
        auctions: expected auctions of the episode.
        explored: money lost by exploring in this episode: on impressions won, the posterior mean value of the
            best ad less that of the ad shown, divided by μ. It is only counted with an exploration budget.
    """

    pace: Pace
    posterior: Posterior
    auctions: int
    explored: float = 0.0


@dataclass(frozen=True)
class PosteriorScores:
    """The scores of the K candidates of n slots under a posterior.

    Attributes:
        posterior: the posterior before the tick.
        calibrated: [n, K], logit of the calibrated pCTR; −∞ where there is no candidate.
        hidden: [n, K, D], the inputs of the last layer.
        worth: [n, K], the value of a click.
    """

    posterior: Posterior
    calibrated: Floats
    hidden: Hidden
    worth: Floats

    @classmethod
    def of(cls, strategy: str, posterior: Posterior, slots: Slots) -> PosteriorScores:
        """The scores of slots.

        Raises:
            DataError: slots without the inputs of the last layer.
        """
        if slots.hidden is None:
            raise DataError(
                f"strategy '{strategy}' needs the inputs of the model's last layer, "
                "but these auctions have only pCTR",
                hint="Give a model, or use the strategy 'dual'",
            )
        hidden = slots.hidden
        if hidden.dtype not in (np.float32, np.float64):
            hidden = hidden.astype(np.float64)
        return cls(posterior, calibrated_logit(slots.click_probability), hidden, slots.value_of_click)

    def of_ads(self, ad: Indices) -> PosteriorScores:
        """The scores of one candidate per slot, [n]."""
        parts = (of_ad(part, ad)[:, None] for part in (self.calibrated, self.hidden, self.worth))
        return PosteriorScores(self.posterior, *parts)

    def logit(self, deviations: float = 0.0) -> Floats:
        """The logit of a click, [n, K], at the posterior mean, or `deviations` deviations above it."""
        mean = self.posterior.mean
        found = self.calibrated + (self.hidden @ mean[:-1] + mean[-1])
        if deviations:
            found = found + deviations * self.posterior.deviation(with_bias(self.hidden))
        return np.asarray(found)

    def value(self, deviations: float = 0.0) -> Floats:
        """The value, [n, K], at the posterior mean of the logit, or `deviations` deviations above it."""
        return np.asarray(expit(self.logit(deviations)) * self.worth)

    def best(self) -> Best:
        """The candidates with the highest value at the posterior mean, and that value."""
        ad, value = self.best_under(self.posterior.mean[None], np.zeros((len(self.worth), 1), np.intp))
        return Best(ad[:, 0], value[:, 0])

    def best_under(self, weights: Floats, draws: Indices) -> tuple[Indices, Floats]:
        """The candidates with the highest value under L weight vectors per slot (see `scoring.best_under`).

        Args:
            weights: [R, D + 1], the weight vectors.
            draws: [n, L], the indices of the weight vectors of each slot.
        """
        rows = np.arange(len(self.worth))
        return best_under(self.calibrated, self.hidden, self.worth, weights, rows, draws)


class Best(NamedTuple):
    """The ads with the highest value at the posterior mean, [n], and that value, [n]."""

    ad: Indices
    value: Floats


@dataclass(frozen=True)
class SlotChoice:
    """The ads that a strategy chooses for n slots.

    Attributes:
        ad: [n], the chosen candidates.
        value: [n], the value by which the ad was chosen.
        best: the choice without exploring.
        chances: as in `Bids`.
    """

    ad: Indices
    value: Floats
    best: Best
    chances: Callable[[Indices], Floats] | None = None


def calibrated_logit(click_probability: Floats) -> Floats:
    """The logit of calibrated probabilities of any shape; −∞ for 0, and finite for 1."""
    odds = np.minimum(click_probability, 1.0 - 1e-12)
    # In place, since new memory costs as much time as the sums.
    np.divide(odds, 1.0 - odds, out=odds)
    with np.errstate(divide="ignore"):
        return np.log(odds, out=odds)


def certain(ad: Indices, ads: int) -> Floats:
    """The probabilities [n, K] of a choice that is not random."""
    return np.asarray(ad[:, None] == np.arange(ads), np.float64)


@checked
class ExploringBidding(PacedBidding[ExploringState]):
    """A posterior chooses the ad, dual pacing sets the bid, and clicks that are won update the posterior.

    The logit of a click is that of the calibrated pCTR plus φ·δ. φ is the input of the last layer, and δ is
    the deviation of its weights, with the prior N(0, posterior covariance). So bids start at the calibrated
    probabilities with any calibrator, and the clicks that the bidder pays for correct them. Within a tick the
    posterior does not change.

    If a bid is the slot's value, winning does not depend on the ad chosen. Then the probabilities of the
    choice are also those of the ad among impressions won, which are the propensities of a bandit log. With
    the other values (`bid_depends_on_choice`) an ad with a low bid is rarer among impressions than among
    choices.

    `bid_value` is the value that is divided by μ:

    - `slot`: the highest posterior mean value of the candidates. A bid of the mean of an explored ad would
      lose with a low mean, which would then never be corrected.
    - `mean`: the posterior mean value of the ad chosen.
    - `sample`: the value by which the ad was chosen; it is too high, as the highest of K noisy values.
    - `ucb`: the value of the ad chosen at its upper confidence bound.

    When `explored` exceeds the share `exploration_budget` of the budget planned so far, the best posterior
    mean is chosen until it is below again.

    Attributes:
        posterior: the posterior of the model's last layer for clicks; later episodes keep what was learnt.
    """

    by_chance = True
    bid_value: BidValue = Field(
        default="slot", description="the value that is divided by μ: of the slot, or of the ad chosen"
    )
    posterior_form: Literal["full", "diagonal"] = Field(
        default="full",
        description="form of the posterior: full as given, or diagonal with independent weights, which keeps "
        "only the diagonal of the precision",
    )
    exploration_budget: Positive | None = Field(
        default=None, description="share of the budget that exploring may lose; by default no limit"
    )
    posterior: LastLayerPosterior | None = Field(default=None, kw_only=True, exclude=True)

    @property
    def width(self) -> float:
        """The number of standard deviations from the mean to the upper confidence bound."""
        return 1.0

    @property
    def bid_depends_on_choice(self) -> bool:
        """Whether the bid, and so winning, depends on the ad that was chosen."""
        return self.bid_value != "slot"

    @abstractmethod
    def choose(self, belief: PosteriorScores, rng: np.random.Generator) -> SlotChoice:
        """The ad for each slot."""

    def knowing(self, posterior: LastLayerPosterior | None) -> Self:
        known = posterior if self.posterior is None else self.posterior
        if known is None:
            raise ConfigError(
                f"strategy '{self.name}' needs the posterior of a model's last layer, but there is "
                "no model with a posterior",
                hint="Give a network that `ctrkit train` wrote, or use the strategy 'dual'",
            )
        return replace(self, posterior=known)

    def prior(self) -> Posterior:
        """The posterior of the deviation before the first auction."""
        assert self.posterior is not None, "see `knowing`"
        centred = self.posterior.centred()
        return centred if self.posterior_form == "full" else DiagonalPosterior.of(centred)

    def start(self, budget: float, auctions: int) -> ExploringState:
        return ExploringState(self.pacer.start(budget, auctions), self.prior(), auctions)

    def restart(self, state: ExploringState, budget: float, auctions: int) -> ExploringState:
        return ExploringState(self.pacer.restart(state.pace, budget, auctions), state.posterior, auctions)

    def may_explore(self, state: ExploringState) -> bool:
        """Whether the cost of exploring is within its budget so far."""
        planned = state.pace.flat * (state.auctions - state.pace.auctions_left)
        return self.exploration_budget is None or state.explored <= self.exploration_budget * planned

    def bid(self, state: ExploringState, slots: Slots, rng: np.random.Generator) -> Bids:
        belief = PosteriorScores.of(self.name, state.posterior, slots)
        if self.may_explore(state):
            choice = self.choose(belief, rng)
            best, value = choice.best
            if self.bid_value == "mean":
                value = belief.of_ads(choice.ad).value()[:, 0]
            elif self.bid_value == "sample":
                value = choice.value
            elif self.bid_value == "ucb":
                value = belief.of_ads(choice.ad).value(self.width)[:, 0]
        else:
            best, value = found = belief.best()
            ads = slots.click_probability.shape[1]
            sure = (lambda rows: certain(best[rows], ads)) if self.by_chance else None
            choice = SlotChoice(best, value, found, sure)
        amount = self.pacer.bid(state.pace, value, slots.timestamp)
        multiplier = self.pacer.multiplier(state.pace, value, slots.timestamp)
        chances = None if self.bid_depends_on_choice else choice.chances
        return Bids(choice.ad, amount, value, multiplier, chances, choice.ad != best)

    def update(self, state: ExploringState, result: TickResult) -> ExploringState:
        bids = result.bids
        spend, time = float(result.paid.sum()), result.slots.timestamp
        pace = self.pacer.update(state.pace, bids.value, spend, time)
        if self.exploration_budget is None or bids.multiplier is None or bids.explored is None:
            return replace(state, pace=pace)
        if not len(rows := np.flatnonzero(result.won & bids.explored)):
            return replace(state, pace=pace)
        value = PosteriorScores.of(self.name, state.posterior, result.slots[rows]).value()
        lost = float((value.max(axis=1) - of_ad(value, bids.ad[rows])).sum()) / bids.multiplier
        return replace(state, pace=pace, explored=state.explored + lost)

    def learn(self, state: ExploringState, outcomes: ImpressionOutcomes) -> ExploringState:
        slots, ad = outcomes.slots, outcomes.ad
        assert slots.hidden is not None
        offset = calibrated_logit(of_ad(slots.click_probability, ad))
        return replace(
            state, posterior=state.posterior.update(of_ad(slots.hidden, ad), outcomes.click, offset)
        )
