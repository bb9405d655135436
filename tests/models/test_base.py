from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import torch

from ctrkit.errors import ConfigError
from ctrkit.models import (
    MODELS,
    funnel_log_complements,
    funnel_log_probabilities,
    model_config,
)


def test_funnel_probabilities_are_products() -> None:
    torch.manual_seed(0)
    logits = torch.randn(50, 3, dtype=torch.float64) * 3
    p = np.cumprod(scipy.special.expit(logits.numpy()), axis=1)
    np.testing.assert_allclose(funnel_log_probabilities(logits).exp().numpy(), p, rtol=1e-12)
    np.testing.assert_allclose(funnel_log_complements(logits).exp().numpy(), 1 - p, rtol=1e-9)


@pytest.mark.parametrize("scale", [1.0, 20.0, 200.0])
def test_funnel_is_finite_and_accurate_in_float32_at_the_extremes(scale: float) -> None:
    logits = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]]) * scale
    logits.requires_grad_()
    a, b = logits.detach().numpy().astype(np.longdouble).T
    # 1 - p q with p = 1 / (1 + e^-a) and q = 1 / (1 + e^-b) has the numerator e^-a + e^-b + e^-(a + b).
    expected = np.logaddexp(np.logaddexp(-a, -b), -a - b) - np.logaddexp(0, -a) - np.logaddexp(0, -b)
    ours = funnel_log_complements(logits)
    np.testing.assert_allclose(ours[:, 1].detach().numpy(), expected.astype(float), rtol=1e-5, atol=1e-15)
    (ours.sum() + funnel_log_probabilities(logits).sum()).backward()
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())


def test_configs_by_name() -> None:
    config = model_config({"name": "mdaf", "embedding": 8})
    assert type(config) is MODELS["mdaf"].config_class
    assert model_config(config) is config
    assert model_config(config.model_dump()) == config
    assert model_config({}).name == "mdaf"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"name": "mdfa"}, "unknown model 'mdfa'. Did you mean 'mdaf'"),
        ({"name": "mdaf", "embeding": 8}, "Did you mean 'embedding'"),
        ({"name": "mdaf", "history": {"readout": ["mean"]}}, "Did you mean 'readouts'"),
        ({"name": "mdaf", "history": {"readouts": ["latest_state"]}}, "Did you mean 'last_state'"),
        ({"name": "mdaf", "history": {"encoder": {"name": "mambo"}}}, "Did you mean 'mamba'"),
        ({"name": "mdaf", "history": {"encoder": {"stat": 8}}}, "Did you mean 'state'"),
        ({"name": "mdaf", "heads": {"name": "esm"}}, "Did you mean 'esmm'"),
        ({"name": "mdaf", "embedding": 7}, "must be even"),
        ({"name": "mdaf", "heads": {"towers": [8, 0]}}, "above 0"),
    ],
)
def test_wrong_configs_say_what_is_meant(content: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        model_config(content)


def test_every_model_is_built_from_its_own_config() -> None:
    for name, model in MODELS.items():
        assert model.config_class.model_fields["name"].default == name
