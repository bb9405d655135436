"""Models whose config derives columns: raw rows in, the same columns in training and prediction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import ctrkit
from ctrkit.api.models.training_config import load_train_config, read_training_table
from ctrkit.errors import ConfigError, DataError, DataWarning

CONFIG = {
    "features": {
        "categorical": [{"name": "item_id"}],
        "numeric": [{"name": "ctr"}, {"name": "views"}],
        "sequences": [{"name": "viewed", "shares": "item_id"}],
        "group": "user_id",
        "timestamp": "timestamp",
    },
    "derive": [
        {"name": "rate", "by": "item_id", "prior": 0.1, "makes": {"ctr": "rate"}},
        {
            "name": "history", "history": "views", "by": "user_id", "events": "views",
            "columns": {"viewed": "item_id"},
        },
        {"name": "since", "history": "views", "makes": {"views": "count"}},
    ],
    "model": {"name": "lr"},
}  # fmt: skip


@pytest.fixture(scope="module")
def raw() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    ids = {"user_id": rng.integers(0, 20, 400), "item_id": rng.integers(0, 5, 400)}
    return pl.DataFrame(
        {**ids, "click": rng.integers(0, 2, 400), "timestamp": 1_700_000_000 + 60 * np.arange(400)}
    )


@pytest.fixture(scope="module")
def views(raw: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("events") / "views.csv"
    raw.select("user_id", "item_id", pl.col("timestamp") - 30)[::2].write_csv(path)
    return path


@pytest.fixture(scope="module")
def model(raw: pl.DataFrame, views: Path) -> ctrkit.Model:
    config = {**CONFIG, "events": {"views": str(views)}}
    return ctrkit.train(config, raw).trained


def test_a_raw_table_is_predicted_like_one_with_the_columns(
    model: ctrkit.Model, raw: pl.DataFrame, views: Path, tmp_path: Path
) -> None:
    config = load_train_config({**CONFIG, "events": {"views": str(views)}})
    whole = read_training_table(config, raw)[0]
    assert whole["views"].sum() > 1000
    expected = model.predict(whole)
    with pytest.warns(DataWarning, match="'ctr' is counted from the rows of this table alone"):
        assert model.predict(raw).equals(expected)
    raw.write_csv(tmp_path / "raw.csv")
    with pytest.warns(DataWarning, match="'ctr' is counted"):
        found = ctrkit.predict(model, tmp_path / "raw.csv", chunk=7)
    assert found.table is not None
    assert found.table.select("click").equals(expected)
    assert ctrkit.predict(model, whole, chunk=7).table.select("click").equals(expected)  # type: ignore[union-attr]


def test_rows_to_predict_may_stand_below_their_past(model: ctrkit.Model, raw: pl.DataFrame) -> None:
    is_past = pl.col("timestamp") < raw["timestamp"][-1]
    unlabelled = raw.with_columns(click=pl.when(is_past).then("click"))
    with pytest.warns(DataWarning, match="'ctr' is counted"):
        known, unknown = (model.predict(table)["click"] for table in (raw, unlabelled))
    assert known.equals(unknown)


def test_what_is_missing_is_named(model: ctrkit.Model, raw: pl.DataFrame, views: Path) -> None:
    other = views.with_name("other.csv")
    other.write_text("user_id,timestamp\n1,1700000000\n")
    for events, table, message in (
        (
            {},
            raw,
            "lacks 'ctr', 'viewed', 'views', which are derived from the events 'views', and they are not",
        ),
        ({"views": str(other)}, raw, "views, column 'item_id': the column is missing, from which others"),
        (
            {"views": str(views)},
            raw.with_columns(ctr=0.5),
            "column 'ctr': .* has this column, which is to be",
        ),
    ):
        with pytest.raises(DataError, match=message):
            read_training_table(load_train_config({**CONFIG, "events": events}), table)
    with (
        pytest.warns(DataWarning, match="'ctr' is counted"),
        pytest.raises(DataError, match="column 'click': the column is missing, from which others"),
    ):
        model.predict(raw.drop("click"))


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([{"name": "rates"}], "there is no derive step 'rates'. Did you mean 'rate'"),
        (
            [{"name": "rate", "by": "a", "prior": 2, "makes": {"x": "rate"}}],
            "prior is 2 and must be at most 1",
        ),
        (
            [{"name": "rate", "by": "a", "prior": 0.1, "makes": {"x": "rat"}}],
            "no measure 'rat'. Did you mean 'rate'",
        ),
        ([{"name": "since", "history": "h", "makes": {"x": "count"}}], "there is no history 'h'"),
        ([{"name": "cross", "of": "a", "makes": "x"}] * 2, "makes the column 'x', which .* makes too"),
        ([{"name": "calendar", "makes": {"x": "holiday"}}], "knows no holidays"),
        (
            [{"name": "within", "by": "a", "of": "b", "makes": {"x": "to_above"}}],
            "goes by the order of the list",
        ),
        ([{"name": "history", "history": "h", "by": "a", "step": "s"}], "needs the column of the session"),
        ({"name": "cross"}, "derive must be a list of steps"),
    ],
)
def test_wrong_steps_are_refused(steps: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_train_config({**CONFIG, "derive": steps})
