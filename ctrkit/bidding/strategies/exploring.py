"""What the strategies that learn from clicks share: a posterior, dual pacing, and the cost of exploring."""

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
    """What the strategies ask of a posterior of the D + 1 last-layer weights, the bias last."""

    @property
    def mean(self) -> Floats:
        """[D + 1]."""
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
        explored: money lost by exploring in this episode, counted where it is limited: on the impressions
            won, the posterior mean value of the best ad less that of the ad shown, divided by μ.
    """

    pace: Pace
    posterior: Posterior
    auctions: int
    explored: float = 0.0


@dataclass(frozen=True)
class PosteriorScores:
    """What a posterior says of the K candidates of n slots.

    Attributes:
        posterior: as it was before the tick.
        calibrated: [n, K], logit of the calibrated pCTR; −∞ where there is no candidate.
        hidden: [n, K, D], what the last layer reads.
        worth: [n, K], the value of a click.
    """

    posterior: Posterior
    calibrated: Floats
    hidden: Hidden
    worth: Floats

    @classmethod
    def of(cls, strategy: str, posterior: Posterior, slots: Slots) -> PosteriorScores:
        """The belief about slots.

        Raises:
            DataError: slots without hidden values.
        """
        if slots.hidden is None:
            raise DataError(
                f"strategy '{strategy}' needs what the model's last layer reads, "
                "and these auctions hold only pCTR",
                hint="Give a model, or use the strategy 'dual'",
            )
        hidden = slots.hidden
        if hidden.dtype not in (np.float32, np.float64):
            hidden = hidden.astype(np.float64)
        return cls(posterior, calibrated_logit(slots.click_probability), hidden, slots.value_of_click)

    def of_ads(self, ad: Indices) -> PosteriorScores:
        """The belief about the candidates [n] alone, one a slot."""
        parts = (of_ad(part, ad)[:, None] for part in (self.calibrated, self.hidden, self.worth))
        return PosteriorScores(self.posterior, *parts)

    def logit(self, deviations: float = 0.0) -> Floats:
        """[n, K], of a click at the posterior mean, or so many standard deviations above it."""
        mean = self.posterior.mean
        found = self.calibrated + (self.hidden @ mean[:-1] + mean[-1])
        if deviations:
            found = found + deviations * self.posterior.deviation(with_bias(self.hidden))
        return np.asarray(found)

    def value(self, deviations: float = 0.0) -> Floats:
        """[n, K], at the posterior mean of the logit, or so many standard deviations above it."""
        return np.asarray(expit(self.logit(deviations)) * self.worth)

    def best(self) -> Best:
        """The candidate of the highest value at the posterior mean, and that value."""
        ad, value = self.best_under(self.posterior.mean[None], np.zeros((len(self.worth), 1), np.intp))
        return Best(ad[:, 0], value[:, 0])

    def best_under(self, weights: Floats, draws: Indices) -> tuple[Indices, Floats]:
        """The candidates of the highest value under some of the weights [R, D + 1], see `scoring.best_under`.

        Args:
            draws: [n, L], which of the weights.
        """
        rows = np.arange(len(self.worth))
        return best_under(self.calibrated, self.hidden, self.worth, weights, rows, draws)


class Best(NamedTuple):
    """The ads of the highest value at the posterior mean, [n], and that value, [n]."""

    ad: Indices
    value: Floats


@dataclass(frozen=True)
class SlotChoice:
    """What a strategy would show in n slots.

    Attributes:
        ad: [n].
        value: [n], by which the ad was chosen.
        best: what would be shown without exploring.
        chances: see `Bids`.
    """

    ad: Indices
    value: Floats
    best: Best
    chances: Callable[[Indices], Floats] | None = None


def calibrated_logit(click_probability: Floats) -> Floats:
    """The logit of calibrated probabilities of any shape; −∞ of 0, and finite of 1."""
    odds = np.minimum(click_probability, 1.0 - 1e-12)
    # In place, since fresh memory costs as much as the sums.
    np.divide(odds, 1.0 - odds, out=odds)
    with np.errstate(divide="ignore"):
        return np.log(odds, out=odds)


def certain(ad: Indices, ads: int) -> Floats:
    """Probabilities [n, K] of a choice without chance."""
    return np.asarray(ad[:, None] == np.arange(ads), np.float64)


@checked
class ExploringBidding(PacedBidding[ExploringState]):
    """A posterior chooses the ad, dual pacing the bid, and the clicks that are won teach the posterior.

    The logit of a click is that of the calibrated pCTR plus φ·δ, where φ is what the last layer reads and δ
    is the deviation of its weights, a priori N(0, posterior covariance). So bids begin at the calibrated
    probabilities whatever the calibrator was, and the clicks that the bidder pays for correct them. Within
    a tick the posterior stays as it is.

    With slots' values bid, whether an auction is won does not hang on the ad chosen for it, so the chances of
    the choice are also those of the ad among the impressions won, the propensities of a bandit log. With the
    other values, `bid_depends_on_choice`, an ad of a low bid is rarer among the impressions than among the
    choices.

    What is bid on, the `bid_value`:
    - `slot`, the highest posterior mean value of the candidates. Were the bid the mean of the ad that is
      explored, a low mean would lose the auction and never be corrected.
    - `mean`, that of the ad chosen.
    - `sample`, the value by which the ad was chosen; of the highest of K noisy values, too high.
    - `ucb`, the value of the ad chosen at its upper confidence bound.

    Once `explored` is above the `exploration_budget`'s share of the budget planned by then, the best
    posterior mean is chosen until it is below again.

    Attributes:
        posterior: of the model's last layer for clicks; the episodes that follow keep what was learnt.
    """

    by_chance = True
    bid_value: BidValue = Field(
        default="slot", description="what is divided by μ, the value that a unit of money has to buy"
    )
    posterior_form: Literal["full", "diagonal"] = Field(
        default="full",
        description="the posterior as it is given, or with weights that are independent, of which only the "
        "diagonal of the precision is kept",
    )
    exploration_budget: Positive | None = Field(
        default=None, description="share of the budget that exploring may lose; by default any"
    )
    posterior: LastLayerPosterior | None = Field(default=None, kw_only=True, exclude=True)

    @property
    def width(self) -> float:
        """How many standard deviations the upper confidence bound is above the mean."""
        return 1.0

    @property
    def bid_depends_on_choice(self) -> bool:
        """Whether the bid, and with it winning, hangs on the ad that was chosen."""
        return self.bid_value != "slot"

    @abstractmethod
    def choose(self, belief: PosteriorScores, rng: np.random.Generator) -> SlotChoice:
        """The ad for each slot."""

    def knowing(self, posterior: LastLayerPosterior | None) -> Self:
        known = posterior if self.posterior is None else self.posterior
        if known is None:
            raise ConfigError(
                f"strategy '{self.name}' draws from a model's last layer, and there is no model with a "
                "posterior",
                hint="Give a model that `ctrkit train` wrote, or use the strategy 'dual'",
            )
        return replace(self, posterior=known)

    def prior(self) -> Posterior:
        """What is believed of the deviation before the first auction."""
        assert self.posterior is not None, "see `knowing`"
        centred = self.posterior.centred()
        return centred if self.posterior_form == "full" else DiagonalPosterior.of(centred)

    def start(self, budget: float, auctions: int) -> ExploringState:
        return ExploringState(self.pacer.start(budget, auctions), self.prior(), auctions)

    def restart(self, state: ExploringState, budget: float, auctions: int) -> ExploringState:
        return ExploringState(self.pacer.restart(state.pace, budget, auctions), state.posterior, auctions)

    def may_explore(self, state: ExploringState) -> bool:
        """Whether exploring has cost no more than it may have by now."""
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
