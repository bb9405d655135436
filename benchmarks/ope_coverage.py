"""How often 95 % intervals of a policy's value hold the truth, on markets that know it.

    python benchmarks/ope_coverage.py [--draws 500] [--seed 0] [--jobs 1] [--instances]

48 problems: 1,000 or 10,000 rows; click rates of 0.4, 2 or 20 %; 10 or 80 actions; one context or four; a
logger that is uniform, or adverse, with least mass where the policy has most. Rates differ by action and
context (lognormal, σ 0.6); the policy is a sharp softmax of their logarithms. Its true value is a sum over
contexts and actions. Every draw goes through the library as any log does: `ips` with the largest weight that
`evaluate` would reckon with, and with the largest seen, which is all that it has where a log does not say how
likely the other candidates were. The other intervals are given the true largest weight where they need one.

Width: the mean width over that of the normal interval, its mean and range over problems. A standard error of
the coverage of one problem at 500 draws is 1 point; `worst` is the least of them.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from ctrkit.ope import ESTIMATORS, ConfidenceInterval, LoggedRows
from ctrkit.ope.estimators.weights import WeightTail
from ctrkit.ope.intervals.bernstein import empirical_bernstein
from ctrkit.ope.intervals.bootstrap import PoissonBootstrap, ips
from ctrkit.ope.intervals.clopper_pearson import clopper_pearson
from ctrkit.ope.intervals.confidence_sequence import ConfidenceSequence
from ctrkit.ope.intervals.interval import normal
from ctrkit.ope.intervals.moments import TERM

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CONFIDENCE = 0.95
REPLICATES = 200
METHODS = (
    "default (cressie-read)",
    "default, largest weight seen",
    "normal",
    "clopper-pearson",
    "empirical Bernstein",
    "confidence sequence",
    "bootstrap",
)
console = Console()


@dataclass(frozen=True)
class Problem:
    """A market, a logger and a policy; arrays [contexts, actions].

    Attributes:
        rates: click rates; logging, policy: probabilities; each context is equally likely.
    """

    name: str
    rows: int
    click_rate: float
    rates: Floats
    logging: Floats
    policy: Floats

    @property
    def value(self) -> float:
        """The policy's true value."""
        return float((self.policy * self.rates).sum(axis=1).mean())

    @property
    def weights(self) -> Floats:
        """The policy's probabilities over the logger's."""
        return np.asarray(self.policy / self.logging)


@dataclass(frozen=True)
class Result:
    """Coverage and mean width by method, in the order of `METHODS`."""

    problem: Problem
    coverage: Floats
    width: Floats


def problems(seed: int) -> list[Problem]:
    """All of them."""
    found = []
    kinds = product((1_000, 10_000), (0.004, 0.02, 0.2), (10, 80), (1, 4), ("uniform", "adverse"))
    for rows, click_rate, actions, contexts, logger in kinds:
        # One market for both loggers and both lengths.
        random = np.random.default_rng([seed, int(1000 * click_rate), actions, contexts])
        tilt = random.lognormal(0, 0.6, (contexts, actions))
        rates = np.minimum(click_rate * tilt / tilt.mean(), 0.9)
        policy = _softmax(2.5 * np.log(rates))
        logging = _softmax(-0.5 * np.log(rates)) if logger == "adverse" else np.full(rates.shape, 1 / actions)
        shape = f"{actions} actions, {contexts} context{'s' if contexts > 1 else ''}"
        name = f"{rows:,} rows, CTR {click_rate:.1%}, {shape}, {logger}"
        found.append(Problem(name, rows, click_rate, rates, logging, policy))
    return found


def measure(problem: Problem, draws: int, seed: int) -> Result:
    """Draw logs of a problem and count how often each interval holds the true value."""
    random = np.random.default_rng([seed, *problem.name.encode()])
    cells = np.stack([problem.logging * (1 - problem.rates), problem.logging * problem.rates], axis=-1)
    cells /= len(problem.logging)
    of_cell = np.repeat(problem.weights.ravel(), 2)
    reward_of_cell = np.tile([0.0, 1.0], problem.logging.size)
    largest = _largest_weights(problem)
    held, width = np.zeros((2, draws, len(METHODS)))
    for draw in range(draws):
        counts = random.multinomial(problem.rows, cells.ravel())
        cell = random.permutation(np.repeat(np.arange(counts.size), counts))
        seen = counts.reshape(len(problem.logging), -1).sum(axis=1)
        rows = LoggedRows(of_cell[cell], reward_of_cell[cell], largest(seen), counts=np.ones(len(cell)))
        for place, interval in enumerate(_intervals(problem, rows, draw)):
            held[draw, place] = interval.low <= problem.value <= interval.high
            width[draw, place] = interval.high - interval.low
    return Result(problem, held.mean(axis=0), width.mean(axis=0))


def _intervals(problem: Problem, rows: LoggedRows, draw: int) -> list[ConfidenceInterval]:
    """One of each method, within rewards from 0 to 1, in the order of `METHODS`."""
    estimator = ESTIMATORS["ips"]((0.0, 1.0))
    estimator.update(rows)
    moments, bound = estimator.moments, float(problem.weights.max())
    # What `evaluate` does where the log does not say how likely the other candidates were.
    blind = ESTIMATORS["ips"]((0.0, 1.0))
    blind.update(replace(rows, largest_weight=max(float(rows.weights.max()), 1.0)))
    sequence = ConfidenceSequence((0.0, 1.0), bound)
    sequence.update(rows.weights, rows.rewards, rows.counts)
    bootstrap = PoissonBootstrap(REPLICATES)
    keys = (draw * problem.rows + np.arange(problem.rows)).astype(np.uint64)
    bootstrap.update(rows.weights, rows.weights * rows.rewards, rows.rewards, keys, rows.counts)
    bernstein = empirical_bernstein(moments, TERM, (0.0, bound), CONFIDENCE)
    return [
        estimator.result(CONFIDENCE).interval,
        blind.result(CONFIDENCE).interval,
        normal(float(moments.mean @ TERM), moments, TERM, CONFIDENCE),
        clopper_pearson(moments, bound, (0.0, 1.0), CONFIDENCE),
        ConfidenceInterval(bernstein.low, min(bernstein.high, 1.0), bernstein.method),
        sequence.interval(CONFIDENCE),
        bootstrap.interval(ips, CONFIDENCE),
    ]


def _largest_weights(problem: Problem) -> Callable[[Ints], float]:
    """From rows seen of each context to the largest weight that `evaluate` reckons with.

    That is `WeightTail` over the rows. Rows of a context beyond those after which its rarest action is
    expected once cannot change it, and are left out.
    """
    enough = int(np.ceil(1 / problem.logging.min())) + 1
    known: dict[tuple[int, ...], float] = {}

    def largest(seen: Ints) -> float:
        key = tuple(np.minimum(seen, enough).tolist())
        if key not in known:
            tail = WeightTail()
            for policy, logging, count in zip(problem.policy, problem.logging, key, strict=True):
                tail.update(np.tile(policy, (count, 1)), np.tile(logging, (count, 1)), np.ones(count))
            known[key] = max(tail.largest, 1.0)
        return known[key]

    return largest


def _softmax(scores: Floats) -> Floats:
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def main(
    draws: Annotated[int, typer.Option(help="Logs of each problem.")] = 500,
    seed: int = 0,
    jobs: Annotated[int, typer.Option(help="Processes.")] = 1,
    instances: Annotated[bool, typer.Option(help="Show every problem as well.")] = False,
) -> None:
    """Coverage and width of the intervals of `ips`."""
    with ProcessPoolExecutor(jobs) as pool:
        results = list(pool.map(partial(measure, draws=draws, seed=seed), problems(seed)))
    if instances:
        console.print(_by_problem(results))
    console.print(_summary(results, draws))


def _summary(results: list[Result], draws: int) -> Table:
    lengths = sorted({result.problem.rows for result in results})
    shown = Table("interval", "coverage", "worst", "of the problem")
    shown.title = f"95 % intervals: {len(results)} problems of {draws} draws"
    for rows in lengths:
        shown.add_column(f"width, {rows:,} rows")
    coverage = np.array([result.coverage for result in results])
    relative = np.array([result.width / result.width[METHODS.index("normal")] for result in results])
    of_length = np.array([result.problem.rows for result in results])
    for place, method in enumerate(METHODS):
        worst = int(coverage[:, place].argmin())
        shown.add_row(
            method,
            f"{coverage[:, place].mean():.1%}",
            f"{coverage[worst, place]:.1%}",
            results[worst].problem.name,
            *(_spread(relative[of_length == rows, place]) for rows in lengths),
        )
    return shown


def _spread(widths: Floats) -> str:
    """The mean, and the least and the largest of the problems."""
    return f"{widths.mean():.2f} ({widths.min():.2f} to {widths.max():.2f}) x"


def _by_problem(results: list[Result]) -> Table:
    shown = Table(
        "problem", "largest weight", "true value", *METHODS, title="coverage, and width over normal's"
    )
    for result in results:
        relative = result.width / result.width[METHODS.index("normal")]
        shown.add_row(
            result.problem.name,
            f"{result.problem.weights.max():.1f}",
            f"{result.problem.value:.4f}",
            *(f"{held:.1%}, {width:.2f}" for held, width in zip(result.coverage, relative, strict=True)),
        )
    return shown


if __name__ == "__main__":
    typer.run(main)
