"""Policies as a person names them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import ctrkit
from ctrkit.api.evaluate_policy import evaluate_policy
from ctrkit.api.policies.given import Given
from ctrkit.api.policies.specs import policy_specs
from ctrkit.errors import ConfigError, DataError, InputError, RunError
from ctrkit.policies import FixedPolicy, LoggingPolicy, Policy, SoftmaxConfig, SoftmaxPolicy, UniformPolicy

CONTEXT = pl.DataFrame({"x": [1.0, 2.0]})
CANDIDATES = pl.Series("candidates", [[1, 2, 3], [1, 2]])


@pytest.fixture
def artifact(trained: Path, tmp_path: Path) -> str:
    return str(shutil.copy(trained, tmp_path / "model.pt"))


def test_the_names() -> None:
    specs = policy_specs(["uniform", "logging", "action:7", "column:mine"])
    assert [spec.name for spec in specs] == ["uniform", "logging", "action:7", "mine"]
    kinds = [type(spec.policy) for spec in specs]
    assert kinds == [UniformPolicy, LoggingPolicy, FixedPolicy, Given]


def test_one_may_stand_alone() -> None:
    assert [spec.name for spec in policy_specs("uniform")] == ["uniform"]
    assert [spec.name for spec in policy_specs(UniformPolicy())] == ["uniform"]
    with pytest.raises(ConfigError, match="no policy is given"):
        policy_specs([])


def test_an_artifact_under_several_policies(artifact: str) -> None:
    given = [artifact, f"{artifact}:softmax,temperature=0.5", f"{artifact}:thompson,draws=10", Path(artifact)]
    specs = policy_specs(given)
    assert [spec.name for spec in specs] == [
        "model: epsilon-greedy (1)",
        "model: softmax,temperature=0.5",
        "model: thompson,draws=10",
        "model: epsilon-greedy (2)",
    ]
    assert isinstance(specs[1].policy, SoftmaxPolicy)
    assert specs[1].policy.temperature == 0.5
    # One scorer for all: a block is scored once.
    assert len({id(spec.scorer) for spec in specs}) == 1
    assert policy_specs(artifact)[0].name == "epsilon-greedy"


def test_the_config_is_for_artifacts_that_name_no_policy(artifact: str) -> None:
    config = SoftmaxConfig(temperature=3.0)
    own, other, model = policy_specs([f"{artifact}:greedy", artifact, ctrkit.load(artifact)], config)
    assert isinstance(own.policy, Policy)
    assert own.policy.name == "greedy"
    for spec in (other, model):
        assert isinstance(spec.policy, SoftmaxPolicy)
        assert spec.policy.temperature == 3.0


def test_policies_as_mappings(artifact: str) -> None:
    given = [
        {"model": artifact, "name": "softmax", "temperature": 0.5},
        {"model": ctrkit.load(artifact), "name": "greedy"},
        {"name": "uniform"},
    ]
    soft, greedy, uniform = policy_specs(given)
    assert isinstance(soft.policy, SoftmaxPolicy)
    assert (soft.name, soft.policy.temperature) == ("model: softmax", 0.5)
    assert greedy.name == "greedy"
    assert isinstance(uniform.policy, UniformPolicy)
    with pytest.raises(ConfigError, match="policy 'softmax': unknown key 'temprature'"):
        policy_specs({"model": artifact, "name": "softmax", "temprature": 2})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("softmx", "Did you mean 'softmax'"),
        ("softmax,temprature=2", "unknown key 'temprature'. Did you mean 'temperature'"),
        ("greedy,temperature=2", "policy 'greedy': unknown key 'temperature'"),
        ("softmax,temperature", "'temperature' is not of the form key=value. Write temperature=VALUE"),
        ("softmax,temperature=1,temperature=2", "temperature is given twice"),
        ("softmax,temperature=-1", "temperature"),
        ("softmax,temperature=warm", "temperature"),
        ("", "there is no policy ''"),
        ("softmax,=1", "Write KEY=VALUE"),
    ],
)
def test_what_is_misspelt_is_told(artifact: str, settings: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        policy_specs([f"{artifact}:{settings}"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("unifrm", "Did you mean 'uniform'"),
        ("actoin:3", "Did you mean 'action'"),
        ("nowhere/model.pt", "no such file"),
        ("model.onnx:softmax", "no such file"),
    ],
)
def test_what_is_not_there_is_told(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        policy_specs([text])


def test_a_path_may_have_colons(artifact: str, tmp_path: Path) -> None:
    path = tmp_path / "a:b.pt"
    shutil.copy(artifact, path)
    assert policy_specs([str(path), "uniform"])[0].name == "a:b: epsilon-greedy"
    assert policy_specs([f"{path}:softmax", "uniform"])[0].name == "a:b: softmax"


def first(context: pl.DataFrame, candidates: pl.Series) -> list[list[float]]:
    return [[1.0, 0.0, 0.0]] * context.height


def test_functions() -> None:
    spec = policy_specs([first, "uniform"])[0]
    assert spec.name == "first"
    assert isinstance(spec.policy, Policy)
    found = spec.policy.probabilities(CONTEXT, CANDIDATES)
    assert found.tolist() == [[1, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([[1.0, 0.0]] * 2, r"policy wrong: probabilities of shape \(2, 2\) for candidates \(2, 3\)"),
        ([[1.0, 0, 0], [0.5, 0.4, 0]], r"probabilities of row 1 are no distribution.*sum to 0\.9"),
        ([[1.0, 0, 0], [0.5, 0, 0.5]], "row 1 are no distribution"),
        ([[1.5, -0.5, 0], [1, 0, 0]], "row 0 are no distribution"),
        ([[np.nan, 1, 0], [1, 0, 0]], "row 0 are no distribution"),
    ],
)
def test_faults_of_functions_are_said(given: list[list[float]], message: str) -> None:
    def wrong(context: pl.DataFrame, candidates: pl.Series) -> list[list[float]]:
        return given

    policy = policy_specs(wrong)[0].policy
    assert isinstance(policy, Policy)
    with pytest.raises(RunError, match=message):
        policy.probabilities(CONTEXT, CANDIDATES)


def test_names_in_tables_are_unique() -> None:
    def named(name: str) -> Policy:
        policy = UniformPolicy()
        policy.name = name  # type: ignore[misc]
        return policy

    specs = policy_specs([named("a"), named("a"), named("a (1)"), named("b")])
    assert len({spec.name for spec in specs}) == 4
    assert [spec.name for spec in specs][2:] == ["a (1)", "b"]


def test_a_probability_above_1_by_rounding_is_1_and_a_larger_one_told_in_full(tmp_path: Path) -> None:
    log = pl.DataFrame(
        {
            "action": [0, 1] * 50,
            "propensity": [0.5] * 100,
            "reward": [0.0, 1.0] * 50,
            "target_probability": [1.0000001, 0.5] * 50,
        }
    )
    evaluate_policy(log, out=tmp_path / "a", overrides=["estimators=[ips]"])
    with pytest.raises(DataError, match=r"1\.00001 is above 1"):
        evaluate_policy(log.with_columns(target_probability=pl.lit(1.00001)), out=tmp_path / "b")
