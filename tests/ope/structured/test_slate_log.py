"""Pages read from a log's columns: against the arrays fed by hand, obp, and a known truth."""

from __future__ import annotations

from itertools import pairwise, product
from typing import Any

import numpy as np
import polars as pl
import pytest

from ctrkit.errors import DataError
from ctrkit.ope.logs.bandit_log import read_bandit_log
from ctrkit.ope.structured.slate_log import KINDS, MEANING, SlateLog
from ctrkit.ope.structured.slates import SlateRows
from tests.ope.estimates import numbers, once

SLOTS = 3
RANGES = [None, (0.0, 1.0)]


def pages(seed: int, count: int = 60, first: int = 1) -> pl.DataFrame:
    """Slots of pages of one to three slots, three pages a user, in a shuffled order within each page."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, SLOTS + 1, count)
    page = np.repeat(np.arange(count), lengths)
    depth = np.concatenate([np.arange(length) for length in lengths])
    rows = len(page)
    table = pl.DataFrame(
        {
            "slate_id": [f"page {number}" for number in page],
            "position": depth + first,
            "user_id": page % (count // 3),
            "action": rng.integers(0, 5, rows),
            "propensity": rng.uniform(0.2, 0.9, rows),
            "marginal_propensity": rng.uniform(0.2, 0.9, rows),
            "reward": (rng.random(rows) < 0.3).astype(float),
            "target_probability": rng.uniform(0.1, 0.8, rows),
            "target_marginal_probability": rng.uniform(0.1, 0.8, rows),
            "q_logged": rng.uniform(0, 1, rows),
            "q_policy": rng.uniform(0, 1, rows),
        }
    )
    return table[np.lexsort((rng.random(rows), page))]


def by_hand(table: pl.DataFrame, users: bool, first: int = 1) -> SlateRows:
    """The same as arrays, one page after another."""
    names = list(dict.fromkeys(table["slate_id"]))
    columns = {
        "rewards": "reward",
        "policy": "target_probability",
        "logging": "propensity",
        "policy_marginal": "target_marginal_probability",
        "logging_marginal": "marginal_propensity",
        "q_logged": "q_logged",
        "q_policy": "q_policy",
    }
    arrays = {name: np.ones((len(names), SLOTS)) for name in columns}
    shown = np.zeros((len(names), SLOTS))
    for row in table.iter_rows(named=True):
        at = names.index(row["slate_id"]), row["position"] - first
        shown[at] = 1
        for name, column in columns.items():
            arrays[name][at] = row[column]
    of_page = [table.filter(slate_id=name)["user_id"][0] for name in names]
    return once(
        SlateRows, arrays.pop("rewards"), **arrays, shown=shown, users=np.array(of_page) if users else None
    )


def fed(table: pl.DataFrame, cuts: list[int], reward_range: tuple[float, float] | None = None) -> SlateLog:
    found = SlateLog(reward_range)
    ends = [0, *cuts, table.height]
    for start, end in pairwise(ends):
        log = read_bandit_log(table[start:end])
        found.update(log, log.target_probability())
    return found


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("users", [False, True])
@pytest.mark.parametrize("reward_range", RANGES)
def test_columns_in_batches_are_the_arrays(
    users: bool, reward_range: tuple[float, float] | None, first: int
) -> None:
    table = pages(0, first=first)
    log = table if users else table.drop("user_id")
    expected = []
    for kind in KINDS:
        estimator = kind(SLOTS, reward_range)
        estimator.update(by_hand(table, users, first))
        expected.append(estimator.result(0.9))
    # Batches end within pages, hold one page or one slot; the first are of fewer slots than the log.
    for cuts in ([], [1, 2, 3, 10, 11, 57], [3 * at for at in range(1, 8)]):
        found = fed(log, cuts, reward_range)
        assert found.notes == ()
        result = found.result(0.9)
        assert [one.estimator for one in result] == [kind.name for kind in KINDS]
        np.testing.assert_allclose(numbers(result), numbers(expected), rtol=1e-9, atol=1e-12)
        assert [one.interval.method for one in result] == [one.interval.method for one in expected]
        np.testing.assert_allclose(numbers(found.result(0.9)), numbers(result), rtol=1e-12)  # it only looks
    assert {one.estimator for one in expected} == set(MEANING)


@pytest.mark.parametrize("users", [False, True])
def test_parts_merge_in_any_order(users: bool) -> None:
    table = pages(1) if users else pages(1).drop("user_id")
    whole = numbers(fed(table, []).result())
    at = [0, 20, 47, table.height]
    for order in ((0, 1, 2), (2, 0, 1)):
        parts = [fed(table[at[place] : at[place + 1]], [5, 9]) for place in order]
        for part in parts[1:]:
            parts[0].merge(part)
        np.testing.assert_allclose(numbers(parts[0].result()), whole, rtol=1e-9, atol=1e-12)


def test_without_users_little_is_kept() -> None:
    table = pages(2, 300).drop("user_id")
    found = fed(table, [200, 400])
    assert sum(part.height for part in found.kept) <= 2 * SLOTS * 3
    assert found.estimators[0].estimator.moments.count > 280


def test_dropped_pages_count_as_many() -> None:
    table = pages(3).drop("user_id")
    dropped = pl.when(pl.col("slate_id").str.ends_with("7")).then(0.5).otherwise(0.0)
    twice = table.filter(pl.col("slate_id").str.ends_with("7")).with_columns(pl.col("slate_id") + " again")
    found = fed(table.with_columns(p_drop=dropped), [31]).result()
    expected = fed(pl.concat([table, twice]), []).result()
    values = [one.value for one in found]
    np.testing.assert_allclose(values, [one.value for one in expected], rtol=1e-12)


def test_agrees_with_obp() -> None:
    ope = pytest.importorskip("obp.ope")
    table = pages(4, 200).sort("slate_id", "position").drop("user_id")
    page, position = table["slate_id"].rank("dense").to_numpy() - 1, table["position"].to_numpy() - 1
    found = {one.estimator: one.value for one in fed(table, [100, 201]).result()}
    joint = pl.col("propensity", "target_probability").product().over("slate_id")
    cascade = pl.col("propensity", "target_probability").cum_prod().over("slate_id")
    peers = {
        "sips": (ope.SlateStandardIPS, "pscore", table.select(joint)),
        "rips": (ope.SlateRewardInteractionIPS, "pscore_cascade", table.select(cascade)),
        "snrips": (ope.SelfNormalizedSlateRewardInteractionIPS, "pscore_cascade", table.select(cascade)),
        "iips": (
            ope.SlateIndependentIPS,
            "pscore_item_position",
            table.select("marginal_propensity", "target_marginal_probability"),
        ),
    }
    for name, (peer, called, both) in peers.items():
        logging, policy = both.to_numpy().T
        expected = peer(len_list=SLOTS).estimate_policy_value(
            slate_id=page.astype(int),
            position=position,
            reward=table["reward"].to_numpy(),
            **{called: logging, f"evaluation_policy_{called}": policy},
        )
        assert found[name] == pytest.approx(expected, rel=1e-9), name


ACTIONS = 3


def simulate(seed: int, count: int) -> tuple[pl.DataFrame, float]:
    """Two slots filled without repetition from three actions; a click above lowers the chance below.

    Returns the log, and the new policy's true reward a page.
    """
    rng = np.random.default_rng(seed)
    old, new = np.array([0.6, 0.3, 0.1]), np.array([0.2, 0.3, 0.5])
    appeal = np.array([0.2, 0.4, 0.7])

    def below(policy: Any, top: Any) -> Any:
        rest = np.where(np.arange(ACTIONS) == np.asarray(top)[..., None], 0.0, policy)
        return rest / rest.sum(axis=-1, keepdims=True)

    def marginal(policy: Any, action: Any) -> Any:
        return (policy[:, None] * below(policy, np.arange(ACTIONS))).sum(axis=0)[action]

    top = rng.choice(ACTIONS, count, p=old)
    second = (below(old, top).cumsum(axis=1) < rng.random(count)[:, None]).sum(axis=1)
    chances = np.stack([appeal[top], appeal[second] * (1 - appeal[top])])
    actions = np.stack([top, second])

    def probabilities(policy: Any) -> Any:
        return np.stack([policy[top], below(policy, top)[np.arange(count), second]])

    table = pl.DataFrame(
        {
            "slate_id": np.repeat(np.arange(count), 2),
            "position": np.tile([1, 2], count),
            "action": actions.T.ravel(),
            "propensity": probabilities(old).T.ravel(),
            "marginal_propensity": np.stack([old[top], marginal(old, second)]).T.ravel(),
            "reward": (rng.random((2, count)) < chances).astype(float).T.ravel(),
            "target_probability": probabilities(new).T.ravel(),
            "target_marginal_probability": np.stack([new[top], marginal(new, second)]).T.ravel(),
        }
    )
    truth = sum(
        new[a] * below(new, a)[b] * (appeal[a] + appeal[b] * (1 - appeal[a]))
        for a, b in product(range(ACTIONS), repeat=2)
    )
    return table, float(truth)


def test_estimates_are_those_of_the_simulated_truth() -> None:
    table, truth = simulate(0, 60_000)
    found = {one.estimator: one for one in fed(table, [33, 60_001], (0.0, 1.0)).result(0.9999)}
    assert "cascade-dr" not in found  # no model's predictions are there
    for name in ("sips", "snsips", "rips", "snrips"):
        assert found[name].interval.low <= truth <= found[name].interval.high, name
        assert found[name].value == pytest.approx(truth, abs=0.03), name
    # The slot below depends on the one above, which independent IPS denies.
    assert abs(found["iips"].value - truth) > 0.02


@pytest.mark.slow
def test_intervals_cover() -> None:
    covered = np.zeros(2)
    for seed in range(60):
        table, truth = simulate(seed + 1, 400)
        found = {one.estimator: one.interval for one in fed(table, [401], (0.0, 1.0)).result()}
        covered += [found[name].low <= truth <= found[name].high for name in ("sips", "rips")]
    # 57 of 60 in expectation: below 51 with a probability of 0.6 %.
    assert (covered >= 51).all()


def test_what_is_missing_is_told() -> None:
    table = pages(5).drop("marginal_propensity", "q_policy")
    found = fed(table, [])
    (note,) = found.notes
    assert "no marginal_propensity: the logging policy" in note
    assert "cascade-dr" not in {one.estimator for one in found.result()}


def good() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "slate_id": [7, 7, 8, 8, 8, 9],
            "position": [1, 2, 1, 2, 3, 1],
            "action": [1, 2, 1, 2, 3, 1],
            "propensity": [0.5] * 6,
            "reward": [0.0, 1.0, 0.0, 0.0, 1.0, 0.0],
            "target_probability": [0.5] * 6,
        }
    )


def read_pages(path: Any) -> None:
    found, log = SlateLog(), read_bandit_log(path)
    found.update(log, log.target_probability())
    found.result()


@pytest.mark.parametrize(
    ("column", "values", "row", "said"),
    [
        ("position", [1, 2, 1, 2, 2, 1], 4, "page 8 has slot 2 twice"),
        ("position", [1, 2, 2, 3, 4, 1], 2, "page 8 has no slot 1"),
        ("position", [1, 2, 1, 2, 4, 1], 4, "page 8 has slot 4 and no slot 3"),
        ("position", [2, 3, 2, 3, 4, 2], 2, "page 8 has no slot 1"),
        ("position", ["1", "2", "1", "top", "3", "1"], 3, "slot 'top' is no whole number"),
        ("user_id", [1, 1, 1, 2, 1, 1], 3, "page 8 was shown to two users"),
        ("marginal_propensity", [0.5, 0.5, 0.5, 0.0, 0.5, 0.5], 3, r"not in \(0, 1\]"),
        ("target_marginal_probability", [0.5, 0.5, 0.5, 1.5, 0.5, 0.5], 3, "above 1"),
    ],
)
def test_bad_pages_are_named(tmp_path: Any, column: str, values: list[Any], row: int, said: str) -> None:
    path = tmp_path / "pages.parquet"
    good().with_columns(pl.Series(column, values)).write_parquet(path)
    with pytest.raises(DataError, match=said) as caught:
        read_pages(path)
    assert (caught.value.file, caught.value.column, caught.value.row) == (str(path), column, row)


def test_a_page_whose_rows_do_not_stand_together_is_refused() -> None:
    # Page 7 has a slot amid each of two batches.
    first, second = (read_bandit_log(good()[rows]) for rows in ([2, 0, 3], [4, 1, 5]))
    found = SlateLog()
    found.update(first, first.target_probability())
    with pytest.raises(DataError, match="page 7 has no slot 1"):
        found.update(second, second.target_probability())
