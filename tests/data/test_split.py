from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ctrkit.config import build
from ctrkit.data.split import Split, SplitConfig, split_rows
from ctrkit.errors import ConfigError, DataError
from ctrkit.schema import FeatureSpec

SPEC = FeatureSpec.model_validate({"numeric": [{"name": "x"}], "timestamp": "t"})


def test_by_time_no_moment_is_on_two_sides() -> None:
    time = np.random.default_rng(0).integers(0, 40, 1000)
    table = pl.DataFrame({"x": time, "t": time})
    split = split_rows(SPEC, SplitConfig(), table, seed=0)
    assert split.by == "time"
    assert time[split.train].max() < time[split.valid].min()
    assert time[split.valid].max() < time[split.test].min()
    assert sorted(np.concatenate([split.train, split.valid, split.test])) == list(range(1000))


def test_at_random_shares_and_seed_hold() -> None:
    table = pl.DataFrame({"x": range(1000)})
    spec = FeatureSpec.model_validate({"numeric": [{"name": "x"}]})
    first, again, other = (split_rows(spec, SplitConfig(), table, seed=seed) for seed in (1, 1, 2))
    assert (first.train.size, first.valid.size, first.test.size) == (800, 100, 100)
    assert (first.test == again.test).all()
    assert (first.test != other.test).any()
    assert sorted(np.concatenate([first.train, first.valid, first.test])) == list(range(1000))


@pytest.mark.parametrize("rows", [(10, 80, 10), (98, 1, 1), (1, 1, 98), (1, 97, 1, 1), (40, 40, 10, 10)])
def test_whatever_the_ties_no_part_is_empty_and_no_moment_is_on_two_sides(rows: tuple[int, ...]) -> None:
    time = np.repeat(np.arange(len(rows)), rows)
    split = split_rows(SPEC, SplitConfig(), pl.DataFrame({"x": time, "t": time}), seed=0)
    parts = [set(time[part]) for part in (split.train, split.valid, split.test)]
    assert all(parts)
    assert sum(len(part) for part in parts) == len(rows)
    assert max(parts[0]) < min(parts[1])
    assert max(parts[1]) < min(parts[2])
    note = split.note(SplitConfig())
    assert (note is None) == (rows == (40, 40, 10, 10))
    assert note is None or f"{split.train.size}% of rows are for training" in note


def test_an_empty_part_is_refused() -> None:
    spec = FeatureSpec.model_validate({"numeric": [{"name": "x"}]})
    with pytest.raises(DataError, match="leaves no"):
        split_rows(spec, SplitConfig(), pl.DataFrame({"x": [1, 2]}), seed=0)
    for times in ([5], [5, 5, 5], [5, 6, 6]):
        with pytest.raises(DataError, match="column 't': a split by time needs at least three distinct"):
            split_rows(SPEC, SplitConfig(), pl.DataFrame({"x": times, "t": times}), seed=0)
    with pytest.raises(DataError, match="column 't', row index 1"):
        split_rows(SPEC, SplitConfig(), pl.DataFrame({"x": [1, 2, 3], "t": [5, None, 6]}), seed=0)
    with pytest.raises(ConfigError, match="below 1"):
        build(SplitConfig, {"train": 0.9, "valid": 0.1})


USERS = FeatureSpec.model_validate({"numeric": [{"name": "x"}], "group": "u"})


def of_users(rows: int = 1000, users: int = 100) -> pl.DataFrame:
    return pl.DataFrame({"x": range(rows), "u": np.random.default_rng(0).integers(0, users, rows)})


def parts(split: Split) -> tuple[np.ndarray, ...]:
    return split.train, split.valid, split.test


def test_by_user_no_user_is_on_two_sides_and_neither_order_nor_others_matter() -> None:
    table, config = of_users(), SplitConfig(by="user", train=0.6, valid=0.2)
    split = split_rows(USERS, config, table, seed=1)
    users = [set(table["u"][rows]) for rows in parts(split)]
    assert sum(map(len, users)) == table["u"].n_unique()
    assert sorted(np.concatenate(parts(split))) == list(range(1000))
    assert pytest.approx([len(one) for one in users], abs=15) == [60, 20, 20]
    assert (split.test.tolist(), split.by) != (split_rows(USERS, config, table, seed=2).test.tolist(), "user")
    order = np.random.default_rng(3).permutation(1000)[:700]  # other rows, as text, in another column
    some = table[order].select("x", id=pl.col("u").cast(pl.String) + ".0")
    keyed = build(SplitConfig, {**config.model_dump(), "key": "id"})
    np.testing.assert_array_equal(split_rows(SPEC, keyed, some, seed=1).parts, split.parts[order])


def test_rows_without_a_user_are_divided_one_by_one() -> None:
    table = of_users().with_columns(u=pl.when(pl.col("u") < 50).then(None).otherwise(pl.col("u")))
    split = split_rows(USERS, SplitConfig(by="user"), table, seed=0)
    missing = table["u"].is_null().to_numpy()
    shares = [missing[rows].sum() / missing.sum() for rows in parts(split)]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.06)


def test_a_user_with_half_of_the_rows_gives_a_note() -> None:
    table = of_users().with_columns(u=pl.when(pl.col("x") < 500).then(1000).otherwise(pl.col("u")))
    config = SplitConfig(by="user")
    assert (note := split_rows(USERS, config, table, seed=0).note(config)) is not None
    assert "All rows of a user stay together" in note


@pytest.mark.parametrize("by", ["random", "user"])
@pytest.mark.parametrize("sums", [False, True])
def test_every_row_is_a_test_row_of_one_fold(by: str, sums: bool) -> None:
    content = {"numeric": [{"name": "x"}], "group": "u", **({"impressions": "n"} if sums else {})}
    spec, table = FeatureSpec.model_validate(content), of_users(403)
    labels = np.arange(403) % 2  # with sums, two rows are the outcomes of one
    table = table.with_columns(n=1, click=labels, u=pl.col("u").gather(np.arange(403) // 2))
    found = []
    for fold in range(5):
        config = SplitConfig.model_validate({"by": by, "folds": 5, "fold": fold})
        split = split_rows(spec, config, table, seed=4)
        assert sorted(np.concatenate(parts(split))) == list(range(403))
        assert split.valid.size / 403 == pytest.approx(config.shares[1], abs=0.08)
        assert not sums or (split.parts[0:402:2] == split.parts[1:402:2]).all()
        found.append(split.test)
    assert sorted(np.concatenate(found)) == list(range(403))
    assert by == "user" or sums or {one.size for one in found} == {80, 81}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"by": "user", "fold": 0}, "there is no fold 0"),
        ({"by": "user", "folds": 5, "fold": 5}, "there is no fold 5"),
        ({"by": "user", "folds": 1}, "at least 2"),
        ({"by": "time", "folds": 5}, "later than those"),
        ({"by": "random", "key": "u"}, "`key` is for a split by user"),
        ({"by": "auto", "folds": 5, "fold": 0}, "later than those"),  # times are named
        ({"by": "random", "folds": 5}, "5 folds divide the rows 5 times"),
        ({"by": "user", "key": "click"}, "'click' is a label"),
    ],
)
def test_faulty_divisions_are_refused(content: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        split_rows(SPEC, build(SplitConfig, content), of_users().with_columns(t="x"), seed=0)


def test_faulty_users_are_refused() -> None:
    config = SplitConfig(by="user")
    with pytest.raises(DataError, match="needs a column of users"):
        split_rows(SPEC, config, of_users(), seed=0)
    with pytest.raises(DataError, match="'who'"):
        split_rows(USERS, SplitConfig(by="user", key="who"), of_users(), seed=0)
    with pytest.raises(DataError, match="with 2 users the split leaves no"):
        split_rows(USERS, config, of_users(users=2), seed=0)
    with pytest.raises(DataError, match="ids are integers or text"):
        split_rows(USERS, config, of_users().with_columns(u=pl.lit(0.5)), seed=0)
