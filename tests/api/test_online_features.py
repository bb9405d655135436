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
from ctrkit.data import raw_table
from ctrkit.data.store import open_store
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


@pytest.mark.parametrize(("ending", "source"), [("parquet", None), ("csv", None), ("parquet", "table")])
def test_a_prepared_folder_pushes_its_rows_under_its_own_name_and_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, source: str | None
) -> None:
    monkeypatch.setattr(raw_table, "ROWS", 77)
    rng = np.random.default_rng(0)
    table = pl.DataFrame(
        {
            "user": [None if one == 7 else f"u{one}" for one in rng.integers(0, 60, 900)],
            "at": 1_700_000_000 + rng.permutation(900) // 3,
            "ad": rng.integers(0, 9, 900),
            "price": [None if one > 9 else round(one, 3) for one in rng.lognormal(1, 1, 900)],
            "seen": ["|".join(map(str, rng.integers(0, 9, k % 4))) for k in range(900)],
            "click": (rng.random(900) < 0.4) * 1,
        }
    )
    folder, prepared = tmp_path / "files", tmp_path / "prepared"
    folder.mkdir()
    file = folder / f"log.{ending}"
    table.write_parquet(file) if ending == "parquet" else table.write_csv(file)
    features = {
        "name": "users",
        "categorical": [{"name": "ad"}],
        "numeric": [{"name": "price"}],
        "sequences": [{"name": "seen", "shares": "ad", "max_length": 3}],
        "timestamp": "at",
    }
    config = {"features": features, "source": source, "model": "lr"}
    version = ctrkit.prepare(config, folder if source else file, out=prepared).version
    store = f"sqlite:{tmp_path / 'f.db'}"
    pushed = ctrkit.push_features(prepared, store=store, key="user")
    assert (pushed.features.name, pushed.features.version) == ("users", version)
    assert (pushed.rows, pushed.without_key) == (900, table["user"].null_count())
    # The newest row of each user and, of the same time, the last.
    newest = table.with_row_index("row").filter(pl.col("user").is_not_null())
    newest = newest.sort("at", maintain_order=True).unique("user", keep="last", maintain_order=True)
    keys, rows = newest["user"].to_list(), newest["row"].to_numpy()
    assert pushed.keys == pushed.written == len(keys)
    online = ctrkit.get_features(keys, store=store, key="user", name="users").table
    assert_frame_equal(online.select("price"), newest.select("price"), check_exact=True)
    opened = open_store(prepared)
    encoded = opened.encoder.encode(online, labels=False)
    np.testing.assert_array_equal(encoded.categorical, opened.encoded.categorical[rows])
    np.testing.assert_array_equal(encoded.numeric, opened.encoded.numeric[rows])
    np.testing.assert_array_equal(encoded.sequences["seen"][:], opened.encoded.sequences["seen"][rows])
    model = ctrkit.train(data=prepared).trained
    again = ctrkit.get_features(keys, store=store, key="user", model=model)
    assert again.features == pushed.features
    assert ctrkit.push_features(prepared, store=store, key="user", model=model).features == pushed.features
    other = ctrkit.train({**config, "source": None}, table.head(400)).trained
    with pytest.raises(DataError, match="have version"):
        ctrkit.push_features(prepared, store=store, key="user", model=other)
    file.unlink()
    with pytest.raises(DataError, match="raw files of these data are missing"):
        ctrkit.push_features(prepared, store=store, key="user")


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
