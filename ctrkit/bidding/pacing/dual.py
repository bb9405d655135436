"""Budget pacing: how much value a unit of money must buy, learnt while the budget is being spent."""

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
# Ticks that a multiplier counts for which an earlier episode or a history has taught.
KNOWN = 50.0
# How far off log μ is taken to be where the log of the money an auction is another by one. Over made-up days
# of very different length 0.14 to 0.22 gained the most: 0 is slow to leave a wrong μ, 1 forgets a good one.
OFF = 0.2
# Multipliers stay between these, and bids at or below this, so that neither is ever 0, infinite or no number.
LEAST, MOST = 2.0**-1000, 2.0**1000
_PLAIN = 2.0**-400


def within(multiplier: float) -> float:
    """The multiplier, or the nearest one that bids can be divided by."""
    return min(max(multiplier, LEAST), MOST)


def bids_of(value: Floats, multiplier: float) -> Floats:
    """value / multiplier [n], finite."""
    if multiplier > _PLAIN:  # of values up to 1e150, which is all that auctions may have
        return value / multiplier
    with np.errstate(over="ignore"):
        return np.minimum(value / multiplier, MOST)


def _trusted(prior: float, then: float, now: float) -> float:
    """What is left of k₀ ticks for a multiplier of another budget an auction, see `DualPacer`."""
    if not (prior > 0 and then > 0 and now > 0):
        return 0.0
    return 1.0 / (1.0 / prior + (OFF * log(now / then)) ** 2)


@dataclass(frozen=True)
class Pace:
    """State of a pacer within one episode.

    Attributes:
        remaining: of the budget, in units of money.
        auctions_left: of those expected in the episode.
        multiplier: μ, the value that a unit of money has to buy; None before any value was seen.
        ticks: updates so far.
        flat: the budget an auction at the start, ρ of a plan that is never revised.
        first: the first multiplier.
        auctions: expected in the whole episode, by which a plan knows how far it is.
        prior: ticks that what was known beforehand counts for.
        seen: of the part of a plan that goes by the clock.
        log_sum, counted: Σ log μ over the auctions of the episode's second half that μ was learnt from, and
            their number.
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
    with the entropic mirror map moves it by how the spend of a tick compares with the plan ρ_t:

        μ ← μ · exp(η_k · (spend a auction / ρ_t − 1)),   ρ_t = remaining budget / remaining auctions.

    It is free of the units of money and of value, and as ρ_t is taken from what remains, earlier errors
    are made up for. The step of the k-th tick is η_k = step/√k, the rate of the O(√T) regret bound; the
    first, long steps find the order of magnitude, and an exponent above 1 is cut to 1, so that one dear
    tick cannot silence the bidder for long.

    Of ticks of n < 20 auctions the step is √(n/20) of that. When t auctions are over, k = t/n, and μ moves
    with step/√(n t) an auction: shorter ticks would move it faster, by single wins and by chance. So it moves
    with step/√(20 t), as by ticks of twenty. (Longer ones could keep up only by steps above 1.)

    k counts what can be learnt from. Where all is worth 0, or the plan gives nothing, or no money is left,
    nothing is: neither k nor μ changes, and n counts only auctions that are worth something and that the plan
    gives something.

    The first multiplier is the mean value of the first tick divided by ρ: even if every bid won and paid
    itself in full, the tick would cost no more than planned. Where an episode went before, it is the
    geometric mean of μ over the second half of that, and k begins at k₀ = 50 ticks of twenty auctions or
    more, for there is less to learn: η_k = step/√(k + k₀). (`benchmarks/pacing.py` shows what that gains.)
    That is the μ of the money an auction that there was, ρ. Where it is another now, ρ', it tells less
    and counts for less: 1/k₀ = 1/50 + (0.2 log(ρ'/ρ))². So a day whose budget was short does not hold back
    the next. The same goes for the multiplier of a history.

    Source: S. Balseiro, H. Lu, V. Mirrokni, The best of many worlds: dual mirror descent for online
    allocation problems, Operations Research 71 (2023), arXiv 2011.10124.

    With a plan of the episode, ρ_t is what remains of the budget by the plan's shape: to a tick that the plan
    gives a share s of all it has left goes that share s of all that is left. What it gives nothing is not bid
    on. As soon as possible, s is 1: μ falls until all is won that may be, or the money is gone.

    Attributes:
        step: η of the first tick of 20 auctions or more, above 0.
        initial_multiplier: the first μ, for example `hindsight_optimum(...).multiplier` of an older log.
        plan: of the spend over the episode; even by default.
        prior: k₀ of the first episode, above 0 where the initial multiplier is not just a guess.
        prior_flat: the money an auction at which that multiplier was right; None where it is no other.
    """

    step: float = 1.0
    initial_multiplier: float | None = None
    plan: SpendPlan | None = None
    prior: float = 0.0
    prior_flat: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("step", self.step), ("initial_multiplier", self.initial_multiplier)):
            if value is not None and not (np.isfinite(value) and value > 0):
                raise ConfigError(f"{name} is {value:g}, and a pacer needs one above 0")

    def start(self, budget: float, auctions: int) -> Pace:
        """The state before the first of `auctions` expected auctions."""
        flat = budget / max(auctions, 1)
        prior = self.prior if self.prior_flat is None else _trusted(self.prior, self.prior_flat, flat)
        return Pace(
            budget, auctions, self.initial_multiplier, flat=flat, auctions=auctions, prior=prior
        )  # fmt: skip

    def restart(self, pace: Pace, budget: float, auctions: int) -> Pace:
        """The state before the next episode, which begins with what the one before has taught."""
        start = self.start(budget, auctions)
        if (known := pace.typical) is None:
            return start
        return replace(start, multiplier=known, prior=_trusted(KNOWN, pace.flat, start.flat))

    def multiplier(self, pace: Pace, value: Floats, time: Floats | None = None) -> float | None:
        """μ for slots of expected value [n]; None, for no bids, as long as every value was 0, and where the
        plan gives these slots nothing.

        Args:
            time: [n], of the slots, in seconds since 1970; heeded by plans that have a clock.
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
        """The state after a tick whose slots had the expected value [n] and cost `spend` in all."""
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
        # Below this, every bid is above all that is left: going lower wins nothing and takes long to undo.
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
        """Which of the next n auctions the plan gives something, [n]."""
        given = self._given(pace, n, time)
        return np.ones(n, np.bool_) if given is None else given > 0

    def first_step(self, n: int) -> float:
        """η of a first tick of n auctions."""
        return self.step * min(1.0, sqrt(n / SHORT_TICK))

    def _over(self, pace: Pace, n: int, spend: float, planned: float) -> float:
        """The spend of n auctions over what is planned for them."""
        return spend / planned

    def _moved(self, multiplier: float, pace: Pace, n: int, over: float) -> float:
        """μ after a tick of n auctions whose spend was so many times the planned one."""
        k = pace.ticks + 1 + pace.prior * max(1.0, SHORT_TICK / n)
        exponent = self.first_step(n) / sqrt(k) * (over - 1.0)
        return multiplier * exp(min(max(exponent, -1.0), 1.0))

    def _given(self, pace: Pace, n: int, time: Floats | None) -> Floats | None:
        """What part of all that is left each of the next n auctions gets, [n]; None where that is even."""
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

        μ ← max(μ + η·μ₀·(spend a auction / ρ − 1), μ/2),   ρ = budget / auctions.

    Step and plan stay what they are, so the sum telescopes: after K ticks of n auctions that never met the
    bound of μ/2, μ_K = μ₀ + η·μ₀·(spend/(ρ·n) − K). The last μ then tells what was spent and nothing of the
    market; look at its path. Scaled by μ₀ it is free of units, but how fast it moves hangs on μ₀: where that
    is far from the right multiplier, the multiplicative form is much quicker.

    Source: S. Balseiro, Y. Gur, Learning in repeated auctions with budgets, Management Science 65 (2019).

    Attributes:
        step: η of every tick.

    Raises:
        ConfigError: with a plan; it spends evenly.
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
