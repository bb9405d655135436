"""Validation: it measures weights on the validation rows and keeps the best."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from ctrkit.arrays import Integers
from ctrkit.data.encoded import EncodedTable
from ctrkit.metrics import auc
from ctrkit.models import CtrModel
from ctrkit.training.averaging import AveragedWeights
from ctrkit.training.checkpoints import Position
from ctrkit.training.losses import known, task_losses, value_loss
from ctrkit.training.monitoring import calibrated_losses
from ctrkit.training.prediction import predict
from ctrkit.training.unknown_ids import settle_unknown

# Monitor -> its key among the measurements, and 1 if lower is better or -1 if higher is.
MONITORED = {
    "log_loss": ("validation_loss", 1),
    "calibrated_log_loss": ("calibrated_validation_loss", 1),
    "auc": ("validation_auc", -1),
}


class Validation:
    """Measures the raw weights and the averages, and keeps the better of them if they are the best so far.

    The raw weights can be better while the averages lag behind, mostly in the first epoch. A pass over the
    validation rows takes time. So, where there are averages, the raw weights are measured only at the end of
    an epoch.

    Args:
        model: the model in training.
        averages: averages of its weights; None if only raw weights are measured.
        data: the encoded rows.
        rows: which rows are for validation.
        counts: number of times that each id occurs in the training rows, as `id_counts` gives it.
        monitor: the number that chooses the best weights, a key of `MONITORED`.
    """

    def __init__(
        self,
        model: CtrModel,
        averages: AveragedWeights | None,
        data: EncodedTable,
        rows: Integers,
        counts: Mapping[str, Tensor],
        monitor: str,
    ) -> None:
        self.model, self.averages, self.data, self.rows = model, averages, data, rows
        self.counts = counts
        self.monitor, self.sign = MONITORED[monitor]

    def __call__(self, position: Position, steps: int) -> bool:
        """Validate after a step, or before the first one, and record it in the position of the run.

        Args:
            position: the progress of the run.
            steps: number of steps in an epoch.

        Returns:
            False where a loss is not finite; the position is then unchanged.
        """
        found: dict[str, dict[str, float]] = {}
        best_score, best_weights = position.best_score, position.best_weights
        # The averages come first: they take in the weights before `settle_unknown` changes some of them.
        ways: dict[str, AbstractContextManager[None]] = {}
        if self.averages is not None:
            ways["averaged"] = self.averages.in_place()
        if self.averages is None or position.step == steps:
            ways["raw"] = nullcontext()
        for name, weights_in_place in ways.items():
            with weights_in_place:
                settle_unknown(self.model, self.counts)
                found[name] = self.measure()
                if not math.isfinite(found[name]["validation_loss"]):
                    return False
                if self._score(found[name]) < best_score:
                    best_score = self._score(found[name])
                    weights = self.model.state_dict().items()
                    best_weights = {key: value.detach().clone() for key, value in weights}
        better = min(found, key=lambda name: self._score(found[name]))
        losses = {f"{name}_validation_loss": values["validation_loss"] for name, values in found.items()}
        trained = {"training_loss": position.loss_sum / position.step} if position.step else {}
        position.events.append(
            {
                "epoch": position.epoch + position.step / steps,
                **trained,
                **found[better],
                "weights": better,
                **losses,
            }
        )
        position.waited = 0 if best_score < position.best_score else position.waited + 1
        position.best_score, position.best_weights = best_score, best_weights
        return True

    def measure(self) -> dict[str, float]:
        """The loss of the model's weights as they are, and what else the monitor may need."""
        outputs = predict(self.model, self.data, self.rows, hidden=False)
        logits = torch.from_numpy(outputs.logits)
        of_rows = torch.from_numpy(self.data.weight[self.rows]).double()
        labels, weight = known(torch.from_numpy(self.data.labels[self.rows]).double(), of_rows)
        of_value = torch.zeros(())
        if outputs.value is not None and self.data.value is not None:
            value = torch.from_numpy(self.data.value[self.rows])
            of_value = value_loss(torch.from_numpy(outputs.value), value, labels, weight)
        found = {"validation_loss": float(task_losses(logits, labels, weight).sum() + of_value)}
        clicks = self.data.labels[self.rows, 0]
        if not math.isfinite(found["validation_loss"]):
            return found
        if 0 < clicks.sum() < clicks.size:
            found["validation_auc"] = auc(clicks, outputs.logits[:, 0], of_rows.numpy())
        if self.monitor == "calibrated_validation_loss":
            found[self.monitor] = float(calibrated_losses(logits, labels, weight).sum() + of_value)
        return found

    def _score(self, measured: Mapping[str, float]) -> float:
        return self.sign * measured[self.monitor]
