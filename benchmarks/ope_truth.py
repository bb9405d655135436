"""Off-policy estimates beside the truth: of a randomised experiment, and of a market that knows it.

    python benchmarks/ope_truth.py hillstrom FILE      a policy for each arm of an e-mail experiment
    python benchmarks/ope_truth.py market              ten policies on a million decisions
    python benchmarks/ope_truth.py differences         of two policies, by estimator: width and coverage

Hillstrom's experiment (MineThatData, 2008) mailed 64,000 customers men's goods, women's goods or nothing, by
lot. It stands for the population here: a row is drawn, with replacement, from each arm with probability 1/3,
and kept with a probability in proportion to π(arm | customer) of a logging policy that looks at past
purchases. So kept rows are independent, their customers are those of the experiment, their arms are drawn
from π, and what the policy `action:ARM` earns on such rows is the mean of that arm in the whole experiment:
exactly as far as the lot gave the arms customers alike. An interval that holds what it promises covers it in
95 of 100 draws, give or take 2. Without replacement, kept rows are a part of the experiment, which tells more
of the whole than so many rows of an endless population: intervals then cover more often.

On the market every candidate's true click rate is in the log. A policy's true value is Σ π(a) p(a), averaged
over the decisions of the log.

Differences are those of pairs of policies on the sample log, and on the problems of `ope_coverage.py`, where
the second policy is near the first one or prefers what the first avoids.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import combinations, product
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import typer
from numpy.typing import NDArray
from ope_coverage import Problem, problems
from rich.console import Console
from rich.table import Table
from scipy.stats import kendalltau

from ctrkit.api.sample_logs import bundled
from ctrkit.data.sources import hillstrom
from ctrkit.data.synthetic import Market
from ctrkit.ope import (
    DEFAULT_ESTIMATORS,
    ESTIMATORS,
    ConfidenceInterval,
    Evaluation,
    LoggedRows,
    evaluate,
    log_parts,
    read_bandit_log,
)
from ctrkit.ope.diagnostics.ranking import LOGGING, PolicyRanking
from ctrkit.ope.diagnostics.verdict import DECISIVE
from ctrkit.policies import (
    EpsilonGreedyPolicy,
    FixedPolicy,
    GreedyPolicy,
    LoggingPolicy,
    Policy,
    SoftmaxPolicy,
    UniformPolicy,
    padded,
)

Floats = NDArray[np.float64]

OUTCOMES = {"visit": "reward", "conversion": "conversion"}
COVERED, RANKED = 0.94, 0.9
# Estimators of differences; powers of the rates that a second policy is in proportion to, the first's is 2.5.
PAIRED = ("ips", "snips", "beta-ips", "delta-beta-ips")
SECOND = {"near": 1.5, "far": -1.5}
# Rows of the market that are made at a time.
PART = 100_000
MARKET_SEED = 7

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
console = Console()


@app.callback()
def main() -> None:
    """Off-policy estimates beside the truth."""


@app.command("hillstrom")
def hillstrom_command(
    file: Annotated[Path, typer.Argument(help="hillstrom.parquet or hillstrom.csv, the public table.")],
    draws: int = 100,
    rows: Annotated[
        int, typer.Option(help="Drawn from the experiment; some 59 % of them are kept.")
    ] = 20_000,
    replacement: Annotated[bool, typer.Option(help="Draw the rows with replacement.")] = True,
    seed: int = 0,
    jobs: Annotated[int, typer.Option(help="Processes.")] = 1,
) -> None:
    """How often the default intervals of the three constant policies cover the arms' means."""
    if not file.exists():
        console.print(f"{file} is not here: the experiment's data are public, and no part of ctrkit.")
        return
    table = hillstrom.read(file.parent)
    seeds = range(1000 * seed, 1000 * seed + draws)
    work = partial(arm_estimates, table, rows=rows, replacement=replacement)
    # Polars keeps threads, which a process that is forked would wait for in vain.
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        found = np.array(list(pool.map(work, seeds)))
    shown = Table("outcome", "policy", "estimator", "truth", "mean estimate", "covered", "width / truth")
    shown.title = f"Hillstrom: {draws} draws of {rows:,} rows"
    decisive = []
    for place, outcome in enumerate(OUTCOMES):
        for arm, truth in enumerate(arm_means(table, outcome)):
            for number, estimator in enumerate(DEFAULT_ESTIMATORS):
                value, low, high = found[:, place, arm, number].T
                covered = int(((low <= truth) & (truth <= high)).sum())
                if estimator == DECISIVE[0]:
                    decisive.append(covered)
                cells = (outcome, f"action:{hillstrom.ARMS[arm]}", estimator, f"{truth:.5f}")
                width = f"{(high - low).mean() / truth:.2f}"
                shown.add_row(*cells, f"{value.mean():.5f}", f"{covered} of {draws}", width)
    console.print(shown)
    console.print(
        f"{DECISIVE[0]}, which decides: {sum(decisive)} of {len(decisive) * draws}, at least {min(decisive)} "
        f"of {draws} for a policy; the line is {COVERED:.0%}"
    )


def arm_means(table: pl.DataFrame, outcome: str) -> list[float]:
    """What each arm of the experiment earned a customer."""
    return [float(table.filter(pl.col("segment") == arm)[outcome].mean()) for arm in hillstrom.ARMS]  # type: ignore[arg-type]


def arm_estimates(table: pl.DataFrame, seed: int, rows: int = 20_000, replacement: bool = True) -> Floats:
    """Estimates from one biased sample: [outcomes, arms, estimators, (value, low, high)]."""
    random = np.random.default_rng([11, seed])
    arms = dict(table["segment"].value_counts().iter_rows())
    chance = np.array([1 / (len(arms) * arms[arm]) for arm in table["segment"]])
    drawn = table[random.choice(table.height, rows, replace=replacement, p=chance)]
    log = hillstrom.biased_log(drawn, seed)
    found = []
    for column in OUTCOMES.values():
        others = {*OUTCOMES.values(), "spend"} - {column}
        own = log.drop(others).rename({column: "reward"})
        policies = [FixedPolicy(arm) for arm in hillstrom.ARMS]
        evaluation = evaluate(read_bandit_log(own), policies, names=hillstrom.ARMS, seed=seed)
        found.append(_numbers(evaluation))
    return np.array(found)


@dataclass(frozen=True)
class Guess:
    """The logarithm of an ad's click rate, as a model knows it that is wrong about each ad in its own way.

    Attributes:
        errors: by ad.
        sign: -1 for a model that takes the worst for the best.
    """

    errors: Floats
    sign: float = 1.0

    def __call__(self, context: pl.DataFrame, candidates: pl.Series) -> Floats:
        """See `ctrkit.policies.Scorer`."""
        rates = padded(context["true_click_probability"], fill=1.0)
        ads = padded(candidates, fill=0).astype(np.int64)
        return self.sign * np.log(rates) + self.errors[ads]


def by_price(context: pl.DataFrame, candidates: pl.Series) -> Floats:
    """The dearer the better."""
    return padded(context["candidate_ad_price"])


def policies(ads: int = 200) -> dict[str, Policy]:
    """Ten of different quality, some of them close to one another."""
    random = np.random.default_rng(5)
    errors = random.normal(size=(2, ads))
    right = Guess(np.zeros(ads))
    return {
        "greedy": GreedyPolicy(right),
        "greedy, 10 % at random": EpsilonGreedyPolicy(right, 0.1),
        "greedy, 15 % at random": EpsilonGreedyPolicy(right, 0.15),
        "softmax": SoftmaxPolicy(right, 0.7),
        "greedy, with errors": GreedyPolicy(Guess(0.7 * errors[0])),
        "softmax, with errors": SoftmaxPolicy(Guess(1.0 * errors[1]), 0.7),
        "logging": LoggingPolicy(),
        "dearest": SoftmaxPolicy(by_price, 40.0),
        "uniform": UniformPolicy(),
        "upside down": SoftmaxPolicy(Guess(np.zeros(ads), -1.0), 0.7),
    }


@app.command()
def market(
    rows: int = 1_000_000,
    seed: int = 0,
    cluster_by: Annotated[str | None, typer.Option(help="Column, or row. Else the user.")] = None,
) -> None:
    """Whether ten policies are ranked as the truth ranks them, and how often intervals cover it."""
    with market_log(rows, seed) as folder:
        call = f"of_market({str(folder)!r}, {cluster_by!r})"
        code = f"import json, ope_truth; print(json.dumps(ope_truth.{call}))"
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parent,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    console.print(_ranks(found, rows))
    console.print(_taus(found))
    console.print(f"{found['cpu']:.0f} s of processor, {found['memory']:,.0f} MB at most")


@app.command()
def differences(draws: int = 60, seed: int = 0) -> None:
    """Widths of 95 % intervals of differences by estimator, over those of ips, and how often they hold."""
    log = read_bandit_log(bundled("logs_sample", "bandit.parquet"))
    chosen = {
        "uniform": UniformPolicy(),
        "dearest": SoftmaxPolicy(by_price, 40.0),
        "dearer": SoftmaxPolicy(by_price, 60.0),
        LOGGING: LoggingPolicy(),
    }
    whole, place = slice(0, len(log)), np.arange(len(log))
    weights = {
        name: policy.probabilities(log.table, log.candidates(whole))[place, log.action_index] / log.propensity
        for name, policy in chosen.items()
    }
    shown = Table("pair", "ips, normal", *PAIRED[1:], "snips, Cressie-Read", title="The sample log")
    for one, two in combinations(weights, 2):
        rows = [
            LoggedRows(w, log.reward, float(w.max()), users=log.users, counts=log.counts)
            for w in (weights[one], weights[two])
        ]
        found = [interval.high - interval.low for interval in pair_intervals(rows)]
        shown.add_row(
            f"{one} less {two}", f"{found[0]:.5f}", *(f"{each / found[0]:.3f}" for each in found[1:])
        )
    console.print(shown)
    shown = Table(
        "click rate", "second policy", *PAIRED, "snips, Cressie-Read", title="1,000 rows: width, held"
    )
    cases = [problem for problem in problems(seed) if problem.rows == 1000]
    for rate, (name, power) in product(sorted({each.click_rate for each in cases}), SECOND.items()):
        of_rate = [
            _of_pairs(each, power, draws, np.random.default_rng([seed, n]))
            for n, each in enumerate(cases)
            if each.click_rate == rate
        ]
        width, held = np.mean(of_rate, axis=0)
        shown.add_row(f"{rate:.1%}", name, *(f"{w:.3f}, {h:.1%}" for w, h in zip(width, held, strict=True)))
    console.print(shown)


def pair_intervals(rows: list[LoggedRows]) -> list[ConfidenceInterval]:
    """Of the first policy's value less the second's: normal by each of `PAIRED`, and Cressie-Read."""
    intervals = []
    for name, reward_range in (*((name, None) for name in PAIRED), ("snips", (0.0, 1.0))):
        ranking = PolicyRanking(["first", "second"], ESTIMATORS[name], reward_range, logging=False)
        ranking.update(rows)
        (found,) = ranking.result(against="second").differences
        intervals.append(found.interval)
    return intervals


def _of_pairs(problem: Problem, power: float, draws: int, random: np.random.Generator) -> Floats:
    """Widths over that of ips, and shares of draws that hold the truth, [2, methods]."""
    second = problem.rates**power
    second /= second.sum(axis=1, keepdims=True)
    truth = problem.value - float((second * problem.rates).sum(axis=1).mean())
    width, held = np.zeros((2, len(PAIRED) + 1))
    for _ in range(draws):
        context = random.integers(len(problem.rates), size=problem.rows)
        action = (random.random((problem.rows, 1)) > problem.logging.cumsum(axis=1)[context, :-1]).sum(axis=1)
        rewards = (random.random(problem.rows) < problem.rates[context, action]).astype(float)
        rows = []
        for policy in (problem.policy, second):
            each = policy / problem.logging
            rows.append(
                LoggedRows(each[context, action], rewards, float(each.max()), counts=np.ones(problem.rows))
            )
        found = pair_intervals(rows)
        width += [each.high - each.low for each in found]
        held += [each.low <= truth <= each.high for each in found]
    return np.stack([width / width[0], held / draws])


@contextmanager
def market_log(rows: int, seed: int = 0) -> Iterator[Path]:
    """A folder of parquet files with the decisions of one market, made part by part."""
    market = Market(MARKET_SEED)
    with tempfile.TemporaryDirectory() as scratch:
        for number, start in enumerate(range(0, rows, PART)):
            # The market stays what it is; what it draws is another part of the same two days.
            market.seed = 1000 * (seed + 1) + number
            part = market.bandit_log(min(PART, rows - start)).with_columns(pl.col("event_id") + start)
            part.write_parquet(Path(scratch) / f"log_{number:03}.parquet")
        yield Path(scratch)


def of_market(folder: str, cluster_by: str | None = None) -> dict[str, Any]:
    """Truths, and estimates of all policies: value, low and high by estimator."""
    begun = time.process_time()
    parts = log_parts(f"{folder}/*.parquet", cluster_by=cluster_by)
    chosen = policies()
    found = evaluate(parts, list(chosen.values()), names=list(chosen))
    return {
        "names": list(chosen),
        "truths": [policy.truth for policy in found.policies],
        "estimates": _numbers(found).tolist(),
        "verdicts": [policy.verdict.verdict for policy in found.policies],
        "ess": [policy.diagnostics.effective_sample_size for policy in found.policies],
        "cpu": time.process_time() - begun,
        "memory": _peak(),
    }


def taus(found: dict[str, Any]) -> dict[str, float]:
    """Kendall's tau of estimated and true values, by estimator."""
    estimates = np.array(found["estimates"])
    return {
        name: float(kendalltau(estimates[:, place, 0], found["truths"]).statistic)
        for place, name in enumerate(DEFAULT_ESTIMATORS)
    }


def _taus(found: dict[str, Any]) -> Table:
    shown = Table("estimator", "Kendall's tau", "truths covered", title=f"The line is {RANKED}")
    estimates, truths = np.array(found["estimates"]), np.array(found["truths"])[:, None]
    covered = ((estimates[..., 1] <= truths) & (truths <= estimates[..., 2])).sum(axis=0)
    for (name, tau), count in zip(taus(found).items(), covered, strict=True):
        shown.add_row(name, f"{tau:.3f}", f"{count} of {len(truths)}")
    return shown


def _ranks(found: dict[str, Any], rows: int) -> Table:
    shown = Table("policy", "truth", *DEFAULT_ESTIMATORS, "verdict", "effective rows")
    shown.title = f"{rows:,} decisions"
    for place in np.argsort(found["truths"])[::-1]:
        values = (f"{value:.5f} [{low:.4f}, {high:.4f}]" for value, low, high in found["estimates"][place])
        last = (found["verdicts"][place], f"{found['ess'][place]:,.0f}")
        shown.add_row(found["names"][place], f"{found['truths'][place]:.5f}", *values, *last)
    return shown


def _numbers(found: Evaluation) -> Floats:
    """[policies, estimators, (value, low, high)]."""
    return np.array(
        [
            [(one.value, one.interval.low, one.interval.high) for one in policy.estimates]
            for policy in found.policies
        ]
    )


def _peak() -> float:
    """Megabytes of memory that the process has had at most; Linux only."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024


if __name__ == "__main__":
    app()
