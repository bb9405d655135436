from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ctrkit.config import build
from ctrkit.errors import ConfigError
from ctrkit.policies import Belief, LastLayerPosterior, PolicyConfig, ThompsonPolicy, make_policy
from ctrkit.policies.registry import POLICIES, SETTINGS

BELIEF = Belief(
    lambda context, candidates: np.array([[[1.0], [0.5], [-1.0]]]),
    LastLayerPosterior(np.array([0.5, -1.0]), np.array([[2.0, 0.1], [0.1, 1.0]])),
)
ROW = (pl.DataFrame({"x": [0]}), pl.Series("candidates", [[1, 2, 3]]))


def test_thompson_by_name_is_the_class_with_the_configs_settings() -> None:
    made = make_policy(PolicyConfig(name="thompson", draws=50, seed=3), lambda c, a: np.zeros((1, 3)), BELIEF)
    expected = ThompsonPolicy(BELIEF.reader, BELIEF.posterior, draws=50, seed=3)
    np.testing.assert_array_equal(made.probabilities(*ROW), expected.probabilities(*ROW))
    # 50 draws: all probabilities are fiftieths.
    np.testing.assert_allclose(
        made.probabilities(*ROW) * 50, np.round(made.probabilities(*ROW) * 50), atol=1e-9
    )


def test_thompson_without_a_posterior() -> None:
    with pytest.raises(ConfigError, match="draws from a posterior, and here are scores alone"):
        make_policy(PolicyConfig(name="thompson"), lambda c, a: np.zeros((1, 3)))


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
        build(PolicyConfig, content)


def test_every_setting_is_of_some_policy() -> None:
    assert set(SETTINGS) == set(POLICIES)
    read = {setting for settings in SETTINGS.values() for setting in settings}
    assert read == set(PolicyConfig.model_fields) - {"name"}
