"""The headline of a replay says what its values rest on, and does not praise predictions that are wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import ctrkit
from ctrkit.api.simulate_bidding import BiddingResult
from ctrkit.errors import ConfigError, DataError
from ctrkit.metrics import pcoc

FAST = {"strategies": ["truthful:value_per_click=2", "dual"], "compare_models": False}


def log(rows: int = 4000) -> pl.DataFrame:
    """Auctions of which 5 % are clicked, with the probabilities that clicks were drawn with."""
    random = np.random.default_rng(0)
    p = random.beta(2, 38, rows)
    click = random.random(rows) < p
    conversion = click & (random.random(rows) < 0.5)
    return pl.DataFrame(
        {
            "market_price": random.gamma(2, 0.02, rows),
            "pctr": p,
            "click": click.astype(int),
            "conversion": conversion.astype(int),
            "device": random.choice(["phone", "desktop"], rows),
        }
    )


LOG = log()
TRIPLED = LOG.with_columns(pl.col("pctr") * 3)


def replay(auctions: pl.DataFrame, **settings: object) -> BiddingResult:
    result = ctrkit.simulate_bidding(auctions, budget=20, **FAST, **settings)
    assert isinstance(result, BiddingResult)
    return result


def test_values_by_predictions_that_agree_with_the_log_are_called_so() -> None:
    result = replay(LOG)
    answer = result.report().answer or ""
    assert "bought the most value" in answer
    found = result.basis.pcoc
    assert found is not None
    assert found.value == pytest.approx(pcoc(LOG["click"], LOG["pctr"]))
    assert f"Value is counted by predictions whose PCOC is {found.value:.4g} [" in answer
    blind = replay(LOG.drop("click", "conversion"))
    assert "by the predictions alone, as the log has no clicks to check them" in (blind.report().answer or "")
    assert blind.to_dict()["value"] == {"basis": "prediction", "pcoc": None, "value_pcoc": None}


def test_wrong_predictions_are_told_first_and_strategies_compared_by_clicks() -> None:
    result = replay(TRIPLED)
    answer = result.report().answer or ""
    most = max(result.simulation.strategies, key=lambda one: one.clicks or 0)
    assert answer.startswith("The predicted clicks are ")
    assert answer.endswith(
        f"By the outcomes in the log, {most.name} earned the most: {most.clicks:.0f} clicks."
    )
    assert "bought the most value" not in answer
    assert result.to_dict()["value"]["basis"] == "outcomes"
    swept = ctrkit.simulate_bidding(TRIPLED, budget="5:20:2", **FAST)
    assert (swept.report().answer or "").startswith("The predicted clicks are ")


def test_money_is_compared_with_money_and_clicks_with_clicks() -> None:
    own = LOG.with_columns(value=pl.lit(30.0))
    assert replay(own).basis.value_pcoc is None  # without pcvr, values count clicks
    right, wrong = (replay(own.with_columns(pcvr=pl.lit(rate))) for rate in (0.5, 1.0))
    assert right.basis.basis == "prediction"
    assert wrong.basis.basis == "outcomes"
    expected = (own["pctr"] * 1.0 * 30).sum() / (own["conversion"] * 30).sum()
    assert wrong.basis.value_pcoc is not None
    assert wrong.basis.value_pcoc.value == pytest.approx(expected)
    earned = max(one.earned or 0 for one in wrong.simulation.strategies)
    assert f"earned the most: {earned:,.0f}." in (wrong.report().answer or "")


def test_a_calibrator_mends_the_predictions_of_a_log(tmp_path: Path) -> None:
    file = tmp_path / "cal.json"
    scores = TRIPLED.select("click", "pctr", "device")
    ctrkit.calibrate(scores=scores, method="field-aware", field="device", save=file)
    mended = replay(TRIPLED, calibrator=file)
    assert mended.basis.basis == "prediction"
    calibrator = ctrkit.ScoreCalibrator.load(file)
    by_hand = replay(TRIPLED.with_columns(pctr=calibrator(TRIPLED["pctr"], TRIPLED["device"])))
    assert mended.simulation.to_dict() == by_hand.simulation.to_dict()
    assert any(note.startswith("pctr went through the calibrator: its mean is ") for note in mended.notes)
    with pytest.raises(DataError, match="column 'device': the column is missing"):
        replay(TRIPLED.drop("device"), calibrator=file)
    with pytest.raises(ConfigError, match="--replay, --model and --calibrator"):
        ctrkit.simulate_bidding(budget=3, market="auctions=100", calibrator=file)
