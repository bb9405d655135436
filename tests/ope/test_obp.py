"""Against obp 0.5.7: reference values on the Open Bandit sample, and the same inputs to both."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ctrkit.ope import ESTIMATORS, LoggedRows, evaluate, read_bandit_log
from ctrkit.policies import UniformPolicy
from tests.ope.estimates import once

FIXTURES = Path(__file__).parents[1] / "fixtures"
SPEC = importlib.util.find_spec("obp")

pytestmark = pytest.mark.skipif(SPEC is None, reason="obp is not installed (see CONTRIBUTING.md)")


def open_bandit(policy: str, campaign: str) -> pl.DataFrame:
    """The sample that the obp package carries: 10,000 rows."""
    assert SPEC is not None
    assert SPEC.origin is not None
    return pl.read_csv(Path(SPEC.origin).parent / "dataset" / "obd" / policy / campaign / f"{campaign}.csv")


@pytest.mark.parametrize("campaign", ["all", "men"])
def test_random_log_to_bernoulli_thompson_sampling(campaign: str) -> None:
    """`obd_reference.json` holds what obp says of the action distributions saved beside it."""
    reference = json.loads((FIXTURES / "obd_reference.json").read_text())["obd"][campaign]
    expected = reference["random->bts"]
    distribution = np.load(FIXTURES / f"obd_bts_dist_{campaign}.npy")  # [actions, positions]
    table = open_bandit("random", campaign)
    target = distribution[table["item_id"].to_numpy(), table["position"].to_numpy() - 1]
    log = read_bandit_log(table.with_columns(target_probability=target))
    found = evaluate(log, ["target_probability"], ["ips", "snips"])

    (policy,) = found.policies
    ips, snips = policy.estimates
    assert ips.value == pytest.approx(expected["values"]["ipw"], rel=1e-9)
    assert snips.value == pytest.approx(expected["values"]["snipw"], rel=1e-9)
    weights = expected["weights"]
    assert policy.diagnostics.mean_weight == pytest.approx(weights["mean_w"], rel=1e-9)
    assert policy.diagnostics.max_weight == pytest.approx(weights["max_w"], rel=1e-9)
    assert policy.diagnostics.effective_sample_size == pytest.approx(weights["ess"], rel=1e-9)
    assert found.logging.value == pytest.approx(reference["random"]["on_policy_mean"], rel=1e-12)
    assert policy.diagnostics.positives == reference["random"]["clicks"]
    # obp's own value of the Thompson sampling log.
    assert ips.interval.low <= expected["truth_on_policy"] <= ips.interval.high


def test_normal_interval_of_the_reference() -> None:
    reference = json.loads((FIXTURES / "obd_reference.json").read_text())["obd"]["all"]["random->bts"]
    table = open_bandit("random", "all")
    distribution = np.load(FIXTURES / "obd_bts_dist_all.npy")
    weights = distribution[table["item_id"].to_numpy(), table["position"].to_numpy() - 1] * 80
    estimator = ESTIMATORS["ips"]()
    estimator.update(once(LoggedRows, weights, table["click"].to_numpy().astype(float), weights.max()))
    interval = estimator.result().interval
    np.testing.assert_allclose([interval.low, interval.high], reference["ipw_normal_ci95"], rtol=0, atol=1e-7)


def test_thompson_sampling_log_of_women_is_not_to_be_trusted_for_the_uniform_policy() -> None:
    log = read_bandit_log(open_bandit("bts", "women"))
    (policy,) = evaluate(log, [UniformPolicy()], ["ips", "snips"]).policies
    assert log.width == 46
    assert policy.verdict.verdict == "do not trust"
    assert "effective sample size is 2.08" in policy.verdict.reason
    assert policy.diagnostics.max_weight == pytest.approx(21739, abs=1)
    # The published pitfall: the interval of a bootstrap looks fine here. This one says that nothing is known.
    assert policy.estimates[0].interval.high == 1


@pytest.fixture(scope="module")
def ope() -> Any:
    return pytest.importorskip("obp.ope")


@pytest.mark.parametrize("seed", range(3))
def test_same_inputs_same_values(seed: int, ope: Any) -> None:
    rng = np.random.default_rng(seed)
    rows, actions = 500, 7
    logging, target = (rng.dirichlet(np.ones(actions), size=rows) for _ in range(2))
    q = rng.uniform(0, 0.4, size=(rows, actions))
    action = (rng.random((rows, 1)) > logging.cumsum(axis=1)).sum(axis=1).clip(max=actions - 1)
    logged = (np.arange(rows), action)
    rewards = (rng.random(rows) < q[logged]).astype(float)
    weights = target[logged] / logging[logged]
    seen = once(LoggedRows, weights, rewards, weights.max(), q[logged], (target * q).sum(axis=1))

    peers = {
        "ips": ope.InverseProbabilityWeighting(),
        "snips": ope.SelfNormalizedInverseProbabilityWeighting(),
        "dm": ope.DirectMethod(),
        "dr": ope.DoublyRobust(),
    }
    for name, peer in peers.items():
        estimator = ESTIMATORS[name]((0.0, 1.0))
        estimator.update(seen)
        expected = peer.estimate_policy_value(
            reward=rewards,
            action=action,
            pscore=logging[logged],
            action_dist=target[:, :, None],
            estimated_rewards_by_reg_model=q[:, :, None],
            position=np.zeros(rows, dtype=int),
        )
        assert estimator.result().value == pytest.approx(expected, rel=1e-9), name
