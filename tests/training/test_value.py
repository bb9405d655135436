"""The loss and the mean of the value: against SciPy, by maximum likelihood, and in a training run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import lognorm

from ctrkit.data.encoded import EncodedTable
from ctrkit.data.feature_map import FeatureMap
from ctrkit.data.split import Split
from ctrkit.models import CtrModel, build_model, model_config
from ctrkit.models.heads.config import TowersConfig
from ctrkit.models.heads.towers import LEAST_DEVIATION, ValueTower
from ctrkit.training import TrainingConfig, fit, predict
from ctrkit.training.losses import value_loss
from ctrkit.training.prediction import Outputs

FEATURES = FeatureMap(
    tables={"ad": 30}, categorical={"ad": "ad"}, numeric=("x", "y"), tasks=("click", "conversion"), value=True
)


def drawn(n: int = 400, zeros: float = 0.3) -> tuple[torch.Tensor, ...]:
    """Distributions, values, labels and weights of n rows; other rows than converted ones hold nonsense."""
    rng = np.random.default_rng(0)
    distribution = np.column_stack([rng.normal(size=n), rng.normal(2, 1, n), rng.uniform(0.1, 2, n)])
    value = np.where(rng.random(n) < zeros, 0.0, rng.lognormal(2, 1, n))
    click = rng.random(n) < 0.6
    conversion = click & (rng.random(n) < 0.5)
    value[~conversion] = rng.choice([np.nan, -3.0, 1e9], (~conversion).sum())
    labels = np.column_stack([click, conversion]).astype(np.float64)
    return tuple(map(torch.from_numpy, (distribution, value, labels, rng.uniform(0, 2, n))))


def test_the_loss_is_the_likelihood_of_scipy_without_its_constants() -> None:
    distribution, value, labels, weight = drawn()
    expected = 0.0
    for (logit, mean, deviation), v, (_, converted), w in zip(
        distribution.numpy(), value.numpy(), labels.numpy(), weight.numpy(), strict=True
    ):
        if not converted:
            continue
        if v == 0:
            expected -= w * np.log(1 - expit(logit))
            continue
        density = expit(logit) * lognorm(deviation, scale=np.exp(mean)).pdf(v)
        expected -= w * (np.log(density) + np.log(v) + np.log(2 * np.pi) / 2 + np.log(LEAST_DEVIATION))
    found = value_loss(distribution, value, labels, weight)
    assert float(found) == pytest.approx(expected / float(weight.sum()), rel=1e-12)
    assert float(found) > 0


def test_rows_without_a_value_have_no_gradient_and_a_batch_without_any_has_no_loss() -> None:
    distribution, value, labels, weight = drawn()
    distribution.requires_grad_()
    value_loss(distribution, value, labels, weight).backward()
    given = labels[:, -1] == 1
    assert bool(distribution.grad.isfinite().all())
    assert bool((distribution.grad[~given] == 0).all())
    assert bool((distribution.grad[given] != 0).any(dim=1).all())
    distribution.grad = None
    nothing = value_loss(distribution, value, torch.zeros_like(labels), weight)
    nothing.backward()
    assert nothing.item() == 0
    assert not bool(distribution.grad.any())


def test_the_mean_is_that_of_scipy_and_of_draws() -> None:
    distribution = np.array([[0.4, 1.0, 0.5], [40.0, -2.0, 1.2], [-3.0, 8.0, 0.05]])
    found = Outputs(np.zeros((3, 1)), np.zeros((3, 1), np.float32), distribution).expected_value
    expected = [expit(p) * lognorm(s, scale=np.exp(m)).mean() for p, m, s in distribution]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    rng = np.random.default_rng(1)
    draws = rng.lognormal(1.0, 0.5, 1_000_000) * (rng.random(1_000_000) < expit(0.4))
    assert found[0] == pytest.approx(draws.mean(), rel=0.005)


def test_intercepts_alone_find_the_maximum_likelihood_of_scipy() -> None:
    """And so the mean of a draw from a known distribution, p exp(μ + σ²/2), to within its noise."""
    rng, n, true = np.random.default_rng(2), 4000, (0.7, 3.0, 0.8)
    value = rng.lognormal(true[1], true[2], n) * (rng.random(n) < true[0])
    weight = rng.uniform(0.5, 1.5, n)

    def cost(at: Any) -> float:
        p, above = expit(at[0]), value > 0
        density = lognorm(np.exp(at[2]), scale=np.exp(at[1])).logpdf(np.where(above, value, 1.0))
        return -float(weight @ np.where(above, np.log(p) + density, np.log1p(-p)))

    best = minimize(cost, [0.0, 1.0, 0.0], method="BFGS").x
    torch.manual_seed(0)
    tower, nothing = ValueTower(1, TowersConfig(name="esmm")).double(), torch.zeros(n, 1).double()
    tower.start_from(0.5, 0.0, 1.0)
    parts = torch.from_numpy(value), torch.ones(n, 1).double(), torch.from_numpy(weight)
    optimizer = torch.optim.LBFGS(tower.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        loss = value_loss(tower(nothing, nothing[:, :0]), *parts)
        loss.backward()
        return loss.item()

    optimizer.step(closure)
    found = tower(nothing, nothing[:, :0])[0].detach().numpy()
    np.testing.assert_allclose(found, [best[0], best[1], np.exp(best[2])], rtol=1e-3)
    mean = Outputs(np.zeros((1, 1)), np.zeros((1, 1), np.float32), found[None]).expected_value
    assert mean[0] == pytest.approx(true[0] * np.exp(true[1] + true[2] ** 2 / 2), rel=0.05)


@pytest.fixture(scope="module")
def valued(data: EncodedTable) -> EncodedTable:
    """Values that depend on a number, with zeros, of the converted rows."""
    rng = np.random.default_rng(3)
    value = np.exp(2.0 + 0.8 * data.numeric[:, 0] + 0.3 * rng.normal(size=len(data)))
    value = value * (rng.random(len(data)) < 0.8) * data.labels[:, 1]
    return replace(data, value=value.astype(np.float32))


def trained(
    data: EncodedTable, split: Split, *, base: tuple[float, float, float] = (0.8, 2.0, 0.9), **options: Any
) -> tuple[CtrModel, bool]:
    """A small network, and whether its training was resumed."""
    torch.manual_seed(0)
    content = {"name": "dnn", "embedding": 4, "hidden": [16], "heads": {"towers": [8], "dropout": 0.1}}
    network = build_model(model_config(content), FEATURES)
    network.set_value_base(*base)
    stop_at, checkpoint = options.pop("stop_at", None), options.pop("checkpoint", None)

    def on_step(done: int, total: int, what: str) -> None:
        if done == stop_at:
            raise KeyboardInterrupt

    settings = {"epochs": 4, "batch_size": 256, "checkpoint_steps": 3, "optimizer": {"learning_rate": 0.01}}
    config = TrainingConfig.model_validate(settings | options)
    history = fit(network, data, split, config, seed=1, identity={}, checkpoint=checkpoint, on_step=on_step)
    return network, history.resumed


def test_a_network_learns_the_values_in_any_unit(valued: EncodedTable, split: Split) -> None:
    network, _ = trained(valued, split, epochs=12)
    outputs = predict(network, valued, split.test)
    truth = 0.8 * np.exp(2.0 + 0.8 * valued.numeric[split.test, 0] + 0.3**2 / 2)
    assert np.corrcoef(np.log(outputs.expected_value), np.log(truth))[0, 1] > 0.95
    cents = replace(valued, value=100 * valued.value)
    other, _ = trained(cents, split, base=(0.8, 2.0 + np.log(100.0), 0.9), epochs=12)
    found = predict(other, cents, split.test)
    np.testing.assert_allclose(found.expected_value, 100 * outputs.expected_value, rtol=0.02)
    np.testing.assert_allclose(found.logits, outputs.logits, atol=0.02)


def test_a_killed_run_ends_with_the_same_weights(valued: EncodedTable, split: Split, tmp_path: Path) -> None:
    whole, _ = trained(valued, split)
    with pytest.raises(KeyboardInterrupt):
        trained(valued, split, checkpoint=tmp_path / "checkpoint.pt", stop_at=13)
    resumed, was = trained(valued, split, checkpoint=tmp_path / "checkpoint.pt")
    assert was
    for name, weights in whole.state_dict().items():
        assert torch.equal(weights, resumed.state_dict()[name]), name


def test_other_values_are_another_run(valued: EncodedTable) -> None:
    other = replace(valued, value=valued.value + 1)
    assert len({one.fingerprint() for one in (valued, other, replace(valued, value=None))}) == 3


@pytest.mark.parametrize("balancing", ["fixed", "uncertainty", "gradnorm"])
def test_the_value_is_one_more_task_to_balance(valued: EncodedTable, split: Split, balancing: str) -> None:
    """Also where most batches have no row with a value."""
    rare = np.flatnonzero(valued.labels[:, 1])[10:]
    labels = valued.labels.copy()
    labels[rare, 1] = 0
    data = replace(valued, labels=labels)
    network, _ = trained(data, split, epochs=1, batch_size=64, balancing={"name": balancing})
    assert all(bool(weights.isfinite().all()) for weights in network.state_dict().values())


def test_a_weight_of_0_leaves_the_value_as_it_started(valued: EncodedTable, split: Split) -> None:
    def own(network: CtrModel) -> torch.Tensor:
        return network.heads.value.layer.weight

    balancing = {"name": "fixed", "weights": {"value": 0.0}}
    still, _ = trained(valued, split, epochs=1, balancing=balancing)
    moved, _ = trained(valued, split, epochs=1)
    torch.manual_seed(0)
    assert not torch.equal(own(still), own(moved))
    outputs = predict(still, valued, split.test)
    assert abs(np.corrcoef(np.log(outputs.expected_value), valued.numeric[split.test, 0])[0, 1]) < 0.9
