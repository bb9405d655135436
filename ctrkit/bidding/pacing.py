"""Budget pacing: how much value a unit of money must buy, learnt while the budget is being spent."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, sqrt
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ctrkit.bidding.spend_plan import SpendPlan
from ctrkit.errors import ConfigError

Floats: TypeAlias = NDArray[np.float64]

# Ticks of fewer auctions than this take shorter steps.
SHORT_TICK = 20


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
    """

    remaining: float
    auctions_left: int
    multiplier: float | None
    ticks: int = 0
    flat: float = 0.0
    first: float | None = None
    auctions: int = 0


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

    The first multiplier is the mean value of the first tick divided by ρ: even if every bid won and paid
    itself in full, the tick would cost no more than planned.

    Source: S. Balseiro, H. Lu, V. Mirrokni, The best of many worlds: dual mirror descent for online
    allocation problems, Operations Research 71 (2023), arXiv 2011.10124.

    With a plan of the episode, ρ_t is what remains of the budget by the plan's shape: to a tick that the plan
    gives a share s of all it has left goes that share s of all that is left. In a tick that it gives nothing
    no bid is made. As soon as possible, s is 1: μ falls until all is won that may be, or the money is gone.

    Attributes:
        step: η of the first tick of 20 auctions or more, above 0.
        initial_multiplier: the first μ, for example `hindsight_optimum(...).multiplier` of an older log.
        plan: of the spend over the episode; even by default.
    """

    step: float = 1.0
    initial_multiplier: float | None = None
    plan: SpendPlan | None = None

    def __post_init__(self) -> None:
        for name, value in (("step", self.step), ("initial_multiplier", self.initial_multiplier)):
            if value is not None and not (np.isfinite(value) and value > 0):
                raise ConfigError(f"{name} is {value:g}, and a pacer needs one above 0")

    def start(self, budget: float, auctions: int) -> Pace:
        """The state before the first of `auctions` expected auctions."""
        return Pace(
            budget, auctions, self.initial_multiplier, flat=budget / max(auctions, 1), auctions=auctions
        )

    def multiplier(self, pace: Pace, value: Floats) -> float | None:
        """μ for slots of expected value [n]; None, for no bids, as long as every value was 0, and where the
        plan gives these slots nothing."""
        if (ahead := self.auctions_ahead(pace, len(value))) == np.inf:
            return None
        if pace.multiplier is not None:
            return pace.multiplier
        mean, planned = float(value.mean()), pace.remaining / ahead
        return mean / planned if mean > 0 and planned > 0 else None

    def bid(self, pace: Pace, value: Floats) -> Floats:
        """Bids [n], in units of money."""
        multiplier = self.multiplier(pace, value)
        return np.zeros(len(value)) if multiplier is None else value / multiplier

    def update(self, pace: Pace, value: Floats, spend: float) -> Pace:
        """The state after a tick whose slots had the expected value [n] and cost `spend` in all."""
        n = len(value)
        multiplier, planned = self.multiplier(pace, value), self._planned(pace, n)
        remaining = pace.remaining - spend
        first = pace.first if pace.first is not None or planned <= 0 else multiplier
        after = replace(
            pace, remaining=remaining, auctions_left=pace.auctions_left - n, ticks=pace.ticks + 1, first=first
        )
        if multiplier is None or planned <= 0:
            return after
        moved = self._moved(multiplier, after, n, spend / n, planned)
        # Below this, every bid is above all that is left: going lower wins nothing and takes long to undo.
        if moved < multiplier and remaining > 0:
            least = float(np.min(value, where=value > 0, initial=np.inf))
            moved = max(moved, min(multiplier, least / remaining)) if least < np.inf else moved
        return replace(after, multiplier=moved)

    def first_step(self, n: int) -> float:
        """η of a first tick of n auctions."""
        return self.step * min(1.0, sqrt(n / SHORT_TICK))

    def _moved(self, multiplier: float, after: Pace, n: int, spend: float, planned: float) -> float:
        """μ after a tick of n auctions with this spend and plan, both an auction."""
        exponent = self.first_step(n) / sqrt(after.ticks) * (spend / planned - 1.0)
        return multiplier * exp(min(max(exponent, -1.0), 1.0))

    def auctions_ahead(self, pace: Pace, n: int) -> float:
        """So many auctions would use up the budget, at what the plan gives each of the next n.

        They are the auctions left where the plan is even, and at least the n at hand; infinite where the plan
        gives the next n nothing.
        """
        if self.plan is None or pace.auctions_left <= 0:
            return max(pace.auctions_left, n)
        # Divided as the plan's edges are, so that a tick that begins at an edge does so to the last place.
        gone = pace.auctions - pace.auctions_left
        return n * self.plan.left_over_next(gone / pace.auctions, (gone + n) / pace.auctions)

    def _planned(self, pace: Pace, n: int) -> float:
        """ρ_t, the planned spend an auction."""
        return pace.remaining / self.auctions_ahead(pace, n)


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
            raise ConfigError("additive pacing spends evenly and takes no plan", mend="Use `DualPacer`")

    def _moved(self, multiplier: float, after: Pace, n: int, spend: float, planned: float) -> float:
        first = multiplier if after.first is None else after.first
        return max(multiplier + self.step * first * (spend / after.flat - 1.0), multiplier / 2)
