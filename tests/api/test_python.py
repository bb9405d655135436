"""The functions of ctrkit as Python has them: settings as keywords, nothing written unless asked, help."""

from __future__ import annotations

import doctest
import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import ctrkit
from ctrkit.config import Config
from ctrkit.errors import ConfigError

FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: getattr(ctrkit, name) for name in ctrkit.__all__ if not inspect.isclass(getattr(ctrkit, name))
}
WITH_CONFIG: dict[str, tuple[type[Config], ...]] = {
    "calibrate": (ctrkit.CalibrateConfig,),
    "check_log": (ctrkit.CheckConfig,),
    "evaluate": (ctrkit.EvaluateConfig,),
    "evaluate_policy": (ctrkit.OpeConfig, ctrkit.BidsConfig),
    "explain": (ctrkit.ExplainConfig,),
    "interleave": (ctrkit.InterleaveConfig,),
    "learn_policy": (ctrkit.LearnPolicyConfig,),
    "list_models": (ctrkit.TrainConfig,),
    "monitor": (ctrkit.MonitorConfig,),
    "plan_budget": (ctrkit.PlanBudgetConfig,),
    "predict": (ctrkit.PredictConfig,),
    "prepare": (ctrkit.TrainConfig,),
    "recalibrate": (ctrkit.RecalibrateConfig,),
    "serve": (ctrkit.ServeConfig,),
    "simulate_bidding": (ctrkit.BiddingConfig,),
    "train": (ctrkit.TrainConfig,),
}


@pytest.mark.slow
def test_importing_ctrkit_loads_nothing_heavy_and_reaches_every_module() -> None:
    program = """
import sys, ctrkit
heavy = {"torch", "polars", "pandas", "numpy", "scipy", "sklearn", "pydantic"} & {*sys.modules}
assert not heavy, heavy
assert ctrkit.errors.ConfigError and ctrkit.metrics.auc and ctrkit.schema.FeatureSpec
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    assert {"ope", "bidding", "calibration", "tables", "OpeConfig"} <= {*dir(ctrkit)}
    assert all(getattr(ctrkit, name) for name in dir(ctrkit))
    with pytest.raises(AttributeError, match="has no attribute 'metric'"):
        _ = ctrkit.metric


@pytest.mark.parametrize("name", WITH_CONFIG)
def test_every_setting_is_shown_with_type_default_and_meaning(name: str) -> None:
    function = FUNCTIONS[name]
    parameters, told = inspect.signature(function).parameters, inspect.getdoc(function) or ""
    own = {*inspect.unwrap(function).__kwdefaults__}
    for kind in WITH_CONFIG[name]:
        for key, field in kind.model_fields.items():
            shown = parameters[kind.keyword_names.get(key, key)]
            assert re.search(rf"\b{shown.name}\b[\w, ]*:", told), f"{shown.name} is not explained"
            default = field.get_default(call_default_factory=True)
            if shown.name not in own and not field.is_required() and not isinstance(default, Config):
                assert shown.default == default
                assert shown.annotation is not inspect.Parameter.empty
        own |= {*kind.model_fields}
    assert not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())


def test_only_functions_without_a_config_show_no_settings() -> None:
    without = {
        "calibrate_scores", "export_model", "get_features", "import_model", "inspect", "join_feedback",
        "list_sources", "list_versions", "load", "promote_model", "push_features", "push_model",
        "rollback_model", "sample_logs", "summary",
    }  # fmt: skip
    assert without == {*FUNCTIONS} - {*WITH_CONFIG}


@pytest.mark.parametrize(
    "given",
    [
        {"estimators": ["ips"], "confidence": 0.9},
        {"config": {"estimators": ["ips"], "confidence": 0.9}},
        {"config": ctrkit.OpeConfig(estimators=("ips",), confidence=0.9)},
        {
            "config": {"estimators": ["dr"], "confidence": 0.8},
            "overrides": ["confidence=0.9"],
            "estimators": ("ips",),
        },
        {"config": "settings.yaml"},
    ],
    ids=["keywords", "mapping", "config", "all three", "file"],
)
def test_settings_come_as_keywords_mapping_config_or_file_and_nothing_is_written(
    given: dict[str, Any], logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = tmp_path / "settings.yaml"
    settings.write_text("estimators: [ips]\nconfidence: 0.9\n")
    for drawing in ("policy_report", "policy_figures"):
        monkeypatch.setattr(f"ctrkit.api.policies.value.{drawing}", lambda *_: pytest.fail("it was drawn"))
    result = ctrkit.evaluate_policy(logs / "bandit.parquet", "uniform", **given)
    (policy,) = result.to_dict()["policies"]
    assert [one["estimator"] for one in policy["estimates"]] == ["ips"]
    assert result.evaluation.confidence == 0.9
    assert list(tmp_path.iterdir()) == [settings]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"estimatorz": ["ips"]},
            r"evaluate_policy\(\) has no argument 'estimatorz'. Did you mean 'estimators'",
        ),
        ({"target_colum": "p"}, "Did you mean 'target_column'"),
        ({"config": {"fold": 2}}, "unknown key 'fold'. Did you mean 'folds'"),
        ({"config": 3}, "the config has the type int. Give a OpeConfig, a mapping of its keys, or the path"),
        ({"config": ctrkit.CheckConfig()}, "the config has the type CheckConfig. Give a OpeConfig"),
        ({"folds": "many"}, "key 'folds' is 'many' and must be a whole number"),
        ({"kernel": "gaussian"}, "unknown key 'kernel'"),
        ({"artifact_policy": {"name": "softmx"}}, "there is no 'softmx'|no policy 'softmx'"),
    ],
)
def test_wrong_settings_are_told_like_wrong_keys(given: dict[str, Any], said: str, logs: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        ctrkit.evaluate_policy(logs / "bandit.parquet", "uniform", **given)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ctrkit.calibration.CalibrationWarning")
def test_a_model_is_trained_used_and_calibrated_in_memory(
    logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = pl.read_parquet(logs / "impressions.parquet")[:6000]
    quick: dict[str, Any] = {"network": {"name": "fm", "embedding": 4}, "training": {"epochs": 1}}
    result = ctrkit.train(data=rows, **quick)
    model = result.trained
    assert result.model is None
    assert model.artifact.config["training"]["batch_size"] == 256, "the rest of the sample's config stays"
    before = model.predict(rows[:100])
    ctrkit.calibrate(model, rows, method="temperature")
    after = model.predict(rows[:100])
    assert (before["click"] != after["click"]).any()
    ctrkit.evaluate_policy(logs / "bandit.parquet", model, estimators=["ips"])
    learnt = ctrkit.learn_policy(logs / "bandit.parquet", policy=model, learning={"epochs": 1}).trained
    assert model.predict(rows[:100]).equals(after), "learning from a model changed it"
    assert learnt.policy.name == "softmax"
    assert list(tmp_path.iterdir()) == []
    ctrkit.train(data=rows, **quick, model="model.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]
    assert ctrkit.load("model.pt").predict(rows[:100]).equals(before)


def test_features_as_a_keyword_take_the_place_of_the_samples() -> None:
    rows = pl.DataFrame({"shop": [*"abcd"] * 100, "bought": ([0, 0, 1] * 134)[:400]})
    spec = {"labels": {"purchase": "bought"}, "categorical": [{"name": "shop"}]}
    model = ctrkit.train(data=rows, features=spec, network="lr").trained
    assert model.tasks == ("purchase",)
    assert model.spec.sequences == ()


@pytest.fixture(params=FUNCTIONS)
def example(request: pytest.FixtureRequest) -> doctest.DocTest:
    """The end of a function's help."""
    documentation = inspect.getdoc(FUNCTIONS[request.param])
    assert documentation is not None
    _, told, example = documentation.partition("\nExample:\n")
    assert told
    assert all(line.startswith("    ") for line in example.splitlines())
    return doctest.DocTestParser().get_doctest(example, {}, request.param, None, None)


def test_help_ends_with_an_example(example: doctest.DocTest) -> None:
    assert example.examples
    for one in example.examples:
        compile(one.source, example.name, "single")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_example_runs(example: doctest.DocTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    doctest.DocTestRunner().run(example, out=said.append)
    assert not said, "".join(said)
