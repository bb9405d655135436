"""The reward model: what it reads, that it never sees what it predicts, and how well."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from ctrkit.errors import DataError
from ctrkit.ope import RewardModel, read_bandit_log
from ctrkit.ope.log import BanditLog
from ctrkit.ope.reward_features import context_columns

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


def test_context_leaves_out_truth_outcomes_and_the_logged_action(
    log_and_truth: tuple[BanditLog, np.ndarray],
) -> None:
    assert context_columns(log_and_truth[0]) == ("x_one", "segment")


def test_predicts_the_reward_of_every_candidate(log_and_truth: tuple[BanditLog, np.ndarray]) -> None:
    log, truth = log_and_truth
    q = RewardModel(log).predict(slice(0, len(log)))
    lengths = log.table["candidates"].list.len().to_numpy()
    mask = np.arange(ACTIONS) < lengths[:, None]
    assert q.shape == mask.shape
    assert (q[~mask] == 0).all()
    assert (q[mask] > 0).all()
    # Candidates that really are better are predicted to be: of each, whether it is above the median.
    good = truth[mask] > np.median(truth[mask])
    assert roc_auc_score(good, q[mask]) > 0.8
    logged = q[np.arange(len(log)), log.action_index]
    assert logged.mean() == pytest.approx(log.reward.mean(), rel=0.1)


def test_blocks_give_what_the_whole_gives(log_and_truth: tuple[BanditLog, np.ndarray]) -> None:
    log, _ = log_and_truth
    model = RewardModel(log)
    whole = model.predict(slice(0, 100))
    part = model.predict(slice(40, 60))
    np.testing.assert_array_equal(part, whole[40:60, : part.shape[1]])


def test_a_users_predictions_do_not_depend_on_the_users_rewards() -> None:
    """The point of cross-fitting: turning a user's rewards leaves the user's own predictions as they were."""
    table, _ = market(rows=600, users=60)
    mine = (table["user_id"] == 7).to_numpy()
    turned = table.with_columns(
        reward=pl.when(pl.col("user_id") == 7).then(1 - pl.col("reward")).otherwise(pl.col("reward"))
    )
    columns = ["x_one", "segment"]
    before, after = (RewardModel(read_bandit_log(t), columns).predict(slice(0, 600)) for t in (table, turned))
    np.testing.assert_array_equal(before[mine], after[mine])
    assert (before[~mine] != after[~mine]).any()


def test_rewards_of_any_size_are_predicted_by_their_mean() -> None:
    table, truth = market()
    table = table.with_columns(reward=pl.col("reward") * 40.0 + 3.0)
    log = read_bandit_log(table)
    q = RewardModel(log).predict(slice(0, len(log)))
    logged = q[np.arange(len(log)), log.action_index]
    assert logged.mean() == pytest.approx(log.reward.mean(), rel=0.1)
    assert np.corrcoef(logged, truth[np.arange(len(log)), log.action_index])[0, 1] > 0.5


def test_constant_rewards() -> None:
    table = market(rows=60)[0].with_columns(reward=pl.lit(0))
    q = RewardModel(read_bandit_log(table)).predict(slice(0, 60))
    assert (q == 0).all()


def test_more_actions_than_trees_take_categories() -> None:
    rng = np.random.default_rng(0)
    action = rng.integers(400, size=20_000)
    reward = rng.random(20_000) < 0.05 + 0.5 * (action % 2)
    table = pl.DataFrame({"action": action, "propensity": 1 / 400, "reward": reward})
    log = read_bandit_log(table)
    assert log.width > 255
    q = RewardModel(log).predict(slice(0, 20))
    assert q.shape == (20, log.width)
    odd = log.candidates(slice(0, 1))[0].to_numpy() % 2 == 1
    assert q[:, odd].mean() > q[:, ~odd].mean() + 0.1


def test_a_log_of_one_user_cannot_be_split() -> None:
    table = market(rows=50)[0].with_columns(user_id=pl.lit(1))
    with pytest.raises(DataError, match="leave out the estimators dm and dr"):
        RewardModel(read_bandit_log(table))


@pytest.mark.parametrize(
    ("column", "message"),
    [("x_on", "Did you mean 'x_one'"), ("candidate_price", "numbers and texts, not List")],
)
def test_bad_context_columns(column: str, message: str) -> None:
    log = read_bandit_log(market(rows=50)[0])
    with pytest.raises(DataError, match=message):
        RewardModel(log, [column])
