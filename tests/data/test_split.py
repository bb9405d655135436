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


def test_an_empty_part_is_refused() -> None:
    with pytest.raises(DataError, match="leaves no"):
        split_rows(SPEC, SplitConfig(), pl.DataFrame({"x": [1, 2], "t": [5, 5]}), seed=0)
    with pytest.raises(ConfigError, match="below 1"):
        build(SplitConfig, {"train": 0.9, "valid": 0.1})
