"""A budget and a target return at once: one multiplier for each limit, learnt during the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, NamedTuple, Self

import numpy as np
from pydantic import Field

from ctrkit.arrays import Floats, Indices
from ctrkit.bidding.market.auctions import Slots
from ctrkit.bidding.market.terms import CampaignTerms
from ctrkit.bidding.optimum.lp import Limits, constrained_optimum, joint_rule, min_rule
from ctrkit.bidding.pacing.dual import MOST as MOST_BID
from ctrkit.bidding.pacing.dual import Pace, bids_of, within
from ctrkit.bidding.strategies.base import AuctionHistory, Bids, TickResult, best_ad, check_history, of_ad
from ctrkit.bidding.strategies.paced import PacedBidding
from ctrkit.settings import Positive, checked

# The first λ, in mean values per outcome. For a return alone, bids are then 4/3 of those that never miss it.
FIRST = 3.0
# The steps of a target do not shrink below this, so that the ticks left can make up for what is missing.
LEAST_STEP = 0.3
# λ is at most this many times the mean value per outcome; bids are then w/τ up to a thousandth.
MOST = 1e3
# A multiplier that does not bind stays at this share of the size at which it would matter next to the other,
# so that it can react soon: first for the min rule, where the smaller bid counts, then for the joint rule.
# Bids for the minimum spend are at least the first share of the other bids.
IDLE_MIN, IDLE_JOINT = 0.5, 0.01
# A target counts as missed below this share of it.
MISSED = 0.98


class _Words(NamedTuple):
    """The words for a target and for what became of it."""

    asked: Callable[[float], str]
    did: Callable[[float], str]
    best: str


_RETURN = _Words(lambda w: f"a return of {w:.3g}", lambda w: f"returned {w:.3g}", "best")
_COST = _Words(
    lambda w: f"a cost of {1 / w:.3g} per action", lambda w: f"cost {1 / w:.3g} per action", "cheapest"
)


@dataclass(frozen=True)
class TargetPace:
    """The state of a target τ, the least outcome per unit of money.

    Attributes:
        multiplier: λ, in units of value per outcome; None before any outcome was seen.
        outcome: the outcome bought in this episode.
        spend: the spend of this episode.
        auctions: number of auctions of this episode so far.
        best: the highest outcome per unit of money of a single impression with a known price.
    """

    multiplier: float | None = None
    outcome: float = 0.0
    spend: float = 0.0
    auctions: int = 0
    best: float = 0.0


@dataclass(frozen=True)
class TargetState:
    """The states of the budget, the targets and the minimum spend.

    Attributes:
        budget: the pace of the budget.
        roas: the state of the target return on spend.
        cpa: the state of the target cost per action.
        minimum: the pace of the minimum spend; None without one.
        worth: the sum of the values of this episode's auctions.
        made: the sum of the bids on them by targets and budget.
    """

    budget: Pace
    roas: TargetPace
    cpa: TargetPace
    minimum: Pace | None = None
    worth: float = 0.0
    made: float = 0.0


@checked
class TargetBidding(PacedBidding[TargetState]):
    """The most value within a budget at a return of at least `target_roas` per unit of money, or a cost of at
    most `target_cpa` per action, in second-price auctions.

    A target demands  Σ w ≥ τ Σ c  over all that is bought. For a return on spend, w is the value and τ is
    `target_roas`. For a cost per action, w is the click probability and τ is 1/`target_cpa`. An action is a
    click, and the expected number of clicks counts: the value of a click that bidders see does not separate
    the probability of a conversion from its value. To limit the cost per conversion, let the value be the
    probability of a conversion, and give the reciprocal of that cost as `target_roas`.

    The budget's multiplier μ is that of `dual`. A target's λ moves with its own slack,

        λ ← λ · exp(−η_k · (s_t + S·n/m) / (n·a)),   η_k = step · max(1/√k, 0.3),   s = w − τ c.

    Here s_t is the slack of the n auctions of a tick, S is the slack of all before, to be made up for in the
    m auctions left, and a is the mean of w + τ c per auction so far. As with the budget, the step does not
    depend on the units of money and value, earlier errors are made up for, and an exponent above 1 is cut to
    1.

    With a return alone, bids follow the min rule of `ctrkit.bidding.optimum.lp`, where each limit learns as
    if the other were not there. With a cost per action, or both targets, they follow the joint rule. Without
    a target, bids are those of `dual`. As λ grows, bids approach w/τ, which never misses the target; if the
    target cannot be met, almost nothing is bought. Until something was bought, the slack is unknown and the
    exponent is −η_k: bids rise until the market sells something, and `notes` can name its price.

    With a `minimum_spend`, a second pacer, for value alone, spends that share of the budget. The larger of
    both bids counts until it is spent. If the targets allow more spend, it changes nothing.

    Source: S. Balseiro, K. Bhawalkar, Z. Feng, H. Lu, V. Mirrokni, B. Sivan, D. Wang, A field guide for
    pacing budget and ROS constraints, arXiv 2302.08530.

    Attributes:
        initial_target: the first λ if there is just one target; `tuned` finds it.
    """

    name = "target"
    target_roas: Positive | None = Field(default=None, description="least value per unit of money spent")
    target_cpa: Positive | None = Field(
        default=None, description="largest cost of an expected click, in units of money"
    )
    minimum_spend: Annotated[Positive, Field(le=1)] | None = Field(
        default=None,
        description="share of the budget that is spent even if a target is then missed",
    )
    initial_target: Positive | None = Field(default=None, exclude=True)

    def start(self, budget: float, auctions: int) -> TargetState:
        first, least = TargetPace(self.initial_target), self.minimum_spend
        return TargetState(
            self.pacer.start(budget, auctions), first, first,
            None if least is None else self.pacer.start(least * budget, auctions),
        )  # fmt: skip

    def restart(self, state: TargetState, budget: float, auctions: int) -> TargetState:
        start = self.start(budget, auctions)
        if self.target_cpa is not None:  # two multipliers that can replace each other; one alone says little
            return start
        return replace(start, budget=self.pacer.restart(state.budget, budget, auctions))

    def bid(self, state: TargetState, slots: Slots, rng: np.random.Generator) -> Bids:
        (ad, value), time = best_ad(slots.value), slots.timestamp
        bids = self._bids(state, ad, value, of_ad(slots.click_probability, ad), time)[0]
        if state.minimum is None or state.minimum.remaining <= 0:
            return bids
        return replace(bids, amount=np.maximum(bids.amount, self.pacer.bid(state.minimum, value, time)))

    def _bids(
        self, state: TargetState, ad: Indices, value: Floats, clicks: Floats, time: Floats | None
    ) -> tuple[Bids, Floats]:
        """The bids by targets and budget, and the value [n] that μ compares with money: v + λ w with the
        joint rule, else v."""
        roas, cpa = self._multipliers(state, value, clicks)
        worth = value if self.target_cpa is None else value * (1.0 + roas) + cpa * clicks
        budget = self.pacer.multiplier(state.budget, worth, time)
        if budget is None:
            return Bids(ad, np.zeros(len(value)), value), worth
        if self.target_cpa is not None:
            denominator = budget + roas * (self.target_roas or 0.0)
            amount = joint_rule(value * (1.0 + roas), denominator, cpa, 1.0 / self.target_cpa, clicks)
        elif self.target_roas is not None:
            amount = min_rule(value, budget, roas, self.target_roas)
        else:
            amount = bids_of(value, budget)
        offered = self.pacer.offered(state.budget, len(value), time)
        return Bids(ad, np.where(offered, np.minimum(amount, MOST_BID), 0.0), value, budget), worth

    def _multipliers(self, state: TargetState, value: Floats, clicks: Floats) -> tuple[float, float]:
        """λ of the return and of the cost per action; 0 without such a target."""
        roas = cpa = 0.0
        if self.target_roas is not None:
            roas = FIRST if state.roas.multiplier is None else state.roas.multiplier
        if self.target_cpa is not None:
            known = state.cpa.multiplier
            cpa = FIRST * _ratio(value, clicks) if known is None else known
        return roas, cpa

    def update(self, state: TargetState, result: TickResult) -> TargetState:
        ad, value, time = result.bids.ad, result.bids.value, result.slots.timestamp
        clicks, won, spend = of_ad(result.slots.click_probability, ad), result.won, float(result.paid.sum())
        bids, worth = self._bids(state, ad, value, clicks, time)
        minimum = state.minimum
        after = replace(
            state,
            budget=self.pacer.update(state.budget, worth, spend, time),
            minimum=None if minimum is None else self.pacer.update(minimum, value, spend, time),
        )
        roas, cpa = self._multipliers(state, value, clicks)
        left = max(state.budget.auctions_left, len(value))

        def moved(pace: TargetPace, multiplier: float, target: float, outcome: Floats) -> TargetPace:
            bought, unit = float(outcome[won].sum()), _ratio(value, outcome)
            now = TargetPace(
                pace.multiplier, pace.outcome + bought, pace.spend + spend, pace.auctions + len(value),
                max(pace.best, _best(outcome, result)),
            )  # fmt: skip
            if bids.multiplier is None or unit <= 0:
                return now
            exponent, mean = 1.0, (now.outcome + target * now.spend) / now.auctions
            if mean > 0:
                before = (pace.outcome - target * pace.spend) * len(value) / left
                exponent = (bought - target * spend + before) / (mean * len(value))
            shrunk = float(max(after.budget.ticks, 1)) ** -0.5
            step = self.pacer.first_step(len(value)) * max(shrunk, LEAST_STEP)
            multiplier *= float(np.exp(-np.clip(step * exponent, -1.0, 1.0)))
            least = self._idle * bids.multiplier / target
            return replace(now, multiplier=within(min(max(multiplier, least), MOST * unit)))

        if self.target_roas is not None:
            after = replace(after, roas=moved(state.roas, roas, self.target_roas, value))
        if self.target_cpa is not None:
            after = replace(after, cpa=moved(state.cpa, cpa, 1.0 / self.target_cpa, clicks))
        if bids.multiplier is None or after.budget.multiplier is None:
            return after
        least = self._idle * self._felt(*self._multipliers(after, value, clicks))
        budget = replace(after.budget, multiplier=within(max(after.budget.multiplier, least)))
        after = replace(
            after,
            budget=budget,
            worth=state.worth + float(value.sum()),
            made=state.made + float(bids.amount.sum()),
        )
        return replace(after, minimum=_within_sight(after))

    def notes(self, state: TargetState) -> tuple[str, ...]:
        found = []
        if self.target_roas is not None:
            found.append(self._missed(state.roas, self.target_roas, _RETURN))
        if self.target_cpa is not None:
            found.append(self._missed(state.cpa, 1.0 / self.target_cpa, _COST))
        return tuple(note for note in found if note)

    def _missed(self, pace: TargetPace, target: float, words: _Words) -> str | None:
        """A note on a missed target and on what was possible; None if the target was met."""
        if pace.outcome > 0 and pace.outcome >= MISSED * target * pace.spend:
            return None
        bought = "nothing was bought"
        if pace.outcome > 0:
            bought = f"what was bought {words.did(pace.outcome / pace.spend)}"
        asked = words.asked(target)
        if pace.best <= 0:
            return f"{asked}: {bought}, so it is unknown whether the target can be met."
        seen = f"the {words.best} impression with a known price {words.did(pace.best)}"
        if pace.best < target:
            return f"{asked} cannot be met in this market: {bought}, and {seen}."
        why = "" if self.minimum_spend is None else f" for minimum_spend={self.minimum_spend:g}"
        return f"{asked} was missed{why}: {bought}, and {seen}."

    @property
    def _idle(self) -> float:
        return IDLE_MIN if self.target_cpa is None else IDLE_JOINT

    def _felt(self, roas: float, cpa: float) -> float:
        """The size of the targets' multipliers in units of μ."""
        if self.target_cpa is not None:
            return roas * (self.target_roas or 0.0) + cpa / self.target_cpa
        return 0.0 if self.target_roas is None else roas * self.target_roas / (1.0 + roas)

    def tuned(self, history: AuctionHistory, terms: CampaignTerms, auctions: int) -> Self:
        """This strategy with the multipliers of the history's optimum: under the min rule each with its own
        limit alone, under the joint rule both at once. With both targets, only the budget's is used.
        """
        check_history(self.name, history, all_prices=True)
        price = history.under(terms).market_price
        reached = price <= terms.largest_bid
        value, price, clicks = history.value[reached], price[reached], history.click_probability[reached]
        limits = Limits(terms.budget * len(history) / auctions)
        budget = constrained_optimum(value, price, limits).budget_multiplier
        target = 0.0
        if self.target_roas is not None and self.target_cpa is None:
            target = constrained_optimum(value, price, Limits(target=self.target_roas)).target_multiplier
        elif self.target_cpa is not None and self.target_roas is None:
            least = 1.0 / self.target_cpa
            found = constrained_optimum(value, price, replace(limits, target=least, outcome=clicks))
            budget = found.budget_multiplier or IDLE_JOINT * found.target_multiplier * least
            target = found.target_multiplier or IDLE_JOINT * budget / least
        return replace(
            self.beginning_with(budget, terms.budget / auctions), initial_target=target or self.initial_target
        )


def _within_sight(state: TargetState) -> Pace | None:
    """The pace of the minimum spend, whose bids are at least a share of the bids by targets and budget.

    The share holds on average over the episode, since in a single tick values may be almost 0 while bids on
    clicks are not.
    """
    pace = state.minimum
    if pace is None or pace.multiplier is None or state.made <= 0 or state.worth <= 0:
        return pace
    with np.errstate(over="ignore"):
        most = state.worth / (IDLE_MIN * state.made)
    return replace(pace, multiplier=within(min(pace.multiplier, most)))


def _best(outcome: Floats, result: TickResult) -> float:
    """The highest outcome per unit of money of an impression with a known price: of all if the exchange tells
    them, else of those won."""
    price = np.where(result.won, result.paid, np.nan) if result.minimum_bid is None else result.minimum_bid
    wanted = outcome > 0
    with np.errstate(divide="ignore", over="ignore"):  # the return of a free impression is infinite
        return float(np.fmax.reduce(outcome[wanted] / price[wanted], initial=0.0))


def _ratio(value: Floats, outcome: Floats) -> float:
    """The mean value per outcome; 0 without outcomes."""
    whole = float(outcome.sum())
    return min(float(value.sum()) / whole, MOST_BID) if whole > 0 else 0.0
