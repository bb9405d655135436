"""Features from a table through a store and back: online values are the offline ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from typer.testing import CliRunner

import ctrkit
from ctrkit.cli import app
from ctrkit.errors import ConfigError, DataError
from tests.online.conftest import address, dynamodb, redis_server

__all__ = ["address", "dynamodb", "redis_server"]

TABLE = pl.DataFrame(
    {
        "user_id": ["a", "b", "a", None, "c", "a"],
        "timestamp": [
            1_700_000_002,
            1_700_000_001,
            1_700_000_003,
            1_700_000_009,
            1_700_000_001,
            1_700_000_003,
        ],
        "clicks": [1, 2, 3, 4, None, 5],
        "rate": [0.1, float("nan"), None, 0.4, -0.0, float("inf")],
        "small": pl.Series([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], dtype=pl.Float32),
        "new": [True, None, False, True, True, False],
        "history": [["x"], [], None, ["y"], ["z", None], ["é", "x"]],
    },
    schema_overrides={"clicks": pl.UInt8},
)


def test_online_values_are_the_newest_offline_ones_row_by_row(address: str) -> None:
    pushed = ctrkit.push_features(TABLE, store=address, key="user_id", name="rows")
    assert (pushed.rows, pushed.without_key, pushed.keys, pushed.written) == (6, 1, 3, 3)
    online = ctrkit.get_features(["c", "a", "nobody", "b"], store=address, key="user_id", name="rows")
    # Of rows of the same time, the last.
    offline = TABLE[[4, 5, 3, 1]].drop("timestamp").with_columns(user_id=pl.Series(["c", "a", "nobody", "b"]))
    nothing = pl.col("user_id") == "nobody"
    values = [pl.when(~nothing).then(pl.col(name)).alias(name) for name in offline.columns[1:]]
    assert_frame_equal(online.table, offline.with_columns(values), check_exact=True)
    assert (online.found, online.missing) == (3, ("nobody",))


def test_an_older_push_changes_nothing(tmp_path: Path) -> None:
    store = f"sqlite:{tmp_path / 'f.db'}"
    ctrkit.push_features(TABLE, store=store, key="user_id")
    older = TABLE.with_columns(pl.col("timestamp") - 10, clicks=pl.lit(9, pl.UInt8))
    pushed = ctrkit.push_features(older, store=store, key="user_id")
    assert (pushed.written, pushed.newer) == (0, 3)
    found = ctrkit.get_features(["a", "b"], store=store, key="user_id").table
    assert found["clicks"].to_list() == [5, 2]


def test_a_model_reads_its_own_version_and_encodes_online_rows_as_offline_ones(
    trained: Path, logs: Path, tmp_path: Path
) -> None:
    store = f"sqlite:{tmp_path / 'f.db'}"
    model = ctrkit.load(trained)
    rows = pl.read_parquet(logs / "impressions.parquet").tail(500).unique("event_id", maintain_order=True)
    ctrkit.push_features(rows, store=store, key="event_id", model=model)
    # Another version beside it, pushed later.
    ctrkit.push_features(rows, store=store, key="event_id", columns=["device"])
    keys = rows["event_id"].to_list()
    online = ctrkit.get_features(keys, store=store, key="event_id", model=model).table
    one, other = (model.encoder.encode(table, labels=False) for table in (rows, online))
    np.testing.assert_array_equal(one.categorical, other.categorical)
    np.testing.assert_array_equal(one.numeric, other.numeric)
    for name, ids in one.sequences.items():
        np.testing.assert_array_equal(ids[:], other.sequences[name][:])
    newest = ctrkit.get_features(keys[:1], store=store, key="event_id")
    assert newest.table.columns == ["event_id", "device"]
    bare = f"sqlite:{tmp_path / 'other.db'}"
    ctrkit.push_features(rows, store=bare, key="event_id", columns=["device"])
    with pytest.raises(DataError, match=r"no features 'features' of version .* newest version is"):
        ctrkit.get_features(keys, store=bare, key="event_id", model=model)


@pytest.mark.parametrize(
    ("changes", "settings", "said"),
    [
        ({}, {"key": "user"}, "column 'user': the column is missing. Did you mean 'user_id'"),
        ({}, {"columns": ["click"]}, "Did you mean 'clicks'"),
        ({}, {"columns": ["user_id"]}, "no columns to write"),
        ({}, {"time": "clicks"}, "column 'clicks', row index 4: the row has no time"),
        ({"clicks": pl.lit(None).cast(pl.Date)}, {}, "column 'clicks': an online store holds no Date"),
        ({"timestamp": pl.lit("soon")}, {}, "column 'timestamp', row index 0"),
        ({}, {"ttl": 0.0}, "ttl is 0"),
        ({}, {"store": "feast+http://localhost/view?features=a"}, "read only"),
        ({}, {"name": "a b"}, "the name of a feature set is 'a b'"),
    ],
)
def test_wrong_input_is_named_and_nothing_is_written(
    changes: dict[str, pl.Expr], settings: dict[str, object], said: str, tmp_path: Path
) -> None:
    given = {"store": f"sqlite:{tmp_path / 'f.db'}", "key": "user_id", **settings}
    with pytest.raises((ConfigError, DataError), match=said):
        ctrkit.push_features(TABLE.with_columns(**changes), **given)
    assert not (tmp_path / "f.db").exists()


def test_without_times_a_key_must_occur_once(tmp_path: Path) -> None:
    store = f"sqlite:{tmp_path / 'f.db'}"
    with pytest.raises(DataError, match="row index 0: the key a occurs more than once"):
        ctrkit.push_features(TABLE.drop("timestamp"), store=store, key="user_id")
    assert ctrkit.push_features(TABLE.drop("timestamp")[1:3], store=store, key="user_id").written == 2


def test_commands_push_and_get(tmp_path: Path) -> None:
    file, store = tmp_path / "users.parquet", f"sqlite:{tmp_path / 'f.db'}"
    TABLE.write_parquet(file)

    def said(*arguments: str, code: int = 0) -> dict[str, object]:
        where = ["--store", store, "--key", "user_id", "--json"]
        told = CliRunner().invoke(app, ["features", *arguments, *where])
        assert told.exit_code == code, told.stderr
        return dict(json.loads(told.stdout))

    assert "no such online store" in str(said("get", "a", code=2)["error"])
    assert said("push", str(file), "--columns", "clicks,rate")["written"] == 3
    found = said("get", "a", "x", "b")
    assert found["rows"] == [
        {"user_id": "a", "clicks": 5, "rate": "inf"},
        {"user_id": "x", "clicks": None, "rate": None},
        {"user_id": "b", "clicks": 2, "rate": "nan"},
    ]
    assert (found["found"], found["missing"]) == (2, ["x"])
    told = CliRunner().invoke(app, ["features", "get", "a", "--store", store, "--key", "user_id"])
    assert "1 of 1 keys have values." in told.stdout
