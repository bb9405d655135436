"""The commands on real logs, against published or independently computed numbers."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import ctrkit
from ctrkit.data.sources import hillstrom, open_bandit
from ctrkit.errors import InputError

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
FIXTURES = ROOT / "tests" / "fixtures"


def real(name: str) -> Path:
    """A real log, or a skip where it is absent."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{name} is not here: real logs are not part of the project")
    return path


@pytest.mark.slow
def test_ipinyou_gives_the_published_integers(tmp_path: Path) -> None:
    # Published for campaign 2997 at a 32nd of the budget, episodes of 1,000 auctions.
    result = ctrkit.simulate_bidding(
        real("ipinyou_2997_test.parquet"),
        None,
        budget=1969,
        out=tmp_path,
        overrides=[
            f"strategies=['truthful:value_per_click={19689072 / 1386}',"
            f"'linear:base_bid=10,average_ctr={1386 / 312437}']",
            "episode_length=1000",
            "max_bid=300",
            "integer_bids=true",
        ],
    )
    truthful, linear = result.to_dict()["strategies"]
    assert (truthful["auctions"], truthful["wins"], truthful["clicks"], truthful["spend"]) == (
        156063,
        14752,
        48,
        307751,
    )
    assert (linear["auctions"], linear["wins"], linear["clicks"], linear["spend"]) == (
        156063,
        32208,
        71,
        203610,
    )


@pytest.mark.parametrize("campaign", ["all", "men"])
def test_open_bandit_equals_the_reference(campaign: str, tmp_path: Path) -> None:
    try:
        log = open_bandit.read(campaign, "random")
    except InputError as error:
        pytest.skip(str(error))
    distribution = np.load(FIXTURES / f"obd_bts_dist_{campaign}.npy")  # [actions, positions]
    target = distribution[log["action"].to_numpy(), log["position"].to_numpy()]
    log = log.with_columns(bernoulli_ts=pl.Series(target))
    result = ctrkit.evaluate_policy(log, target_column="bernoulli_ts", out=tmp_path)
    found = {e["estimator"]: e["value"] for e in result.to_dict()["policies"][0]["estimates"]}
    reference = json.loads((FIXTURES / "obd_reference.json").read_text())["obd"][campaign]
    expected = reference["random->bts"]["values"]
    assert found["ips"] == pytest.approx(expected["ipw"], abs=1e-9)
    assert found["snips"] == pytest.approx(expected["snipw"], abs=1e-9)
    assert result.to_dict()["logging"]["value"] == pytest.approx(reference["random"]["on_policy_mean"])


ARM_MEANS = {
    "Mens E-Mail": (0.18276, 0.01253),
    "Womens E-Mail": (0.15140, 0.00884),
    "No E-Mail": (0.10617, 0.00573),
}


@pytest.mark.parametrize("outcome", ["visit", pytest.param("conversion", marks=pytest.mark.slow)])
@pytest.mark.parametrize("arm", ARM_MEANS)
def test_hillstroms_arm_means_are_covered_from_a_biased_log(arm: str, outcome: str, tmp_path: Path) -> None:
    table = hillstrom.read(real("hillstrom.parquet").parent)
    log = hillstrom.biased_log(table, seed=1)
    reward = "reward" if outcome == "visit" else outcome
    log = log.with_columns(reward=pl.col(reward), always=(pl.col("action") == arm).cast(pl.Float64))
    result = ctrkit.evaluate_policy(log, target_column="always", out=tmp_path).to_dict()["policies"][0]
    truth = ARM_MEANS[arm][outcome == "conversion"]
    for estimate in result["estimates"]:
        assert estimate["low"] <= truth <= estimate["high"], estimate
        assert estimate["high"] - estimate["low"] < 2 * truth  # and not by being vague


@pytest.mark.slow
def test_hillstrom_trains_visit_and_conversion_as_two_tasks(tmp_path: Path, small: tuple[str, ...]) -> None:
    folder = real("hillstrom.parquet").parent
    model = tmp_path / "m.pt"
    overrides = [*small, "training.epochs=1", "training.batch_size=1024"]
    result = ctrkit.train("hillstrom", folder, model=model, out=tmp_path / "t", overrides=overrides)
    assert list(result.metrics) == ["visit", "conversion"]
    assert result.metrics["visit"]["auc"] > 0.55
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        calibrated = ctrkit.calibrate(model, folder, out=tmp_path / "c")
    pcoc = calibrated.tasks["visit"].after.summary.pcoc
    assert pcoc.low < 1 < pcoc.high


@pytest.mark.slow
def test_news_that_training_never_saw_leave_the_verdict_open() -> None:
    """MIND: by time, most of the news of the last lists are new."""
    table = pl.read_parquet(real("mind_impressions.parquet")).filter(pl.col("event_id") % 4 == 0)
    features = {
        "group": "user_id",
        "timestamp": "timestamp",
        "categorical": [{"name": "news_id", "min_count": 1}, {"name": "hour"}],
        "numeric": [{"name": "news_rate"}, {"name": "news_age", "transform": "log1p"}],
        "candidate": {"id": "news_id"},
    }
    trained = ctrkit.train(
        data=table,
        features=features,
        split={"train": 0.7, "valid": 0.15},
        network="lr",
    )
    shares = trained.unknown["news_id"]
    rows = trained.rows
    ordered = table.sort("timestamp")["news_id"].to_list()
    known, last = set(ordered[: rows["train"]]), ordered[-rows["test"] :]
    assert shares["test"] == pytest.approx(np.mean([news not in known for news in last]))
    assert shares["test"] > 0.8 > 0.6 > shares["valid"] > shares["train"] == 0.0
    assert trained.unknown["hour"]["test"] == 0.0
    assert any("Test rows: Column 'news_id'" in note for note in trained.notes)
    found = ctrkit.evaluate(trained.trained, table, draws=20, figures=False).tasks["click"].verdict
    assert found.decision in ("cannot tell", "not fit")
    assert any("of the ids in 'news_id' are unknown to the model" in one.sentence for one in found.reasons)


@pytest.mark.slow
def test_hotels_that_come_back_do_not() -> None:
    """trivago: most hotels of the last lists were shown before."""
    table = pl.read_parquet(real("trivago_impressions.parquet")).filter(pl.col("event_id") % 4 == 0)
    features = {
        "group": "user_id",
        "timestamp": "timestamp",
        "categorical": [{"name": "position"}, {"name": "item_id", "min_count": 1}],
        "numeric": [{"name": "price", "transform": "log1p"}],
    }
    trained = ctrkit.train(data=table, features=features, network="lr")
    assert 0.0 == trained.unknown["item_id"]["train"] < trained.unknown["item_id"]["test"] < 0.8
    found = ctrkit.evaluate(trained.trained, table, draws=20, figures=False)
    rules = {one.rule for one in found.tasks["click"].verdict.findings}
    assert "unknown items" not in rules
    (share,) = [one for one in found.unknown if one.column == "item_id"]
    assert (share.training, share.item) == (0.0, True)
