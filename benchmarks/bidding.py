"""Bidding: how fast budgets are paced, how near the hindsight optimum, and on iPinYou beside the published.

    python benchmarks/bidding.py speed | optimum | knapsack [--auctions N] [--rounds 7]
    python benchmarks/bidding.py ipinyou LOG.parquet PRICES.parquet

`speed` and `knapsack` take CPU time of this process, the median of several rounds; give one thread to NumPy
(OMP_NUM_THREADS=1). LOG is an auction log of iPinYou's campaign 2997, PRICES the histogram of market prices
of its training days, with the columns campaign, market_price and count. Each figure stands beside its line.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import cvxpy as cp
import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from ctrkit.bidding import (
    Auctions,
    BidStrategy,
    CampaignTerms,
    DualPacer,
    LinearBidding,
    SpendPlan,
    StrategyResult,
    auctions_from_log,
    hindsight_optimum,
    read_auction_log,
    simulate,
)
from ctrkit.bidding.market.clearing import clear
from ctrkit.bidding.simulation.every_auction import replay_paced
from ctrkit.bidding.simulation.ticks import edges
from ctrkit.bidding.strategies import AuctionHistory, DualBidding, PidBidding, RlbBidding, SsMdpBidding

Floats = NDArray[np.float64]

# Auctions that the engine is given at a time.
_PIECE = 1 << 16
# Of iPinYou's campaign 2997: cost, clicks and impressions of the training days.
_COST, _CLICKS, _IMPRESSIONS = 19_689_072, 1386, 312_437
_PUBLISHED_RLB = (39_680, 78, 304_375)


class Market(NamedTuple):
    """Values and prices of n auctions, and the budget of the day."""

    value: Floats
    price: Floats
    budget: float


def market(n: int, budget_share: float, level: Floats | float = 1.0, seed: int = 0) -> Market:
    """Click probabilities around 1 %, log-normal prices that go with them.

    Args:
        budget_share: of what all auctions together cost.
        level: of prices and values, for all or [n].
    """
    rng = np.random.default_rng(seed)
    quality = rng.normal(0, 0.6, n)
    price = level * np.exp(rng.normal(3.5, 1.0, n) + 0.5 * quality)
    return Market(level * np.exp(quality - 4.8), price, budget_share * float(price.sum()))


def seconds(run: Callable[[], object], rounds: int) -> float:
    """Median CPU seconds, after a round that does not count."""
    taken = []
    for _ in range(rounds + 1):
        begun = time.process_time()
        run()
        taken.append(time.process_time() - begun)
    return statistics.median(taken[1:])


def by_ticks(now: Market, pacer: DualPacer, tick: int = 1000) -> float:
    """The value won by bids that are decided, and learnt from, a tick at a time."""
    auctions = len(now.value)
    pace, spent, won = pacer.start(now.budget, auctions), 0.0, 0.0
    for start, end in pairwise(edges(auctions, tick, 0)):
        value = now.value[start:end]
        cleared = clear(pacer.bid(pace, value), now.price[start:end], now.budget, spent)
        pace = pacer.update(pace, value, float(cleared.paid.sum()))
        spent, won = cleared.spent, won + float(value @ cleared.won)
    return won


def verdict(met: bool) -> str:
    return "[green]met[/]" if met else "[red]missed[/]"


def at_every_auction(now: Market, pacer: DualPacer, keep: bool) -> int:
    """The wins of a step at every auction, in pieces as an engine has them."""
    auctions = len(now.value)
    pace, wins = pacer.start(now.budget, auctions), 0
    for start in range(0, auctions, _PIECE):
        rows = slice(start, start + _PIECE)
        replayed = replay_paced(now.value[rows], now.price[rows], pacer, pace, keep=keep)
        pace, wins = replayed.pace, wins + replayed.wins
    return wins


def speed(auctions: int, rounds: int) -> Table:
    """Millions of auctions a second of CPU, at win rates from low to high."""
    title = f"Paced replay of {auctions:,} auctions"
    shown = Table("engine", "win rate", "M auctions/s", "line", "", title=title)
    for budget_share in (0.005, 0.01, 0.02, 0.1):
        now = market(auctions, budget_share)
        pacer = DualPacer(initial_multiplier=6 * hindsight_optimum(*now).multiplier)
        rate = at_every_auction(now, pacer, keep=False) / auctions
        runs: tuple[tuple[str, Callable[[], object], int], ...] = (
            ("a step at every auction", partial(at_every_auction, now, pacer, keep=False), 80),
            ("the same, events kept", partial(at_every_auction, now, pacer, keep=True), 60),
            ("by ticks of 1,000", partial(by_ticks, now, pacer), 20),
        )
        for name, run, line in runs:
            found = auctions / seconds(run, rounds) / 1e6
            shown.add_row(name, f"{rate:.1%}", f"{found:.1f}", f"{line}", verdict(found >= line))
    value, price, budget = market(min(auctions, 500_000), 0.01)
    ones = np.ones((len(value), 1))
    whole, few = (
        Auctions(price, value[:, None], ones),
        Auctions(price[:20_000], value[:20_000, None], ones[:20_000]),
    )
    for name, log, strategy, tick in (
        ("simulate, dual, tick 1", whole, "dual", 1),
        ("simulate, dual, tick 1, tick by tick", few, _TickByTick(), 1),
        ("simulate, dual, tick 1,000", whole, "dual", 1000),
    ):
        part = budget * len(log) / len(whole)
        run = partial(simulate, log, [strategy], CampaignTerms(part), tick=tick)
        shown.add_row(name, "", f"{len(log) / seconds(run, 3) / 1e6:.2f}", "", "")
    return shown


class _TickByTick(DualBidding):
    """Another type, for which the simulator does not take the compiled loop."""


def optimum(auctions: int) -> Table:
    """Value over the hindsight optimum, by budget."""
    shares = (0.005, 0.02, 0.05, 0.1)
    shown = Table("market", "pacing", *(f"budget {share:.1%}" for share in shares), "line", "")

    def row(what: str, how: str, line: float | None, found: list[float]) -> None:
        met = "" if line is None else verdict(min(found) >= line)
        cells = [f"{one:.4f}" if line is None or one >= line else f"[red]{one:.4f}[/]" for one in found]
        shown.add_row(what, how, *cells, "" if line is None else f"{line:g}", met)

    def share_of(now: Market, plan: SpendPlan | None = None, start: float = 1.0, tick: int = 1000) -> float:
        best = hindsight_optimum(now.value, now.price, now.budget)
        pacer = DualPacer(initial_multiplier=start * best.multiplier, plan=plan)
        if tick == 1:
            pace = pacer.start(now.budget, auctions)
            return replay_paced(now.value, now.price, pacer, pace, keep=False).value / best.value
        return by_ticks(now, pacer, tick) / best.value

    for start in (6.0, 1 / 6):
        for tick, how in ((1000, "ticks of 1,000"), (1, "a step at every auction")):
            found = [share_of(market(auctions, share), None, start, tick) for share in shares]
            row("stationary", f"{how}, start {start:.2g} times the right one", 0.995, found)

    # A day of 24 hours: at noon nearly twice the traffic of the mean hour, prices dearest in the evening.
    hours = np.linspace(0, 24, 100_001)
    traffic = np.cumsum(1.0 - 0.9 * np.cos(hours / 24 * 2 * np.pi))
    hour = np.interp(np.arange(auctions) / auctions, traffic / traffic[-1], hours)
    level = np.exp(0.5 * np.cos((hour - 20) / 24 * 2 * np.pi))
    by_hour = np.bincount(np.arange(auctions) * 960 // auctions, np.gradient(hour)).astype(np.float64)

    def earlier(share: float) -> SpendPlan:
        day = market(auctions, share, level, seed=1)
        spend = hindsight_optimum(day.value, day.price, day.budget).share * day.price
        return SpendPlan(np.bincount(np.arange(auctions) * 96 // auctions, spend).astype(np.float64))

    days = [market(auctions, share, level) for share in shares]
    plans = [earlier(share) for share in shares]
    row(
        "a day",
        "spend by the plan of an earlier day",
        0.99,
        [share_of(*one) for one in zip(days, plans, strict=True)],
    )
    row("a day", "even by auction: traffic known, prices not", None, [share_of(day) for day in days])
    row("a day", "even by the hour: neither known", None, [share_of(day, SpendPlan(by_hour)) for day in days])

    level = np.where(np.arange(auctions) < auctions // 2, 1.0, 3.0)
    shocks = [market(auctions, share, level) for share in shares]
    row(
        "tripling half-way",
        "ticks of 1,000, untold, start 6 times the right one",
        0.96,
        [share_of(one, start=6.0) for one in shocks],
    )
    told, rising = SpendPlan(np.array([1.0, 3.0])), SpendPlan(np.linspace(0.9, 1.1, 50))
    row("tripling half-way", "ticks of 1,000, told by a plan", None, [share_of(one, told) for one in shocks])
    # What is held back for dearer times is missed in cheaper ones.
    falls = [market(auctions, share, 4.0 - level) for share in shares]
    alike = [market(auctions, share) for share in shares]
    even, back = "ticks of 1,000, untold", "ticks of 1,000, untold, by a plan that rises from 0.9 to 1.1"
    row("a third half-way", even, None, [share_of(one, start=6.0) for one in falls])
    for what, markets in (("tripling half-way", shocks), ("a third half-way", falls), ("stationary", alike)):
        row(what, back, None, [share_of(one, rising, start=6.0) for one in markets])
    return shown


def ipinyou(log_file: str, prices_file: str) -> list[Table]:
    """Clicks and share of the optimum by budget, in episodes of 1,000 auctions; then the lines."""
    log = auctions_from_log(read_auction_log(log_file))
    counts = pl.read_parquet(prices_file).filter(campaign=2997)
    price = np.repeat(counts["market_price"].to_numpy().astype(np.float64), counts["count"].to_numpy())
    rate = np.full(len(price), _CLICKS / _IMPRESSIONS)
    training, test = AuctionHistory(price, rate, rate), AuctionHistory.from_auctions(log)

    def replay(
        strategy: BidStrategy[Any] | str, budget: int, tick: int | None, expected: int | None = None
    ) -> StrategyResult:
        return simulate(
            log, [strategy], CampaignTerms(budget, max_bid=300, integer_bids=True), episode_length=1000,
            tick=tick, auctions_expected=expected,
        ).strategies[0]  # fmt: skip

    parts = (2, 4, 8, 16, 32, 64)
    budgets = [int(_COST / _IMPRESSIONS * 1000 / part) for part in parts]
    clicks: dict[str, list[int]] = {}
    shares: dict[str, list[float]] = {}
    for budget in budgets:
        terms = CampaignTerms(budget, max_bid=300, integer_bids=True)
        runs: dict[str, tuple[BidStrategy[Any] | str, int | None]] = {
            "dual": ("dual", None),
            "dual at every auction": ("dual", 1),
            "linear, tuned on the test set": (LinearBidding().tuned(test, terms, 1000), None),
            "linear, of most test clicks": (most_clicks(log, budget), None),
            "PID": (PidBidding().tuned(training, terms, 1000), None),
            "RLB": (RlbBidding().tuned(training, terms, 1000), None),
            "SS-MDP": (SsMdpBidding().tuned(training, terms, 1000), None),
        }
        for name, (strategy, tick) in runs.items():
            one = replay(strategy, budget, tick)
            clicks.setdefault(name, []).append(int(one.clicks or 0))
            shares.setdefault(name, []).append(one.share_of_optimum or 0.0)
    shown = Table("strategy", *(f"1/{part}" for part in parts), title="Clicks, and value over the optimum")
    for name in clicks:
        cells = zip(clicks[name], shares[name], strict=True)
        shown.add_row(name, *(f"{click} · {share:.3f}" for click, share in cells))

    lines = Table("line", "found", "")
    dual, linear = clicks["dual"], clicks["linear, of most test clicks"]
    pairs = ", ".join(f"{own} : {other}" for own, other in zip(dual[1:5], linear[1:5], strict=True))
    at_least = all(own >= other for own, other in zip(dual[1:5], linear[1:5], strict=True))
    lines.add_row("dual's clicks at least those of linear, 1/4 to 1/32", pairs, verdict(at_least))
    lines.add_row("dual's clicks at least 76 at 1/32", f"{dual[4]}", verdict(dual[4] >= 76))
    last = shares["dual"][5]
    lines.add_row("dual's value at least 0.92 of the optimum at 1/64", f"{last:.3f}", verdict(last >= 0.92))
    rlb = RlbBidding(unit=1, highest_bid=300).tuned(training, CampaignTerms(budgets[4]), 1000)
    # The published replay does not know that its last episode is a short one.
    exact = replay(rlb, budgets[4], 1, expected=-(-len(log) // 1000) * 1000)
    found = (exact.wins, int(exact.clicks or 0), int(exact.spend))
    lines.add_row(
        f"RLB's wins, clicks and cost {_PUBLISHED_RLB}", str(found), verdict(found == _PUBLISHED_RLB)
    )
    return [shown, lines]


def most_clicks(log: Auctions, budget: int) -> LinearBidding:
    """Linear bidding with the base bid, of 1 to 300, that wins most clicks of this very log."""
    assert log.click is not None
    relative, best = log.click_probability[:, 0] / (_CLICKS / _IMPRESSIONS), (-1.0, 0)
    for base in range(1, 301):
        clicks = 0.0
        for start in range(0, len(log), 1000):
            rows = slice(start, start + 1000)
            cleared = clear(base * relative[rows], log.market_price[rows], budget, 0.0, 300, True)
            clicks += float(log.click[rows, 0] @ cleared.won)
        best = max(best, (clicks, -base))
    return LinearBidding(base_bid=-best[1], average_ctr=_CLICKS / _IMPRESSIONS)


def solved(value: Floats, price: Floats, budget: float) -> float:
    """The value of the hindsight optimum, by a solver of linear programs."""
    # The solver's tolerances are absolute in part: it is given numbers around 1.
    unit_value, unit_price = float(value.max()), float(price.max())
    share = cp.Variable(len(value), bounds=[0, 1])
    problem = cp.Problem(
        cp.Maximize(value / unit_value @ share), [price / unit_price @ share <= budget / unit_price]
    )
    problem.solve(solver=cp.HIGHS)
    return float(value @ np.clip(share.value, 0.0, 1.0))


def knapsack(auctions: int, rounds: int) -> Table:
    """The hindsight optimum by selection beside a solver of linear programs."""
    value, price, budget = market(auctions, 0.1)
    own, peer = hindsight_optimum(value, price, budget), solved(value, price, budget)
    quick = seconds(lambda: hindsight_optimum(value, price, budget), rounds)
    slow = seconds(lambda: solved(value, price, budget), 3)
    gap = abs(own.value / peer - 1)
    shown = Table("", "found", "line", "", title=f"Hindsight optimum of {auctions:,} auctions")
    shown.add_row("by selection, ms", f"{quick * 1e3:.2f}", "", "")
    shown.add_row("cvxpy with HiGHS, ms", f"{slow * 1e3:.0f}", "", "")
    shown.add_row("times as fast", f"{slow / quick:.0f}", "50", verdict(slow / quick >= 50))
    shown.add_row("relative difference of the value", f"{gap:.1e}", "1e-08", verdict(gap <= 1e-8))
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description="speed and worth of paced bidding")
    parser.add_argument("mode", choices=("speed", "optimum", "ipinyou", "knapsack"))
    parser.add_argument("files", nargs="*", help="for ipinyou: the log and the prices of the training days")
    parser.add_argument("--auctions", type=int, help="2,000,000 by default, 100,000 for knapsack")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    console = Console()
    if options.mode == "speed":
        console.print(speed(options.auctions or 2_000_000, options.rounds))
    elif options.mode == "optimum":
        console.print(optimum(options.auctions or 2_000_000))
    elif options.mode == "knapsack":
        console.print(knapsack(options.auctions or 100_000, options.rounds))
    elif len(options.files) == 2:
        for table in ipinyou(*options.files):
            console.print(table)
    else:
        parser.error("ipinyou needs two files: the log and the prices of the training days")


if __name__ == "__main__":
    main()
