"""Calibration through the flat functions: by field, over the entire space, with new rows, and seen ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.special import expit

import ctrkit
from ctrkit import metrics
from ctrkit.calibration import CalibrationWarning, EntireSpaceCalibration, FieldAware, OnlineRecalibration
from ctrkit.data.split import SplitConfig, split_rows
from ctrkit.data.synthetic import Market
from ctrkit.errors import ConfigError, DataError

# Conversions are few in so small a log, and calibration says so.
pytestmark = pytest.mark.filterwarnings("ignore:.*:ctrkit.calibration.CalibrationWarning")


@pytest.fixture(scope="module")
def later() -> pl.DataFrame:
    """New rows of the market that the model was trained on."""
    return Market(seed=3, users=300, ads=40, advertisers=8).impressions(16_000)[12_000:]


@pytest.fixture
def model(trained: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    copied: Path = shutil.copy(trained, tmp_path / "model.pt")
    return copied


def calibrated(model: Path, data: object = None, *overrides: str) -> ctrkit.Model:
    ctrkit.calibrate(model, data, out=model.parent / "run", overrides=overrides)
    return ctrkit.load(model)


def test_a_field_is_corrected_value_by_value(model: Path, later: pl.DataFrame) -> None:
    loaded = calibrated(model, None, "method=field-aware", "field=placement")
    one = loaded.calibrators["click"]
    assert isinstance(one.calibrator, FieldAware)
    assert one.field == "placement"
    logits = loaded.outputs(later)[0][:, 0]
    ids = {name: number + 2 for number, name in enumerate(loaded.encoder.vocabularies["placement"])}
    segments = np.array([ids.get(str(value), 1) for value in later["placement"]])
    expected = one.calibrator(logits, segments)
    np.testing.assert_array_equal(loaded.predict(later)["click"].to_numpy(), expected)


def test_candidates_are_corrected_by_their_own_values(model: Path, logs: Path) -> None:
    loaded = calibrated(model, None, "method=field-aware", "field=ad_category")
    log = pl.read_parquet(logs / "bandit.parquet").head(20)
    scores = loaded.score_candidates(log, log["candidates"])
    place, features = 3, ("ad_category", "ad_advertiser", "ad_price")
    listed = {"ad_id": "candidates", **{name: f"candidate_{name}" for name in features}}
    chosen = log.with_columns(pl.col(of).list.get(place).alias(name) for name, of in listed.items())
    np.testing.assert_allclose(
        scores.probabilities["click"][:, place], loaded.predict(chosen)["click"].to_numpy(), rtol=1e-4
    )


def test_conversions_are_calibrated_over_all_impressions(model: Path, later: pl.DataFrame) -> None:
    loaded = calibrated(model, None, "method=platt", "conversion=entire_space")
    one = loaded.calibrators["conversion"].calibrator
    assert isinstance(one, EntireSpaceCalibration)
    found, logits = loaded.predict(later), loaded.outputs(later)[0]
    own = expit(logits[:, 0]) * expit(logits[:, 1])
    joint = one.joint(np.log(own / (1 - own)))
    click = found["click"].to_numpy()
    np.testing.assert_allclose(found["conversion"].to_numpy(), np.minimum(1, joint / click), rtol=1e-9)
    told = loaded.artifact.metrics["calibrate"]["conversion"]
    assert told["entire_space"] is True
    assert told["rows"] > 500  # all validation rows, not the clicked ones


def test_the_correction_of_downsampling_is_a_shift(model: Path, later: pl.DataFrame) -> None:
    loaded = calibrated(model, None, "method=downsampling", "kept_negatives=0.25")
    odds = loaded.predict(later)["click"].to_numpy()
    odds = odds / (1 - odds)
    np.testing.assert_allclose(odds, 0.25 * np.exp(loaded.outputs(later)[0][:, 0]), rtol=1e-6)
    with pytest.raises(ConfigError, match="together, or neither"):
        calibrated(model, None, "method=downsampling")
    with pytest.raises(ConfigError, match="together, or neither"):
        calibrated(model, None, "kept_negatives=0.25")


def test_unknown_methods_and_fields_name_the_nearest(model: Path) -> None:
    with pytest.raises(ConfigError, match="isotonic"):
        calibrated(model, None, "method=isotonik")
    with pytest.raises(ConfigError, match="placement"):
        calibrated(model, None, "field=placment")
    with pytest.raises(ConfigError, match="needs segments"):
        calibrated(model, None, "method=field-aware")


def test_rows_that_the_model_was_trained_on_are_known_again(
    model: Path, logs: Path, later: pl.DataFrame, tmp_path: Path
) -> None:
    table = pl.read_parquet(logs / "impressions.parquet").sort("timestamp")
    own = {"save": tmp_path / "m.pt", "overrides": ["method=platt"]}
    for command in (ctrkit.calibrate, ctrkit.recalibrate):
        with pytest.raises(
            DataError, match=r"trained on about (9[0-9]|100)% of these rows, and only \d+ are others"
        ):
            command(model, table.head(6000), save=own["save"])
    # Of seen rows and others, the others are used.
    mixed = pl.concat([table.head(3000), later])
    result = ctrkit.calibrate(model, mixed, **own)
    (note,) = [note for note in result.notes if "are left out" in note]
    left_out = int(note.split()[1].replace(",", ""))
    assert 3000 <= left_out <= 3000 + 0.05 * later.height
    assert result.tasks["click"].choice.method == "platt"
    result = ctrkit.calibrate(
        model, later, out=tmp_path / "new", save=tmp_path / "m.pt", overrides=["method=platt"]
    )
    assert not any("has not seen" in note for note in result.notes)


def test_new_rows_move_a_calibrator_or_the_result_says_why_not(
    model: Path, later: pl.DataFrame, tmp_path: Path
) -> None:
    before = ctrkit.load(model)
    # Clicks have become three times as frequent: a shift of the log-odds is to be learnt.
    p = expit(before.outputs(later)[0][:, 0])
    drawn = np.random.default_rng(0).random(later.height) < np.minimum(1, 3 * p)
    moved = later.with_columns(pl.Series("click", drawn.astype(np.int64)), conversion=pl.lit(0))
    quick = ["half_life=1000"]
    result = ctrkit.recalibrate(model, moved, out=tmp_path / "run", overrides=quick)
    assert result.tasks["click"].outcome == "kept"
    assert result.tasks["click"].after < result.tasks["click"].before
    after = ctrkit.load(model)
    assert isinstance(after.calibrators["click"].calibrator, OnlineRecalibration)
    held = drawn.mean()
    assert abs(after.predict(later)["click"].mean() - held) < 0.5 * abs(
        before.predict(later)["click"].mean() - held
    )
    # Once more, from the artifact: it goes on and does not begin anew.
    again = ctrkit.recalibrate(model, moved, out=tmp_path / "run", overrides=quick)
    assert again.tasks["click"].before < result.tasks["click"].before
    assert "log loss before" in again.to_pandas().columns


def test_an_update_wants_rows_that_are_new(
    model: Path, logs: Path, later: pl.DataFrame, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="the model was trained on"):
        ctrkit.recalibrate(model, logs / "impressions.parquet", out=tmp_path / "run")
    with pytest.raises(DataError, match="no row on which 'conversion'"):
        ctrkit.recalibrate(
            model, later.with_columns(click=pl.lit(0), conversion=pl.lit(0)), out=tmp_path / "run"
        )
    assert not (tmp_path / "run").exists()


def test_a_run_into_the_same_folder_leaves_no_figure_of_an_earlier_one(model: Path) -> None:
    folder = model.parent / "run"
    (folder / "figures").mkdir(parents=True)
    (folder / "figures" / "of_an_earlier_run.svg").write_text("<svg/>")
    calibrated(model, None, "method=platt")
    assert {path.stem for path in (folder / "figures").iterdir()} == {
        "reliability_click",
        "reliability_conversion",
    }


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ctrkit.evaluation.measures.EvaluationWarning")
def test_rows_count_by_their_weights(logs: Path, tmp_path: Path, small: tuple[str, ...]) -> None:
    # Of the rows without a click a tenth was kept, and each stands for ten.
    table = pl.read_parquet(logs / "impressions.parquet")
    kept = (table["click"] == 1) | pl.Series(np.random.default_rng(0).random(table.height) < 0.1)
    table = table.filter(kept).with_columns(
        stands_for=pl.when(pl.col("click") == 1).then(1.0).otherwise(10.0)
    )
    overrides = [*small, "training.epochs=1", "features.weight=stands_for"]
    ctrkit.train(data=table, model=tmp_path / "m.pt", out=tmp_path / "t", overrides=overrides)
    found = ctrkit.calibrate(tmp_path / "m.pt", table, out=tmp_path / "c", overrides=["method=platt"])
    assert any("weighted by 'stands_for'" in note for note in found.notes)
    model = ctrkit.load(tmp_path / "m.pt")
    split = split_rows(model.spec, SplitConfig(), table, 0)
    fitted = table[split.valid]
    weight = fitted["stands_for"].to_numpy()
    rate = np.average(fitted["click"].to_numpy(), weights=weight)
    # Platt scaling makes the weighted mean of its rows their weighted rate, which is not that of the rows.
    predicted = model.predict(fitted)["click"].to_numpy()
    assert np.average(predicted, weights=weight) == pytest.approx(rate, rel=1e-6)
    assert rate < 0.4 * fitted["click"].mean()  # type: ignore[operator]
    judged = table[split.test]
    told = ctrkit.evaluate(tmp_path / "m.pt", table, out=tmp_path / "e", overrides=["draws=20"])
    y, w = judged["click"].to_numpy(), judged["stands_for"].to_numpy()
    p = model.predict(judged)["click"].to_numpy()
    for name, metric in (("pcoc", metrics.pcoc), ("auc", metrics.auc), ("ece", metrics.ece)):
        one = told.tasks["click"].measured.intervals[name]
        assert one is not None
        assert one.value == pytest.approx(metric(y, p, weight=w))
    assert told.business["ctr"] == pytest.approx(np.average(y, weights=w))


def test_a_task_that_the_rows_tell_nothing_of_does_not_undo_the_one_before(
    model: Path, later: pl.DataFrame, tmp_path: Path
) -> None:
    held = ctrkit.load(model).calibrators["conversion"]
    dull = later.filter(pl.col("conversion") == 0)
    with pytest.warns(CalibrationWarning, match="conversion: its calibrator stays as it was"):
        found = ctrkit.calibrate(model, dull, out=tmp_path / "c", overrides=["method=platt"])
    assert set(found.tasks) == {"click"}
    assert any("its calibrator stays" in note for note in found.notes)
    after = ctrkit.load(model).calibrators
    assert after["conversion"].state() == held.state()
    with pytest.raises(DataError, match="would fit the calibration of 'click' are negative"):
        ctrkit.calibrate(model, later.filter(pl.col("click") == 0), out=tmp_path / "d")
    with pytest.raises(DataError, match="no rows"):
        ctrkit.recalibrate(model, later[:0], out=tmp_path / "e")


def test_a_training_ends_well_where_no_user_has_both_labels(
    logs: Path, tmp_path: Path, small: tuple[str, ...]
) -> None:
    table = pl.read_parquet(logs / "impressions.parquet")[:4000].with_columns(user_id=pl.int_range(pl.len()))
    overrides = [*small, "training.epochs=1"]
    found = ctrkit.train(data=table, model=tmp_path / "m.pt", out=tmp_path / "t", overrides=overrides)
    assert (tmp_path / "m.pt").exists()
    assert found.metrics["click"]["gauc"] is None
    report = found.report()
    assert any("gauc of click is undefined" in note for note in report.notes)
    assert report.tables[0].rows[0][4] is None


def test_updates_follow_the_time_however_it_is_written(model: Path, later: pl.DataFrame) -> None:
    """The clock is that of a zone ahead for half of the rows: as text they are in another order."""
    moments = later["timestamp"].cast(pl.Int64)
    odd = pl.Series([k % 2 == 1 for k in range(later.height)])
    ahead = pl.select(
        pl.from_epoch(pl.when(odd).then(moments + 9 * 3600).otherwise(moments)).dt.strftime(
            "%Y-%m-%dT%H:%M:%S"
        )
        + pl.when(odd).then(pl.lit("+09:00")).otherwise(pl.lit("Z"))
    ).to_series()
    updates = [
        ctrkit.recalibrate(ctrkit.load(model), table, out=model.parent / "run").to_dict()["tasks"]
        for table in (later.with_columns(timestamp=moments), later.with_columns(timestamp=ahead))
    ]
    assert updates[0] == updates[1]


def test_an_update_without_times_says_so(model: Path, later: pl.DataFrame) -> None:
    told = ctrkit.recalibrate(ctrkit.load(model), later.drop("timestamp"), out=model.parent / "run")
    assert any("no column 'timestamp' here" in note for note in told.report().notes)


@pytest.mark.slow
def test_a_calibrator_that_cannot_set_the_mean_is_told_where_platt_can() -> None:
    """Rare clicks: the temperature that corrects over-confident logits moves PCOC away from 1."""
    random = np.random.default_rng(0)
    rows = 40_000
    x = random.normal(size=rows)
    click = random.random(rows) < expit(-3.6 + 0.6 * x)
    table = pl.DataFrame({"x": x, "click": click.astype(np.int8)})
    model = ctrkit.train(
        data=table,
        features={"numeric": [{"name": "x"}]},
        network={"name": "lr", "crosses": None},
        training={"epochs": 3, "optimizer": {"learning_rate": 0.05}},
    ).trained
    other = table.with_columns(x=1.5 * pl.col("x") - 0.9 + pl.Series(random.normal(0, 2.0, rows)))
    with pytest.warns(CalibrationWarning, match="click: temperature leaves PCOC at") as caught:
        spoilt = ctrkit.calibrate(model, other, method="temperature")
    found = spoilt.tasks["click"]
    before, after = (one.summary.pcoc for one in (found.before, found.after))
    assert before is not None
    assert after is not None
    assert after.value > 1.1 * before.value > 0.9
    assert found.doubt is not None
    assert f"PCOC at {after.value:.3g} on held-out rows (before: {before.value:.3g})" in found.doubt
    assert f"click: {found.doubt}" in spoilt.notes
    assert "Use `--method platt`" in str(caught[-1].message)
    for method in ("platt", "auto"):
        right = ctrkit.calibrate(model, other, method=method).tasks["click"]
        assert right.doubt is None
        assert right.choice.calibrator.sets_mean
    # With the right mean, a temperature is right too.
    steep = table.with_columns(x=1.1 * pl.col("x"))
    assert ctrkit.calibrate(model, steep, method="temperature").tasks["click"].doubt is None
    with pytest.warns(CalibrationWarning, match="click: identity leaves PCOC at"):
        ctrkit.calibrate(model, table.with_columns(x=pl.col("x") + 1.0), method="identity")
