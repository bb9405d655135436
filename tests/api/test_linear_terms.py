"""Linear terms and crosses of fields through `ctrkit.train`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import ctrkit
from ctrkit.errors import ConfigError, DataError

pytestmark = pytest.mark.filterwarnings("ignore::ctrkit.calibration.CalibrationWarning")

CONFIG: dict[str, Any] = {
    "features": {
        "labels": {"click": "click"},
        "categorical": [{"name": name} for name in ("ad", "site", "hour")],
        "numeric": [{"name": "price"}],
    },
    "split": {"train": 0.6, "valid": 0.2},
    "model": {"name": "dnn", "embedding": 4, "hidden": [8], "crosses": "auto"},
    "training": {"epochs": 1, "batch_size": 512},
}


def made(rows: int = 6000, seed: int = 0) -> pl.DataFrame:
    """Clicks that only the combination of ad and site decides."""
    rng = np.random.default_rng(seed)
    ad, site = rng.integers(0, 8, rows), rng.integers(0, 6, rows)
    rate = 1.0 / (1.0 + np.exp(1.0 - 1.2 * np.where(ad % 2 == site % 2, 1, -1)))
    return pl.DataFrame(
        {
            "ad": ad,
            "site": site,
            "hour": rng.integers(0, 24, rows),
            "price": rng.normal(size=rows),
            "click": (rng.random(rows) < rate).astype(np.int8),
        }
    )


def with_crosses(crosses: Any) -> dict[str, Any]:
    return {**CONFIG, "model": {**CONFIG["model"], "crosses": crosses}}


def test_crosses_that_are_found_are_told_and_kept(tmp_path: Path) -> None:
    said: list[str] = []
    result = ctrkit.train(
        CONFIG, made(), model=tmp_path / "m.pt", on_step=lambda done, total, what: said.append(what)
    )
    assert result.found == {"crosses": [["ad", "site"]]}
    assert said[0] == "choosing crosses of fields"
    assert "fitting linear terms" in said
    first = result.history.events[0]
    assert first["epoch"] == 0
    loaded = ctrkit.load(tmp_path / "m.pt")
    assert loaded.artifact.config["model"]["crosses"] == [["ad", "site"]]
    new = made(seed=1)
    probability = loaded.predict(new)["click"].to_numpy()
    same = (new["ad"] % 2 == new["site"] % 2).to_numpy()
    assert probability[same].mean() == pytest.approx(1 / (1 + np.exp(-0.2)), abs=0.04)
    assert probability[~same].mean() == pytest.approx(1 / (1 + np.exp(2.2)), abs=0.04)
    np.testing.assert_array_equal(probability, result.trained.predict(new)["click"].to_numpy())


def test_lr_is_the_fit_alone() -> None:
    with pytest.raises(ConfigError, match=r"'training.epochs' is for gradient steps, and the model 'lr'"):
        ctrkit.train({**CONFIG, "model": "lr"}, made())
    without = {key: value for key, value in CONFIG.items() if key != "training"}
    result = ctrkit.train({**without, "model": "lr"}, made())
    assert result.found == {"crosses": [["ad", "site"]]}
    assert [event["epoch"] for event in result.history.events] == [0]
    # The AUC of two rates, 0.55 and 0.10, of half of the rows each.
    assert result.metrics["click"]["auc"] == pytest.approx(0.757, abs=0.04)


def test_a_config_with_the_crosses_that_were_found_gives_the_same_weights() -> None:
    table = made()
    first, again = (ctrkit.train(with_crosses(one), table).artifact for one in ("auto", [["ad", "site"]]))
    assert first.weights.keys() == again.weights.keys()
    assert all(np.array_equal(value, again.weights[name]) for name, value in first.weights.items())


def test_where_nothing_is_evident_there_are_no_crosses() -> None:
    table = made().with_columns(pl.Series("click", np.random.default_rng(3).integers(0, 2, 6000)))
    result = ctrkit.train(CONFIG, table)
    assert result.found == {"crosses": []}
    assert "linear.cells" in result.artifact.weights
    plain = ctrkit.train(with_crosses(None), made())
    assert plain.found == {}
    assert not any(name.startswith("linear.") for name in plain.artifact.weights)
    assert plain.history.events[0]["epoch"] > 0


def test_a_cross_of_an_unknown_field_is_told() -> None:
    with pytest.raises(ConfigError, match=r"model.crosses: 'sit' is no.*Did you mean 'site'"):
        ctrkit.train(with_crosses([["ad", "sit"]]), made(600))


@pytest.mark.parametrize(
    "crosses", [[["ad", "site", "hour", "price"]], [["ad"]], [[]], [["ad", "ad"]], ["ad", "site"], True]
)
def test_a_cross_joins_two_or_three_fields(crosses: Any) -> None:
    with pytest.raises(ConfigError, match="crosses"):
        ctrkit.train(with_crosses(crosses), made())


def test_a_table_without_weights_is_told_as_without_crosses() -> None:
    features = {**CONFIG["features"], "weight": "w"}
    table = made(600).with_columns(w=pl.lit(0.0))
    for crosses in (None, "auto"):
        with pytest.raises(DataError, match="weight 0"):
            ctrkit.train({**with_crosses(crosses), "features": features}, table)


@pytest.mark.slow
def test_a_resumed_run_of_the_market_is_bit_equal(logs: Path, tmp_path: Path, small: tuple[str, ...]) -> None:
    class Stop(Exception):
        pass

    def stop(done: int, total: int, what: str) -> None:
        if done == 20:
            raise Stop

    overrides = [
        *small,
        "model.crosses=[[device,hour],[ad_id,device,ad_price]]",
        "training.checkpoint_steps=7",
    ]
    arguments: dict[str, Any] = {"data": logs / "impressions.parquet", "overrides": overrides}
    whole = ctrkit.train(**arguments, out=tmp_path / "whole")
    with pytest.raises(Stop):
        ctrkit.train(**arguments, out=tmp_path / "broken", on_step=stop)
    again = ctrkit.train(**arguments, out=tmp_path / "broken")
    assert again.history.resumed
    assert not whole.history.resumed
    assert [one["epoch"] for one in again.history.events] == [one["epoch"] for one in whole.history.events]
    assert again.history.events[0]["epoch"] == 0
    assert again.history.events == whole.history.events
    weights = whole.artifact.weights
    assert "linear.cells" in weights
    assert np.abs(weights["linear.cells"]).max() > 0.01
    for name, value in weights.items():
        np.testing.assert_array_equal(again.artifact.weights[name], value, err_msg=name)


def test_crosses_are_chosen_before_a_search_of_the_model(tmp_path: Path) -> None:
    model = {
        "name": "mdaf", "embedding": 4, "width": 8, "branches": ["cross", "fields"], "crosses": "auto",
        "fusion": {"name": "optfusion"},
    }  # fmt: skip
    stages: list[str] = []
    result = ctrkit.train(
        {**CONFIG, "model": model}, made(), on_step=lambda done, total, what: stages.append(what)
    )
    assert set(result.found) == {"crosses", "fusion"}
    assert result.found["crosses"] == [["ad", "site"]]
    order = ["choosing crosses of fields", "search, fitting linear terms", "fitting linear terms"]
    assert [one for one in stages if "epoch" not in one] == order
    assert result.artifact.config["model"]["crosses"] == [["ad", "site"]]


def test_it_is_told_where_a_network_adds_nothing() -> None:
    """Steps as long as these only do harm, so that the linear terms are kept."""
    hasty = {"epochs": 1, "batch_size": 512, "optimizer": {"learning_rate": 3.0}}
    result = ctrkit.train({**CONFIG, "training": hasty}, made(1500))
    assert result.history.best["epoch"] == 0
    assert any("no better than the linear terms" in note for note in result.notes)
