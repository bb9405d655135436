"""Traffic-aware PID: control of the spend against a plan of the episode's traffic."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ctrkit.bidding.strategies.base import NO_TEXT
from ctrkit.bidding.strategies.pid import PidBidding, PidState
from ctrkit.errors import ConfigError

_BIN = np.log(1.2)
_MOST_BINS_UP, _MOST_BINS_DOWN = 4.0, 7.0


@dataclass(frozen=True)
class TrafficPidBidding(PidBidding):
    """PID control that spends by a plan, and reads its error as a ratio: in steps of 20 %.

    The plan says what part of the budget each part of the episode deserves, for example by what an hour's
    traffic was worth yesterday. With G(f) the planned share of the budget when a part f of the auctions has
    passed, the next tick gets (G(f₁) − G(f₀)) / (1 − G(f₀)) of what remains. The error is
    log(planned/spend), at most 4 steps of log 1.2 up and 7 down: it tells a spend of a hundredth of the
    plan from one of a half, and shies from dear ticks more than it chases cheap ones.

    Source: the bidder TA-PID of github.com/avito-tech/bat-autobidding-benchmark.

    Attributes:
        plan: what the auctions of each of m equal parts of the episode deserve, [m], in any unit; by default
            the same everywhere.
    """

    name = "traffic-pid"
    plan: tuple[float, ...] = field(default=(1.0,), metadata=NO_TEXT)

    def __post_init__(self) -> None:
        super().__post_init__()
        plan = np.asarray(self.plan, np.float64)
        if not (plan.size and np.isfinite(plan).all() and (plan >= 0).all() and plan.any()):
            raise ConfigError(
                f"strategy '{self.name}': the plan is {self.plan} and needs numbers of at least 0, not all 0",
                mend="Give for example the traffic of every hour",
            )

    def planned(self, state: PidState, n: int) -> float:
        auctions = max(state.auctions, 1)
        begin = 1.0 - max(state.auctions_left, n) / auctions
        share = np.concatenate(([0.0], np.cumsum(self.plan))) / np.sum(self.plan)
        at = np.linspace(0.0, 1.0, len(share))
        before, after = np.interp((begin, begin + n / auctions), at, share)
        return float(state.remaining * (after - before) / (1.0 - before)) if before < 1.0 else 0.0

    def error(self, spend: float, planned: float) -> float:
        ratio = np.log(planned / spend) if spend > 0 else np.inf
        return float(np.clip(ratio, -_MOST_BINS_DOWN * _BIN, _MOST_BINS_UP * _BIN))
