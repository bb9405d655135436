"""Pacing over many episodes: what the multiplier of one episode, or of a history, is worth in the next.

    python benchmarks/pacing.py [LOG.parquet] [--auctions 60000] [--seeds 5]

Value over the hindsight optimum's, in %, of `dual` with the multiplier forgotten at the end of each episode,
and carried into the next by its geometric mean over the second half, where it counts for so many ticks
(`ctrkit.bidding.pacing.dual.KNOWN`); then of one that begins with a multiplier of a history. Markets are
those of `SyntheticMarket`; LOG is an auction log of iPinYou's campaign 2997, of which the first half is
the history.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from ctrkit.bidding import (
    Auctions,
    CampaignTerms,
    DualBidding,
    auctions_from_log,
    hindsight_optimum,
    read_auction_log,
    simulate,
)
from ctrkit.bidding.market.auctions import joined
from ctrkit.bidding.pacing.dual import Pace
from ctrkit.bidding.supply import parse_market
from ctrkit.settings import checked

# Ticks that what is known counts for; None: it is forgotten, or not known.
PRIORS = (None, 0.0, 10.0, 30.0, 50.0, 100.0, 200.0)


class Case(NamedTuple):
    name: str
    auctions: Auctions
    past: Auctions
    terms: CampaignTerms
    length: int


@checked
class Carrying(DualBidding):
    """`dual` whose multiplier counts for so many ticks in the next episode."""

    carried: float | None = 0.0

    def restart(self, state: Pace, budget: float, auctions: int) -> Pace:
        if self.carried is None:
            return self.start(budget, auctions)
        return replace(super().restart(state, budget, auctions), prior=self.carried)


def cases(log_file: str | None, auctions: int, seeds: int) -> Iterator[Case]:
    """Logs and markets, with long and short episodes and large and small budgets."""
    if log_file is not None:
        log = auctions_from_log(read_auction_log(log_file))
        half = len(log) // 2
        for length in (1000, 5000, 20_000):
            for part in (2, 8, 32, 64):
                budget = float(int(float(log.market_price.mean()) * length / part))
                terms = CampaignTerms(budget, max_bid=300, integer_bids=True)
                yield Case(f"iPinYou, {length:,}, 1/{part}", log[half:], log[:half], terms, length)
    for length in (1000, 5000, 20_000):
        for part in (10, 50):
            for seed in range(1, seeds + 1):
                market = parse_market(f"auctions={auctions},ads=3,dimensions=4,traffic=day,seed={seed}")
                now = joined([replace(chunk, hidden=None) for chunk in market.chunks()])
                past = replace(market.history(auctions // 2), hidden=None)
                terms = CampaignTerms(float(now.market_price.mean()) * length / part)
                yield Case(f"market, {length:,}, 1/{part}", now, past, terms, length)


def shares(case: Case, known: bool) -> list[float]:
    """Value over the optimum's by what the multiplier counts for."""
    first = None
    if known:
        value, rho = case.past.slots.value.max(axis=1), case.terms.budget / case.length
        first = hindsight_optimum(value, case.past.market_price, rho * len(value)).multiplier
    found = []
    for prior in PRIORS:
        strategy = Carrying(carried=prior)
        if known:
            given = None if prior is None else first
            strategy = Carrying(carried=None, initial_multiplier=given, known_for=prior or 0.0)
        (one,) = simulate(case.auctions, [strategy], case.terms, episode_length=case.length).strategies
        found.append(100 * (one.share_of_optimum or 0.0))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="what pacing carries from one episode to the next")
    parser.add_argument("log", nargs="?", help="an auction log of iPinYou's campaign 2997")
    parser.add_argument("--auctions", type=int, default=60_000)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    names = ["nothing", *(f"{prior:g} ticks" for prior in PRIORS if prior is not None)]
    tables = {
        known: Table("auctions, an episode's, budget over all costs", *names, "better by 50", title=title)
        for known, title in ((False, "The episode before counts for"), (True, "A history counts for"))
    }
    found: dict[tuple[bool, str], list[list[float]]] = {}
    for case in cases(options.log, options.auctions, options.seeds):
        for known in tables:
            found.setdefault((known, case.name), []).append(shares(case, known))
    for (known, name), rows in found.items():
        table = np.array(rows)
        better = int((table[:, PRIORS.index(50.0)] > table[:, 0]).sum())
        cells = [f"{one:.2f}" for one in table.mean(axis=0)]
        tables[known].add_row(name, *cells, f"{better} of {len(rows)}")
    for one in tables.values():
        Console(width=150).print(one)


if __name__ == "__main__":
    main()
