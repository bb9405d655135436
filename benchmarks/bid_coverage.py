"""How often the intervals of a bidder's value hold the truth, and verdicts on bidders as good as the log.

    python benchmarks/bid_coverage.py [--draws 200] [--seed 0] [--jobs 1]

The log bids evenly from 0 to 32. The new bidder always bids the same: where the chance of a click is the
log's mean, so that it earns exactly as much, and each "better" or "worse" is false. The chance of a click is
a bump in the bid, wide or narrow beside the bandwidths that logs of this length allow, or rises with it and
levels off; 2,000 or 10,000 rows. Everything is left to `ctrkit ope`: bandwidth, reward model, intervals.

A standard error of a share of 95 % at 200 draws is 1.5 points.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np
import polars as pl
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy import integrate, optimize

from ctrkit.ope.bids.bid_log import read_bid_log
from ctrkit.ope.bids.evaluation import MEANING, evaluate_bids

Floats = NDArray[np.float64]

ENDS = (0.0, 32.0)
ROWS = (2_000, 10_000)
console = Console()


def bump(width: float, bids: Floats) -> Floats:
    """Clicks are likeliest at a bid of 20."""
    return np.asarray(0.5 * np.exp(-(((bids - 20) / width) ** 2)))


def saturating(bids: Floats) -> Floats:
    """A click rate at the level of ads, which rises with the bid and levels off."""
    return np.asarray(0.04 * (1 - np.exp(-bids / 8)))


@dataclass(frozen=True)
class Problem:
    """A chance of a click by bid, and how many rows are logged."""

    name: str
    chance: Callable[[Floats], Floats]
    rows: int

    @property
    def value(self) -> float:
        """The log's, and the new bidder's, value of an impression."""
        return float(integrate.quad(self.chance, *ENDS, points=(18.0, 20.0, 22.0))[0] / (ENDS[1] - ENDS[0]))

    @property
    def bid(self) -> float:
        """The lowest bid that earns as much as the log."""
        return float(optimize.brentq(lambda bid: self.chance(np.asarray(bid)) - self.value, 0.0, 20.0))

    def draw(self, seed: int) -> pl.DataFrame:
        """A log."""
        rng = np.random.default_rng(seed)
        bids = rng.uniform(*ENDS, self.rows)
        return pl.DataFrame(
            {
                "bid": bids,
                "density": np.full(self.rows, 1 / (ENDS[1] - ENDS[0])),
                "reward": (rng.random(self.rows) < self.chance(bids)).astype(float),
                "target_bid": np.full(self.rows, self.bid),
            }
        )


def problems() -> list[Problem]:
    """All that are tried."""
    shapes: list[tuple[str, Callable[[Floats], Floats]]] = [
        *((f"bump of width {width}", partial(bump, float(width))) for width in (6, 2, 1)),
        ("levels off", saturating),
    ]
    return [Problem(name, chance, rows) for name, chance in shapes for rows in ROWS]


def judge(problem: Problem, seed: int) -> tuple[str, dict[str, tuple[float, float, float]]]:
    """The verdict on a draw, and by estimator the ends of the interval and the width of the difference's."""
    found = evaluate_bids(read_bid_log(problem.draw(seed)), bid_range=ENDS)
    ends = {
        one.estimator: (
            one.interval.low,
            one.interval.high,
            one.difference_interval.high - one.difference_interval.low,
        )
        for one in found.estimates
    }
    return found.policies[0].verdict.verdict, ends


def main(
    draws: Annotated[int, typer.Option(help="Logs a problem.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the first draw.")] = 0,
    jobs: Annotated[int, typer.Option(help="Processes.")] = 1,
) -> None:
    """Print a table, one row a problem."""
    names = list(MEANING)
    table = Table(
        "problem",
        "rows",
        *(f"{name} holds" for name in names),
        *(f"{name}'s width" for name in names[1:]),
        "false verdicts",
        "do not trust",
        title="95 % intervals of the new bidder's value; width of the difference's over kernel-ips's",
    )
    for problem in problems():
        with ProcessPoolExecutor(jobs) as pool:
            found = list(pool.map(partial(judge, problem), range(seed, seed + draws)))
        verdicts = Counter(verdict for verdict, _ in found)
        held = {
            name: np.mean([ends[name][0] <= problem.value <= ends[name][1] for _, ends in found])
            for name in names
        }
        width = {name: np.mean([ends[name][2] for _, ends in found]) for name in names}
        table.add_row(
            problem.name,
            f"{problem.rows:,}",
            *(f"{held[name]:.1%}" for name in names),
            *(f"{width[name] / width[names[0]]:.2f}" for name in names[1:]),
            f"{(verdicts['better'] + verdicts['worse']) / draws:.1%}",
            f"{verdicts['do not trust'] / draws:.1%}",
        )
        console.print(
            f"{problem.name}, {problem.rows:,} rows: bid {problem.bid:.4f}, worth {problem.value:.5f}"
        )
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
