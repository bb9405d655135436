"""The reward model: that it never sees what it predicts, that parts of a log make no difference, how well."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from ctrkit.errors import ConfigError, DataError
from ctrkit.ope.intervals.moments import Floats
from ctrkit.ope.logs.bandit_log import BanditLog, read_bandit_log
from ctrkit.ope.models.cross_fitting import fold_of
from ctrkit.ope.models.learners import LEARNERS
from ctrkit.ope.models.reward_model import RewardModel, mrdr_weights

ACTIONS = 6


def market(rows: int = 3000, seed: int = 0, users: int = 500) -> tuple[pl.DataFrame, np.ndarray]:
    """A log with ragged candidates in shuffled order, and the true reward probability of each [rows, 6]."""
    rng = np.random.default_rng(seed)
    order = rng.permuted(np.tile(np.arange(ACTIONS), (rows, 1)), axis=1)
    count = rng.integers(2, ACTIONS + 1, size=rows)
    price = rng.uniform(1, 5, size=(rows, ACTIONS))
    segment = rng.integers(3, size=rows)
    x = rng.normal(size=rows)
    truth = 1 / (1 + np.exp(2.5 - (order == segment[:, None]) * 2.0 - 0.5 * x[:, None] + 0.3 * (price - 3)))
    place = rng.integers(count)
    reward = (rng.random(rows) < truth[np.arange(rows), place]).astype(int)
    table = pl.DataFrame(
        {
            "user_id": rng.integers(users, size=rows),
            "x_one": x,
            "segment": np.array(["a", "b", "c"])[segment],
            "price": price[np.arange(rows), place],
            "conversion": reward * rng.integers(2, size=rows),
            "value": order[np.arange(rows), place] * 2.5,
            "true_rate": truth[:, 0],
            "action": order[np.arange(rows), place],
            "propensity": 1 / count,
            "reward": reward,
            "candidates": [line[:n].tolist() for line, n in zip(order, count, strict=True)],
            "candidate_price": [line[:n].tolist() for line, n in zip(price, count, strict=True)],
            "logging_probabilities": [[1 / n] * n for n in count],
        }
    )
    return table, truth


@pytest.fixture(scope="module")
def log_and_truth() -> tuple[BanditLog, np.ndarray]:
    table, truth = market()
    return read_bandit_log(table), truth


@pytest.mark.parametrize("kind", LEARNERS)
def test_predicts_the_reward_of_every_candidate(
    kind: str, log_and_truth: tuple[BanditLog, np.ndarray]
) -> None:
    log, truth = log_and_truth
    q = RewardModel.fit(log, kind=kind).predict(log, slice(0, len(log)))
    lengths = log.table["candidates"].list.len().to_numpy()
    mask = np.arange(ACTIONS) < lengths[:, None]
    assert q.shape == mask.shape
    assert (q[~mask] == 0).all()
    assert (q[mask] > 0).all()
    # Candidates that really are better are predicted to be: of each, whether it is above the median. The
    # linear model cannot know that the best action is another in each segment.
    good = truth[mask] > np.median(truth[mask])
    assert roc_auc_score(good, q[mask]) > (0.8 if kind == "trees" else 0.65)
    logged = q[np.arange(len(log)), log.action_index]
    assert logged.mean() == pytest.approx(log.reward.mean(), rel=0.1)


@pytest.mark.parametrize("kind", LEARNERS)
def test_blocks_and_parts_in_any_order_give_what_the_whole_gives(kind: str) -> None:
    table, _ = market()
    log = read_bandit_log(table)
    model = RewardModel.fit(log, kind=kind)
    whole = model.predict(log, slice(0, 3000))
    block = model.predict(log, slice(40, 60))
    np.testing.assert_allclose(block, whole[40:60, : block.shape[1]], rtol=1e-12)
    order = np.random.default_rng(0).permutation(3000)[:500]
    part = read_bandit_log(table[order])
    np.testing.assert_allclose(model.predict(part, slice(0, 500)), whole[order], rtol=1e-12)


@pytest.mark.parametrize("kind", LEARNERS)
def test_a_users_predictions_do_not_depend_on_the_users_rewards(kind: str) -> None:
    """The point of cross-fitting: turning a user's rewards leaves the user's own predictions as they were."""
    table, _ = market(rows=600, users=60)
    mine = (table["user_id"] == 7).to_numpy()
    turned = table.with_columns(
        reward=pl.when(pl.col("user_id") == 7).then(1 - pl.col("reward")).otherwise(pl.col("reward"))
    )
    logs = [read_bandit_log(one) for one in (table, turned)]
    models = [RewardModel.fit(log, ["x_one", "segment"], kind=kind) for log in logs]
    before, after = (model.predict(logs[0], slice(0, 600)) for model in models)
    np.testing.assert_array_equal(before[mine], after[mine])
    assert (before[~mine] != after[~mine]).any()


def test_rows_outside_the_sample_are_predicted_without_their_users() -> None:
    """Of a user, no row of the sample says anything about the rows that are not in it."""
    table, _ = market(rows=900, users=30)
    whole, sample = read_bandit_log(table), table[:300]
    turned = sample.with_columns(
        reward=pl.when(pl.col("user_id") == 7).then(1 - pl.col("reward")).otherwise(pl.col("reward"))
    )
    fits = [RewardModel.fit(read_bandit_log(one), ["x_one", "segment"]) for one in (sample, turned)]
    before, after = (fit.predict(whole, slice(300, 900)) for fit in fits)
    mine = (table["user_id"][300:] == 7).to_numpy()
    assert mine.sum() > 5
    np.testing.assert_array_equal(before[mine], after[mine])
    assert (before != after).any()


def test_rewards_of_any_size_are_predicted_by_their_mean() -> None:
    table, truth = market()
    log = read_bandit_log(table.with_columns(reward=pl.col("reward") * 40.0 + 3.0))
    for kind, least in (("trees", 0.5), ("logistic", 0.3)):
        q = RewardModel.fit(log, kind=kind).predict(log, slice(0, len(log)))
        logged = q[np.arange(len(log)), log.action_index]
        assert logged.mean() == pytest.approx(log.reward.mean(), rel=0.1)
        assert np.corrcoef(logged, truth[np.arange(len(log)), log.action_index])[0, 1] > least
        # A line would go on below the least reward; no mean is there.
        assert logged.min() >= 3.0


def test_constant_rewards() -> None:
    table = market(rows=60)[0].with_columns(reward=pl.lit(0))
    log = read_bandit_log(table)
    assert (RewardModel.fit(log).predict(log, slice(0, 60)) == 0).all()


def test_more_actions_than_trees_take_categories() -> None:
    rng = np.random.default_rng(0)
    action = rng.integers(400, size=10_000)
    reward = rng.random(10_000) < 0.05 + 0.5 * (action % 2)
    table = pl.DataFrame({"action": action, "propensity": 1 / 400, "reward": reward})
    log = read_bandit_log(table)
    assert log.width > 255
    q = RewardModel.fit(log).predict(log, slice(0, 20))
    assert q.shape == (20, log.width)
    odd = log.candidates(slice(0, 1))[0].to_numpy() % 2 == 1
    assert q[:, odd].mean() > q[:, ~odd].mean() + 0.1


@pytest.mark.parametrize("kind", LEARNERS)
def test_goes_to_another_process_small_and_without_the_sample(kind: str) -> None:
    cloudpickle = pytest.importorskip("cloudpickle")
    log = read_bandit_log(market(rows=6000)[0])
    model = RewardModel.fit(log, kind=kind)
    sent = cloudpickle.dumps(model)
    assert len(sent) < 400_000 < log.table.estimated_size()
    there = cloudpickle.loads(sent)
    np.testing.assert_array_equal(there.predict(log, slice(0, 50)), model.predict(log, slice(0, 50)))


def test_a_log_of_one_user_cannot_be_split() -> None:
    log = read_bandit_log(market(rows=50)[0].with_columns(user_id=pl.lit(1)))
    with pytest.raises(DataError, match="leave out the estimators dm and dr"):
        RewardModel.fit(log)


def test_bad_settings() -> None:
    log = read_bandit_log(market(rows=50)[0])
    with pytest.raises(ConfigError, match="Did you mean 'trees'"):
        RewardModel.fit(log, kind="tree")
    with pytest.raises(ConfigError, match="at least 2"):
        RewardModel.fit(log, folds=1)
    with pytest.raises(DataError, match="3 row weights for 50 rows"):
        RewardModel.fit(log, row_weights=np.ones(3))
    with pytest.raises(DataError, match=r"row index 4.*: the row weight -1"):
        RewardModel.fit(log, row_weights=np.where(np.arange(50) == 4, -1.0, 1.0))


def test_mrdr_weights_weigh_what_the_model_answers_for_in_the_variance() -> None:
    """By enumeration: errors that are independent between actions add up to the variance within contexts."""
    rng = np.random.default_rng(0)
    for policy in (rng.dirichlet(np.ones(4)), np.eye(4)[2]):
        logging = rng.dirichlet(np.ones(4))
        weights = mrdr_weights(policy, logging)
        sizes = rng.uniform(0.5, 2, size=4)
        # All signs of the errors, equally likely: the exact variance of w Δ(a) over a ~ logging, on average.
        signs = np.array(np.meshgrid(*[[-1, 1]] * 4)).reshape(4, -1).T
        terms = policy / logging * (signs * sizes)
        variance = (logging * terms**2).sum(axis=1) - (logging * terms).sum(axis=1) ** 2
        assert (logging * weights * sizes**2).sum() == pytest.approx(variance.mean(), rel=1e-12)


def bandit(rows: int, seed: int, deterministic: bool) -> tuple[pl.DataFrame, Floats, Floats]:
    """A log whose rewards no additive model fits; the policy and the mean rewards, [rows, 3] each."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 2))
    mean = np.stack([x[:, 0], -x[:, 0], x[:, 0] * x[:, 1]], axis=1) * 1.5
    logging = np.exp(np.stack([x[:, 0], -x[:, 0], 0 * x[:, 0]], axis=1) * 0.9)
    logging /= logging.sum(axis=1, keepdims=True)
    policy = np.exp(np.stack([-x[:, 0], x[:, 0], x[:, 1]], axis=1) * 1.5)
    policy /= policy.sum(axis=1, keepdims=True)
    if deterministic:
        policy = np.eye(3)[policy.argmax(axis=1)]
    action = (rng.random((rows, 1)) > logging.cumsum(axis=1)).sum(axis=1).clip(max=2)
    at = np.arange(rows)
    reward = mean[at, action] + rng.normal(size=rows) * 0.2
    table = pl.DataFrame(
        {"x0": x[:, 0], "x1": x[:, 1], "action": action, "propensity": logging[at, action], "reward": reward}
    )
    return table, policy, mean


@pytest.mark.slow
def test_more_robust_fit_varies_less_where_the_model_is_too_simple() -> None:
    plain, robust = [], []
    rows, at = 1000, np.arange(1000)
    for seed in range(60):
        table, policy, mean = bandit(rows, seed, deterministic=False)
        log = read_bandit_log(table)
        weights = mrdr_weights(policy[at, log.action_index], log.propensity)
        value = (policy * mean).sum(axis=1)
        for given, estimates in ((None, plain), (weights, robust)):
            model = RewardModel.fit(log, ["x0", "x1"], kind="logistic", row_weights=given)
            q = model.predict(log, slice(0, rows))
            w = policy[at, log.action_index] / log.propensity
            terms = (policy * q).sum(axis=1) + w * (log.reward - q[at, log.action_index])
            # Against the value in these contexts, which no model changes.
            estimates.append(float((terms - value).mean()))
    plain_error, robust_error = np.mean(np.square(plain)), np.mean(np.square(robust))
    assert robust_error < 0.8 * plain_error
    # Both are unbiased.
    for estimates in (plain, robust):
        assert abs(np.mean(estimates)) < 3 * np.std(estimates) / np.sqrt(len(estimates))


def test_more_robust_fit_gives_what_obp_gives() -> None:
    ope: Any = pytest.importorskip("obp.ope")
    table, policy, _ = bandit(2000, 0, deterministic=True)
    log = read_bandit_log(table)
    weights = mrdr_weights(policy[np.arange(2000), log.action_index], log.propensity)
    q = RewardModel.fit(log, ["x0", "x1"], kind="logistic", row_weights=weights).predict(log, slice(0, 2000))
    fold = fold_of(log.units, 3, 0)
    context = table.select("x0", "x1").to_numpy()
    for held in range(3):
        used, mine = fold != held, fold == held
        weighty = used & (weights > 0)
        # ctrkit standardises numbers by the weights, and makes their mean 1: the same penalty for obp.
        mean = np.average(context[weighty], axis=0, weights=weights[weighty])
        spread = np.sqrt(np.average((context[weighty] - mean) ** 2, axis=0, weights=weights[weighty]))
        standard = (context - mean) / spread
        peer = ope.RegressionModel(
            base_model=Ridge(alpha=float(weights[weighty].mean())), n_actions=3, fitting_method="mrdr"
        )
        peer.fit(
            context=standard[used],
            action=log.action_index[used],
            reward=log.reward[used],
            pscore=log.propensity[used],
            action_dist=policy[used][:, :, None],
        )
        expected = peer.predict(standard[mine])[:, :, 0]
        np.testing.assert_allclose(q[mine], expected.clip(log.reward.min(), log.reward.max()), atol=1e-6)
