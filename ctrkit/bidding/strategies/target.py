"""A budget and a target return at once: a multiplier for each limit, learnt on the way."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from ctrkit.bidding.auctions import Slots
from ctrkit.bidding.lp import Limits, constrained_optimum, joint_rule, min_rule
from ctrkit.bidding.pacing import DualPacer, Pace
from ctrkit.bidding.strategies.base import (
    NO_TEXT,
    Bids,
    BidStrategy,
    Floats,
    History,
    Indices,
    TickResult,
    best_ad,
    check_history,
    check_positive,
    of_ad,
)

# The first λ, in mean value an outcome; on a return alone, bids then are 4/3 of those that never miss it.
FIRST = 3.0
# A target's steps shrink no further than to this: what is missing is made up for in the ticks that are left.
LEAST_STEP = 0.3
# λ is at most so many times the mean value an outcome: bids then are w/τ but for a part in a thousand.
MOST = 1e3
# An idle multiplier stays at this share of what is felt beside the other's, so that it soon is felt when it
# must be; under the min rule, of which the smaller bid counts, and under the joint rule.
IDLE_MIN, IDLE_JOINT = 0.5, 0.01


@dataclass(frozen=True)
class TargetPace:
    """State of a target τ, the least outcome a unit of money.

    Attributes:
        multiplier: λ, in units of value an outcome; None before any outcome was seen.
        outcome, spend: what was bought in this episode, and for how much.
        auctions: of this episode, so far.
    """

    multiplier: float | None = None
    outcome: float = 0.0
    spend: float = 0.0
    auctions: int = 0


@dataclass(frozen=True)
class TargetState:
    """The paces of the budget, of the return on spend, and of the cost an action."""

    budget: Pace
    roas: TargetPace
    cpa: TargetPace


@dataclass(frozen=True)
class TargetBidding(BidStrategy[TargetState]):
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

    With a return alone, bids follow the min rule of `ctrkit.bidding.lp`, where each limit learns as if the
    other were not there; with a cost an action, the joint rule. Both targets at once are kept too. Without
    any, it is `dual`. As λ grows, bids approach w/τ, which never misses the target: where it cannot be met,
    next to nothing is bought.

    Source: S. Balseiro, K. Bhawalkar, Z. Feng, H. Lu, V. Mirrokni, B. Sivan, D. Wang, A field guide for
    pacing budget and ROS constraints, arXiv 2302.08530.

    Attributes:
        target_roas: least value a unit of money.
        target_cpa: largest cost of an expected click, in units of money.
        step: of each multiplier's first update.
        initial_multiplier: the first μ.
        initial_target: the first λ, where there is just one target; `tuned` finds both.
    """

    name = "target"
    target_roas: float | None = None
    target_cpa: float | None = None
    step: float = 1.0
    initial_multiplier: float | None = None
    initial_target: float | None = field(default=None, metadata=NO_TEXT)

    def __post_init__(self) -> None:
        for name in ("target_roas", "target_cpa", "step", "initial_multiplier", "initial_target"):
            check_positive(self.name, name, getattr(self, name))

    @property
    def pacer(self) -> DualPacer:
        return DualPacer(self.step, self.initial_multiplier)

    def start(self, budget: float, auctions: int) -> TargetState:
        first = TargetPace(self.initial_target)
        return TargetState(self.pacer.start(budget, auctions), first, first)

    def bid(self, state: TargetState, slots: Slots, rng: np.random.Generator) -> Bids:
        ad, value = best_ad(slots.value)
        return self._bids(state, ad, value, of_ad(slots.click_probability, ad))[0]

    def _bids(self, state: TargetState, ad: Indices, value: Floats, clicks: Floats) -> tuple[Bids, Floats]:
        """The bids, and [n] what μ is a ratio of to money: under the joint rule v + λ w, else v."""
        roas, cpa = self._multipliers(state, value, clicks)
        worth = value if self.target_cpa is None else value * (1.0 + roas) + cpa * clicks
        budget = self.pacer.multiplier(state.budget, worth)
        if budget is None:
            return Bids(ad, np.zeros(len(value)), value), worth
        if self.target_cpa is not None:
            denominator = budget + roas * (self.target_roas or 0.0)
            amount = joint_rule(value * (1.0 + roas), denominator, cpa, 1.0 / self.target_cpa, clicks)
        elif self.target_roas is not None:
            amount = min_rule(value, budget, roas, self.target_roas)
        else:
            amount = value / budget
        return Bids(ad, amount, value, budget), worth

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
        ad, value = result.bids.ad, result.bids.value
        clicks, won, spend = of_ad(result.slots.click_probability, ad), result.won, float(result.paid.sum())
        bids, worth = self._bids(state, ad, value, clicks)
        after = replace(state, budget=self.pacer.update(state.budget, worth, spend))
        roas, cpa = self._multipliers(state, value, clicks)
        left = max(state.budget.auctions_left, len(value))

        def moved(pace: TargetPace, multiplier: float, target: float, outcome: Floats) -> TargetPace:
            bought, unit = float(outcome[won].sum()), _ratio(value, outcome)
            now = TargetPace(
                multiplier, pace.outcome + bought, pace.spend + spend, pace.auctions + len(value)
            )
            mean = (now.outcome + target * now.spend) / now.auctions
            if bids.multiplier is None or mean <= 0 or unit <= 0:
                return replace(now, multiplier=pace.multiplier)
            before = (pace.outcome - target * pace.spend) * len(value) / left
            exponent = (bought - target * spend + before) / (mean * len(value))
            step = self.step * max(1.0 / np.sqrt(after.budget.ticks), LEAST_STEP)
            multiplier *= float(np.exp(-np.clip(step * exponent, -1.0, 1.0)))
            least = self._idle * bids.multiplier / target
            return replace(now, multiplier=min(max(multiplier, least), MOST * unit))

        if self.target_roas is not None:
            after = replace(after, roas=moved(state.roas, roas, self.target_roas, value))
        if self.target_cpa is not None:
            after = replace(after, cpa=moved(state.cpa, cpa, 1.0 / self.target_cpa, clicks))
        if bids.multiplier is None or after.budget.multiplier is None:
            return after
        least = self._idle * self._felt(*self._multipliers(after, value, clicks))
        return replace(after, budget=replace(after.budget, multiplier=max(after.budget.multiplier, least)))

    @property
    def _idle(self) -> float:
        return IDLE_MIN if self.target_cpa is None else IDLE_JOINT

    def _felt(self, roas: float, cpa: float) -> float:
        """What the targets' multipliers are beside μ."""
        if self.target_cpa is not None:
            return roas * (self.target_roas or 0.0) + cpa / self.target_cpa
        return 0.0 if self.target_roas is None else roas * self.target_roas / (1.0 + roas)

    def tuned(self, history: History, budget_per_auction: float, episode_length: int | None = None) -> Self:
        """With the multipliers of the history's optimum: under the min rule each of its limit alone, under
        the joint rule both at once. With both targets, only the budget's is taken from it.
        """
        check_history(self.name, history, all_prices=True)
        value, price, limits = history.value, history.market_price, Limits(budget_per_auction * len(history))
        budget = constrained_optimum(value, price, limits).budget_multiplier
        target = 0.0
        if self.target_roas is not None and self.target_cpa is None:
            target = constrained_optimum(value, price, Limits(target=self.target_roas)).target_multiplier
        elif self.target_cpa is not None and self.target_roas is None:
            least = 1.0 / self.target_cpa
            found = constrained_optimum(
                value, price, replace(limits, target=least, outcome=history.click_probability)
            )
            budget = found.budget_multiplier or IDLE_JOINT * found.target_multiplier * least
            target = found.target_multiplier or IDLE_JOINT * budget / least
        return replace(
            self,
            initial_multiplier=budget or self.initial_multiplier,
            initial_target=target or self.initial_target,
        )


def _ratio(value: Floats, outcome: Floats) -> float:
    """Mean value an outcome; 0 where there is no outcome."""
    whole = float(outcome.sum())
    return float(value.sum()) / whole if whole > 0 else 0.0
