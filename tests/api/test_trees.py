"""Boosted trees from training to bids, by every command that takes a model."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

import ctrkit
from ctrkit.api.models.training_config import load_train_config
from ctrkit.api.train import TrainingResult
from ctrkit.config import read_yaml
from ctrkit.errors import ArtifactError, ConfigError

pytest.importorskip("lightgbm")
pytestmark = [
    pytest.mark.filterwarnings("ignore::ctrkit.calibration.CalibrationWarning"),
    pytest.mark.filterwarnings("ignore::ctrkit.evaluation.measures.EvaluationWarning"),
]
FEW = {"name": "lightgbm", "rounds": 10, "leaves": [7], "categories": [False]}


@pytest.fixture(scope="module")
def result(logs: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    folder = tmp_path_factory.mktemp("trees")
    return ctrkit.train(
        data=logs / "impressions.parquet", network=FEW, model=folder / "model.pt", out=folder / "run"
    )


def test_the_artifact_predicts_what_was_trained(result: TrainingResult, logs: Path) -> None:
    rows = pl.read_parquet(logs / "impressions.parquet")[:300]
    assert result.metrics["click"]["auc"] > 0.5
    loaded = ctrkit.load(result.model)
    assert loaded.predict(rows).equals(result.trained.predict(rows))
    assert result.artifact.posterior is None
    assert not any("posterior" in note for note in result.notes)
    (drawing,) = result.figures().values()
    assert drawing().caption.startswith("Loss by trees")
    assert [one["trees"] for one in result.history.events] == [10]


SPEC = {"features": {"numeric": [{"name": "user_age"}]}}
GIVEN = {
    "as a keyword": (None, (), {"network": FEW, "training": {"epochs": 3}}),
    "beside the name": ("sample", ["model.name=lightgbm", "training.epochs=3"], {}),
    "in the model's own config": ({"model": FEW, **SPEC, "training": {"epochs": 3}}, (), {}),
}


@pytest.mark.parametrize("how", GIVEN)
def test_settings_of_gradient_steps_are_refused(how: str) -> None:
    config, overrides, keywords = GIVEN[how]
    with pytest.raises(ConfigError, match=r"'training.epochs' is for gradient steps.*'lightgbm' takes none"):
        load_train_config(config, overrides, keywords)


def test_a_policy_of_a_posterior_is_refused_before_training() -> None:
    with pytest.raises(ConfigError, match=r"'thompson' draws from the posterior.*'lightgbm' has no such lay"):
        load_train_config("sample", ["model.name=lightgbm", "policy.name=thompson"])
    assert load_train_config("sample", ["policy.name=thompson"]).policy.name == "thompson"


def test_settings_of_a_config_for_another_model_are_left_out(result: TrainingResult) -> None:
    assert any(
        "does not read training.batch_size, training.epochs, training.optimizer" in note
        for note in result.notes
    )
    written = Path(result.model).parent / "run" / "config.yaml"
    assert "training" not in read_yaml(written)
    assert load_train_config(written).model.name == "lightgbm"


def test_every_command_takes_it(result: TrainingResult, logs: Path) -> None:
    model = ctrkit.load(result.model)
    ctrkit.calibrate(model, method="platt")
    assert ctrkit.evaluate(model, draws=20, figures=False).tasks["click"].rows > 1000
    greedy = ctrkit.evaluate_policy(pl.read_parquet(logs / "bandit.parquet")[:500], model)
    assert greedy.truth is not None
    auctions = pl.read_parquet(logs / "auctions.parquet")[:500]
    spent = ctrkit.simulate_bidding(auctions, model, budget=20, strategies=["dual"]).to_dict()
    assert spent["strategies"]
    told = ctrkit.explain(model, repeats=2, most_rows=300, dependence_rows=5, top=1)
    assert {one.feature for one in told.importance} >= {"ad_id", "past events"}
    assert told.map is None
    assert any("this model has no gradients" in note for note in told.notes)
    assert any("probabilities are the model's own" in note or "shap" in note for note in told.notes)
    assert len(told.report().tables[0].header) == 3  # there are no shares


def test_what_needs_a_network_says_so(result: TrainingResult, logs: Path) -> None:
    model = ctrkit.load(result.model)
    with pytest.raises(ArtifactError, match=r"no posterior.*no last layer"):
        ctrkit.evaluate_policy(logs / "bandit.parquet", model, overrides=["policy.name=thompson"])
    with pytest.raises(ConfigError, match="needs the gradients of a network"):
        ctrkit.explain(model, method="ig", most_rows=50, repeats=2)
    with pytest.raises(ConfigError, match="'lightgbm' is no network"):
        ctrkit.learn_policy(logs / "bandit.parquet", policy=model)
