"""The common part of strategies that pace a budget with the multiplicative dual pacer."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Self

from pydantic import Field

from ctrkit.bidding.pacing.dual import KNOWN, DualPacer
from ctrkit.bidding.pacing.spend_plan import SpendPlan
from ctrkit.bidding.strategies.base import BidStrategy, StateT
from ctrkit.settings import Positive, checked


@checked
class PacedBidding(BidStrategy[StateT]):
    """A bidder whose spend follows a plan by `ctrkit.bidding.pacing.dual.DualPacer`.

    Attributes:
        plan: how the budget is spread over the episode, for example `SpendPlan.asap()`; by default evenly.
        known_for: weight of the first multiplier in ticks; set by `tuned`.
        known_flat: budget per auction for which that multiplier was right; set by `tuned`.
    """

    step: Positive = Field(
        default=1.0, kw_only=True, description="step size of the multiplier's first update"
    )
    initial_multiplier: Positive | None = Field(
        default=None,
        kw_only=True,
        description="the first μ, in units of value per unit of money; by default from the first tick",
    )
    plan: SpendPlan | None = Field(default=None, kw_only=True, exclude=True)
    known_for: float = Field(default=0.0, kw_only=True, exclude=True)
    known_flat: float | None = Field(default=None, kw_only=True, exclude=True)

    def beginning_with(self, multiplier: float, flat: float) -> Self:
        """This strategy with a first μ that was learnt from a history.

        Args:
            multiplier: μ; 0 changes nothing.
            flat: the budget per auction for which it is right.
        """
        if not multiplier:
            return self
        return replace(self, initial_multiplier=multiplier, known_for=KNOWN, known_flat=flat)

    @cached_property
    def pacer(self) -> DualPacer:
        return DualPacer(self.step, self.initial_multiplier, self.plan, self.known_for, self.known_flat)
