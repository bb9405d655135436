"""How often `ctrkit ope` doubts logs with nothing wrong: which checks say "do not trust", by policy.

    python benchmarks/ope_doubts.py [DRAWS] [ROWS]

Eight actions with click rates that depend on a context of three numbers, a logging policy that reads the
context too, and right propensities. The new policies are uniform, softmax over the true rates, and in nine
tenths of their choices the best or the worst action: the last two have heavy weights. As nothing is wrong
with such a log, every doubt but of its size (effective rows, rewards) is a false alarm.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import expit, softmax

from ctrkit.ope import evaluate, read_bandit_log
from ctrkit.policies import Policy

Floats = NDArray[np.float64]
ACTIONS, CONTEXT = 8, ["x0", "x1", "x2"]
OF_SIZE = ("effective sample size", "rows with a reward", "independent units with a reward of their own")


class Given(Policy):
    """A policy of a function of the context."""

    def __init__(self, name: str, of: Callable[[Floats], Floats]) -> None:
        self.name, self.of = name, of

    def probabilities(self, context: pl.DataFrame, candidates: pl.Series) -> Floats:
        return self.of(context.select(CONTEXT).to_numpy())


def mostly(scores: Floats) -> Floats:
    """Nine tenths of the choices are the action with the highest score."""
    found = np.full(scores.shape, 0.1 / ACTIONS)
    found[np.arange(len(found)), scores.argmax(axis=1)] += 0.9
    return found


def drawn(seed: int, rows: int) -> tuple[pl.DataFrame, list[Policy]]:
    """A log, and policies."""
    random = np.random.default_rng(seed)
    slopes, starts = random.normal(0, 0.6, (3, ACTIONS)), random.normal(0, 0.5, ACTIONS)
    x = random.normal(size=(rows, 3))

    def logits(context: Floats) -> Floats:
        found: Floats = np.log(0.05 / 0.95) + context @ slopes + starts
        return found

    tastes, leaning = random.normal(0, 0.8, (3, ACTIONS)), random.normal(0, 0.5, ACTIONS)
    logging = softmax(0.7 * (x @ tastes) + leaning, axis=1)
    action = (random.random((rows, 1)) > logging.cumsum(axis=1)).sum(axis=1).clip(max=ACTIONS - 1)
    at = np.arange(rows), action
    table = pl.DataFrame(
        {
            "action": action,
            "reward": (random.random(rows) < expit(logits(x))[at]).astype(int),
            "propensity": logging[at],
            "timestamp": 1_700_000_000 + 60 * np.arange(rows),
            **{name: x[:, column] for column, name in enumerate(CONTEXT)},
            "candidates": [list(range(ACTIONS))] * rows,
            "logging_probabilities": logging.tolist(),
        }
    )
    return table, [
        Given("uniform", lambda context: np.full((len(context), ACTIONS), 1 / ACTIONS)),
        Given("softmax", lambda context: softmax(logits(context), axis=1)),
        Given("best", lambda context: mostly(logits(context))),
        Given("worst", lambda context: mostly(-logits(context))),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="how often logs with nothing wrong are doubted")
    parser.add_argument("draws", type=int, nargs="?", default=50)
    parser.add_argument("rows", type=int, nargs="?", default=2000)
    given = parser.parse_args()
    doubts, size, judged = Counter[str](), 0, 0
    for seed in range(given.draws):
        table, policies = drawn(seed, given.rows)
        for policy in evaluate(read_bandit_log(table), policies, ["snips", "dm", "dr"]).policies:
            found = [check.what for check in policy.checks if check.doubt is not None]
            judged += 1
            size += any(what in OF_SIZE for what in found)
            doubts.update(f"{what}, of {policy.name}" for what in found if what not in OF_SIZE)
    print(f"{judged} verdicts; {size} doubts of size")
    for what, number in doubts.most_common():
        print(f"{number} false alarms: {what}")


if __name__ == "__main__":
    main()
