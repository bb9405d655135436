"""Logarithmic smoothing: its formula by brute force, what it guarantees, and beside Cressie-Read."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from ctrkit.errors import ConfigError
from ctrkit.ope.estimators.base import LoggedRows
from ctrkit.ope.estimators.importance import InversePropensityScoring
from ctrkit.ope.estimators.interval_methods import make_interval_method
from ctrkit.ope.intervals.log_smoothing import STRENGTHS, LogSmoothing


def draw(seed: int, rows: int = 2000, rate: float = 0.02) -> tuple[Any, Any, Any]:
    """A policy that wants one of ten actions, which earns twice as much; its value is 2 · rate."""
    rng = np.random.default_rng(seed)
    wanted = rng.random(rows) < 0.1
    return np.where(wanted, 10.0, 0.0), (rng.random(rows) < rate * (1 + wanted)).astype(float), np.ones(rows)


def lower(weights: Any, rewards: Any, risk: float, largest: float = 1.0) -> float:
    """The paper's bound, row by row."""
    found = 0.0
    for strength in STRENGTHS:
        total = sum(math.log(1 + strength * w * r) for w, r in zip(weights, rewards, strict=True))
        found = max(found, (total - largest * math.log(len(STRENGTHS) / risk)) / (strength * len(weights)))
    return found


def made(*arrays: Any, reward_range: tuple[float, float] = (0.0, 1.0)) -> LogSmoothing:
    found = LogSmoothing(reward_range)
    found.update(*arrays)
    return found


def test_it_is_the_papers_bound_and_merges() -> None:
    weights, rewards, counts = draw(0)
    found = made(weights, rewards, counts).interval(1.0)(0.9)
    assert found.low == pytest.approx(lower(weights, rewards, 0.05), rel=1e-12)
    assert found.high == pytest.approx(1 - lower(weights, 1 - rewards, 0.05), rel=1e-12)
    parts = made(weights[:700], rewards[:700], counts[:700])
    parts.merge(made(weights[700:], rewards[700:], counts[700:]))
    assert parts.interval(1.0)(0.9).low == pytest.approx(found.low, rel=1e-12)
    # Rewards of another range, moved and stretched.
    other = made(weights, 3 * rewards - 1, counts, reward_range=(-1.0, 2.0)).interval(1.0)(0.9)
    assert other.low == pytest.approx(3 * found.low - 1, rel=1e-9)
    # A row of count 2 is two rows of one unit.
    twice = made(np.repeat(weights, 2), np.repeat(rewards, 2), np.ones(4000)).interval(2.0)(0.9)
    assert made(weights, rewards, 2 * counts).interval(2.0)(0.9).low == pytest.approx(twice.low, rel=1e-12)


@pytest.mark.parametrize("clustered", [False, True])
def test_it_holds_as_often_as_promised(clustered: bool) -> None:
    """At 95 % each end may miss the value in 2.5 of 100 logs; it is cautious, and misses fewer."""
    missed = 0
    tight = []
    for seed in range(100):
        weights, rewards, _ = draw(seed, 2000 if not clustered else 400)
        users = None
        if clustered:  # five like rows of each user
            weights, rewards, users = (
                np.repeat(weights, 5),
                np.repeat(rewards, 5),
                np.repeat(np.arange(400), 5),
            )
        estimator = InversePropensityScoring((0.0, 1.0))
        estimator.method = make_interval_method("log-smoothing", (0.0, 1.0))
        estimator.update(LoggedRows(weights, rewards, 10.0, users=users, counts=np.ones(len(weights))))
        found = estimator.result().interval
        assert "guaranteed" in found.method
        missed += not found.low <= 0.04 <= found.high
        tight.append(found.low)
    assert missed <= 5
    # The promise is worth something: a good part of the value, of independent rows.
    assert clustered or 0.1 < np.mean(tight) / 0.04 < 0.9


def test_differences_are_to_the_logging_policy_and_bad_ranges_refused() -> None:
    weights, rewards, counts = draw(1, 20_000, 0.1)
    estimator = InversePropensityScoring((0.0, 1.0))
    estimator.method = make_interval_method("log-smoothing", (0.0, 1.0))
    estimator.update(LoggedRows(weights, rewards, 10.0, counts=counts))
    found = estimator.result()
    truth = 0.2 - 0.11
    assert 0 < found.difference_interval.low <= truth <= found.difference_interval.high
    with pytest.raises(ConfigError, match="empty or infinite"):
        LogSmoothing((1.0, 1.0))
