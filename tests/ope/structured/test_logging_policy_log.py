"""Several logging policies, read from a log's columns: against arrays fed by hand, obp, and a known truth."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import polars as pl
import pytest

from ctrkit.errors import DataError
from ctrkit.ope.logs.bandit_log import read_bandit_log
from ctrkit.ope.logs.survey import count_by_logging_policy
from ctrkit.ope.structured.logging_policies import (
    BalancedLoggingPolicies,
    BalancedLoggingPoliciesDoublyRobust,
    LoggingPolicyRows,
    NaiveLoggingPolicies,
    NaiveLoggingPoliciesDoublyRobust,
    WeightedLoggingPolicies,
    WeightedLoggingPoliciesDoublyRobust,
)
from ctrkit.ope.structured.logging_policy_log import MEANING, LoggingPolicyLog
from tests.ope.estimates import numbers, once

IDS = [2, 10, 30]
MEANS = np.array([0.1, 0.2, 0.4])
LOGGING = np.array([[0.7, 0.2, 0.1], [0.2, 0.6, 0.2], [0.1, 0.3, 0.6]])
TARGET = np.array([0.1, 0.3, 0.6])
SHARES = np.array([0.5, 0.3, 0.2])


def draw(seed: int, rows: int = 400) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    logger = rng.choice(3, rows, p=SHARES)
    action = (LOGGING[logger].cumsum(axis=1) < rng.random(rows)[:, None]).sum(axis=1)
    return pl.DataFrame(
        {
            "logger_id": np.array(IDS)[logger],
            "user_id": rng.integers(0, rows // 3, rows),
            "action": action,
            "propensity": LOGGING[logger, action],
            "logger_probabilities": LOGGING[:, action].T.tolist(),
            "reward": (rng.random(rows) < MEANS[action]).astype(float),
            "target_probability": TARGET[action],
            "q_logged": 0.8 * MEANS[action],
            "q_policy": np.full(rows, 0.8 * TARGET @ MEANS),
        }
    )


def fed(
    table: pl.DataFrame,
    cuts: list[int],
    shares: Any = None,
    reward_range: tuple[float, float] | None = None,
    model: bool = True,
) -> LoggingPolicyLog:
    found = LoggingPolicyLog(shares, reward_range)
    ends = [0, *cuts, table.height]
    for start, end in itertools.pairwise(ends):
        log = read_bandit_log(table[start:end])
        q = [log.table[name].to_numpy() if model else None for name in ("q_logged", "q_policy")]
        found.update(log, log.target_probability(), *q)
    return found


def by_hand(table: pl.DataFrame, users: bool) -> LoggingPolicyRows:
    return once(
        LoggingPolicyRows,
        np.searchsorted(IDS, table["logger_id"].to_numpy()),
        LOGGING[:, table["action"].to_numpy()].T,
        table["target_probability"].to_numpy(),
        table["reward"].to_numpy(),
        table["q_logged"].to_numpy(),
        table["q_policy"].to_numpy(),
        np.unique(table["user_id"].to_numpy(), return_inverse=True)[1] if users else None,
    )


def expected(table: pl.DataFrame, users: bool, reward_range: Any) -> list[Any]:
    shares = np.bincount(by_hand(table, users).loggers) / table.height
    estimators: list[Any] = [
        BalancedLoggingPolicies(shares, reward_range),
        NaiveLoggingPolicies(reward_range),
        WeightedLoggingPolicies(3),
        BalancedLoggingPoliciesDoublyRobust(shares, reward_range),
        NaiveLoggingPoliciesDoublyRobust(reward_range),
        WeightedLoggingPoliciesDoublyRobust(3),
    ]
    for estimator in estimators:
        estimator.update(by_hand(table, users))
    return [estimator.result() for estimator in estimators]


def as_columns(table: pl.DataFrame) -> pl.DataFrame:
    """Every logger's probabilities in a column of its own."""
    lists = [
        pl.col("logger_probabilities").list.get(at).alias(f"propensity_{name}") for at, name in enumerate(IDS)
    ]
    # In the order of text, not of numbers.
    return table.with_columns(sorted(lists, key=str)).drop("logger_probabilities")


@pytest.mark.parametrize("users", [False, True])
@pytest.mark.parametrize("reward_range", [None, (0.0, 1.0)])
@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("known", [False, True])
def test_columns_in_batches_are_the_arrays(
    users: bool, reward_range: Any, columns: bool, known: bool
) -> None:
    table = draw(0)
    log = as_columns(table) if columns else table
    log = log if users else log.drop("user_id")
    counts: Counter[Any] = Counter()
    for part in (log[:100], log[100:]):
        counts += count_by_logging_policy(read_bandit_log(part))
    assert counts == Counter(table["logger_id"].to_list())
    shares = {name: count / table.height for name, count in counts.items()} if known else None
    should = expected(table, users, reward_range)
    for cuts in ([], [1, 50, 333]):
        found = fed(log, cuts, shares, reward_range)
        assert found.notes == ()
        # With shares nothing but sums is kept.
        assert bool(found.kept) == (not known)
        result = found.result()
        assert [one.estimator for one in result] == list(MEANING) == [one.estimator for one in should]
        np.testing.assert_allclose(numbers(result), numbers(should), rtol=1e-9, atol=1e-12)
        assert next(one.interval for one in result).method == should[0].interval.method
        np.testing.assert_allclose(numbers(found.result()), numbers(result), rtol=1e-12)
    parts = [fed(log[start:end], [], shares, reward_range) for start, end in ((200, 400), (0, 50), (50, 200))]
    for part in parts[1:]:
        parts[0].merge(part)
    np.testing.assert_allclose(numbers(parts[0].result()), numbers(should), rtol=1e-9, atol=1e-12)


def test_without_the_others_probabilities_only_the_own_logger_counts() -> None:
    table = draw(1).drop("logger_probabilities")
    found = fed(table, [100], model=False)
    assert [one.estimator for one in found.result()] == ["naive-ips", "weighted-ips"]
    should = {one.estimator: one for one in expected(draw(1), True, None)}
    result = found.result()
    np.testing.assert_allclose(numbers(result), numbers([should[one.estimator] for one in result]), rtol=1e-9)
    assert "logger_probabilities" in found.notes[0]


def test_loggers_may_have_names_and_parts_may_lack_one() -> None:
    table = draw(2).drop("user_id").sort("logger_id")
    named = table.with_columns(
        pl.col("logger_id").replace_strict({2: "a", 10: "b", 30: "c"}), pl.lit(0.9).alias("propensity_score")
    )
    for log in (
        named,
        as_columns(named).rename(
            {f"propensity_{n}": f"propensity_{c}" for n, c in zip(IDS, "abc", strict=True)}
        ),
    ):
        found = fed(log, [50, 300]).result()
        np.testing.assert_allclose(numbers(found), numbers(expected(table, False, None)), rtol=1e-9)


def test_dropped_rows_count_as_many() -> None:
    table = draw(3).drop("user_id")
    again = table["action"] == 2
    shares = dict(zip(IDS, SHARES.tolist(), strict=True))
    found = fed(table.with_columns(p_drop=again.cast(pl.Float64) * 0.5), [70], shares).result()
    should = fed(pl.concat([table, table.filter(again)]), [], shares).result()
    np.testing.assert_allclose([x.value for x in found], [x.value for x in should], rtol=1e-12)


def test_agrees_with_obp() -> None:
    ope = pytest.importorskip("obp.ope")
    table = draw(4)
    rows = by_hand(table, False)
    action = table["action"].to_numpy()
    own = table["propensity"].to_numpy()
    shares = np.bincount(rows.loggers) / table.height
    peers = {
        "naive-ips": (ope.MultiLoggersNaiveInverseProbabilityWeighting(), {"pscore": own}),
        "balanced-ips": (
            ope.MultiLoggersBalancedInverseProbabilityWeighting(),
            {"pscore_avg": rows.logging @ shares},
        ),
        "weighted-ips": (
            ope.MultiLoggersWeightedInverseProbabilityWeighting(),
            {"pscore": own, "stratum_idx": rows.loggers},
        ),
    }
    found = {one.estimator: one.value for one in fed(table.drop("user_id"), [11]).result()}
    for name, (peer, more) in peers.items():
        value = peer.estimate_policy_value(
            reward=rows.rewards,
            action=action,
            action_dist=np.repeat(TARGET[None, :, None], table.height, axis=0),
            **more,
        )
        assert found[name] == pytest.approx(value, rel=1e-9), name


@pytest.mark.slow
def test_intervals_cover_the_truth() -> None:
    truth, covered = TARGET @ MEANS, Counter[str]()
    for seed in range(60):
        for one in fed(draw(seed + 10, 600).drop("user_id"), [300], None, (0.0, 1.0)).result():
            covered[one.estimator] += one.interval.low <= truth <= one.interval.high
    # 57 of 60 in expectation: below 51 with a probability of 0.6 %.
    assert set(covered) == set(MEANING)
    assert min(covered.values()) >= 51, covered


def read_loggers(path: Any, shares: Any) -> None:
    found, log = LoggingPolicyLog(shares), read_bandit_log(path)
    found.update(log, log.target_probability())
    found.result()


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("logger_probabilities", [0.5, 0.5], "2 probabilities for 3 logging policies"),
        ("logger_probabilities", [0.5, 0.01, 0.01], "has probability .* in column 'propensity' and"),
        ("logger_probabilities", [0.5, 0.5, 1.5], "not a probability"),
        ("logger_id", 7, "logging policy 7 is not in the given shares"),
    ],
)
def test_bad_loggers_are_named(tmp_path: Any, column: str, value: Any, said: str) -> None:
    table = draw(5, 20).with_columns(logger_id=pl.Series([2, 10, 30, 2, *[2] * 16]))
    table = table.with_columns(
        propensity=pl.Series(
            [p[IDS.index(i)] for p, i in zip(table["logger_probabilities"], table["logger_id"], strict=True)]
        )
    )
    values = table[column].to_list()
    values[12] = value
    path = tmp_path / "log.parquet"
    table.with_columns(pl.Series(column, values)).write_parquet(path)
    shares = dict.fromkeys(IDS, 1 / 3) if column == "logger_id" else None
    with pytest.raises(DataError, match=said) as caught:
        read_loggers(path, shares)
    assert (caught.value.file, caught.value.column, caught.value.row) == (str(path), column, 12)


def test_bad_columns_of_loggers_are_named() -> None:
    table = as_columns(draw(6, 20)).with_columns(
        propensity_10=pl.when(pl.int_range(pl.len()) == 4).then(1.5).otherwise(pl.col("propensity_10"))
    )
    with pytest.raises(DataError, match="above 1") as caught:
        fed(table, [])
    assert (caught.value.column, caught.value.row) == ("propensity_10", 4)
