"""Traffic-aware PID: control of the spend by a plan that follows the episode's traffic."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from ctrkit.arrays import Floats
from ctrkit.bidding.pacing.spend_plan import SpendPlan
from ctrkit.bidding.strategies.pid import PidBidding, PidState
from ctrkit.settings import checked

_BIN = np.log(1.2)
_MOST_BINS_UP, _MOST_BINS_DOWN = 4.0, 7.0


@checked
class TrafficPidBidding(PidBidding):
    """PID control that spends by a plan, with the log of a ratio as its error.

    The plan gives each part of the episode its share of the budget, for example by the value of each hour's
    traffic yesterday. `SpendPlan.given` says which share of the money left the next tick gets. The error is
    log(planned/spend), at most 4 steps of log 1.2 up and 7 down. So it reacts more strongly to ticks that
    cost too much than to ticks that cost too little.

    Source: the bidder TA-PID of github.com/avito-tech/bat-autobidding-benchmark.

    Attributes:
        plan: how the budget is spread over the episode; by default evenly.
    """

    name = "traffic-pid"
    plan: SpendPlan | None = Field(default=None, exclude=True)

    def given(self, state: PidState, n: int, time: Floats | None) -> Floats:
        if self.plan is None:
            return super().given(state, n, time)
        return self.plan.given(state.auctions - state.auctions_left, n, state.auctions, time)

    def error(self, spend: float, planned: float) -> float:
        ratio = np.log(planned / spend) if spend > 0 else np.inf
        return float(np.clip(ratio, -_MOST_BINS_DOWN * _BIN, _MOST_BINS_UP * _BIN))
