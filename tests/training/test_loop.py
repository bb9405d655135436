from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ctrkit.api.train import load_train_config, read_training_table
from ctrkit.data.encoder import EncodedTable, Encoder
from ctrkit.data.split import Split, split_rows
from ctrkit.errors import ArtifactError, RunError
from ctrkit.models import build_model
from ctrkit.models.base import CtrModel
from ctrkit.training import TrainingConfig, fit, predict


class Stop(Exception):
    """Stands for a kill in the middle of a run."""


@pytest.fixture(scope="module")
def prepared(logs: Path, small: tuple[str, ...]) -> tuple[EncodedTable, Split, CtrModel]:
    config = load_train_config(None, small)
    table, file = read_training_table(config, logs / "impressions.parquet")
    split = split_rows(config.features, config.split, table, 0, file)
    encoder = Encoder.fit(config.features, table[split.train], file)
    torch.manual_seed(0)
    return encoder.encode(table, file), split, build_model(config.model, encoder.feature_map())


CONFIG = TrainingConfig(epochs=2, batch_size=256, checkpoint_steps=3, learning_rate=5e-3)


def run(
    prepared: tuple[EncodedTable, Split, CtrModel],
    folder: Path,
    *,
    config: TrainingConfig = CONFIG,
    identity: str = "a",
    stop_at: int | None = None,
) -> tuple[dict[str, torch.Tensor], bool]:
    """Train from the same start; `stop_at` breaks off after so many steps."""
    data, split, model = prepared
    start = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5)

    def on_step(done: int, total: int, what: str) -> None:
        if done == stop_at:
            raise Stop

    checkpoint = folder / "checkpoint.pt"
    try:
        history = fit(
            model, data, split, config, seed=1, identity=identity, checkpoint=checkpoint, on_step=on_step
        )
        return {name: value.clone() for name, value in model.state_dict().items()}, history.resumed
    finally:
        model.load_state_dict(start)


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("stop_at", [5, 14, 20])
def test_a_broken_run_ends_with_the_same_weights_bit_for_bit(
    prepared: tuple[EncodedTable, Split, CtrModel], tmp_path: Path, stop_at: int
) -> None:
    whole, resumed = run(prepared, tmp_path / "whole")
    assert not resumed
    with pytest.raises(Stop):
        run(prepared, tmp_path / "broken", stop_at=stop_at)
    torch.manual_seed(99)  # whatever state a new process has
    again, resumed = run(prepared, tmp_path / "broken")
    assert resumed
    assert equal(whole, again)


def test_a_checkpoint_of_another_run_is_not_taken(
    prepared: tuple[EncodedTable, Split, CtrModel], tmp_path: Path
) -> None:
    whole, _ = run(prepared, tmp_path / "whole")
    with pytest.raises(Stop):
        run(prepared, tmp_path / "broken", identity="b", stop_at=5)
    again, resumed = run(prepared, tmp_path / "broken")
    assert not resumed
    assert equal(whole, again)


def test_a_damaged_checkpoint_is_named(
    prepared: tuple[EncodedTable, Split, CtrModel], tmp_path: Path
) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"half a file")
    with pytest.raises(ArtifactError, match=r"checkpoint\.pt: the checkpoint is damaged"):
        run(prepared, tmp_path)


def test_the_best_weights_are_kept_and_training_stops_after_the_wait(
    prepared: tuple[EncodedTable, Split, CtrModel], tmp_path: Path
) -> None:
    data, split, model = prepared
    start = {name: value.clone() for name, value in model.state_dict().items()}
    config = CONFIG.model_copy(update={"epochs": 30, "learning_rate": 0.05, "patience": 2})
    torch.manual_seed(5)
    history = fit(model, data, split, config, seed=1, identity="a", checkpoint=tmp_path / "c.pt")
    losses = [event["validation_loss"] for event in history.events]
    assert len(losses) < 30
    assert losses.index(min(losses)) == len(losses) - 3
    assert history.best_loss == min(losses)
    logits, _ = predict(model, data, split.valid)
    from ctrkit.training.losses import task_losses

    labels, weight = (torch.from_numpy(x[split.valid]).double() for x in (data.labels, data.weight))
    assert task_losses(torch.from_numpy(logits), labels, weight).sum().item() == pytest.approx(min(losses))
    model.load_state_dict(start)


def test_a_loss_that_is_not_finite_ends_the_run(
    prepared: tuple[EncodedTable, Split, CtrModel], tmp_path: Path
) -> None:
    data, split, model = prepared
    broken = replace(data, numeric=np.full_like(data.numeric, np.nan))
    with pytest.raises(RunError, match="not finite at step 1"):
        run((broken, split, model), tmp_path)


def test_predictions_do_not_depend_on_the_batch_size(
    prepared: tuple[EncodedTable, Split, CtrModel],
) -> None:
    data, split, model = prepared
    whole, hidden = predict(model, data, split.test)
    parts, hidden_parts = predict(model, data, split.test, batch_size=7)
    np.testing.assert_allclose(whole, parts, atol=1e-5)
    np.testing.assert_allclose(hidden, hidden_parts, atol=1e-5)
    assert whole.shape == (split.test.size, 2)
