"""Sampled negatives from training to use: the same rows in memory and on disk, no claim of probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.special import expit

import ctrkit
from ctrkit.api.models.model import Model
from ctrkit.errors import ArtifactError, ConfigError, DataError, DataWarning

NEGATIVES = {"per_positive": 3, "by": "popularity", "corrected": True}
ITEMS, USERS = 40, 300
FEATURES = {
    "labels": {"click": "click"},
    "categorical": [{"name": "item"}, {"name": "kind"}, {"name": "user"}, {"name": "taste"}],
    "candidate": {"id": "item", "features": ["kind"]},
    "group": "user",
    "timestamp": "time",
}


def impressions(rows: int, seed: int = 0) -> pl.DataFrame:
    """Impressions of items drawn at random: users of a taste click items of that kind."""
    rng = np.random.default_rng(seed)
    item, user = rng.integers(0, ITEMS, rows), rng.integers(0, USERS, rows)
    click = rng.random(rows) < expit(-2.0 + 2.5 * (item % 4 == user % 4) + (item % 3 == 0))
    return pl.DataFrame(
        {
            "item": item, "kind": item % 4, "user": user, "taste": user % 4,
            "time": np.arange(rows) + 1_000_000, "click": click.astype(int),
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def clicks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of clicks alone."""
    file = tmp_path_factory.mktemp("clicks") / "clicks.parquet"
    impressions(16_000).filter(click=1).write_parquet(file)
    return file


def arguments(**change: Any) -> dict[str, Any]:
    return {"features": FEATURES, "network": "lr", "sampling": {"negatives": NEGATIVES}, **change}


@pytest.fixture(scope="module")
def model(clicks: Path) -> Model:
    return ctrkit.train(data=clicks, **arguments()).trained


def fresh(model: Model) -> Model:
    return Model(model.artifact)


@pytest.fixture
def artifact(model: Model, tmp_path: Path) -> Path:
    model.artifact.save(tmp_path / "model.pt")
    return tmp_path / "model.pt"


def test_clicks_alone_tell_what_users_click(model: Model, clicks: Path) -> None:
    later = impressions(6_000, seed=1)
    with pytest.warns(DataWarning, match="no probabilities"):
        p = model.predict(later)["click"].to_numpy()
    same = (later["item"] % 4 == later["user"] % 4).to_numpy()
    assert p[same].mean() > 2.0 * p[~same].mean()
    truth = expit(-2.0 + 2.5 * same + (later["item"] % 3 == 0).to_numpy())
    assert np.corrcoef(np.log(truth), np.log(p / (1 - p)))[0, 1] > 0.9
    # 3 negatives for each click, by weight.
    result = ctrkit.train(data=clicks, **arguments())
    assert 0.2 < result.metrics["click"]["positives"] / result.metrics["click"]["rows"] < 0.3
    told = " ".join(result.notes)
    for part in (
        "With 'item' of another row come 'kind'",
        "keeps 'user', 'taste'",
        "no base rate",
        "sampled metrics",
    ):
        assert part in told


def test_memory_and_disk_give_the_same_training(clicks: Path, model: Model, tmp_path: Path) -> None:
    prepared = ctrkit.prepare(data=clicks, **arguments(), out=tmp_path / "prepared")
    trained = ctrkit.train(data=tmp_path / "prepared", network="lr")
    assert trained.artifact.data["fingerprint"] == model.artifact.data["fingerprint"]
    assert prepared.rows == {p: trained.rows[p] for p in ("train", "valid", "test")}
    table = pl.concat(
        pl.read_parquet(tmp_path / "prepared" / f"{part}_data.parquet") for part in ("train", "val", "test")
    )
    assert table["click"].mean() == pytest.approx(0.25, abs=0.01)
    with pytest.raises(DataError, match=r"prepared with other settings: .*negatives"):
        ctrkit.train(
            data=tmp_path / "prepared", config=tmp_path / "prepared" / "config.yaml",
            sampling={"negatives": {"per_positive": 2}},
        )  # fmt: skip


def test_an_evaluation_reads_the_same_sampled_rows_and_says_so(model: Model) -> None:
    result = ctrkit.evaluate(fresh(model))
    found = result.tasks["click"]
    assert found.measured.intervals["auc"].value == pytest.approx(
        model.artifact.metrics["train"]["click"]["auc"]
    )
    assert found.verdict.decision == "not fit"
    assert any("sampled metrics" in note for note in result.notes)
    with pytest.raises(DataError, match="needs rows of both classes"):
        ctrkit.evaluate(fresh(model), impressions(2_000, seed=1).filter(click=1))


def test_nothing_takes_its_predictions_for_probabilities_before_they_are(
    artifact: Path, clicks: Path
) -> None:
    for read, data in ((ctrkit.calibrate, None), (ctrkit.calibrate, clicks), (ctrkit.recalibrate, clicks)):
        with pytest.raises(DataError, match=r"does not tell how frequent|that the model was trained on"):
            read(artifact, data)
    later = impressions(3_000, seed=2).filter(click=1)
    for read in (ctrkit.calibrate, ctrkit.recalibrate):
        with pytest.raises(DataError, match="does not tell how frequent click is"):
            read(artifact, later)
    with pytest.warns(DataWarning, match="no probabilities"):
        assert any("no probabilities" in note for note in ctrkit.predict(artifact, later).notes)
    with pytest.raises(ArtifactError, match=r"bids need probabilities.*ctrkit calibrate"):
        ctrkit.simulate_bidding(model=artifact, budget=10)
    # A log of impressions gives the base rate.
    shown = impressions(8_000, seed=3)
    ctrkit.calibrate(artifact, shown)
    loaded = ctrkit.load(artifact)
    assert loaded.has_base_rate
    assert loaded.predict(shown)["click"].mean() == pytest.approx(shown["click"].mean(), rel=0.1)


def test_one_calibrated_model_alone_may_give_rewards(model: Model) -> None:
    from ctrkit.api.policies.artifact_rewards import ArtifactRewards

    with pytest.raises(ArtifactError, match="rewards need probabilities"):
        ArtifactRewards(fresh(model))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"sampling": {"negatives": {}, "kept_negatives": 0.5}}, ConfigError, "set per_positive"),
        ({"features": {**FEATURES, "impressions": "shown"}}, ConfigError, "stand for many impressions"),
        (
            {"delays": {"click": {"window": "1d", "time": "clicked"}}},
            ConfigError,
            "delays are of logged rows",
        ),
        (
            {
                "derive": [{"name": "cross", "of": ["user", "kind"], "makes": "pair"}],
                "features": {**FEATURES, "categorical": [*FEATURES["categorical"], {"name": "pair"}]},
            },
            ConfigError,
            "'pair' is derived from the item",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(
    clicks: Path, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ctrkit.train(data=clicks, **arguments(**change))


def test_derived_columns_of_the_user_and_hard_negatives_go_with_it() -> None:
    """Shown items that were not clicked are the negatives of a session."""
    shown = impressions(4_000)
    result = ctrkit.train(
        data=shown,
        **arguments(
            derive=[{"name": "calendar", "time": "time", "makes": {"hour": "hour"}}],
            features={**FEATURES, "categorical": [*FEATURES["categorical"], {"name": "hour"}]},
            network={"name": "dnn", "hidden": [8]},
            training={"epochs": 1, "validations_per_epoch": 1},
            sampling={
                "negatives": {"by": "session", "replace_logged": True},
                "hard_negatives": {"kept": 0.5},
            },
        ),
    )
    read = sum(result.rows[part] for part in ("train", "valid", "test"))
    assert 4.5 < read / shown["click"].sum() <= 5.0
    assert any("keeps 'user', 'taste', 'hour' of" in note for note in result.notes)
