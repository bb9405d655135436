"""Policies given as numbers: the same whatever the form, and faults named where they stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ctrkit.api.evaluate_policy import evaluate_policy
from ctrkit.api.policies.specs import PolicyLike
from ctrkit.errors import ConfigError, DataError
from ctrkit.ope.evaluation import parts
from ctrkit.policies import FixedPolicy

N = 400
RNG = np.random.default_rng(0)
IDS = np.array([3, 1, 10])
SCORES = RNG.normal(size=(N, 3)).round(6)
SOFTMAX = np.exp(SCORES / 0.5) / np.exp(SCORES / 0.5).sum(axis=1, keepdims=True)
CHOSEN = RNG.integers(3, size=N)
REWARD = (RNG.random(N) < 0.4).astype(float)
LOG = pl.DataFrame(
    {
        "event_id": RNG.permutation(N) + 100,
        "x": RNG.normal(size=N),
        "action": IDS[CHOSEN],
        "propensity": [1 / 3] * N,
        "reward": REWARD,
        "candidates": [IDS.tolist()] * N,
    }
)
EVENTS = LOG.select("event_id")
EVERY = ("ips", "snips", "dm", "dr")


def by_action(prefix: str, values: np.ndarray) -> dict[str, pl.Series]:
    return {f"{prefix}{action}": pl.Series(values[:, at]) for at, action in enumerate(IDS)}


def lists(values: np.ndarray) -> pl.Series:
    return pl.Series(values.tolist())


def texts(values: np.ndarray) -> pl.Series:
    return pl.Series(["|".join(map(repr, row)) for row in values.tolist()])


def refused(log: Any, policy: PolicyLike) -> None:
    evaluate_policy(log, policy, estimators=["ips"])


def values(log: Any, policy: PolicyLike, **settings: Any) -> dict[str, float]:
    found = evaluate_policy(log, policy, reward_model="logistic", **settings).evaluation.policies[0]
    return {one.estimator: one.value for one in found.estimates}


@pytest.fixture(scope="module")
def expected() -> dict[str, float]:
    """IPS and SNIPS by hand; DM and DR of the same policy as a function."""
    weights = SOFTMAX[np.arange(N), CHOSEN] * 3
    found = values(LOG, lambda context, candidates: SOFTMAX)
    by_hand = {"ips": (weights * REWARD).mean(), "snips": weights @ REWARD / weights.sum()}
    return found | {name: float(value) for name, value in by_hand.items()}


def beside(tmp_path: Path, table: pl.DataFrame, name: str) -> str:
    """A table beside the log, in another order and with rows of other events."""
    more = table.head(3).with_columns(event_id=pl.col("event_id") + 10_000)
    mixed = pl.concat([table, more]).sample(fraction=1.0, shuffle=True, seed=1)
    path = tmp_path / name
    mixed.write_csv(path) if name.endswith(".csv") else mixed.write_parquet(path)
    return str(path)


def test_a_distribution_is_the_same_in_every_form(tmp_path: Path, expected: dict[str, float]) -> None:
    soft = "softmax,temperature=0.5"
    wide = EVENTS.with_columns(**by_action("", SCORES), note=pl.lit("x"))
    scored = beside(tmp_path, EVENTS.with_columns(s=lists(SCORES), candidates=LOG["candidates"]), "s.parquet")
    forms: list[tuple[Any, PolicyLike]] = [
        (LOG.with_columns(mine=lists(SOFTMAX)), "column:mine"),
        (LOG.with_columns(**by_action("p_", SOFTMAX)), "column:p_*"),
        (LOG.with_columns(score=texts(SCORES)), f"column:score:{soft}"),
        (LOG, EVENTS.with_columns(mine=lists(SOFTMAX))),
        (LOG, {"table": wide.drop("note"), "column": "*", "name": "softmax", "temperature": 0.5}),
        (LOG, beside(tmp_path, EVENTS.with_columns(p=texts(SOFTMAX)), "listed.csv")),
        (LOG, f"{beside(tmp_path, wide.rename({str(i): f's_{i}' for i in IDS}), 'w.csv')}:column=s_*,{soft}"),
        (LOG, f"{scored}:{soft}"),
    ]
    for form, policy in forms:
        assert values(form, policy) == pytest.approx(expected, rel=1e-9), policy
    told = evaluate_policy(LOG, f"{scored}:{soft}", estimators=["ips"])
    assert f"3 of the 403 rows of {scored} are of no event of the log: not used." in told.notes
    assert told.evaluation.policies[0].name == f"s: {soft}"


def test_the_logged_action_alone_has_no_reward_model(tmp_path: Path, expected: dict[str, float]) -> None:
    logged = pl.Series("one", SOFTMAX[np.arange(N), CHOSEN])
    log = LOG.with_columns(logged)
    weighted = {name: expected[name] for name in ("ips", "snips")}
    file = beside(tmp_path, EVENTS.with_columns(logged), "one.csv")
    for given, settings in (
        (log, {"target_column": "one"}),
        (log, {"policy": "column:one"}),
        (LOG, {"policy": file}),
    ):
        result = evaluate_policy(given, **settings)
        (policy,) = result.evaluation.policies
        assert {one.estimator: one.value for one in policy.estimates} == pytest.approx(weighted)
        assert any("there is no estimate by dm, dr" in note for note in result.to_dict()["notes"])
    with pytest.raises(DataError, match=r"one number a row, and greedy needs a score of every candidate"):
        evaluate_policy(log, "column:one:greedy")


def test_policies_over_scores_are_those_over_an_artifacts(expected: dict[str, float]) -> None:
    log = LOG.with_columns(**by_action("s_", SCORES))
    best = (SCORES.max(axis=1, keepdims=True) == SCORES).astype(float)
    for name, wanted in (("greedy", best), ("epsilon-greedy,epsilon=0.3", 0.7 * best + 0.1)):
        weights = wanted[np.arange(N), CHOSEN] * 3
        assert values(log, f"column:s_*:{name}")["ips"] == pytest.approx((weights * REWARD).mean())
    with pytest.raises(ConfigError, match="Did you mean 'softmax'"):
        evaluate_policy(log, "column:s_*:sofmax")
    with pytest.raises(ConfigError, match="unknown key 'temprature'"):
        evaluate_policy(log, "column:s_*:softmax,temprature=1")


def test_the_log_may_come_in_batches(
    tmp_path: Path, expected: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "BATCH", 150)
    monkeypatch.setattr(parts, "PART", 200)
    LOG.write_parquet(tmp_path / "log.parquet", row_group_size=100)
    table = beside(tmp_path, EVENTS.with_columns(p=lists(SOFTMAX)), "p.parquet")
    assert values(str(tmp_path / "log.parquet"), table) == pytest.approx(expected, rel=1e-9)
    one = EVENTS.with_columns(p=pl.Series(SOFTMAX[np.arange(N), CHOSEN]))
    found = values(str(tmp_path / "log.parquet"), one)
    assert found == pytest.approx({name: expected[name] for name in ("ips", "snips")}, rel=1e-9)


def changed(values: np.ndarray, row: int, to: list[float | None]) -> pl.Series:
    return pl.Series([*values.tolist()[:row], to, *values.tolist()[row + 1 :]])


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ([0.5, 0.5], "the list has 2 numbers for 3 candidates"),
        ([0.5, 0.2, 0.2], r"sum to 0\.9, and the least is 0\.2.*NAME:softmax"),
        ([1.2, -0.2, 0.0], r"sum to 1, and the least is -0\.2"),
        ([0.5, float("nan"), 0.5], "the number of candidate 1 is missing"),
        ([0.5, None, 0.5], "the number of candidate 1 is missing"),
        ([0.5, float("inf"), 0.5], "the number of candidate 1 is not finite"),
    ],
)
def test_a_row_that_is_no_distribution_is_named(row: list[float | None], said: str, tmp_path: Path) -> None:
    wrong = changed(SOFTMAX, 250, row)
    with pytest.raises(DataError, match=said) as caught:
        refused(LOG.with_columns(mine=wrong), "column:mine")
    assert (caught.value.column, caught.value.row) == ("mine", 250)
    path = tmp_path / "scores.parquet"
    EVENTS.with_columns(mine=wrong).reverse().write_parquet(path)
    with pytest.raises(DataError, match=said) as caught:
        refused(LOG, path)
    assert (caught.value.file, caught.value.column, caught.value.row) == (str(path), "mine", N - 1 - 250)
    if len(row) == 3:
        wide = by_action("p_", SOFTMAX) | {
            f"p_{action}": pl.Series([*SOFTMAX[:250, at], row[at], *SOFTMAX[251:, at]])
            for at, action in enumerate(IDS)
        }
        with pytest.raises(DataError, match=said) as caught:
            refused(LOG.with_columns(**wide), "column:p_*")
        assert (caught.value.column, caught.value.row) == ("p_*", 250)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (
            EVENTS[:390].with_columns(p=0.5),
            r"10 of the 400 events of the log have no row here, the first",
        ),
        (pl.concat([EVENTS, EVENTS[:2]]).with_columns(p=0.5), "row index 400: event .* twice, and 2 rows in"),
        (EVENTS.with_columns(p=0.5, q=0.5), r"2 columns beside the ids \(p, q\).*column=p_\*"),
        (EVENTS.with_columns(p=1.5), "column 'p', row index 0: 1.5 is above 1"),
        (EVENTS.rename({"event_id": "id"}).with_columns(p=0.5), "needs this column, which holds .* id"),
        (
            EVENTS.with_columns(p=lists(SOFTMAX), candidates=pl.Series([[1, 3, 10]] * N)),
            r"row index 0: the candidates are \[1, 3, 10\], those of the log \[3, 1, 10\]",
        ),
    ],
)
def test_a_table_that_does_not_fit_the_log_is_refused(table: pl.DataFrame, said: str) -> None:
    with pytest.raises(DataError, match=said):
        refused(LOG, table)


def test_what_a_log_lacks_for_a_table_is_told(tmp_path: Path) -> None:
    table = EVENTS.with_columns(p=0.5)
    with pytest.raises(DataError, match="the log has no ids of events"):
        refused(LOG.drop("event_id"), table)
    with pytest.raises(DataError, match="1 rows have an event that another row has too"):
        refused(pl.concat([LOG, LOG[:1]]), table)
    own = {"table": table.rename({"event_id": "id"}), "event_id": "id"}
    assert set(values(LOG, own)) == {"ips", "snips"}
    with pytest.raises(DataError, match="there is no column of candidate '10'"):
        refused(LOG.with_columns(p_3=0.5, p_1=0.5), "column:p_*")
    with pytest.raises(DataError, match=r"column 'q_\*': no column has such a name"):
        refused(LOG, "column:q_*")
    path = beside(tmp_path, table, "p.csv")
    with pytest.raises(ConfigError, match=r"no setting 'colum' of a table\. Did you mean 'column'"):
        refused(LOG, f"{path}:colum=p")


def test_columns_of_policies_are_not_what_a_reward_model_reads() -> None:
    log = LOG.with_columns(mine=lists(SOFTMAX), **by_action("p_", SOFTMAX))
    table = EVENTS.with_columns(p=lists(SOFTMAX))
    several: list[PolicyLike] = ["column:mine", "column:p_*", table, FixedPolicy(3)]
    notes = evaluate_policy(log, several, reward_model="logistic", estimators=["dm"]).to_dict()["notes"]
    assert "The reward model reads x, beside the candidates' features and ids." in notes
