"""Prepared data: the same rows and numbers as in memory, complete or not there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import ctrkit
from ctrkit.api.models import training_rows as in_memory
from ctrkit.api.models.before_training import Notes
from ctrkit.api.models.labelled import labelled_rows
from ctrkit.api.models.training_config import TrainConfig
from ctrkit.data import raw_table
from ctrkit.data.encoder import Encoder
from ctrkit.data.store import MANIFEST, StoreWriter, open_store
from ctrkit.errors import DataError, RunError

ROWS = 1000
CONFIG: dict[str, Any] = {
    "features": {
        "categorical": [{"name": "ad", "min_count": 2}, {"name": "site", "buckets": 4}],
        "numeric": [{"name": "price", "transform": "log1p"}],
        "sequences": [{"name": "seen", "shares": "ad", "max_length": 3}],
        "bags": [
            {"name": "liked", "shares": "ad"},
            {"name": "tags", "weights": "tag_mass", "max_length": 2, "pooling": "sum"},
        ],
        "group": "user",
        "timestamp": "time",
        "weight": "mass",
    },
    "model": {"name": "lr"},
}


def made(seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    ad = rng.integers(0, 30, ROWS)
    return pl.DataFrame(
        {
            "time": 1_700_000_000 + np.arange(ROWS) // 2,
            "user": [None if one == 7 else f"u{one}" for one in rng.integers(0, 40, ROWS)],
            "ad": [None if one == 3 else f"a{one}" for one in ad],
            "site": rng.integers(0, 5, ROWS),
            "price": [None if one > 9 else float(one) for one in rng.lognormal(1, 1, ROWS)],
            "seen": ["|".join(f"a{one}" for one in rng.integers(0, 30, k % 5)) for k in range(ROWS)],
            "liked": ["|".join(f"a{one}" for one in rng.integers(0, 30, k % 3)) for k in range(ROWS)],
            "tags": ["|".join(f"t{one}" for one in rng.integers(0, 9, k % 4)) for k in range(ROWS)],
            "tag_mass": ["|".join(f"{one:.2f}" for one in rng.random(k % 4)) for k in range(ROWS)],
            "click": rng.random(ROWS) < (0.2 + 0.02 * ad),
            "mass": rng.integers(0, 3, ROWS).astype(float),
        }
    ).with_columns(pl.col("click").cast(pl.Int8))


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_table, "ROWS", 77)


@pytest.mark.slow
@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(("ending", "by"), [("parquet", "time"), ("csv", "random")])
def test_prepared_rows_are_those_in_memory(tmp_path: Path, ending: str, by: str) -> None:
    table = made()
    files = [tmp_path / f"{part}.{ending}" for part in (0, 1)]
    for part, file in zip((table[:300], table[300:]), files, strict=True):
        part.write_parquet(file) if ending == "parquet" else part.write_csv(file)
    settings = {**CONFIG, "split": {"by": by}, "seed": 3}
    result = ctrkit.prepare(settings, str(tmp_path / f"*.{ending}"), out=tmp_path / "prepared")
    store = open_store(tmp_path / "prepared")
    config, notes = TrainConfig.model_validate(settings), Notes()
    read, file = config.features.read(str(tmp_path / f"*.{ending}"))
    rows = in_memory.training_rows(config, read, file, notes)
    assert store.encoder.state() == rows.encoder.state()
    assert set(store.encoded.arrays()) == set(rows.encoded.arrays())
    for name, array in rows.encoded.arrays().items():
        np.testing.assert_array_equal(store.encoded.arrays()[name][:], array[:], name)
    assert store.encoded.fingerprint() == rows.encoded.fingerprint()
    for part, name in (("train", "train_data"), ("valid", "val_data"), ("test", "test_data")):
        np.testing.assert_array_equal(getattr(store.split, part), getattr(rows.split, part))
        written = pl.read_parquet(tmp_path / "prepared" / f"{name}.parquet")
        assert written.height == result.rows[part] == getattr(rows.split, part).size
        chosen = rows.encoded.categorical[getattr(rows.split, part), 0]
        np.testing.assert_array_equal(written["ad"].to_numpy(), chosen)
    known = rows.describe(notes)
    recorded = store.record["data"]
    assert recorded["times"] == known["times"]
    assert recorded["unknown"] == known["unknown"]
    seen = store.arrays["seen"]
    for one, other in ((seen, known["seen"]), (seen["event"], known["seen"]["event"])):
        assert one["alike"] == other["alike"]
        np.testing.assert_array_equal(one["sample"], other["sample"])
        np.testing.assert_array_equal(one["filter"], other["filter"])
    assert recorded["profile"] == known["profile"]
    assert store.record["notes"] == list(result.notes)
    assert {*result.to_dict()} >= {"rows", "version", "out"}
    trained = ctrkit.train(data=tmp_path / "prepared")
    assert trained.metrics == ctrkit.train(settings, str(tmp_path / f"*.{ending}")).metrics


@pytest.mark.slow
def test_training_prepares_where_it_is_told_to_and_reuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, out = tmp_path / "log.parquet", tmp_path / "run"
    made().write_parquet(file)
    plain = ctrkit.train(CONFIG, file)
    first = ctrkit.train(CONFIG, file, out=out, prepare_data=True)
    assert first.metrics == plain.metrics
    assert first.artifact.encoder == plain.artifact.encoder
    monkeypatch.setattr("ctrkit.api.models.stored_rows.LARGE", 0)
    store = out / "prepared" / MANIFEST
    before = store.stat().st_mtime_ns
    assert ctrkit.train(CONFIG, file, out=out).metrics == plain.metrics
    assert store.stat().st_mtime_ns == before  # neither data nor settings have changed
    ctrkit.train(CONFIG, file, out=out, seed=1)
    assert store.stat().st_mtime_ns > before
    before = store.stat().st_mtime_ns
    made(1).write_parquet(file)
    ctrkit.train(CONFIG, file, out=out, seed=1)
    assert store.stat().st_mtime_ns > before


@pytest.mark.usefixtures("small_chunks")
def test_rows_of_a_source_are_prepared_in_parts(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    made().write_parquet(tmp_path / "files" / "log.parquet")
    settings = {**CONFIG, "source": "table"}
    plain = ctrkit.train(settings, tmp_path / "files")
    result = ctrkit.train(settings, tmp_path / "files", out=tmp_path / "run", prepare_data=True)
    assert result.artifact.data["fingerprint"] == plain.artifact.data["fingerprint"]
    assert result.data == plain.data
    assert result.metrics == plain.metrics
    assert {one.name for one in (tmp_path / "run" / "prepared").iterdir()} >= {MANIFEST, "test_data.parquet"}
    assert not [*(tmp_path / "run" / "prepared").glob(".raw*")]


@pytest.mark.slow
@pytest.mark.usefixtures("small_chunks")
def test_derived_histories_are_stored_once_and_train_as_in_memory(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    made().drop("seen").write_parquet(tmp_path / "files" / "log.parquet")
    settings = json.loads(json.dumps({**CONFIG, "source": "table"}))
    settings["derive"] = [
        {
            "name": "history", "history": "own", "by": "user", "time": "time", "gap": "gap",
            "columns": {"seen": "ad", "sites": "site"}, "length": 9,
        }
    ]  # fmt: skip
    listed = ({"name": "sites", "max_length": 3}, {"name": "gap", "max_length": 3})
    settings["features"]["sequences"] += listed
    plain = ctrkit.train(settings, tmp_path / "files")
    ctrkit.prepare(settings, tmp_path / "files", out=tmp_path / "prepared")
    trained = ctrkit.train(data=tmp_path / "prepared")
    assert trained.artifact.data["fingerprint"] == plain.artifact.data["fingerprint"]
    assert trained.metrics == plain.metrics
    stored = open_store(tmp_path / "prepared").encoded.sequences
    # A user's events once; a gap is a row's own.
    assert stored["seen"].ids.size == stored["sites"].ids.size < ROWS < stored["gap"].ids.size
    assert int(stored["seen"].lengths.sum()) > 2 * ROWS
    assert [one.ids.dtype for one in stored.values()] == [np.int32, np.uint8, np.uint8]


DERIVING = {
    **CONFIG,
    "derive": [
        {"name": "rate", "by": "ad", "prior": 0.1, "time": "time", "makes": {"ad_rate": "rate"}},
        {"name": "history", "history": "views", "events": "views", "by": "user", "time": "time", "length": 3,
         "columns": {"viewed": "ad"}},
    ],
    "features": {
        **CONFIG["features"],
        "numeric": [{"name": "price", "transform": "log1p"}, {"name": "ad_rate"}],
        "sequences": [{"name": "viewed", "shares": "ad", "max_length": 3}],
    },
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_columns_of_a_table_are_derived_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """Rows of text files are derived in memory, as their types are known only when all are read."""
    views, glob, out = tmp_path / "views.parquet", str(tmp_path / "log*"), tmp_path / "run"
    made(2).select("user", "time", "ad").write_parquet(views)
    for part, table in enumerate((made()[:300], made()[300:])):
        file = tmp_path / f"log{part}.{ending}"
        table.write_parquet(file) if ending == "parquet" else table.write_csv(file)
    settings = {**DERIVING, "events": {"views": str(views)}}
    plain = ctrkit.train(settings, glob)
    if ending == "parquet":
        monkeypatch.delattr("ctrkit.api.models.raw_rows.derive")
    result = ctrkit.train(settings, glob, out=out, prepare_data=True)
    assert result.artifact.data["fingerprint"] == plain.artifact.data["fingerprint"]
    assert result.metrics == plain.metrics
    monkeypatch.setattr("ctrkit.api.models.stored_rows.LARGE", 0)
    store = out / "prepared" / MANIFEST
    before = store.stat().st_mtime_ns
    ctrkit.train(settings, glob, out=out)
    assert store.stat().st_mtime_ns == before
    made(3).select("user", "time", "ad").write_parquet(views)
    ctrkit.train(settings, glob, out=out)
    assert store.stat().st_mtime_ns > before  # other events


def test_tables_that_cannot_be_derived_from_are_named_in_a_sentence(tmp_path: Path) -> None:
    views, file = tmp_path / "views.parquet", tmp_path / "log.parquet"
    made(2).select("user", "time", "ad").write_parquet(views)
    settings = {**DERIVING, "events": {"views": str(views)}}
    made().with_columns(site=pl.col("site") + 0.5).write_parquet(file)
    with pytest.raises(DataError) as caught:
        ctrkit.prepare(settings, file, out=tmp_path / "prepared")
    told = f"{file}, column 'site': ids are integers or text, not Float64."
    assert str(caught.value) == f"{told} Cast the column, or declare it as numeric."
    made()[:0].write_parquet(file)
    with pytest.raises(DataError, match="the table has no rows"):
        ctrkit.prepare(settings, file, out=tmp_path / "prepared")
    assert not (tmp_path / "prepared").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("by", ["time", "random"])
def test_sums_are_prepared_in_parts(tmp_path: Path, by: str) -> None:
    table = (
        made().drop("mass").with_columns(shown=pl.int_range(pl.len()) % 5, clicks=pl.int_range(pl.len()) % 3)
    )
    table = table.with_columns(clicks=pl.min_horizontal("shown", "clicks"))
    table.write_csv(tmp_path / "sums.csv")
    features = {**CONFIG["features"], "impressions": "shown", "labels": {"click": "clicks"}}
    del features["weight"]
    settings = {**CONFIG, "features": features, "split": {"by": by}}
    plain = ctrkit.train(settings, tmp_path / "sums.csv")
    result = ctrkit.train(settings, tmp_path / "sums.csv", out=tmp_path / "run", prepare_data=True)
    assert result.artifact.data["fingerprint"] == plain.artifact.data["fingerprint"]
    assert result.artifact.data["split"] == plain.artifact.data["split"]
    assert result.metrics == plain.metrics


def test_other_features_and_versions_are_refused_with_what_differs(tmp_path: Path) -> None:
    made().write_parquet(tmp_path / "log.parquet")
    ctrkit.prepare(CONFIG, tmp_path / "log.parquet", out=tmp_path / "one")
    other = json.loads(json.dumps(CONFIG))
    other["features"]["categorical"] = [{"name": "ad", "min_count": 3}]
    with pytest.raises(DataError) as caught:
        ctrkit.train(other, tmp_path / "one")
    assert "features.categorical.ad.min_count is 2 in the data and 3 in the config" in str(caught.value)
    assert "features.categorical.site is only in the data" in str(caught.value)
    model = ctrkit.train(data=tmp_path / "one").trained
    assert labelled_rows(model, tmp_path / "one").split is not None  # its training table
    made(1).write_parquet(tmp_path / "log2.parquet")
    ctrkit.prepare(CONFIG, tmp_path / "log2.parquet", out=tmp_path / "two")
    with pytest.raises(DataError, match=r"the data have version .* the model has version .*"):
        labelled_rows(model, tmp_path / "two")


@pytest.mark.slow
@pytest.mark.usefixtures("small_chunks")
def test_what_is_killed_or_has_no_room_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made().write_parquet(tmp_path / "log.parquet")
    out, calls = tmp_path / "prepared", iter(range(1000))
    encode = Encoder.encode

    def killed(self: Encoder, *arguments: Any, **options: Any) -> Any:
        if next(calls) > 5:
            raise KeyboardInterrupt
        return encode(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "encode", killed)
        with pytest.raises(KeyboardInterrupt):
            ctrkit.prepare(CONFIG, tmp_path / "log.parquet", out=out)
    assert not out.exists()
    ctrkit.prepare(CONFIG, tmp_path / "log.parquet", out=out)
    before = {file.name: file.read_bytes() for file in out.iterdir() if file.suffix in (".npy", ".json")}

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "_append", full)
        with pytest.raises(RunError, match="cannot be written: no space left on device"):
            ctrkit.prepare(CONFIG, tmp_path / "log.parquet", out=out)
    left = {file.name: file.read_bytes() for file in out.iterdir() if file.suffix in (".npy", ".json")}
    assert {**left, "metrics.json": b""} == {**before, "metrics.json": b""}
    assert not [name for name in os.listdir(out) if name.endswith(".part")]
    ctrkit.train(data=out)


def test_a_folder_that_is_not_complete_or_damaged_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "prepared"
    ctrkit.prepare(CONFIG, made(), out=out)
    content = (out / "labels.npy").read_bytes()
    (out / "labels.npy").write_bytes(content[:-4])
    with pytest.raises(DataError, match="damaged"):
        ctrkit.train(data=out)
    (out / "labels.npy").write_bytes(content)
    manifest = (out / MANIFEST).read_text()
    (out / MANIFEST).write_text(manifest.replace('"format": 2', '"format": 1'))
    with pytest.raises(DataError, match=r"of an earlier version of ctrkit.* Prepare the data again"):
        ctrkit.train(data=out)
    (out / MANIFEST).unlink()
    with pytest.raises(DataError, match=r"not complete.* Prepare the data again"):
        ctrkit.train(data=out)
