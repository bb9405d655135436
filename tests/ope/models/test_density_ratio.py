"""Weights from a classifier against true ones, obp's, and what cross-fitting and thinning promise."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from ctrkit.errors import DataError
from ctrkit.ope.intervals.moments import Floats
from ctrkit.ope.logs.bandit_log import BanditLog, read_bandit_log
from ctrkit.ope.models import density_ratio
from ctrkit.ope.models.density_ratio import DensityRatio, PolicyProbabilities

ACTIONS = 4


def softmax(scores: Floats) -> Floats:
    exp = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(exp / exp.sum(axis=1, keepdims=True))


def market(rows: int, seed: int, contextual: float = 1.0) -> tuple[pl.DataFrame, Floats]:
    """A log of a softmax policy over four actions, and another's probabilities of each, [rows, 4]."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 2))
    fixed = np.random.default_rng(5)
    slopes, biases = (
        fixed.normal(size=(2, 2, ACTIONS)) * contextual * 0.7,
        fixed.normal(size=(2, ACTIONS)) * 0.6,
    )
    logging, policy = (softmax(x @ slope + bias) for slope, bias in zip(slopes, biases, strict=True))
    action = (rng.random((rows, 1)) > logging.cumsum(axis=1)).sum(axis=1).clip(max=ACTIONS - 1)
    reward = rng.random(rows) < 0.1 + 0.2 * (action % 2) + 0.1 * (x[:, 0] > 0)
    table = pl.DataFrame(
        {
            "user_id": np.arange(rows),
            "x0": x[:, 0],
            "x1": x[:, 1],
            "action": action,
            "propensity": logging[np.arange(rows), action],
            "reward": reward,
        }
    )
    return table, policy


def given(probabilities: Floats) -> PolicyProbabilities:
    return lambda log, rows: probabilities[rows]


def logged(log: BanditLog, probabilities: Floats) -> Floats:
    return np.asarray(probabilities[np.arange(len(log)), log.action_index])


@pytest.mark.slow
def test_weights_are_near_the_true_ratio() -> None:
    table, policy = market(4000, 0)
    log = read_bandit_log(table)
    found = DensityRatio.fit(log, given(policy), ["x0", "x1"]).weights(log)
    truth = logged(log, policy) / log.propensity
    assert np.corrcoef(np.log(found), np.log(truth))[0, 1] > 0.93
    assert np.abs(found - truth).mean() < 0.3 * np.abs(truth - 1).mean()
    assert found.mean() == pytest.approx(1, abs=0.05)
    # Calibrated: where a weight of about w is found, the true weights are w in the mean.
    for low, high in ((0.0, 0.3), (0.3, 0.8), (0.8, 1.5), (1.5, 4.0)):
        there = (found >= low) & (found < high)
        assert truth[there].mean() == pytest.approx(found[there].mean(), rel=0.15)


def test_a_policy_like_the_logging_policy_has_weights_of_about_one() -> None:
    table, _ = market(3000, 1, contextual=0.0)
    log = read_bandit_log(table)
    shares = np.bincount(log.action_index, minlength=ACTIONS) / 3000
    found = DensityRatio.fit(log, given(np.tile(shares, (3000, 1))), ["x0", "x1"]).weights(log)
    np.testing.assert_allclose(found, 1, atol=0.1)


def test_a_policy_that_takes_one_action() -> None:
    table, _ = market(4000, 2, contextual=0.0)
    log = read_bandit_log(table)
    always = np.zeros((4000, ACTIONS))
    always[:, 2] = 1
    found = DensityRatio.fit(log, given(always), ["x0", "x1"]).weights(log)
    share = (log.action_index == 2).mean()
    assert found[log.action_index == 2].mean() == pytest.approx(1 / share, rel=0.05)
    assert found[log.action_index != 2].max() < 0.02


def test_weights_of_a_part_of_the_log_are_those_of_the_whole() -> None:
    table, policy = market(1500, 3)
    log = read_bandit_log(table)
    ratio = DensityRatio.fit(log, given(policy), ["x0", "x1"])
    order = np.random.default_rng(0).permutation(1500)[:400]
    np.testing.assert_allclose(
        ratio.weights(read_bandit_log(table[order])), ratio.weights(log)[order], rtol=1e-12
    )


@pytest.mark.slow
def test_scores_do_not_depend_on_the_users_own_actions_nor_weights_on_rewards() -> None:
    table, policy = market(800, 4)
    table = table.with_columns(user_id=pl.col("user_id") % 50)
    mine = (table["user_id"] == 7).to_numpy()
    turned = table.with_columns(
        action=pl.when(pl.col("user_id") == 7).then(3 - pl.col("action")).otherwise(pl.col("action"))
    )
    log = read_bandit_log(table)
    one, other = (DensityRatio.fit(read_bandit_log(t), given(policy), ["x0", "x1"]) for t in (table, turned))
    features = one.features.of_candidates(log, slice(0, 800))
    before, after = (ratio.models.predict(log.units, features) for ratio in (one, other))
    np.testing.assert_array_equal(before[mine[features.row]], after[mine[features.row]])
    assert (before != after).any()
    rewarded = read_bandit_log(table.with_columns(reward=1 - pl.col("reward").cast(pl.Int8)))
    again = DensityRatio.fit(rewarded, given(policy), ["x0", "x1"])
    np.testing.assert_array_equal(again.weights(log), one.weights(log))


@pytest.mark.slow
def test_thinned_candidates_stand_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    table, policy = market(1500, 5)
    log = read_bandit_log(table)
    whole = DensityRatio.fit(log, given(policy), ["x0", "x1"])
    monkeypatch.setattr(density_ratio, "LINES", 0)
    monkeypatch.setattr(density_ratio, "LEAST_LINES", 2)
    monkeypatch.setattr(density_ratio, "BLOCK", 5000)
    own, row, mass = density_ratio._candidates(log, whole.features, given(policy), seed=0)
    assert len(mass) < 0.6 * policy.size
    # The mass on each action is the policy's, within four standard errors of the draws.
    totals = np.bincount(whole.features.of_candidates(log, slice(0, 1)).own[:, 0].astype(int), minlength=4)
    assert totals.tolist() == [1, 1, 1, 1]
    codes = whole.features.of_candidates(log, slice(0, 1)).own[:, 0]
    for action, code in enumerate(codes):
        spread = np.sqrt((0.5 * policy[:, action] - policy[:, action] ** 2).clip(0).sum())
        assert abs(mass[own[:, 0] == code].sum() - policy[:, action].sum()) < 4 * spread
    assert np.bincount(row, mass, 1500).mean() == pytest.approx(1, abs=0.02)
    thinned = DensityRatio.fit(log, given(policy), ["x0", "x1"])
    assert np.corrcoef(np.log(thinned.weights(log)), np.log(whole.weights(log)))[0, 1] > 0.95


def test_obp_gives_about_the_same_weights_and_value() -> None:
    """Where policies choose alike in every context a logistic classifier is right, and both have one."""
    ope: Any = pytest.importorskip("obp.ope")
    from sklearn.linear_model import LogisticRegression

    table, policy = market(20_000, 6, contextual=0.0)
    log = read_bandit_log(table)
    found = DensityRatio.fit(log, given(policy), ["x0", "x1"], kind="logistic").weights(log)
    peer = ope.ImportanceWeightEstimator(
        base_model=LogisticRegression(max_iter=1000), n_actions=ACTIONS, calibration_cv=1
    )
    common = {
        "action": log.action_index,
        "action_dist": policy[:, :, None],
        "position": np.zeros(len(log), dtype=int),
    }
    expected = peer.fit_predict(
        context=table.select("x0", "x1").to_numpy(), n_folds=3, random_state=0, **common
    )
    truth = logged(log, policy) / log.propensity
    # obp draws the policy's actions, ctrkit does not: its weights scatter less about the truth.
    assert np.abs(found - expected).mean() < 0.06
    assert np.abs(found - truth).mean() < np.abs(expected - truth).mean() < 0.06
    value = ope.BalancedInverseProbabilityWeighting().estimate_policy_value(
        reward=log.reward, estimated_importance_weights=expected, **common
    )
    own = (found * log.reward).sum() / found.sum()
    assert own == pytest.approx(value, rel=0.03)


def test_probabilities_of_another_shape() -> None:
    table, policy = market(60, 7)
    with pytest.raises(DataError, match=r"shape \(60, 3\) for candidates of shape \(60, 4\)"):
        DensityRatio.fit(read_bandit_log(table), given(policy[:, :3]))
