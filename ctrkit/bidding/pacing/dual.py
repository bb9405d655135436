"""Budget pacing: the value that a unit of money must buy, learnt while the budget is being spent."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, log, sqrt
from typing import Any

import numpy as np

from ctrkit.arrays import Booleans, Floats
from ctrkit.bidding.pacing.spend_plan import NOTHING_SEEN, Seen, SpendPlan
from ctrkit.errors import ConfigError

# Ticks of fewer auctions than this take shorter steps.
SHORT_TICK = 20
# The weight, in ticks, of a multiplier that was learnt from an earlier episode or a history.
KNOWN = 50.0
# The assumed error of log μ when the log of the budget per auction has changed by one. On simulated days of
# very different length 0.14 to 0.22 gained the most: 0 is slow to leave a wrong μ, 1 forgets a good one.
OFF = 0.2
# Multipliers stay between these numbers, and bids at or below the larger, so that none is 0, infinite or NaN.
LEAST, MOST = 2.0**-1000, 2.0**1000
_PLAIN = 2.0**-400


def within(multiplier: float) -> float:
    """The multiplier, or the nearest number by which values can be divided."""
    return min(max(multiplier, LEAST), MOST)


def bids_of(value: Floats, multiplier: float) -> Floats:
    """value / multiplier [n], finite."""
    if multiplier > _PLAIN:  # of values up to 1e150, which is all that auctions may have
        return value / multiplier
    with np.errstate(over="ignore"):
        return np.minimum(value / multiplier, MOST)


def _trusted(prior: float, then: float, now: float) -> float:
    """The weight k₀ of a multiplier after the budget per auction has changed (see `DualPacer`)."""
    if not (prior > 0 and then > 0 and now > 0):
        return 0.0
    return 1.0 / (1.0 / prior + (OFF * log(now / then)) ** 2)


@dataclass(frozen=True)
class Pace:
    """State of a pacer within one episode.

    Attributes:
        remaining: the part of the budget that is left, in units of money.
        auctions_left: expected auctions that are left in the episode.
        multiplier: μ, the value that a unit of money must buy; None before any value was seen.
        ticks: number of updates so far.
        flat: ρ, the budget per auction at the start of the episode.
        first: the first multiplier.
        auctions: expected auctions of the whole episode, by which a plan knows how far it is.
        prior: k₀, the weight in ticks of what was known before the episode.
        seen: what was seen of the current part of a plan that goes by the clock.
        log_sum: Σ log μ over the auctions of the episode's second half from which μ was learnt.
        counted: the number of these auctions.
    """

    remaining: float
    auctions_left: int
    multiplier: float | None
    ticks: int = 0
    flat: float = 0.0
    first: float | None = None
    auctions: int = 0
    prior: float = 0.0
    seen: Seen = NOTHING_SEEN
    log_sum: float = 0.0
    counted: float = 0.0

    @property
    def second_half(self) -> bool:
        """Whether half of the expected auctions are over."""
        return 2 * self.auctions_left < self.auctions

    @property
    def typical(self) -> float | None:
        """The geometric mean of μ over the second half of the episode; the last μ before that."""
        return exp(self.log_sum / self.counted) if self.counted else self.multiplier


@dataclass(frozen=True)
class DualPacer:
    """Multiplicative Lagrangian pacing of  max Σ v  subject to  Σ payment ≤ B,  by ticks.

    In second-price auctions the bid v/μ is optimal for the right multiplier μ of the budget. Mirror descent
    with the entropic mirror map moves μ by the ratio of a tick's spend to the plan ρ_t:

        μ ← μ · exp(η_k · (spend per auction / ρ_t − 1)),   ρ_t = remaining budget / remaining auctions.

    The update does not depend on the units of money and value. Since ρ_t is computed from what remains,
    later ticks make up for earlier errors. The step of the k-th tick is η_k = step/√k, the rate of the O(√T)
    regret bound. The first, long steps find the order of magnitude. An exponent above 1 is cut to 1, so that
    one expensive tick cannot stop the bidder for long.

    For ticks of n < 20 auctions the step is multiplied by √(n/20). When t auctions are over, k = t/n, so μ
    would move by step/√(n t) per auction: shorter ticks would move it faster, by single wins and by chance.
    With the factor it moves by step/√(20 t), as with ticks of twenty. (Longer ticks could move it as fast
    only with steps above 1.)

    k counts only ticks that teach something. If all values are 0, the plan gives nothing, or no money is
    left, neither k nor μ changes. n counts only auctions with a value above 0 and a share of the plan.

    The first multiplier is the mean value of the first tick divided by ρ: even if every bid won and paid its
    own bid, the tick would cost no more than planned. After an earlier episode, the first multiplier is the
    geometric mean of μ over the second half of that episode. Then less is left to learn, so k starts at
    k₀ = 50 ticks of twenty auctions or more: η_k = step/√(k + k₀). (`benchmarks/pacing.py` measures the
    gain.) That μ was right for the budget per auction ρ of that episode. If it has changed to ρ', the old μ
    has less weight: 1/k₀ = 1/50 + (0.2 log(ρ'/ρ))². So a day with a small budget does not hold back the
    next. The same holds for the multiplier of a history.

    Source: S. Balseiro, H. Lu, V. Mirrokni, The best of many worlds: dual mirror descent for online
    allocation problems, Operations Research 71 (2023), arXiv 2011.10124.

    With a spend plan, ρ_t follows its shape: a tick with a share s of what the plan has left gets the share s
    of the money left. Auctions to which the plan gives nothing get no bid. With `SpendPlan.asap`, s is 1: μ
    falls until everything that can be won is won, or the money is gone.

    Attributes:
        step: η of the first tick of 20 auctions or more, above 0.
        initial_multiplier: the first μ, for example `hindsight_optimum(...).multiplier` of an older log.
        plan: how the spend is spread over the episode; evenly by default.
        prior: k₀ of the first episode, above 0 where the initial multiplier is more than a guess.
        prior_flat: the budget per auction for which that multiplier was right; None if it is the same.
    """

    step: float = 1.0
    initial_multiplier: float | None = None
    plan: SpendPlan | None = None
    prior: float = 0.0
    prior_flat: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("step", self.step), ("initial_multiplier", self.initial_multiplier)):
            if value is not None and not (np.isfinite(value) and value > 0):
                raise ConfigError(f"{name} is {value:g} and must be above 0")

    def start(self, budget: float, auctions: int) -> Pace:
        """The state before an episode of `auctions` expected auctions with `budget` to spend."""
        flat = budget / max(auctions, 1)
        prior = self.prior if self.prior_flat is None else _trusted(self.prior, self.prior_flat, flat)
        return Pace(
            budget, auctions, self.initial_multiplier, flat=flat, auctions=auctions, prior=prior
        )  # fmt: skip

    def restart(self, pace: Pace, budget: float, auctions: int) -> Pace:
        """The state before the next episode, which starts with what was learnt in the one before."""
        start = self.start(budget, auctions)
        if (known := pace.typical) is None:
            return start
        return replace(start, multiplier=known, prior=_trusted(KNOWN, pace.flat, start.flat))

    def multiplier(self, pace: Pace, value: Floats, time: Floats | None = None) -> float | None:
        """μ for the next slots; None, which means no bids, while every value was 0, or where the plan gives
        these slots nothing.

        Args:
            pace: the state.
            value: [n], the expected value of each slot.
            time: [n], the time of each slot in seconds since 1970; used by plans that have a clock.
        """
        return self._multiplier(pace, value, self._given(pace, len(value), time))

    def bid(self, pace: Pace, value: Floats, time: Floats | None = None) -> Floats:
        """Bids [n], in units of money."""
        given = self._given(pace, len(value), time)
        multiplier = self._multiplier(pace, value, given)
        if multiplier is None:
            return np.zeros(len(value))
        bids = bids_of(value, multiplier)
        return bids if given is None else np.where(given > 0, bids, 0.0)

    def update(self, pace: Pace, value: Floats, spend: float, time: Floats | None = None) -> Pace:
        """The state after a tick whose slots had the expected values [n] and cost `spend` together."""
        n = len(value)
        given = self._given(pace, n, time)
        multiplier, planned = self._multiplier(pace, value, given), self._planned(pace, n, given)
        changes: dict[str, Any] = {
            "remaining": pace.remaining - spend,
            "auctions_left": pace.auctions_left - n,
        }
        if self.plan is not None and self.plan.goes_by(time):
            changes["seen"] = self.plan.by_clock(time, pace.seen)[2]
        worth = value > 0 if given is None else (value > 0) & (given > 0)
        count = int(np.count_nonzero(worth))
        if multiplier is None or planned <= 0 or not count:
            return replace(pace, **changes)
        moved = self._moved(multiplier, pace, count, self._over(pace, n, spend, planned))
        # Below this μ every bid exceeds the money left: a lower μ wins nothing more and takes long to undo.
        if moved < multiplier and changes["remaining"] > 0:
            least = float(np.min(value, where=worth, initial=np.inf))
            moved = max(moved, min(multiplier, least / changes["remaining"]))
        moved = within(moved)
        changes |= {"multiplier": moved, "ticks": pace.ticks + 1, "first": pace.first or multiplier}
        if not pace.second_half:
            return replace(pace, **changes)
        log_sum, counted = pace.log_sum + count * log(moved), pace.counted + count
        return replace(pace, **changes, log_sum=log_sum, counted=counted)

    def offered(self, pace: Pace, n: int, time: Floats | None = None) -> Booleans:
        """Whether the plan gives money to each of the next n auctions, [n]."""
        given = self._given(pace, n, time)
        return np.ones(n, np.bool_) if given is None else given > 0

    def first_step(self, n: int) -> float:
        """η of a first tick of n auctions."""
        return self.step * min(1.0, sqrt(n / SHORT_TICK))

    def _over(self, pace: Pace, n: int, spend: float, planned: float) -> float:
        """The spend of n auctions divided by their planned spend."""
        return spend / planned

    def _moved(self, multiplier: float, pace: Pace, n: int, over: float) -> float:
        """μ after a tick of n auctions whose spend was `over` times the planned spend."""
        k = pace.ticks + 1 + pace.prior * max(1.0, SHORT_TICK / n)
        exponent = self.first_step(n) / sqrt(k) * (over - 1.0)
        return multiplier * exp(min(max(exponent, -1.0), 1.0))

    def _given(self, pace: Pace, n: int, time: Floats | None) -> Floats | None:
        """The share of the money left that each of the next n auctions gets, [n]; None for even pacing."""
        if self.plan is None:
            return None
        return self.plan.given(pace.auctions - pace.auctions_left, n, pace.auctions, time, pace.seen)

    def _planned(self, pace: Pace, n: int, given: Floats | None) -> float:
        """The planned spend of the next n auctions."""
        if given is None:
            return pace.remaining * n / max(pace.auctions_left, n)
        return pace.remaining * min(float(given.sum()), 1.0)

    def _multiplier(self, pace: Pace, value: Floats, given: Floats | None) -> float | None:
        if given is not None and not given.any():
            return None
        if pace.multiplier is not None:
            return pace.multiplier
        total = float(value.sum()) if given is None else float(value.sum(where=given > 0))
        planned = self._planned(pace, len(value), given)
        return within(total / planned) if total > 0 and planned > 0 else None


@dataclass(frozen=True)
class AdditivePacer(DualPacer):
    """Additive Lagrangian pacing: dual descent with the Euclidean mirror map.

        μ ← max(μ + η·μ₀·(spend per auction / ρ − 1), μ/2),   ρ = budget / auctions.

    Step and plan are fixed, so the sum telescopes: after K ticks of n auctions that never reached the bound
    μ/2, μ_K = μ₀ + η·μ₀·(spend/(ρ·n) − K). The last μ then only shows how much was spent; for the market,
    look at the path of μ. The factor μ₀ makes the update independent of units, but its speed depends on μ₀:
    if μ₀ is far from the right multiplier, the multiplicative form is much faster.

    Source: S. Balseiro, Y. Gur, Learning in repeated auctions with budgets, Management Science 65 (2019).

    Attributes:
        step: η of every tick.

    Raises:
        ConfigError: a plan is given; additive pacing spends evenly.
    """

    step: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.plan is not None:
            raise ConfigError("additive pacing spends evenly and takes no plan", hint="Use `DualPacer`")

    def _over(self, pace: Pace, n: int, spend: float, planned: float) -> float:
        return spend / (pace.flat * n) if pace.flat > 0 else spend / planned

    def _moved(self, multiplier: float, pace: Pace, n: int, over: float) -> float:
        first = multiplier if pace.first is None else pace.first
        return max(multiplier + self.step * first * (over - 1.0), multiplier / 2)
