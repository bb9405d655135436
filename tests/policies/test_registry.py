from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ctrkit.api.policies.config import OpeConfig
from ctrkit.config import settings_of
from ctrkit.errors import ConfigError
from ctrkit.policies import (
    POLICIES,
    GreedyConfig,
    LastLayerPosterior,
    ScoreUncertainty,
    SoftmaxConfig,
    ThompsonConfig,
    ThompsonPolicy,
    policy_config,
)
from ctrkit.settings import content_of, line_of

BELIEF = ScoreUncertainty(
    lambda context, candidates: np.array([[[1.0], [0.5], [-1.0]]]),
    LastLayerPosterior(np.array([0.5, -1.0]), np.array([[2.0, 0.1], [0.1, 1.0]])),
)
ROW = (pl.DataFrame({"x": [0]}), pl.Series("candidates", [[1, 2, 3]]))


def test_thompson_by_name_is_the_class_with_the_configs_settings() -> None:
    made = ThompsonConfig(draws=50, seed=3).policy(lambda c, a: np.zeros((1, 3)), BELIEF)
    expected = ThompsonPolicy(BELIEF.reader, BELIEF.posterior, draws=50, seed=3)
    np.testing.assert_array_equal(made.probabilities(*ROW), expected.probabilities(*ROW))
    # 50 draws: all probabilities are fiftieths.
    np.testing.assert_allclose(
        made.probabilities(*ROW) * 50, np.round(made.probabilities(*ROW) * 50), atol=1e-9
    )


def test_thompson_without_a_posterior() -> None:
    with pytest.raises(ConfigError, match="draws from a posterior, and here are scores alone"):
        ThompsonConfig().policy(lambda c, a: np.zeros((1, 3)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"name": "tompson"}, "Did you mean 'thompson'"),
        ({"name": "thompson", "draws": 0}, "draws"),
        ({"name": "thompson", "seed": -1}, "seed"),
        ({"name": "thompson", "drws": 5}, "Did you mean 'draws'"),
    ],
)
def test_bad_configs(content: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        policy_config(content)


def test_what_was_written_down_with_the_settings_of_all_policies_is_read() -> None:
    """Runs and artifacts of before."""
    old = {"name": "softmax", "temperature": 0.5, "epsilon": 0.1, "draws": 1000, "seed": 0}
    assert policy_config(old) == SoftmaxConfig(temperature=0.5)
    assert policy_config({}) == policy_config("greedy") == GreedyConfig()


def test_a_config_is_written_down_as_it_is_read() -> None:
    for name in POLICIES:
        made = policy_config(name)
        assert policy_config(content_of(made)) == made == policy_config(line_of(made))


def test_a_policy_laid_over_a_config_is_another_or_the_same_with_other_settings() -> None:
    base = OpeConfig(policy={"name": "thompson", "draws": 50, "seed": 3})  # type: ignore[arg-type]
    for given, wanted in (
        ("softmax", SoftmaxConfig()),
        ("softmax:temperature=0.5", SoftmaxConfig(temperature=0.5)),
        ({"name": "softmax", "temperature": 2}, SoftmaxConfig(temperature=2.0)),
        ({"draws": 7}, ThompsonConfig(draws=7, seed=3)),
        (GreedyConfig(), GreedyConfig()),
    ):
        assert settings_of(OpeConfig, base, (), {"policy": given}).policy == wanted
    assert settings_of(OpeConfig, base, ["policy.draws=7"]).policy == ThompsonConfig(draws=7, seed=3)
    assert settings_of(OpeConfig, base, ["policy.name=softmax"]).policy == SoftmaxConfig()
