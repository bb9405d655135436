from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ctrkit.data.encoded import EncodedTable
from ctrkit.data.split import Split
from ctrkit.models import Output
from ctrkit.nn.batches import Batch
from ctrkit.nn.embedding import EmbeddingConfig, FeatureEmbedding
from ctrkit.nn.embedding_tables import RowMatrix
from ctrkit.training import TrainingConfig, TrainingHistory, fit, predict
from ctrkit.training.averaging import AveragedWeights
from ctrkit.training.losses import task_losses
from ctrkit.training.optimizers import OptimizerConfig, build_optimizer
from tests.training.conftest import FEATURES

ROOT = Path(__file__).parents[2]
Weights = dict[str, Tensor]
ROWS = 40


class Shared(nn.Module):
    """Two embedding matrices, one with two names; a layer used twice, batch normalisation, a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = RowMatrix(ROWS, 3, 0.1), RowMatrix(ROWS, 3, 0.1)
        self.again = self.first
        self.layer = nn.Linear(3, 3)
        self.twice = self.layer
        self.norm = nn.BatchNorm1d(3)
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)

    def forward(self, rows: Tensor) -> Tensor:
        read = self.first(rows) + self.second(rows).square() + self.again(rows.flip(0))
        return torch.as_tensor(self.twice(self.norm(self.layer(read))) @ self.frozen)


def averaged_by_loops(steps: list[Weights], decay: float) -> dict[str, NDArray[np.float64]]:
    """The average of each weight after the last step; `steps[0]` are the initial weights."""
    averages = {name: value.double().numpy().copy() for name, value in steps[0].items()}
    for n, weights in enumerate(steps[1:], start=1):
        d = min(decay, (1 + n) / (10 + n))
        for name, value in weights.items():
            averages[name] = d * averages[name] + (1 - d) * value.double().numpy()
    return averages


def snapshot(model: nn.Module) -> Weights:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["adamw", "rowwise"])
@pytest.mark.parametrize("decay", [0.9, 0.999])
def test_averages_are_those_of_loops_over_all_weights(name: str, decay: float, dtype: torch.dtype) -> None:
    """Rows 30 and above are read only at step 3 and again at step 200, and row 39 never."""
    torch.manual_seed(0)
    model = Shared().to(dtype)
    settings = OptimizerConfig.model_validate({"name": name, "learning_rate": 0.05, "weight_decay": 0.1})
    optimizer = build_optimizer(model, settings)
    averages = AveragedWeights(model, decay)
    steps, draw = [snapshot(model)], torch.Generator().manual_seed(1)
    for step in range(1, 221):
        few = step not in (3, 200)
        rows = torch.randint(0, 30, (8,), generator=draw) if few else torch.arange(25, 39)
        optimizer.zero_grad()
        (model(rows) - rows).square().mean().backward()
        averages.step(optimizer)
        steps.append(snapshot(model))
        if step == 100:  # as validation does: all averages are used, and one row is changed from outside
            with averages.in_place():
                pass
            with torch.no_grad():
                model.second.weight[35] = 1.0
            steps[-1] = {**steps[-1]}
            between = snapshot(model)
    # The change from outside counts from the next step on.
    assert torch.equal(between["second.weight"][35], torch.ones(3, dtype=dtype))
    expected, own = averaged_by_loops(steps, decay), snapshot(model)
    with averages.in_place():
        found = snapshot(model)
    tolerance = 1e-12 if dtype == torch.float64 else 2e-5
    for key, value in found.items():
        if key != "norm.num_batches_tracked":
            np.testing.assert_allclose(value.numpy(), expected[key], rtol=tolerance, atol=tolerance)
    assert np.abs(expected["second.weight"] - own["second.weight"].double().numpy()).max() > 1e-2
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in own.items())  # and put back


def test_a_step_touches_only_the_averages_of_the_rows_of_the_batch() -> None:
    torch.manual_seed(0)
    model = Shared()
    optimizer = build_optimizer(model, OptimizerConfig(name="rowwise", learning_rate=0.05))
    averages = AveragedWeights(model, 0.999)
    assert len(averages.rows) == 2  # a shared matrix counts once
    for rows in ([1, 2], [2, 3], [2, 3]):
        model(torch.tensor(rows)).sum().backward()
        averages.step(optimizer)
        optimizer.zero_grad()
    known = averages.known[0]
    assert known[1] == 0.0 < -known[2] == -known[3] < -averages.log_decay
    assert not known[4:].any()


class Embedded(nn.Module):
    """Embeddings with lazy averages, and two towers."""

    device = torch.device("cpu")
    encodes_history = False

    def __init__(self) -> None:
        super().__init__()
        self.feature_map = FEATURES
        self.embedding = FeatureEmbedding(FEATURES, EmbeddingConfig(width=4))
        self.bottom = nn.Sequential(
            nn.Flatten(), nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1)
        )
        self.heads = nn.Linear(8, 2)

    def forward(self, batch: Batch, history: None = None) -> Output:
        hidden = self.bottom(self.embedding.fields(batch))
        return Output(self.heads(hidden), hidden, {})


class Stop(Exception):
    """Stands for a kill in the middle of a run."""


def train(
    data: EncodedTable, split: Split, folder: Path, *, stop_at: int | None = None, **settings: Any
) -> tuple[Embedded, TrainingHistory, list[Weights]]:
    """A trained model, the course of training, and the raw weights after every step."""
    torch.manual_seed(0)
    model, steps = Embedded(), []

    def on_step(done: int, total: int, what: str) -> None:
        steps.append(snapshot(model))
        if done == stop_at:
            raise Stop

    noisy = {"learning_rate": 0.05, **settings.pop("optimizer", {})}
    config = {
        "epochs": 6,
        "batch_size": 64,
        "checkpoint_steps": 7,
        "patience": 6,
        "validations_per_epoch": 1,
        "optimizer": noisy,
    }
    history = fit(
        model,  # type: ignore[arg-type]
        data,
        split,
        TrainingConfig.model_validate(config | settings),
        seed=1,
        identity={},
        checkpoint=folder / "checkpoint.pt",
        on_step=on_step,
    )
    return model, history, steps


def equal(first: nn.Module, second: nn.Module) -> bool:
    other = second.state_dict()
    return all(torch.equal(value, other[name]) for name, value in first.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adamw", "rowwise"])
def test_a_broken_run_ends_with_the_same_weights_bit_for_bit(
    data: EncodedTable, split: Split, tmp_path: Path, name: str
) -> None:
    settings = {"optimizer": {"name": name}}
    whole, history, _ = train(data, split, tmp_path / "whole", **copy.deepcopy(settings))
    assert min(history.events, key=lambda event: event["validation_loss"])["weights"] == "averaged"
    for stop_at in (3, 33, 75):
        folder = tmp_path / str(stop_at)
        with pytest.raises(Stop):
            train(data, split, folder, stop_at=stop_at, **copy.deepcopy(settings))
        again, resumed, _ = train(data, split, folder, **copy.deepcopy(settings))
        assert resumed.resumed == (stop_at > 7)
        assert equal(whole, again)
        assert history.events == resumed.events


@pytest.mark.slow
def test_averaging_does_not_touch_training_and_can_be_switched_off(
    data: EncodedTable, split: Split, tmp_path: Path
) -> None:
    _, on, steps = train(data, split, tmp_path / "on")
    off, history, plain = train(data, split, tmp_path / "off", averaging=False)
    for one, other in zip(steps, plain, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert [event["weights"] for event in history.events] == ["raw"] * 6
    losses = [event["validation_loss"] for event in history.events]
    best = plain[32 * (1 + losses.index(min(losses))) - 1]
    unknown = best["embedding.kinds.0.matrix.weight"]
    unknown[1] = off.state_dict()["embedding.kinds.0.matrix.weight"][1]  # settled after the step
    assert all(torch.equal(value, best[name]) for name, value in off.state_dict().items())
    assert losses == [event["raw_validation_loss"] for event in on.events]


def test_the_better_weights_are_kept_and_events_tell_which(
    data: EncodedTable, split: Split, tmp_path: Path
) -> None:
    model, history, steps = train(data, split, tmp_path, validations_per_epoch=2, patience=12)
    for event in history.events:
        # The raw weights are measured only at the end of an epoch.
        names = ("raw", "averaged") if event["epoch"] % 1 == 0 else ("averaged",)
        losses = {name: event[f"{name}_validation_loss"] for name in names}
        assert event["weights"] == min(losses, key=lambda name: losses[name])
        assert event["validation_loss"] == min(losses.values())
        assert ("raw_validation_loss" in event) == ("raw" in names)
    assert len(history.events) == 12
    best = min(history.events, key=lambda event: event["validation_loss"])
    logits = torch.from_numpy(predict(model, data, split.valid)[0])  # type: ignore[arg-type]
    labels, weight = (torch.from_numpy(x[split.valid]).double() for x in (data.labels, data.weight))
    assert float(task_losses(logits, labels, weight).sum()) == pytest.approx(best["validation_loss"])
    # They are the averages of the steps, with the unknown id at the weighted mean of averaged vectors.
    assert best["weights"] == "averaged"
    torch.manual_seed(0)
    last = round(best["epoch"] * 32)
    name = "embedding.kinds.0.matrix.weight"
    expected = averaged_by_loops([snapshot(Embedded()), *steps[:last]], 0.999)[name]
    counts = np.bincount(data.categorical[split.train, 0], data.weight[split.train], len(expected))
    expected[1] = counts[2:] @ expected[2:] / counts[2:].sum()
    np.testing.assert_allclose(model.state_dict()[name].numpy(), expected, rtol=1e-4, atol=1e-5)
