"""Delayed conversions on the whole road: in memory as prepared, trained, calibrated and evaluated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import ctrkit
from ctrkit.api.models import training_rows as in_memory
from ctrkit.api.models.before_training import Notes
from ctrkit.api.models.labelled import labelled_rows, training_overlap
from ctrkit.api.models.training_config import TrainConfig
from ctrkit.data import raw_table
from ctrkit.data.store import open_store
from ctrkit.errors import ConfigError

DAY = 86_400
DELAYS = {"conversion": {"window": "2d", "delay": "delay"}}
CONFIG: dict[str, Any] = {
    "features": {
        "categorical": [{"name": "ad"}],
        "labels": {"click": "click", "conversion": "conversion"},
        "timestamp": "time",
        "value": "paid",
    },
    "delays": DELAYS,
    "model": {"name": "lr"},
}


def log(rows: int = 6000, days: int = 20, seed: int = 0) -> pl.DataFrame:
    """Conversions after the end of the log are not in it."""
    rng = np.random.default_rng(seed)
    time, ad = np.sort(rng.integers(0, days * DAY, rows)), rng.integers(0, 4, rows)
    click = rng.random(rows) < 0.35 + 0.1 * ad
    delay = rng.exponential(DAY, rows).round()
    conversion = click & (rng.random(rows) < 0.2 + 0.1 * ad) & (time + delay < days * DAY)
    return pl.DataFrame(
        {
            "time": 1_700_000_000 + time,
            "ad": ad,
            "click": click.astype(int),
            "conversion": conversion.astype(int),
            "delay": pl.Series(delay).set(pl.Series(~conversion), None),
            "paid": rng.lognormal(0, 1, rows),
        }
    )


@pytest.mark.parametrize("immature", ["leave_out", "weight"])
def test_prepared_rows_are_those_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, immature: str
) -> None:
    monkeypatch.setattr(raw_table, "ROWS", 777)
    file, table = tmp_path / "log.parquet", log()
    table.write_parquet(file)
    settings = {**CONFIG, "delays": {"conversion": {**DELAYS["conversion"], "immature": immature}}}
    prepared = ctrkit.prepare(settings, file, out=tmp_path / "prepared")
    store = open_store(tmp_path / "prepared")
    notes = Notes()
    rows = in_memory.training_rows(TrainConfig.model_validate(settings), table, "log", notes)
    for name, array in rows.encoded.arrays().items():
        np.testing.assert_array_equal(store.encoded.arrays()[name], array, name)
    np.testing.assert_array_equal(store.arrays["seen"]["sample"], rows.describe(notes)["seen"]["sample"])
    written = pl.read_parquet(tmp_path / "prepared" / "train_data.parquet")["conversion"]
    np.testing.assert_array_equal(written.fill_null(np.nan), rows.encoded.labels[rows.split.train, 1])
    plain, trained = ctrkit.train(settings, file), ctrkit.train(data=tmp_path / "prepared")
    assert trained.metrics == plain.metrics
    assert trained.maturity == plain.maturity == prepared.maturity
    told = json.loads(json.dumps(plain.to_dict()))["delays"]["conversion"]
    assert told == json.loads(json.dumps(prepared.to_dict()))["delays"]["conversion"]
    assert 0.8 < told["matured"]["train"] < 1.0
    assert told["weighted" if immature == "weight" else "unseen"] > 20
    assert told["median_delay"] == pytest.approx(-np.log(1 - 0.5 * (1 - np.exp(-2))) * DAY, rel=0.1)
    assert any("within 2 days" in note for note in plain.report().notes)
    assert any(one.title == "Labels that come late" for one in plain.report().tables)


def test_what_comes_after_the_cut_does_not_change_the_training() -> None:
    """A log that ends at the first validation row teaches the same."""
    table = log()
    cut = ctrkit.train(CONFIG, table).artifact.data["split"]["boundaries"][0]
    later = pl.col("time") + pl.col("delay") > cut
    training = pl.col("time") < cut
    hidden = table.with_columns(
        conversion=pl.when(training & later).then(0).otherwise("conversion"),
        end=pl.lit(1_700_000_000 + 20 * DAY),
    )
    settings = {**CONFIG, "delays": {"conversion": {**DELAYS["conversion"], "end": 1_700_000_000 + 20 * DAY}}}
    models = [ctrkit.train(settings, one).trained for one in (table, hidden)]
    found, expected = (model.predict(table.head(20)) for model in models)
    assert found.equals(expected)


@pytest.mark.slow
def test_held_out_rows_are_matured_ones(tmp_path: Path) -> None:
    file, model, table = tmp_path / "log.parquet", tmp_path / "model.pt", log()
    table.write_parquet(file)
    trained = ctrkit.train(CONFIG, file, model=model)
    until = int(table["time"].max()) - 2 * DAY  # type: ignore[arg-type]
    test = table[trained.maturity[0].rows["train"] + trained.maturity[0].rows["valid"] :]
    matured = test.filter((pl.col("click") == 1) & (pl.col("time") <= until + DAY // 10))
    found = ctrkit.evaluate(model)
    assert found.tasks["click"].rows == test.height
    rows, positives = found.tasks["conversion"].rows, found.tasks["conversion"].positives
    assert matured.filter(pl.col("time") <= until).height <= rows <= matured.height
    assert rows == trained.metrics["conversion"]["rows"]
    assert positives == trained.metrics["conversion"]["positives"]
    assert found.tasks["click·conversion"].rows < test.height
    assert any("have not matured" in note for note in found.notes)
    opened = labelled_rows(ctrkit.load(model), tmp_path / "log.parquet")
    assert opened.split is not None
    assert np.isnan(opened.encoded.labels[opened.split.test, 1]).any()
    ctrkit.calibrate(model, method="platt")
    assert ctrkit.load(model).predict(table.select("ad").head(3)).height == 3
    other = ctrkit.evaluate(model, log(seed=1))
    assert other.tasks["conversion"].rows < log(seed=1)["click"].sum()
    assert ctrkit.explain(model, task="conversion", repeats=2, top=0).rows <= rows


def test_clicks_and_money_are_those_of_matured_rows() -> None:
    table = log()
    model = ctrkit.train(CONFIG, table).trained
    rows = labelled_rows(model, table)
    found = ctrkit.evaluate(model, table)
    labels = rows.encoded.labels[rows.split.test]
    known = ~np.isnan(labels[:, 1])
    assert 0 < (~known).sum() < known.size
    wanted = {
        "impressions": known.sum(), "clicks": labels[known, 0].sum(), "conversions": labels[known, 1].sum(),
        "revenue": rows.encoded.value[rows.split.test][known].sum(),
    }  # fmt: skip
    assert {name: found.business[name] for name in wanted} == pytest.approx(wanted)
    assert any("the others have not matured" in note for note in found.report().notes)


def test_training_rows_are_recognised_though_their_labels_have_matured(tmp_path: Path) -> None:
    table = log().with_columns(pl.int_range(pl.len()).alias("user"))
    features = {**CONFIG["features"], "group": "user"}
    model = ctrkit.train({**CONFIG, "features": features}, table).trained
    again = labelled_rows(model, table[:4000])
    assert again.split is None
    seen = training_overlap(model, table[:4000], again.encoded)
    assert seen is not None
    assert seen.share > 0.95


@pytest.mark.parametrize("immature", ["leave_out", "weight"])
def test_conversions_of_clicks_alone(immature: str) -> None:
    """One task, which comes late: rows that have not matured are no rows at all."""
    table = log(8000).filter(pl.col("click") == 1)
    features = {**CONFIG["features"], "labels": {"conversion": "conversion"}}
    delays = {"conversion": {**DELAYS["conversion"], "immature": immature}}
    result = ctrkit.train({**CONFIG, "features": features, "delays": delays}, table)
    late = result.maturity[0]
    assert result.metrics["conversion"]["rows"] == late.rows["test"] - late.left_out["test"] > 100
    rates = result.trained.predict(pl.DataFrame({"ad": [0, 1, 2, 3]}))["conversion"].to_numpy()
    np.testing.assert_allclose(rates, (0.2 + 0.1 * np.arange(4)) * (1 - np.exp(-2)), atol=0.06)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"delays": {"convertion": DELAYS["conversion"]}}, "there is no task 'convertion'"),
        ({"delays": {"click": DELAYS["conversion"]}}, "'conversion' needs a window too"),
        ({"features": {**CONFIG["features"], "timestamp": None}}, "features.timestamp"),
        ({"features": {**CONFIG["features"], "numeric": [{"name": "delay"}]}}, "known only after"),
        ({"delays": {"conversion": {"window": "2d"}}}, "give one of"),
        (
            {"delays": {"conversion": {**DELAYS["conversion"], "immature": "weight"}}, "model": "lightgbm"},
            "boosted trees",
        ),
    ],
)
def test_faulty_settings_are_refused(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        ctrkit.train({**CONFIG, **change}, log())
