"""Exploration: how fast bidders learn from clicks, how regret grows, and what exploring costs at the start.

    python benchmarks/exploration.py speed [--auctions 100000] [--rounds 5]
    python benchmarks/exploration.py regret [--auctions 256000] [--seeds 8]
    python benchmarks/exploration.py start [--auctions 100000] [--seeds 8]

All on `SyntheticMarket` with 12 ads and 16 dimensions, in ticks of 1,000 auctions, after each of which the
posterior learns the clicks of what was won. `speed` takes CPU time of this process; give one thread to NumPy
(OMP_NUM_THREADS=1). For comparison, AuctionGym (12 ads, truthful bidding with Thompson sampling, measured by
us) plays 1,095 auctions a CPU second without its learning step, and 46 with it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from ctrkit.bidding import Auctions, BidStrategy, hindsight_optimum, parse_strategy
from ctrkit.bidding.market.clearing import clear
from ctrkit.bidding.strategies.base import ImpressionOutcomes, TickResult, of_ad
from ctrkit.bidding.supply.synthetic_market import SyntheticMarket

Floats = NDArray[np.float64]

_TICK = 1000
_STRATEGIES = ("thompson", "greedy", "ucb", "epsilon-greedy", "bootstrapped")
# Of what all auctions together cost.
_BUDGET = 0.1
_AUCTION_GYM = (1095, 46)


class Player:
    """Plays one strategy tick by tick, without writing anything down but its value.

    Args:
        auctions: that are to come.
    """

    def __init__(self, strategy: BidStrategy[Any], budget: float, auctions: int) -> None:
        self.strategy, self.budget = strategy, budget
        self.state = strategy.start(budget, auctions)
        self.rng = np.random.default_rng(0)
        self.spent = self.value = 0.0
        self.wins = 0

    def play(self, now: Auctions) -> None:
        """Bid on one tick, pay, and learn."""
        assert now.click is not None
        slots = now.slots
        bids = self.strategy.bid(self.state, slots, self.rng)
        cleared = clear(bids.amount, now.market_price, self.budget, self.spent)
        self.state = self.strategy.update(self.state, TickResult(slots, bids, cleared.won, cleared.paid))
        rows = np.flatnonzero(cleared.won)
        if len(rows):
            ad = bids.ad[rows]
            outcomes = ImpressionOutcomes(slots[rows], ad, of_ad(now.click[rows], ad))
            self.state = self.strategy.learn(self.state, outcomes)
            self.value += float(of_ad(now.expected_value[rows], ad).sum())
        self.spent, self.wins = cleared.spent, self.wins + len(rows)


def budget_of(market: SyntheticMarket, share: float) -> float:
    """A share of what all auctions cost, by the prices of the time before."""
    return share * market.auctions * float(market.history(20_000).market_price.mean())


def shares_of_optimum(market: SyntheticMarket, names: Sequence[str]) -> tuple[dict[str, float], float]:
    """Value of each strategy over that of the hindsight optimum, and that one.

    The optimum knows the true click probabilities and all prices. `told` is dual pacing that is told the
    true click probabilities: what pacing alone loses.
    """
    budget, posterior = budget_of(market, _BUDGET), market.posterior
    players = {name: Player(parse_strategy(name, posterior), budget, market.auctions) for name in names}
    told = Player(parse_strategy("dual"), budget, market.auctions)
    best, price = [], []
    for now in market.chunks(_TICK):
        for player in players.values():
            player.play(now)
        assert now.true_click_probability is not None
        told.play(replace(now, click_probability=now.true_click_probability))
        best.append(now.expected_value.max(axis=1))
        price.append(now.market_price)
    optimum = hindsight_optimum(np.concatenate(best), np.concatenate(price), budget).value
    values = {**players, "told": told}
    return {name: player.value / optimum for name, player in values.items()}, optimum


def verdict(met: bool) -> str:
    return "[green]met[/]" if met else "[red]missed[/]"


def with_error(found: Floats, digits: int = 2) -> str:
    """Mean and standard error over seeds."""
    return f"{found.mean():.{digits}f} ± {found.std(ddof=1) / np.sqrt(len(found)):.{digits}f}"


def least_seconds(run: Callable[[], object], rounds: int) -> float:
    """Least CPU seconds, after a round that does not count: neighbours on the machine only ever add."""
    taken = []
    for _ in range(rounds + 1):
        begun = time.process_time()
        run()
        taken.append(time.process_time() - begun)
    return min(taken[1:])


def speed(auctions: int, rounds: int) -> Table:
    """Millions of auctions a CPU second: bid, paid for and learnt from, where few and where many are won."""
    market = SyntheticMarket(auctions=auctions)
    whole = next(market.chunks(auctions))
    assert whole.hidden is not None
    # Single precision, as networks give it.
    whole = replace(whole, hidden=whole.hidden.astype(np.float32))

    def run(strategy: BidStrategy[Any], budget: float, tick: int) -> Player:
        player = Player(strategy, budget, auctions)
        for start in range(0, auctions, tick):
            player.play(whole[start : start + tick])
        return player

    columns = ("strategy", "win rate", "tick", "M auctions/s", "line", "", "times AuctionGym's")
    shown = Table(*columns, title="Speed")
    cases = [("thompson", share, tick) for tick in (_TICK, 4 * _TICK) for share in (0.0005, 0.01, 0.1)]
    for name, share, tick in (*cases, *((name, 0.01, _TICK) for name in _STRATEGIES[1:])):
        strategy, budget = parse_strategy(name, market.posterior), share * float(whole.market_price.sum())
        rate = run(strategy, budget, tick).wins / auctions
        found = auctions / least_seconds(partial(run, strategy, budget, tick), rounds)
        line = 2e6 if (name, share) == ("thompson", 0.0005) else None
        cells = ("", "") if line is None else (f"{line / 1e6:g}", verdict(found >= line))
        ratio = f"{found / _AUCTION_GYM[1]:,.0f} ({found / _AUCTION_GYM[0]:,.0f} without its learning)"
        shown.add_row(
            name,
            f"{rate:.1%}",
            f"{tick:,}",
            f"{found / 1e6:.2f}",
            *cells,
            ratio if name == "thompson" else "",
        )
    return shown


def regret(auctions: int, seeds: int) -> Table:
    """How the regret from a cold start grows with the number of auctions, each run with its own budget."""
    horizons = [auctions >> k for k in range(5, -1, -1)]
    names = (*_STRATEGIES[:4], "told")
    lost = {name: np.empty((seeds, len(horizons))) for name in names}
    for seed in range(seeds):
        for place, horizon in enumerate(horizons):
            market = SyntheticMarket(auctions=horizon, training=0, seed=seed)
            found, optimum = shares_of_optimum(market, names[:-1])
            for name in names:
                lost[name][seed, place] = (1.0 - found[name]) * optimum
    title = f"Regret from a cold start, clicks, mean of {seeds} seeds; budget {_BUDGET:.0%} of all costs"
    shown = Table("strategy", *(f"T = {one:,}" for one in horizons), "exponent", "line", "", title=title)
    for name in names:
        found = exponent(horizons, lost[name].mean(axis=0))
        # Left out in turn, each seed shows by how much the exponent hangs on it.
        without = np.array(
            [exponent(horizons, np.delete(lost[name], seed, axis=0).mean(axis=0)) for seed in range(seeds)]
        )
        error = float(np.sqrt((seeds - 1) * without.var()))
        cells = ("0.6", verdict(found <= 0.6)) if name == "thompson" else ("", "")
        row = (f"{one:.1f}" for one in lost[name].mean(axis=0))
        shown.add_row(name, *row, f"{found:.2f} ± {error:.2f}", *cells)
    return shown


def exponent(horizons: Sequence[int], lost: Floats) -> float:
    """The slope of log regret against log T by least squares."""
    return float(np.polyfit(np.log(horizons), np.log(lost), 1)[0])


def start(auctions: int, seeds: int) -> Table:
    """Percent of the optimum's value, and what each strategy loses to greedy, from two beginnings."""
    title = f"{auctions:,} auctions, {seeds} seeds"
    shown = Table("start", "strategy", "% of optimum", "points below greedy", "line", "", title=title)
    for label, training in (("cold", 0), ("warm, calibrated", 100_000)):
        runs = [
            shares_of_optimum(SyntheticMarket(auctions=auctions, training=training, seed=seed), _STRATEGIES)[
                0
            ]
            for seed in range(seeds)
        ]
        for name in (*_STRATEGIES, "told"):
            found = np.array([100 * run[name] for run in runs])
            below = np.array([100 * run["greedy"] for run in runs]) - found
            line = training > 0 and name == "thompson"
            cells = ("2", verdict(float(below.mean()) <= 2)) if line else ("", "")
            shown.add_row(label, name, with_error(found), with_error(below), *cells)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description="speed, regret and cost of exploring")
    parser.add_argument("mode", choices=("speed", "regret", "start"))
    parser.add_argument("--auctions", type=int, help="100,000 by default, the longest of regret 256,000")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.mode == "speed":
        table = speed(options.auctions or 100_000, options.rounds)
    elif options.mode == "regret":
        table = regret(options.auctions or 256_000, options.seeds)
    else:
        table = start(options.auctions or 100_000, options.seeds)
    Console().print(table)


if __name__ == "__main__":
    main()
