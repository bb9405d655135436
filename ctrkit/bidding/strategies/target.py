"""A budget and a target return at once: a multiplier for each limit, learnt on the way."""

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

# The first λ, in mean value an outcome; on a return alone, bids then are 4/3 of those that never miss it.
FIRST = 3.0
# A target's steps shrink no further than to this: what is missing is made up for in the ticks that are left.
LEAST_STEP = 0.3
# λ is at most so many times the mean value an outcome: bids then are w/τ but for a part in a thousand.
MOST = 1e3
# An idle multiplier stays at this share of what is felt beside the other's, so that it soon is felt when it
# must be; under the min rule, of which the smaller bid counts, and under the joint rule. Bids for the minimum
# spend stay at the first share of the others.
IDLE_MIN, IDLE_JOINT = 0.5, 0.01
# A target is missed below this part of it.
MISSED = 0.98


class _Words(NamedTuple):
    """How a target, and what became of it, is said to those who know it."""

    asked: Callable[[float], str]
    did: Callable[[float], str]
    best: str


_RETURN = _Words(lambda w: f"a return of {w:.3g}", lambda w: f"returned {w:.3g}", "best")
_COST = _Words(
    lambda w: f"a cost of {1 / w:.3g} an action", lambda w: f"cost {1 / w:.3g} an action", "cheapest"
)


@dataclass(frozen=True)
class TargetPace:
    """State of a target τ, the least outcome a unit of money.

    Attributes:
        multiplier: λ, in units of value an outcome; None before any outcome was seen.
        outcome, spend: what was bought in this episode, and for how much.
        auctions: of this episode, so far.
        best: the most outcome a unit of money of a single impression whose price became known.
    """

    multiplier: float | None = None
    outcome: float = 0.0
    spend: float = 0.0
    auctions: int = 0
    best: float = 0.0


@dataclass(frozen=True)
class TargetState:
    """The paces of the budget, of the return on spend, of the cost an action, and of the minimum spend.

    Attributes:
        worth, made: the values of this episode's auctions and the bids of targets and budget on them, summed.
    """

    budget: Pace
    roas: TargetPace
    cpa: TargetPace
    minimum: Pace | None = None
    worth: float = 0.0
    made: float = 0.0


@checked
class TargetBidding(PacedBidding[TargetState]):
    """The most value within a budget that returns `target_roas` a unit of money, or costs at most
    `target_cpa` an action, in second-price auctions.

    A target asks for  Σ w ≥ τ Σ c  over what is bought: for a return on spend w is the value and τ is
    `target_roas`; for a cost an action w is the click probability and τ is 1/`target_cpa`. An action is a
    click, of which the expected number counts: what a bidder sees as the value of a click does not tell a
    conversion's probability from its value. To limit the cost a conversion, let the value be the
    conversion's probability and give its reciprocal as `target_roas`.

    The budget's multiplier μ is that of `dual`. A target's λ moves with its own slack,

        λ ← λ · exp(−η_k · (s_t + S·n/m) / (n·a)),   η_k = step · max(1/√k, 0.3),   s = w − τ c:

    of the n auctions of a tick, s_t is the slack, S that of all before it, which the m auctions that are left
    share, and a is the mean of w + τ c an auction so far. So, as with the budget, the step is free of the
    units of money and value, earlier errors are made up for, and an exponent beyond 1 is cut to it.

    With a return alone, bids follow the min rule of `ctrkit.bidding.optimum.lp`, where each limit learns as
    if the other were not there; with a cost an action, the joint rule. Both targets at once are kept too.
    Without any, it is `dual`. As λ grows, bids approach w/τ, which never misses the target: where it cannot
    be met, next to nothing is bought. As long as nothing at all was bought, the slack tells nothing, and the
    exponent is taken for −η_k: bids rise until the market answers, and `notes` can say what it sells.

    With a `minimum_spend`, a second pacer of value alone spends that part of the budget, and the larger of
    both bids counts until it is spent. Where the targets let more be spent, nothing changes.

    Source: S. Balseiro, K. Bhawalkar, Z. Feng, H. Lu, V. Mirrokni, B. Sivan, D. Wang, A field guide for
    pacing budget and ROS constraints, arXiv 2302.08530.

    Attributes:
        initial_target: the first λ, where there is just one target; `tuned` finds both.
    """

    name = "target"
    target_roas: Positive | None = Field(default=None, description="least value a unit of money")
    target_cpa: Positive | None = Field(
        default=None, description="largest cost of an expected click, in units of money"
    )
    minimum_spend: Annotated[Positive, Field(le=1)] | None = Field(
        default=None,
        description="share of the budget that is to be spent even where a target is then missed",
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
        if (
            self.target_cpa is not None
        ):  # of two multipliers that stand for each other, one alone tells little
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
        """The bids by targets and budget, and [n] what μ relates to money: jointly v + λ w, else v."""
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
        """λ of the return and of the cost an action; 0 where there is no such target."""
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
        """How far a target was missed, and what could be had; None where it was kept."""
        if pace.outcome > 0 and pace.outcome >= MISSED * target * pace.spend:
            return None
        bought = "nothing was bought"
        if pace.outcome > 0:
            bought = f"what was bought {words.did(pace.outcome / pace.spend)}"
        asked = words.asked(target)
        if pace.best <= 0:
            return f"{asked}: {bought}, so whether it can be met is not known."
        seen = f"the {words.best} impression of known price {words.did(pace.best)}"
        if pace.best < target:
            return f"{asked} cannot be met here: {bought}, and {seen}."
        why = "" if self.minimum_spend is None else f" for minimum_spend={self.minimum_spend:g}"
        return f"{asked} was missed{why}: {bought}, and {seen}."

    @property
    def _idle(self) -> float:
        return IDLE_MIN if self.target_cpa is None else IDLE_JOINT

    def _felt(self, roas: float, cpa: float) -> float:
        """What the targets' multipliers are beside μ."""
        if self.target_cpa is not None:
            return roas * (self.target_roas or 0.0) + cpa / self.target_cpa
        return 0.0 if self.target_roas is None else roas * self.target_roas / (1.0 + roas)

    def tuned(self, history: AuctionHistory, terms: CampaignTerms, auctions: int) -> Self:
        """With the multipliers of the history's optimum: under the min rule each of its limit alone, under
        the joint rule both at once. With both targets, only the budget's is taken from it.
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
    """The pace of the minimum spend, whose bids are at least a share of those of targets and budget.

    On average over the episode, for in a single tick values may be next to nothing and bids on clicks not.
    """
    pace = state.minimum
    if pace is None or pace.multiplier is None or state.made <= 0 or state.worth <= 0:
        return pace
    with np.errstate(over="ignore"):
        most = state.worth / (IDLE_MIN * state.made)
    return replace(pace, multiplier=within(min(pace.multiplier, most)))


def _best(outcome: Floats, result: TickResult) -> float:
    """The most outcome a unit of money of an impression whose price is known: if told of all, else if won."""
    price = np.where(result.won, result.paid, np.nan) if result.minimum_bid is None else result.minimum_bid
    wanted = outcome > 0
    with np.errstate(divide="ignore", over="ignore"):  # what is free returns without end
        return float(np.fmax.reduce(outcome[wanted] / price[wanted], initial=0.0))


def _ratio(value: Floats, outcome: Floats) -> float:
    """Mean value an outcome; 0 where there is no outcome."""
    whole = float(outcome.sum())
    return min(float(value.sum()) / whole, MOST_BID) if whole > 0 else 0.0
