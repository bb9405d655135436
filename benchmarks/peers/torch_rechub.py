"""torch-rechub 0.9.0 (https://github.com/datawhalechina/torch-rechub): its DataGenerator and CTRTrainer.

Its MLP has a batch norm, and in DIN's tower its own Dice, that no option turns off: both are taken out here,
as sizes are to be equal. Other differences stay: the linear part of its DeepFM and AutoInt reads the
embeddings rather than a weight for each id, AutoInt scales its attention, and DCNv2 adds its bias outside the
product. It has no xDeepFM.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch_rechub.basic.features import SequenceFeature, SparseFeature
from torch_rechub.basic.layers import MLP
from torch_rechub.models.ranking import DIN, AutoInt, DCNv2, DeepFM
from torch_rechub.trainers import CTRTrainer
from torch_rechub.utils.data import DataGenerator

from ctrkit.data.feature_map import PADDING_ID
from peers.tables import Settings, Start, Task


class TorchRechub:
    """One of its models."""

    def __init__(self, model: str, task: Task, settings: Settings, start: Start, scratch: Path) -> None:
        self.model = _build(model, task, settings)
        _plain_towers(self.model)
        start.apply(self.model)
        if model == "din":
            _reorder(self.model, list(task.vocabularies), task.target)
        start.output(self.model)
        adam = {"lr": settings.learning_rate}
        self.trainer = CTRTrainer(self.model, optimizer_params=adam, model_path=str(scratch))
        train, test = task.columns(task.train), task.columns(task.test)
        rows = DataGenerator(train, task.train.labels[:, 0])
        labels = task.test.labels[:, 0]
        self.train_rows, _, self.test_rows = rows.generate_dataloader(
            test, labels, test, labels, batch_size=settings.batch_size
        )

    def train(self) -> None:
        """See `Library`. Not `fit`, which also writes a file."""
        with contextlib.redirect_stderr(io.StringIO()):
            self.trainer.train_one_epoch(self.train_rows)

    def predict(self) -> NDArray[np.float64]:
        """See `Library`."""
        with contextlib.redirect_stderr(io.StringIO()):
            return np.array(self.trainer.predict(self.model, self.test_rows))


def _build(model: str, task: Task, settings: Settings) -> nn.Module:
    fields = {
        name: SparseFeature(name, size, settings.embedding, padding_idx=PADDING_ID)
        for name, size in task.vocabularies.items()
    }
    every = list(fields.values())
    tower = {"dims": list(settings.dnn)}
    if model == "deepfm":
        return DeepFM(every, every, tower)
    if model == "dcnv2":
        return DCNv2(every, settings.cross_layers, tower, use_low_rank_mixture=False)
    if model == "autoint":
        return AutoInt(every, [], settings.attention_layers, settings.heads, mlp_params=tower)
    target = fields.pop(task.target)
    history = SequenceFeature(
        task.sequence,
        target.vocab_size,
        settings.embedding,
        pooling="concat",
        shared_with=target.name,
        padding_idx=PADDING_ID,
    )
    attention = {"dims": list(settings.attention), "activation": "relu"}
    return DIN(list(fields.values()), [history], [target], tower, attention)


@torch.no_grad()
def _reorder(model: DIN, fields: list[str], target: str) -> None:
    """Its tower reads history, target, other fields, where the others read fields, history: move the columns
    of the first matrix, so that it starts as the same function."""
    history, at = len(fields), fields.index(target)
    order = [history, at, *(field for field in range(len(fields)) if field != at)]
    first = model.mlp.mlp[0].weight
    first.copy_(first.unflatten(1, (len(order), -1))[:, order].flatten(1))


def _plain_towers(model: nn.Module) -> None:
    """Linear layers with ReLU between them, as the other libraries build on request."""
    for tower in model.modules():
        if isinstance(tower, MLP):
            linear = [layer for layer in tower.mlp if isinstance(layer, nn.Linear)]
            hidden = sum(isinstance(layer, nn.BatchNorm1d) for layer in tower.mlp)
            layers: list[nn.Module] = []
            for index, layer in enumerate(linear):
                layers += [layer, nn.ReLU()] if index < hidden else [layer]
            tower.mlp = nn.Sequential(*layers)
