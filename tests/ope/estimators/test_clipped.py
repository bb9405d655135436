from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ctrkit.errors import ConfigError
from ctrkit.ope import ESTIMATORS, Estimator, LoggedRows
from ctrkit.ope.estimators.clipped import (
    ClippedInversePropensityScoring,
    OptimisticDoublyRobust,
    SubGaussianInversePropensityScoring,
    SwitchDoublyRobust,
)
from ctrkit.ope.estimators.registry import make_estimator
from ctrkit.ope.estimators.shrunk_weights import ShrunkWeights
from ctrkit.ope.intervals.moments import Floats
from tests.ope.estimates import once

FIXTURES = Path(__file__).parents[2] / "fixtures"


@dataclass(frozen=True)
class Problem:
    """The same log and policy for obp (`inputs`) and for ctrkit (`rows`)."""

    inputs: dict[str, Any]
    rows: LoggedRows


def problem(seed: int, click_rate: float = 0.4, n: int = 500, actions: int = 7) -> Problem:
    rng = np.random.default_rng(seed)
    logging, target = (rng.dirichlet(np.ones(actions), size=n) for _ in range(2))
    q = rng.uniform(0, click_rate, size=(n, actions))
    action = (rng.random((n, 1)) > logging.cumsum(axis=1)).sum(axis=1).clip(max=actions - 1)
    logged = (np.arange(n), action)
    rewards = (rng.random(n) < rng.uniform(0, click_rate, size=n)).astype(float)
    weights = target[logged] / logging[logged]
    return Problem(
        {
            "reward": rewards,
            "action": action,
            "pscore": logging[logged],
            "action_dist": target[:, :, None],
            "estimated_rewards_by_reg_model": q[:, :, None],
            "position": np.zeros(n, dtype=int),
        },
        once(LoggedRows, weights, rewards, float(weights.max()), q[logged], (target * q).sum(axis=1)),
    )


def fed(estimator: Estimator, rows: LoggedRows) -> Any:
    estimator.update(rows)
    return estimator


PEERS = {
    "clipped-ips": "InverseProbabilityWeighting",
    "sg-ips": "SubGaussianInverseProbabilityWeighting",
    "switch-dr": "SwitchDoublyRobust",
    "dr-os": "DoublyRobustWithShrinkage",
    "dr-ps": "DoublyRobust",
    "sg-dr": "SubGaussianDoublyRobust",
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", PEERS)
def test_same_inputs_same_values_as_obp(name: str, seed: int) -> None:
    ope = pytest.importorskip("obp.ope")
    given = problem(seed)
    kind = ESTIMATORS[name]
    assert issubclass(kind, ShrunkWeights)
    for strength in (0.0, 0.1, 0.7) if name.startswith("sg") else (0.5, 3.0, 10.0, 1e4):
        expected = getattr(ope, PEERS[name])(lambda_=strength).estimate_policy_value(**given.inputs)
        found = fed(kind((0.0, 1.0), strength), given.rows).result()
        assert found.value == pytest.approx(expected, rel=1e-9)


@pytest.mark.skipif(importlib.util.find_spec("obp") is None, reason="obp is not installed")
@pytest.mark.parametrize("campaign", ["all", "men"])
@pytest.mark.parametrize(
    ("spec", "key"),
    [
        ("clipped-ips", "ipw_clip10"),
        ("sg-ips", "sg-ipw(0.1)"),
        # The strength that SLOPE chose for the reference, and the reason why it is no default.
        ("clipped-ips:lambda=slope", "ipw_slope"),
        ("clipped-ips:lambda=1", "ipw_slope"),
    ],
)
def test_reference_values_of_the_open_bandit_sample(spec: str, key: str, campaign: str) -> None:
    reference = json.loads((FIXTURES / "obd_reference.json").read_text())["obd"][campaign]["random->bts"]
    found = fed(make_estimator(spec, (0.0, 1.0)), open_bandit_rows(campaign))
    assert found.result().value == pytest.approx(reference["values"][key], rel=1e-9)


def open_bandit_rows(campaign: str) -> LoggedRows:
    package = importlib.util.find_spec("obp")
    assert package is not None
    assert package.origin is not None
    path = Path(package.origin).parent / "dataset" / "obd" / "random" / campaign / f"{campaign}.csv"
    table = pl.read_csv(path)
    distribution = np.load(FIXTURES / f"obd_bts_dist_{campaign}.npy")
    target = distribution[table["item_id"].to_numpy(), table["position"].to_numpy() - 1]
    weights = target / table["propensity_score"].to_numpy()
    return once(LoggedRows, weights, table["click"].to_numpy().astype(float), float(weights.max()))


@pytest.mark.parametrize("reward_range", [(0.0, 1.0), None])
@pytest.mark.parametrize(
    ("spec", "plain"),
    [
        ("clipped-ips:lambda=inf", "ips"),
        ("sg-ips:lambda=0", "ips"),
        ("switch-dr:tau=inf", "dr"),
        ("dr-os:lambda=inf", "dr"),
        ("dr-ps:lambda=inf", "dr"),
        ("sg-dr:lambda=0", "dr"),
    ],
)
def test_without_shrinkage_the_plain_estimator(
    spec: str, plain: str, reward_range: tuple[float, float] | None
) -> None:
    rows = problem(5).rows
    found = fed(make_estimator(spec, reward_range), rows)
    expected = fed(make_estimator(plain, reward_range), rows).result()
    result = found.result()
    assert result.estimator == spec
    assert found.notes() == ()
    assert result.interval.method == expected.interval.method
    mine, theirs = result.interval, expected.interval
    assert (mine.low, mine.high) == pytest.approx((theirs.low, theirs.high), rel=1e-12)
    assert (result.value, result.difference) == pytest.approx((expected.value, expected.difference))


def test_dropping_every_row_leaves_the_direct_method() -> None:
    rows = problem(6).rows
    least = float(rows.weights[rows.weights > 0].min())
    switched = fed(SwitchDoublyRobust((0.0, 1.0), least / 2), rows)
    assert switched.result().value == pytest.approx(fed(make_estimator("dm"), rows).result().value, rel=1e-12)


# A policy of five actions against a logger that hardly ever takes the last but one. Weights .33 to 30.
LOGGING = np.array([0.6, 0.2, 0.19, 0.005, 0.005])
TARGET = np.array([0.2, 0.2, 0.3, 0.15, 0.15])
CLICK = np.array([0.02, 0.05, 0.03, 0.1, 0.3])


def draw(rng: np.random.Generator, n: int) -> LoggedRows:
    action = rng.choice(5, size=n, p=LOGGING)
    rewards = (rng.random(n) < CLICK[action]).astype(float)
    q = np.full(5, 0.06)
    weights = (TARGET / LOGGING)[action]
    return once(LoggedRows, weights, rewards, 30.0, q[action], np.full(n, 0.06))


SHRUNK: list[tuple[str, Floats]] = [
    ("clipped-ips:lambda=5", np.minimum(TARGET / LOGGING, 5)),
    ("clipped-ips:lambda=20", np.minimum(TARGET / LOGGING, 20)),
    ("sg-ips:lambda=0.1", 1 / (0.9 * LOGGING / TARGET + 0.1)),
    ("switch-dr:tau=5", np.where(TARGET / LOGGING <= 5, TARGET / LOGGING, 0)),
    ("dr-os:lambda=100", 100 / (100 * LOGGING / TARGET + TARGET / LOGGING)),
    ("sg-dr:lambda=0.1", 1 / (0.9 * LOGGING / TARGET + 0.1)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "shrunk"), SHRUNK, ids=[spec for spec, _ in SHRUNK])
def test_interval_covers_the_shrunk_mean_and_bias_the_rest(spec: str, shrunk: Floats) -> None:
    rng = np.random.default_rng(11)
    q = 0.06 if "dr" in spec else 0.0
    expected = q + float(LOGGING @ (shrunk * (CLICK - q)))
    bias = expected - float(TARGET @ CLICK)
    draws, covered, bounded = 100, 0, 0
    for _ in range(draws):
        estimator = fed(make_estimator(spec, (0.0, 1.0)), draw(rng, 2000))
        interval, bounds = estimator.result().interval, estimator.bias()
        covered += interval.low <= expected <= interval.high
        bounded += bounds.low <= bias <= bounds.high
    # Three standard errors of 100 draws below 95 %: intervals of 80 % fail in 96 of 100 cases.
    assert covered >= 0.88 * draws
    assert bounded >= 0.88 * draws


def test_bias_bound_reckons_with_weights_that_were_never_seen() -> None:
    """An action of a third of the policy's choices is not in the log: no weight is above 10."""
    rng = np.random.default_rng(3)
    action = rng.integers(0, 10, size=5000)
    weights = np.where(action < 5, 4 / 3, 0.0)
    rewards = (rng.random(5000) < 0.1).astype(float)
    clipped = fed(ClippedInversePropensityScoring((0.0, 1.0)), once(LoggedRows, weights, rewards, 1e5))
    bounds = clipped.bias()
    assert (weights < 10).all()
    assert -0.4 < bounds.low < -1 / 3
    assert bounds.high == 0
    (note,) = clipped.notes()
    assert "the interval leaves out the bias of lambda=10, between -0.3" in note


def test_bias_of_rewards_that_may_be_negative() -> None:
    """Of constant reward r the bias is r (E[h] - 1): the bounds hold it at both ends."""
    rng = np.random.default_rng(4)
    weights = rng.gamma(0.5, 2.0, size=4000)
    for reward in (-2.0, 1.0):
        rows = once(LoggedRows, weights, np.full(4000, reward), 60.0)
        for kind in (ClippedInversePropensityScoring, SubGaussianInversePropensityScoring):
            estimator = fed(kind((-2.0, 1.0)), rows)
            bounds = estimator.bias()
            expected = reward * (estimator.chosen.shrinkage(weights).mean() - weights.mean())
            assert bounds.low <= expected <= bounds.high
            assert bounds.low < 0 < bounds.high


def test_interval_of_rewards_far_from_0_is_for_the_shrunk_mean() -> None:
    """Rewards of 1 or 2 shrink to less than 1, where no policy's value lies; the bias makes up for it."""
    rng = np.random.default_rng(6)
    covered = 0
    shrunk = np.minimum(TARGET / LOGGING, 2)
    expected = float(LOGGING @ (shrunk * (1 + CLICK)))
    assert expected < 1
    for _ in range(100):
        rows = draw(rng, 2000)
        estimator = fed(
            ClippedInversePropensityScoring((1.0, 2.0), 2.0),
            once(LoggedRows, rows.weights, rows.rewards + 1, rows.largest_weight),
        )
        interval, bounds = estimator.result().interval, estimator.bias()
        covered += interval.low <= expected <= interval.high
        assert bounds.low <= expected - float(TARGET @ (1 + CLICK)) <= bounds.high
    assert covered >= 89


def test_no_range_no_bound() -> None:
    estimator = fed(OptimisticDoublyRobust(), problem(7).rows)
    assert estimator.bias() is None
    assert "nothing bounds" in estimator.notes()[0]
    assert estimator.result().interval.method == "normal, without the bias of lambda=100"


def test_normal_interval_is_that_of_the_mean_of_terms() -> None:
    rows = problem(8).rows
    terms = np.minimum(rows.weights, 10) * rows.rewards
    interval = fed(ClippedInversePropensityScoring(), rows).result().interval
    reach = 1.959963984540054 * terms.std(ddof=1) / np.sqrt(len(terms))
    np.testing.assert_allclose([interval.low, interval.high], terms.mean() + np.array([-reach, reach]))


def test_different_strengths_do_not_merge() -> None:
    with pytest.raises(ValueError, match="different strengths"):
        ClippedInversePropensityScoring(None, 5).merge(ClippedInversePropensityScoring(None, 6))


def test_specs_name_what_is_wrong() -> None:
    for spec, problem_, hint in (
        ("swich-dr:tau=1", "no estimator 'swich-dr'", "Did you mean 'switch-dr'"),
        ("switch-dr:tua=1", "estimator 'switch-dr': unknown key 'tua'", "Did you mean 'tau'"),
        ("clipped-ips:tau=1", "unknown key 'tau'", "Known names: lambda"),
        ("clipped-ips:lambda=slop", "no number and no rule", "Did you mean 'slope'"),
        ("clipped-ips:lambda=-1", "lambda is -1.0 and must be above 0", "Give another value"),
        ("clipped-ips:lambda=nan", "lambda is nan and must be above 0", "Give another value"),
        ("clipped-ips:lambda", "not of the form key=value", "Write lambda=VALUE"),
        ("clipped-ips:lambda=1,tau=2", "unknown key 'tau'", "Known names: lambda"),
        ("sg-dr:lambda=2", "estimator 'sg-dr': lambda is 2.0 and must be below 1", "Give another value"),
        ("ips:lambda=1", "estimator 'ips': unknown key 'lambda'", "It has no settings"),
    ):
        with pytest.raises(ConfigError) as caught:
            make_estimator(spec, (0.0, 1.0))
        assert problem_ in str(caught.value), spec
        assert hint in str(caught.value), spec


def test_specs_are_read_and_named_as_given() -> None:
    rows = problem(9).rows
    for spec in (*ESTIMATORS, "switch-dr:tau=2.5", "clipped-ips:lambda=mse", "dr-os:lambda=slope"):
        if spec != "replay":
            assert fed(make_estimator(spec, (0.0, 1.0)), rows).result().estimator == spec
    assert make_estimator(" switch-dr : tau = 2.5 ", None).trials[0].shrinkage.strength == 2.5  # type: ignore[attr-defined]
    assert fed(make_estimator("switch-dr:tau=10"), rows).result().estimator == "switch-dr"
