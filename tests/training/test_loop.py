from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ctrkit.data.encoded import EncodedTable
from ctrkit.data.sampling import HardNegativesConfig
from ctrkit.data.split import Split
from ctrkit.errors import ArtifactError, ConfigError, DataError, RunError
from ctrkit.training import TrainingConfig, TrainingWarning, fit, predict
from ctrkit.training.losses import task_losses
from ctrkit.training.order import epoch_order

ROOT = Path(__file__).parents[2]
NewModel = Callable[[], nn.Module]
Weights = dict[str, torch.Tensor]


class Stop(Exception):
    """Stands for a kill in the middle of a run."""


SETTINGS = {
    "epochs": 2,
    "batch_size": 256,
    "patience": 2,
    "validations_per_epoch": 1,
    "checkpoint_steps": 3,
    "optimizer": {"learning_rate": 5e-3},
}


class Runs:
    """Trains the same small model on the same rows."""

    def __init__(self, data: EncodedTable, split: Split, new_model: NewModel) -> None:
        self.data, self.split, self.new_model = data, split, new_model

    def __call__(
        self,
        folder: Path,
        *,
        identity: str = "a",
        stop_at: int | None = None,
        data: EncodedTable | None = None,
        teacher_logits: Any = None,
        hard_negatives: HardNegativesConfig | None = None,
        **options: Any,
    ) -> tuple[Weights, bool]:
        """Weights at the end, and whether the run was resumed; `stop_at` breaks off after so many steps."""
        model = self.new_model()
        torch.manual_seed(5)

        def on_step(done: int, total: int, what: str) -> None:
            if done == stop_at:
                raise Stop

        history = fit(
            model,
            self.data if data is None else data,
            self.split,
            TrainingConfig.model_validate(SETTINGS | options),
            seed=1,
            identity={"run": identity},
            checkpoint=folder / "checkpoint.pt",
            teacher_logits=teacher_logits,
            hard_negatives=hard_negatives,
            on_step=on_step,
        )
        return model.state_dict(), history.resumed


@pytest.fixture
def run(data: EncodedTable, split: Split, new_model: NewModel) -> Runs:
    return Runs(data, split, new_model)


def equal(first: Weights, second: Weights) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "uncertainty": {"balancing": {"name": "uncertainty"}},
    "gradnorm": {"balancing": {"name": "gradnorm"}},
    "escm": {"loss": {"conversion": {"name": "dr"}}},
    "ranking": {"loss": {"ranking": {"name": "bpr"}}, "monitor": "auc"},
    "distillation": {"loss": {"distillation": {"teacher": "teacher.pt"}}},
    "hard negatives": {"hard_negatives": HardNegativesConfig(kept=0.8, pool=0.9, refresh=1)},
    "hard negatives of an earlier epoch": {"hard_negatives": HardNegativesConfig(kept=0.8, refresh=2)},
}


@pytest.mark.parametrize("stop_at", [4, 10, 14])
@pytest.mark.parametrize("options", OPTIONS)
def test_a_broken_run_ends_with_the_same_weights_bit_for_bit(
    run: Runs, tmp_path: Path, options: str, stop_at: int
) -> None:
    arguments: dict[str, Any] = {**OPTIONS[options]}
    if options == "distillation":
        arguments["teacher_logits"] = run.data.numeric
    whole, resumed = run(tmp_path / "whole", **arguments)
    assert not resumed
    with pytest.raises(Stop):
        run(tmp_path / "broken", stop_at=stop_at, **arguments)
    torch.manual_seed(99)  # whatever state a new process has
    again, resumed = run(tmp_path / "broken", **arguments)
    assert resumed
    assert equal(whole, again)


@pytest.mark.parametrize("options", [name for name in OPTIONS if name != "plain"])
def test_every_option_changes_what_is_learnt(run: Runs, tmp_path: Path, options: str) -> None:
    teacher = run.data.numeric if options == "distillation" else None
    plain, _ = run(tmp_path / "plain")
    other, _ = run(tmp_path / "other", teacher_logits=teacher, **OPTIONS[options])
    assert not equal(plain, other)


def test_a_checkpoint_of_another_run_is_not_taken_and_not_lost(run: Runs, tmp_path: Path) -> None:
    whole, _ = run(tmp_path / "whole")
    with pytest.raises(Stop):
        run(tmp_path / "broken", identity="b", stop_at=5)
    with pytest.warns(TrainingWarning, match="of another run .run was b and is a.*renamed checkpoint-"):
        again, resumed = run(tmp_path / "broken")
    assert not resumed
    assert equal(whole, again)
    (tmp_path / "broken" / "checkpoint.pt").unlink()  # as a finished training does
    other, resumed = run(tmp_path / "broken", identity="b")
    assert resumed
    assert equal(whole, other)


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": {"learning_rate": 1e-3}},
        {"loss": {"focal_gamma": 1.0}},
        {"batch_size": 128},
        {"monitor": "auc"},
        {"hard_negatives": HardNegativesConfig()},
        {"data": lambda data: replace(data, labels=np.roll(data.labels, 1, axis=0))},
        {"data": lambda data: replace(data, weight=data.weight / 2)},
    ],
    ids=["learning rate", "loss", "batch size", "monitor", "hard negatives", "labels", "weights"],
)
def test_what_decides_the_weights_makes_another_run(run: Runs, tmp_path: Path, change: Any) -> None:
    with pytest.raises(Stop):
        run(tmp_path, stop_at=5)
    if "data" in change:
        change = {"data": change["data"](run.data)}
    with pytest.warns(TrainingWarning, match="of another run"):
        _, resumed = run(tmp_path, **change)
    assert not resumed


def test_how_long_to_train_may_change_while_a_run_waits(run: Runs, tmp_path: Path) -> None:
    whole, _ = run(tmp_path / "whole", epochs=3, patience=3)
    with pytest.raises(Stop):
        run(tmp_path / "broken", stop_at=12, epochs=2, patience=1, checkpoint_steps=2)
    again, resumed = run(tmp_path / "broken", epochs=3, patience=3)
    assert resumed
    assert equal(whole, again)


def test_rows_of_weight_zero_are_as_if_they_were_not_there(run: Runs, split: Split, tmp_path: Path) -> None:
    gone = np.arange(3000) % 2 == 0
    weight = np.where(gone, 0.0, run.data.weight).astype(np.float32)
    left = Split(*(part[~gone[part]] for part in (split.train, split.valid, split.test)), "random")
    weights, _ = run(tmp_path / "a", data=replace(run.data, weight=weight), epochs=1)
    without, _ = Runs(run.data, left, run.new_model)(tmp_path / "b", epochs=1)
    assert equal(weights, without)
    for part in ("training", "validation"):
        none = run.data.weight.copy()
        none[split.train if part == "training" else split.valid] = 0.0
        with pytest.raises(DataError, match=f"all .* {part} rows have the weight 0"):
            run(tmp_path / part, data=replace(run.data, weight=none))


def test_a_loss_that_breaks_after_a_validation_keeps_the_best_weights(run: Runs, tmp_path: Path) -> None:
    whole, _ = run(tmp_path / "whole", epochs=1)
    # The learning rate is fine for one epoch; then the data turn into what no one can learn.
    model = run.new_model()
    torch.manual_seed(5)
    calls = 0

    def spoil(module: nn.Module, given: tuple[Any, ...], output: Any) -> Any:
        nonlocal calls
        calls += module.training
        return replace(output, logits=output.logits * float("nan")) if calls > 8 else output

    model.register_forward_hook(spoil)
    with pytest.warns(
        TrainingWarning, match="stopped early, because the loss is not finite at step 1 of epoch 2"
    ):
        history = fit(
            model,  # type: ignore[arg-type]
            run.data,
            run.split,
            TrainingConfig.model_validate(SETTINGS),
            seed=1,
            identity={},
            checkpoint=tmp_path / "c.pt",
        )
    assert equal(whole, model.state_dict())
    assert "learning_rate" in history.notes[0]
    numbers = [value for event in history.events for value in event.values() if not isinstance(value, str)]
    assert np.isfinite(numbers).all()


def test_a_validation_that_is_not_finite_is_told(run: Runs, split: Split, tmp_path: Path) -> None:
    numeric = run.data.numeric.copy()
    numeric[split.valid[0]] = np.inf
    with pytest.raises(RunError, match="validation loss is not finite in epoch 1, before"):
        run(tmp_path, data=replace(run.data, numeric=numeric))


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from tests.training.test_loop import Runs, SETTINGS
from tests.training import conftest
from ctrkit.training import checkpoints

saves, save = 0, torch.save
def killed(content, path):
    global saves
    saves += 1
    if saves == 3:
        with open(path, "wb") as file:
            file.write(b"half of a checkpoint")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    save(content, path)
checkpoints.torch.save = killed
data, split = (getattr(conftest, name).__wrapped__() for name in ("data", "split"))
Runs(data, split, conftest.SmallModel.seeded)(Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_a_kill_in_the_middle_of_a_write_costs_no_more_than_the_steps_since_the_last(
    run: Runs, tmp_path: Path
) -> None:
    whole, _ = run(tmp_path / "whole")
    command = [sys.executable, "-c", KILLED, str(tmp_path / "killed")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert len(list((tmp_path / "killed").glob(".checkpoint.pt.*.part"))) == 1
    again, resumed = run(tmp_path / "killed")
    assert resumed
    assert equal(whole, again)


def test_a_damaged_checkpoint_is_named(run: Runs, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"half a file")
    with pytest.raises(ArtifactError, match=r"checkpoint\.pt: the checkpoint is damaged"):
        run(tmp_path)


@pytest.mark.parametrize("monitor", ["log_loss", "auc"])
def test_the_best_weights_are_kept_and_training_stops_after_the_wait(
    data: EncodedTable, split: Split, new_model: NewModel, tmp_path: Path, monitor: str
) -> None:
    model = new_model()
    config = TrainingConfig.model_validate(
        {
            "epochs": 40,
            "batch_size": 256,
            "patience": 2,
            "validations_per_epoch": 1,
            "monitor": monitor,
            "optimizer": {"learning_rate": 0.03},
        }
    )
    history = fit(model, data, split, config, seed=1, identity={"run": "a"}, checkpoint=tmp_path / "c.pt")
    sign, name = (1, "validation_loss") if monitor == "log_loss" else (-1, "validation_auc")
    scores = [sign * event[name] for event in history.events]
    assert len(scores) < 40
    assert scores.index(min(scores)) == len(scores) - 3
    logits = predict(model, data, split.valid).logits
    labels, weight = (torch.from_numpy(x[split.valid]).double() for x in (data.labels, data.weight))
    found = task_losses(torch.from_numpy(logits), labels, weight).sum().item()
    assert found == pytest.approx(history.events[-3]["validation_loss"])


def test_a_loss_that_is_not_finite_ends_the_run(run: Runs, tmp_path: Path) -> None:
    broken = replace(run.data, numeric=np.full_like(run.data.numeric, np.nan))
    with pytest.raises(RunError, match="not finite at step 1"):
        run(tmp_path, data=broken)


def test_what_the_data_lack_is_told_before_training(run: Runs, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="all validation rows have the same label"):
        run(tmp_path, monitor="auc", data=replace(run.data, labels=np.zeros_like(run.data.labels)))
    with pytest.raises(ConfigError, match=r"Set features\.group"):
        run(tmp_path, data=replace(run.data, groups=None), **OPTIONS["ranking"])
    with pytest.raises(ConfigError, match="teacher with the same tasks"):
        run(tmp_path, teacher_logits=run.data.numeric[:, :1], **OPTIONS["distillation"])
    assert not (tmp_path / "checkpoint.pt").exists()


def test_an_epoch_has_every_row_once_and_keeps_groups_together(data: EncodedTable, split: Split) -> None:
    plain = epoch_order(split.train, None, np.random.default_rng(0))
    by_group = epoch_order(split.train, data.groups, np.random.default_rng(0))
    for order in (plain, by_group):
        assert sorted(order) == sorted(split.train)
    assert data.groups is not None
    groups = data.groups[by_group]
    changes = np.flatnonzero(np.diff(groups))
    assert len(changes) + 1 == np.unique(groups).size
    assert not np.array_equal(np.unique(groups), groups[np.append(changes, -1)])  # nor in their own order
    again = epoch_order(split.train, data.groups, np.random.default_rng(1))
    assert not np.array_equal(again, by_group)


def test_a_student_follows_its_teacher_where_labels_are_noise(
    run: Runs, data: EncodedTable, split: Split, tmp_path: Path
) -> None:
    """The teacher knows the numbers; the labels are shuffled and know nothing."""
    noise = replace(data, labels=np.random.default_rng(0).permutation(data.labels))
    weights, _ = run(
        tmp_path,
        data=noise,
        teacher_logits=2.0 * data.numeric,
        epochs=8,
        patience=8,
        batch_size=64,
        monitor="auc",
        loss={"distillation": {"teacher": "t.pt", "weight": 1.0}},
    )
    model = run.new_model()
    model.load_state_dict(weights)
    logits = predict(model, data, split.test).logits
    for task in range(2):
        assert np.corrcoef(logits[:, task], data.numeric[split.test, task])[0, 1] > 0.8


def test_predictions_do_not_depend_on_the_batch_size(
    data: EncodedTable, split: Split, new_model: NewModel
) -> None:
    model = new_model()
    whole, hidden, _ = predict(model, data, split.test)
    parts, hidden_parts, _ = predict(model, data, split.test, batch_size=7)
    np.testing.assert_allclose(whole, parts, atol=1e-5)
    np.testing.assert_allclose(hidden, hidden_parts, atol=1e-5)
    assert whole.shape == (split.test.size, 2)
