"""Audits of logs that are sound, and of logs with one thing wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from ctrkit.data.sources import open_bandit
from ctrkit.errors import DataError
from ctrkit.ope import read_bandit_log
from ctrkit.ope.audit.audit import Audit, audit, audit_source
from ctrkit.ope.audit.checks import by_time, calibrate_actions, deficit_p_value, newest_rows
from ctrkit.ope.logs.bandit_log import RowLocation


def draw(
    rows: int = 4000, actions: int = 8, seed: int = 0, concentration: float = 2.0, whole: bool = True
) -> pl.DataFrame:
    """A log whose propensities are right, in time order, one event in ten rewarded."""
    rng = np.random.default_rng(seed)
    kinds = 0.98 * rng.dirichlet(np.full(actions, concentration), size=30) + 0.02 / actions
    policy = kinds[rng.integers(30, size=rows)]
    policy /= policy.sum(axis=1, keepdims=True)
    action = (policy.cumsum(axis=1) > rng.random(rows)[:, None]).argmax(axis=1)
    table = pl.DataFrame(
        {
            "event_id": np.arange(rows),
            "timestamp": 1.7e9 + 60.0 * np.arange(rows),
            "action": action,
            "propensity": policy[np.arange(rows), action],
            "reward": rng.binomial(1, 0.1, size=rows),
        }
    ).with_columns(candidates=pl.lit(list(range(actions))))
    lists = pl.Series("logging_probabilities", policy).arr.to_list()
    return table.with_columns(lists) if whole else table


def severities(found: Audit) -> dict[str, str]:
    return {finding.check: finding.severity for finding in found.findings if finding.severity != "fine"}


def audited(table: pl.DataFrame) -> Audit:
    return audit(read_bandit_log(table))


@pytest.mark.parametrize("whole", [True, False])
def test_nothing_is_found_in_a_sound_log(whole: bool) -> None:
    found = audited(draw(whole=whole))
    assert severities(found) == {}
    assert found.severity == "fine"
    assert (found.rows, found.propensities.size) == (4000, 4000)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["severity"] == "fine"


def test_calibration_sums_are_those_of_brute_force() -> None:
    table = draw(rows=500, actions=5)
    # One candidate is out in every third row, and one more is there and impossible.
    out = np.arange(500) % 3 == 0
    action, policy = table["action"].to_list(), table["logging_probabilities"].to_list()
    candidates, logged = [], []
    for row in range(500):
        names = [a for a in range(5) if not out[row] or a == action[row] or a != (action[row] + 1) % 5]
        weights = np.array([policy[row][a] for a in names])
        candidates.append([*names, 9])
        logged.append([*(weights / weights.sum()), 0.0])
    chosen = [logged[row][candidates[row].index(action[row])] for row in range(500)]
    table = table.with_columns(
        pl.Series("candidates", candidates),
        pl.Series("logging_probabilities", logged),
        pl.Series("propensity", chosen),
    )
    found = {one.action: one for one in calibrate_actions(read_bandit_log(table))}
    assert sorted(found) == [0, 1, 2, 3, 4]
    for a, one in found.items():
        rows = [row for row in range(500) if a in candidates[row]]
        mu = np.array([logged[row][candidates[row].index(a)] for row in rows])
        hits = sum(action[row] == a for row in rows)
        assert (one.rows, one.chosen) == (len(rows), hits)
        assert one.expected == pytest.approx(mu.sum())
        assert one.z == pytest.approx((hits - mu.sum()) / np.sqrt((mu * (1 - mu)).sum()))
        assert one.ratio == pytest.approx(sum(1 / chosen[r] for r in rows if action[r] == a) / len(rows))
        assert one.p_value == pytest.approx(2 * stats.norm.sf(abs(one.z)))


def test_rare_actions_are_counted_by_poisson() -> None:
    n = 1000
    probabilities = [[0.998, 0.002]] * n
    action = np.zeros(n, dtype=int)
    action[:7] = 1
    table = pl.DataFrame(
        {
            "action": action,
            "propensity": np.where(action == 1, 0.002, 0.998),
            "reward": np.zeros(n),
            "candidates": [[0, 1]] * n,
            "logging_probabilities": probabilities,
        }
    )
    rare = calibrate_actions(read_bandit_log(table))[1]
    assert rare.p_value == pytest.approx(2 * stats.poisson.sf(6, 2.0))


@pytest.mark.parametrize(
    ("concentration", "whole"),
    [
        pytest.param(5.0, True, marks=pytest.mark.slow),
        pytest.param(0.1, True, marks=pytest.mark.slow),
        (0.1, False),
    ],
)
def test_right_propensities_are_hardly_ever_called_wrong(concentration: float, whole: bool) -> None:
    """At a false discovery rate of 1 %, of 40 sound logs at most 3 (chance of more: under 1 in 1,000).

    A deficit needs more than a z test: with uneven propensities that one fires on sound logs.
    """
    alarms = by_z = 0
    for seed in range(40):
        found = calibrate_actions(read_bandit_log(draw(2000, 10, seed, concentration, whole)))
        alarms += any(one.adjusted_p_value <= 0.01 for one in found)
        by_z += any(2 * stats.norm.sf(abs(one.z)) <= 0.001 for one in found)
    assert alarms <= 3
    assert whole or by_z >= 10


def test_the_bound_on_a_deficit_holds() -> None:
    """Weights 50 with probability 1/50, else 0: the true chance of each total is binomial."""
    n, largest = 2000, 50.0
    for count in (0, 10, 20, 30, 40):
        truth = stats.binom.cdf(count, n, 1 / largest)
        total = count * largest
        assert truth <= deficit_p_value(total, 1e12, 1e12, n, largest)
    # And it is no more than a formula: n/2 of n missing, second moment n·largest.
    assert deficit_p_value(1000, 1e12, 1e12, 2000, 50.0) == pytest.approx(
        np.exp(-(1000**2) / (2 * 2000 * 50))
    )


@pytest.mark.parametrize("whole", [True, False])
def test_wrong_propensities_of_an_action_are_found(whole: bool) -> None:
    table = draw(rows=8000, concentration=5.0, whole=whole)
    wrong = pl.col("action") == 3
    if whole:
        # Logged as if action 3 were half as likely, and action 4 took the difference.
        policy = np.array(table["logging_probabilities"].to_list())
        policy[:, 4] += policy[:, 3] / 2
        policy[:, 3] /= 2
        chosen = policy[np.arange(8000), table["action"].to_numpy()]
        table = table.with_columns(
            pl.Series("logging_probabilities", policy.tolist()), pl.Series("propensity", chosen)
        )
    else:
        halved = pl.when(wrong).then(pl.col("propensity") / 2).otherwise("propensity")
        table = table.with_columns(propensity=halved)
    found = audited(table)
    assert severities(found)["calibration"] == "error"
    assert found.severity == "error"
    assert 3 in [one.action for one in found.actions[:2]]
    assert {one.action for one in found.actions if one.adjusted_p_value < 0.01} == ({3, 4} if whole else {3})


def test_an_action_that_could_not_always_be_chosen_is_no_error_without_candidates() -> None:
    rng = np.random.default_rng(0)
    n = 6000
    few = rng.random(n) < 0.5
    action = np.where(few, rng.integers(2, size=n), rng.integers(4, size=n))
    table = pl.DataFrame(
        {"action": action, "propensity": np.where(few, 0.5, 0.25), "reward": rng.binomial(1, 0.1, n)}
    )
    found = audited(table)
    assert severities(found) == {"calibration": "warning", "support": "warning", "sum of weights": "warning"}
    told = next(f.sentence for f in found.findings if f.check == "calibration")
    assert "log the candidates" in told


def _with(**columns: Any) -> pl.DataFrame:
    return draw(whole=False).with_columns(**columns)


EVERY = np.arange(4000)
LATE = pl.int_range(pl.len()) >= 3600
BAD = {
    "one reward": (_with(reward=pl.lit(0)), {"rewards": "error"}),
    "few rewards": (_with(reward=pl.Series((EVERY < 5).astype(int))), {"rewards": "warning"}),
    "deterministic": (
        _with(propensity=pl.lit(1.0)),
        {"propensities": "error", "calibration": "error", "sum of weights": "warning"},
    ),
    "no choice": (
        _with(candidates=pl.concat_list("action"), propensity=pl.lit(1.0)),
        {"propensities": "error"},
    ),
    "never chosen": (_with(candidates=pl.lit(list(range(9)))), {"support": "warning"}),
    "same event": (_with(event_id=pl.Series(EVERY // 2)), {"duplicates": "error"}),
    "late rewards": (
        _with(reward=pl.when(LATE).then(0).otherwise("reward")),
        {"delayed rewards": "warning", "drift of reward": "warning"},
    ),
    "another policy": (
        _with(propensity=pl.when(LATE).then(pl.col("propensity") * 0.999).otherwise("propensity")),
        {},
    ),
    "unevenly dropped": (
        _with(p_drop=pl.when(pl.col("reward") == 1).then(0.0).otherwise(0.9)),
        {},
    ),
    "evenly dropped": (_with(p_drop=pl.lit(0.5)), {}),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_one_thing_wrong(case: str) -> None:
    table, expected = BAD[case]
    told = severities(audited(table))
    # Whatever else is wrong as a consequence, these are.
    assert expected.items() <= told.items()
    if not expected:
        assert told == {}


def test_deterministic_logs_are_told_what_is_left() -> None:
    found = audited(BAD["deterministic"][0])
    told = next(f.sentence for f in found.findings if f.check == "propensities")
    assert "only replay or a reward model" in told


def test_one_row_that_carries_the_weights_is_named() -> None:
    table = draw(whole=False)
    tiny = pl.when(pl.int_range(pl.len()) == 17).then(1e-6).otherwise("propensity")
    found = audited(table.with_columns(propensity=tiny))
    (heavy,) = (f for f in found.findings if f.check == "tiny propensities")
    assert heavy.rows == (RowLocation(None, 17),)


def test_whole_rows_twice() -> None:
    table = draw(whole=False).drop("event_id")
    found = audited(pl.concat([table, table[5:8]]))
    (twice,) = (f for f in found.findings if f.check == "duplicates")
    assert (twice.severity, twice.count, len(twice.rows)) == ("warning", 6, 6)
    assert RowLocation(None, 5) in twice.rows
    assert RowLocation(None, 4002) in twice.rows
    bare = audited(pl.concat([table, table[5:8]]).drop("timestamp"))
    assert "duplicates" not in severities(bare)


def test_slots_of_a_page_share_its_event() -> None:
    pages = _with(event_id=pl.Series(EVERY // 2), position=pl.Series(EVERY % 2))
    assert "duplicates" not in severities(audited(pages))


def test_drift_is_pearsons_chi_square() -> None:
    log = read_bandit_log(_with(reward=pl.Series(np.random.default_rng(1).binomial(1, 0.05 + EVERY / 1e5))))
    time = by_time(log, most=10)
    assert time is not None
    assert time.rows.tolist() == [400] * 10
    hits = log.reward.reshape(10, 400).sum(axis=1)
    np.testing.assert_allclose(time.reward, hits / 400)
    test = stats.chi2_contingency(np.stack([hits, 400 - hits]), correction=False)
    assert time.reward_p_value == pytest.approx(test.pvalue)
    newest = newest_rows(log)
    assert newest is not None
    assert (newest.rows, newest.reward) == (400, pytest.approx(hits[-1] / 400))


def test_rows_are_put_in_time_order() -> None:
    table = BAD["late rewards"][0]
    shuffled = table.sample(fraction=1.0, shuffle=True, seed=3)
    assert severities(audited(shuffled)) == severities(audited(table))


def test_no_drift_is_found_where_there_is_none() -> None:
    p_values = [by_time(read_bandit_log(draw(2000, 4, seed, whole=False))) for seed in range(60)]
    rewards = [time.reward_p_value for time in p_values if time is not None]
    assert stats.kstest(rewards, "uniform").pvalue > 1e-4


def test_faulty_rows_are_counted_and_the_others_audited(tmp_path: Path) -> None:
    good = draw(rows=1000)
    row = pl.int_range(pl.len())
    broken = good.with_columns(
        propensity=pl.when(row.is_in([3, 4])).then(0.0).when(row == 50).then(0.123).otherwise("propensity"),
        reward=pl.when(row == 7).then(None).otherwise("reward"),
        action=pl.when(row == 9).then(77).otherwise("action"),
        logging_probabilities=pl.when(row == 20).then(pl.lit([0.5] * 8)).otherwise("logging_probabilities"),
        candidates=pl.when(row == 30).then(pl.lit([1, 1, 2, 3, 4, 5, 6, 7])).otherwise("candidates"),
        event_id=pl.when(row >= 998).then(1_000_000).otherwise(row + 5000),
    )
    good.write_parquet(tmp_path / "a.parquet")
    broken.write_parquet(tmp_path / "b.parquet")
    file = str(tmp_path / "b.parquet")
    found = audit_source(str(tmp_path / "*.parquet"))
    faults = {
        f.sentence.split(":")[0]: [p.row for p in f.rows] for f in found.findings if f.check == "faulty rows"
    }
    assert faults == {
        "The reward is missing": [7],
        "The propensity is not in (0, 1]": [3, 4],
        "The list names a candidate twice": [30],
        "The action is not one of the row's candidates": [9],
        "The logged probabilities do not sum to 1": [20],
        "The propensity differs from the logged probability of the action": [50],
    }  # fmt: skip
    assert all(place.file == file for f in found.findings for place in f.rows)
    assert found.rows == 1993
    # Rows keep the numbers that they have in their file.
    (twice,) = (f for f in found.findings if f.check == "duplicates")
    assert twice.rows == (RowLocation(file, 998), RowLocation(file, 999))
    with pytest.raises(DataError):
        read_bandit_log(file)
    # Each of these rows alone is refused by the reader too.
    for rows in faults.values():
        for one in rows:
            with pytest.raises(DataError):
                read_bandit_log(broken[one])


def test_a_log_of_nothing_but_faults() -> None:
    found = audit_source(draw(rows=50).with_columns(propensity=pl.lit(0.0)))
    assert (found.rows, found.severity, found.reward) == (0, "error", None)
    assert found.findings[0].count == 50
    json.dumps(found.to_dict(), allow_nan=False)


def test_open_bandit_women_shows_what_is_known_of_it() -> None:
    """Measured with obp 0.5.7: the uniform policy's weights have a mean of 3.134 and reach 21,739."""
    pytest.importorskip("obp")
    found = audited(open_bandit.read("women", "bts"))
    assert found.positives == 46
    told = {finding.check: finding for finding in found.findings}
    assert "3.134" in told["sum of weights"].sentence
    assert told["tiny propensities"].count == 1
    assert found.propensity is not None
    assert 1 / (46 * found.propensity[0]) == pytest.approx(21739, abs=1)
