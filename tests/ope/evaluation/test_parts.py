"""A log in parts and batches is the log: the same rows, the same errors, the same estimates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ctrkit.errors import DataError
from ctrkit.ope import evaluate, log_parts, read_bandit_log
from ctrkit.ope.evaluation.parts import RowGroups, WholeLog
from ctrkit.ope.logs.bandit_log import BanditLog
from ctrkit.policies import SoftmaxPolicy, UniformPolicy, padded

ROWS, ACTIONS = 1500, 4


def table(seed: int = 0, users: int | None = None) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    logging = rng.dirichlet(np.ones(ACTIONS), size=ROWS) * 0.9 + 0.1 / ACTIONS
    action = (rng.random((ROWS, 1)) > logging.cumsum(axis=1)).sum(axis=1).clip(max=ACTIONS - 1)
    rate = rng.uniform(0.05, 0.3, size=(ROWS, ACTIONS))
    at = (np.arange(ROWS), action)
    found = pl.DataFrame(
        {
            "x": rng.normal(size=ROWS),
            "timestamp": 1.7e9 + np.sort(rng.uniform(0, 86400, size=ROWS)),
            "action": action,
            "propensity": logging[at],
            "reward": (rng.random(ROWS) < rate[at]).astype(float),
            "candidates": [list(range(ACTIONS))] * ROWS,
            "logging_probabilities": logging.tolist(),
            "candidate_rate": rate.tolist(),
            "target_probability": rng.uniform(0, 1, size=ROWS),
        }
    )
    if users is None:
        return found
    return found.with_columns(user_id=pl.Series(rng.integers(0, users, size=ROWS)))


def rates(context: pl.DataFrame, candidates: pl.Series) -> np.ndarray:
    return padded(context["candidate_rate"])


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctrkit.ope.evaluation.parts.BATCH", 170)
    monkeypatch.setattr("ctrkit.ope.evaluation.parts.PART", 450)


def write(folder: Path, log: pl.DataFrame, files: int = 2) -> list[str]:
    """The rows in files of row groups of 250."""
    names = []
    for number, part in enumerate(log.iter_slices(-(-log.height // files))):
        path = folder / f"log_{number}.parquet"
        part.write_parquet(path, row_group_size=250)
        names.append(str(path))
    return names


def same(one: Any, two: Any, place: str = "") -> None:
    """Equal to rounding, all through."""
    if isinstance(one, dict):
        assert one.keys() == two.keys(), place
        for key in one:
            same(one[key], two[key], f"{place}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(two), place
        for number, (a, b) in enumerate(zip(one, two, strict=True)):
            same(a, b, f"{place}[{number}]")
    elif isinstance(one, float):
        assert one == pytest.approx(two, rel=1e-9, abs=1e-12), place
    else:
        assert one == two, place


@pytest.mark.slow
@pytest.mark.parametrize("users", [None, 200])
def test_parts_give_what_the_whole_gives(tmp_path: Path, small: None, users: int | None) -> None:
    names = write(tmp_path, table(users=users))
    parts = log_parts(names)
    assert len(parts) == 4
    assert all(isinstance(part, RowGroups) for part in parts)
    policies = [SoftmaxPolicy(rates, 0.1), UniformPolicy(), "target_probability"]
    estimators = ["ips", "snips", "dm", "dr"]
    if users is not None:
        estimators += ["sndr", "clipped-ips", "mrdr", "balanced"]
    whole = evaluate(read_bandit_log(names), policies, estimators, segments=["action"])
    cut = evaluate(parts, policies, estimators, segments=["action"])
    same(whole.to_dict(), json.loads(json.dumps(cut.to_dict(), allow_nan=False)))


@pytest.mark.parametrize("order", range(2))
def test_parts_of_users_merge_in_any_order(tmp_path: Path, small: None, order: int) -> None:
    """Rows of some users stand in all parts, of some in one; one has a third of all rows."""
    log = table(users=300).with_columns(
        user_id=pl.when(pl.int_range(pl.len()) % 3 == 0).then(7).otherwise("user_id"),
        click=pl.col("reward"),
        cost=pl.col("x") ** 2,
    )
    names = write(tmp_path, log)
    parts = log_parts(names)
    asked: Any = [[UniformPolicy(), "target_probability"], ["ips", "snips"]]
    more: Any = {"segments": ["action"], "outcomes": ["click", "cost"]}
    whole = evaluate(read_bandit_log(names), *asked, **more)
    mixed = [parts[place] for place in np.random.default_rng(order).permutation(len(parts))]
    same(whole.to_dict(), evaluate(mixed, *asked, **more).to_dict())


def test_rows_and_keys_are_those_of_the_whole(tmp_path: Path, small: None) -> None:
    names = write(tmp_path, table())
    whole = read_bandit_log(names)
    batches = [batch for part in log_parts(names) for batch in part.batches()]
    assert max(len(batch) for batch in batches) <= 170
    np.testing.assert_array_equal(np.concatenate([batch.units for batch in batches]), whole.units)
    assert pl.concat([batch.table for batch in batches]).equals(whole.table)
    before = 0
    for batch in batches:
        for row in (0, len(batch) - 1):
            assert batch.locate(row) == whole.locate(before + row)
        before += len(batch)


@pytest.mark.parametrize("every", [1, 40])
def test_rows_of_an_event_are_found_in_whatever_part(tmp_path: Path, small: None, every: int) -> None:
    """The second row of an event stands in another file than the first."""
    log = table().drop("candidates", "logging_probabilities", "candidate_rate")
    number = np.arange(ROWS)
    far = np.where((number >= ROWS // 2) & (number % every == 0), number - ROWS // 2, number)
    log = log.with_columns(EventId=pl.Series(far).cast(pl.String))
    parts = log_parts(write(tmp_path, log))
    assert [part.cluster_by for part in parts if isinstance(part, RowGroups)] == ["event_id"] * len(parts)
    found, whole = (evaluate(one, ["target_probability"], ["ips"]) for one in (parts, read_bandit_log(log)))
    same(found.to_dict(), whole.to_dict())
    assert any("Intervals are clustered by event_id" in note for note in found.notes)
    once = log_parts(write(tmp_path, log.with_columns(EventId=pl.Series(number))))
    assert [part.cluster_by for part in once if isinstance(part, RowGroups)] == ["row"] * len(once)


def test_only_needed_columns_are_read(tmp_path: Path, small: None) -> None:
    renamed = table(users=50).rename({"propensity": "pscore", "reward": "click"})
    (part, *_) = log_parts(write(tmp_path, renamed))
    batch = next(iter(part.batches(("timestamp",))))
    assert set(batch.table.columns) == {"timestamp", "user_id", "action", "propensity", "reward"}
    # What rows stand for is read whatever is needed of them.
    (part, *_) = log_parts(write(tmp_path, renamed.with_columns(pdrop=pl.lit(0.75))))
    assert (next(iter(part.batches(("timestamp",)))).counts == 4).all()


def test_errors_name_file_and_row(tmp_path: Path, small: None) -> None:
    wrong = (
        table()
        .with_row_index()
        .with_columns(propensity=pl.when(pl.col("index") == 1250).then(1.5).otherwise("propensity"))
    )
    names = write(tmp_path, wrong.drop("index"))
    with pytest.raises(DataError) as caught:
        evaluate(log_parts(names), ["target_probability"], ["ips"])
    assert (caught.value.file, caught.value.column, caught.value.row) == (names[1], "propensity", 500)


def test_files_of_other_columns_are_refused(tmp_path: Path, small: None) -> None:
    names = write(tmp_path, table())
    pl.read_parquet(names[1]).rename({"x": "y"}).write_parquet(names[1])
    with pytest.raises(DataError, match=r"column '[xy]'"):
        evaluate(log_parts(names), [UniformPolicy()], ["ips"])


def test_a_log_without_candidates_has_all_its_actions(tmp_path: Path, small: None) -> None:
    lists = ("candidates", "logging_probabilities", "candidate_rate")
    # The actions of one file are not those of the other.
    log = table().drop(*lists).sort("action")
    names = write(tmp_path, log)
    whole = evaluate(read_bandit_log(names), [UniformPolicy()], ["ips", "dr"])
    cut = evaluate(log_parts(names), [UniformPolicy()], ["ips", "dr"])
    same(whole.to_dict(), cut.to_dict())
    assert any("all 4 actions" in note for note in cut.notes)


def test_actions_of_other_widths_are_one_log(tmp_path: Path, small: None) -> None:
    lists = ("candidates", "logging_probabilities", "candidate_rate")
    first, second = (table(seed).drop(*lists) for seed in range(2))
    names = [str(tmp_path / name) for name in ("1.parquet", "2.parquet")]
    first.with_columns(pl.col("action").cast(pl.Int16)).write_parquet(names[0])
    second.with_columns(pl.col("action").cast(pl.Int32) + 100_000).write_parquet(names[1])
    found = evaluate(log_parts(names), [UniformPolicy()], ["ips"])
    assert any(f"all {2 * ACTIONS} actions" in note for note in found.notes)


def test_what_is_not_parquet_is_read_whole(tmp_path: Path, small: None) -> None:
    lists = ("candidates", "logging_probabilities", "candidate_rate")
    path = tmp_path / "log.csv"
    table().drop(*lists).write_csv(path)
    (part,) = log_parts(path)
    assert isinstance(part, WholeLog)
    assert part.rows == ROWS
    (batch,) = part.batches()
    assert isinstance(batch, BanditLog)


@pytest.mark.parametrize("text", ["action", "candidates", "user_id", "segment"])
def test_ids_that_are_numbers_in_one_file_and_text_in_another_are_one_log(
    text: str, tmp_path: Path, small: None
) -> None:
    log = table(users=100).with_columns(segment=pl.col("action"))
    names = write(tmp_path, log)
    second = pl.read_parquet(names[1])
    kind = pl.List(pl.String) if text == "candidates" else pl.String
    second.with_columns(pl.col(text).cast(kind)).write_parquet(names[1], row_group_size=250)

    def also(name: str) -> bool:
        return name == "segment"

    cut = evaluate(log_parts(names, also_text=also), [UniformPolicy()], ["ips"])
    whole = evaluate(read_bandit_log(names, also_text=also), [UniformPolicy()], ["ips"])
    same(cut.to_dict(), whole.to_dict())
    # The ids are the same, however they are written.
    plain = evaluate(read_bandit_log(log), [UniformPolicy()], ["ips"])
    (one,), (other,) = cut.policies[0].estimates, plain.policies[0].estimates
    assert one.value == pytest.approx(other.value)
    assert one.interval.high == pytest.approx(other.interval.high)


def test_lists_of_other_widths_are_lists(tmp_path: Path, small: None) -> None:
    names = write(tmp_path, table())
    pl.read_parquet(names[1]).with_columns(
        pl.col("logging_probabilities").cast(pl.List(pl.Float32)),
        pl.col("candidates").cast(pl.List(pl.Int16)),
    ).write_parquet(names[1], row_group_size=250)
    cut = evaluate(log_parts(names), [UniformPolicy()], ["ips", "dr"])
    whole = evaluate(read_bandit_log(names), [UniformPolicy()], ["ips", "dr"])
    same(cut.to_dict(), whole.to_dict())
    assert read_bandit_log(names).table.schema["candidates"] == pl.List(pl.Int64)


def test_lists_in_text_cells_of_parquet_are_read_whole(tmp_path: Path, small: None) -> None:
    lists = ["candidates", "logging_probabilities", "candidate_rate"]
    log = table()
    names = write(tmp_path, log.with_columns(pl.col(lists).cast(pl.List(pl.String)).list.join("|")))
    (part,) = log_parts(names)
    assert isinstance(part, WholeLog)
    found, wanted = (evaluate(one, [UniformPolicy()], ["ips"]) for one in ([part], read_bandit_log(log)))
    assert found.policies[0].estimates[0].value == pytest.approx(wanted.policies[0].estimates[0].value)
