"""Logs without propensities: estimated ones against the true ones, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ctrkit.api.evaluate_policy import evaluate_policy
from ctrkit.api.policies.value import PolicyValue
from ctrkit.errors import DataError
from ctrkit.ope import evaluate, log_parts
from ctrkit.ope.evaluation.parts import WholeLog
from ctrkit.ope.logs.bandit_log import BanditLog
from ctrkit.ope.models.missing import lacks_propensities
from ctrkit.policies import UniformPolicy
from ctrkit.reports.cells import Value

ADS = np.array(["a", "b", "c", "d"])
LEANING = np.array([0.8, 0.0, -0.5, 0.3])


def draw(seed: int = 0, rows: int = 4000, open_to: float = 1.0) -> pl.DataFrame:
    """A logging policy that chooses by x, as clicks do, among each candidate with probability `open_to`.

    `true_propensity` is what it chose with; `new` a new policy's probability of what was logged.
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(size=rows)
    allowed = rng.random((rows, 4)) < open_to
    allowed[:, 1] = True
    chance = np.exp(x[:, None] * LEANING) * allowed
    chance /= chance.sum(axis=1, keepdims=True)
    at = np.arange(rows), (chance.cumsum(axis=1) < rng.random(rows)[:, None]).sum(axis=1).clip(max=3)
    other = np.exp(-x[:, None] * LEANING) * allowed
    other /= other.sum(axis=1, keepdims=True)
    rate = 0.1 + 0.4 / (1 + np.exp(-x[:, None] - np.arange(4) + 1.5))
    table = pl.DataFrame(
        {
            "x": x,
            "action": ADS[at[1]],
            "reward": (rng.random(rows) < rate[at]).astype(float),
            "new": other[at],
            "true_propensity": chance[at],
            "true_value": (other * rate).sum(axis=1),
            "true_uniform": (rate * allowed).sum(axis=1) / allowed.sum(axis=1),
        }
    )
    if open_to == 1:
        return table
    lists = [ADS[row].tolist() for row in allowed]
    probabilities = [chance[row][mask].tolist() for row, mask in enumerate(allowed)]
    return table.with_columns(candidates=pl.Series(lists), true_probabilities=pl.Series(probabilities))


def read(table: pl.DataFrame, **settings: object) -> BanditLog:
    (part,) = log_parts(table, **settings)  # type: ignore[arg-type]
    assert isinstance(part, WholeLog)
    return part.log


def test_estimates_are_near_the_truth() -> None:
    table = draw()
    log = read(table, excluded=["new"])
    truth = table["true_propensity"].to_numpy()
    assert np.abs(log.propensity - truth).mean() < 0.02
    assert np.abs(truth - truth.mean()).mean() > 0.09
    np.testing.assert_array_equal(log.table["propensity"].to_numpy(), log.propensity)
    # And so are those of the actions that were not chosen.
    found = log.logging_probabilities(slice(0, len(log)))
    assert found is not None
    np.testing.assert_allclose(found.sum(axis=1), 1)
    chance = np.exp(table["x"].to_numpy()[:, None] * LEANING)
    assert np.abs(found - chance / chance.sum(axis=1, keepdims=True)).mean() < 0.02


def test_each_rows_candidates_share_all_there_is() -> None:
    table = draw(1, open_to=0.6)
    log = read(table, excluded=["new"])
    mine = log.table["logging_probabilities"]
    truth = table["true_probabilities"]
    assert mine.list.len().equals(truth.list.len())
    assert mine.list.len().n_unique() == 4
    np.testing.assert_allclose(mine.list.sum().to_numpy(), 1)
    error = np.abs(mine.explode().to_numpy() - truth.explode().to_numpy())
    assert error.mean() < 0.03
    alone = table["candidates"].list.len().to_numpy() == 1
    assert alone.any()
    np.testing.assert_allclose(log.propensity[alone], 1)
    found = evaluate([WholeLog(log)], ["new", UniformPolicy()], ["ips", "snips"])
    for policy, column in zip(found.policies, ("true_value", "true_uniform"), strict=True):
        for estimate in policy.estimates:
            assert estimate.interval.low < table[column].mean() < estimate.interval.high
    # One ad stands nowhere but in lists: nothing tells how often it would have been chosen.
    unknown = table.with_columns(candidates=pl.concat_list("candidates", pl.lit("never")))
    shares = read(unknown, excluded=["new"]).logging_probabilities(slice(0, 10))
    assert shares is not None
    np.testing.assert_array_equal(shares[np.arange(10), table["candidates"].list.len().to_numpy()[:10]], 0)
    np.testing.assert_allclose(shares.sum(axis=1), 1)


def test_whole_numbers_as_actions_of_other_widths() -> None:
    table = draw(2, open_to=0.6).with_columns(
        pl.col("action").replace_strict(list(ADS), [1, 7, 10, 99], return_dtype=pl.Int32),
        pl.col("candidates").list.eval(pl.element().replace_strict(list(ADS), [1, 7, 10, 99])),
    )
    named = read(draw(2, open_to=0.6), excluded=["new"])
    np.testing.assert_allclose(read(table, excluded=["new"]).propensity, named.propensity)


def test_the_note_is_loud_and_tells_what_was_read() -> None:
    loud, fit, balance = read(draw(), excluded=["new"]).notes
    assert loud.startswith("THE LOG HAS NO PROPENSITIES")
    assert "from x." in loud
    assert "the columns explain part of how" in fit
    assert "all columns are balanced up to chance" in balance
    blind = read(
        draw().with_columns(x=pl.Series(np.random.default_rng(5).normal(size=4000))), excluded=["new"]
    )
    assert "explain little or nothing of how" in blind.notes[1]
    nothing = read(draw().drop("x"), excluded=["new"])
    assert "frequencies alone" in nothing.notes[0]
    assert "no context column" in nothing.notes[2]
    shares = draw()["action"].value_counts(normalize=True).sort("action")["proportion"].to_numpy()
    expected = shares[np.searchsorted(ADS, draw()["action"].to_numpy())]
    np.testing.assert_allclose(nothing.propensity, expected, atol=0.02)


def test_a_column_out_of_balance_is_named() -> None:
    # The logging policy chose by |x| too, which a straight line in x cannot tell.
    table = draw()
    rng = np.random.default_rng(0)
    x = table["x"].to_numpy()
    action = np.where((np.abs(x) > 1) & (rng.random(4000) < 0.8), "a", table["action"].to_numpy())
    bent = table.select("reward", action=action, x=pl.Series(x), size=pl.Series(np.abs(x)))
    told = read(bent, context_columns=["x"]).notes
    assert "from x." in told[0]
    columns = read(bent).balance
    assert columns is not None
    assert set(columns["column"]) == {"x", "size"}
    loud = read(bent.select("reward", "action", "size")).notes
    assert "from size." in loud[0]


def test_a_policys_own_column_tells_the_action_and_is_not_read() -> None:
    table = draw()
    truth = table["true_propensity"].to_numpy()
    leaking, excluded = read(table).propensity, read(table, excluded=["new"]).propensity
    assert np.abs(leaking - truth).mean() > 2 * np.abs(excluded - truth).mean()


def test_too_long_for_lists_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    table = draw(3, open_to=0.6)
    shared = read(table, excluded=["new"])
    assert not any("too long" in note for note in shared.notes)
    monkeypatch.setattr("ctrkit.ope.models.missing.CELLS", 1000)
    log = read(table, excluded=["new"])
    assert any("too long" in note for note in log.notes)
    assert "logging_probabilities" not in log.table.columns
    assert log.propensity.mean() < 0.8 * shared.propensity.mean()
    assert not any("too long" in note for note in read(draw(), excluded=["new"]).notes)


def test_all_files_or_none() -> None:
    with_some = draw().rename({"true_propensity": "pscore"})
    assert lacks_propensities([draw()])
    assert not lacks_propensities([draw(), with_some])
    assert not any("PROPENSITIES" in note for note in read(with_some).notes)
    lists = draw(open_to=0.9).rename({"true_probabilities": "logging_probs"})
    with pytest.raises(DataError, match="needs this column") as caught:
        read(lists)
    assert caught.value.column == "propensity"
    with pytest.raises(DataError, match="no such context column"):
        read(draw(), context_columns=["x", "y"])


def intervals_cover(seed: int) -> tuple[bool, bool]:
    table = draw(seed + 100, 1000)
    found = evaluate(log_parts(table, excluded=["new"]), ["new", UniformPolicy()], ["ips"])
    truths = (table["true_value"].mean(), table["true_uniform"].mean())
    column, uniform = (
        one.estimates[0].interval.low <= truth <= one.estimates[0].interval.high
        for one, truth in zip(found.policies, truths, strict=True)
    )
    return column, uniform


@pytest.mark.slow
def test_intervals_cover_where_the_model_is_right() -> None:
    covered = np.array([intervals_cover(seed) for seed in range(40)]).sum(axis=0)
    # 38 of 40 at 95 %; fewer than 34 with a probability of 0.3 %.
    assert (covered >= 34).all(), covered


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parquet", "two files"])
def test_through_the_command_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    if kind != "parquet":  # figures take longer than all else
        monkeypatch.setattr(PolicyValue, "figures", lambda self: {})
    table = draw(4, 3000)
    if kind == "two files":
        source: object = [str(tmp_path / "1.csv"), str(tmp_path / "2.parquet")]
        table[:1000].write_csv(tmp_path / "1.csv")
        table[1000:].write_parquet(tmp_path / "2.parquet")
    else:
        source = tmp_path / f"log.{kind}"
        table.write_parquet(source)
    found = evaluate_policy(
        source, ["uniform", "column:new"], out=tmp_path / "run", overrides=["estimators=[snips,dr]"]
    )
    policies = [UniformPolicy(), "new"]
    memory = evaluate(log_parts(table, excluded=["new"]), policies, ["snips", "dr"])
    for mine, theirs in zip(found.to_dict()["policies"], memory.to_dict()["policies"], strict=True):
        for one, other in zip(mine["estimates"], theirs["estimates"], strict=True):
            # Units are rows of a file: folds of two files are not those of one.
            close = 1e-9 if kind != "two files" else 0.01
            assert one["value"] == pytest.approx(other["value"], abs=close)
    content = json.loads((tmp_path / "run" / "metrics.json").read_text())
    truths = (table["true_uniform"].mean(), table["true_value"].mean())
    for policy, truth in zip(content["policies"], truths, strict=True):
        assert policy["diagnostics"]["estimated_propensities"]
        assert "if the estimated propensities are right" in policy["reason"]
        for estimate in policy["estimates"]:
            assert estimate["low"] <= truth <= estimate["high"]
    assert content["notes"][0].startswith("THE LOG HAS NO PROPENSITIES")
    assert "from x." in content["notes"][0]  # and not by `new`
    assert {row["column"] for row in content["balance"]} == {"x"}
    if kind != "parquet":
        return
    assert _table(found, "Balance under")[0][0].startswith("x of ")
    assert "Balance under the estimated propensities" in (tmp_path / "run" / "report.html").read_text()


def _table(found: PolicyValue, title: str) -> tuple[tuple[Value, ...], ...]:
    (table,) = (one for one in found.report().details if one.title.startswith(title))
    return table.rows


def test_logged_propensities_are_not_called_estimated(tmp_path: Path) -> None:
    table = draw(5, 1000).rename({"true_propensity": "propensity"})
    found = evaluate_policy(table, target_column="new", out=tmp_path).to_dict()
    assert found["balance"] is None
    assert not found["policies"][0]["diagnostics"]["estimated_propensities"]
    assert "estimated" not in found["policies"][0]["reason"]


@pytest.mark.parametrize("seed", [0, 2, 4, 5])
def test_a_policy_as_good_as_the_log_is_not_told_apart_from_it_by_estimates(seed: int) -> None:
    """Actions are chosen evenly, as by the policy; row by row the estimated weights hide how that strays."""
    rng = np.random.default_rng(seed)
    action = rng.integers(0, 4, 1000)
    reward = (rng.random(1000) < 0.1 + 0.2 * action).astype(float)
    log = pl.DataFrame(
        {"action": action, "reward": reward, "new": np.full(1000, 0.25), "place": ["top", "side"] * 500}
    )
    parts = log_parts(log, context_columns=[], excluded=["new"])
    (estimate,) = (
        evaluate(parts, ["new"], ["ips"], interval="normal", segments=["place"]).policies[0].estimates
    )
    weighted = 0.25 / next(iter(parts[0].batches())).propensity * reward
    half = 1.959964 * np.array([one.std() for one in (weighted, reward, weighted - reward)]) / np.sqrt(1000)
    gap = weighted.mean() - reward.mean()
    assert abs(gap) > half[2]
    # Newcombe's interval: the squares of the two distances add up.
    assert estimate.difference_interval.low == pytest.approx(gap - np.hypot(*half[:2]), rel=2e-3)
    assert estimate.difference_interval.high == pytest.approx(gap + np.hypot(*half[:2]), rel=2e-3)
    found = evaluate(parts, ["new", UniformPolicy()], ["snips"], segments=["place"])
    for policy in found.policies:
        assert policy.verdict.verdict == "cannot tell"
        (column,) = policy.segments
        assert {one.verdict.verdict for one in column.segments} == {"cannot tell"}
    assert any("as if they came from two independent logs" in note for note in found.notes)
