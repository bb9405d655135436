"""Features of actions read from a log's columns: against the arrays fed by hand, obp, and a known truth."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import polars as pl
import pytest

from ctrkit.errors import DataError
from ctrkit.ope.logs.bandit_log import BanditLog, read_bandit_log
from ctrkit.ope.structured.action_feature_log import MEANING, FeatureEstimators
from ctrkit.ope.structured.action_features import (
    FeatureRows,
    MarginalizedInversePropensityScoring,
    OffCEM,
    SelfNormalizedMarginalized,
)
from tests.ope.estimates import numbers, once

KINDS = [MarginalizedInversePropensityScoring, SelfNormalizedMarginalized, OffCEM]
ACTIONS = 12
COLOURS = np.array(["red", "green", "blue"])
OF_ACTION = np.arange(ACTIONS) % 3
APPEAL = np.array([0.1, 0.3, 0.5])


def draw(seed: int, rows: int = 400) -> tuple[pl.DataFrame, Any]:
    """Each row offers 4 to 7 of the actions; a click depends on the colour alone.

    Returns the log, and the policy's probabilities of the candidates, a list a row.
    """
    rng = np.random.default_rng(seed)
    lists: dict[str, list[Any]] = {name: [] for name in ("candidates", "logging", "policy", "action")}
    for _ in range(rows):
        own = rng.permutation(ACTIONS)[: rng.integers(4, 8)]
        logging = rng.dirichlet(np.full(len(own), 2.0)) * 0.9 + 0.1 / len(own)
        policy = np.exp(3 * APPEAL[OF_ACTION[own]])
        lists["candidates"].append(own.tolist())
        lists["logging"].append(logging.tolist())
        lists["policy"].append((policy / policy.sum()).tolist())
        lists["action"].append(int(rng.choice(len(own), p=logging)))
    place = lists["action"]
    action = np.array([own[at] for own, at in zip(lists["candidates"], place, strict=True)])
    table = pl.DataFrame(
        {
            "user_id": rng.integers(0, rows // 3, rows),
            "action": action,
            "propensity": [own[at] for own, at in zip(lists["logging"], place, strict=True)],
            "reward": (rng.random(rows) < APPEAL[OF_ACTION[action]]).astype(float),
            "candidates": lists["candidates"],
            "logging_probabilities": lists["logging"],
            "candidate_colour": [COLOURS[OF_ACTION[own]].tolist() for own in lists["candidates"]],
            "colour": COLOURS[OF_ACTION[action]],
        }
    )
    return table, lists["policy"]


def matrix(lists: Any) -> Any:
    width = max(map(len, lists))
    return np.array([[*own, *[0.0] * (width - len(own))] for own in lists])


def predictions(table: pl.DataFrame, policy: Any) -> tuple[Any, Any]:
    q = 0.7 * APPEAL + 0.05
    logged = q[OF_ACTION[table["action"].to_numpy()]]
    mean = [q[OF_ACTION[own]] @ np.array(p) for own, p in zip(table["candidates"], policy, strict=True)]
    return logged, np.array(mean)


def fed(
    table: pl.DataFrame, policy: Any, cuts: list[int], block: int = 37, model: bool = True, **more: Any
) -> FeatureEstimators:
    """In batches, and those in blocks."""
    found = FeatureEstimators("colour", **more)
    ends = [0, *cuts, table.height]
    for start, end in itertools.pairwise(ends):
        log = read_bandit_log(table[start:end])
        for at in range(0, len(log), block):
            rows = slice(at, min(at + block, len(log)))
            own = policy[start:end][rows]
            q = predictions(log.table[rows], own) if model else (None, None)
            logging = log.logging_probabilities(rows)
            assert logging is not None
            wide = matrix(own)
            found.update(log, rows, wide, logging, *q)
    return found


def by_hand(table: pl.DataFrame, policy: Any, users: bool) -> FeatureRows:
    log: BanditLog = read_bandit_log(table)
    logging = log.logging_probabilities(slice(0, len(log)))
    assert logging is not None
    features = np.zeros(logging.shape, dtype=np.int64)
    for row, own in enumerate(table["candidates"]):
        features[row, : len(own)] = OF_ACTION[own.to_numpy()]
    return once(
        FeatureRows.of_features,
        log.reward,
        matrix(policy),
        logging,
        features,
        log.action_index,
        *predictions(table, policy),
        log.users if users else None,
    )


@pytest.mark.parametrize("users", [False, True])
@pytest.mark.parametrize("reward_range", [None, (0.0, 1.0)])
def test_columns_in_blocks_are_the_arrays(users: bool, reward_range: Any) -> None:
    table, policy = draw(0)
    log = table if users else table.drop("user_id")
    should = []
    for kind in KINDS:
        estimator = kind(reward_range)
        estimator.update(by_hand(table, policy, users))
        should.append(estimator.result(0.9))
    for cuts in ([], [1, 100, 333]):
        found = fed(log, policy, cuts, reward_range=reward_range)
        result = found.result(0.9)
        assert [one.estimator for one in result] == list(MEANING)
        np.testing.assert_allclose(numbers(result), numbers(should), rtol=1e-9, atol=1e-12)
        assert [one.interval.method for one in result] == [one.interval.method for one in should]
        assert numbers(found.result(0.9)) == numbers(result)
    spans = [(300, 400), (0, 50), (50, 300)]
    parts = [fed(log[a:b], policy[a:b], [], reward_range=reward_range) for a, b in spans]
    for part in parts[1:]:
        parts[0].merge(part)
    np.testing.assert_allclose(numbers(parts[0].result(0.9)), numbers(should), rtol=1e-9, atol=1e-12)


def test_without_a_model_there_is_no_offcem() -> None:
    table, policy = draw(1)
    result = fed(table, policy, [200], model=False).result()
    assert [one.estimator for one in result] == ["mips", "snmips"]
    whole = fed(table, policy, [200]).result()
    assert numbers(result) == numbers(whole[:2])


def test_agrees_with_obp() -> None:
    embed = pytest.importorskip("obp.ope.estimators_embed")
    rng = np.random.default_rng(2)
    rows = 300
    policy, logging = rng.dirichlet(np.ones(ACTIONS), size=(2, rows))
    action = rng.integers(ACTIONS, size=rows)
    table = pl.DataFrame(
        {
            "action": action,
            "propensity": logging[np.arange(rows), action],
            "reward": (rng.random(rows) < 0.4).astype(float),
            "candidates": [list(range(ACTIONS))] * rows,
            "logging_probabilities": logging.tolist(),
            "candidate_colour": [COLOURS[OF_ACTION].tolist()] * rows,
        }
    )
    expected = embed.MarginalizedInverseProbabilityWeighting(n_actions=ACTIONS).estimate_policy_value(
        reward=table["reward"].to_numpy(),
        action=action,
        action_embed=OF_ACTION[action][:, None],
        pi_b=logging[:, :, None],
        action_dist=policy[:, :, None],
        p_e_a=np.eye(3)[OF_ACTION][:, :, None],
    )
    found = fed(table, policy.tolist(), [99], model=False).result()
    assert found[0].value == pytest.approx(expected, rel=1e-9)


def test_dropped_rows_count_as_many() -> None:
    table, policy = draw(5)
    table = table.drop("user_id")
    again = table["colour"] == "red"
    found = fed(table.with_columns(p_drop=0.5 * again.cast(pl.Float64)), policy, [70]).result()
    twice = [policy[at] for at in np.flatnonzero(again.to_numpy())]
    should = fed(pl.concat([table, table.filter(again)]), [*policy, *twice], []).result()
    np.testing.assert_allclose([one.value for one in found], [one.value for one in should], rtol=1e-12)


@pytest.mark.slow
def test_intervals_cover_the_truth() -> None:
    covered = Counter[str]()
    for seed in range(60):
        table, policy = draw(seed + 10, 200)
        table = table.drop("user_id")
        truth = np.mean(
            [APPEAL[OF_ACTION[own]] @ np.array(p) for own, p in zip(table["candidates"], policy, strict=True)]
        )
        for one in fed(table, policy, [], block=200, reward_range=(0.0, 1.0)).result():
            covered[one.estimator] += one.interval.low <= truth <= one.interval.high
    # 57 of 60 in expectation: below 51 with a probability of 0.3 %.
    assert set(covered) == set(MEANING)
    assert min(covered.values()) >= 51, covered


def test_what_is_missing_is_named(tmp_path: Any) -> None:
    table, policy = draw(6, 20)
    with pytest.raises(DataError, match="does not have this feature") as caught:
        fed(table.drop("candidate_colour"), policy, [])
    assert caught.value.column == "candidate_colour"
    lists = table["candidate_colour"].to_list()
    lists[12][2] = None
    path = tmp_path / "log.parquet"
    table.with_columns(pl.Series("candidate_colour", lists)).write_parquet(path)
    log = read_bandit_log(path)
    found = FeatureEstimators("candidate_colour")
    rows = slice(10, 20)
    logging = log.logging_probabilities(rows)
    assert logging is not None
    with pytest.raises(DataError, match="has no colour") as caught:
        found.update(log, rows, matrix(policy[10:20]), logging)
    assert (caught.value.file, caught.value.column, caught.value.row) == (str(path), "candidate_colour", 12)
