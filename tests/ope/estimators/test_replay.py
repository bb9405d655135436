from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from ctrkit.ope import LoggedRows
from ctrkit.ope.estimators.importance import OnPolicy
from ctrkit.ope.estimators.replay import Replay
from tests.ope.estimates import once
from tests.ope.estimators.test_clipped import fed, problem

ACTIONS = 5


def draw(rng: np.random.Generator, n: int, click: float = 0.1) -> tuple[LoggedRows, float, float]:
    """A uniform logger; a policy that takes the first action in one context and the second in the other.

    Also the policy's true value, and the logging policy's.
    """
    context = rng.integers(0, 2, size=n)
    action = rng.integers(0, ACTIONS, size=n)
    chance = click * np.array([[2.0, 0.5, 1.0, 1.0, 1.0], [0.5, 1.0, 1.0, 0.2, 0.4]])
    rewards = (rng.random(n) < chance[context, action]).astype(float)
    weights = np.where(action == context, float(ACTIONS), 0.0)
    truth = float((chance[0, 0] + chance[1, 1]) / 2)
    return once(LoggedRows, weights, rewards, float(ACTIONS)), truth, float(chance.mean())


@pytest.mark.parametrize("seed", range(3))
def test_same_value_as_obp(seed: int) -> None:
    ope = pytest.importorskip("obp.ope")
    given = problem(seed)
    n, actions, _ = given.inputs["action_dist"].shape
    taken = np.random.default_rng(seed).integers(0, actions, size=n)
    inputs = {**given.inputs, "action_dist": np.eye(actions)[taken][:, :, None]}
    weights = (taken == inputs["action"]) / inputs["pscore"]
    rows = replace(given.rows, weights=weights, largest_weight=float(weights.max()))
    expected = ope.ReplayMethod().estimate_policy_value(**inputs)
    found = fed(Replay((0.0, 1.0)), rows).result()
    assert found.value == pytest.approx(expected, rel=1e-9)
    assert found.value == pytest.approx(inputs["reward"][taken == inputs["action"]].mean(), rel=1e-12)


def test_interval_is_that_of_the_matching_rows_alone() -> None:
    rows, _, _ = draw(np.random.default_rng(1), 2000)
    matching = rows.rewards[rows.weights > 0]
    expected = fed(OnPolicy((0.0, 1.0)), once(LoggedRows, np.ones(len(matching)), matching, 1.0)).result()
    found = fed(Replay((0.0, 1.0)), rows).result()
    assert found.value == pytest.approx(expected.value, rel=1e-12)
    assert found.interval.low == pytest.approx(expected.interval.low, rel=1e-9)
    assert found.interval.high == pytest.approx(expected.interval.high, rel=1e-9)


def test_interval_by_users_is_that_of_the_matching_rows_by_users() -> None:
    rows, _, _ = draw(np.random.default_rng(2), 2000)
    users = np.arange(2000) // 10
    matching = rows.weights > 0
    _, codes = np.unique(users[matching], return_inverse=True)
    alone = once(LoggedRows, np.ones(matching.sum()), rows.rewards[matching], 1.0, users=codes)
    expected = fed(OnPolicy((0.0, 1.0)), alone).result().interval
    found = fed(Replay((0.0, 1.0)), replace(rows, users=users)).result().interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert found.method == "cressie-read, of matching rows, clustered"


@pytest.mark.parametrize(
    ("click", "reward_range", "least"),
    # At few clicks normal intervals are too short, which is why they are not those of bounded rewards.
    [(0.3, (0.0, 1.0), 0.92), (0.3, None, 0.91), (0.005, (0.0, 1.0), 0.92)],
)
def test_covers_the_truth(click: float, reward_range: tuple[float, float] | None, least: float) -> None:
    rng = np.random.default_rng(3)
    draws, covered, differences = 300, 0, 0
    for _ in range(draws):
        rows, truth, logging = draw(rng, 1500, click)
        found = fed(Replay(reward_range), rows).result()
        covered += found.interval.low <= truth <= found.interval.high
        differences += found.difference_interval.low <= truth - logging <= found.difference_interval.high
    assert covered >= least * draws
    assert differences >= least * draws


def test_a_policy_that_is_not_deterministic_has_no_value() -> None:
    rows = problem(0).rows
    estimator = fed(Replay((0.0, 1.0)), rows)
    found = estimator.result()
    assert math.isnan(found.value)
    assert math.isnan(found.interval.low)
    assert found.interval.method == "none: the policy is not deterministic"
    good, _, _ = draw(np.random.default_rng(4), 100)
    merged = fed(Replay((0.0, 1.0)), good)
    assert not math.isnan(merged.result().value)
    merged.merge(estimator)
    assert math.isnan(merged.result().value)


@pytest.mark.parametrize("reward_range", [(0.0, 1.0), None])
def test_no_row_matches(reward_range: tuple[float, float] | None) -> None:
    found = fed(Replay(reward_range), once(LoggedRows, np.zeros(9), np.ones(9), 1.0)).result()
    assert math.isnan(found.value)
    assert found.interval.method == "none: no row matches"
