"""ctrkit's own models, trained by the steps of `ctrkit.training.fit` without validations and checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from ctrkit.models import CtrModel, build_model, model_config
from ctrkit.models.heads.towers import TaskTower
from ctrkit.nn.attention import TargetAttention
from ctrkit.nn.batches import Batch
from ctrkit.nn.cin import CIN
from ctrkit.nn.embedding_tables import StackedTables
from ctrkit.nn.field_attention import InteractingLayer
from ctrkit.training.objectives import LossConfig, Objective
from ctrkit.training.optimizers import OptimizerConfig, build_optimizer, clip_gradients
from ctrkit.training.prediction import predict
from peers.tables import Settings, Start, Task


class Ctrkit:
    """One of ctrkit's models."""

    def __init__(self, model: str, task: Task, settings: Settings, start: Start, scratch: Path) -> None:
        self.task, self.batch_size = task, settings.batch_size
        self.model = build_model(model_config(_config(model, settings)), task.feature_map)
        start.apply(self.model, _in_other_pieces(start, self.model, model, settings))
        start.output(self.model)
        optimizer = OptimizerConfig(name=settings.optimizer, learning_rate=settings.learning_rate)
        self.optimizer = build_optimizer(self.model, optimizer)
        labels = torch.from_numpy(task.train.labels)
        weight = torch.ones(len(labels))
        self.objective = Objective(LossConfig(), ("click",), labels, weight, grouped=False, taught=False)

    def train(self) -> None:
        """See `Library`. Rows are shuffled as the others shuffle them."""
        self.model.train()
        rows = range(len(self.task.train))
        for chosen in DataLoader(rows, self.batch_size, shuffle=True, collate_fn=np.array):
            batch = Batch.of(self.task.train, chosen)
            loss = self.objective(self.model(batch), batch, None, None).sum()
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            clip_gradients(self.model, 10.0)
            self.optimizer.step()
            loss.item()

    def predict(self) -> NDArray[np.float64]:
        """See `Library`."""
        return predict(self.model, self.task.test, batch_size=self.batch_size).logits[:, 0]


def _config(model: str, settings: Settings) -> dict[str, Any]:
    common = {"name": model, "embedding": {"width": settings.embedding, "std": settings.std}}
    own: dict[str, dict[str, Any]] = {
        "autoint": {
            "layers": settings.attention_layers,
            "attention_heads": settings.heads,
            "attention_width": settings.embedding,
        },
        "deepfm": {},
        "dcnv2": {"layers": settings.cross_layers},
        "xdeepfm": {"maps": settings.cin},
        "din": {"history": {"attention": settings.attention}},
    }
    return {**common, "hidden": settings.dnn, **own[model]}


def _in_other_pieces(
    start: Start, model: CtrModel, name: str, settings: Settings
) -> dict[type, Callable[[Any], None]]:
    """How the common start is set of layers that the other libraries cut in other pieces."""

    def tables(module: StackedTables) -> None:
        """All tables in one matrix; there they are one each."""
        weight = module.matrix.weight
        for table, first in zip(module.names, module.starts.tolist(), strict=True):
            rows = start.table(model.feature_map.tables[table], weight.shape[1])
            weight[first + 1 : first + len(rows)] = rows[1:]

    def interacting(module: InteractingLayer) -> None:
        """Query, key and value in one matrix."""
        for weight in (*module.query_key_value.weight.chunk(3), module.residual.weight):
            weight.copy_(start.matrix(*weight.shape))

    def cin(module: CIN) -> None:
        """A bare weight [M, H, F] a layer; there a convolution."""
        for weight in module.weights:
            weight.copy_(start.matrix(len(weight), weight[0].numel()).view_as(weight))

    def tower(module: TaskTower) -> None:
        """One layer that reads everything; there an output layer a part, and ready terms have no weight."""
        whole, tower = module.tower.outputs, settings.dnn[-1]
        parts = {"autoint": (whole - tower, tower), "xdeepfm": (tower, whole - tower)}.get(name, (whole,))
        weights = [start.matrix(1, part)[0] for part in parts]
        module.layer.weight.copy_(torch.cat([*weights, torch.ones_like(module.term_weights[0])]))
        module.layer.bias.zero_()

    def attention(module: TargetAttention) -> None:
        """A matrix each for target t, event h and t * h; there one over [t, h, t - h, t * h]."""
        hidden, width = module.of_target.weight.shape
        of_t, of_h, of_difference, of_product = start.matrix(hidden, 4 * width).chunk(4, dim=1)
        module.of_target.weight.copy_(of_t + of_difference)
        module.of_target.bias.zero_()
        module.of_event.weight.copy_(of_h - of_difference)
        module.of_pair.weight.copy_(of_product)
        start.apply(module.tower)
        start.apply(module.score)

    return {
        StackedTables: tables,
        InteractingLayer: interacting,
        CIN: cin,
        TaskTower: tower,
        TargetAttention: attention,
    }
