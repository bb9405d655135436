from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ctrkit.config import build
from ctrkit.data.split import SplitConfig, split_rows
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
