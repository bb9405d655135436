"""Histories of several domains through training, prepared folders, artifacts and predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import ctrkit
from ctrkit.errors import ConfigError, DataError
from ctrkit.metrics import auc

pytestmark = [
    pytest.mark.filterwarnings("ignore::ctrkit.errors.TrainingWarning"),
    pytest.mark.filterwarnings("ignore::ctrkit.errors.DataWarning"),
]
ROWS = 3000
FEATURES: dict[str, Any] = {
    "labels": {"click": "click"},
    "categorical": [{"name": "ad", "min_count": 1}],
    "sequences": [
        {"name": "seen", "shares": "ad", "max_length": 8},
        {"name": "bought", "shares": "ad", "domain": "purchases", "max_length": 3},
        {"name": "price", "domain": "purchases", "max_length": 3},
    ],
}
NETWORK: dict[str, Any] = {
    "model": {"name": "din", "embedding": 8},
    "training": {"epochs": 3, "batch_size": 256, "optimizer": {"learning_rate": 0.01}},
    "split": {"by": "random"},
}


def rows(seed: int = 0) -> pl.DataFrame:
    """Clicks on ads that were bought before; what was only seen does not matter."""
    rng = np.random.default_rng(seed)
    ad = rng.integers(0, 12, ROWS)
    seen = [rng.integers(0, 12, n).tolist() for n in rng.integers(0, 9, ROWS)]
    bought = [rng.integers(0, 12, n).tolist() for n in rng.integers(0, 4, ROWS)]
    score = np.array([3.0 * (one in events) for one, events in zip(ad, bought, strict=True)])
    return pl.DataFrame(
        {
            "ad": ad,
            "seen": pl.Series(seen, dtype=pl.List(pl.Int64)),
            "bought": pl.Series(bought, dtype=pl.List(pl.Int64)),
            "price": pl.Series([[one % 3 for one in events] for events in bought], dtype=pl.List(pl.Int64)),
            "click": (rng.random(ROWS) < 1 / (1 + np.exp(2.0 - score))).astype(np.int8),
        }
    )


def settings(**features: Any) -> dict[str, Any]:
    return {"features": {**FEATURES, **features}, **NETWORK}


@pytest.fixture(scope="module")
def model() -> ctrkit.Model:
    return ctrkit.train(settings(), rows()).trained


def test_what_the_second_domain_says_is_learnt(model: ctrkit.Model) -> None:
    table = rows(1)
    alone = ctrkit.train(settings(sequences=FEATURES["sequences"][:1]), rows()).trained
    found, without = (auc(table["click"], one.predict(table)["click"]) for one in (model, alone))
    assert without < 0.55
    assert found > 0.7


def test_the_artifact_predicts_the_same_wherever_its_rows_come_from(
    model: ctrkit.Model, tmp_path: Path
) -> None:
    table, file = rows(1).head(300), tmp_path / "rows.parquet"
    rows().write_parquet(file)
    prepared = ctrkit.prepare(settings(), file, out=tmp_path / "prepared")
    trained = ctrkit.train(settings(), prepared.out, model=tmp_path / "model.pt").trained
    wanted = model.predict(table)["click"].to_numpy()
    np.testing.assert_array_equal(trained.predict(table)["click"], wanted)
    np.testing.assert_array_equal(ctrkit.load(tmp_path / "model.pt").predict(table)["click"], wanted)
    padded = table.with_columns(pl.col("seen").list.tail(8), pl.col("bought").list.tail(3))
    np.testing.assert_array_equal(model.predict(padded)["click"], wanted)


def test_sequences_of_one_domain_stay_aligned() -> None:
    table = rows().with_columns(pl.col("price").list.head(1))
    with pytest.raises(DataError, match=r"than the list of 'bought'.*own `?domain|`domain` of its own"):
        ctrkit.train(settings(), table)
    one = [{**sequence, "domain": None} for sequence in FEATURES["sequences"]]
    with pytest.raises(DataError, match="another length than the list of 'seen'"):
        ctrkit.train(settings(sequences=one), rows())
    with pytest.raises(ConfigError, match="domain"):
        ctrkit.train(settings(sequences=[{"name": "seen", "domain": ""}]), rows())


def test_trees_count_the_events_of_each_domain() -> None:
    pytest.importorskip("lightgbm")
    trees = {"name": "lightgbm", "rounds": 20, "leaves": [8], "rows_of_leaf": 10}
    trained = ctrkit.train({"features": FEATURES, "split": NETWORK["split"], "model": trees}, rows()).trained
    table = rows(1)
    assert auc(table["click"], trained.predict(table)["click"]) > 0.7
    assert trained.network.counted == ["seen", "bought"]


def test_events_are_explained_by_domain(model: ctrkit.Model, tmp_path: Path) -> None:
    pytest.importorskip("captum")
    told = ctrkit.explain(model, rows(1).head(400), rows=[5, 6, 7])
    for row in told.rows:
        of_purchases = [event for event in row.events if "bought" in event.parts]
        assert [event.age for event in of_purchases] == [*range(1, len(of_purchases) + 1)]
        assert all({*event.parts} in ({"seen"}, {"bought", "price"}) for event in row.events)
        assert all({*event.attention} == {"din"} for event in row.events)
    steps = {step.feature for row in told.rows for step in row.contributions}
    assert {"past event 1 of seen", "past event 1 of bought"} <= steps


def test_all_derived_events_and_those_that_match_are_two_domains(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    log = pl.DataFrame(
        {
            "user": rng.integers(0, 40, ROWS),
            "ad": rng.integers(0, 12, ROWS),
            "time": 1_700_000_000 + np.arange(ROWS) * 60,
            "click": rng.integers(0, 2, ROWS),
        }
    ).with_columns(category=pl.col("ad") % 4)
    log.write_parquet(tmp_path / "log.parquet")
    history = {"name": "history", "history": "clicks", "by": "user", "where": {"click": 1}, "time": "time"}
    columns = {"clicked": "ad", "clicked_category": "category"}
    matched = {"name": "matched", "history": "clicks", "equal": "category", "columns": {"alike": "ad"}}
    config = {
        "derive": [{**history, "columns": columns, "length": 20}, {**matched, "length": 4}],
        "features": {
            "labels": {"click": "click"},
            "timestamp": "time",
            "categorical": [{"name": "ad", "min_count": 1}, {"name": "category", "min_count": 1}],
            "sequences": [
                {"name": "clicked", "shares": "ad", "max_length": 20},
                {"name": "clicked_category", "shares": "category", "max_length": 20},
                {"name": "alike", "shares": "ad", "domain": "alike", "max_length": 4},
            ],
        },
        "model": NETWORK["model"],
        "training": {**NETWORK["training"], "epochs": 1},
    }
    in_memory = ctrkit.train(config, log).trained
    prepared = ctrkit.prepare(config, tmp_path / "log.parquet", out=tmp_path / "prepared")
    on_disk = ctrkit.train(config, prepared.out).trained
    found, wanted = (one.predict(log)["click"].to_numpy() for one in (on_disk, in_memory))
    np.testing.assert_array_equal(found, wanted)
    features = in_memory.network.feature_map
    assert [one.length for one in features.domains] == [20, 4]
