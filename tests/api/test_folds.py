"""Trainings divided by user, and repeated for every fold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

import ctrkit
from ctrkit.api.models.labelled import labelled_rows
from ctrkit.data import raw_table
from ctrkit.data.store import open_store
from ctrkit.errors import ConfigError, DataError

pytestmark = [
    pytest.mark.filterwarnings("ignore::ctrkit.training.TrainingWarning"),
    pytest.mark.filterwarnings("ignore::ctrkit.calibration.CalibrationWarning"),
]
CONFIG: dict[str, Any] = {
    "features": {"categorical": [{"name": "ad"}]},
    "split": {"by": "user", "key": "user"},
    "model": {"name": "lr", "crosses": []},
}


def made(rows: int = 1200) -> pl.DataFrame:
    random = np.random.default_rng(0)
    ad, user = random.integers(0, 5, rows), random.integers(0, 150, rows)
    names = [None if one == 7 else f"u{one}" for one in user]
    click = (random.random(rows) < 0.1 + 0.15 * ad).astype(np.int8)
    return pl.DataFrame({"user": names, "ad": ad, "click": click})


def test_every_fold_is_trained_and_metrics_have_intervals(tmp_path: Path) -> None:
    file, out = tmp_path / "log.parquet", tmp_path / "run"
    made().write_parquet(file)
    result = ctrkit.train(CONFIG, file, folds=3, model=tmp_path / "m.pt", out=out)
    written = json.loads((out / "metrics.json").read_text())
    values = [
        json.loads((out / f"fold-{fold}" / "metrics.json").read_text())["metrics"]["click"]["auc"]
        for fold in range(3)
    ]
    assert written["folds"]["click"]["auc"]["values"] == values
    mean, half = np.mean(values), stats.t.ppf(0.975, 2) * stats.sem(values)
    found = result.folds["click"]["auc"].mean
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((mean, mean - half, mean + half))
    assert written["metrics"]["click"]["auc"] == values[0]
    assert any(table.title.startswith("Test rows of 3 folds") for table in result.report().tables)
    assert "over 3 folds" in result.report().answer
    single = {**CONFIG, "split": {**CONFIG["split"], "folds": 3, "fold": 1}}
    alone = ctrkit.train(single, file, model=tmp_path / "one.pt")
    assert alone.metrics["click"]["auc"] == values[1]
    assert alone.folds == {}
    for model, fold in (("m.pt", 0), ("one.pt", 1)):  # the artifact knows its division
        opened = labelled_rows(ctrkit.load(tmp_path / model), None)
        assert opened.split is not None
        assert (
            opened.split.test.size
            == json.loads((out / f"fold-{fold}" / "metrics.json").read_text())["rows"]["test"]
        )
    calibrated = ctrkit.calibrate(ctrkit.load(tmp_path / "one.pt"), made(3000)[1200:], method="platt")
    assert calibrated.tasks  # of new rows, all are divided, and not into folds


def test_prepared_rows_are_divided_by_user_as_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw_table, "ROWS", 77)
    file, folder = tmp_path / "log.csv", tmp_path / "prepared"
    made().write_csv(file)
    config = {**CONFIG, "split": {**CONFIG["split"], "folds": 4, "fold": 3}}
    ctrkit.prepare(config, file, out=folder)
    trained = ctrkit.train(config, file)
    assert ctrkit.train(data=folder).metrics == trained.metrics
    store = open_store(folder)
    assert store.split.describe() == trained.rows
    users = [set(made()["user"][rows].drop_nulls()) for rows in (store.split.train, store.split.test)]
    assert not users[0] & users[1]
    with pytest.raises(DataError, match=r"split.fold is 3 in the data and 2 in the config"):
        ctrkit.train({**config, "split": {**config["split"], "fold": 2}}, folder)
    with pytest.raises(DataError, match=r"split.by is"):
        ctrkit.train({**config, "split": {}}, folder)
    with pytest.raises(ConfigError, match="4 folds divide the rows 4 times"):
        ctrkit.prepare({**CONFIG, "split": {"by": "random", "folds": 4}}, file, out=tmp_path / "all")
