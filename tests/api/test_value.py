"""A task of value on the whole road: trained, predicted, calibrated, evaluated and bid on."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import ctrkit
from ctrkit.api.bidding.scored_auctions import scored_auctions
from ctrkit.api.models.model import Model
from ctrkit.bidding import Auctions
from ctrkit.bidding.market.auctions import joined
from ctrkit.data.synthetic import Market
from ctrkit.errors import ArtifactError, ConfigError, DataError, TrainingWarning
from ctrkit.policies import padded

pytestmark = [
    pytest.mark.filterwarnings("ignore::ctrkit.evaluation.EvaluationWarning"),
    pytest.mark.filterwarnings("ignore::ctrkit.calibration.CalibrationWarning"),
]
SHORT = (
    'model={"name": "dnn", "embedding": 8, "hidden": [16]}',
    "training.epochs=6",
    "training.batch_size=256",
    "training.optimizer.learning_rate=0.01",
)


def market() -> Market:
    return Market(seed=3, users=300, ads=40, advertisers=8)


def impressions(rows: int = 12_000) -> pl.DataFrame:
    """The market's impressions with more conversions; one of ten is worth nothing. `true_value` is the
    mean of an ad; `revenue` scatters around it, and only converted rows have it."""
    table, rng = market().impressions(rows), np.random.default_rng(1)
    click = rng.random(rows) < 0.5
    conversion = click & (rng.random(rows) < 0.4)
    worth = table["value"].to_numpy()
    revenue = worth / 0.9 * rng.lognormal(-0.125, 0.5, rows) * (rng.random(rows) < 0.9)
    return table.with_columns(
        click=pl.Series(click).cast(pl.Int8),
        conversion=pl.Series(conversion).cast(pl.Int8),
        true_value=pl.col("value"),
        revenue=pl.when(pl.Series(conversion)).then(pl.Series(revenue)),
    ).drop("value")


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    return impressions()


@pytest.fixture(scope="module")
def result(table: pl.DataFrame) -> Any:
    return ctrkit.train(data=table, overrides=("features.value=revenue", *SHORT))


@pytest.fixture
def model(result: Any) -> Model:
    """Of its own, so that a test may calibrate it."""
    return Model(copy.deepcopy(result.artifact))


def test_values_of_converted_rows_alone_tell_ads_apart(model: Model, table: pl.DataFrame) -> None:
    found = table.select("ad_id", "true_value", model.predict(table)["value"])
    by_ad = found.group_by("ad_id").mean()
    converted = table.filter(pl.col("conversion") == 1)
    constant = converted["revenue"].mean()
    error = (by_ad["value"] - by_ad["true_value"]).abs().mean()
    assert error < 0.35 * (by_ad["true_value"] - constant).abs().mean()


def test_predictions_have_the_value_and_that_of_an_impression(model: Model, table: pl.DataFrame) -> None:
    rows = table.drop("revenue", "click", "conversion")[:50]
    found = model.predict(rows)
    assert found.columns == ["click", "conversion", "value", "impression_value"]
    np.testing.assert_allclose(
        found["impression_value"], found["click"] * found["conversion"] * found["value"], rtol=1e-12
    )
    assert model.predict(rows[:0]).shape == (0, 4)
    assert list(model.predict(rows.to_pandas()).columns) == found.columns


def test_candidates_have_the_values_that_they_would_have_alone(model: Model) -> None:
    log = market().auction_log(20)
    scores = model.score_candidates(log, log["candidates"])
    for row, ads in enumerate(log["candidates"]):
        listed = {
            name: log[f"candidate_{name}"][row] for name in ("ad_category", "ad_advertiser", "ad_price")
        }
        alone = log[[row] * len(ads)].with_columns(ad_id=ads, **listed)
        np.testing.assert_allclose(scores.value[row], model.predict(alone)["value"], rtol=1e-4)


def test_an_artifact_keeps_the_value(result: Any, table: pl.DataFrame, tmp_path: Path) -> None:
    path = result.artifact.save(tmp_path / "model.pt")
    assert ctrkit.load(path).predict(table[:20]).equals(result.trained.predict(table[:20]))
    damaged = copy.deepcopy(result.artifact)
    damaged.calibrators = {"value": {"name": "factor", "factor": -1.0}}
    with pytest.raises(ArtifactError, match=r"calibrators is damaged.*the factor of the value is -1"):
        Model(damaged)


def test_training_reports_the_value_of_test_rows(result: Any) -> None:
    found = result.metrics["value"]
    assert 0 < found["positives"] < found["rows"]
    assert 0.8 < found["pcoc"] < 1.25
    assert found["gini"] > 0.3
    assert "value" in [row[0] for row in result.report().tables[0].rows]


@pytest.mark.slow
def test_no_value_and_few_values_are_said_before_training(table: pl.DataFrame) -> None:
    overrides = ("features.value=revenue", *SHORT, "training.epochs=1")
    worthless = table.with_columns(revenue=pl.lit(0.0))
    with pytest.raises(DataError, match=r"column 'revenue'.*none of them has a value above 0"):
        ctrkit.train(data=worthless, overrides=overrides)
    few = table[:4000].with_columns(conversion=pl.col("conversion") * (pl.int_range(pl.len()) % 20 == 0))
    with pytest.warns(TrainingWarning, match=r"revenue: only \d+ training rows have a conversion"):
        ctrkit.train(data=few, overrides=overrides)


def test_a_policy_is_not_learnt_from_a_value() -> None:
    spec = {
        "categorical": [{"name": "ad_id"}], "labels": {"reward": "reward"}, "value": "revenue",
        "candidate": {"id": "ad_id"},
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"'features.value': 'revenue' is not read"):
        ctrkit.learn_policy(market().bandit_log(300), features=spec)


@pytest.mark.slow
def test_calibration_multiplies_by_the_ratio_of_sums_and_keeps_it(
    model: Model, table: pl.DataFrame, tmp_path: Path
) -> None:
    """On rows whose values are all a third higher, so is the factor; half of the rows judge it."""
    plain = impressions(6000)
    without = ctrkit.calibrate(Model(copy.deepcopy(model.artifact)), plain, method="platt").value.factor
    later = plain.with_columns(pl.col("revenue") * 4 / 3)
    before = model.predict(table)
    path = tmp_path / "model.pt"
    result = ctrkit.calibrate(model, later, method="platt", save=path)
    factor = result.value.factor
    assert factor.value / without.value == pytest.approx(4 / 3, rel=1e-6)
    assert factor.low < factor.value < factor.high
    assert abs(result.value.after["pcoc"].value - 1) < abs(result.value.before["pcoc"].value - 1)
    assert result.to_dict()["value"]["factor"]["value"] == factor.value
    assert "Expected values are multiplied by" in result.report().answer
    for loaded in (model, ctrkit.load(path)):
        np.testing.assert_allclose(loaded.predict(table)["value"], factor.value * before["value"], rtol=1e-12)
    # A later recalibration of the tasks keeps the value's factor.
    ctrkit.recalibrate(model, later)
    assert model.value_scaling.factor == factor.value


def test_calibration_without_conversions_leaves_the_values(model: Model) -> None:
    rows = impressions(3000)
    none = rows.with_columns(conversion=pl.lit(0, pl.Int8))
    result = ctrkit.calibrate(model, none, method="platt")
    assert result.value is None
    assert any("expected values stay uncalibrated" in note for note in result.notes)
    assert model.value_scaling is None


def test_evaluation_judges_values_on_converted_rows(model: Model) -> None:
    table = impressions(6000)
    result = ctrkit.evaluate(
        model, table, draws=20, parts=2, figures=False, gates={"value/gini": {"minimum": 0.3}}
    )
    found, predicted = result.value, model.predict(table)
    converted = (table["conversion"] == 1).to_numpy()
    v, p = table["revenue"].fill_null(0).to_numpy(), predicted["value"].to_numpy()
    assert found.rows == converted.sum()
    assert found.metrics["pcoc"].value == pytest.approx(p[converted].sum() / v.sum(), rel=1e-6)
    assert found.metrics["error"].value == pytest.approx(np.abs(p - v)[converted].sum() / v.sum(), rel=1e-6)
    assert found.metrics["error"].value < found.error_of_mean
    assert found.impressions.value == pytest.approx(predicted["impression_value"].sum() / v.sum(), rel=1e-6)
    assert found.metrics["gini"].low < found.metrics["gini"].value < found.metrics["gini"].high
    assert result.gates[0].held
    assert result.to_dict()["value"]["value/pcoc"]["value"] == found.metrics["pcoc"].value
    assert "Value" in [one.title for one in result.report().tables]
    assert any("judged on the rows with a conversion" in note for note in result.notes)


@pytest.mark.slow
def test_few_values_are_said(model: Model, table: pl.DataFrame) -> None:
    few = table.with_columns(conversion=pl.col("conversion") * (pl.int_range(pl.len()) % 200 == 0))
    result = ctrkit.evaluate(model, few, draws=20, parts=2, figures=False)
    assert any(note.startswith("value:") and "too few" in note for note in result.notes)


def test_a_gate_on_values_needs_a_model_of_values(table: pl.DataFrame) -> None:
    plain = ctrkit.train(data=table[:2000], overrides=("model=lr",)).trained
    assert plain.predict(table[:5]).columns == ["click", "conversion"]
    with pytest.raises(ConfigError, match="value/pcoc"):
        ctrkit.evaluate(plain, table, gates={"value/pcoc": {"minimum": 0.9}})


def scored(table: pl.DataFrame, model: Model, **options: Any) -> Auctions:
    return joined(list(scored_auctions(table, model, None, None, lambda *_: None, **options)))


def test_bids_expect_the_values_of_the_log_or_else_of_the_model(model: Model) -> None:
    log = market().auction_log(300)
    scores = model.score_candidates(log, log["candidates"])
    worth, pcvr = padded(log["candidate_value"]), scores.probabilities["conversion"]
    conversion = padded(log["true_conversion"])
    own, asked = scored(log, model), scored(log, model, conversion_value="model")
    without = scored(log.drop("candidate_value"), model)
    np.testing.assert_allclose(own.value_of_click, pcvr * worth)
    for found in (asked, without):
        np.testing.assert_allclose(found.value_of_click, pcvr * scores.value)
    for found in (own, asked):
        np.testing.assert_allclose(found.earned, conversion * worth)
        assert found.true_value is not None
    np.testing.assert_allclose(without.earned, conversion * scores.value)
    assert without.true_value is None
    clicks = joined(list(scored_auctions(log.drop("candidate_value"), model, 2.0, None, lambda *_: None)))
    assert set(clicks.value_of_click.ravel()) == {2.0}


def test_a_log_of_single_ads_is_bid_on_with_the_models_values(model: Model, table: pl.DataFrame) -> None:
    log = table[:200].drop("revenue").with_columns(market_price=pl.lit(0.5), value=pl.lit(3.0))
    predicted = model.predict(log)
    own, asked = scored(log, model), scored(log, model, conversion_value="model")
    without = scored(log.drop("value"), model)
    np.testing.assert_allclose(own.value_of_click[:, 0], predicted["conversion"] * 3.0, rtol=1e-6)
    for found in (asked, without):
        expected = predicted["conversion"] * predicted["value"]
        np.testing.assert_allclose(found.value_of_click[:, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(asked.earned[:, 0], log["conversion"] * 3.0)
    np.testing.assert_allclose(without.earned[:, 0], log["conversion"] * predicted["value"], rtol=1e-6)


def test_a_simulation_says_whose_values_it_counts(model: Model) -> None:
    log = market().auction_log(200)
    says = {
        "The log does not tell the value of a conversion": (log.drop("candidate_value"), "log"),
        "Bids expect the model's values of conversions": (log, "model"),
    }
    for note, (auctions, source) in says.items():
        result = ctrkit.simulate_bidding(
            auctions, model, 5.0, strategies=["truthful"], compare_models=False, conversion_value=source
        )
        assert any(one.startswith(note) for one in result.notes)
    plain = ctrkit.simulate_bidding(log, model, 5.0, strategies=["truthful"], compare_models=False)
    assert not any("values" in one for one in plain.notes)
