"""Explanations through the flat function."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import ctrkit
from ctrkit.api.explanation.results import ModelExplanation, RowsExplanation
from ctrkit.errors import ConfigError, DataError

# Small enough for a test, on all kinds of parts.
QUICK = ("rows=400", "attributed_rows=20", "repeats=3", "grid=6", "dependence_rows=30")


@pytest.fixture(scope="module")
def table(logs: Path) -> pl.DataFrame:
    return pl.read_parquet(logs / "impressions.parquet")


def test_a_model_as_a_whole(trained: Path, table: pl.DataFrame, tmp_path: Path) -> None:
    pytest.importorskip("captum")
    told: list[str] = []
    result = ctrkit.explain(
        trained,
        out=tmp_path / "e",
        overrides=[*QUICK, "features=[user_age,ad_category]"],
        on_step=lambda done, total, what: told.append(what),
    )
    assert isinstance(result, ModelExplanation)
    assert result.rows == 400
    assert "400 of 1,200 test rows" in result.notes[0]
    spec = ctrkit.load(trained).spec
    assert {one.feature for one in result.importance} == {*spec.static_features, "past events"}
    falls = [one.auc.value for one in result.importance]
    assert falls == sorted(falls, reverse=True)
    assert result.shares is not None
    assert set(result.shares) == {one.feature for one in result.importance}
    assert all(share > 0 for share in result.shares.values())
    assert [one.feature for one in result.dependence] == ["user_age", "ad_category"]
    assert set(result.dependence[1].values) <= set(table["ad_category"].unique())
    assert result.map is not None
    assert set(result.map.names) <= {str(value) for value in table[result.map.of].unique()}
    assert result.gates[0].to_dict()["kind"] == "operations"
    assert "shuffling past events" in told
    folder = tmp_path / "e"
    assert {path.name for path in folder.iterdir()} == {
        "config.yaml",
        "figures",
        "metrics.json",
        "report.html",
    }
    assert {path.stem for path in (folder / "figures").iterdir()} == {
        "importance", "fusion", "dependence_1", "dependence_2", "embedding_map",
    }  # fmt: skip
    content = json.loads((folder / "metrics.json").read_text())
    assert content == {"command": "explain", **json.loads(result.to_json())}


def test_partial_dependence_is_the_models_prediction_of_a_changed_table(
    trained: Path, table: pl.DataFrame, tmp_path: Path
) -> None:
    model, part = ctrkit.load(trained), table.head(40)
    settings = ["method=ig", "features=[placement,user_age]", "dependence_rows=40", "grid=4", "map=none"]
    result = ctrkit.explain(model, part, out=tmp_path / "e", overrides=[*QUICK, *settings])
    assert isinstance(result, ModelExplanation)
    assert "table other than" in result.notes[0]
    assert result.map is None
    for found in result.dependence:
        for number, value in enumerate(found.values):
            column = pl.lit(value).cast(part.schema[found.feature]).alias(found.feature)
            expected = model.predict(part.with_columns(column))["click"].to_numpy()
            np.testing.assert_allclose(np.sort(found.curves[:, number]), np.sort(expected), rtol=1e-4)


@pytest.mark.parametrize("method", ["ig", "shap"])
def test_rows_are_told_with_the_values_of_the_table(
    method: str, trained: Path, table: pl.DataFrame, tmp_path: Path
) -> None:
    pytest.importorskip("captum" if method == "ig" else "shap")
    unlabelled = table.drop("click", "conversion")
    settings = [f"method={method}", "estimator=sampling", "permutations=2", "background=8"]
    result = ctrkit.explain(trained, unlabelled, rows=[5, 11_000, 5], out=tmp_path / "e", overrides=settings)
    assert isinstance(result, RowsExplanation)
    assert [told.row for told in result.rows] == [5, 11_000]
    model = ctrkit.load(trained)
    for told in result.rows:
        raw = table[told.row]
        expected = model.predict(raw)["click"].item()
        assert told.probability == pytest.approx(expected, rel=1e-5)
        shares = sum(step.logit for step in told.contributions)
        assert told.base_logit + shares + told.gap == pytest.approx(told.logit)
        assert abs(told.gap) <= max(0.01 * abs(told.logit - told.base_logit), 1.1e-3)
        values = {step.feature: step.value for step in told.contributions}
        assert values["ad_category"] == raw["ad_category"].item()
        assert float(values["user_age"]) == pytest.approx(raw["user_age"].item(), rel=1e-4)
        past = raw["history_ads"].item().to_list()[-20:]
        assert [event.parts["history_ads"] for event in told.events] == [str(ad) for ad in past[::-1]]
        assert all(set(event.attention) == {"target_attention", "din"} for event in told.events)
        if method == "ig":
            assert sum(name.startswith("past event ") for name in values) == len(past)
            in_all = sum(step.logit for step in told.contributions if step.feature.startswith("past event "))
            assert sum(event.logit or 0.0 for event in told.events) == pytest.approx(in_all)
        else:
            assert values["past events"] == f"{len(past)} events"
    report = result.report()
    assert "11000" in report.answer
    assert report.tables[0].rows[0][0] == "base"
    assert report.tables[0].rows[-1][0] == "this row"
    assert {path.stem for path in (tmp_path / "e" / "figures").iterdir()} == {"row_5", "row_11000"}
    assert json.loads(result.to_json())["rows"][0]["row"] == 5


def test_a_later_task_is_explained_where_it_can_happen(
    trained: Path, table: pl.DataFrame, tmp_path: Path
) -> None:
    pytest.importorskip("captum")
    settings = [*QUICK, "task=conversion", "map_of=hidden", "colour=frequency", "top=1"]
    clicked = table.filter(pl.col("click") == 1)
    result = ctrkit.explain(trained, table, out=tmp_path / "e", overrides=settings)
    assert isinstance(result, ModelExplanation)
    test_clicks = table.sort("timestamp")["click"].tail(1200).sum()
    assert result.rows == pytest.approx(test_clicks, abs=3)
    assert result.rows < clicked.height
    assert "test rows of the training table with a click" in result.notes[0]
    assert result.map is not None
    assert len(result.map.names) == result.rows
    assert len(result.dependence) == 1


@pytest.mark.slow
def test_without_captum_the_rest_is_there_and_what_was_asked_for_is_refused(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    result = ctrkit.explain(trained, out=tmp_path / "e", overrides=[*QUICK, "top=1"])
    assert isinstance(result, ModelExplanation)
    assert result.shares is None
    assert any("Attributions are left out" in note and "ctrkit[explain]" in note for note in result.notes)
    assert result.report().tables[0].header[-1] == "rise of log loss"
    for arguments in ({"rows": [1]}, {"overrides": [*QUICK, "method=ig"]}):
        with pytest.raises(ConfigError, match=r"needs the package 'captum'.*ctrkit\[explain\]"):
            ctrkit.explain(trained, out=tmp_path / "none", **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("rows", "overrides", "said"),
    [
        ([12_000], [], r"there is no row 12000\. The table has 12,000 rows, numbered from 0 to 11999"),
        ([-1], [], "there is no row -1"),
        ([], ["features=[user_aeg]"], "no feature 'user_aeg'. Did you mean 'user_age'"),
        ([], ["features=[history_ads]"], "'history_ads' is a history, which has no single value"),
        (
            [],
            ["map_of=ad_categry"],
            "'ad_categry' is no categorical feature to map. Did you mean 'ad_category'",
        ),
        ([], ["task=clik"], "no task 'clik'. Did you mean 'click'"),
        ([], ["method=igg"], "there is no 'igg'. Did you mean 'ig'"),
    ],
)
def test_bad_input_is_named_and_nothing_written(
    rows: list[int], overrides: list[str], said: str, trained: Path, tmp_path: Path
) -> None:
    with pytest.raises((ConfigError, DataError), match=said):
        ctrkit.explain(trained, rows=rows, out=tmp_path / "e", overrides=overrides)
    assert not (tmp_path / "e").exists()


def test_a_model_in_memory_needs_a_table_to_explain(
    trained: Path, table: pl.DataFrame, tmp_path: Path
) -> None:
    model = ctrkit.load(trained)
    model.artifact.data["file"] = None
    with pytest.raises(DataError, match="trained on a table in memory"):
        ctrkit.explain(model, rows=[1], out=tmp_path / "e")
