"""`ctrkit.evaluate` on small logs."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

import ctrkit
from ctrkit.api.evaluation.result import EvaluationResult
from ctrkit.data.synthetic import Market
from ctrkit.errors import ConfigError, DataError
from ctrkit.evaluation import EvaluationWarning

FAST = ("draws=20", "parts=2", "figures=false")
# Conversions are few in so small a log, and the evaluation says so.
pytestmark = pytest.mark.filterwarnings("ignore::ctrkit.evaluation.EvaluationWarning")


@pytest.fixture(scope="module")
def other(logs: Path, tmp_path_factory: pytest.TempPathFactory, small: tuple[str, ...]) -> Path:
    """A model that was trained for less long."""
    folder = tmp_path_factory.mktemp("other")
    ctrkit.train(
        data=logs / "impressions.parquet",
        model=folder / "other.pt",
        out=folder / "train",
        overrides=[*small, "training.epochs=1", "seed=1"],
    )
    return folder / "other.pt"


@pytest.fixture(scope="module")
def run(
    trained: Path, other: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[EvaluationResult, Path]:
    """The trained model against the other one, on the test rows, and the run's folder."""
    folder = tmp_path_factory.mktemp("run")
    gates = ("gates.auc.minimum=0.0", "gates.difference/pcoc.maximum=-9", "gates.psi.maximum=100")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EvaluationWarning)
        return ctrkit.evaluate(trained, against=other, out=folder, overrides=[*FAST[:2], *gates]), folder


def rows_of(trained: Path, logs: Path) -> pl.DataFrame:
    """The last tenth of the log by time: the test rows of the sample config."""
    table = pl.read_parquet(logs / "impressions.parquet")
    split = ctrkit.load(trained).artifact.data["split"]
    return table.filter(pl.col("timestamp") >= split["boundaries"][1])


def test_the_test_rows_are_judged_by_the_calibrated_probabilities(
    run: tuple[EvaluationResult, Path], trained: Path, other: Path, logs: Path
) -> None:
    result, _ = run
    rows = rows_of(trained, logs)
    first, second = (ctrkit.load(path).predict(rows) for path in (trained, other))
    found = result.tasks["click"]
    assert (found.rows, found.positives) == (rows.height, rows["click"].sum())
    areas = [roc_auc_score(rows["click"], one["click"]) for one in (first, second)]
    assert found.other is not None
    for measured, area in zip((found.measured, found.other), areas, strict=True):
        assert measured.intervals["auc"] is not None
        assert measured.intervals["auc"].value == pytest.approx(area)
    difference = found.differences["auc"]
    assert difference is not None
    assert difference.interval.value == pytest.approx(areas[0] - areas[1])
    pcoc = found.measured.intervals["pcoc"]
    assert pcoc is not None
    assert pcoc.value == pytest.approx(first["click"].sum() / rows["click"].sum())


def test_conversions_are_judged_on_clicked_rows_and_the_product_on_all(
    run: tuple[EvaluationResult, Path], trained: Path, logs: Path
) -> None:
    result, _ = run
    rows = rows_of(trained, logs)
    clicked = rows.filter(click=1)
    both = ctrkit.load(trained).predict(rows)
    assert list(result.tasks) == ["click", "conversion", "click·conversion"]
    conversion, product = result.tasks["conversion"], result.tasks["click·conversion"]
    assert (conversion.rows, conversion.positives) == (clicked.height, clicked["conversion"].sum())
    assert (product.rows, product.positives) == (rows.height, rows["conversion"].sum())
    pcoc = product.measured.intervals["pcoc"]
    assert pcoc is not None
    joint = (both["click"] * both["conversion"]).sum()
    assert pcoc.value == pytest.approx(joint / rows["conversion"].sum())
    assert conversion.verdict.decision == "cannot tell"
    assert any("conversion: 6 positive" in note or "mostly noise" in note for note in result.notes)


def test_popularity_and_activity_are_counted_in_the_training_rows(
    run: tuple[EvaluationResult, Path], trained: Path, logs: Path
) -> None:
    table = pl.read_parquet(logs / "impressions.parquet")
    split = ctrkit.load(trained).artifact.data["split"]
    training = table.filter(pl.col("timestamp") < split["boundaries"][0])
    seen = dict(training.group_by("user_id").len().iter_rows())
    counts = np.array([seen.get(user, 0) for user in rows_of(trained, logs)["user_id"]])
    parts = {one.name: one.rows for one in run[0].tasks["click"].slices["user activity"]}
    assert parts.get("unseen", 0) == (counts == 0).sum()
    ends = [name.split(" to ") for name in parts if name != "unseen"]
    assert int(ends[0][0]) == counts[counts > 0].min()
    assert int(ends[-1][-1]) == counts.max()
    assert set(run[0].tasks["click"].slices) == {"item popularity", "user activity"}


def test_drift_is_measured_against_the_training_rows(run: tuple[EvaluationResult, Path]) -> None:
    drifts = {one.column: one for one in run[0].drifts or ()}
    assert {"hour", "ad_price", "history_ads", "click"} <= set(drifts)
    assert drifts["hour"].level == "drifted"  # a tenth of a week is less than a day
    assert drifts["user_age"].level == "stable"
    assert max(drifts.values(), key=lambda one: one.psi).column == (run[0].drifts or ())[0].column


def test_the_run_folder_holds_what_the_result_says(run: tuple[EvaluationResult, Path]) -> None:
    result, folder = run
    content = json.loads((folder / "metrics.json").read_text())
    assert content == {"command": "evaluate", **result.to_dict()}
    page = (folder / "report.html").read_text()
    figures = {path.stem for path in (folder / "figures").iterdir()}
    kinds = ("reliability", "gain", "scores", "fields", "item_popularity", "user_activity", "difference")
    tasks = ("click", "conversion", "click_conversion")
    # No value of a field has enough clicks to be looked at by itself.
    too_few = {"fields_conversion"}
    assert figures == {f"{kind}_{task}" for kind in kinds for task in tasks} - too_few | {"drift"}
    assert page.count("<svg") == len(figures)
    assert result.tasks["click"].verdict.said in page
    report = result.report()
    for table in (*report.tables, *report.details):
        assert all(len(row) == len(table.header) for row in table.rows)


def test_gates_hold_or_break_by_name(run: tuple[EvaluationResult, Path]) -> None:
    outcomes = {gate.metric: gate.held for gate in run[0].gates}
    assert outcomes == {"auc": True, "difference/pcoc": False, "psi": True}
    assert [gate.metric for gate in run[0].broken] == ["difference/pcoc"]


def test_another_table_is_evaluated_whole_and_without_training_rows_drift_is_still_known(
    trained: Path, tmp_path: Path
) -> None:
    model = ctrkit.load(trained)
    model.artifact.data = {**model.artifact.data, "file": str(tmp_path / "gone.parquet")}
    table = Market(seed=5, users=300, ads=40, advertisers=8).impressions(2000).drop("user_id")
    result = ctrkit.evaluate(model, table, out=tmp_path / "e", overrides=FAST)
    assert result.tasks["click"].rows == 2000
    assert "This is not the training table: all of its 2,000 rows are evaluated." in result.notes
    assert any("counted in the evaluated rows" in note for note in result.notes)
    assert {one.column for one in result.drifts or ()} >= {"ad_id", "click"}
    assert list(result.tasks["click"].slices) == ["item popularity"]
    assert result.tasks["click"].measured.intervals["gauc"] is None  # users are not known
    assert any("no column 'user_id' here, so rows count as independent" in note for note in result.notes)
    model.artifact.data = {key: value for key, value in model.artifact.data.items() if key != "profile"}
    unknown = ctrkit.evaluate(model, table, out=tmp_path / "u", overrides=FAST)
    assert unknown.drifts is None
    assert any(note.startswith("Drift is not known") for note in unknown.notes)


def test_money_is_told_where_the_log_has_it(trained: Path, logs: Path, tmp_path: Path) -> None:
    table = pl.read_parquet(logs / "impressions.parquet").head(2000)
    table = table.with_columns(cost=pl.lit(0.5), earned=pl.col("value") * pl.col("conversion"))
    result = ctrkit.evaluate(trained, table, out=tmp_path, overrides=[*FAST, "columns.revenue=earned"])
    clicks = table["click"].sum()
    assert result.business["ctr"] == pytest.approx(clicks / 2000)
    assert result.business["ecpm"] == pytest.approx(500)
    assert result.business["ecpc"] == pytest.approx(1000 / clicks)
    assert result.business["roas"] == pytest.approx(table["earned"].sum() / 1000)
    assert "win_rate" not in result.business


def test_rows_that_the_model_was_trained_on_are_recognised(trained: Path, logs: Path, tmp_path: Path) -> None:
    early = pl.read_parquet(logs / "impressions.parquet").head(1500)
    result = ctrkit.evaluate(trained, early, out=tmp_path, overrides=FAST)
    assert any("trained on about 100% of these rows" in note for note in result.notes)


def test_wrong_input_is_refused_before_anything_is_written(trained: Path, logs: Path, tmp_path: Path) -> None:
    table = pl.read_parquet(logs / "impressions.parquet").head(400)
    out = tmp_path / "out"
    single = ctrkit.load(trained)
    single.encoder.spec = single.encoder.spec.model_copy(update={"labels": {"click": "click"}})
    no_clicks = table.with_columns(click=pl.lit(0), conversion=pl.lit(0))
    cases = (
        (DataError, "'click' needs rows of both classes", {"data": no_clicks}),
        (DataError, "column 'device': the column is missing", {"data": table.drop("device")}),
        (DataError, "the one to compare with predicts click", {"against": single}),
        (DataError, "column 'cty'", {"data": table, "overrides": ["fields=[cty]"]}),
        (ConfigError, "no metric 'acu'. Did you mean 'auc'", {"overrides": ["gates.acu.minimum=1"]}),
        (ConfigError, "a gate needs a minimum or a maximum", {"overrides": ["gates.auc={}"]}),
        (ConfigError, "there are no gates", {"gate": True}),
        (ConfigError, "Did you mean 'draws'", {"overrides": ["drws=2"]}),
    )
    for error, said, arguments in cases:
        with pytest.raises(error, match=said):
            ctrkit.evaluate(trained, out=out, **arguments)  # type: ignore[arg-type]
    assert not out.exists()


def test_a_task_of_one_class_is_left_out_loudly(trained: Path, logs: Path, tmp_path: Path) -> None:
    table = pl.read_parquet(logs / "impressions.parquet").head(1000).with_columns(conversion=pl.lit(0))
    with pytest.warns(EvaluationWarning, match="conversion: left out, as none of its"):
        result = ctrkit.evaluate(
            trained, table, out=tmp_path, overrides=[*FAST, "gates.conversion/auc.minimum=0.1"]
        )
    assert list(result.tasks) == ["click"]
    assert result.broken[0].reason == "conversion/auc could not be measured on these rows"


def test_the_numbers_do_not_depend_on_how_the_rows_are_stored(
    run: tuple[EvaluationResult, Path], trained: Path, logs: Path, tmp_path: Path
) -> None:
    frame = pl.read_parquet(logs / "impressions.parquet").to_pandas()
    result = ctrkit.evaluate(trained, frame, out=tmp_path, overrides=FAST)
    first, second = (one.tasks["click"] for one in (run[0], result))
    assert second.measured.intervals["pcoc"] == first.measured.intervals["pcoc"]
    assert result.drifts == run[0].drifts
    assert replace(result, notes=()).to_pandas().shape[0] > 10


@pytest.mark.slow
def test_rows_without_a_user_are_told_of_and_out_of_gauc(trained: Path, tmp_path: Path) -> None:
    new = Market(seed=3, users=300, ads=40, advertisers=8).impressions(16_000)[12_000:]
    some = pl.int_range(pl.len()) % 3 == 0
    nulls = new.with_columns(user_id=pl.when(some).then(None).otherwise(pl.col("user_id")))
    found = ctrkit.evaluate(trained, nulls, out=tmp_path / "run", overrides=FAST)
    assert any("1,334 of 4,000 rows have no 'user_id'" in note for note in found.notes)
    within = ctrkit.evaluate(trained, new.filter(~some), out=tmp_path / "part", overrides=FAST)
    measured = [one.tasks["click"].measured.intervals["gauc"] for one in (found, within)]
    assert measured[0] == measured[1]


def test_what_the_rows_cannot_tell_is_a_note_and_no_number(trained: Path, tmp_path: Path) -> None:
    new = Market(seed=3, users=300, ads=40, advertisers=8).impressions(16_000)[12_000:]
    alone = new.with_columns(user_id=pl.lit(7))
    gate = ["gates.auc.minimum=0.0"]
    found = ctrkit.evaluate(trained, alone, out=tmp_path / "run", overrides=[*FAST, *gate])
    assert found.tasks["click"].verdict.decision == "cannot tell"
    assert [one.held for one in found.gates] == [False]
    assert any("at least two rows or groups" in note for note in found.notes)
    with pytest.raises(DataError, match="column 'click': an evaluation of 'click' needs rows of both"):
        ctrkit.evaluate(trained, new.filter(pl.col("click") == 1), out=tmp_path / "no", overrides=FAST)
    with pytest.raises(DataError, match="no rows"):
        ctrkit.evaluate(trained, new[:0], out=tmp_path / "none", overrides=FAST)


def test_unknown_ids_are_told_by_part_and_new_items_leave_the_verdict_open(tmp_path: Path) -> None:
    """Ads are new every day, and their categories are not."""
    rng = np.random.default_rng(0)
    rows = 12_000
    category = rng.integers(0, 6, rows)
    table = pl.DataFrame(
        {
            "time": np.arange(rows) + 1_700_000_000,
            "ad": [f"{at // 1_000}-{one}" for at, one in enumerate(category)],
            "category": category,
            "click": rng.random(rows) < np.linspace(0.05, 0.4, 6)[category],
        }
    ).with_columns(pl.col("click").cast(pl.Int8))
    features = {"timestamp": "time", "categorical": [{"name": "category"}, {"name": "ad"}]}
    settings = {"network": "lr"}
    trained = ctrkit.train(data=table, features=features, **settings)
    assert trained.unknown["category"] == {"train": 0.0, "valid": 0.0, "test": 0.0}
    assert (trained.unknown["ad"]["train"], trained.unknown["ad"]["test"]) == (0.0, 1.0)
    assert any("Test rows: Column 'ad': 100% of the ids are unknown" in note for note in trained.notes)
    (shown,) = [one for one in trained.report().tables if "unknown" in one.title]
    assert [row[0] for row in shown.rows] == ["ad"]
    found = ctrkit.evaluate(trained.trained, table, overrides=FAST)
    assert found.tasks["click"].verdict.decision in ("cannot tell", "not fit")
    assert "100% of the ids in 'ad' are unknown to the model (in training 0%)" in found.report().answer
    assert {one["column"]: one["evaluated"] for one in found.to_dict()["unknown"]} == {
        "category": 0.0,
        "ad": 1.0,
    }
    (page,) = [one for one in found.report().details if "unknown" in one.title]
    assert page.rows[0][0] == "ad"
    assert str(page.rows[0][-1]).startswith("train on newer rows")
    # The candidates' id decides which ids count as items.
    chosen = {**features, "candidate": {"id": "category"}}
    by_category = ctrkit.train(data=table, features=chosen, **settings).trained
    rules = [
        one.rule
        for one in ctrkit.evaluate(by_category, table, overrides=FAST).tasks["click"].verdict.findings
    ]
    assert "unknown items" not in rules
    del trained.artifact.data["unknown"]  # as in an older artifact: the training rows are read again
    assert ctrkit.evaluate(trained.trained, table, overrides=FAST).unknown == found.unknown


def made_clicks(rows: int = 4000, seed: int = 0) -> pl.DataFrame:
    """Clicks that depend on a number, and an ad that says nothing."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=rows)
    click = rng.random(rows) < 1 / (1 + np.exp(1.5 - x))
    times = np.arange(rows) + 1_700_000_000
    return pl.DataFrame(
        {"time": times, "x": x, "ad": rng.integers(0, 9, rows), "click": click.astype(np.int8)}
    )


METHOD: dict[str, Any] = {
    "features": {"timestamp": "time", "categorical": [{"name": "ad"}], "numeric": [{"name": "x"}]},
    "model": {"name": "lr", "crosses": None},
    "training": {"epochs": 2, "batch_size": 256, "optimizer": {"learning_rate": 0.02}},
}
# It does not read the number that decides.
BLIND = {**METHOD, "features": {"timestamp": "time", "categorical": [{"name": "ad"}]}}


def test_a_difference_is_said_to_be_that_of_two_artifacts(run: tuple[EvaluationResult, Path]) -> None:
    assert any("are those of two artifacts, not of two methods" in note for note in run[0].notes)
    first = run[0].report().tables[0]
    assert first.header[1:3] == ("this artifact", "other artifact")
    assert "two artifacts on" in first.title


@pytest.mark.slow
def test_methods_are_trained_again_and_compared_over_seeds(tmp_path: Path) -> None:
    table = made_clicks()
    table.write_parquet(tmp_path / "rows.parquet")
    model, blind = (
        ctrkit.train({**config, "seed": 5}, tmp_path / "rows.parquet").trained for config in (METHOD, BLIND)
    )
    found = ctrkit.evaluate(model, against=blind, seeds=3, overrides=FAST)
    assert found.methods is not None
    area, loss = found.methods.tasks["click"]
    assert found.methods.seeds == (0, 1, 2)
    assert found.methods.rows == 400
    assert (len(area.first), area.metric, loss.metric) == (3, "auc", "log_loss")
    assert area.over_seeds.low > 0.1
    assert "click: This method has the better auc, beyond the noise" in found.report().answer
    assert any("Both methods were trained 3 times" in note for note in found.notes)
    # With the seed of the artifact it is the artifact, on the same test rows: the split does not change.
    again = ctrkit.evaluate(model, against=blind, seeds=2, seed=5, overrides=FAST)
    assert again.methods is not None
    raw = model.outputs(table[-400:])[0][:, 0]
    expected = roc_auc_score(table[-400:]["click"], raw)
    assert again.methods.tasks["click"][0].first[0] == pytest.approx(expected, abs=1e-6)
    # The other method may be a config; its data, split and seed do not count.
    by_config = ctrkit.evaluate(model, against={**BLIND, "seed": 77}, seeds=3, overrides=FAST)
    assert by_config.against is None
    assert by_config.methods is not None
    assert by_config.methods.tasks["click"][0] == area
    assert json.loads(by_config.to_json())["methods"]["tasks"]["click"][0]["metric"] == "auc"


def test_methods_need_the_training_table(tmp_path: Path) -> None:
    table = made_clicks()
    model = ctrkit.train(METHOD, table).trained
    other = ctrkit.train({**METHOD, "split": {"train": 0.5, "valid": 0.2}}, table).trained
    labels = ctrkit.train(
        {**METHOD, "features": {**METHOD["features"], "labels": {"buy": "click"}}}, table
    ).trained
    cases = (
        (DataError, "not the table that the model was trained on", {"data": made_clicks(seed=1)}),
        (DataError, "not the table that the model was trained on", {"data": table[::-1]}),
        (DataError, "was trained on a table in memory", {"data": None}),
        (DataError, "the two methods have other train rows", {"against": other}),
        (DataError, "predicts click, and the one to compare with predicts buy", {"against": labels}),
        (DataError, "one method predicts click, and the other buy", {"against": {**METHOD, "features": {
            "labels": {"buy": "click"}, "timestamp": "time", "numeric": [{"name": "x"}]}}}),
        (ConfigError, "there is one", {"against": None}),
        (ConfigError, "which has no predictions", {"against": METHOD, "seeds": None}),
        (ConfigError, "must be at least 2", {"seeds": 1}),
    )  # fmt: skip
    for error, said, changed in cases:
        given = {"data": table, "against": model, "seeds": 2, **changed}
        with pytest.raises(error, match=said):
            ctrkit.evaluate(model, out=tmp_path / "out", overrides=FAST, **given)  # type: ignore[arg-type]
    assert not (tmp_path / "out" / "metrics.json").exists()
